defmodule Typhon.Pool do
  @moduledoc false
  # The supervisor of a pool's workers, and of what looks after them. A worker starts its Python again by itself; the
  # supervisor is for the case that the Elixir side of a worker ends.

  use Supervisor

  alias Typhon.{Call, Deadline, Language, Native, Registry, StartError, Worker}
  alias Typhon.Pool.{Board, Keeper, Watcher}
  alias Typhon.Worker.Host

  @spec start_link(Typhon.Options.start()) ::
          {:ok, pid} | {:error, StartError.t() | {:already_started, pid}}
  def start_link(options) do
    config = options |> Language.named() |> Map.put(:host, Host.of(options.isolation))

    with :ok <- application(),
         :ok <- native(),
         :ok <- directory(config.cd),
         :ok <- paths(config),
         {:ok, program} <- Language.find(config),
         {:ok, config} <- config.host.prepare(%{config | program: program}) do
      native = Native.pool_new(config.workers, Map.take(config, [:max_queue, :concurrency]))
      stdio = if config.stdio == :group_leader, do: Process.group_leader(), else: config.stdio
      config = %{config | stdio: stdio}
      name = if config.name, do: [name: config.name], else: []

      with {:ok, pool} <- Supervisor.start_link(__MODULE__, {config, native}, name) do
        case await_all(workers(pool)) do
          :ok ->
            Registry.put_options(pool, %{
              stdio: config.stdio,
              allow: config.allow,
              keys: config.keys,
              values: config.values,
              max_mailbox: config.max_mailbox,
              isolation: config.isolation,
              language: config.language,
              board: of_keeper(pool, &Keeper.board/1),
              metadata: [typhon_pool: config.name || pool]
            })

            Registry.register(pool, config.name, native, Call.flags(config))
            of_keeper(pool, &Keeper.activate/1)
            {:ok, pool}

          {:error, error} ->
            abandon(pool)
            {:error, error}
        end
      end
    end
  end

  # Answered, not only told: a keeper that was killed before it heard of it would leave one that never acts.
  defp of_keeper(pool, ask) do
    with {:ok, keeper} <- keeper(pool), do: ask.(keeper)
  catch
    :exit, _ -> if Process.alive?(pool), do: of_keeper(pool, ask)
  end

  @impl true
  def init({config, native}) do
    board = Board.new()
    config = Map.merge(config, %{pool: self(), board: board})

    workers =
      for index <- 0..(config.min_workers - 1) do
        serial = Board.next_serial(board)
        Board.take_place(board, index, serial)
        {Worker, {config, native, %{index: index, serial: serial, role: :holder}}}
      end

    watcher = if config.reload, do: [{Watcher, config}], else: []
    for index <- config.min_workers..(config.workers - 1)//1, do: Native.pool_active(native, index, false)
    # The keeper first: it is the last to go, and hears of every worker.
    Supervisor.init([{Keeper, {config, native}}] ++ workers ++ watcher, strategy: :one_for_one)
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
    :exit, {{:shutdown, _}, _} -> :ok
    :exit, {:noproc, _} -> :ok
  end

  @spec info(pid) :: {:ok, map} | {:error, Typhon.PoolError.t()}
  def info(pool) do
    # One that ends at this moment is none.
    workers = pool |> workers() |> Enum.flat_map(&worker_info/1)

    info = %{
      pid: pool,
      isolation: Registry.options(pool)[:isolation] || :process,
      workers: workers,
      results: Typhon.Native.results()
    }

    case keeper(pool) do
      {:ok, keeper} ->
        figures = Keeper.figures(keeper)

        {:ok,
         figures
         |> Map.take([:size, :min, :max, :uptime, :restarts])
         |> Map.merge(%{
           reserved: Enum.count(workers, & &1.reserved),
           in_flight: workers |> Enum.map(& &1.in_flight) |> Enum.sum(),
           draining: Registry.draining?(pool),
           leases: Typhon.Leases.count(pool)
         })
         |> Map.merge(info)}

      :none ->
        {:ok, info}

      error ->
        error
    end
  catch
    :exit, _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
  end

  defp worker_info(worker) do
    [Worker.info(worker)]
  catch
    :exit, _ -> []
  end

  @doc "The process that decides about the workers of a pool. A pool of a test that has no Python has none."
  @spec keeper(pid) :: {:ok, pid} | :none | {:error, Typhon.PoolError.t()}
  def keeper(pool) do
    case List.keyfind(Supervisor.which_children(pool), Keeper, 0) do
      {_, pid, _, _} when is_pid(pid) -> {:ok, pid}
      nil -> :none
      _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
    end
  catch
    :exit, _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
  end

  @spec restart(pid, timeout) :: :ok | {:error, Exception.t()}
  def restart(pool, timeout) do
    case keeper(pool) do
      {:ok, keeper} -> Keeper.restart(keeper, timeout)
      :none -> :ok
      error -> error
    end
  catch
    :exit, _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
  end

  @spec workers(pid) :: [pid]
  def workers(pool) do
    pool
    |> Supervisor.which_children()
    |> Enum.sort()
    |> Enum.flat_map(fn
      {{Worker, _index, _serial}, pid, _, _} when is_pid(pid) -> [pid]
      _ -> []
    end)
  end

  @doc """
  Waits until one worker takes calls. Returns the error of the last attempt at once when every worker waits for another try.
  """
  @spec await_any(pid, timeout) :: :ok | :timeout | {:error, Exception.t()}
  def await_any(pool, timeout) do
    deadline = Deadline.from(timeout)

    with {:ok, requests} <- pool |> workers() |> ask() do
      case any(requests, deadline, :restarted) do
        # Their Elixir processes have ended: the supervisor starts others.
        :restarted ->
          if Deadline.left(deadline) == 0, do: :timeout, else: await_any(pool, Deadline.left(deadline))

        other ->
          other
      end
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
    deadline = Deadline.from(timeout)

    with {:ok, requests} <- pool |> find_workers(index) |> ask() do
      case any(requests, deadline, :restarted) do
        # Its Elixir process has ended: the supervisor starts another one.
        :restarted ->
          if Deadline.left(deadline) == 0,
            do: :timeout,
            else: await_worker(pool, index, Deadline.left(deadline))

        # It gives up its place, to another one or to none.
        {:error, %Typhon.WorkerError{reason: :replaced}} ->
          :moved

        # Its worker ends for good: the whole pool, or this place alone.
        {:error, %Typhon.PoolError{}} = error ->
          if find_workers(pool, index) == [], do: :moved, else: error

        other ->
          other
      end
    else
      # No process has this place.
      {:error, %Typhon.WorkerError{}} -> :moved
    end
  catch
    :exit, _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
  end

  # The processes of the worker in one place, and of those that are to replace it or were replaced. The supervisor answers, so
  # one that is being restarted is there again.
  defp find_workers(pool, index) do
    for {{Worker, ^index, _serial}, pid, _, _} <- Enum.sort(Supervisor.which_children(pool)),
        is_pid(pid),
        do: pid
  end

  @doc """
  One worker for the calling process alone, when nothing of anybody else's runs there any more: the least loaded one, if that
  is at rest. Else no further calls come to that one, and the first that is at rest, or that a session gives back, is it. It
  goes by `checkin/2` with the reference, or with the calling process.
  """
  @spec checkout(pid, Native.pool(), timeout) ::
          {:ok, pid, reference, map} | :timeout | {:error, Exception.t()}
  def checkout(pool, native, timeout) do
    deadline = Deadline.from(timeout)
    ref = make_ref()

    # None: all are taken.
    picked = with {index, _where} <- Native.pool_pick(native), do: List.first(find_workers(pool, index))

    with worker when is_pid(worker) <- picked,
         {:ok, grant} <- checkout_now(worker, ref, deadline) do
      {:ok, worker, ref, grant}
    else
      :timeout ->
        :timeout

      _ ->
        with :moved <- checkout_any(workers(pool), picked, ref, deadline),
             do: checkout(pool, native, Deadline.left(deadline))
    end
  catch
    :exit, _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
  end

  defp checkout_now(worker, ref, deadline) do
    requests = :gen_statem.send_request(worker, {:checkout, ref, :now}, worker, :gen_statem.reqids_new())

    case :gen_statem.receive_response(requests, Deadline.left(deadline), true) do
      {{:reply, reply}, _, _} ->
        reply

      :timeout ->
        Worker.cancel_checkout(worker, ref)
        :timeout

      {{:error, _}, _, _} ->
        :busy
    end
  end

  defp checkout_any(workers, picked, ref, deadline) do
    requests =
      Enum.reduce(workers, :gen_statem.reqids_new(), fn worker, requests ->
        mode = if worker == picked, do: :reserve, else: :wait
        :gen_statem.send_request(worker, {:checkout, ref, mode}, worker, requests)
      end)

    # When the Elixir processes of all of them have ended, the supervisor starts others.
    result = granted(requests, deadline, ref, if(workers == [], do: gone(), else: :moved))
    taken = with {:ok, worker, _, _} <- result, do: worker
    for worker <- workers, worker != taken, do: Worker.cancel_checkout(worker, ref)
    result
  end

  defp granted(requests, deadline, ref, error) do
    case :gen_statem.receive_response(requests, Deadline.left(deadline), true) do
      {{:reply, {:ok, grant}}, worker, rest} ->
        forget(rest)
        {:ok, worker, ref, grant}

      # The worker gives up its place: its successor was not asked.
      {{:reply, :moved}, _worker, rest} ->
        forget(rest)
        :moved

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
    case :gen_statem.receive_response(requests, Deadline.left(deadline), true) do
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
        {:error, %StartError{reason: :nif_not_loaded, message: not_loaded(Native.archive(), text)}}
    end
  end

  defp not_loaded(nil, text) do
    "Typhon's native library could not be loaded: #{text}. " <>
      "It is built by mix compile; `mix compile --force` builds it again"
  end

  defp not_loaded(archive, _text) do
    "Typhon cannot run from #{archive}, which is an escript or another archive: its native library and its Python files lie in priv/, " <>
      "and must be files of their own. Make a release (mix release), or run it with mix run"
  end

  defp directory(cd) do
    if File.dir?(cd),
      do: :ok,
      else: {:error, %StartError{reason: :bad_cd, message: "cd: the directory #{cd} does not exist"}}
  end

  # Python and Ruby pass over what is not there, and then miss the modules that were to come from it.
  defp paths(config) do
    Enum.find_value(config.paths, :ok, fn path ->
      with why when why != nil <- path_error(path, config) do
        %{paths: option} = Language.of(config.language).options()
        {:error, Language.start_error(config.language, :bad_path, config.program, "#{option}: #{why}")}
      end
    end)
  end

  defp path_error(path, config) do
    cond do
      File.dir?(path) ->
        nil

      # Python also searches archives.
      File.exists?(path) and Path.extname(path) not in [".py", ".rb"] ->
        nil

      File.exists?(path) ->
        "#{path} is a file. Name the directory that it is in: #{Path.dirname(path)}"

      true ->
        "the directory #{path} does not exist. " <>
          elsewhere(path, config.cd) <>
          "In a release, Application.app_dir(:my_app, \"priv/py\") is the directory priv/py of the application :my_app"
    end
  end

  defp elsewhere(path, cd) do
    here = path |> Path.relative_to(cd) |> Path.expand()

    if here != path and File.dir?(here),
      do: "Relative ones are relative to cd:, and there is #{here}. ",
      else: ""
  end
end
