defmodule Typhon.Test.Store do
  @moduledoc false
  # The stubs, expectations and calls of tests, each belonging to the process that set it up, its owner, and gone with it.
  #
  # Started when a test first needs it. Who has a rule for what lies in a table, so that a call without one asks no process;
  # which of its answers is next and what was called is decided here, one call after another.

  use GenServer

  @table __MODULE__
  # Calls kept for a process that never set up anything, on a pool without Python: it may live long.
  @notes 1_000

  @typedoc "Pool, module and function."
  @type name :: {pid, String.t(), String.t()}
  @type action :: {:result, Typhon.Test.Double.result()} | {:fun, function} | :through
  @type call :: %{args: list, kwargs: map, pid: pid}

  @spec ensure_started :: :ok
  def ensure_started do
    # The table, too, is there once this returns.
    case Supervisor.start_child(Typhon.Application.Supervisor, __MODULE__) do
      {:ok, _} -> :ok
      {:error, {:already_started, _}} -> :ok
    end
  end

  @spec start_link(term) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  # --- what a call looks up ---

  @spec rule?(pid, name) :: boolean
  def rule?(owner, name), do: :ets.member(@table, {:rule, owner, name})

  @spec allowed(pid, pid) :: [pid]
  def allowed(pool, pid), do: value({:allow, pool, pid})

  @spec global :: [pid]
  def global, do: value(:global)

  defp value(key) do
    case :ets.lookup(@table, key) do
      [{_, owner}] -> [owner]
      [] -> []
    end
  end

  @doc "The next answer of the first owner that still has a rule, and its call is written down."
  @spec take([pid], name, call) :: {:ok, action} | :exceeded | :none
  def take([], _name, _call), do: :none
  def take(owners, name, call), do: request({:take, owners, name, call})

  @doc "Writes down a call that nobody answered."
  @spec note([pid], name, call) :: :ok
  def note(owners, name, call), do: request({:note, owners, name, call})

  # --- what a test sets up ---

  @spec stub(pid, name, action) :: :ok
  def stub(owner, name, action), do: request({:stub, owner, name, action})

  @spec expect(pid, name, non_neg_integer, action) :: :ok
  def expect(owner, name, count, action), do: request({:expect, owner, name, count, action})

  @spec allow(pid, pid, pid) :: :ok
  def allow(pool, owner, pid), do: request({:allow, pool, owner, pid})

  @spec set_global(pid) :: :ok | {:taken, pid}
  def set_global(owner), do: request({:global, owner})

  @spec set_private :: :ok
  def set_private, do: request(:private)

  @doc "The owner's rules outlive it, for verify!/1, until forget/1."
  @spec keep(pid) :: :ok
  def keep(owner), do: request({:keep, owner})

  @spec forget(pid) :: :ok
  def forget(owner), do: request({:forget, owner})

  @spec calls(pid, name) :: [call]
  def calls(owner, name), do: request({:calls, owner, name})

  @doc "Names whose expectations were not met: how many calls were expected, and how many came."
  @spec unmet(pid) :: [{name, expected :: non_neg_integer, came :: non_neg_integer}]
  def unmet(owner), do: request({:unmet, owner})

  defp request(request), do: GenServer.call(__MODULE__, request, :infinity)

  # --- the process ---

  @impl true
  def init(_) do
    :ets.new(@table, [:named_table, :set, :protected, read_concurrency: true])
    {:ok, %{}}
  end

  @impl true
  def handle_call({:take, owners, name, call}, _from, state) do
    case Enum.find(owners, &match?(%{^&1 => %{rules: %{^name => _}}}, state)) do
      nil ->
        {:reply, :none, state}

      owner ->
        {reply, rule} = next(state[owner].rules[name])
        state = put_in(state[owner].rules[name], rule)
        {:reply, reply, update_in(state[owner].calls, &[{name, call} | &1])}
    end
  end

  def handle_call({:note, owners, name, call}, _from, state) do
    state =
      Enum.reduce(owners, state, fn owner, state ->
        state = owner(state, owner)

        update_in(state[owner].calls, fn calls ->
          if state[owner].rules == %{},
            do: Enum.take([{name, call} | calls], @notes),
            else: [{name, call} | calls]
        end)
      end)

    {:reply, :ok, state}
  end

  def handle_call({:stub, owner, name, action}, _from, state),
    do: {:reply, :ok, rule(state, owner, name, &%{&1 | stub: action})}

  def handle_call({:expect, owner, name, count, action}, _from, state) do
    {:reply, :ok,
     rule(state, owner, name, fn rule ->
       %{
         rule
         | expected: (rule.expected || 0) + count,
           queue: rule.queue ++ List.duplicate(action, count)
       }
     end)}
  end

  def handle_call({:allow, pool, owner, pid}, _from, state) do
    :ets.insert(@table, {{:allow, pool, pid}, owner})
    {:reply, :ok, owner(state, owner)}
  end

  def handle_call({:global, owner}, _from, state) do
    case global() do
      [other] when other != owner ->
        {:reply, {:taken, other}, state}

      _ ->
        :ets.insert(@table, {:global, owner})
        {:reply, :ok, owner(state, owner)}
    end
  end

  def handle_call(:private, _from, state) do
    :ets.delete(@table, :global)
    {:reply, :ok, state}
  end

  def handle_call({:keep, owner}, _from, state),
    do: {:reply, :ok, put_in(owner(state, owner)[owner].keep, true)}

  def handle_call({:forget, owner}, _from, state), do: {:reply, :ok, drop(state, owner)}

  def handle_call({:calls, owner, name}, _from, state) do
    calls = for {^name, call} <- get_in(state, [owner, :calls]) || [], do: call
    {:reply, Enum.reverse(calls), state}
  end

  def handle_call({:unmet, owner}, _from, state) do
    unmet =
      for {name, %{expected: expected, came: came, stub: stub}} <- get_in(state, [owner, :rules]) || %{},
          expected != nil,
          came < expected or (came > expected and stub == nil),
          do: {name, expected, came}

    {:reply, Enum.sort(unmet), state}
  end

  @impl true
  def handle_info({:DOWN, _monitor, :process, owner, _reason}, state) do
    case state do
      %{^owner => %{keep: true}} ->
        unlist(owner)
        {:noreply, state}

      _ ->
        {:noreply, drop(state, owner)}
    end
  end

  defp next(rule) do
    rule = %{rule | came: rule.came + 1}

    case rule do
      %{queue: [action | queue]} -> {{:ok, action}, %{rule | queue: queue}}
      %{stub: nil} -> {:exceeded, rule}
      %{stub: action} -> {{:ok, action}, rule}
    end
  end

  defp rule(state, owner, name, change) do
    state = owner(state, owner)
    :ets.insert(@table, {{:rule, owner, name}, owner})

    update_in(state[owner].rules, fn rules ->
      Map.put(rules, name, change.(rules[name] || %{queue: [], stub: nil, expected: nil, came: 0}))
    end)
  end

  defp owner(state, owner) do
    case state do
      %{^owner => _} ->
        state

      _ ->
        Map.put(state, owner, %{
          monitor: Process.monitor(owner),
          rules: %{},
          calls: [],
          keep: false
        })
    end
  end

  defp drop(state, owner) do
    unlist(owner)

    case Map.pop(state, owner) do
      {nil, state} ->
        state

      {%{monitor: monitor}, state} ->
        Process.demonitor(monitor, [:flush])
        state
    end
  end

  # No call finds this owner any more.
  defp unlist(owner), do: :ets.match_delete(@table, {:_, owner})
end
