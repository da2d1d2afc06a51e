defmodule PortEcho do
  @moduledoc """
  The port floor: the same operations as `Typhon.call`, through a port to a C program that only echoes.

  A call sends `{module, function, args}` as External Term Format and gets the same term back. Two ways to use it, each
  the fastest that a careful user would write:

    * `open/0` and `call/2`: the calling process owns the port and waits for its answer. No other process is involved.
    * `start_link/1` and `share/2`: many callers on one port. A port has one owner, so a process stands between: it
      sends each request on and keeps the callers in a queue, for the program answers in order. Encoding and decoding
      stay in the callers, where they run in parallel; the owner moves binaries only.
  """
  use GenServer

  @program Path.expand("_build/bench/echo")

  def open, do: Port.open({:spawn_executable, @program}, [:binary, {:packet, 4}])

  def call(port, term) do
    Port.command(port, :erlang.term_to_binary(term))

    receive do
      {^port, {:data, data}} -> :erlang.binary_to_term(data)
    end
  end

  @doc "One binary there and back, without a term around it."
  def echo(port, binary) do
    Port.command(port, binary)

    receive do
      {^port, {:data, data}} -> data
    end
  end

  def close(port), do: Port.close(port)

  def start_link(_), do: GenServer.start_link(__MODULE__, [])

  def share(owner, term) do
    owner |> GenServer.call(:erlang.term_to_binary(term), :infinity) |> :erlang.binary_to_term()
  end

  @impl true
  def init(_), do: {:ok, {open(), :queue.new()}}

  @impl true
  def handle_call(request, from, {port, waiting}) do
    Port.command(port, request)
    {:noreply, {port, :queue.in(from, waiting)}}
  end

  @impl true
  def handle_info({port, {:data, data}}, {port, waiting}) do
    {{:value, from}, waiting} = :queue.out(waiting)
    GenServer.reply(from, data)
    {:noreply, {port, waiting}}
  end
end
