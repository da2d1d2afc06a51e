defmodule Typhon.DrainTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PoolError, TimeoutError, WorkerError}

  test "waits for the calls in flight and refuses new ones; then the pool can be stopped" do
    py = start_pool(workers: 2, name: Typhon.DrainPool)
    gate = gate()
    tasks = for _ <- 1..6, do: Task.async(Typhon, :call, [py, :dispatch, :wait_for, [gate]])
    eventually(fn -> in_flight(py) == 6 end)
    drain = Task.async(Typhon, :drain, [py, 60_000])

    eventually(fn -> match?({:ok, %{draining: true}}, Typhon.info(py)) end)
    assert {:error, %PoolError{reason: :draining}} = Typhon.call(py, :math, :sqrt, [16])
    assert {:error, %PoolError{reason: :draining} = error} = Typhon.call(Typhon.DrainPool, :math, :sqrt, [16])
    assert Exception.message(error) =~ "is draining"
    assert {:error, %PoolError{reason: :draining}} = Typhon.cast(py, :math, :sqrt, [16])

    assert Process.alive?(drain.pid)
    File.touch!(gate)
    assert await(drain) == :ok
    for result <- await_many(tasks), do: assert({:ok, _} = result)
    assert {:ok, %{draining: true, in_flight: 0}} = Typhon.info(Typhon.DrainPool)
    assert {:ok, %{status: :degraded}} = Typhon.health(py)
    assert Typhon.stop(py) == :ok
    assert {:error, %PoolError{reason: :stopped}} = Typhon.call(py, :math, :sqrt, [16])
    assert {:error, %PoolError{reason: :not_found}} = Typhon.call(Typhon.DrainPool, :math, :sqrt, [16])
  end

  test "says how many calls are left when the time is over" do
    py = start_pool()
    tasks = for _ <- 1..3, do: Task.async(Typhon, :call, [py, :sample, :sleep, [600], [timeout: :infinity]])
    eventually(fn -> in_flight(py) == 3 end)
    assert {:error, %TimeoutError{operation: :drain, left: 3} = error} = Typhon.drain(py, 50)
    assert Exception.message(error) =~ "calls that are left: 3"
    assert Typhon.stop(py) == :ok
    assert Enum.all?(await_many(tasks), &match?({:error, _}, &1))
  end

  @tag :os_process
  test "waits for casts" do
    dir = new_path("drain")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    py = start_pool()
    for i <- 1..5, do: assert(Typhon.cast(py, :sample, :write_slowly, ["#{dir}/#{i}", 0.05]) == :ok)
    assert Typhon.drain(py, 60_000) == :ok
    assert length(File.ls!(dir)) == 5
  end

  test "of an idle pool, twice, and of none" do
    py = start_pool()
    assert Typhon.drain(py) == :ok
    assert Typhon.drain(py, 0) == :ok
    assert {:error, %PoolError{reason: :not_found}} = Typhon.drain(:no_such_pool)
    assert_raise ArgumentError, fn -> Typhon.drain(py, -1) end
  end

  test "a pool of the same name is not drained" do
    py = start_pool(name: Typhon.DrainedName)
    assert Typhon.drain(py) == :ok
    assert Typhon.stop(py) == :ok
    start_pool(name: Typhon.DrainedName)
    assert Typhon.call(Typhon.DrainedName, :math, :sqrt, [16]) == {:ok, 4.0}
  end

  describe "the end of a pool's supervisor" do
    defp supervised(options) do
      {:ok, supervisor} = Supervisor.start_link([], strategy: :one_for_one)
      options = Keyword.merge([workers: 1, python_path: [py_dir()], stdio: :discard], options)

      {:ok, py} =
        Supervisor.start_child(supervisor, Supervisor.child_spec({Typhon, options}, restart: :temporary))

      {supervisor, py}
    end

    # Each of them on a worker of its own, as far as there are workers.
    defp busy(py, count, workers) do
      gate = gate()

      calls =
        for _ <- 1..count,
            do: Task.async(fn -> Typhon.call(py, :dispatch, :wait_for, [gate], timeout: :infinity) end)

      eventually(fn -> running(py) == workers and in_flight(py) == count end)
      {calls, gate}
    end

    defp stop_supervisor(supervisor, py) do
      stopped = Task.async(fn -> Supervisor.stop(supervisor) end)

      eventually(fn ->
        match?({:error, %PoolError{reason: :draining}}, Typhon.call(py, :math, :sqrt, [4], timeout: 50))
      end)

      stopped
    end

    test "waits for the calls that run and that wait, also in workers that were started later" do
      {supervisor, py} = supervised(workers: 2, shutdown: limit())
      assert Typhon.restart(py) == :ok
      {calls, gate} = busy(py, 6, 2)
      assert Typhon.cast(py, :sample, :echo, [1]) == :ok
      stopped = stop_supervisor(supervisor, py)
      File.touch!(gate)
      for result <- await_many(calls), do: assert({:ok, _} = result)
      assert await(stopped) == :ok
      refute Process.alive?(py)
    end

    test "waits no longer than shutdown:, and for a while only once; Typhon.stop/1 does not wait" do
      for {shutdown, stop} <- [{50, &Supervisor.stop(elem(&1, 0))}, {3_600_000, &Typhon.stop(elem(&1, 1))}] do
        {_, py} = both = supervised(workers: 2, shutdown: shutdown)
        {calls, _gate} = busy(py, 2, 2)
        assert stop.(both) == :ok
        for result <- await_many(calls), do: assert({:error, %WorkerError{}} = result)
      end
    end

    test "does not wait for callers that have gone, nor for a call beyond its time" do
      {supervisor, py} = supervised(workers: 2, shutdown: 3_600_000)
      {[call, other], _gate} = busy(py, 2, 2)
      Process.unlink(call.pid)
      stopped = stop_supervisor(supervisor, py)
      Process.exit(call.pid, :kill)
      Task.shutdown(other, :brutal_kill)
      assert await(stopped) == :ok
    end

    @tag :os_process
    test "does not wait for a Python that has ended" do
      {supervisor, py} = supervised(shutdown: 3_600_000)
      os_pid = worker(py).os_pid
      {[call], _gate} = busy(py, 1, 1)
      stopped = stop_supervisor(supervisor, py)
      kill(os_pid, "KILL")
      assert {:error, %WorkerError{}} = await(call)
      assert await(stopped) == :ok
    end
  end
end
