defmodule Typhon.TelemetryTest do
  # Not async: the handlers see the events of all pools.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  # The package :telemetry cannot be among Typhon's dependencies here: test/support/telemetry.ex stands in for it.
  setup do
    :telemetry.attach_process([:typhon], self())
    on_exit(fn -> :ok end)
    pid = self()
    on_exit(fn -> :telemetry.detach_process(pid) end)
    :ok
  end

  defp flush do
    receive do
      {:telemetry, _, _, _} -> flush()
    after
      0 -> :ok
    end
  end

  test "a call whose result does not fit the struct that it is to be has failed" do
    py = start_pool()
    flush()
    assert {:ok, _} = Typhon.call(py, :builtins, :dict, [], kwargs: [name: "pen"], as: Typhon.Models.Item)
    assert_receive {:telemetry, [:typhon, :call, :stop], _, %{pool: ^py, function: :dict}}
    assert {:error, error} = Typhon.call(py, :builtins, :dict, [], as: Typhon.Models.Item)
    assert_receive {:telemetry, [:typhon, :call, :exception], %{run: _}, %{pool: ^py, reason: ^error}}
  end

  test "a call that returns: start and stop, with durations from both sides" do
    py = start_pool()
    flush()
    assert Typhon.call(py, :time, :sleep, [0.02]) == {:ok, nil}

    assert_receive {:telemetry, [:typhon, :call, :start], start, metadata}
    assert %{monotonic_time: _, system_time: _} = start
    assert %{pool: ^py, module: :time, function: :sleep, arity: 1} = metadata

    assert_receive {:telemetry, [:typhon, :call, :stop], stop, ^metadata}

    assert %{duration: duration, queue: queue, transfer: transfer, decode: decode, run: run, encode: encode} =
             stop

    slept = System.convert_time_unit(20, :millisecond, :native)
    assert run >= slept
    assert duration >= run
    for time <- [queue, transfer, decode, encode], do: assert(time >= 0 and time <= duration)
  end

  test "a large result brings its durations, too" do
    py = start_pool()
    flush()
    assert {:ok, _} = Typhon.call(py, :sample, :blob, [5_000_000])
    assert_receive {:telemetry, [:typhon, :call, :stop], %{run: _, encode: encode}, _}
    assert encode > 0
  end

  test "a call that fails: start and exception" do
    py = start_pool()
    flush()
    {:error, error} = Typhon.call(py, :operator, :truediv, [1, 0])

    assert_receive {:telemetry, [:typhon, :call, :exception], %{duration: _, run: _}, metadata}
    assert %{kind: :error, reason: ^error, stacktrace: [], module: :operator} = metadata

    # It has not been taken when its time is over, so that no worker has anything to say of it.
    free = keep_busy(py)
    {:error, timeout} = Typhon.call(py, :sample, :sleep, [60], timeout: 10)
    free.()
    assert_receive {:telemetry, [:typhon, :call, :exception], measurements, %{reason: ^timeout}}
    assert measurements |> Map.keys() |> Enum.sort() == [:duration, :monotonic_time]
  end

  @tag :capture_log
  test "a cast that fails" do
    py = start_pool(name: Typhon.TelemetryPool)
    :ok = Typhon.cast(py, :operator, :truediv, [1, 0])

    assert_receive {:telemetry, [:typhon, :cast, :exception], %{system_time: _}, metadata}, limit()

    assert %{pool: Typhon.TelemetryPool, worker: 0, module: "operator", function: "truediv", kind: :error} =
             metadata

    assert %Typhon.PythonError{type: "ZeroDivisionError"} = metadata.reason

    unnamed = start_pool()
    :ok = Typhon.cast(unnamed, :operator, :truediv, [1, 0])
    assert_receive {:telemetry, [:typhon, :cast, :exception], _, %{pool: ^unnamed, worker: 0}}, limit()
  end

  test "the pool is named as the caller named it" do
    start_pool(name: Typhon.TelemetryPool)
    flush()
    Typhon.call(Typhon.TelemetryPool, :math, :sqrt, [16])
    assert_receive {:telemetry, [:typhon, :call, :stop], _, %{pool: Typhon.TelemetryPool}}
  end

  test "telemetry: false" do
    py = start_pool(telemetry: false)
    flush()
    Typhon.call(py, :math, :sqrt, [16])
    refute_received {:telemetry, [:typhon, :call, _], _, _}
  end

  @tag :os_process
  test "the life of a worker" do
    py = start_pool(name: Typhon.TelemetryLife)
    assert_receive {:telemetry, [:typhon, :worker, :start], %{system_time: _}, metadata}
    assert %{pool: Typhon.TelemetryLife, worker: 0, os_pid: os_pid, python: _} = metadata
    assert_receive {:telemetry, [:typhon, :worker, :ready], %{duration: _}, %{os_pid: ^os_pid}}

    kill(os_pid, "KILL")

    assert_receive {:telemetry, [:typhon, :worker, :down], %{lifetime: _},
                    %{os_pid: ^os_pid, reason: %Typhon.WorkerError{signal: "SIGKILL"}}}

    assert_receive {:telemetry, [:typhon, :worker, :restart], %{count: 1}, _}
    assert_receive {:telemetry, [:typhon, :worker, :ready], _, %{os_pid: next}}

    Typhon.stop(py)
    assert_receive {:telemetry, [:typhon, :worker, :stop], _, %{os_pid: ^next}}
  end

  test "a kill after the grace" do
    py = start_pool(grace: 50)

    overrun(py, fn timeout, mark ->
      assert {:error, _} = Typhon.call(py, :sample, :busy_c_loop, [mark], timeout: timeout)
    end)

    assert_receive {:telemetry, [:typhon, :worker, :kill], _, %{reason: :overdue}}
  end
end
