defmodule Typhon.Worker.LogWriter do
  @moduledoc false
  # An I/O device whose lines go to Logger. Logger makes whoever logs wait while its handlers are slow: that is this process, and
  # nobody else. It ends with the process that has started it; what it has not logged by then it does, but for a limit.

  require Logger

  @last_lines 1_000

  @spec start(keyword) :: {pid, reference}
  def start(metadata) do
    owner = self()

    spawn_monitor(fn ->
      loop(%{owner: owner, monitor: Process.monitor(owner), metadata: metadata, left: @last_lines})
    end)
  end

  @doc "Runs a function that logs. `dropped`: so many before it never came here."
  @spec log(pid, reference, (() -> term), non_neg_integer) :: :ok
  def log(writer, ref, fun, dropped) do
    send(writer, {:log, self(), ref, fun, dropped})
    :ok
  end

  defp loop(%{monitor: monitor, metadata: metadata} = state) do
    receive do
      {:io_request, from, ref, {:put_chars, :unicode, chars}} ->
        state = write(lines(chars), state)
        send(from, {:io_reply, ref, :ok})
        loop(state)

      {:log, from, ref, fun, dropped} ->
        if dropped > 0,
          do: Logger.warning("#{dropped} records of Python's were dropped: Logger is too slow", metadata)

        fun.()
        send(from, {:io_reply, ref, :ok})
        loop(state)

      {:DOWN, ^monitor, :process, _, _} ->
        :ok
    end
  end

  # A request may hold a hundred thousand lines.
  defp write([line | rest], %{left: left} = state) when left > 0 do
    Logger.info(line, state.metadata)
    write(rest, if(Process.alive?(state.owner), do: state, else: %{state | left: left - 1}))
  end

  defp write(_lines, state), do: state

  defp lines(chars), do: chars |> :binary.split("\n", [:global]) |> Enum.drop(-1)
end
