defmodule Typhon.RestartTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Typhon.TestHelper

  alias Typhon.{PoolError, StartError, TestLoad, TimeoutError, WorkerError}

  describe "restart/2" do
    @tag :os_process
    test "replaces every worker while calls go on, and loses none" do
      for workers <- [1, 3] do
        py = start_pool(workers: workers)
        before = os_pids(py)
        load = TestLoad.start(py, 4, sleep: 0.001)

        for _ <- 1..2 do
          pids = os_pids(py)
          assert Typhon.restart(py) == :ok
          assert MapSet.disjoint?(MapSet.new(pids), MapSet.new(os_pids(py)))
        end

        assert TestLoad.stop(load) > 0
        for pid <- before, do: refute(os_process?(pid))
        assert {:ok, %{restarts: 0, size: ^workers, workers: all}} = Typhon.info(py)
        assert Enum.map(all, & &1.state) == List.duplicate(:ready, workers)
        assert_mailbox_empty()
      end
    end

    @tag :os_process
    test "does not take a worker that was answered and sent messages for a busy one" do
      py = start_pool()
      old = worker(py).os_pid
      assert Typhon.call(py, :talk, :apply, [fn -> 5 end]) == {:ok, 5}
      assert Typhon.send(py, "message") == :ok
      assert Typhon.restart(py) == :ok
      refute os_process?(old)
    end

    @tag :os_process
    test "waits for calls that run" do
      py = start_pool()
      old = worker(py).os_pid
      free = keep_busy(py)
      restart = Task.async(Typhon, :restart, [py])
      eventually(fn -> match?({:ok, %{workers: [%{state: :retiring} | _]}}, Typhon.info(py)) end)
      free.()
      assert await(restart) == :ok
      refute os_process?(old)
    end

    @tag :os_process
    test "says when the time was not enough; the call goes on, new ones run elsewhere" do
      py = start_pool()
      old = worker(py).os_pid
      task = Task.async(Typhon, :call, [py, :sample, :sleep, [600], [timeout: :infinity]])
      eventually(fn -> running(py) == 1 end)

      assert {:error, %TimeoutError{operation: :restart, left: 1} = error} =
               Typhon.restart(py, timeout: 2_000)

      assert Exception.message(error) =~ "workers that are left: 1"
      # On a busy machine the new one may take longer than that.
      eventually(fn -> match?({:ok, %{workers: [%{state: :retiring}, %{state: :ready}]}}, Typhon.info(py)) end)

      {:ok, new} = Typhon.call(py, :os, :getpid, [], timeout: 60_000)
      refute new == old
      assert os_process?(old)
      kill(old, "KILL")
      assert {:error, %WorkerError{reason: :signal}} = await(task)
    end

    test "one that takes long to be replaced is one that is left" do
      gate = gate()
      py = start_pool(init: "import os, time\nwhile os.path.exists('#{gate}'): time.sleep(0.01)")
      File.touch!(gate)
      assert {:error, %TimeoutError{left: 1}} = Typhon.restart(py, timeout: 300)
      File.rm!(gate)
      assert Typhon.restart(py) == :ok
    end

    @tag :os_process
    test "deadlines hold in a worker that finishes its last calls" do
      py = start_pool(grace: 50)

      # Until its worker finishes its last calls before their time is over.
      retiring? = fn ->
        {:ok, %{workers: workers}} = Typhon.info(py)
        Enum.any?(workers, &(&1.state == :retiring))
      end

      old =
        overrun(
          py,
          fn timeout, mark ->
            %{os_pid: old} = worker(py)
            task = Task.async(Typhon, :call, [py, :sample, :busy_c_loop, [mark], [timeout: timeout]])
            eventually(fn -> File.exists?(mark) or not Process.alive?(task.pid) end)
            restart = Task.async(fn -> Typhon.restart(py, timeout: limit()) end)

            in_time? =
              eventually(fn -> (retiring?.() && :yes) || (!Process.alive?(task.pid) && :no) end) == :yes

            assert {:error, %TimeoutError{}} = await(task)
            assert await(restart) == :ok
            if in_time?, do: old, else: :again
          end,
          1_000
        )

      eventually(fn -> not os_process?(old) end)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    @tag :os_process
    test "a new worker that cannot be started is an error, and the old ones stay" do
      dir = new_path("restart")
      File.mkdir_p!(dir)
      on_exit(fn -> File.rm_rf!(dir) end)
      flag = Path.join(dir, "broken")
      py = start_pool(workers: 2, init: "import os\nif os.path.exists('#{flag}'): raise RuntimeError('no')")
      before = os_pids(py)
      File.write!(flag, "")

      log =
        capture_log(fn ->
          assert {:error, %StartError{reason: :init_failed}} = Typhon.restart(py)
        end)

      assert log =~ "cannot be replaced"
      assert os_pids(py) == before
      File.rm!(flag)
      assert Typhon.restart(py) == :ok
    end

    test "several at once all return" do
      py = start_pool(workers: 2)

      assert await_many(for(_ <- 1..3, do: Task.async(Typhon, :restart, [py]))) == [
               :ok,
               :ok,
               :ok
             ]
    end

    @tag :capture_log
    @tag :os_process
    test "of a worker that dies meanwhile, of a pool that is not there" do
      py = start_pool()
      task = Task.async(Typhon, :restart, [py])
      for pid <- os_pids(py), pid != nil, do: Typhon.Native.kill_pid(pid, 9)
      # It may have been the new one.
      answer = await(task)
      assert answer == :ok or match?({:error, %StartError{}}, answer)
      assert Typhon.restart(py) == :ok
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert {:error, %PoolError{reason: :not_found}} = Typhon.restart(:no_such_pool)
    end

    @tag :capture_log
    test "an Elixir process of a worker that is killed while it is replaced leaves one worker, not two" do
      for _ <- 1..5 do
        py = start_pool()
        task = Task.async(Typhon, :restart, [py])
        {:ok, %{workers: workers}} = Typhon.info(py)
        for %{pid: pid} <- workers, do: Process.exit(pid, :kill)
        answer = await(task)
        assert answer == :ok or match?({:error, _}, answer)
        eventually(fn -> match?({:ok, %{workers: [%{state: :ready}]}}, Typhon.info(py)) end)
        assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
        Typhon.stop(py)
      end
    end
  end

  describe "max_restarts" do
    @describetag :capture_log

    defp under_supervisor(options) do
      options = Keyword.merge([workers: 1, python_path: [py_dir()], stdio: :discard], options)
      {:ok, supervisor} = Supervisor.start_link([], strategy: :one_for_one)
      on_exit(fn -> Process.exit(supervisor, :kill) end)
      spec = Supervisor.child_spec({Typhon, options}, restart: :temporary)
      {:ok, py} = Supervisor.start_child(supervisor, spec)
      py
    end

    @tag :os_process
    test "beyond it the pool ends, with the last error and output as its reason" do
      py = under_supervisor(max_restarts: 2, name: Typhon.DownPool)
      monitor = Process.monitor(py)

      for _ <- 1..2 do
        assert {:error, %WorkerError{}} = Typhon.call(py, :sample, :hard_exit, [3])
        eventually(fn -> Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0} end)
      end

      assert {:error, %WorkerError{}} = Typhon.call(py, :sample, :hard_exit, [3])

      assert_receive {:DOWN, ^monitor, _, _, {:shutdown, %PoolError{reason: {:down, error}}}}
      assert %WorkerError{exit_status: 3, output: ["about to leave"]} = error

      for key <- [py, Typhon.DownPool] do
        assert {:error, %PoolError{reason: {:down, ^error}} = down} = Typhon.call(key, :math, :sqrt, [16])
        assert Exception.message(down) =~ "about to leave"
        assert {:ok, %{status: :down, last_error: ^down}} = Typhon.health(key)
      end

      # A successor of that name is as good as any.
      py = start_pool(name: Typhon.DownPool)
      assert Typhon.call(Typhon.DownPool, :math, :sqrt, [16]) == {:ok, 4.0}
      assert {:ok, %{status: :ok}} = Typhon.health(py)
    end

    @tag :os_process
    test "failed starts count, and callers that wait are told" do
      dir = new_path("down")
      File.mkdir_p!(dir)
      on_exit(fn -> File.rm_rf!(dir) end)
      flag = Path.join(dir, "broken")

      py =
        under_supervisor(
          max_restarts: 3,
          init: "import os\nif os.path.exists('#{flag}'): raise RuntimeError('the model is gone')"
        )

      monitor = Process.monitor(py)
      File.write!(flag, "")
      kill(worker(py).os_pid, "KILL")
      assert_receive {:DOWN, ^monitor, _, _, {:shutdown, %PoolError{reason: {:down, error}}}}
      assert %StartError{reason: :init_failed} = error
      assert {:error, %PoolError{reason: {:down, ^error}}} = Typhon.call(py, :math, :sqrt, [16])
    end

    test "what the pool ends by itself does not count" do
      py = under_supervisor(max_restarts: 0, max_calls: 5, grace: 0)
      for _ <- 1..20, do: assert(Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0})
      assert Typhon.restart(py) == :ok

      overrun(py, fn timeout, mark ->
        assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :busy_c_loop, [mark], timeout: timeout)
      end)

      assert Typhon.call(py, :math, :sqrt, [16], timeout: 60_000) == {:ok, 4.0}
      assert {:ok, %{recent_restarts: 0, max_restarts: 0}} = Typhon.health(py)
    end

    @tag :os_process
    test ":infinity: Pythons may end as often as they like" do
      py = under_supervisor(workers: 2, max_restarts: :infinity, max_seconds: 1)

      for _ <- 1..8 do
        Typhon.call(py, :sample, :hard_exit, [3], timeout: 60_000)
      end

      assert Process.alive?(py)
      eventually(fn -> Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0} end)
    end

    @tag :os_process
    test "a supervisor starts a pool again that went down" do
      options = [
        name: Typhon.PhoenixPool,
        workers: 1,
        python_path: [py_dir()],
        stdio: :discard,
        max_restarts: 0
      ]

      {:ok, supervisor} = Supervisor.start_link([{Typhon, options}], strategy: :one_for_one)
      [{_, first, _, _}] = Supervisor.which_children(supervisor)
      monitor = Process.monitor(first)
      Typhon.call(Typhon.PhoenixPool, :sample, :hard_exit, [3])
      assert_receive {:DOWN, ^monitor, _, _, _}
      eventually(fn -> Typhon.call(Typhon.PhoenixPool, :math, :sqrt, [16]) == {:ok, 4.0} end)
      Supervisor.stop(supervisor)
    end
  end
end
