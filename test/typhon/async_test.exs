defmodule Typhon.AsyncTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PythonError, TimeoutError}

  setup_all do
    {:ok, py: start_supervised!({Typhon, workers: 2, python_path: [py_dir()], stdio: :discard})}
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
      task = Typhon.async(py, :time, :sleep, [0.3])
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
      task = Typhon.async(py, :time, :sleep, [2])
      eventually(fn -> running(py) > 0 end)
      assert {:error, %TimeoutError{} = error} = Typhon.await(task, 10)
      assert %{timeout: 10, module: :time, function: :sleep, arity: 1} = error
      refute Process.alive?(task.pid)
      assert_mailbox_empty()
    end

    @tag :os_process
    test "exits when the task did", %{py: py} do
      Process.flag(:trap_exit, true)
      task = Typhon.async(py, :time, :sleep, [0.3])
      Process.exit(task.pid, :kill)
      assert {:killed, _} = catch_exit(Typhon.await(task, 5_000))
      task = Typhon.async(py, :time, :sleep, [0.3])
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
      tasks = [Typhon.async(py, :sample, :echo, [1]), Typhon.async(py, :time, :sleep, [3])]
      assert [{first, {:ok, {:ok, 1}}}, {second, nil}] = Typhon.yield_many(tasks, timeout: 1_500)
      assert [first, second] == tasks
      assert [{_, {:ok, {:ok, nil}}}] = Typhon.yield_many([second], :infinity)
    end

    test "ends what has no result with on_timeout: :kill_task", %{py: py} do
      task = Typhon.async(py, :time, :sleep, [2])
      assert [{^task, nil}] = Typhon.yield_many([task], timeout: 10, on_timeout: :kill_task)
      refute Process.alive?(task.pid)
      assert_mailbox_empty()
    end

    test "lets it go on with on_timeout: :ignore", %{py: py} do
      task = Typhon.async(py, :time, :sleep, [0.2])
      monitor = Process.monitor(task.pid)
      assert [{^task, nil}] = Typhon.yield_many([task], timeout: 0, on_timeout: :ignore)
      assert_receive {:DOWN, ^monitor, _, _, :normal}, 10_000
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
