defmodule Typhon.Registry do
  @moduledoc false
  # Two duties that need a process which outlives pools and workers, and neither lies in the path of a call:
  #
  #   * it keeps what callers find a pool by: a persistent term {pool pid, native pool, flags} for its pid, and one for its
  #     name when it has one. Reading one takes a sixth of the time of an ETS lookup, which is a tenth of a small call; erasing
  #     one, when a pool's supervisor goes, costs the VM a look at every process. An ETS table lists the keys. It belongs to
  #     the application, so that nothing is forgotten should this process ever have to be restarted.
  #   * it watches worker processes, so that a worker which is itself killed (`Process.exit(pid, :kill)`) leaves neither
  #     callers waiting nor an operating system process behind. One that belongs to no pool (compat/erlport) may have a row under
  #     its pid in the table `:typhon_owners`, for those who call it: the row goes with the process.

  use GenServer

  alias Typhon.{Native, WorkerError}

  @table __MODULE__
  @owners :typhon_owners
  @sigkill 9
  # How long Python has to notice the end of its stdin before it is killed.
  @orphan_grace 500
  # Of how many pools that went down the reason is kept.
  @kept_down 64

  @type flags :: non_neg_integer

  @spec start_link(term) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The row of a pool by its pid or name. No process is asked unless the key is not in the table as it stands."
  @spec lookup(term) :: {pid, Native.pool(), flags} | {:error, Typhon.PoolError.t() | WorkerError.t()}
  def lookup(key) do
    case :persistent_term.get({@table, key}, nil) do
      nil -> resolve(key)
      found -> found
    end
  end

  @doc "The same for those who look after a pool: one that drains is there, too."
  @spec find(term) :: {pid, Native.pool(), flags} | {:error, Typhon.PoolError.t()}
  def find(key) do
    with {:error, %Typhon.PoolError{reason: :draining}} = draining <- lookup(key) do
      pid = if is_pid(key), do: key, else: GenServer.whereis(key)

      case :ets.lookup(@table, {:pool, pid}) do
        [{_, found}] -> found
        [] -> draining
      end
    end
  end

  @spec draining?(pid) :: boolean
  def draining?(pool), do: match?({:error, _}, :persistent_term.get({@table, pool}, nil))

  defp resolve(%Typhon.Session{} = session) do
    with {pid, native, flags, _} <- Typhon.Session.target(session), do: {pid, native, flags}
  end

  # A name by another road than the one it was registered under.
  defp resolve(key) do
    running? = running?()

    with true <- is_atom(key) or match?({:global, _}, key) or match?({:via, _, _}, key),
         pid when is_pid(pid) and node(pid) == node() <- GenServer.whereis(key),
         {_, _, _} = found <- :persistent_term.get({@table, pid}, :not_a_pool) do
      found
    else
      _ when not running? -> {:error, %Typhon.PoolError{pool: key, reason: :not_running}}
      {:error, %Typhon.PoolError{}} = draining -> draining
      {name, node} when is_atom(name) and is_atom(node) -> remote(key, node)
      pid when is_pid(pid) and node(pid) != node() -> remote(key, node(pid))
      false when is_pid(key) and node(key) != node() -> remote(key, node(key))
      false when is_pid(key) -> went_down(key) || {:error, %Typhon.PoolError{pool: key, reason: :stopped}}
      false -> {:error, %Typhon.PoolError{pool: key, reason: :invalid}}
      nil -> went_down(key) || {:error, %Typhon.PoolError{pool: key, reason: :not_found}}
      _ -> {:error, %Typhon.PoolError{pool: key, reason: :not_a_pool}}
    end
  end

  # Of the last pools that went down by themselves the reason is kept.
  defp went_down(key) do
    case :ets.lookup(@table, {:down, key}) do
      [{_, error}] -> {:error, %{error | pool: key}}
      [] -> nil
    end
  end

  defp remote(key, node), do: {:error, %Typhon.PoolError{pool: key, reason: {:remote, node}}}

  @spec running? :: boolean
  def running?, do: :ets.whereis(@table) != :undefined

  @spec register(pid, term, Native.pool() | nil, flags) :: :ok
  def register(pid, name, native, flags),
    do: GenServer.call(__MODULE__, {:register, pid, name, native, flags}, :infinity)

  @doc "What those need of a pool's options whom Python asks something (Typhon.Conversation). Before register/4."
  @spec put_options(pid, map) :: :ok
  def put_options(pid, options), do: :persistent_term.put({@table, {:options, pid}}, options)

  @spec options(pid) :: map
  def options(pid),
    do:
      :persistent_term.get({@table, {:options, pid}}, %{
        stdio: :logger,
        allow: [],
        max_mailbox: :infinity,
        metadata: []
      })

  @doc "Sets bits of a pool's flags."
  @spec flag(pid, flags) :: :ok
  def flag(pid, bits), do: GenServer.call(__MODULE__, {:flag, pid, bits}, :infinity)

  @doc "New calls find no pool from here on."
  @spec unregister(pid) :: :ok
  def unregister(pid), do: GenServer.call(__MODULE__, {:unregister, pid}, :infinity)

  @doc "The same, and from now on the error says why."
  @spec down(pid, Typhon.PoolError.t()) :: :ok
  def down(pid, error), do: GenServer.call(__MODULE__, {:down, pid, error}, :infinity)

  @doc "New calls are refused from here on; calls that have found the pool already go on."
  @spec drain(pid) :: :ok
  def drain(pid), do: GenServer.call(__MODULE__, {:drain, pid}, :infinity)

  @doc """
  The calling worker has an open channel and an operating system process: named by its pid until it has greeted, and by the
  channel from then on.
  """
  @spec watch(Native.channel(), pos_integer | nil | :greeted) :: :ok
  def watch(channel, process),
    do: GenServer.call(__MODULE__, {:watch, self(), channel, process}, :infinity)

  @doc "The calling worker has cleaned up after itself."
  @spec unwatch :: :ok
  def unwatch, do: GenServer.call(__MODULE__, {:unwatch, self()}, :infinity)

  @doc "Makes the tables, owned by the calling process."
  @spec create_tables :: :ok
  def create_tables do
    :ets.new(@owners, [:named_table, :set, :public, read_concurrency: true])
    :ets.new(@table, [:named_table, :set, :public])
    :ok
  end

  @doc "The application has stopped: no pool is in reach any more."
  @spec forget_all :: :ok
  def forget_all do
    for {{@table, _} = key, _} <- :persistent_term.get(), do: :persistent_term.erase(key)
    :ok
  end

  @impl true
  def init(_) do
    pools = for {pid, pid} <- :ets.tab2list(@table), into: %{}, do: {pid, Process.monitor(pid)}
    {:ok, %{pools: pools, workers: %{}, down: []}}
  end

  @impl true
  def handle_call({:register, pid, name, native, flags}, _from, state) do
    for key <- [pid, name], key != nil do
      :ets.insert(@table, {key, pid})
      :persistent_term.put({@table, key}, {pid, native, flags})
      :ets.delete(@table, {:down, key})
    end

    :ets.insert(@table, {{:pool, pid}, {pid, native, flags}})

    {:reply, :ok, put_in(state.pools[pid], Process.monitor(pid))}
  end

  def handle_call({:flag, pid, bits}, _from, state) do
    for [key] <- :ets.match(@table, {:"$1", pid}) do
      {^pid, native, flags} = :persistent_term.get({@table, key})
      :persistent_term.put({@table, key}, {pid, native, Bitwise.bor(flags, bits)})
    end

    {:reply, :ok, state}
  end

  def handle_call({:unregister, pid}, _from, state), do: {:reply, :ok, forget(state, pid)}

  def handle_call({:down, pid, error}, _from, state) do
    keys = for [key] <- :ets.match(@table, {:"$1", pid}), do: {:down, key}
    :ets.insert(@table, Enum.map(keys, &{&1, error}))
    {kept, dropped} = Enum.split(keys ++ (state.down -- keys), @kept_down)
    Enum.each(dropped, &:ets.delete(@table, &1))
    {:reply, :ok, forget(%{state | down: kept}, pid)}
  end

  def handle_call({:drain, pid}, _from, state) do
    # The pid comes last: where draining?/1 says so, no name leads to the pool any more.
    for [key] <- @table |> :ets.match({:"$1", pid}) |> Enum.sort_by(&(&1 == [pid])),
        do: :persistent_term.put({@table, key}, {:error, %Typhon.PoolError{pool: key, reason: :draining}})

    {:reply, :ok, state}
  end

  def handle_call({:watch, pid, channel, process}, _from, state) do
    monitor =
      case state.workers do
        %{^pid => {monitor, _, _}} -> monitor
        _ -> Process.monitor(pid)
      end

    {:reply, :ok, put_in(state.workers[pid], {monitor, channel, process}), :hibernate}
  end

  def handle_call({:unwatch, pid}, _from, state) do
    case pop_in(state.workers[pid]) do
      {nil, state} ->
        {:reply, :ok, state}

      {{monitor, _, _}, state} ->
        Process.demonitor(monitor, [:flush])

        # Collects garbage: a term that names the channel would keep its memory for as long as this process has no other work.
        {:reply, :ok, state, :hibernate}
    end
  end

  @impl true
  def handle_info({:DOWN, _monitor, :process, pid, reason}, state) do
    case pop_in(state.workers[pid]) do
      {nil, state} ->
        {:noreply, forget(state, pid)}

      {{_monitor, channel, process}, state} ->
        Native.channel_close(channel, %WorkerError{reason: {:owner_down, reason}})
        :ets.delete(@owners, pid)

        # Its stdin is closed already: the Port went with its owner.
        if process, do: Process.send_after(self(), {:reap, channel, process}, @orphan_grace)
        {:noreply, state}
    end
  end

  # By the channel's process descriptor once there is one: a bare pid may be given to another process.
  def handle_info({:reap, channel, :greeted}, state) do
    Native.kill(channel, @sigkill)
    {:noreply, state, :hibernate}
  end

  def handle_info({:reap, _channel, os_pid}, state) do
    Native.kill_pid(os_pid, @sigkill)
    {:noreply, state}
  end

  def handle_info(_message, state), do: {:noreply, state}

  defp forget(state, pid) do
    # The name may belong to a successor already: match on the pid.
    for [key] <- :ets.match(@table, {:"$1", pid}) do
      :ets.delete(@table, key)
      :persistent_term.erase({@table, key})
    end

    :ets.delete(@table, {:pool, pid})

    case pop_in(state.pools[pid]) do
      {nil, state} ->
        state

      {monitor, state} ->
        :persistent_term.erase({@table, {:options, pid}})
        Process.demonitor(monitor, [:flush])
        state
    end
  end
end
