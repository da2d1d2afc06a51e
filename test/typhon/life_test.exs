defmodule Typhon.LifeTest do
  # Not async: counts file descriptors and processes of the whole BEAM.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.{PoolError, WorkerError}

  # Calls from processes of their own, as many of them running as there are workers, the others waiting.
  defp calls_in_flight(py, count, workers \\ 1) do
    tasks =
      for _ <- 1..count, do: Task.async(Typhon, :call, [py, :sample, :sleep, [600], [timeout: :infinity]])

    eventually(fn -> in_flight(py) == count and running(py) == workers end)
    tasks
  end

  describe "a worker that ends" do
    @tag :os_process
    test "by SIGKILL: the call that ran is told so, those that had not begun run on a new worker" do
      py = start_pool()
      os_pid = worker(py).os_pid
      [running] = calls_in_flight(py, 1)
      waiting = for i <- 1..20, do: Task.async(Typhon, :call, [py, :sample, :echo, [i], [timeout: 60_000]])
      eventually(fn -> in_flight(py) == 21 end)
      kill(os_pid, "KILL")

      assert {:error, %WorkerError{reason: :signal, signal: "SIGKILL", os_pid: ^os_pid}} = await(running)
      assert await_many(waiting) == for(i <- 1..20, do: {:ok, i})
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert %{restarts: 1, state: :ready, os_pid: new} = worker(py)
      refute new == os_pid
      refute os_process?(os_pid)
      assert_mailbox_empty()
    end

    @tag :os_process
    test "because it is told to, while its threads run Python: as a program ends" do
      {:ok, device} = StringIO.open("")
      py = start_pool(concurrency: 4, stdio: device)
      leave = "import atexit, sys; atexit.register(lambda: print('left', file=sys.__stdout__))"
      {:ok, nil} = Typhon.call(py, :builtins, :exec, [leave])

      for _ <- 1..4 do
        spawn(fn -> Typhon.call(py, :builtins, :exec, ["while True: sum(range(100))"], timeout: :infinity) end)
      end

      eventually(fn -> in_flight(py) == 4 and running(py) == 1 end)
      :ok = Typhon.stop(py)

      assert eventually(fn -> with {_, text} when text != "" <- StringIO.contents(device), do: text end) ==
               "left\n"
    end

    # A Python whose exit status is noted in a file, whoever else waits for it.
    defp noting_python(dir) do
      path = Path.join(dir, "python")

      File.write!(path, """
      #!/bin/sh
      setsid sh -c '#{System.find_executable("python3")} "$@"; echo $? >> #{dir}/status' sh "$@"
      """)

      File.chmod!(path, 0o755)
      path
    end

    for {function, ending} <- [{:wait_on_and_on, "end with what they are told"}, {:ask_on_and_on, "go on"}] do
      @tag :os_process
      @tag :tmp_dir
      test "because it is told to, while other threads wait for the BEAM and #{ending}: in order", %{
        tmp_dir: dir
      } do
        {:ok, device} = StringIO.open("")
        python = noting_python(dir)
        leave = "import atexit, sys; atexit.register(lambda: print('left', file=sys.__stdout__))"
        # At another moment each.
        times = 6

        for _ <- 1..times do
          py = start_pool(python: python, stdio: device)
          {:ok, nil} = Typhon.call(py, :builtins, :exec, [leave])
          {:ok, nil} = Typhon.call(py, :talk, unquote(function), [3])
          :ok = Typhon.stop(py)
        end

        status = Path.join(dir, "status")
        eventually(fn -> match?({:ok, text} when byte_size(text) >= 2 * times, File.read(status)) end)
        assert File.read!(status) == String.duplicate("0\n", times)
        eventually(fn -> device |> StringIO.contents() |> elem(1) |> byte_size() >= 5 * times end)
        assert StringIO.contents(device) == {"", String.duplicate("left\n", times)}
      end
    end

    for {who, options} <- [{"its own", [concurrency: 2]}, {"others", []}] do
      @tag :os_process
      @tag :tmp_dir
      test "because it is told to, with threads of #{who}: what was written to files is there", %{
        tmp_dir: dir
      } do
        py = start_pool(unquote(options))
        {:ok, nil} = Typhon.call(py, :talk, :ask_on_and_on, [1])
        [text, zipped] = for name <- ["text", "zipped"], do: Path.join(dir, name)
        assert Typhon.call(py, :talk, :leave_open, [text, zipped]) == {:ok, nil}
        assert {File.read!(text), File.read!(zipped)} == {"", ""}
        :ok = Typhon.stop(py)
        eventually(fn -> File.read!(text) == "written" and File.stat!(zipped).size > 16 end)
        assert :zlib.gunzip(File.read!(zipped)) == "written"
      end
    end

    @tag :os_process
    test "by os._exit: with its status and last words" do
      py = start_pool()

      assert {:error, %WorkerError{reason: :exit, exit_status: 3, signal: nil, output: output} = error} =
               Typhon.call(py, :sample, :hard_exit, [3])

      assert output == ["about to leave"]
      assert Exception.message(error) =~ "exited with status 3. Its last output:\n    about to leave"
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    @tag :os_process
    test "by os._exit, on a machine so busy that its status is collected late" do
      py = start_pool()
      {:ok, stat} = File.read("/proc/#{worker(py).os_pid}/stat")
      [_state, helper | _] = stat |> String.split(") ") |> List.last() |> String.split()
      helper = String.to_integer(helper)
      # Erlang's helper process collects it. Nothing can be started meanwhile, so nothing else may run.
      :ok = Typhon.Native.kill_pid(helper, 19)

      try do
        call = Task.async(Typhon, :call, [py, :sample, :hard_exit, [3]])
        refute Task.yield(call, 2_000)
        :ok = Typhon.Native.kill_pid(helper, 18)
        assert {:error, %WorkerError{reason: :exit, exit_status: 3}} = await(call)
      after
        Typhon.Native.kill_pid(helper, 18)
      end
    end

    @tag :os_process
    test "by a crash of C code: with faulthandler's dump" do
      py = start_pool()

      assert {:error, %WorkerError{reason: :signal, signal: "SIGSEGV", output: output}} =
               Typhon.call(py, :sample, :segfault, [])

      assert Enum.any?(output, &(&1 =~ "Fatal Python error: Segmentation fault"))
      assert Enum.any?(output, &(&1 =~ "sample.py"))
    end

    @tag :os_process
    test "by SIGTERM, SIGABRT" do
      for signal <- ["TERM", "ABRT"] do
        py = start_pool()
        [task] = calls_in_flight(py, 1)
        kill(worker(py).os_pid, signal)
        name = "SIG" <> signal
        assert {:error, %WorkerError{reason: :signal, signal: ^name}} = await(task)
      end
    end

    @tag :os_process
    test "does not touch the calls of other workers" do
      py = start_pool(workers: 2)
      gate = gate()
      tasks = for _ <- 1..2, do: Task.async(Typhon, :call, [py, :dispatch, :wait_for, [gate]])
      eventually(fn -> running(py) == 2 end)
      [first, _] = os_pids(py)
      kill(first, "KILL")
      eventually(fn -> Enum.count(tasks, &Process.alive?(&1.pid)) == 1 end)
      File.touch!(gate)
      results = await_many(tasks)
      assert Enum.count(results, &match?({:ok, _}, &1)) == 1
      assert Enum.count(results, &match?({:error, %WorkerError{}}, &1)) == 1
    end

    @tag :os_process
    test "again and again: the pool stays usable, and nothing piles up" do
      py = start_pool()
      before = memfds()

      for _ <- 1..5 do
        os_pid = worker(py).os_pid
        if os_pid, do: kill(os_pid, "KILL")
        eventually(fn -> match?(%{state: :ready, os_pid: new} when new != os_pid, worker(py)) end)
        assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      end

      assert worker(py).restarts == 5
      eventually(fn -> memfds() <= before end)
      eventually(fn -> zombies() == [] end)
    end

    @tag :os_process
    test "with a child that holds its output open" do
      py = start_pool()
      {:ok, child} = Typhon.call(py, :sample, :fork_child, [600])
      [task] = calls_in_flight(py, 1)
      kill(worker(py).os_pid, "KILL")
      assert {:error, %WorkerError{}} = await(task)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      eventually(fn -> not os_process?(child) end)
    end

    @tag :os_process
    test "with a child that holds its output open and has left its process group" do
      py = start_pool()
      {:ok, child} = Typhon.call(py, :sample, :fork_daemon, [600])
      [task] = calls_in_flight(py, 1)
      kill(worker(py).os_pid, "KILL")
      assert {:error, %WorkerError{reason: :signal, signal: "SIGKILL"}} = await(task)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      kill(child, "KILL")
    end

    @tag :os_process
    test "in the middle of large transfers: the rest of the pool's calls get their own answers" do
      py = start_pool(workers: 2)
      bytes = :binary.copy("0123456789abcdef", 500_000)

      tasks =
        for i <- 1..8 do
          async(fn ->
            for j <- 1..10 do
              argument = Typhon.bytes(<<i, j, bytes::binary>>)

              case Typhon.call(py, :sample, :echo, [argument], timeout: :infinity) do
                {:ok, echoed} -> assert echoed == argument.data
                {:error, error} -> assert %WorkerError{reason: :signal} = error
              end
            end

            assert_mailbox_empty()
          end)
        end

      for _ <- 1..3 do
        eventually(fn -> running(py) == 2 or Enum.all?(tasks, &(not Process.alive?(&1.pid))) end)
        {:ok, %{workers: workers}} = Typhon.info(py)
        for %{state: :ready, os_pid: os_pid} <- workers, do: Typhon.Native.kill_pid(os_pid, 9)
      end

      await_many(tasks)
      assert Typhon.call(py, :math, :sqrt, [16], timeout: 60_000) == {:ok, 4.0}
    end

    @tag :os_process
    test "and cannot be started again: calls say why" do
      dir = new_path("life")
      File.mkdir_p!(dir)
      on_exit(fn -> File.rm_rf!(dir) end)
      path = Path.join(dir, "python")
      python = System.find_executable("python3")

      File.write!(
        path,
        "#!/bin/sh\nif [ -e #{dir}/broken ]; then echo it broke; exit 5; fi\nexec #{python} \"$@\"\n"
      )

      File.chmod!(path, 0o755)
      py = start_pool(python: path)
      File.write!(Path.join(dir, "broken"), "")
      kill(worker(py).os_pid, "KILL")

      error =
        eventually(fn ->
          case Typhon.call(py, :math, :sqrt, [16]) do
            {:error, %Typhon.StartError{} = error} -> error
            _ -> nil
          end
        end)

      assert Exception.message(error) =~
               "exited with status 5 before it was ready. Its last output:\n    it broke"

      File.rm!(Path.join(dir, "broken"))
      eventually(fn -> Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0} end)
    end
  end

  describe "a worker that takes nothing though it runs no call" do
    @tag :os_process
    test "is replaced: a finalizer, a handler of messages or a thread holds it up, or it is another program now" do
      [:Stays, :handler, :gil, :another_program]
      |> Enum.map(fn function ->
        py = start_pool(grace: 100)
        os_pid = worker(py).os_pid

        Task.async(fn ->
          # In a process of its own: the handle of the object goes with it.
          await(Task.async(fn -> Typhon.call(py, :wedge, function, [], timeout: 5_000) end))

          eventually(fn ->
            match?({:ok, pid} when pid != os_pid, Typhon.call(py, :os, :getpid, [], timeout: 200))
          end)

          refute os_process?(os_pid)
        end)
      end)
      |> await_many()
    end
  end

  describe "the Elixir process of a worker" do
    @tag :os_process
    test "when killed, takes its Python along; calls are told, and a new one follows" do
      py = start_pool()
      %{pid: pid, os_pid: os_pid} = worker(py)
      [running] = calls_in_flight(py, 1)
      waiting = for i <- 1..5, do: Task.async(Typhon, :call, [py, :sample, :echo, [i], [timeout: 60_000]])
      eventually(fn -> in_flight(py) == 6 end)
      Process.exit(pid, :kill)

      # Python is told to go as well, and interrupts the call: either may be first.
      assert {:error, %WorkerError{reason: reason}} = await(running)
      assert reason in [{:owner_down, :killed}, :stopped]
      assert await_many(waiting) == for(i <- 1..5, do: {:ok, i})

      eventually(fn -> not os_process?(os_pid) end)
      eventually(fn -> Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0} end)
    end

    test "when killed, is waited for: calls, sessions and messages made then go to the next one" do
      for _ <- 1..3 do
        py = start_pool()

        callers =
          for kind <- [:call, :call, :run, :send] do
            Task.async(fn ->
              for i <- 1..200 do
                result =
                  case kind do
                    :call ->
                      Typhon.call(py, :math, :sqrt, [16], timeout: 60_000)

                    :run ->
                      with {:ok, result} <- Typhon.run(py, &Typhon.call(&1, :math, :sqrt, [16])), do: result

                    :send ->
                      with :ok <- Typhon.send(py, i, timeout: 60_000), do: {:ok, 4.0}
                  end

                if rem(i, 50) == 0, do: Process.sleep(20)
                result
              end
            end)
          end

        for _ <- 1..3 do
          Process.sleep(30)

          for {{Typhon.Worker, _, _}, pid, _, _} <- Supervisor.which_children(py),
              is_pid(pid),
              do: Process.exit(pid, :kill)
        end

        for results <- await_many(callers), result <- results do
          # Those it had begun are lost, in one of the ways that end it; no other one is.
          case result do
            {:ok, 4.0} ->
              :ok

            {:error, %WorkerError{reason: reason}} ->
              assert reason in [{:owner_down, :killed}, :stopped, :lost]
          end
        end

        assert Typhon.call(py, :math, :sqrt, [16], timeout: 60_000) == {:ok, 4.0}
        assert Typhon.stop(py) == :ok
      end
    end
  end

  describe "the registry" do
    test "when restarted, still knows the pools, and forgets those that end" do
      py = start_pool(name: Typhon.KeptPool)
      before = Process.whereis(Typhon.Registry)
      Process.exit(before, :kill)
      eventually(fn -> Process.whereis(Typhon.Registry) not in [nil, before] end)
      assert Typhon.call(Typhon.KeptPool, :math, :sqrt, [16]) == {:ok, 4.0}
      Process.exit(py, :kill)
      eventually(fn -> match?({:error, %PoolError{}}, Typhon.call(py, :math, :sqrt, [16])) end)
      eventually(fn -> match?({:error, %PoolError{}}, Typhon.call(Typhon.KeptPool, :math, :sqrt, [16])) end)
    end
  end

  describe "stop/1" do
    @tag :os_process
    test "answers the calls in flight, and leaves nothing" do
      before = memfds()
      py = start_pool(workers: 2)
      pids = os_pids(py)
      tasks = calls_in_flight(py, 6, 2)
      assert Typhon.stop(py) == :ok
      for pid <- pids, do: refute(os_process?(pid))
      results = await_many(tasks)
      # Two ran; the others had not begun, and there is no pool for them any more.
      assert Enum.count(results, &match?({:error, %WorkerError{reason: :stopped}}, &1)) == 2
      assert Enum.count(results, &match?({:error, %PoolError{reason: :stopped}}, &1)) == 4
      assert {:error, %PoolError{reason: :stopped}} = Typhon.call(py, :math, :sqrt, [16])
      eventually(fn -> memfds() <= before end)
      eventually(fn -> zombies() == [] end)
    end

    @tag :os_process
    test "ends a worker that is busy in C code" do
      py = start_pool()
      os_pid = worker(py).os_pid
      task = Task.async(Typhon, :call, [py, :sample, :busy_c_loop, [], [timeout: :infinity]])
      eventually(fn -> running(py) == 1 end)
      assert Typhon.stop(py) == :ok
      refute os_process?(os_pid)
      assert {:error, %WorkerError{reason: :stopped}} = await(task)
    end

    # Python does not wait for such children at its own end.
    @tag :os_process
    test "takes the children of idle workers along, as a restart does" do
      py = start_pool(workers: 3)
      start = fn -> for key <- 1..9, do: Typhon.call!(py, :sample, :fork_child, [600], worker: key) end
      first = start.()
      assert Typhon.restart(py) == :ok
      eventually(fn -> not Enum.any?(first, &os_process?/1) end)
      second = start.()
      assert Typhon.stop(py) == :ok
      eventually(fn -> not Enum.any?(second, &os_process?/1) end)
    end

    test "a pool can be started under the same name again" do
      for _ <- 1..3 do
        {:ok, py} = Typhon.start_link(name: Typhon.AgainPool, workers: 1, stdio: :discard)
        assert Typhon.call(Typhon.AgainPool, :math, :sqrt, [16]) == {:ok, 4.0}
        assert Typhon.stop(Typhon.AgainPool) == :ok
        refute Process.alive?(py)
      end
    end
  end

  describe "under a supervisor" do
    @tag :os_process
    test "a pool is one child, and is restarted when it is killed" do
      {:ok, supervisor} =
        Supervisor.start_link([{Typhon, name: Typhon.ChildPool, workers: 1, stdio: :discard}],
          strategy: :one_for_one
        )

      assert [{Typhon.ChildPool, first, :supervisor, _}] = Supervisor.which_children(supervisor)
      os_pids = os_pids(Typhon.ChildPool)
      Process.exit(first, :kill)
      eventually(fn -> Enum.all?(os_pids, &(not os_process?(&1))) end)
      eventually(fn -> Typhon.call(Typhon.ChildPool, :math, :sqrt, [16]) == {:ok, 4.0} end)
      assert [{Typhon.ChildPool, second, :supervisor, _}] = Supervisor.which_children(supervisor)
      refute second == first
      new_pids = os_pids(Typhon.ChildPool)
      Supervisor.stop(supervisor)
      for pid <- new_pids, do: refute(os_process?(pid))
    end

    test "several pools without a name need an id" do
      assert %{id: Typhon} = Typhon.child_spec([])
      assert %{id: :other} = Supervisor.child_spec({Typhon, []}, id: :other)
    end
  end

  describe "the process that started a pool" do
    @tag :os_process
    test "takes the pool along when it ends" do
      parent = self()

      pid =
        spawn(fn ->
          {:ok, py} = Typhon.start_link(workers: 1, stdio: :discard)
          send(parent, {py, os_pids(py)})
          receive do: (:stop -> exit(:oops))
        end)

      assert_receive {py, [os_pid]}
      send(pid, :stop)
      eventually(fn -> not Process.alive?(py) and not os_process?(os_pid) end)
      assert {:error, %PoolError{reason: :stopped}} = Typhon.call(py, :math, :sqrt, [16])
    end
  end

  describe "a BEAM that is killed" do
    # A BEAM of its own, which prints the pids of its workers and then waits for ever.
    defp child_beam(function, module \\ :sample, args \\ []) do
      script = """
      {:ok, _} = Application.ensure_all_started(:typhon)
      {:ok, py} = Typhon.start_link(workers: 1, python_path: [#{inspect(py_dir())}], stdio: :discard)
      {:ok, %{workers: [%{os_pid: os_pid}]}} = Typhon.info(py)
      spawn(fn -> Typhon.call(py, :#{module}, :#{function}, #{inspect(args)}, timeout: :infinity) end)
      Process.sleep(500)
      IO.puts("worker \#{os_pid} beam \#{System.pid()}")
      Process.sleep(:infinity)
      """

      paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])

      port =
        Port.open({:spawn_executable, System.find_executable("elixir")}, [
          :binary,
          :exit_status,
          :stderr_to_stdout,
          {:line, 1000},
          {:args, paths ++ ["-e", script]}
        ])

      assert_receive {^port, {:data, {:eol, "worker " <> line}}}
      [worker, "beam", beam] = String.split(line)
      {port, worker, beam}
    end

    for function <- [:busy_c_loop, :backtrack] do
      @function function
      @tag :os_process
      test "by SIGKILL while Python holds the GIL in #{function}: the worker is gone, too" do
        {port, worker, beam} = child_beam(@function)
        assert os_process?(worker)
        kill(beam, "KILL")
        assert_receive {^port, {:exit_status, _}}
        eventually(fn -> not os_process?(worker) or zombie?(worker) end)
      end
    end

    @tag :os_process
    test "while idle" do
      {port, worker, beam} = child_beam("no_such_function")
      kill(beam, "KILL")
      assert_receive {^port, {:exit_status, _}}
      eventually(fn -> not os_process?(worker) or zombie?(worker) end)
    end

    @tag :os_process
    @tag :tmp_dir
    test "while other threads of the worker wait for it: its children go, too", %{tmp_dir: dir} do
      note = Path.join(dir, "note")
      {port, worker, beam} = child_beam(:ask_beside_child, :talk, [note])
      eventually(fn -> match?({:ok, text} when text != "", File.read(note)) end)
      kill(beam, "KILL")
      assert_receive {^port, {:exit_status, _}}
      child = File.read!(note)
      eventually(fn -> Enum.all?([worker, child], &(not os_process?(&1) or zombie?(&1))) end)
    end
  end

  describe "memory" do
    @tag :os_process
    test "of a call with a million objects is given back when the worker has been idle for some seconds" do
      py = start_pool()
      {:ok, _} = Typhon.call(py, :builtins, :len, [[1, 2]])
      os_pid = worker(py).os_pid
      before = resident(os_pid)
      numbers = Enum.to_list(1..1_000_000)
      for _ <- 1..3, do: assert(Typhon.call(py, :builtins, :sum, [numbers]) == {:ok, 500_000_500_000})
      # What came and went again and again stays for the next call...
      assert resident(os_pid) > before + 20_000
      # ...and goes when there is none.
      eventually(fn -> resident(os_pid) < before + 8_000 end)
      assert Typhon.call(py, :builtins, :sum, [numbers]) == {:ok, 500_000_500_000}
    end
  end

  defp resident(os_pid) do
    [_, kib] = Regex.run(~r/^VmRSS:\s+(\d+) kB/m, File.read!("/proc/#{os_pid}/status"))
    String.to_integer(kib)
  end
end
