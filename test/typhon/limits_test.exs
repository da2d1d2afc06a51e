defmodule Typhon.LimitsTest do
  use ExUnit.Case, async: true

  @moduletag :os_process

  import Typhon.TestHelper

  alias Typhon.{PythonError, WorkerError}

  @moduletag :capture_log

  test "memory: an allocation beyond it is a MemoryError that names the limit, and the worker goes on" do
    py = start_pool(limits: [memory: 200_000_000])
    os_pid = worker(py).os_pid

    for _ <- 1..3 do
      assert {:error, %PythonError{type: "MemoryError", notes: notes} = error} =
               Typhon.call(py, :sample, :hold, [1_000_000_000])

      assert [note] = notes
      assert note == "This worker's limit is memory: 200000000 bytes (limits: of its pool)."
      assert Exception.message(error) =~ note
    end

    assert {:ok, _} = Typhon.call(py, :sample, :hold, [100_000_000])
    assert worker(py).os_pid == os_pid
  end

  test "memory: many small allocations, too" do
    py = start_pool(limits: [memory: 100_000_000])
    assert {:error, %PythonError{type: "MemoryError"}} = Typhon.call(py, :sample, :hoard, [], timeout: 60_000)
    assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
  end

  test "memory: leaves room for what travels beside the ring" do
    py = start_pool(limits: [memory: 300_000_000])
    bytes = :binary.copy("0123456789abcdef", 1_000_000)
    assert Typhon.call(py, :sample, :echo, [Typhon.bytes(bytes)], timeout: 60_000) == {:ok, bytes}
  end

  test "without a limit the error is Python's own" do
    py = start_pool()

    assert {:error, %PythonError{type: "MemoryError", notes: []}} =
             Typhon.call(py, :sample, :raise_memory_error, [])
  end

  test "cpu_time: a worker that has used it up is ended, and its call says so" do
    py = start_pool(limits: [cpu_time: 1])

    assert {:error, %WorkerError{reason: {:limit, :cpu_time}, signal: "SIGXCPU"} = error} =
             Typhon.call(py, :sample, :busy_c_loop, [], timeout: :infinity)

    assert Exception.message(error) =~ "limits: [cpu_time: seconds]"
    assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    assert {:ok, %{recent_restarts: 0}} = Typhon.health(py)
  end

  test "open_files: the error names the limit" do
    py = start_pool(limits: [open_files: 64])

    assert {:error, %PythonError{type: "OSError", notes: [note]}} =
             Typhon.call(py, :sample, :open_many, [100])

    assert note == "This worker's limit is open_files: 64 (limits: of its pool)."
    assert {:ok, _} = Typhon.call(py, :sample, :open_many, [20])
  end

  test "nice" do
    py = start_pool(limits: [nice: 7])
    assert Typhon.call(py, :os, :nice, [0]) == {:ok, 7}
  end

  test "hold before user code runs, init: among it" do
    assert {:error, %Typhon.StartError{reason: :init_failed} = error} =
             Typhon.start_link(
               workers: 1,
               stdio: :discard,
               limits: [memory: 100_000_000],
               init: "x = bytearray(1_000_000_000)"
             )

    assert Exception.message(error) =~ "MemoryError"
    assert Exception.message(error) =~ "This worker's limit is memory: 100000000 bytes"
  end

  test "one that the system refuses fails the start" do
    # Root may raise its priority.
    unless System.cmd("id", ["-u"]) == {"0\n", 0} do
      assert {:error, %Typhon.StartError{reason: :channel_failed} = error} =
               Typhon.start_link(workers: 1, stdio: :discard, limits: [nice: -20])

      assert Exception.message(error) =~ "the operating system refused the limit nice"
    end
  end

  describe "a control group" do
    alias Typhon.Worker.Cgroup

    # A directory that looks like a delegated tree: the kernel's own needs rights that tests do not have.
    setup do
      root = new_path("cgroup")
      [_, own] = Regex.run(~r/^0::(.*)$/m, File.read!("/proc/self/cgroup"))
      own = root |> Path.join(own) |> Path.join("beam") |> Path.dirname()
      File.mkdir_p!(own)
      on_exit(fn -> File.rm_rf!(root) end)
      {:ok, root: root, own: own}
    end

    test "is made where memory may be limited", %{root: root, own: own} do
      File.write!(Path.join(own, "cgroup.subtree_control"), "cpu memory\n")
      group = Cgroup.enter(123, 5_000_000, root)
      assert group == Path.join(own, "typhon-123")
      assert File.read!(Path.join(group, "memory.max")) == "5000000"
      assert File.read!(Path.join(group, "cgroup.procs")) == "123"
      refute Cgroup.killed?(group)
      File.write!(Path.join(group, "memory.events"), "oom 1\noom_kill 1\n")
      assert Cgroup.killed?(group)
    end

    test "is not made elsewhere, and nothing fails", %{root: root, own: own} do
      assert Cgroup.enter(123, 5_000_000, root) == nil
      File.write!(Path.join(own, "cgroup.subtree_control"), "cpu\n")
      assert Cgroup.enter(123, 5_000_000, root) == nil
      assert Cgroup.enter(123, nil, root) == nil
      assert Cgroup.enter(nil, 5_000_000, root) == nil
      assert Cgroup.enter(123, 5_000_000, "/no/such/root") == nil
      refute Cgroup.killed?(nil)
      assert Cgroup.leave(nil) == :ok
    end
  end
end
