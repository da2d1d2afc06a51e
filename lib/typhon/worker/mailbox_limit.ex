defmodule Typhon.Worker.MailboxLimit do
  @moduledoc false
  # Python may send faster than a process reads. No sender of the BEAM's waits for that; but code that floods is not to take the
  # VM's memory, so a worker is heard on (docs/protocol.md, "What is said and not heard") when the mailbox it fills is not too long.
  # What a mailbox holds in bytes nobody can ask for; of large messages it may hold so many as that weight allows.

  # For how long nothing may be read of a mailbox that is too long, in milliseconds, and how often it is looked at.
  @patience 5_000
  @pause_max 50
  # What a message counts for beyond one: as channel::statement_weight() of the native library.
  @unit_bytes 262_144
  @most_weight 1_024

  @typedoc "So many messages, and what they weigh beyond one each."
  @type load :: {pos_integer, non_neg_integer}

  @doc "`:full` when the process' mailbox holds more messages like those than it may, and none is read for some seconds."
  @spec await(term, pos_integer | :infinity, load) :: :ok | :full
  def await(_dest, :infinity, _load), do: :ok

  def await(dest, most, load) do
    case local(dest) do
      pid when is_pid(pid) -> await(pid, most(most, load), :infinity, 0, 1)
      _ -> :ok
    end
  end

  defp most(most, {_count, 0}), do: most

  defp most(most, {count, weight}),
    do: most |> min(div(@most_weight * count, weight)) |> max(1)

  @doc "The same for one message, which is about to be sent."
  @spec await_for(term, pos_integer | :infinity, term) :: :ok | :full
  def await_for(_dest, :infinity, _message), do: :ok

  def await_for(dest, most, message),
    do: await(dest, most, {1, div(:erlang.external_size(message), @unit_bytes)})

  @doc "What a worker is ended for that goes on sending to a mailbox that is `:full`."
  @spec flooded(term, pos_integer) :: String.t()
  def flooded(dest, most),
    do: "it went on sending to #{inspect(dest)}, which #{too_much(most)} and reads none"

  @doc "What is the matter with a mailbox that is `:full`."
  @spec too_much(pos_integer) :: String.t()
  def too_much(most),
    do:
      "has more than max_mailbox: #{most} messages, or large ones of more than #{div(@most_weight * @unit_bytes, 1_048_576)} MiB,"

  # `seen`: its length when it last got shorter, after which it has until `until`.
  defp await(pid, most, seen, until, pause) do
    length = length_of(pid)
    now = System.monotonic_time(:millisecond)
    until = if length < seen, do: now + @patience, else: until

    cond do
      length <= most ->
        :ok

      # Its own it does not read meanwhile.
      pid == self() or now >= until ->
        :full

      true ->
        Process.sleep(pause)
        await(pid, most, min(length, seen), until, min(pause * 2, @pause_max))
    end
  end

  defp local(pid) when is_pid(pid), do: if(node(pid) == node(), do: pid)
  defp local(name) when is_atom(name), do: Process.whereis(name)
  defp local({name, node}) when is_atom(name) and node == node(), do: Process.whereis(name)
  defp local(_), do: nil

  defp length_of(pid) do
    case Process.info(pid, :message_queue_len) do
      {:message_queue_len, length} -> length
      nil -> 0
    end
  end
end
