defmodule Typhon.Soak.Faults do
  @moduledoc false
  # What goes wrong in a soak, one thing after another, until it is told to stop.

  alias Typhon.{Native, TimeoutError, WorkerError}
  alias Typhon.Soak.Book
  alias Typhon.Worker.Proc

  @faults [
    kill: 6,
    kill_all: 1,
    segfault: 3,
    exit: 3,
    stop_in_call: 2,
    stop_idle: 1,
    overflow: 2,
    hold_gil: 3,
    eat: 2,
    children: 2,
    die_in_transfer: 3,
    callers_die: 3,
    owner_dies: 1,
    restart: 2,
    reload: 1,
    short_pool: 2
  ]
  @weighted Enum.flat_map(@faults, fn {name, weight} -> List.duplicate(name, weight) end)

  @doc "Runs until the process gets :stop."
  @spec run([pid], keyword) :: :ok
  def run(pools, options) do
    name = Enum.random(@weighted)
    py = Enum.random(pools)
    Book.count(:faults, name)
    Book.enter({:fault, name})

    try do
      fault(name, py, options)
    rescue
      error -> Book.wrong("fault #{name}: " <> Exception.format(:error, error, __STACKTRACE__))
    end

    Book.enter(nil)

    receive do
      :stop -> :ok
    after
      :rand.uniform(options[:pause]) -> run(pools, options)
    end
  end

  defp fault(:kill, py, _), do: with(os_pid when os_pid != nil <- victim(py), do: Native.kill_pid(os_pid, 9))

  defp fault(:kill_all, py, _) do
    {:ok, %{workers: workers}} = Typhon.info(py)
    for %{state: :ready, os_pid: os_pid} <- workers, do: Native.kill_pid(os_pid, 9)
  end

  defp fault(:segfault, py, _), do: ends(py, :segfault, [])
  defp fault(:exit, py, _), do: ends(py, :leave, [3])
  defp fault(:overflow, py, _), do: ends(py, Enum.random([:overflow, :overflow_in_c]), [])
  defp fault(:children, py, _), do: ends(py, :children_and_die, [600])

  defp fault(:stop_in_call, py, _), do: late(py, :stop, [])
  defp fault(:hold_gil, py, _), do: late(py, :hold_gil, [])

  # It is noticed when a call that it does not take ends by its deadline: keys find every worker.
  defp fault(:stop_idle, py, _) do
    with os_pid when os_pid != nil <- victim(py) do
      Native.kill_pid(os_pid, 19)

      1..16
      |> Enum.map(&Task.async(Typhon, :call, [py, :sample, :echo, [&1], [timeout: 300, worker: &1]]))
      |> Task.await_many(60_000)

      # Unless all that it has are calls with more time, those of a session perhaps.
      Process.sleep(3_000)

      if Proc.stopped?(os_pid) do
        Book.count(:faults, :stopped_and_not_noticed)
        Native.kill_pid(os_pid, 9)
      end
    end
  end

  # Where there is no limit it would take all memory of the machine.
  defp fault(:eat, _py, options) do
    case Typhon.call(options[:limited], :faults, :eat, [20_000_000], timeout: 120_000) do
      {:error, %Typhon.PythonError{type: "MemoryError"}} -> :ok
      {:error, %WorkerError{}} -> :ok
      other -> Book.wrong("eat: #{inspect(other)}")
    end
  end

  defp fault(:die_in_transfer, py, _) do
    size = 16_000_000 * :rand.uniform(4)

    case Typhon.call(py, :faults, :die_soon, [:rand.uniform(60) / 1_000, "blob", size, 5], timeout: 120_000) do
      {:ok, blob} ->
        if blob != :binary.copy(<<5>>, size), do: Book.wrong("a transfer that is not what it should be")

      {:error, error} ->
        acceptable(error)
    end
  end

  defp fault(:callers_die, py, _) do
    pids =
      for i <- 1..200 do
        spawn(fn ->
          case rem(i, 4) do
            0 -> Typhon.call(py, :sample, :sleep, [0.01], timeout: :infinity)
            1 -> Typhon.call(py, :talk, :sleep, [60], timeout: :infinity)
            2 -> py |> Typhon.stream(:talk, :numbers, [10_000_000], timeout: :infinity) |> quietly()
            3 -> Typhon.call(py, :sample, :Counter, [i], timeout: :infinity)
          end
        end)
      end

    Process.sleep(:rand.uniform(30))
    for pid <- pids, do: Process.exit(pid, :kill)
  end

  # The Elixir side of a worker. Its supervisor starts it again, but not without end.
  defp fault(:owner_dies, py, _) do
    {:ok, %{workers: workers}} = Typhon.info(py)
    %{pid: pid} = Enum.random(workers)
    Process.exit(pid, :kill)
    Process.sleep(3_000)
  end

  # While others kill, it may not succeed.
  defp fault(:restart, py, _), do: Typhon.restart(py, timeout: 20_000)
  defp fault(:reload, py, _), do: Typhon.reload(py, :shapes, timeout: 20_000)

  defp fault(:short_pool, _py, options) do
    {:ok, py} = Typhon.start_link([workers: 1] ++ options[:pool])
    tasks = for i <- 1..5, do: Task.async(Typhon, :call, [py, :sample, :echo, [i]])
    if :rand.uniform(2) == 1, do: Task.await_many(tasks, 60_000), else: Enum.each(tasks, &Typhon.cancel/1)
    Typhon.stop(py)
  end

  defp quietly(stream) do
    Enum.each(stream, & &1)
  rescue
    _ -> :ok
  end

  defp ends(py, function, args) do
    case Typhon.call(py, :faults, function, args, timeout: 120_000) do
      {:error, error} -> acceptable(error)
      other -> Book.wrong("#{function}: #{inspect(other)}")
    end
  end

  defp late(py, function, args) do
    case Typhon.call(py, :faults, function, args, timeout: 200) do
      {:error, %TimeoutError{}} -> :ok
      {:error, error} -> acceptable(error)
      other -> Book.wrong("#{function}: #{inspect(other)}")
    end
  end

  # Another fault may have come first; and where memory is limited, a thread's stack may be too much.
  defp acceptable(%kind{}) when kind in [WorkerError, Typhon.OverloadError, Typhon.StartError], do: :ok
  defp acceptable(%Typhon.PythonError{type: "MemoryError"}), do: :ok
  defp acceptable(%Typhon.PythonError{message: "can't start new thread"}), do: :ok
  defp acceptable(error), do: Book.wrong("a fault ended with #{inspect(error)}")

  defp victim(py) do
    {:ok, %{workers: workers}} = Typhon.info(py)

    case for(%{state: :ready, os_pid: os_pid} <- workers, do: os_pid) do
      [] -> nil
      os_pids -> Enum.random(os_pids)
    end
  end
end
