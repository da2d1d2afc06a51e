defmodule Typhon.Worker.Backlog do
  @moduledoc false
  # Messages for Python's mailbox on their way through the worker's process, which must not be held up: those that find no room
  # in the ring wait here, in order, as they would in any process' mailbox. They belong to one Python: the next one does not get
  # them.

  alias Typhon.{Message, Native}
  alias Typhon.Worker.Printer

  # In the dictionary of the worker's process: {channel, the reference of its turn, what waits}.
  @waiting {__MODULE__, :waiting}

  @doc "A message that was sent to the worker's process."
  @spec forward(Native.channel(), term) :: :ok
  def forward(channel, message) do
    case Process.get(@waiting) do
      {^channel, ref, queue} ->
        Process.put(@waiting, {channel, ref, :queue.in(message, queue)})
        :ok

      _ ->
        offer(channel, message, :queue.new())
    end
  end

  # How many may wait while Python goes on sending to itself.
  @short 1_024
  # In the dictionary: what is done when fewer wait.
  @wanted {__MODULE__, :wanted}

  @doc "Does it now, or when few messages wait."
  @spec when_short((() -> term)) :: :ok
  def when_short(fun) do
    case Process.get(@waiting) do
      {_channel, _ref, queue} ->
        if :queue.len(queue) > @short,
          do: Process.put(@wanted, [fun | Process.get(@wanted, [])]),
          else: fun.()

      nil ->
        fun.()
    end

    :ok
  end

  @doc "There may be room now."
  @spec room(reference) :: :ok
  def room(ref) do
    case Process.get(@waiting) do
      {channel, ^ref, queue} ->
        Process.delete(@waiting)
        next(channel, queue)
        for wanted <- Process.delete(@wanted) || [], do: when_short(wanted)
        :ok

      _ ->
        :ok
    end
  end

  defp next(channel, queue) do
    case :queue.out(queue) do
      {{:value, message}, queue} -> offer(channel, message, queue)
      {:empty, _} -> :ok
    end
  end

  defp offer(channel, message, behind) do
    ref = make_ref()

    case Message.offer(Message.to_mailbox(nil, channel), ref, message) do
      :ok ->
        next(channel, behind)

      {:room, _channel} ->
        Process.put(@waiting, {channel, ref, :queue.in_r(message, behind)})
        :ok

      # Its Python has ended, and what was meant for it goes with it.
      {:error, %{__struct__: struct}} when struct in [Typhon.WorkerError, Typhon.PoolError] ->
        Process.delete(@wanted)
        :ok

      {:error, error} ->
        Printer.warning("a message to a worker was dropped: " <> Exception.message(error))
        next(channel, behind)
    end
  end
end
