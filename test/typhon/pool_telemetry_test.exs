defmodule Typhon.PoolTelemetryTest do
  # Not async: the handlers see the events of all pools.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.TestLoad

  doctest Typhon.Telemetry

  setup do
    pid = self()
    :telemetry.attach_process([:typhon, :pool], pid)
    :telemetry.attach_process([:typhon, :worker], pid)
    on_exit(fn -> :telemetry.detach_process(pid) end)
    :ok
  end

  test "growing and shrinking" do
    py = start_pool(workers: 1..2, idle_timeout: 50)
    load = TestLoad.start(py, 4, sleep: 0.01)

    assert_receive {:telemetry, [:typhon, :pool, :scale], %{from: 1, size: 2}, %{pool: ^py, direction: :up}}

    TestLoad.stop(load)

    assert_receive {:telemetry, [:typhon, :pool, :scale], %{from: 2, size: 1}, %{pool: ^py, direction: :down}}

    # Either may have been idle for long enough first: the other one is left. On a busy machine it may have grown and shrunk more
    # than once.
    assert_receive {:telemetry, [:typhon, :worker, :stop], _, %{worker: stopped}}
    eventually(fn -> match?({:ok, %{workers: [_]}}, Typhon.info(py)) end)
    assert last_stopped(stopped) == 1 - worker(py).index
  end

  defp last_stopped(before) do
    receive do
      {:telemetry, [:typhon, :worker, :stop], _, %{worker: stopped}} -> last_stopped(stopped)
    after
      0 -> before
    end
  end

  test "calls that are given up, and the load of a pool" do
    py = start_pool()

    overrun(py, fn timeout, mark ->
      assert {:error, %Typhon.TimeoutError{}} =
               Typhon.call(py, :sample, :sleep_and_note, [60, "k", mark], timeout: timeout)
    end)

    assert_receive {:telemetry, [:typhon, :worker, :cancel], %{count: 1}, %{pool: ^py, worker: 0}}

    task = Task.async(fn -> Typhon.call(py, :sample, :sleep, [60], timeout: 60_000) end)
    other = Task.async(fn -> Typhon.call(py, :sample, :sleep, [60], timeout: 60_000) end)
    eventually(fn -> in_flight(py) == 2 end)
    assert Typhon.Telemetry.measure(py) == :ok
    assert_receive {:telemetry, [:typhon, :pool, :load], measured, %{pool: ^py}}
    assert %{in_flight: 2, queued: 1, waiting: 0, workers: 1, reserved: 0} = measured
    assert is_integer(measured.held) and is_integer(measured.cached)
    assert_receive {:telemetry, [:typhon, :worker, :ring], ring, %{pool: ^py, worker: 0, channel: channel}}
    assert is_integer(channel)

    assert %{requests: requests, replies: _, wakes: _, missed_spins: _, waits_for_room: _, segment_bytes: 0} =
             ring

    assert requests >= 2
    Task.shutdown(task, :brutal_kill)
    Task.shutdown(other, :brutal_kill)
    assert {:error, %Typhon.PoolError{}} = Typhon.Telemetry.measure(:no_such_pool)
  end

  test "a call that is given up while it imports" do
    py = start_pool()

    in_time(100, fn timeout ->
      case Typhon.call(py, :slow_package, :ready, [], timeout: timeout) do
        {:error, %Typhon.TimeoutError{importing: nil}} -> {:error, :early}
        {:error, %Typhon.TimeoutError{importing: "slow_package"}} -> :ok
      end
    end)

    assert_receive {:telemetry, [:typhon, :worker, :cancel], %{count: 1},
                    %{pool: ^py, importing: "slow_package"}}
  end

  @tag :os_process
  test "recycling, and looking at memory" do
    py = start_pool(max_calls: 5, max_memory: 10_000_000_000, name: Typhon.TelemetryPool)
    for _ <- 1..6, do: {:ok, _} = Typhon.call(py, :math, :sqrt, [16])

    assert_receive {:telemetry, [:typhon, :worker, :recycle],
                    %{calls: calls, memory: memory, lifetime: lifetime},
                    %{reason: :max_calls, pool: Typhon.TelemetryPool, worker: 0}}

    assert calls >= 5 and memory > 0 and lifetime > 0
    assert_receive {:telemetry, [:typhon, :worker, :memory], %{memory: memory}, _}
    assert memory > 1_000_000
  end

  test "restart, reload and drain" do
    py = start_pool()
    {:ok, _} = Typhon.call(py, :colorsys, :rgb_to_hsv, [0, 0, 0])
    assert {:ok, ["colorsys"]} = Typhon.reload(py, :colorsys)

    assert_receive {:telemetry, [:typhon, :pool, :reload], %{duration: _},
                    %{pool: ^py, modules: ["colorsys"]}}

    assert Typhon.restart(py) == :ok
    assert_receive {:telemetry, [:typhon, :pool, :restart], %{duration: _, workers: 1}, %{pool: ^py}}
    assert Typhon.drain(py) == :ok
    assert_receive {:telemetry, [:typhon, :pool, :drain], %{duration: _, left: 0}, %{pool: ^py}}
  end

  @tag :capture_log
  @tag :os_process
  test "going down" do
    py = start_pool(max_restarts: 0)
    Typhon.call(py, :sample, :hard_exit, [3])

    assert_receive {:telemetry, [:typhon, :pool, :down], %{restarts: 1}, %{pool: ^py, reason: reason}}
    assert %Typhon.PoolError{reason: {:down, %Typhon.WorkerError{exit_status: 3}}} = reason
  end
end
