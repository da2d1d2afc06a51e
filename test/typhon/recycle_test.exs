defmodule Typhon.RecycleTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{TestLoad, WorkerError}

  @tag :os_process
  test "max_calls: a worker is replaced, and no call is lost" do
    py = start_pool(max_calls: 50)
    first = worker(py).os_pid
    load = TestLoad.start(py, 4)
    # Several generations.
    pids = collect_pids(py, MapSet.new(), 4)
    assert TestLoad.stop(load) >= 150
    assert first in pids
    eventually(fn -> match?({:ok, %{workers: [%{state: :ready}]}}, Typhon.info(py)) end)
    eventually(fn -> not os_process?(first) end)
    # Not a restart after an accident.
    assert {:ok, %{restarts: 0}} = Typhon.info(py)
    assert_mailbox_empty()
  end

  @tag :os_process
  test "max_calls counts casts" do
    py = start_pool(max_calls: 20)
    first = worker(py).os_pid
    for _ <- 1..20, do: assert(Typhon.cast(py, :math, :sqrt, [16]) == :ok)

    eventually(fn ->
      match?({:ok, %{workers: [%{os_pid: pid, state: :ready}]}} when pid != first, Typhon.info(py))
    end)
  end

  @tag :os_process
  test "max_calls: a call that runs when its worker is replaced ends there" do
    py = start_pool(max_calls: 10)
    first = worker(py).os_pid
    # The tenth to end would be this one; the others are waiting behind it in the same worker.
    free = keep_busy(py)
    short = for i <- 1..30, do: Task.async(Typhon, :call, [py, :sample, :echo, [i], [timeout: 60_000]])
    eventually(fn -> in_flight(py) == 31 end)
    free.()
    assert await_many(short) == for(i <- 1..30, do: {:ok, i})
    eventually(fn -> not os_process?(first) end)
  end

  test "max_calls: 1 works, if slowly" do
    py = start_pool(max_calls: 1)
    for i <- 1..20, do: assert(Typhon.call(py, :sample, :echo, [i]) == {:ok, i})
    eventually(fn -> match?({:ok, %{workers: [_]}}, Typhon.info(py)) end)
  end

  @tag :os_process
  test "max_memory: a worker that holds more is replaced, and no call is lost" do
    py = start_pool(max_memory: 120_000_000)
    first = worker(py).os_pid
    load = TestLoad.start(py, 2, sleep: 0.001)
    assert {:ok, _} = Typhon.call(py, :sample, :hold, [200_000_000], timeout: 60_000)
    eventually(fn -> not os_process?(first) end)
    assert TestLoad.stop(load) > 0
    eventually(fn -> worker_memory(py) < 120_000_000 end)
  end

  @tag :os_process
  test "max_memory: an idle worker is not looked at, and one that is used again is" do
    py = start_pool(max_memory: 120_000_000)
    first = worker(py).os_pid
    pid = worker(py).pid

    # No timer is left once it has been idle for a while.
    eventually(fn ->
      {:reductions, before} = Process.info(pid, :reductions)
      Process.sleep(1_200)
      Process.info(pid, :reductions) == {:reductions, before}
    end)

    assert {:ok, _} = Typhon.call(py, :sample, :hold, [200_000_000], timeout: 60_000)
    eventually(fn -> not os_process?(first) end)
  end

  @tag :os_process
  test "objects of a worker that was replaced say so" do
    py = start_pool(max_calls: 5)
    first = worker(py).os_pid
    {:ok, counter} = Typhon.call(py, :sample, :Counter, [7])
    for _ <- 1..10, do: {:ok, _} = Typhon.call(py, :math, :sqrt, [16])
    eventually(fn -> not os_process?(first) end)
    assert {:error, %WorkerError{reason: :replaced} = error} = Typhon.call(py, counter, :add, [])
    assert Exception.message(error) =~ "was replaced by another one, and what lived in it is gone"
  end

  @tag :os_process
  test "a replacement that cannot be started leaves the worker in place, and follows later" do
    dir = new_path("recycle")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    flag = Path.join(dir, "broken")

    py =
      start_pool(
        max_calls: 5,
        init: "import os\nif os.path.exists('#{flag}'): raise RuntimeError('not now')",
        max_restarts: :infinity
      )

    first = worker(py).os_pid
    File.write!(flag, "")

    ExUnit.CaptureLog.capture_log(fn ->
      for _ <- 1..50, do: {:ok, 4.0} = Typhon.call(py, :math, :sqrt, [16])
      eventually(fn -> match?({:ok, %{last_error: %Typhon.StartError{}}}, Typhon.health(py)) end)
      assert {:ok, ^first} = Typhon.call(py, :os, :getpid, [])
      File.rm!(flag)
      eventually(fn -> not os_process?(first) end)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end)
  end

  defp worker_memory(py) do
    {:ok, %{workers: workers}} = Typhon.info(py)
    workers |> Enum.map(&(&1.memory || 0)) |> Enum.max()
  end

  defp collect_pids(py, pids, wanted) do
    {:ok, pid} = Typhon.call(py, :os, :getpid, [], timeout: 60_000)
    pids = MapSet.put(pids, pid)
    if MapSet.size(pids) >= wanted, do: pids, else: collect_pids(py, pids, wanted)
  end
end
