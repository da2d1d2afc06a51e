defmodule Typhon.Worker.Checkout do
  @moduledoc false
  # Who has a worker for itself (Typhon.run/3), and who waits for it. Part of the state of a Typhon.Worker.
  #
  # Sessions are served in the order in which they asked. Ordinary calls that found every worker taken wait here, too; between
  # two sessions they get a moment in which the worker is everybody's, so that neither kind can starve the other. What they
  # send in that moment is in the worker's queue before the next session's first call.

  alias Typhon.{Native, Session, Wire}

  @moment 5
  @prune_at 64

  @enforce_keys [:native, :index]
  defstruct [
    :native,
    :index,
    # {ref, monitor, state}
    holder: nil,
    # {ref, monitor, from}, the oldest first
    queue: :queue.new(),
    # callers of ordinary calls, each once: pid => from. They tell nobody when they stop waiting.
    awaiting: %{},
    prune_at: @prune_at,
    # the reference of the moment that is given to ordinary calls
    moment: nil
  ]

  @type t :: %__MODULE__{}
  @type from :: :gen_statem.from()

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

    for {_, from} <- checkout.awaiting, do: :gen_statem.reply(from, :ok)
    %{checkout | queue: :queue.new(), awaiting: %{}}
  end

  @doc "Whether the worker belongs to a session."
  @spec held?(t) :: boolean
  def held?(checkout), do: checkout.holder != nil

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

  @doc "A session asks for the worker. `:now` gets `:busy` when it would have to wait."
  @spec ask(t, from, reference, :now | :wait, boolean) :: t
  def ask(checkout, {pid, _} = from, ref, mode, ready?) do
    cond do
      ready? and checkout.holder == nil and checkout.moment == nil and :queue.is_empty(checkout.queue) ->
        grant(checkout, {ref, Process.monitor(pid), from})

      mode == :now ->
        :gen_statem.reply(from, :busy)
        checkout

      true ->
        %{checkout | queue: :queue.in({ref, Process.monitor(pid), from}, checkout.queue)}
    end
  end

  @doc "A session gives the worker back, or does not wait for it any more."
  @spec checkin(t, reference, boolean) :: t
  def checkin(%{holder: {ref, _, _}} = checkout, ref, ready?), do: release(checkout, ready?)
  def checkin(checkout, ref, _ready?), do: remove(checkout, ref, 0)

  @doc "A process that was monitored has ended. nil: it was none of these."
  @spec down(t, reference, boolean) :: t
  def down(%{holder: {_, monitor, state}} = checkout, monitor, ready?) do
    Session.finish(state)
    release(checkout, ready?)
  end

  def down(checkout, monitor, _ready?), do: remove(checkout, monitor, 1)

  @doc "The moment of the ordinary calls is over."
  @spec moment_over(t, reference, boolean) :: t
  def moment_over(%{moment: moment} = checkout, moment, ready?) do
    checkout = %{checkout | moment: nil}
    if ready?, do: serve(checkout), else: checkout
  end

  def moment_over(checkout, _moment, _ready?), do: checkout

  @doc "The Python has ended: its session is lost, those who wait go on waiting for the next one."
  @spec lost(t) :: t
  def lost(%{holder: nil} = checkout), do: checkout

  def lost(%{holder: {_, monitor, state}} = checkout) do
    Process.demonitor(monitor, [:flush])
    Session.lose(state)
    Native.pool_reserve(checkout.native, checkout.index, false)
    %{checkout | holder: nil}
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
  @spec serve(t) :: t
  def serve(%{holder: nil, moment: nil} = checkout) do
    had_calls = map_size(checkout.awaiting) > 0
    for {_, from} <- checkout.awaiting, do: :gen_statem.reply(from, :ok)
    checkout = %{checkout | awaiting: %{}, prune_at: @prune_at}

    case :queue.out(checkout.queue) do
      {:empty, _} ->
        checkout

      {{:value, _}, _} when had_calls ->
        moment = make_ref()
        Process.send_after(self(), {:typhon_moment, moment}, @moment)
        %{checkout | moment: moment}

      {{:value, next}, queue} ->
        grant(%{checkout | queue: queue}, next)
    end
  end

  def serve(checkout), do: checkout

  defp release(%{holder: {_, monitor, _}} = checkout, ready?) do
    Process.demonitor(monitor, [:flush])
    checkout = %{checkout | holder: nil}

    # From one session to the next one the place stays reserved.
    if map_size(checkout.awaiting) > 0 or :queue.is_empty(checkout.queue) or not ready?,
      do: Native.pool_reserve(checkout.native, checkout.index, false)

    if ready?, do: serve(checkout), else: checkout
  end

  defp grant(checkout, {ref, monitor, from}) do
    Native.pool_reserve(checkout.native, checkout.index, true)
    state = Session.new_state()

    {index, _, _, serial} = List.keyfind(Native.pool_info(checkout.native).places, checkout.index, 0)
    where = Wire.where(index, serial)
    :gen_statem.reply(from, {:ok, %{index: index, where: where, state: state}})
    %{checkout | holder: {ref, monitor, state}}
  end

  defp remove(checkout, key, position) do
    {gone, rest} = checkout.queue |> :queue.to_list() |> Enum.split_with(&(elem(&1, position) == key))
    for {_, monitor, _} <- gone, do: Process.demonitor(monitor, [:flush])
    if gone == [], do: checkout, else: %{checkout | queue: :queue.from_list(rest)}
  end
end
