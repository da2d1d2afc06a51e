defmodule Typhon.Worker.Output do
  @moduledoc false
  # What a worker's Python prints: puts lines together, remembers the last ones for error reports, and passes them on.
  #
  # An I/O device may be slow, hang or be dead, and the worker must not wait for it. So lines go out as requests of the Erlang
  # I/O protocol that nobody waits for. A few may be unanswered; while they are, lines collect here and then go out together;
  # beyond a bound they are dropped, and the next line that comes through says how many.

  require Logger

  @kept_lines 20
  @kept_line_bytes 2_000
  # A line without an end is passed on in pieces of this size, marked as such.
  @max_line 1_048_576
  @max_requests 4
  @max_waiting_bytes 1_048_576

  defstruct target: :discard,
            metadata: [],
            monitor: nil,
            requests: MapSet.new(),
            waiting: [],
            waiting_bytes: 0,
            dropped: 0,
            partial: [],
            partial_bytes: 0,
            kept: :queue.new(),
            kept_count: 0

  @type t :: %__MODULE__{}
  @type target :: pid | :logger | :discard

  @spec new(target | :caller, keyword) :: t
  # What is printed in nobody's name.
  def new(:caller, metadata), do: new(:logger, metadata)

  def new(target, metadata) do
    monitor = if is_pid(target), do: Process.monitor(target)
    %__MODULE__{target: target, metadata: metadata, monitor: monitor}
  end

  @doc "What a Port opened with {:line, n} delivers."
  @spec data(t, {:eol | :noeol, binary}) :: t
  def data(output, {:eol, bytes}) do
    line = IO.iodata_to_binary([output.partial, bytes])
    line(%{output | partial: [], partial_bytes: 0}, String.trim_trailing(line, "\r"))
  end

  def data(output, {:noeol, bytes}) do
    size = output.partial_bytes + byte_size(bytes)
    output = %{output | partial: [output.partial, bytes], partial_bytes: size}

    if size >= @max_line do
      line = IO.iodata_to_binary([output.partial, " … (the line goes on)"])
      line(%{output | partial: [], partial_bytes: 0}, line)
    else
      output
    end
  end

  @doc "Text with line ends, which came by another way than the Port."
  @spec text(t, String.t()) :: t
  def text(output, text) do
    text |> String.split("\n") |> drop_last_empty() |> Enum.reduce(output, &line(&2, &1))
  end

  @doc "The last lines of what was printed, after those that came before."
  @spec last_lines([String.t()], String.t()) :: [String.t()]
  def last_lines(before, text),
    do: Enum.take(before ++ (text |> String.split("\n") |> drop_last_empty()), -@kept_lines)

  defp drop_last_empty(lines), do: if(List.last(lines) == "", do: Enum.drop(lines, -1), else: lines)

  @doc "The process has ended: what is left is a line, too. Lines of the next process start afresh."
  @spec flush(t) :: t
  def flush(%{partial_bytes: 0} = output), do: output
  def flush(output), do: data(output, {:eol, ""})

  @doc "The last lines, oldest first."
  @spec tail(t) :: [String.t()]
  def tail(output), do: :queue.to_list(output.kept)

  @doc "Sends what still waits, whether the I/O device keeps up or not: the worker ends."
  @spec drain(t) :: t
  def drain(%{target: target} = output) when is_pid(target),
    do: send_waiting(%{output | requests: MapSet.new()})

  def drain(output), do: output

  @doc "Forgets the last lines: a new process starts."
  @spec reset(t) :: t
  def reset(output), do: %{output | kept: :queue.new(), kept_count: 0}

  @doc "The answer to an I/O request, or the end of the I/O device. :unknown when the message is of another kind."
  @spec message(t, term) :: t | :unknown
  def message(output, {:io_reply, ref, _result}) do
    if MapSet.member?(output.requests, ref) do
      send_waiting(%{output | requests: MapSet.delete(output.requests, ref)})
    else
      :unknown
    end
  end

  def message(%{monitor: monitor} = output, {:DOWN, monitor, :process, _pid, _reason})
      when is_reference(monitor) do
    waiting = Enum.reverse(output.waiting)

    output = %{
      output
      | target: :logger,
        monitor: nil,
        requests: MapSet.new(),
        waiting: [],
        waiting_bytes: 0
    }

    Enum.reduce(waiting, output, &deliver(&2, &1))
  end

  def message(_output, _message), do: :unknown

  defp line(output, bytes) do
    text = printable(bytes)
    output |> keep(text) |> deliver(text)
  end

  defp keep(output, text) do
    kept =
      if byte_size(text) > @kept_line_bytes,
        do: String.slice(text, 0, @kept_line_bytes) <> " …",
        else: text

    queue = :queue.in(kept, output.kept)

    if output.kept_count < @kept_lines,
      do: %{output | kept: queue, kept_count: output.kept_count + 1},
      else: %{output | kept: :queue.drop(queue)}
  end

  defp deliver(%{target: :discard} = output, _text), do: output

  defp deliver(%{target: :logger} = output, text) do
    Logger.info(text, output.metadata)
    output
  end

  defp deliver(%{waiting_bytes: size} = output, _text) when size > @max_waiting_bytes,
    do: %{output | dropped: output.dropped + 1}

  defp deliver(output, text) do
    send_waiting(%{
      output
      | waiting: [text | output.waiting],
        waiting_bytes: output.waiting_bytes + byte_size(text)
    })
  end

  defp send_waiting(%{waiting: []} = output), do: output

  defp send_waiting(output) do
    if MapSet.size(output.requests) < @max_requests do
      ref = make_ref()
      lines = output.waiting |> Enum.reverse() |> Enum.map(&[&1, ?\n])
      chars = IO.iodata_to_binary([lines, dropped(output.dropped)])
      send(output.target, {:io_request, self(), ref, {:put_chars, :unicode, chars}})

      %{
        output
        | requests: MapSet.put(output.requests, ref),
          waiting: [],
          waiting_bytes: 0,
          dropped: 0
      }
    else
      output
    end
  end

  defp dropped(0), do: []

  defp dropped(count),
    do: "… #{count} lines of output were dropped: the I/O device is too slow\n"

  # Python may print any bytes; an I/O device takes characters.
  defp printable(bytes) do
    if String.valid?(bytes), do: bytes, else: bytes |> escape([]) |> IO.iodata_to_binary()
  end

  defp escape(<<char::utf8, rest::binary>>, acc), do: escape(rest, [acc, <<char::utf8>>])

  defp escape(<<byte, rest::binary>>, acc),
    do: escape(rest, [acc, "\\x", Base.encode16(<<byte>>, case: :lower)])

  defp escape(<<>>, acc), do: acc
end
