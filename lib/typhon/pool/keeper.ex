defmodule Typhon.Pool.Keeper do
  @moduledoc false
  # Decides how many workers a pool has, and when one is replaced by another. It stands in the path of no call.
  #
  #   * Grows: the native pool tells it when a call has found no idle worker. Shrinks: while there are more workers than the
  #     least, it looks from time to time which of them have had nothing to do.
  #   * Replaces: a worker that has served its calls or holds too much memory says so; Typhon.restart/2 replaces all. A
  #     successor is started first, and gets the place of the other one when it could take calls. So no call waits for a start.
  #   * Looks: when calls take long, it has the workers see whether their processes have been stopped.
  #   * Gives up: when Pythons end, or cannot be started, more often than the pool's max_restarts allows, the pool goes down
  #     with the last error as its reason, and whoever supervises it decides.
  #
  # What must outlive this process, and what workers ask without waiting for it, lies on the board (Typhon.Pool.Board).

  use GenServer

  require Logger

  alias Typhon.{Native, PoolError, Registry, Telemetry, TimeoutError, Worker, WorkerError}
  alias Typhon.Pool.Board
  alias Typhon.Worker.Backoff

  # A call that finds no idle worker may be an accident of a moment: so long after it the pool looks again before it grows.
  @second_look 5
  @shortest_tick 20
  # Workers are not looked at more often, in milliseconds.
  @look_again 1_000

  defmodule Entry do
    @moduledoc false
    # grows: it is for a place that had no worker
    defstruct [
      :index,
      :serial,
      :role,
      :monitor,
      status: :starting,
      recycle: false,
      grows: false,
      calls: 0,
      idle_since: 0
    ]
  end

  defstruct [
    :config,
    :native,
    :pool,
    active: false,
    workers: %{},
    # when Pythons ended, in the last max_seconds
    ends: [],
    restarts: 0,
    last_error: nil,
    # failed starts of successors in a row, by place
    failures: %{},
    # restarts that were asked for, the one under way first
    rolls: [],
    # whether the native pool will tell of the next call that finds no idle worker
    watching: false,
    ticking: false,
    looked_at: 0,
    started_at: 0
  ]

  # --- questions ---

  @spec child_spec({map, Native.pool()}) :: Supervisor.child_spec()
  def child_spec(arg), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [arg]}}

  @spec start_link({map, Native.pool()}) :: GenServer.on_start()
  def start_link(arg), do: GenServer.start_link(__MODULE__, arg)

  @doc "The pool is ready: from now on it grows, and goes down when it has to."
  @spec activate(pid) :: :ok
  def activate(keeper), do: GenServer.call(keeper, :activate, :infinity)

  @spec board(pid) :: :ets.tid()
  def board(keeper), do: GenServer.call(keeper, :board, :infinity)

  @spec figures(pid) :: map
  def figures(keeper), do: GenServer.call(keeper, :figures)

  @spec restart(pid, timeout) :: :ok | {:error, Exception.t()}
  def restart(keeper, timeout), do: GenServer.call(keeper, {:restart, timeout}, :infinity)

  # --- life ---

  @impl true
  def init({config, native}) do
    Board.enter(config.board)

    state = %__MODULE__{
      config: config,
      native: native,
      pool: config.pool,
      looked_at: now(),
      started_at: now(),
      active: Board.active?(config.board)
    }

    {:ok, state, {:continue, :find_workers}}
  end

  # A keeper that was restarted finds the workers; the first one has no others than those that tell of themselves.
  @impl true
  def handle_continue(:find_workers, %{active: false} = state), do: {:noreply, state}

  def handle_continue(:find_workers, state) do
    state =
      for {{Worker, index, serial} = id, pid, _, _} <- Supervisor.which_children(state.pool), reduce: state do
        state when is_pid(pid) ->
          %{role: role, state: status} = Worker.info(pid)
          state = track(state, pid, %{index: index, serial: serial, role: role})

          case status do
            :waiting -> promote(put_status(state, pid, :waiting), pid)
            :retiring -> put_status(state, pid, :retiring)
            _ when role == :holder -> put_status(state, pid, :placed)
            _ -> state
          end

        state ->
          forget_child(state, id)
          state
      end

    {:noreply, settle(state)}
  catch
    :exit, reason -> {:stop, reason, state}
  end

  @impl true
  def handle_cast({:worker, pid, place}, state), do: {:noreply, track(state, pid, place)}

  def handle_cast({:waiting, pid}, state) when is_map_key(state.workers, pid),
    do: {:noreply, state |> put_status(pid, :waiting) |> promote(pid)}

  def handle_cast({:placed, pid}, state) when is_map_key(state.workers, pid) do
    %Entry{index: index, grows: grows} = entry = state.workers[pid]
    entry = %{entry | role: :holder, status: :placed, recycle: false, grows: false, idle_since: now()}
    state = put_in(state.workers[pid], entry)
    state = %{state | failures: Map.delete(state.failures, index)}

    if grows do
      scaled(state, size(state) - 1, :up)
      for {other, _} <- state.workers, other != pid, do: Worker.stir(other)
    end

    {:noreply, settle(state)}
  end

  def handle_cast({:recycle, pid, _reason}, state) when is_map_key(state.workers, pid) do
    state = put_in(state.workers[pid].recycle, true)
    {:noreply, replace(state, state.workers[pid].index)}
  end

  def handle_cast({:ended, pid, error}, state) do
    state = if is_map_key(state.workers, pid), do: put_in(state.workers[pid].recycle, false), else: state

    {:noreply, count_end(%{state | last_error: error, restarts: state.restarts + 1}, error)}
  end

  # There may be many who wait.
  def handle_cast(:look, state) do
    if now() - state.looked_at >= @look_again do
      for {pid, _} <- state.workers, do: Worker.look(pid)
      {:noreply, %{state | looked_at: now()}}
    else
      {:noreply, state}
    end
  end

  def handle_cast(_message, state), do: {:noreply, state}

  @impl true
  def handle_call(:activate, _from, state) do
    Board.activate(state.config.board)
    {:reply, :ok, settle(%{state | active: true})}
  end

  def handle_call(:board, _from, state), do: {:reply, state.config.board, state}

  def handle_call(:figures, _from, state) do
    {:reply,
     %{
       size: size(state),
       min: state.config.min_workers,
       max: state.config.workers,
       restarts: state.restarts,
       recent_restarts: length(recent(state)),
       max_restarts: state.config.max_restarts,
       max_seconds: state.config.max_seconds,
       last_error: state.last_error,
       uptime: now() - state.started_at
     }, state}
  end

  def handle_call({:restart, timeout}, from, state) do
    timer = if timeout != :infinity, do: Process.send_after(self(), {:roll_timeout, from}, timeout)

    roll = %{
      from: from,
      timer: timer,
      todo: nil,
      doing: nil,
      old: [],
      count: 0,
      began: System.monotonic_time()
    }

    {:noreply, settle(%{state | rolls: state.rolls ++ [roll]})}
  end

  @impl true
  def handle_info({:DOWN, _, :process, pid, reason}, state) when is_map_key(state.workers, pid) do
    {entry, state} = pop_in(state.workers[pid])

    state =
      case reason do
        {:shutdown, {:failed, error}} ->
          forget_child(state, {Worker, entry.index, entry.serial})
          successor_failed(state, entry, error)

        {:shutdown, :retired} ->
          forget_child(state, {Worker, entry.index, entry.serial})
          promote_waiting(state, entry.index)

        # Its supervisor starts it again, or the pool stops.
        _ ->
          state
      end

    {:noreply, settle(state)}
  end

  def handle_info({:replace, index}, state) do
    case holder(state, index) do
      {_pid, %{recycle: true}} -> {:noreply, replace(state, index)}
      _ -> {:noreply, state}
    end
  end

  def handle_info({:typhon, :busy}, state) do
    Process.send_after(self(), :grow, @second_look)
    {:noreply, state}
  end

  def handle_info(:grow, state), do: {:noreply, settle(grow(%{state | watching: false}))}

  def handle_info(:tick, state), do: {:noreply, settle(shrink(%{state | ticking: false}))}

  def handle_info({:roll_timeout, from}, state) do
    case Enum.split_with(state.rolls, &(&1.from == from)) do
      {[], _} ->
        {:noreply, state}

      {[roll], rest} ->
        left = length(roll.todo || []) + length(still_there(state, roll.old)) + died_first(state, roll)
        GenServer.reply(from, {:error, %TimeoutError{operation: :restart, left: left}})
        {:noreply, settle(%{state | rolls: rest})}
    end
  end

  def handle_info(_message, state), do: {:noreply, state}

  # --- workers ---

  defp track(state, pid, place) when is_map_key(state.workers, pid) do
    update_in(state.workers[pid], &%{&1 | role: place.role})
  end

  defp track(state, pid, %{index: index, serial: serial, role: role}) do
    entry = %Entry{index: index, serial: serial, role: role, monitor: Process.monitor(pid), idle_since: now()}
    state = put_in(state.workers[pid], entry)
    if role == :holder, do: promote_waiting(state, index), else: state
  end

  defp put_status(state, pid, status), do: put_in(state.workers[pid].status, status)

  # The worker that has the place, whatever state its Python is in.
  defp holder(state, index) do
    Enum.find(state.workers, fn {_, entry} ->
      entry.index == index and entry.role == :holder and entry.status != :retiring
    end)
  end

  defp successor(state, index) do
    Enum.find(state.workers, fn {_, entry} -> entry.index == index and entry.role == :successor end)
  end

  defp size(state),
    do: Enum.count(state.workers, fn {_, e} -> e.role == :holder and e.status != :retiring end)

  defp still_there(state, pids), do: Enum.filter(pids, &is_map_key(state.workers, &1))

  # The worker that is being replaced is one of the old ones, unless it has ended by itself.
  defp died_first(_state, %{doing: nil}), do: 0
  defp died_first(state, %{old: [old | _]}), do: if(is_map_key(state.workers, old), do: 0, else: 1)

  # A successor could take calls.
  defp promote(state, pid) do
    case holder(state, state.workers[pid].index) do
      nil ->
        Worker.take_place(pid)
        state

      {holder, _} ->
        Worker.yield_to(holder, pid)
        put_status(state, holder, :retiring)
    end
  end

  # The one that it was to replace has gone in another way, or was started again.
  defp promote_waiting(state, index) do
    case successor(state, index) do
      {pid, %{status: :waiting}} -> promote(state, pid)
      _ -> state
    end
  end

  defp replace(state, index) do
    if successor(state, index), do: state, else: start_successor(state, index)
  end

  defp start_successor(state, index) do
    serial = Board.next_serial(state.config.board)
    place = %{index: index, serial: serial, role: :successor}

    case Supervisor.start_child(state.pool, Worker.child_spec({state.config, state.native, place})) do
      {:ok, pid} when is_pid(pid) ->
        grows = holder(state, index) == nil
        update_in(track(state, pid, place).workers[pid], &%{&1 | grows: grows})

      _ ->
        state
    end
  end

  defp forget_child(state, id), do: Supervisor.delete_child(state.pool, id)

  defp successor_failed(state, %Entry{role: :successor, index: index}, error) do
    failures = Map.get(state.failures, index, 0) + 1
    state = %{state | failures: Map.put(state.failures, index, failures)}

    case {state.rolls, holder(state, index)} do
      {[%{doing: ^index} = roll | rest], _} ->
        finish_roll(roll, {:error, error})
        %{state | rolls: rest}

      # Its predecessor has gone meanwhile: the place must not stay empty.
      {_, nil} when index < state.config.min_workers ->
        start_successor(state, index)

      {_, nil} ->
        state

      {_, _holder} ->
        Process.send_after(self(), {:replace, index}, Backoff.delay(failures))
        state
    end
  end

  defp successor_failed(state, _entry, _error), do: state

  # Whatever has changed: what is there to do now?
  defp settle(%{active: false} = state), do: state
  defp settle(state), do: state |> roll() |> watch() |> tick()

  # --- the rolling restart ---

  defp roll(%{rolls: []} = state), do: state

  defp roll(%{rolls: [%{todo: nil} = roll | rest]} = state) do
    indices = for {_, %{role: :holder, status: status, index: i}} <- state.workers, status != :retiring, do: i
    roll(%{state | rolls: [%{roll | todo: Enum.sort(indices), count: length(indices)} | rest]})
  end

  defp roll(%{rolls: [%{doing: nil, todo: [], old: old} = roll | rest]} = state) do
    case still_there(state, old) do
      [] ->
        finish_roll(roll, :ok)

        pool_event(
          :restart,
          %{duration: System.monotonic_time() - roll.began, workers: roll.count},
          state
        )

        roll(%{state | rolls: rest})

      _ ->
        state
    end
  end

  defp roll(%{rolls: [%{doing: nil, todo: [index | todo]} = roll | rest]} = state) do
    case holder(state, index) do
      nil ->
        roll(%{state | rolls: [%{roll | todo: todo} | rest]})

      {pid, _} ->
        roll = %{roll | todo: todo, doing: {index, pid}, old: [pid | roll.old]}
        replace(%{state | rolls: [%{roll | doing: index} | rest]}, index)
    end
  end

  # The place has another worker by now, or none at all.
  defp roll(%{rolls: [%{doing: index, old: [old | _]} = roll | rest]} = state) do
    case holder(state, index) do
      {pid, %{status: :placed}} when pid != old ->
        roll(%{state | rolls: [%{roll | doing: nil} | rest]})

      nil ->
        if successor(state, index), do: state, else: roll(%{state | rolls: [%{roll | doing: nil} | rest]})

      _ ->
        state
    end
  end

  defp finish_roll(roll, answer) do
    if roll.timer, do: Process.cancel_timer(roll.timer)
    GenServer.reply(roll.from, answer)
  end

  # --- the size ---

  # One that grows already waits for that first.
  defp watch(%{watching: false, config: %{workers: max, min_workers: min}} = state) when max > min do
    if size(state) < max and not growing?(state) do
      Native.pool_watch(state.native, self())
      %{state | watching: true}
    else
      state
    end
  end

  defp watch(state), do: state

  defp growing?(state) do
    Enum.any?(state.workers, fn {_, entry} ->
      entry.role == :successor and holder(state, entry.index) == nil
    end)
  end

  defp grow(state) do
    case wanted(state) do
      0 -> state
      count -> Enum.reduce(free_places(state, count), state, &start_successor(&2, &1))
    end
  end

  # As many as it takes for what waits now to run at once.
  defp wanted(state) do
    %{places: places, waiting: waiting} = Native.pool_info(state.native)
    room = for {_, false, n, _} <- places, do: state.config.concurrency - n
    spare = room |> Enum.filter(&(&1 > 0)) |> Enum.sum()
    queued = waiting - (room |> Enum.filter(&(&1 < 0)) |> Enum.sum())

    cond do
      spare > 0 -> 0
      true -> max(div(queued + state.config.concurrency - 1, state.config.concurrency), 1)
    end
  end

  defp free_places(state, count) do
    0..(state.config.workers - 1)
    |> Enum.reject(fn index -> holder(state, index) || successor(state, index) end)
    |> Enum.take(count)
  end

  defp tick(%{ticking: false, config: config} = state) do
    if size(state) > config.min_workers do
      Process.send_after(self(), :tick, max(div(config.idle_timeout, 4), @shortest_tick))
      %{state | ticking: true}
    else
      state
    end
  end

  defp tick(state), do: state

  # The highest places first: calls go to the lowest idle one.
  defp shrink(state) do
    state = note_use(state)
    before = now() - state.config.idle_timeout

    idle =
      for {pid, %{role: :holder, status: :placed, idle_since: since, index: index}} <- state.workers,
          since <= before,
          successor(state, index) == nil,
          do: {index, pid}

    idle
    |> Enum.sort(:desc)
    |> Enum.take(size(state) - state.config.min_workers)
    |> Enum.reduce(state, fn {_, pid}, state ->
      Worker.retire(pid)
      state = put_status(state, pid, :retiring)
      scaled(state, size(state) + 1, :down)
      state
    end)
  end

  defp note_use(state) do
    workers =
      Map.new(state.workers, fn {pid, entry} ->
        case use_of(pid) do
          {calls, 0} when calls == entry.calls -> {pid, entry}
          {calls, _} -> {pid, %{entry | calls: calls, idle_since: now()}}
        end
      end)

    %{state | workers: workers}
  end

  defp use_of(pid) do
    %{calls: calls, in_flight: in_flight} = Worker.info(pid)
    {calls, in_flight}
  catch
    :exit, _ -> {0, 0}
  end

  defp scaled(state, from, direction) do
    pool_event(:scale, %{size: size(state), from: from}, state, %{direction: direction})
  end

  # --- giving up ---

  # What the pool's own rules bring about is no reason to give up.
  defp count_end(state, %WorkerError{reason: reason}) when reason in [:overdue, :hung, {:limit, :cpu_time}],
    do: state

  defp count_end(state, %WorkerError{reason: {:import_timeout, _}}), do: state

  defp count_end(%{config: %{max_restarts: :infinity}} = state, _error), do: state

  defp count_end(state, error) do
    state = %{state | ends: [now() | recent(state)]}

    if state.active and length(state.ends) > state.config.max_restarts do
      go_down(state, error)
    else
      state
    end
  end

  defp recent(state) do
    since = now() - 1_000 * state.config.max_seconds
    Enum.take_while(state.ends, &(&1 >= since))
  end

  defp go_down(state, error) do
    pool = state.pool
    down = %PoolError{pool: state.config.name || pool, reason: {:down, error}}
    Logger.error(Exception.message(down))
    pool_event(:down, %{restarts: length(state.ends)}, state, %{reason: down})
    Registry.down(pool, down)
    for {worker, _} <- state.workers, do: Worker.leave(worker, down)

    # Not from here: the supervisor waits for this process.
    spawn(fn ->
      try do
        Supervisor.stop(pool, {:shutdown, down}, :infinity)
      catch
        :exit, _ -> :ok
      end
    end)

    %{state | active: false}
  end

  defp pool_event(name, measurements, state, metadata \\ %{}),
    do: Telemetry.pool(name, measurements, Map.put(metadata, :pool, state.config.name || state.pool))

  defp now, do: System.monotonic_time(:millisecond)
end
