defmodule Typhon.Worker.Machine do
  @moduledoc false
  # The states of a worker: one Python after the other in one place of a pool. Calls do not come through here.
  #
  #               ┌──a successor──► waiting ──the place is free──┐
  #               │                                              ▼
  #   starting ───┴────greeted, preload: and init: done──────► ready ◄──between two calls──► reloading
  #    ▲ ▲  │                                                  │ │ └───its place is wanted──► retiring ──idle──► (the end)
  #    │ │  └──failed──► down ◄──ended, and again soon─────────┘ │
  #    │ └───back-off─────┘                                      │
  #    └────────────────────────────ended──────────────────────┘
  #
  #   any ──the pool stops──► leaving
  #
  # A successor is a worker that is to replace another one which still takes calls. It waits when it could take calls (waiting)
  # until Typhon.Pool.Keeper has told the other to give up its place; when it cannot be started it ends, and nothing has changed.
  #
  # Here is what can happen in which state. What is done then is in modules for each concern: Starting, Place, Usage, Overdue,
  # OutsideCalls, Checkout, Ending. What runs the Python, and how its end is told, only its host knows (Typhon.Worker.Host).
  # What user code prints has a pipe and a process of its own (Printer), so that nothing here waits behind it, or for Logger.
  # When the Python has ended, whatever still waits for it gets that as its answer.

  @behaviour :gen_statem

  alias Typhon.Native
  alias Typhon.Pool.Board
  alias Typhon.Worker.{Backlog, Checkout, Data, Ending, Host, OutsideCalls}
  alias Typhon.Worker.{Overdue, Place, Printer, Starting, Usage}

  import Data, only: [is_serving: 1]

  @impl true
  def callback_mode, do: :handle_event_function

  @impl true
  def init({config, native, %{index: index, serial: serial, role: role}}) do
    case Board.role(config.board, index, serial, role) do
      # It had given up its place before it was killed, and was started again.
      :superfluous -> :ignore
      role -> init(config, native, %{index: index, serial: serial, role: role})
    end
  end

  defp init(config, native, %{index: index, serial: serial, role: role} = place) do
    Process.flag(:trap_exit, true)
    # A predecessor that was killed could not do it.
    if role == :holder, do: Native.pool_put(native, index, nil)
    Board.tell(config.board, {:worker, self(), place})
    metadata = [typhon_pool: config.name || config.pool, typhon_worker: index]
    {:ok, printer} = Printer.start_link(config.stdio, metadata)
    Printer.serve(printer)

    data = %Data{
      config: config,
      native: native,
      index: index,
      serial: serial,
      role: role,
      checkout: if(role == :holder, do: Checkout.new(native, index), else: Checkout.waiting(native, index)),
      printer: printer,
      metadata: metadata
    }

    {:ok, :starting, data, [{:next_event, :internal, :start}]}
  end

  @impl true
  def terminate(reason, state, data), do: Ending.terminate(reason, state, data)

  # --- starting ---

  @impl true
  def handle_event(:internal, :start, :starting, data), do: Starting.start(data)
  def handle_event(:state_timeout, :start_timeout, :starting, data), do: Starting.late(data)

  def handle_event(:info, {:typhon, channel, {:ready, greeting}}, :starting, %{channel: channel} = data),
    do: Starting.greeted(greeting, data)

  def handle_event(:info, {:steps, ref, {:begins, step}}, _state, %{steps: {ref, _}} = data),
    do: {:keep_state, %{data | steps: {ref, step}}}

  def handle_event(:info, {:steps, ref, result}, :starting, %{steps: {ref, _}} = data),
    do: Starting.ran(result, data)

  # --- down ---

  def handle_event(:state_timeout, :restart, :down, data), do: Starting.restart(data)

  # --- waiting: its place ---

  def handle_event(:cast, :take_place, :waiting, data), do: Place.take(%{data | role: :holder})

  # Not while a session has it: its calls have to go to this very Python.
  def handle_event(type, event, :ready, %{checkout: %{holder: holder}} = data)
      when holder != nil and
             (event == :retire or (is_tuple(event) and elem(event, 0) in [:yield_to, :between_calls])),
      do: {:keep_state, %{data | pending: pending(data) ++ [{:next_event, type, event}]}}

  def handle_event(:cast, {:yield_to, successor}, :ready, data), do: Place.yield_to(successor, data)
  def handle_event(:cast, :retire, :ready, data), do: Place.give_up(data)
  def handle_event(:cast, {:yield_to, _}, :reloading, _data), do: {:keep_state_and_data, [:postpone]}
  def handle_event(:cast, :retire, :reloading, _data), do: {:keep_state_and_data, [:postpone]}

  def handle_event(:cast, {:yield_to, successor}, :retiring, _data) do
    Typhon.Worker.take_place(successor)
    :keep_state_and_data
  end

  def handle_event(:cast, {:yield_to, successor}, state, data) when state in [:starting, :down],
    do: Place.retire_for(successor, data)

  def handle_event(:cast, :retire, state, data) when state in [:starting, :waiting, :down],
    do: Place.retire(data)

  def handle_event(:state_timeout, {:finish, pause}, :retiring, data), do: Place.finish(pause, data)

  # --- reloading: between calls ---

  def handle_event({:call, from}, {:between_calls, _, _} = request, :ready, data),
    do: Place.reload(from, request, data)

  def handle_event({:call, _from}, {:between_calls, _, _}, state, _data)
      when state in [:starting, :waiting, :reloading],
      do: {:keep_state_and_data, [:postpone]}

  def handle_event({:call, from}, {:between_calls, _, _}, _state, _data),
    do: {:keep_state_and_data, [{:reply, from, {:ok, nil}}]}

  def handle_event(:state_timeout, {:idle, pause}, :reloading, data), do: Place.begin_when_idle(pause, data)

  def handle_event(:info, {:steps, ref, {result, _printed}}, :reloading, %{steps: {ref, _}} = data),
    do: Place.reloaded(result, data)

  # --- ready: what it has been used for ---

  def handle_event(:info, {:typhon, channel, :served}, :ready, %{channel: channel} = data),
    do: Usage.served(data)

  def handle_event({:timeout, {:memory, channel}}, _, :ready, %{channel: channel} = data),
    do: Usage.memory(data)

  # --- serving: calls that do not come to an end ---

  def handle_event(:info, {:typhon, channel, {:overdue, id}}, state, %{channel: channel} = data)
      when is_serving(state),
      do: Overdue.interrupt(id, data)

  def handle_event(
        {:timeout, {:grace, channel, id}},
        {seen, limit},
        state,
        %{channel: channel, killed: nil} = data
      )
      when is_serving(state),
      do: Overdue.grace_over(id, seen, limit, data)

  def handle_event(:info, {:typhon, channel, {:untaken, id}}, state, %{channel: channel} = data)
      when is_serving(state),
      do: Overdue.untaken(id, data)

  def handle_event(
        {:timeout, {:untaken, channel}},
        {id, ignored, limit},
        state,
        %{channel: channel, killed: nil} = data
      )
      when is_serving(state),
      do: Overdue.still_untaken(id, ignored, limit, data)

  def handle_event(:cast, :look, state, %{channel: channel, stopped: seen} = data)
      when is_serving(state) and seen != channel,
      do: Overdue.look(data)

  def handle_event({:timeout, {:stopped, channel}}, _, state, %{channel: channel, killed: nil} = data)
      when is_serving(state),
      do: Overdue.still_stopped(data)

  # --- any: what Python says ---

  # It asks or says something in nobody's name.
  def handle_event(:info, {:typhon, channel, {id, {:ask, _, _}} = asked}, _state, %{channel: channel} = data)
      when is_integer(id),
      do: asked(asked, 1, data)

  def handle_event(:info, {:typhon, channel, {:heavy, weight, asked}}, _state, %{channel: channel} = data),
    do: asked(asked, weight, data)

  def handle_event(:info, {:typhon, channel, {:send, message, weight}}, _state, data) do
    OutsideCalls.deliver(channel, message, weight, data.config)
    :keep_state_and_data
  end

  # To itself: whatever that looks like, it is for its mailbox.
  def handle_event(:info, {:typhon, channel, {:post, message}}, _state, %{channel: channel}) do
    Backlog.forward(channel, message)
    :keep_state_and_data
  end

  # It sends much: whether that is taken decides when it may go on.
  def handle_event(:info, {:typhon, channel, {:sent, pid, count, weight}}, _state, %{channel: channel} = data) do
    OutsideCalls.sent(channel, pid, count, weight, data.config)
    :keep_state_and_data
  end

  # It broke the protocol, or does not wait until it is heard: nothing that it says can be relied on.
  def handle_event(:info, {:typhon, channel, {:bad_frame, text}}, _state, %{channel: channel} = data) do
    Data.log(:error, "the #{Data.title(data)} #{Host.os_pid(data.host)} broke the protocol: #{text}", data)
    {:keep_state, Data.kill(data, :protocol)}
  end

  def handle_event(:info, {:typhon, channel, {:flood, text}}, _state, %{channel: channel, killed: nil} = data) do
    Data.log(:error, "the #{Data.title(data)} #{Host.os_pid(data.host)} is ended: #{text}", data)
    # Its calls get this as their reason, and not how it went.
    Native.channel_close(channel, Data.worker_error(data, :flood, Printer.tail(data.printer)))
    OutsideCalls.abandon()
    {:keep_state, Data.kill(data, :flood)}
  end

  # --- any: questions ---

  def handle_event({:call, from}, :await, :leaving, data), do: refuse(from, Data.stopped_pool(data))
  def handle_event({:call, from}, :await, :retiring, data), do: refuse(from, Data.replaced(data))

  def handle_event({:call, from}, :await, :ready, %{killed: nil} = data) do
    if Checkout.held?(data.checkout),
      do: {:keep_state, %{data | checkout: Checkout.await(data.checkout, from)}},
      else: {:keep_state_and_data, [{:reply, from, :ok}]}
  end

  def handle_event({:call, from}, :await, state, data) do
    case hopeless(state, data) do
      nil -> {:keep_state_and_data, [:postpone]}
      error -> refuse(from, error)
    end
  end

  def handle_event({:call, from}, :info, state, data),
    do: {:keep_state_and_data, [{:reply, from, Usage.info(state, data)}]}

  # --- any: sessions ---

  # Whoever asks has asked the others, too.
  def handle_event({:call, from}, {:checkout, _, _}, :retiring, data), do: refuse(from, Data.replaced(data))

  def handle_event({:call, from}, {:checkout, _, _}, :leaving, data),
    do: refuse(from, Data.stopped_pool(data))

  def handle_event({:call, from}, {:checkout, ref, mode}, state, data) do
    case hopeless(state, data) do
      nil ->
        {:keep_state, %{data | checkout: Checkout.ask(data.checkout, from, ref, mode, free(state, data))}}

      error ->
        refuse(from, error)
    end
  end

  def handle_event(:cast, :stir, _state, data),
    do: {:keep_state, %{data | checkout: Checkout.move(data.checkout)}}

  def handle_event({:call, from}, {:checkin, ref}, state, data),
    do: data.checkout |> Checkout.checkin(ref, free(state, data)) |> checked(data, [{:reply, from, :ok}])

  def handle_event(:cast, {:checkin, ref}, state, data),
    do: data.checkout |> Checkout.checkin(ref, free(state, data)) |> checked(data)

  # --- any: the end ---

  # The pool stops. All its workers are told before the first one is waited for.
  def handle_event(:cast, {:leave, _}, :leaving, _data), do: :keep_state_and_data

  def handle_event(:cast, {:leave, error}, _state, data),
    do: {:next_state, :leaving, Ending.let_go(%{data | gone: error}, :stopped)}

  # Nobody would read what Python prints.
  def handle_event(:info, {:EXIT, printer, reason}, _state, %{printer: printer} = data),
    do: {:stop, {:printer, reason}, data}

  # What is no event of the channel's, or one of a former channel.
  def handle_event(:info, message, state, data) do
    case Host.event(data.host || data.leaving, message) do
      :unknown -> other(message, state, data)
      {:ok, host} -> {:keep_state, now(data, host)}
      {:ended, host, _exit} when data.host == nil -> {:keep_state, now(data, host)}
      {:ended, host, exit} -> Ending.ended(exit, state, now(data, host))
    end
  end

  # Timers of a state, or a Python, that there is no more.
  def handle_event(_type, _content, _state, _data), do: :keep_state_and_data

  defp now(%{host: nil} = data, host), do: %{data | leaving: host}
  defp now(data, host), do: %{data | host: host}

  # --- what is not the host's either ---

  defp other({:EXIT, pid, reason}, _state, _data) do
    OutsideCalls.ended(pid, reason)
    :keep_state_and_data
  end

  defp other({:DOWN, monitor, :process, pid, reason}, state, data) do
    if OutsideCalls.ended(pid, reason),
      do: :keep_state_and_data,
      else: data.checkout |> Checkout.down(monitor, free(state, data)) |> checked(data)
  end

  defp other({:typhon_checkout, tick}, state, data),
    do: {:keep_state, %{data | checkout: Checkout.tick(data.checkout, tick, free(state, data))}}

  defp other({ref, :room}, _state, _data) when is_reference(ref) do
    Backlog.room(ref)
    :keep_state_and_data
  end

  # What was sent to typhon.self() goes to Python's mailbox; but not what a former host or channel still had to say.
  defp other(message, state, data) do
    if state == :ready and not stale?(message), do: Backlog.forward(data.channel, message)
    :keep_state_and_data
  end

  defp stale?({:typhon, _, _}), do: true
  defp stale?({:steps, ref, _}) when is_reference(ref), do: true
  defp stale?({:DOWN, _, _, _, _}), do: true
  defp stale?({:select, _, _, _}), do: true
  defp stale?({:interpreter, _, _}), do: true
  defp stale?({port, _}) when is_port(port), do: true
  defp stale?({ref, _}) when is_reference(ref), do: true
  defp stale?(_message), do: false

  # --- what comes up again and again ---

  defp asked(asked, weight, data) do
    OutsideCalls.handle(data.channel, asked, weight, data.config, data.printer, data.metadata, data.native)
    :keep_state_and_data
  end

  # Those that have been given up are forgotten when the next one comes.
  defp pending(data), do: Enum.reject(data.pending, fn {:next_event, _, event} -> Place.late?(event) end)

  defp refuse(from, error), do: {:keep_state_and_data, [{:reply, from, {:error, error}}]}

  # What whoever waits for it is told at once; nil: it is worth the wait.
  defp hopeless(:down, data), do: Data.why_broken(data)
  defp hopeless(_state, _data), do: nil

  # The channel of a worker that a session may have.
  defp free(:ready, %{killed: nil, pending: [], channel: channel}), do: channel
  defp free(_state, _data), do: nil

  defp checked(checkout, data, replies \\ []) do
    data = %{data | checkout: checkout}

    if Checkout.held?(checkout),
      do: {:keep_state, data, replies},
      else: {:keep_state, %{data | pending: []}, replies ++ data.pending}
  end
end
