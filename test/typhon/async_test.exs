defmodule Typhon.AsyncTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PythonError, TimeoutError}

  setup_all do
    {:ok, py: start_pool(workers: 2)}
  end

  describe "async/5" do
    test "gives a task that all of Task takes", %{py: py} do
      assert %Task{} = task = Typhon.async(py, :math, :sqrt, [16])
      assert Task.await(task) == {:ok, 4.0}

      tasks = for i <- 1..100, do: Typhon.async(py, :sample, :echo, [i])
      assert Task.await_many(tasks) == for(i <- 1..100, do: {:ok, i})

      tasks = for i <- 1..3, do: Typhon.async(py, :sample, :echo, [i])
      assert Enum.map(Task.yield_many(tasks, 10_000), &elem(&1, 1)) == for(i <- 1..3, do: {:ok, {:ok, i}})

      assert py |> Typhon.async(:builtins, :int, ["ff"], kwargs: %{base: 16}) |> Task.await() == {:ok, 255}
      assert_mailbox_empty()
    end

    test "the task's result is an error when the call's is", %{py: py} do
      assert {:error, %PythonError{type: "ValueError"}} =
               py |> Typhon.async(:math, :sqrt, [-1]) |> Task.await()

      assert {:error, %TimeoutError{function: :sleep}} =
               py |> Typhon.async(:time, :sleep, [5], timeout: 20) |> Task.await()
    end

    test "a wrong use raises in the caller, not in the task", %{py: py} do
      assert_raise ArgumentError, ~r/the arguments must be a list/, fn ->
        Typhon.async(py, :math, :sqrt, 16)
      end

      assert_raise ArgumentError, ~r/no option :timout/, fn ->
        Typhon.async(py, :math, :sqrt, [16], timout: 5)
      end
    end

    test "a task that is shut down leaves nothing behind", %{py: py} do
      task = Typhon.async(py, :time, :sleep, [60])
      eventually(fn -> running(py) > 0 end)
      assert Task.shutdown(task, :brutal_kill) == nil
      assert Typhon.call(py, :sample, :echo, [1]) == {:ok, 1}
      assert_mailbox_empty()
    end
  end

  describe "await/2" do
    test "waits for as long as the call does", %{py: py} do
      assert py |> Typhon.async(:sample, :echo, [7]) |> Typhon.await() == {:ok, 7}

      assert {:error, %TimeoutError{timeout: 20}} =
               py |> Typhon.async(:time, :sleep, [5], timeout: 20) |> Typhon.await()
    end

    test "gives the call up when its own time is over, and names it", %{py: py} do
      task = Typhon.async(py, :time, :sleep, [60], timeout: 60_000)
      eventually(fn -> running(py) > 0 end)
      assert {:error, %TimeoutError{} = error} = Typhon.await(task, 10)
      assert %{timeout: 10, module: :time, function: :sleep, arity: 1} = error
      refute Process.alive?(task.pid)
      assert_mailbox_empty()
    end

    @tag :os_process
    test "exits when the task did", %{py: py} do
      Process.flag(:trap_exit, true)
      task = Typhon.async(py, :time, :sleep, [60])
      Process.exit(task.pid, :kill)
      assert {:killed, _} = catch_exit(Typhon.await(task, 5_000))
      task = Typhon.async(py, :time, :sleep, [60])
      Process.exit(task.pid, :kill)
      assert {:killed, _} = catch_exit(Typhon.await(task))
    end

    test "checks its timeout", %{py: py} do
      task = Typhon.async(py, :sample, :echo, [1])
      assert_raise ArgumentError, ~r/timeout: must be/, fn -> Typhon.await(task, -1) end
      assert Typhon.await(task) == {:ok, 1}
    end
  end

  describe "yield_many/2" do
    test "what has no result can be waited for again", %{py: py} do
      free = keep_busy(py, 2)
      tasks = for i <- 1..2, do: Typhon.async(py, :sample, :echo, [i])
      assert Typhon.yield_many(tasks, timeout: 100) == Enum.map(tasks, &{&1, nil})
      free.()

      assert Typhon.yield_many(tasks, :infinity) ==
               tasks |> Enum.with_index(1) |> Enum.map(fn {t, i} -> {t, {:ok, {:ok, i}}} end)

      slow = Typhon.async(py, :time, :sleep, [60])
      fast = Typhon.async(py, :sample, :echo, [3])
      eventually(fn -> not Process.alive?(fast.pid) end)
      assert [{^fast, {:ok, {:ok, 3}}}, {^slow, nil}] = Typhon.yield_many([fast, slow], timeout: 100)
      Typhon.cancel(slow)
    end

    test "ends what has no result with on_timeout: :kill_task", %{py: py} do
      task = Typhon.async(py, :time, :sleep, [60])
      assert [{^task, nil}] = Typhon.yield_many([task], timeout: 10, on_timeout: :kill_task)
      refute Process.alive?(task.pid)
      assert_mailbox_empty()
    end

    test "lets it go on with on_timeout: :ignore", %{py: py} do
      free = keep_busy(py, 2)
      task = Typhon.async(py, :sample, :echo, [1])
      monitor = Process.monitor(task.pid)
      assert [{^task, nil}] = Typhon.yield_many([task], timeout: 0, on_timeout: :ignore)
      free.()
      assert_receive {:DOWN, ^monitor, _, _, :normal}
      assert_mailbox_empty()
    end

    test "checks its options" do
      assert_raise ArgumentError, ~r/no option :on_timout, did you mean :on_timeout/, fn ->
        Typhon.yield_many([], on_timout: :nothing)
      end

      assert_raise ArgumentError, ~r/on_timeout: must be/, fn -> Typhon.yield_many([], on_timeout: :kill) end
      assert_raise ArgumentError, ~r/timeout: must be/, fn -> Typhon.yield_many([], :never) end
    end
  end
end
