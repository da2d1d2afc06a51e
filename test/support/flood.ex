defmodule Typhon.TestFlood do
  @moduledoc false
  # Output without end must leave the VM as large as it is.

  import ExUnit.Assertions
  import Typhon.TestHelper

  # How much the VM may grow by meanwhile.
  @growth 100_000_000

  @doc "What a test before this one has left is no growth, and what it has given back is no room."
  @spec collect :: :ok
  def collect, do: Enum.each(Process.list(), &:erlang.garbage_collect/1)

  defp resident do
    [_, kib] = Regex.run(~r/^VmRSS:\s+(\d+)/m, File.read!("/proc/self/status"))
    String.to_integer(kib) * 1024
  end

  defp memory, do: {:erlang.memory(:total), resident()}

  @doc "The function runs in a process of its own, and the VM must not grow beyond the bound until it has returned."
  @spec assert_flat((() -> result)) :: result when result: term
  def assert_flat(fun) do
    before = memory()
    task = async(fun)
    watch(task, before, System.monotonic_time(:millisecond) + 3 * limit())
  end

  defp watch(task, {total, resident} = before, until) do
    {total_now, resident_now} = memory()
    assert total_now - total < @growth, "the VM's processes grew by #{total_now - total} bytes"
    assert resident_now - resident < @growth, "the VM grew by #{resident_now - resident} bytes"

    case Task.yield(task, 20) do
      nil ->
        assert System.monotonic_time(:millisecond) < until, "the flood did not end"
        watch(task, before, until)

      {:ok, result} ->
        result
    end
  end

  @doc "An I/O device that answers at once and only counts, and what tells how much that was."
  @spec sink :: {pid, (() -> non_neg_integer)}
  def sink do
    count = :counters.new(1, [])
    {spawn_link(fn -> sink(count) end), fn -> :counters.get(count, 1) end}
  end

  defp sink(count) do
    receive do
      {:io_request, from, ref, {:put_chars, :unicode, chars}} ->
        :counters.add(count, 1, byte_size(chars))
        send(from, {:io_reply, ref, :ok})
        sink(count)
    end
  end
end
