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
        state = write(chars, state)
        send(from, {:io_reply, ref, :ok})
        loop(state)

      {:log, from, ref, fun, dropped} ->
        if dropped > 0,
          do:
            Logger.warning("records of Python's that were dropped: #{dropped}. Logger is too slow", metadata)

        fun.()
        send(from, {:io_reply, ref, :ok})
        loop(state)

      {:DOWN, ^monitor, :process, _, _} ->
        :ok
    end
  end

  # A request may hold half a million lines: cut off one by one, they take no memory.
  defp write(chars, %{left: left} = state) when left > 0 do
    case :binary.split(chars, "\n") do
      [line, rest] ->
        Logger.info(line, state.metadata)
        write(rest, if(Process.alive?(state.owner), do: state, else: %{state | left: left - 1}))

      [_after_the_last] ->
        state
    end
  end

  defp write(_chars, state), do: state
end
