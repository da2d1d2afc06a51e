defmodule Pythonx.FromPython do
  @moduledoc false
  # What Python calls. It runs in the process whose evaluation this is; for a thread that has none any more in one of its own.

  require Logger

  # A device that took nothing for so long is not waited for again.
  @patience 5_000

  @doc "Text for a device, which may be on another node. Waits until it is written: what is printed comes in order."
  @spec write(pid, String.t()) :: nil
  def write(device, text) do
    # Whoever evaluates and is the device reads its mailbox later.
    patience = if device == self() or Process.get({__MODULE__, device}), do: 0, else: @patience
    monitor = Process.monitor(device)
    send(device, {:io_request, self(), monitor, {:put_chars, :unicode, text}})

    receive do
      {:io_reply, ^monitor, :ok} -> :ok
      {:io_reply, ^monitor, _} -> Logger.info(text)
      {:DOWN, ^monitor, :process, _, _} -> Logger.info(text)
    after
      patience -> Process.put({__MODULE__, device}, :hangs)
    end

    Process.demonitor(monitor, [:flush])
    nil
  end

  @doc "What pythonx.send_tagged_object sends."
  @spec send_object(pid, String.t(), Typhon.Object.t()) :: nil
  def send_object(pid, tag, object) do
    send(pid, {String.to_atom(tag), Pythonx.Object.new(object)})
    nil
  end
end
