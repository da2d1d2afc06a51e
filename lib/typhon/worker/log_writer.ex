defmodule Typhon.Worker.LogWriter do
  @moduledoc false
  # An I/O device whose lines go to Logger. Logger makes whoever logs wait while its handlers are slow: that is this process, and
  # nobody else. It ends with the process that has started it, after it has logged what it was given before.

  require Logger

  @spec start(keyword) :: {pid, reference}
  def start(metadata) do
    owner = self()
    spawn_monitor(fn -> loop(Process.monitor(owner), metadata) end)
  end

  @doc "Runs a function that logs. `dropped`: so many before it never came here."
  @spec log(pid, reference, (() -> term), non_neg_integer) :: :ok
  def log(writer, ref, fun, dropped) do
    send(writer, {:log, self(), ref, fun, dropped})
    :ok
  end

  defp loop(owner, metadata) do
    receive do
      {:io_request, from, ref, {:put_chars, :unicode, chars}} ->
        for line <- lines(chars), do: Logger.info(line, metadata)
        done(from, ref, owner, metadata)

      {:log, from, ref, fun, dropped} ->
        if dropped > 0,
          do: Logger.warning("#{dropped} records of Python's were dropped: Logger is too slow", metadata)

        fun.()
        done(from, ref, owner, metadata)

      {:DOWN, ^owner, :process, _, _} ->
        :ok
    end
  end

  defp done(from, ref, owner, metadata) do
    send(from, {:io_reply, ref, :ok})
    loop(owner, metadata)
  end

  defp lines(chars), do: chars |> :binary.split("\n", [:global]) |> Enum.drop(-1)
end
