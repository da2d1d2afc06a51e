defmodule Typhon.ElasticTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.TestLoad

  defp size(py) do
    {:ok, %{size: size}} = Typhon.info(py)
    size
  end

  defp ready(py) do
    {:ok, %{workers: workers}} = Typhon.info(py)
    for %{state: :ready, index: index} <- workers, do: index
  end

  # Callers that keep every worker busy until they are stopped. What lies in a worker's queue already stays there: it is the
  # calls that follow which find the new ones.
  defp busy(py), do: TestLoad.start(py, 8, sleep: 0.01)

  test "starts with the least, grows to what the calls ask for, never beyond the most" do
    py = start_pool(workers: 1..3)
    assert {:ok, %{size: 1, min: 1, max: 3}} = Typhon.info(py)
    load = busy(py)
    eventually(fn -> Enum.sort(ready(py)) == [0, 1, 2] end)
    eventually(fn -> running(py) == 3 end)
    assert TestLoad.stop(load) > 0
    assert size(py) == 3
  end

  test "does not grow while some worker is idle" do
    py = start_pool(workers: 1..3)
    for _ <- 1..200, do: assert(Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0})
    assert size(py) == 1
  end

  @tag :os_process
  test "shrinks to the least when there is nothing to do, and grows again" do
    py = start_pool(workers: 1..3, idle_timeout: 100)

    for _ <- 1..2 do
      load = busy(py)
      eventually(fn -> length(ready(py)) == 3 end)
      pids = os_pids(py)
      TestLoad.stop(load)
      eventually(fn -> match?({:ok, %{size: 1, workers: [_]}}, Typhon.info(py)) end)
      # The one that is left may have come later than these.
      eventually(fn -> Enum.filter(pids, &os_process?/1) -- os_pids(py) == [] end)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end
  end

  test "a worker that is ended finishes what it has: no call is lost while a pool breathes" do
    py = start_pool(workers: 1..3, idle_timeout: 50)

    answered =
      for round <- 1..6 do
        load = TestLoad.start(py, 6, sleep: 0.005)
        eventually(fn -> size(py) > 1 end)
        answered = TestLoad.stop(load)
        if rem(round, 2) == 0, do: eventually(fn -> size(py) == 1 end)
        answered
      end

    assert Enum.all?(answered, &(&1 > 0))
    assert_mailbox_empty()
    eventually(fn -> size(py) == 1 and in_flight(py) == 0 end)
  end

  @tag :os_process
  test "a cast in a worker that is ended runs to its end" do
    dir = new_path("elastic")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    py = start_pool(workers: 1..2, idle_timeout: 50)
    load = busy(py)
    eventually(fn -> length(ready(py)) == 2 end)
    for i <- 1..10, do: assert(Typhon.cast(py, :sample, :write_slowly, ["#{dir}/#{i}", 0.05]) == :ok)
    TestLoad.stop(load)
    eventually(fn -> length(File.ls!(dir)) == 10 end)
    eventually(fn -> size(py) == 1 end)
  end

  test "the keeper may be killed: the pool still grows and shrinks" do
    py = start_pool(workers: 1..2, idle_timeout: 100)
    {:ok, keeper} = Typhon.Pool.keeper(py)
    Process.exit(keeper, :kill)
    eventually(fn -> match?({:ok, new} when new != keeper, Typhon.Pool.keeper(py)) end)
    load = busy(py)
    eventually(fn -> length(ready(py)) == 2 end)
    {:ok, keeper} = Typhon.Pool.keeper(py)
    Process.exit(keeper, :kill)
    TestLoad.stop(load)
    eventually(fn -> match?({:ok, %{size: 1}}, Typhon.info(py)) end)
    assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
  end

  test "an idle elastic pool does nothing" do
    py = start_pool(workers: 1..2, idle_timeout: 50)
    load = busy(py)
    eventually(fn -> length(ready(py)) == 2 end)
    TestLoad.stop(load)
    eventually(fn -> size(py) == 1 end)
    {:ok, keeper} = Typhon.Pool.keeper(py)
    # The last of it may still be under way: what follows would not become true if it went on.
    eventually(fn ->
      {:reductions, before} = Process.info(keeper, :reductions)
      Process.sleep(100)
      Process.info(keeper, :reductions) == {:reductions, before}
    end)
  end
end
