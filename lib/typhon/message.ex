defmodule Typhon.Message do
  @moduledoc false
  # Messages to a worker's mailbox.

  alias Typhon.{Encoder, Native}

  @message 2

  @spec send(Native.pool() | nil, Native.where(), term, timeout) :: :ok | {:error, Typhon.Error.t()}
  def send(native, where, message, timeout) do
    ref = make_ref()

    case Native.tell(native, where, ref, @message, 0, message) do
      :ok ->
        :ok

      {:encoder} ->
        with {:ok, prepared} <- Encoder.Walk.prepare(message), do: send(native, where, prepared, timeout)

      {:cannot_encode, path, text} ->
        {:error, %Typhon.EncodeError{path: path, type: nil, reason: text}}

      {:room, channel} ->
        receive do
          {^ref, :room} -> send(native, where, message, timeout)
        after
          timeout ->
            Native.cancel_room(channel, ref)

            receive do
              {^ref, _} -> :ok
            after
              0 -> :ok
            end

            {:error, %Typhon.TimeoutError{timeout: timeout}}
        end

      {:down, reason} ->
        {:error, Typhon.Error.from_down(reason)}
    end
  end
end
