defmodule Typhon.Worker.Asked do
  @moduledoc false
  # Questions and statements of Python that no waiting caller is there for: of casts, of threads and handlers of its own, of a call
  # that was given up. They reach the worker's process. It must not be held up, so each question is answered by a process of
  # its own, which ends with the worker's.

  require Logger

  alias Typhon.{Conversation, Native}
  alias Typhon.Worker.Output

  @doc "What the native library brought; the new state of the output when something was to be printed."
  @spec handle(Native.channel(), {non_neg_integer, Conversation.ask()}, map, Output.t(), Native.pool()) ::
          Output.t()
  def handle(_channel, {_id, {:ask, 0, {:ok, {:print, text}}}}, _config, output, _native)
      when is_binary(text),
      do: Output.text(output, text)

  # The caller has given up, so nobody wants to know.
  def handle(channel, {id, {:ask, tag, _}}, config, output, native) when id != 0 and tag != 0 do
    owner = self()

    spawn_link(fn ->
      Conversation.refuse({:ask, tag, nil}, context(channel, config, output, native, nil))
      collect(owner)
    end)

    output
  end

  def handle(channel, {_id, {:ask, 0, {:ok, _}} = ask}, config, output, native) do
    Conversation.handle(ask, context(channel, config, output, native, self()))
    output
  end

  def handle(channel, {_id, ask}, config, output, native) do
    owner = self()

    spawn(fn ->
      # The end of the worker's process ends this one; a crash in here does not end that.
      Process.link(owner)
      collect(owner)
      Process.flag(:trap_exit, false)
      Conversation.handle(ask, context(channel, config, output, native, owner))
      Process.unlink(owner)
    end)

    output
  end

  @doc "A message of Python to a process that the native library did not deliver: for another node."
  @spec deliver(Native.reply()) :: :ok
  def deliver({:ok, {pid, message}}) when is_pid(pid) do
    send(pid, message)
    :ok
  end

  # A thread of the native library's could not make it.
  def deliver({:segment, handle}) do
    handle |> Native.decode() |> deliver()
    owner = self()
    spawn(fn -> collect(owner) end)
    :ok
  end

  def deliver(other) do
    Logger.warning("a message from a worker could not be delivered: #{inspect(other)}")
    :ok
  end

  # An idle process keeps its garbage: here handles of Python's objects, and shared memory.
  defp collect(owner), do: :erlang.garbage_collect(owner, async: make_ref(), type: :minor)

  defp context(channel, config, output, native, owner) do
    %{
      native: native,
      where: channel,
      owner: owner,
      args: [],
      kwargs: %{},
      deadline: :infinity,
      stdio: output.target,
      allow: config.allow,
      metadata: output.metadata
    }
  end
end
