defmodule Typhon.HealthTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PoolError, WorkerError}

  @tag :os_process
  test "of a pool that fares well" do
    py = start_pool(workers: 2..4)
    for _ <- 1..10, do: Typhon.call(py, :math, :sqrt, [16])

    assert {:ok, health} = Typhon.health(py)

    assert %{
             status: :ok,
             ready: 2,
             size: 2,
             min: 2,
             max: 4,
             in_flight: 0,
             draining: false,
             restarts: 0,
             recent_restarts: 0,
             max_restarts: 40,
             max_seconds: 60,
             last_error: nil
           } = health

    assert health.memory > 1_000_000
    assert health.uptime >= 0
  end

  @tag :capture_log
  @tag :os_process
  test "of one whose Python has ended, and has come back" do
    py = start_pool()
    kill(worker(py).os_pid, "KILL")

    eventually(fn ->
      match?(
        {:ok, %{status: :ok, recent_restarts: 1, last_error: %WorkerError{signal: "SIGKILL"}}},
        Typhon.health(py)
      )
    end)
  end

  @tag :capture_log
  @tag :os_process
  test "of one whose Python cannot be started again" do
    dir = new_path("health")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    flag = Path.join(dir, "broken")
    py = start_pool(workers: 2, init: "import os\nif os.path.exists('#{flag}'): raise RuntimeError('no')")
    File.write!(flag, "")
    [first, second] = os_pids(py)
    kill(first, "KILL")
    eventually(fn -> match?({:ok, %{status: :degraded, ready: 1, size: 2}}, Typhon.health(py)) end)
    kill(second, "KILL")
    eventually(fn -> match?({:ok, %{status: :down, ready: 0}}, Typhon.health(py)) end)

    eventually(fn ->
      match?({:ok, %{last_error: %Typhon.StartError{reason: :init_failed}}}, Typhon.health(py))
    end)

    File.rm!(flag)
    eventually(fn -> match?({:ok, %{status: :ok}}, Typhon.health(py)) end)
  end

  test "of a pool of a test, which has no Python" do
    {:ok, py} = Typhon.Test.start_pool()
    assert {:ok, %{status: :ok, size: 0}} = Typhon.health(py)
    assert Typhon.restart(py) == :ok
    assert Typhon.reload(py, :anything) == {:ok, []}
    assert Typhon.drain(py) == :ok
  end

  test "of no pool" do
    assert {:error, %PoolError{reason: :not_found}} = Typhon.health(:no_such_pool)
    py = start_pool()
    Typhon.stop(py)
    assert {:error, %PoolError{reason: :stopped}} = Typhon.health(py)
  end

  test "info counts calls, and looks at memory and load" do
    py = start_pool()
    for _ <- 1..7, do: Typhon.call(py, :math, :sqrt, [16])
    # A caller may have its answer before it is counted.
    eventually(fn -> match?(%{calls: 7, in_flight: 0, busy: false}, worker(py)) end)
    %{memory: memory, uptime: uptime} = worker(py)
    assert memory > 1_000_000
    assert uptime >= 0
    task = Task.async(Typhon, :call, [py, :sample, :sleep, [600], [timeout: :infinity]])
    eventually(fn -> match?({:ok, %{in_flight: 1}}, Typhon.info(py)) end)
    assert %{busy: true} = worker(py)
    Task.shutdown(task, :brutal_kill)
  end
end
