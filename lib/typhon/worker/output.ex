defmodule Typhon.Worker.Output do
  @moduledoc false
  # What a worker's Python prints: puts lines together, remembers the last ones for error reports, and passes them on. Part of
  # the state of a Typhon.Worker.Printer.
  #
  # An I/O device may be slow, hang or be dead, and so may Logger, and nobody must wait for them here. So lines go out as
  # requests of the Erlang I/O protocol that nobody waits for; Logger has a process that takes such requests (LogWriter). A few
  # may be unanswered; while they are, lines collect here and then go out together. When enough of them have, `full?/1` says so.
  # Beyond a bound they are dropped, and the next line that comes through says how many.

  alias Typhon.Worker.LogWriter

  @kept_lines 20
  @kept_characters 2_000
  @kept_bytes 4 * @kept_characters
  # A line without an end is passed on in pieces of this size, marked as such.
  @max_line 1_048_576
  @max_requests 4
  @enough_waiting_bytes 262_144
  @max_waiting_bytes 1_048_576
  # What is for Logger, and it has not taken. Python waits with fewer (kMostStatements, native/channel/layout.h); what others
  # bring, and what comes while Logger hangs, is bounded by this.
  @max_records 2_048
  @digits List.to_tuple(~c"0123456789abcdef")

  defstruct target: :discard,
            metadata: [],
            monitor: nil,
            # what stands for Logger, and its monitor, once something is to be logged
            writer: nil,
            requests: MapSet.new(),
            waiting: [],
            waiting_bytes: 0,
            dropped: 0,
            # who is to be told when it was logged, by its request
            records: %{},
            dropped_records: 0,
            partial: [],
            partial_bytes: 0,
            # the newest first, as they came
            kept: []

  @type t :: %__MODULE__{}
  @type target :: pid | :logger | :discard

  @doc "The target of what is printed in nobody's name."
  @spec target(target | :caller) :: target
  def target(:caller), do: :logger
  def target(target), do: target

  @spec new(target | :caller, keyword) :: t
  def new(stdio, metadata) do
    target = target(stdio)
    monitor = if is_pid(target), do: Process.monitor(target)
    %__MODULE__{target: target, metadata: metadata, monitor: monitor}
  end

  @doc "A piece of what came by the pipe."
  @spec data(t, binary) :: t
  def data(output, bytes) do
    case last_ends(bytes, 1) do
      [] ->
        unfinished(output, bytes)

      ends ->
        size = List.last(ends) + 1
        <<lines::binary-size(size), rest::binary>> = bytes
        lines = IO.iodata_to_binary([output.partial, lines])
        %{output | partial: [], partial_bytes: 0} |> lines(lines) |> unfinished(rest)
    end
  end

  @doc "Text with line ends, which came by another way than the pipe."
  @spec text(t, String.t()) :: t
  def text(output, ""), do: output

  def text(output, text),
    do: lines(output, if(String.ends_with?(text, "\n"), do: text, else: text <> "\n"))

  @doc "The last lines of what was printed, after those that came before."
  @spec last_lines([String.t()], String.t()) :: [String.t()]
  def last_lines(before, text),
    do: Enum.take(before ++ (text |> String.split("\n") |> drop_last_empty()), -@kept_lines)

  defp drop_last_empty(lines), do: if(List.last(lines) == "", do: Enum.drop(lines, -1), else: lines)

  @doc "The process has ended: what is left is a line, too. Lines of the next process start afresh."
  @spec flush(t) :: t
  def flush(%{partial_bytes: 0} = output), do: output
  def flush(output), do: data(output, "\n")

  @doc "The last lines, oldest first."
  @spec tail(t) :: [String.t()]
  def tail(output), do: output.kept |> Enum.reverse() |> Enum.map(&shortened/1)

  @doc "Whether so much waits for the I/O device that no more should be taken in."
  @spec full?(t) :: boolean
  def full?(output), do: output.waiting_bytes >= @enough_waiting_bytes

  @doc "Whether Logger has what it was given."
  @spec logged?(t) :: boolean
  def logged?(%{target: :logger} = output),
    do: output.records == %{} and MapSet.size(output.requests) == 0 and output.waiting == []

  def logged?(output), do: output.records == %{}

  @doc "Whether Logger was given records that it has not taken."
  @spec records?(t) :: boolean
  def records?(output), do: output.records != %{}

  @doc "Sends what still waits, whether the I/O device keeps up or not: the worker ends."
  @spec drain(t) :: t
  def drain(output), do: send_now(output)

  @doc "Forgets the last lines: a new process starts."
  @spec reset(t) :: t
  def reset(output), do: %{output | kept: []}

  @doc """
  Something for Logger: the function logs it, in the process that stands for Logger. `taken` runs when it has. Dropped when that
  has too much to do, or hangs.
  """
  @spec log(t, (() -> term), (() -> term), boolean) :: t
  def log(output, fun, taken, hangs) do
    if hangs or map_size(output.records) >= @max_records do
      taken.()
      %{output | dropped_records: output.dropped_records + 1}
    else
      to_logger(output, fun, taken)
    end
  end

  defp to_logger(output, fun, taken) do
    output = with_writer(output)
    ref = make_ref()
    {writer, _} = output.writer
    LogWriter.log(writer, ref, fun, output.dropped_records)
    %{output | records: Map.put(output.records, ref, taken), dropped_records: 0}
  end

  @doc "Logger hangs: nobody waits for what it has not taken."
  @spec let_go(t) :: t
  def let_go(output) do
    for {_ref, taken} <- output.records, do: taken.()
    %{output | records: Map.new(output.records, fn {ref, _taken} -> {ref, &nothing/0} end)}
  end

  defp nothing, do: :ok

  @doc "The answer to a request, or the end of the I/O device. :unknown when the message is of another kind."
  @spec message(t, term) :: t | :unknown
  def message(output, {:io_reply, ref, _result}) do
    cond do
      MapSet.member?(output.requests, ref) ->
        send_waiting(%{output | requests: MapSet.delete(output.requests, ref)})

      is_map_key(output.records, ref) ->
        {taken, records} = Map.pop!(output.records, ref)
        taken.()
        count_dropped(%{output | records: records})

      true ->
        :unknown
    end
  end

  def message(%{monitor: monitor} = output, {:DOWN, monitor, :process, _pid, _reason})
      when is_reference(monitor),
      do: send_waiting(%{output | target: :logger, monitor: nil, requests: MapSet.new()})

  # Somebody has killed it.
  def message(%{writer: {_, monitor}} = output, {:DOWN, monitor, :process, _pid, _reason}) do
    requests = if output.target == :logger, do: MapSet.new(), else: output.requests
    count_dropped(send_waiting(%{let_go(output) | writer: nil, records: %{}, requests: requests}))
  end

  def message(_output, _message), do: :unknown

  # Also when nothing comes after them.
  defp count_dropped(%{dropped_records: 0} = output), do: output
  defp count_dropped(output), do: to_logger(output, &nothing/0, &nothing/0)

  # --- lines ---

  # Where lines end: at least the last `count` of them, if there are so many.
  defp last_ends(bytes, count, window \\ 1_024) do
    window = min(window, byte_size(bytes))
    found = :binary.matches(bytes, "\n", scope: {byte_size(bytes), -window})

    if length(found) >= count or window == byte_size(bytes),
      do: Enum.map(found, &elem(&1, 0)),
      else: last_ends(bytes, count, 4 * window)
  end

  defp unfinished(output, ""), do: output

  # A copy: what is left of a large piece does not keep the whole.
  defp unfinished(output, bytes) do
    size = output.partial_bytes + byte_size(bytes)
    output = %{output | partial: [output.partial, :binary.copy(bytes)], partial_bytes: size}

    if size >= @max_line do
      lines = IO.iodata_to_binary([output.partial, " … (the line goes on)\n"])
      lines(%{output | partial: [], partial_bytes: 0}, lines)
    else
      output
    end
  end

  # Whole lines. They are not looked at one by one: there may be very many.
  defp lines(output, lines) do
    lines = without_returns(lines)
    output |> keep(lines) |> deliver(lines)
  end

  # Of a terminal's lines.
  defp without_returns(lines) do
    # One byte is found many times faster than two.
    if :binary.match(lines, "\r") == :nomatch,
      do: lines,
      else: :binary.replace(lines, "\r\n", "\n", [:global])
  end

  defp keep(output, lines) do
    # The end of the line before the first one, and -1 when that is the very first.
    ends = Enum.take([-1 | last_ends(lines, @kept_lines + 1)], -@kept_lines - 1)

    kept =
      ends
      |> Enum.zip(tl(ends))
      |> Enum.reduce(output.kept, fn {before, last}, kept ->
        size = min(last - before - 1, @kept_bytes)
        [lines |> binary_part(before + 1, size) |> :binary.copy() | kept]
      end)

    %{output | kept: Enum.take(kept, @kept_lines)}
  end

  defp shortened(line) do
    text = printable(line)

    if byte_size(text) > @kept_characters,
      do: String.slice(text, 0, @kept_characters) <> " …",
      else: text
  end

  # --- passing on ---

  defp deliver(%{target: :discard} = output, _lines), do: output

  defp deliver(%{waiting_bytes: size} = output, lines) when size > @max_waiting_bytes,
    do: %{output | dropped: count_lines(lines, output.dropped)}

  defp deliver(output, lines) do
    text = printable(lines)
    waiting = [text | output.waiting]
    send_waiting(%{output | waiting: waiting, waiting_bytes: output.waiting_bytes + byte_size(text)})
  end

  defp count_lines(<<?\n, rest::binary>>, count), do: count_lines(rest, count + 1)
  defp count_lines(<<_, rest::binary>>, count), do: count_lines(rest, count)
  defp count_lines(<<>>, count), do: count

  defp send_waiting(output),
    do: if(MapSet.size(output.requests) < @max_requests, do: send_now(output), else: output)

  defp send_now(%{waiting: [], dropped: 0} = output), do: output

  defp send_now(output) do
    ref = make_ref()
    output = if output.target == :logger, do: with_writer(output), else: output
    chars = IO.iodata_to_binary([Enum.reverse(output.waiting), dropped(output.dropped)])
    send(device(output), {:io_request, self(), ref, {:put_chars, :unicode, chars}})
    requests = MapSet.put(output.requests, ref)
    %{output | requests: requests, waiting: [], waiting_bytes: 0, dropped: 0}
  end

  defp device(%{target: :logger, writer: {writer, _}}), do: writer
  defp device(%{target: target}), do: target

  defp with_writer(%{writer: nil} = output), do: %{output | writer: LogWriter.start(output.metadata)}
  defp with_writer(output), do: output

  defp dropped(0), do: []

  defp dropped(count),
    do: "… #{count} lines of output were dropped: the I/O device is too slow\n"

  # Python may print any bytes; an I/O device takes characters.
  defp printable(bytes), do: if(String.valid?(bytes), do: bytes, else: escape(bytes, ""))

  defp escape(<<char::utf8, rest::binary>>, acc), do: escape(rest, <<acc::binary, char::utf8>>)

  defp escape(<<high::4, low::4, rest::binary>>, acc),
    do: escape(rest, <<acc::binary, "\\x", elem(@digits, high), elem(@digits, low)>>)

  defp escape(<<>>, acc), do: acc
end
