defmodule Typhon.Worker.Checkout do
  @moduledoc false
  # Who has a worker for itself (Typhon.run/3), and who waits for it. Part of the state of a Typhon.Worker.
  #
  # A session begins when nothing of anybody else's runs there any more. One worker of the pool is reserved for a session that
  # finds none at rest: no further calls come, and it is the session's when those that it has have ended. The other workers are
  # only looked at, and the first one that is at rest has the session.
  #
  # Sessions are served in the order in which they asked. Ordinary calls that found every worker taken wait here, too; between
  # two sessions they get a moment in which the worker is everybody's, so that neither kind can starve the other. What they
  # send in that moment ends before the next session begins.

  alias Typhon.{Native, Session, Wire}
  alias Typhon.Worker.Data

  @moment 5
  @prune_at 64

  @enforce_keys [:native, :index]
  defstruct [
    :native,
    :index,
    # {ref, monitor, state}
    holder: nil,
    # whether calls pass it by: for the holder, else for the first of the queue
    reserved: false,
    # {ref, monitor, from}, the oldest first
    queue: :queue.new(),
    # callers of ordinary calls, each once: pid => from. They tell nobody when they stop waiting.
    awaiting: %{},
    prune_at: @prune_at,
    # what is over at the next tick: {its reference, :moment}, that of ordinary calls, or {its reference, pause} before another
    # look whether the worker is at rest
    tick: nil
  ]

  @type t :: %__MODULE__{}
  @type from :: :gen_statem.from()

  @typedoc "The channel of a worker that a session may have; nil: not now."
  @type channel :: Native.channel() | nil

  @doc "Of a worker that starts; a predecessor that was killed may have left its place reserved."
  @spec new(Native.pool(), non_neg_integer) :: t
  def new(native, index) do
    Native.pool_reserve(native, index, false)
    %__MODULE__{native: native, index: index}
  end

  @doc "Of a worker that is to have a place which still belongs to another one."
  @spec waiting(Native.pool(), non_neg_integer) :: t
  def waiting(native, index), do: %__MODULE__{native: native, index: index}

  @doc "The worker goes, another one has its place: who waits for it is to look for that one."
  @spec move(t) :: t
  def move(checkout) do
    for {_, monitor, from} <- :queue.to_list(checkout.queue) do
      Process.demonitor(monitor, [:flush])
      :gen_statem.reply(from, :moved)
    end

    checkout = if checkout.holder, do: checkout, else: open(checkout)
    for {_, from} <- checkout.awaiting, do: :gen_statem.reply(from, :ok)
    %{checkout | queue: :queue.new(), awaiting: %{}}
  end

  @doc "Whether the worker belongs to a session, or to the next one when it is at rest."
  @spec held?(t) :: boolean
  def held?(checkout), do: checkout.reserved

  @doc "An ordinary call waits until the worker is nobody's."
  @spec await(t, from) :: t
  def await(%{awaiting: awaiting} = checkout, {pid, _} = from) do
    checkout = %{checkout | awaiting: Map.put(awaiting, pid, from)}
    if map_size(checkout.awaiting) >= checkout.prune_at, do: prune(checkout), else: checkout
  end

  defp prune(checkout) do
    awaiting = Map.filter(checkout.awaiting, fn {pid, _} -> node(pid) != node() or Process.alive?(pid) end)
    %{checkout | awaiting: awaiting, prune_at: max(@prune_at, 2 * map_size(awaiting))}
  end

  @doc """
  A session asks for the worker. `:now` gets `:busy` when it would have to wait; `:reserve` keeps calls away from the worker
  while it waits, `:wait` does not.
  """
  @spec ask(t, from, reference, :now | :reserve | :wait, channel) :: t
  def ask(checkout, {pid, _} = from, ref, mode, channel) do
    cond do
      free?(checkout, channel) and :queue.is_empty(checkout.queue) and take(checkout, channel) ->
        grant(checkout, {ref, Process.monitor(pid), from})

      mode == :now ->
        :gen_statem.reply(from, :busy)
        checkout

      true ->
        checkout = %{checkout | queue: :queue.in({ref, Process.monitor(pid), from}, checkout.queue)}
        checkout = if mode == :reserve and free?(checkout, channel), do: reserve(checkout), else: checkout
        advance(checkout, channel)
    end
  end

  @doc "A session gives the worker back, or does not wait for it any more."
  @spec checkin(t, reference, channel) :: t
  def checkin(%{holder: {ref, _, _}} = checkout, ref, channel), do: release(checkout, channel)
  def checkin(checkout, ref, channel), do: remove(checkout, ref, 0, channel)

  @doc "A process that was monitored has ended."
  @spec down(t, reference, channel) :: t
  def down(%{holder: {_, monitor, state}} = checkout, monitor, channel) do
    Session.finish(state)
    release(checkout, channel)
  end

  def down(checkout, monitor, channel), do: remove(checkout, monitor, 1, channel)

  @doc "The moment of the ordinary calls is over, or it is time for another look."
  @spec tick(t, reference, channel) :: t
  def tick(%{tick: {tick, :moment}} = checkout, tick, channel), do: serve(%{checkout | tick: nil}, channel)

  def tick(%{tick: {tick, pause}} = checkout, tick, channel),
    do: advance(%{checkout | tick: nil}, channel, pause)

  def tick(checkout, _tick, _channel), do: checkout

  @doc "The Python has ended: its session is lost, those who wait go on waiting for the next one."
  @spec lost(t) :: t
  def lost(%{holder: nil} = checkout), do: open(checkout)

  def lost(%{holder: {_, monitor, state}} = checkout) do
    Process.demonitor(monitor, [:flush])
    Session.lose(state)
    open(%{checkout | holder: nil})
  end

  @doc "There will be no worker soon: whoever waits gets the error."
  @spec refuse(t, Exception.t()) :: t
  def refuse(checkout, error) do
    for {_, monitor, from} <- :queue.to_list(checkout.queue) do
      Process.demonitor(monitor, [:flush])
      :gen_statem.reply(from, {:error, error})
    end

    for {_, from} <- checkout.awaiting, do: :gen_statem.reply(from, {:error, error})
    %{checkout | queue: :queue.new(), awaiting: %{}}
  end

  @doc "The worker takes calls and is nobody's: who waits for it?"
  @spec serve(t, channel) :: t
  def serve(%{holder: nil, tick: tick} = checkout, channel)
      when channel != nil and (tick == nil or elem(tick, 1) != :moment) do
    had_calls = map_size(checkout.awaiting) > 0
    none_waits = :queue.is_empty(checkout.queue)
    # From one session to the next one the place stays reserved.
    checkout = if had_calls or none_waits, do: open(checkout), else: reserve(checkout)
    for {_, from} <- checkout.awaiting, do: :gen_statem.reply(from, :ok)
    checkout = %{checkout | awaiting: %{}, prune_at: @prune_at}

    cond do
      none_waits -> checkout
      had_calls -> tick_in(@moment, :moment, checkout)
      true -> advance(checkout, channel)
    end
  end

  def serve(checkout, _channel), do: checkout

  defp release(%{holder: {_, monitor, _}} = checkout, channel) do
    Process.demonitor(monitor, [:flush])
    checkout = %{checkout | holder: nil}
    if channel, do: serve(checkout, channel), else: open(checkout)
  end

  defp remove(checkout, key, position, channel) do
    {gone, rest} = checkout.queue |> :queue.to_list() |> Enum.split_with(&(elem(&1, position) == key))
    for {_, monitor, _} <- gone, do: Process.demonitor(monitor, [:flush])
    checkout = if gone == [], do: checkout, else: %{checkout | queue: :queue.from_list(rest)}

    # It was reserved for the one that is gone, perhaps; whoever comes next is to have it in any case.
    if checkout.reserved and gone != [] and (rest == [] or map_size(checkout.awaiting) > 0),
      do: serve(checkout, channel),
      else: checkout
  end

  # --- the first of the queue ---

  defp free?(checkout, channel),
    do: channel != nil and checkout.holder == nil and not match?({_, :moment}, checkout.tick)

  # It gets the worker when that is at rest.
  defp advance(checkout, channel, pause \\ nil) do
    cond do
      not free?(checkout, channel) or :queue.is_empty(checkout.queue) ->
        checkout

      take(checkout, channel) ->
        {{:value, next}, queue} = :queue.out(checkout.queue)
        grant(%{checkout | queue: queue}, next)

      # Somebody else's asking does not hurry it.
      checkout.tick != nil ->
        checkout

      true ->
        pause = if pause, do: Data.longer(pause), else: 1
        tick_in(pause, pause, checkout)
    end
  end

  # True: nothing runs there, and nothing will come, as its place is reserved.
  defp take(checkout, channel) do
    cond do
      not at_rest?(channel) ->
        false

      checkout.reserved ->
        true

      true ->
        # A call may have come just before.
        Native.pool_reserve(checkout.native, checkout.index, true)
        at_rest = at_rest?(channel)
        unless at_rest, do: Native.pool_reserve(checkout.native, checkout.index, false)
        at_rest
    end
  end

  # Coroutines that wait are calls in flight, and so is what nobody waits for any more until Python has ended it.
  defp at_rest?(channel), do: match?(%{in_flight: 0, casts: 0}, Native.channel_info(channel))

  defp grant(checkout, {ref, monitor, from}) do
    state = Session.new_state()
    {index, _, _, serial} = List.keyfind(Native.pool_info(checkout.native).places, checkout.index, 0)
    where = Wire.where(index, serial)
    :gen_statem.reply(from, {:ok, %{index: index, where: where, state: state}})
    %{checkout | holder: {ref, monitor, state}, reserved: true, tick: nil}
  end

  defp reserve(%{reserved: true} = checkout), do: checkout

  defp reserve(checkout) do
    Native.pool_reserve(checkout.native, checkout.index, true)
    %{checkout | reserved: true}
  end

  defp open(%{reserved: false} = checkout), do: checkout

  defp open(checkout) do
    Native.pool_reserve(checkout.native, checkout.index, false)
    %{checkout | reserved: false}
  end

  defp tick_in(pause, what, checkout) do
    tick = make_ref()
    Process.send_after(self(), {:typhon_checkout, tick}, pause)
    %{checkout | tick: {tick, what}}
  end
end
