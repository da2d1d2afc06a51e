defmodule Typhon.Hostile do
  @moduledoc false
  # Workers that attack the BEAM through the memory that they share with it: what the tests and the fuzzer have in common.
  # The attacks are test/support/py/hostile.py and hostile.c beside this file.

  # A call has this long beyond its deadline; a busy machine may take a part of it.
  @grace 20_000
  @info_after 2_000

  def grace, do: @grace

  @doc "The threads of C, compiled when they are first used."
  @spec library :: String.t()
  def library, do: Typhon.TestHelper.c_library(Path.join(__DIR__, "hostile.c"), ["-pthread"])

  @doc "Options of a pool of which each worker may be hostile."
  @spec pool_options(String.t(), keyword) :: keyword
  def pool_options(marker, options \\ []) do
    Keyword.merge(
      [
        workers: 1,
        python_path: [Typhon.TestHelper.py_dir()],
        env: Typhon.Footprint.env(marker),
        stdio: :discard,
        grace: 100,
        import_timeout: 500,
        start_timeout: Typhon.TestHelper.limit(),
        max_restarts: :infinity
      ],
      options
    )
  end

  @doc """
  Runs each function in a process of its own, and waits until all have ended: `{:ended, value}`, `{:crashed, reason}`, or, for one
  that is still there after so many milliseconds, `{:hung, where it is}`; that one is killed.
  """
  @spec outcomes([(() -> term)], non_neg_integer) :: [tuple]
  def outcomes(functions, limit) do
    until = System.monotonic_time(:millisecond) + limit
    parent = self()

    processes =
      for function <- functions do
        ref = make_ref()
        {pid, monitor} = spawn_monitor(fn -> send(parent, {ref, function.()}) end)
        {pid, monitor, ref}
      end

    for process <- processes, do: outcome(process, until)
  end

  defp outcome({pid, monitor, ref}, until) do
    receive do
      {:DOWN, ^monitor, :process, _, :normal} ->
        receive do: ({^ref, value} -> {:ended, value})

      {:DOWN, ^monitor, :process, _, reason} ->
        {:crashed, Exception.format_exit(reason)}
    after
      max(until - System.monotonic_time(:millisecond), 0) ->
        where = where_is(pid)
        Process.exit(pid, :kill)
        Process.demonitor(monitor, [:flush])
        {:hung, where}
    end
  end

  @doc "Where a process is. One in the midst of a function in C says nothing."
  @spec where_is(pid) :: String.t()
  def where_is(pid) do
    task = Task.async(fn -> Process.info(pid, [:current_stacktrace, :messages]) end)

    case Task.yield(task, @info_after) || Task.shutdown(task, :brutal_kill) do
      {:ok, [current_stacktrace: stack, messages: messages]} ->
        Exception.format_stacktrace(stack) <> "\nits messages: #{inspect(messages, limit: 20)}"

      {:ok, nil} ->
        "it has just ended"

      _ ->
        "it is in a function of the native library"
    end
  end

  @doc """
  One call of a kind. What it gives is fine when the caller could go on: an answer, whatever it says, or an error of ours, and
  nothing left in the mailbox.
  """
  @spec call(atom, pid, timeout) :: :ok | {:wrong, String.t()}
  def call(kind, py, timeout) do
    result =
      try do
        run(kind, py, timeout)
      rescue
        error -> {:raised, error, __STACKTRACE__}
      catch
        what, reason -> {:raised, ErlangError.normalize({what, reason}, []), __STACKTRACE__}
      end

    with :ok <- judge(kind, result), do: mailbox(kind)
  end

  @kinds [:echo, :echo, :echo, :large, :sent, :callback, :cast, :stream, :killed, :message]
  @more [:session, :multi, :map, :nested, :iterator, :object]

  @doc "The kinds of calls, the usual ones more than once."
  def kinds, do: @kinds
  def more_kinds, do: @kinds ++ @kinds ++ @more

  @doc "What one call of a kind may take at most, of which some are several calls."
  def longest(timeout), do: 12 * timeout + @grace

  defp run(:echo, py, timeout), do: Typhon.call(py, :sample, :echo, [{1, "two"}], timeout: timeout)
  defp run(:large, py, timeout), do: Typhon.call(py, :sample, :blob, [300_000], timeout: timeout)

  defp run(:sent, py, timeout),
    do: Typhon.call(py, :sample, :size_of, [String.duplicate("x", 200_000)], timeout: timeout)

  defp run(:callback, py, timeout),
    do: Typhon.call(py, :hostile, :apply_to, [&(&1 + 1), 1], timeout: timeout)

  defp run(:cast, py, timeout), do: Typhon.cast(py, :sample, :echo, [1], timeout: timeout)

  defp run(:stream, py, timeout),
    do: {:ok, py |> Typhon.stream(:talk, :numbers, [200], timeout: timeout) |> Enum.count()}

  defp run(:message, py, timeout), do: Typhon.call(py, :hostile, :tell, [self()], timeout: timeout)

  defp run(:session, py, timeout) do
    fun = fn session -> Typhon.call(session, :sample, :echo, [1], timeout: timeout) end
    Typhon.run(py, fun, timeout: timeout)
  end

  defp run(:multi, py, timeout) do
    calls = for i <- 1..20, do: {:sample, :echo, [i]}
    {:ok, py |> Typhon.multi(calls, timeout: timeout) |> length()}
  end

  defp run(:map, py, timeout) do
    options = [batch: 5, max_concurrency: 2, timeout: timeout, args: [3]]
    {:ok, py |> Typhon.map(:operator, :mul, 1..20, options) |> Enum.count()}
  end

  defp run(:nested, py, timeout) do
    inner = fn n -> Typhon.call!(py, :sample, :echo, [n], timeout: timeout) end
    Typhon.call(py, :hostile, :apply_to, [inner, 1], timeout: timeout)
  end

  defp run(:iterator, py, timeout),
    do: Typhon.call(py, :talk, :total, [Typhon.iter(1..500)], timeout: timeout)

  defp run(:object, py, timeout) do
    with {:ok, counter} <- Typhon.call(py, :sample, :Counter, [1], timeout: timeout),
         do: Typhon.call(py, counter, :add, [1], timeout: timeout)
  end

  defp run(:killed, py, timeout) do
    pid = spawn(fn -> Typhon.call(py, :sample, :echo, [1], timeout: timeout) end)
    if :rand.uniform(2) == 1, do: :erlang.yield(), else: Process.sleep(1)
    Process.exit(pid, :kill)
    :ok
  end

  defp judge(_kind, ok) when ok == :ok or elem(ok, 0) == :ok, do: :ok
  # A stream raises.
  defp judge(kind, {:raised, %module{} = error, stack}) do
    if ours?(module), do: :ok, else: {:wrong, "#{kind}: " <> Exception.format(:error, error, stack)}
  end

  defp judge(kind, {:error, %module{} = error}) do
    if ours?(module) and is_binary(Exception.message(error)),
      do: :ok,
      else: {:wrong, "#{kind}: #{inspect(error)}"}
  end

  defp judge(kind, other), do: {:wrong, "#{kind}: #{inspect(other, limit: 20)}"}

  defp ours?(module), do: match?(["Typhon" | _], Module.split(module))

  # A message that Python sent may be there; nothing that belongs to a call may.
  defp mailbox(kind) do
    receive do
      :told -> mailbox(kind)
    after
      0 ->
        case Process.info(self(), :messages) do
          {:messages, []} ->
            :ok

          {:messages, left} ->
            for message <- left, do: receive(do: (^message -> :ok))
            {:wrong, "#{kind} left in the mailbox: #{inspect(left, limit: 20)}"}
        end
    end
  end
end
