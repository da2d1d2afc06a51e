defmodule Typhon.ProtocolTest do
  # A worker that scribbles over the memory that it shares with the BEAM.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  @moduletag :capture_log

  # docs/protocol.md: the count of published reply bytes lies at offset 256 of the region.
  @scribble """
  import ctypes, time
  for line in open("/proc/self/maps"):
      if "memfd:typhon" in line and int(line.split()[2], 16) == 0:
          break
  start = int(line.split("-")[0], 16)
  ctypes.c_uint64.from_address(start + 256).value = 1 << 60
  time.sleep(600)
  """

  @tag :os_process
  test "counts that cannot be are noticed: the worker is replaced, its call says why" do
    py = start_pool(workers: 1)
    victim = Task.async(fn -> Typhon.call(py, :builtins, :exec, [@scribble], timeout: :infinity) end)
    # Submitting looks at the reply ring.
    assert {:error, %Typhon.WorkerError{reason: :protocol}} = submit_until_ended(py, victim)
    assert {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2], timeout: 60_000)
  end

  defp submit_until_ended(py, task) do
    Typhon.call(py, :operator, :add, [1, 2], timeout: 50)

    case Task.yield(task, 10) do
      {:ok, result} -> result
      nil -> submit_until_ended(py, task)
    end
  end
end
