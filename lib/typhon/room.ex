defmodule Typhon.Room do
  @moduledoc false
  # A request that does not fit into the memory of its worker yet: the native library answered {:room, channel}, and sends
  # {ref, :room} when it is worth another try, or when the channel has been closed.

  alias Typhon.Native

  @spec wait(Native.channel(), reference, timeout) :: :room | :timeout
  def wait(channel, ref, timeout) do
    receive do
      {^ref, :room} -> :room
    after
      timeout ->
        forget(channel, ref)
        :timeout
    end
  end

  @doc "On return no message comes any more."
  @spec forget(Native.channel(), reference) :: :ok
  def forget(channel, ref) do
    Native.cancel_room(channel, ref)

    receive do
      {^ref, :room} -> :ok
    after
      0 -> :ok
    end
  end
end
