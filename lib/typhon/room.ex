defmodule Typhon.Room do
  @moduledoc false
  # A request that does not fit into the memory of its worker yet: the native library answered {:room, channel}, and sends
  # {ref, :room} when it is worth another try, or when the channel has been closed.

  alias Typhon.{Native, Worker}

  # Who has waited for so many milliseconds has the worker looked at; and again after as many. One that has been stopped makes
  # no room in all eternity.
  @look_after 5_000

  @spec wait(Native.channel(), reference, timeout) :: :room | :timeout
  def wait(channel, ref, timeout) do
    receive do
      {^ref, :room} -> :room
    after
      min(timeout, @look_after) ->
        Worker.look(Native.channel_info(channel).owner)

        if timeout <= @look_after do
          forget(channel, ref)
          :timeout
        else
          wait(channel, ref, if(timeout == :infinity, do: :infinity, else: timeout - @look_after))
        end
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
