defmodule Typhon.DrainTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PoolError, TimeoutError}

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
    dir = Path.join(System.tmp_dir!(), "typhon-drain-#{System.unique_integer([:positive])}")
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
end
