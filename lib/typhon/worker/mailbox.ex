defmodule Typhon.Worker.Mailbox do
  @moduledoc false
  # Python may send faster than a process reads. No sender of the BEAM's waits for that; but code that floods is not to take the
  # VM's memory, so a worker is heard on (docs/protocol.md, "What is said and not heard") when the mailbox it fills is not too long.

  # For how long nothing may be read of a mailbox that is too long, in milliseconds, and how often it is looked at.
  @patience 5_000
  @pause_max 50

  @doc "`:full` when the process' mailbox holds more messages than that, and none is read for some seconds."
  @spec await(term, pos_integer | :infinity) :: :ok | :full
  def await(_dest, :infinity), do: :ok

  def await(dest, most) do
    case local(dest) do
      pid when is_pid(pid) -> await(pid, most, :infinity, 0, 1)
      _ -> :ok
    end
  end

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
