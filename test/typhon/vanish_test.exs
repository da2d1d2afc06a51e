defmodule Typhon.VanishTest do
  # Production code kills callers every day: supervisors, Task.shutdown/1, an async_stream of which somebody took enough. What
  # they have published must be taken and dropped, whatever they were about to do. Not async: it counts what the BEAM holds.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  @crowd 20

  setup do
    dir = new_path("vanish")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    {:ok, dir: dir}
  end

  defp call_for_ever(py, i) do
    Typhon.call(py, :operator, :add, [i, 1])
    call_for_ever(py, i)
  end

  # Callers at random places of their calls, killed at once.
  defp kill_a_crowd(py) do
    pids = for i <- 1..@crowd, do: spawn(fn -> call_for_ever(py, i) end)
    for _ <- 1..:rand.uniform(40), do: :erlang.yield()
    for pid <- pids, do: Process.exit(pid, :kill)
  end

  defp assert_nothing_left(py) do
    eventually(fn -> {in_flight(py), polling(py)} == {0, 0} end)
    assert Typhon.call(py, :math, :sqrt, [16], timeout: limit()) == {:ok, 4.0}
  end

  # Nothing else is called between a crowd and the look: another call would ring for what lies there.
  test "a million callers that are killed leave nothing in the ring" do
    py = start_pool(max_queue: 1_000_000)

    for _ <- 1..500 do
      for _ <- 1..100, do: kill_a_crowd(py)
      eventually(fn -> {in_flight(py), polling(py)} == {0, 0} end)
    end

    assert_nothing_left(py)
    assert worker(py).restarts == 0
  end

  @tag :several_workers
  test "with two workers, and a queue that is as good as full" do
    py = start_pool(workers: 2, max_queue: 4)

    for _ <- 1..200 do
      kill_a_crowd(py)
      eventually(fn -> {in_flight(py), polling(py)} == {0, 0} end)
      assert Typhon.call(py, :math, :sqrt, [16], timeout: limit()) == {:ok, 4.0}
    end
  end

  test "who takes enough of an async stream leaves nothing" do
    py = start_pool()

    for _ <- 1..200 do
      taken =
        1..100
        |> Task.async_stream(&Typhon.call!(py, :operator, :add, [&1, 1]), max_concurrency: 50)
        |> Enum.take(3)

      assert taken == [ok: 2, ok: 3, ok: 4]
      eventually(fn -> {in_flight(py), polling(py)} == {0, 0} end)
    end

    assert_nothing_left(py)
  end

  # A dirty NIF is not interrupted when its process is killed, and publishes for a process that is not there any more.
  test "callers that are killed while they write large arguments leave nothing" do
    py = start_pool()
    numbers = Enum.to_list(1..200_000)

    for _ <- 1..50 do
      pids = for _ <- 1..4, do: spawn(fn -> Typhon.call(py, :builtins, :len, [numbers]) end)
      Process.sleep(:rand.uniform(4) - 1)
      for pid <- pids, do: Process.exit(pid, :kill)
      eventually(fn -> {in_flight(py), polling(py)} == {0, 0} end)
    end

    assert_nothing_left(py)
  end

  test "handles of a hundred thousand objects that go at once are all let go of, though nobody calls", %{
    dir: dir
  } do
    py = start_pool()
    mark = Path.join(dir, "gone")
    gate = Path.join(dir, "gate")
    test = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        assert length(Typhon.call!(py, :vanish, :make, [100_000, mark])) == 100_000
        send(test, :made)
        receive do: (:end -> :ok)
      end)

    assert_receive :made

    # The worker reads nothing until the ring is full.
    call = Task.async(fn -> Typhon.call(py, :vanish, :wait_for, [gate]) end)
    eventually(fn -> running(py) == 1 end)
    send(pid, :end)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :normal}
    Process.sleep(500)
    refute File.exists?(mark)
    File.touch!(gate)
    assert Task.await(call, limit()) == {:ok, nil}
    eventually(fn -> File.exists?(mark) end)
  end
end
