defmodule Typhon.Message do
  @moduledoc false
  # Messages to a worker's mailbox.

  require Typhon.Wire

  alias Typhon.{Deadline, Encoder, Native, Pool, Registry, Room, Session, Wire}

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

  defp where({index, _reserved?, _in_flight, serial}), do: Wire.where(index, serial)

  @spec send(Native.pool() | nil, Native.where(), term, timeout) :: :ok | {:error, Typhon.Error.t()}
  def send(native, where, message, timeout), do: send(native, where, message, timeout, Deadline.from(timeout))

  defp send(native, where, message, timeout, deadline) do
    with :timeout <- deliver(to_mailbox(native, where), message, deadline),
         do: {:error, timeout(timeout)}
  end

  defp timeout(timeout),
    do: %Typhon.TimeoutError{timeout: timeout, module: "Typhon", function: "send", arity: 3}

  @typedoc """
  Where something goes that Python waits for: its mailbox, or an answer to what it asked (`kind` and `tag` are those of
  `Typhon.Native.tell/7`). `call`: the one in which its sender looks for what comes next, or 0.
  """
  @type to :: %{
          native: Native.pool() | nil,
          where: Native.where(),
          kind: non_neg_integer,
          tag: non_neg_integer,
          call: Native.id()
        }

  @spec to_mailbox(Native.pool() | nil, Native.where()) :: to
  def to_mailbox(native, where),
    do: %{native: native, where: where, kind: Wire.message(), tag: 0, call: 0}

  @doc "Waits for room. What comes next in the call, if one is named, is an event of `Typhon.Request`."
  @spec deliver(to, term, Deadline.t()) ::
          :ok | Native.reply() | Native.event() | {:error, Typhon.Error.t()} | :timeout
  def deliver(to, term, deadline) do
    ref = make_ref()

    with {:room, channel} <- offer(to, ref, term),
         :room <- Room.wait(channel, ref, Deadline.left(deadline)),
         do: deliver(to, term, deadline)
  end

  @doc "Does not wait. After {:room, channel} the calling process gets {ref, :room} when it can try again."
  @spec offer(to, reference, term) ::
          :ok | Native.reply() | Native.event() | {:room, Native.channel()} | {:error, Typhon.Error.t()}
  def offer(to, ref, term) do
    case Native.tell(to.native, to.where, to.call, ref, to.kind, to.tag, term) do
      {:encoder} ->
        with {:ok, prepared} <- Encoder.Walk.prepare(term), do: offer(to, ref, prepared)

      {:cannot_encode, path, text} ->
        {:error, %Typhon.EncodeError{path: path, type: nil, reason: text}}

      {:down, reason} ->
        {:error, Typhon.Error.from_down(reason)}

      other ->
        other
    end
  end
end
