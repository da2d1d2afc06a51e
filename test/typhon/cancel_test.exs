defmodule Typhon.CancelTest do
  # Calls that nobody waits for any more: Python is interrupted, nothing is left. Not async: it counts what the whole BEAM holds.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  setup do
    dir = new_path("cancel")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    {:ok, dir: dir}
  end

  # For a while after it was killed its tables are being deleted: it cannot be sent anything, and those who watch it do not know.
  defp slow_to_die(fun) do
    spawn(fn ->
      table = :ets.new(:large, [])
      for i <- 1..200_000, do: :ets.insert(table, {i})
      fun.()
    end)
  end

  test "callers that are killed leave nothing half done: figures, __main__, what tracebacks quote, what was entered" do
    py = start_pool(concurrency: 2)
    path = new_path("program")
    File.write!(path, "x = sum(range(2_000))")
    on_exit(fn -> File.rm(path) end)

    state =
      "import sys, typhon._figures as f\n(getattr(sys.modules['__main__'], '__file__', None), sys.argv, sys.path[:2], f._running)"

    entered = """
    import contextlib, sys
    sys.entered = 0
    class Manager:
        def __enter__(self): sys.entered += 1
        def __exit__(self, *_): sys.entered -= 1
    Manager()
    """

    before = Typhon.eval!(py, state)
    {:ok, manager} = Typhon.eval(py, entered)

    for i <- 1..600 do
      for act <- [
            fn -> Typhon.exec_file(py, path) end,
            fn -> Typhon.eval(py, "x = #{i}", %{}, file: "f#{i}.ex", line: 5_000) end,
            fn -> Typhon.enter(manager, fn _ -> :ok end) end
          ] do
        pid = spawn(act)
        for _ <- 1..:rand.uniform(3_000), do: :ok
        Process.exit(pid, :kill)
      end

      if rem(i, 20) == 0, do: assert(Typhon.eval(py, "1 + #{i}", %{}, timeout: 120_000) == {:ok, i + 1})
    end

    eventually(fn -> Typhon.eval!(py, state, %{}, timeout: 120_000) == before end)

    eventually(fn ->
      Typhon.eval!(py, "import gc, sys; gc.collect(); sys.entered", %{}, timeout: 120_000) == 0
    end)
  end

  describe "a caller that takes long to die" do
    # By then others drain the answers: the handle goes on a scheduler's thread, and tells the worker at once.
    test "is answered with an object of Python, while others call", %{dir: dir} do
      py = start_pool()
      assert Typhon.call(py, :converse, :wait_for, [dir]) == {:ok, nil}

      others =
        for i <- 1..8 do
          spawn_link(fn ->
            Enum.find(Stream.cycle([i]), fn i ->
              {:ok, ^i} = Typhon.call(py, :sample, :echo, [i])

              receive do
                :stop -> true
              after
                0 -> false
              end
            end)
          end)
        end

      for n <- 1..3 do
        gate = Path.join(dir, "gate#{n}")
        caller = slow_to_die(fn -> Typhon.call(py, :converse, :late_object, [gate]) end)

        eventually(fn ->
          Process.info(caller, :current_function) == {:current_function, {Typhon.Call, :request, 4}}
        end)

        Process.exit(caller, :kill)
        File.touch!(gate)
      end

      for pid <- others, do: send(pid, :stop)
      eventually(fn -> not Enum.any?(others, &Process.alive?/1) end)
      eventually(fn -> Typhon.call(py, :sample, :counters_alive, []) == {:ok, 0} end)
      eventually(fn -> in_flight(py) == 0 end)
    end

    test "is asked with an object of Python", %{dir: dir} do
      py = start_pool()
      gate = Path.join(dir, "gate")
      caller = slow_to_die(fn -> Typhon.call(py, :converse, :apply_late_to_object, [& &1, gate]) end)
      eventually(fn -> running(py) == 1 end)
      Process.exit(caller, :kill)
      File.touch!(gate)
      assert Typhon.call(py, :math, :sqrt, [16], timeout: 20_000) == {:ok, 4.0}
      eventually(fn -> Typhon.call(py, :sample, :counters_alive, []) == {:ok, 0} end)
      eventually(fn -> in_flight(py) == 0 end)
    end
  end

  defp python(py, expression, args, options),
    do: Typhon.call(py, :converse, :evaluate, [expression | args], options)

  # How one gives up: a function of what is to be called.
  @ways [:deadline, :kill, :shutdown, :cancel_of_task]

  defp give_up(:deadline, py, _dir, call) do
    overrun(py, fn timeout, mark ->
      assert {:error, %Typhon.TimeoutError{timeout: ^timeout}} = call.(mark, timeout)
    end)
  end

  defp give_up(way, _py, dir, call) do
    gate = Path.join(dir, "begun")

    case way do
      :kill ->
        caller = spawn(fn -> call.(gate, :infinity) end)
        eventually(fn -> File.exists?(gate) end)
        Process.exit(caller, :kill)

      :shutdown ->
        task = Task.async(fn -> call.(gate, :infinity) end)
        eventually(fn -> File.exists?(gate) end)
        Task.shutdown(task)

      :cancel_of_task ->
        task = Task.async(fn -> call.(gate, :infinity) end)
        eventually(fn -> File.exists?(gate) end)
        Task.shutdown(task, :brutal_kill)
    end
  end

  # Free at once, and by an interrupt, not by a new Python.
  defp assert_free(py) do
    assert Typhon.call(py, :math, :sqrt, [16], timeout: 30_000) == {:ok, 4.0}
    eventually(fn -> in_flight(py) == 0 end)
    assert worker(py).restarts == 0
    assert_mailbox_empty()
  end

  defp interrupt_each(way, dir, kinds) do
    py = start_pool(grace: 60_000)
    Typhon.call!(py, :converse, :evaluate, ["1"])

    for kind <- kinds do
      note = Path.join(dir, kind)
      give_up(way, py, dir, &Typhon.call(py, :converse, :block_in, [kind, &1, note], timeout: &2))
      eventually(fn -> File.read(note) == {:ok, "Cancelled"} end)
      assert_free(py)
      File.rm(Path.join(dir, "begun"))
    end
  end

  describe "Python is interrupted" do
    for way <- @ways do
      test "by #{way}: in time.sleep, a loop", %{dir: dir} do
        interrupt_each(unquote(way), dir, ~w(sleep loop))
      end

      @tag :signals
      test "by #{way}: in a socket's recv, a subprocess, a lock, a read of a pipe", %{dir: dir} do
        interrupt_each(unquote(way), dir, ~w(recv select subprocess lock queue pipe thread_join))
      end
    end

    @tag :os_process
    test "and the child that subprocess.run waited for is dead", %{dir: dir} do
      py = start_pool(grace: 60_000)
      gate = Path.join(dir, "child")

      # The mark comes late: one who is interrupted in Popen's constructor does not know his child yet.
      overrun(py, fn timeout, mark ->
        assert {:error, %Typhon.TimeoutError{}} =
                 python(
                   py,
                   "subprocess.run(['sh', '-c', f'echo $$ > {f}; sleep 1; touch {x}; exec sleep 600'])",
                   [gate, mark],
                   timeout: timeout
                 )
      end)

      child = gate |> File.read!() |> String.trim()
      eventually(fn -> not os_process?(child) or zombie?(child) end)
      assert_free(py)
    end

    test "once: it may take its time to clean up", %{dir: dir} do
      py = start_pool(grace: 60_000)
      note = Path.join(dir, "note")

      overrun(py, fn timeout, mark ->
        assert {:error, %Typhon.TimeoutError{}} =
                 Typhon.call(py, :converse, :clean_up_slowly, [note, mark], timeout: timeout)
      end)

      assert_free(py)
      assert File.read!(note) == "clean"
    end

    test "and a result that comes all the same reaches nobody" do
      py = start_pool(grace: 60_000)

      overrun(py, fn timeout, mark ->
        assert {:error, %Typhon.TimeoutError{}} =
                 Typhon.call(py, :converse, :swallow_and_return, [mark], timeout: timeout)
      end)

      assert_free(py)
    end
  end

  # Called from Python: it does not come back, and a file says that it is there.
  def stay(mark) do
    File.touch!(mark)
    Process.sleep(:infinity)
  end

  # Nobody answers what it waits for, and meanwhile the loop does nothing for others.
  describe "a coroutine that blocks the event loop while it waits for" do
    for kind <- [
          "a function",
          "a function, in a task",
          "a function, in a thread",
          "a call",
          "an element",
          "a message"
        ] do
      test "#{kind} is interrupted, and others go on", %{dir: dir} do
        py = start_pool(grace: 60_000)
        Typhon.call!(py, :talk, :sleep, [0])
        note = Path.join(dir, "note")
        others = for i <- 1..4, do: Task.async(fn -> Typhon.call(py, :talk, :sleep, [0.2, i]) end)
        eventually(fn -> in_flight(py) == 4 end)

        give_up(:kill, py, dir, fn mark, timeout ->
          args =
            case unquote(kind) do
              "a message" -> []
              "a call" -> [to_string(__MODULE__), "stay", [mark]]
              "an element" -> [Typhon.iter(Stream.map([mark], &stay/1))]
              _function -> [fn -> stay(mark) end]
            end

          Typhon.call(py, :converse, :block_loop_in, [unquote(kind), mark, note | args], timeout: timeout)
        end)

        eventually(fn -> File.read(note) == {:ok, "Cancelled"} end)
        assert await_many(others) == for(i <- 1..4, do: {:ok, i})
        assert Typhon.call(py, :talk, :ask, [&(&1 + 1), 1]) == {:ok, 2}
        assert_free(py)
      end
    end

    test "a message is interrupted at its deadline", %{dir: dir} do
      py = start_pool(grace: 60_000)
      note = Path.join(dir, "note")

      give_up(
        :deadline,
        py,
        dir,
        &Typhon.call(py, :converse, :block_loop_in, ["a message", &1, note], timeout: &2)
      )

      eventually(fn -> File.read(note) == {:ok, "Cancelled"} end)
      assert Typhon.call(py, :talk, :sleep, [0, 7]) == {:ok, 7}
      assert_free(py)
    end

    test "functions, again and again, each until its deadline" do
      py = start_pool(grace: 60_000)
      ask = fn i -> Typhon.call(py, :converse, :ask_blocking_async, [& &1, 50], timeout: 1 + rem(i, 40)) end

      results =
        1..300
        |> Task.async_stream(ask, max_concurrency: 30, timeout: limit())
        |> Enum.map(fn {:ok, result} -> result end)

      assert Enum.all?(results, &(&1 == {:ok, 50} or match?({:error, %Typhon.TimeoutError{}}, &1)))
      assert_free(py)
    end
  end

  describe "Python that cannot be interrupted is killed after the grace" do
    @describetag :os_process

    for {name, expression} <- [
          {"a loop that swallows it", "ignore(f)"},
          {"a loop in C", "sample.busy_c_loop(f)"}
        ] do
      test name do
        py = start_pool(grace: 100)

        %{os_pid: os_pid, restarts: restarts} =
          overrun(py, fn timeout, mark ->
            eventually(fn -> worker(py).state == :ready end)
            worker = worker(py)

            assert {:error, %Typhon.TimeoutError{}} =
                     python(py, unquote(expression), [mark], timeout: timeout)

            worker
          end)

        eventually(fn -> not os_process?(os_pid) end)
        eventually(fn -> Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0} end)
        assert worker(py).restarts == restarts + 1
        assert_mailbox_empty()
      end

      test name <> ", also when the caller dies", %{dir: dir} do
        py = start_pool(grace: 100)
        os_pid = worker(py).os_pid
        mark = Path.join(dir, "mark")
        caller = spawn(fn -> python(py, unquote(expression), [mark], timeout: :infinity) end)
        eventually(fn -> File.exists?(mark) end)
        Process.exit(caller, :kill)
        eventually(fn -> not os_process?(os_pid) end)
        eventually(fn -> Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0} end)
        assert worker(py).restarts == 1
      end
    end
  end

  describe "calls that wait their turn" do
    for concurrency <- [1, 2] do
      test "and were given up are never run (concurrency: #{concurrency})", %{dir: dir} do
        py = start_pool(concurrency: unquote(concurrency), grace: 60_000)
        Typhon.call!(py, :converse, :evaluate, ["1"])
        gate = Path.join(dir, "gate")

        blockers =
          for _ <- 1..unquote(concurrency),
              do: Task.async(fn -> Typhon.call(py, :converse, :wait_for, [gate], timeout: :infinity) end)

        eventually(fn -> in_flight(py) == unquote(concurrency) end)
        put = fn i, timeout -> Typhon.call(py, :sample, :put, [i, true], timeout: timeout) end

        by_time = for i <- 1..50, do: Task.async(fn -> put.(i, 50) end)
        killed = for i <- 51..100, do: spawn(fn -> put.(i, :infinity) end)
        wanted = for i <- 101..110, do: Task.async(fn -> put.(i, :infinity) end)
        for task <- by_time, do: assert({:error, %Typhon.TimeoutError{}} = await(task))
        eventually(fn -> Enum.all?(killed, &(Process.info(&1, :status) == {:status, :waiting})) end)
        for pid <- killed, do: Process.exit(pid, :kill)
        eventually(fn -> not Enum.any?(killed, &Process.alive?/1) end)

        # With a thread that reads the ring they are called off there; else they lie in the ring, and what is said of them there
        # cannot be seen from here.
        if unquote(concurrency) > 1,
          do: eventually(fn -> in_flight(py) == unquote(concurrency) + 10 end),
          else: Process.sleep(100)

        File.touch!(gate)
        await_many(blockers ++ wanted)
        assert {:ok, keys} = Typhon.call(py, :converse, :evaluate, ["sorted(sample.state)"])
        assert keys == Enum.to_list(101..110)
        assert_free(py)
      end
    end
  end

  describe "1,000 callers that die at once" do
    for {name, options, module, function, args} <- [
          {"in ordinary calls", [workers: 2], :sample, :sleep, [600]},
          {"in coroutines", [workers: 2], :talk, :sleep, [600]},
          {"in threads", [workers: 2, concurrency: 4], :sample, :spin_python, [600]},
          {"in callbacks", [workers: 2], :talk, :apply, [:wait_here]},
          {"in coroutines' callbacks", [workers: 2], :talk, :ask, [:wait_here]}
        ] do
      test "#{name} leave nothing" do
        py = start_pool([grace: 60_000] ++ unquote(options))
        for _ <- 1..4, do: Typhon.call!(py, :talk, :sleep, [0])
        before = length(Process.list())

        args =
          for arg <- unquote(Macro.escape(args)),
              do: if(arg == :wait_here, do: fn -> Process.sleep(:infinity) end, else: arg)

        for _ <- 1..2 do
          pids =
            for _ <- 1..1_000,
                do:
                  spawn(fn ->
                    Typhon.call(py, unquote(module), unquote(function), args, timeout: :infinity)
                  end)

          eventually(fn -> in_flight(py) == 1_000 end)
          for pid <- pids, do: Process.exit(pid, :kill)
          eventually(fn -> {in_flight(py), polling(py)} == {0, 0} end)
        end

        assert Typhon.call(py, :math, :sqrt, [16], timeout: 30_000) == {:ok, 4.0}
        {:ok, %{workers: workers}} = Typhon.info(py)
        assert Enum.all?(workers, &(&1.restarts == 0))
        eventually(fn -> length(Process.list()) <= before + 5 end)

        for %{pid: pid} <- workers,
            do: eventually(fn -> Process.info(pid, :message_queue_len) == {:message_queue_len, 0} end)

        # Python holds nothing of them either.
        for %{pid: pid} <- workers do
          {_, %{channel: channel}} = :sys.get_state(pid)
          eventually(fn -> Typhon.Native.channel_info(channel).request_arena == 0 end)
        end

        assert {:ok, 0} =
                 Typhon.call(py, :converse, :evaluate, ["len(__import__('typhon._aio')._aio._tasks)"])
      end
    end
  end
end
