defmodule Typhon.Message do
  @moduledoc false
  # Messages to a worker's mailbox.

  alias Typhon.{Deadline, Encoder, Native, Pool, Registry, Room, Session}

  @message 2

  @spec send_to(Typhon.pool(), term, map) :: :ok | {:error, Typhon.Error.t()}
  def send_to(%Session{} = session, message, %{timeout: timeout}) do
    with {_pid, native, _bits, {_, where, _}} <- Session.target(session),
         do: send(native, where, message, Session.bound(timeout))
  end

  def send_to(pool, message, %{to: to, timeout: timeout}) do
    with {pid, native, _flags} <- Registry.lookup(pool) do
      timeout = Session.bound(timeout)

      case {Session.current(native), to} do
        {{where, _parent}, _} -> send(native, where, message, timeout)
        {nil, to} -> send_to(pid, native, to, message, timeout, Deadline.from(timeout))
      end
    end
  end

  defp send_to(_pid, native, :all, message, timeout, _deadline) do
    %{places: places} = Native.pool_info(native)

    Enum.reduce_while(places, :ok, fn place, :ok ->
      case send(native, where(place), message, timeout) do
        # It ended this very moment: its mailbox has gone with it.
        {:error, %Typhon.WorkerError{}} -> {:cont, :ok}
        :ok -> {:cont, :ok}
        error -> {:halt, error}
      end
    end)
  end

  defp send_to(pid, native, to, message, timeout, deadline) do
    with {:ok, where} <- find(native, to),
         result when result != {:error, %Typhon.WorkerError{reason: :gone}} <-
           send(native, where, message, timeout, deadline) do
      result
    else
      # All are being replaced, or belong to sessions; or the one that was picked ended at this very moment.
      _ ->
        case await(pid, native, to, Deadline.left(deadline)) do
          {:error, _} = error -> error
          :timeout -> {:error, timeout(timeout)}
          _ -> send_to(pid, native, to, message, timeout, deadline)
        end
    end
  end

  defp await(pid, _native, :one, timeout), do: Pool.await_any(pid, timeout)

  defp await(pid, native, {:worker, hash}, timeout),
    do: Pool.await_worker(pid, Native.pool_place(native, hash), timeout)

  defp find(native, :one) do
    case Native.pool_pick(native) do
      :none -> :none
      {_place, where} -> {:ok, where}
    end
  end

  defp find(native, {:worker, hash}) do
    place = Native.pool_place(native, hash)
    %{places: places} = Native.pool_info(native)

    case Enum.find(places, &(elem(&1, 0) == place)) do
      nil -> :none
      found -> {:ok, where(found)}
    end
  end

  defp where({index, _reserved?, _in_flight, serial}), do: Bitwise.bor(Bitwise.bsl(serial, 16), index)

  @spec send(Native.pool() | nil, Native.where(), term, timeout) :: :ok | {:error, Typhon.Error.t()}
  def send(native, where, message, timeout), do: send(native, where, message, timeout, Deadline.from(timeout))

  defp send(native, where, message, timeout, deadline) do
    ref = make_ref()

    with {:room, channel} <- offer(native, where, ref, message) do
      case Room.wait(channel, ref, Deadline.left(deadline)) do
        :room -> send(native, where, message, timeout, deadline)
        :timeout -> {:error, timeout(timeout)}
      end
    end
  end

  defp timeout(timeout),
    do: %Typhon.TimeoutError{timeout: timeout, module: "Typhon", function: "send", arity: 3}

  @doc "Does not wait. After {:room, channel} the calling process gets {ref, :room} when it can try again."
  @spec offer(Native.pool() | nil, Native.where(), reference, term) ::
          :ok | {:room, Native.channel()} | {:error, Typhon.Error.t()}
  def offer(native, where, ref, message), do: offer(native, where, ref, @message, 0, message)

  @doc "The same for an answer to what Python asked; `kind` and `tag` are those of `Typhon.Native.tell/6`."
  @spec offer(Native.pool() | nil, Native.where(), reference, non_neg_integer, non_neg_integer, term) ::
          :ok | {:room, Native.channel()} | {:error, Typhon.Error.t()}
  def offer(native, where, ref, kind, tag, term) do
    case Native.tell(native, where, ref, kind, tag, term) do
      {:encoder} ->
        with {:ok, prepared} <- Encoder.Walk.prepare(term),
             do: offer(native, where, ref, kind, tag, prepared)

      {:cannot_encode, path, text} ->
        {:error, %Typhon.EncodeError{path: path, type: nil, reason: text}}

      {:down, reason} ->
        {:error, Typhon.Error.from_down(reason)}

      other ->
        other
    end
  end
end
