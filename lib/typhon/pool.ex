defmodule Typhon.Pool do
  @moduledoc false
  # The supervisor of a pool's workers. A worker replaces its Python by itself; the supervisor is for the case that the Elixir
  # side of a worker ends.

  use Supervisor

  alias Typhon.{Call, Interpreter, Native, Registry, StartError, Worker}

  @spec start_link(Typhon.Options.start()) ::
          {:ok, pid} | {:error, StartError.t() | {:already_started, pid}}
  def start_link(config) do
    with :ok <- application(),
         :ok <- native(),
         :ok <- directory(config.cd),
         {:ok, python} <- Interpreter.find(config.python, config.cd) do
      native = Native.pool_new(config.workers, Map.take(config, [:max_queue, :concurrency]))
      stdio = if config.stdio == :group_leader, do: Process.group_leader(), else: config.stdio
      config = %{config | python: python, stdio: stdio}

      options = if config.name, do: [name: config.name], else: []

      with {:ok, pool} <- Supervisor.start_link(__MODULE__, {config, native}, options) do
        case await_all(workers(pool)) do
          :ok ->
            Registry.register(pool, config.name, native, Call.flags(config))
            {:ok, pool}

          {:error, error} ->
            abandon(pool)
            {:error, error}
        end
      end
    end
  end

  @impl true
  def init({config, native}) do
    config = Map.put(config, :pool, self())

    children = for index <- 0..(config.workers - 1), do: {Worker, {config, native, index}}
    Supervisor.init(children, strategy: :one_for_one)
  end

  @doc "New calls are refused, those in flight get a WorkerError, and the operating system processes are gone on return."
  @spec stop(pid, timeout) :: :ok
  def stop(pool, timeout) do
    Registry.unregister(pool)
    Enum.each(workers(pool), &Worker.leave/1)
    Supervisor.stop(pool, :normal, timeout)
  catch
    # It was stopped by someone else in the meantime.
    :exit, {reason, {GenServer, _, _}} when reason in [:noproc, :normal, :shutdown] -> :ok
    :exit, {:noproc, _} -> :ok
  end

  @spec info(pid) :: {:ok, map} | {:error, Typhon.PoolError.t()}
  def info(pool) do
    {:ok, %{pid: pool, isolation: :process, workers: Enum.map(workers(pool), &Worker.info/1)}}
  catch
    :exit, _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
  end

  @spec workers(pid) :: [pid]
  def workers(pool) do
    pool
    |> Supervisor.which_children()
    |> Enum.sort()
    |> Enum.flat_map(fn
      {_, pid, _, _} when is_pid(pid) -> [pid]
      _ -> []
    end)
  end

  @doc """
  Waits until one worker takes calls. Returns the error of the last attempt at once when every worker waits for another try.
  """
  @spec await_any(pid, timeout) :: :ok | :timeout | {:error, Exception.t()}
  def await_any(pool, timeout) do
    deadline = if timeout == :infinity, do: :infinity, else: now() + timeout

    case ask(workers(pool)) do
      {:ok, requests} -> any(requests, deadline, gone())
      {:error, _} = error -> error
    end
  catch
    # The pool has ended in the meantime.
    :exit, _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
  end

  @doc """
  As `await_any/2`, for the worker of one place: until it is there and nobody has it for himself. `:moved` when the pool has
  no such place any more.
  """
  @spec await_worker(pid, non_neg_integer, timeout) :: :ok | :timeout | :moved | {:error, Exception.t()}
  def await_worker(pool, index, timeout) do
    deadline = if timeout == :infinity, do: :infinity, else: now() + timeout

    with {:ok, worker} <- find_worker(pool, index),
         {:ok, requests} <- ask([worker]) do
      case any(requests, deadline, :restarted) do
        # Its Elixir process has ended: the supervisor starts another one.
        :restarted ->
          if remaining(deadline) == 0, do: :timeout, else: await_worker(pool, index, remaining(deadline))

        # Its worker ends for good: the whole pool, or this place alone.
        {:error, %Typhon.PoolError{}} = error ->
          with {:ok, _} <- find_worker(pool, index), do: error

        other ->
          other
      end
    end
  catch
    :exit, _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
  end

  @doc "The process of the worker in one place. The supervisor answers, so one that is being restarted is there again."
  @spec find_worker(pid, non_neg_integer) :: {:ok, pid} | :moved
  def find_worker(pool, index) do
    case List.keyfind(Supervisor.which_children(pool), {Worker, index}, 0) do
      {_, pid, _, _} when is_pid(pid) -> {:ok, pid}
      _ -> :moved
    end
  end

  @doc """
  One worker for the calling process alone: the least loaded one, else the first that anybody gives back. It goes by
  `checkin/2` with the reference, or with the calling process.
  """
  @spec checkout(pid, Native.pool(), timeout) ::
          {:ok, pid, reference, map} | :timeout | {:error, Exception.t()}
  def checkout(pool, native, timeout) do
    deadline = if timeout == :infinity, do: :infinity, else: now() + timeout
    ref = make_ref()

    with {index, _where} <- Native.pool_pick(native),
         {:ok, worker} <- find_worker(pool, index),
         {:ok, grant} <- checkout_now(worker, ref, deadline) do
      {:ok, worker, ref, grant}
    else
      :timeout -> :timeout
      _ -> checkout_any(workers(pool), ref, deadline)
    end
  catch
    :exit, _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
  end

  defp checkout_now(worker, ref, deadline) do
    requests = :gen_statem.send_request(worker, {:checkout, ref, :now}, worker, :gen_statem.reqids_new())

    case :gen_statem.receive_response(requests, remaining(deadline), true) do
      {{:reply, reply}, _, _} ->
        reply

      :timeout ->
        Worker.cancel_checkout(worker, ref)
        :timeout

      {{:error, _}, _, _} ->
        :busy
    end
  end

  defp checkout_any(workers, ref, deadline) do
    requests =
      Enum.reduce(workers, :gen_statem.reqids_new(), fn worker, requests ->
        :gen_statem.send_request(worker, {:checkout, ref, :wait}, worker, requests)
      end)

    result = granted(requests, deadline, ref, gone())
    taken = with {:ok, worker, _, _} <- result, do: worker
    for worker <- workers, worker != taken, do: Worker.cancel_checkout(worker, ref)
    result
  end

  defp granted(requests, deadline, ref, error) do
    case :gen_statem.receive_response(requests, remaining(deadline), true) do
      {{:reply, {:ok, grant}}, worker, rest} ->
        forget(rest)
        {:ok, worker, ref, grant}

      {{:reply, {:error, error}}, _worker, rest} ->
        granted(rest, deadline, ref, {:error, error})

      {{:error, _}, _worker, rest} ->
        granted(rest, deadline, ref, error)

      :timeout ->
        :timeout

      :no_request ->
        error
    end
  end

  @doc "On return the worker takes calls of everybody again, or has gone to the next session."
  @spec checkin(pid, reference) :: :ok
  def checkin(worker, ref) do
    Worker.checkin(worker, ref)
  catch
    # It has ended, and its reservation with it.
    :exit, _ -> :ok
  end

  defp any(requests, deadline, error) do
    case :gen_statem.receive_response(requests, remaining(deadline), true) do
      {{:reply, :ok}, _label, rest} ->
        forget(rest)
        :ok

      {{:reply, {:error, error}}, _label, rest} ->
        any(rest, deadline, {:error, error})

      {{:error, _}, _label, rest} ->
        any(rest, deadline, error)

      :timeout ->
        :timeout

      :no_request ->
        error
    end
  end

  defp await_all(workers) do
    with {:ok, requests} <- ask(workers), do: all(requests)
  end

  defp all(requests) do
    case :gen_statem.receive_response(requests, :infinity, true) do
      {{:reply, :ok}, _label, rest} ->
        all(rest)

      {{:reply, {:error, _} = error}, _label, rest} ->
        forget(rest)
        error

      {{:error, {reason, _}}, _label, rest} ->
        forget(rest)

        {:error,
         %StartError{
           reason: :exit,
           message: "the Elixir process of a worker ended while it started: #{Exception.format_exit(reason)}"
         }}

      :no_request ->
        :ok
    end
  end

  # The answers come by aliases: whatever is not waited for any more cannot reach the mailbox.
  defp ask([]), do: gone()

  defp ask(workers) do
    {:ok,
     Enum.reduce(workers, :gen_statem.reqids_new(), fn worker, requests ->
       :gen_statem.send_request(worker, :await, worker, requests)
     end)}
  end

  defp gone, do: {:error, %Typhon.WorkerError{reason: :gone}}

  defp forget(requests) do
    case :gen_statem.receive_response(requests, 0, true) do
      {_, _, rest} -> forget(rest)
      _ -> :ok
    end
  end

  # A failed start is a value, not a signal: the caller is unlinked before its pool goes.
  defp abandon(pool) do
    Process.unlink(pool)

    receive do
      {:EXIT, ^pool, _} -> :ok
    after
      0 -> :ok
    end

    stop(pool, :infinity)
  end

  defp now, do: System.monotonic_time(:millisecond)

  defp remaining(:infinity), do: :infinity
  defp remaining(deadline), do: max(deadline - now(), 0)

  defp application do
    if Registry.running?(),
      do: :ok,
      else:
        {:error,
         %StartError{
           reason: :not_running,
           message:
             "the application :typhon is not running. Start it with Application.ensure_all_started(:typhon)"
         }}
  end

  defp native do
    Code.ensure_loaded(Native)

    case Native.load_error() do
      nil ->
        :ok

      text ->
        {:error,
         %StartError{
           reason: :nif_not_loaded,
           message:
             "Typhon's native library could not be loaded: #{text}. " <>
               "It is built by mix compile; `mix compile --force` builds it again"
         }}
    end
  end

  defp directory(cd) do
    if File.dir?(cd),
      do: :ok,
      else: {:error, %StartError{reason: :bad_cd, message: "cd: the directory #{cd} does not exist"}}
  end
end
