defmodule Typhon.FaultsTest do
  # Faults lose nothing: each call ends with its result or with an error that names the cause, and nothing stays behind. Each
  # fault comes again and again, while callers that have nothing to do with it make calls whose answers are checked.
  # Not async: it counts what the whole BEAM holds.
  use ExUnit.Case, async: false

  @moduletag :os_process

  import Typhon.TestHelper

  alias Typhon.{Footprint, PythonError, TimeoutError, WorkerError}
  alias Typhon.Worker.Proc

  # Growth that is none: what memory allocators keep, and what modules bring that are loaded when they are first used.
  @memory 96 * 1024 * 1024

  setup do
    marker = Footprint.marker()
    on_exit(fn -> eventually(fn -> Footprint.os_processes(marker) == [] end) end)
    %{marker: marker}
  end

  defp pool(marker, options \\ []) do
    [workers: 3, env: Footprint.env(marker), grace: 100, max_restarts: :infinity]
    |> Keyword.merge(options)
    |> start_pool()
  end

  # Callers that check their answers. Their workers may be killed under them; nothing else may happen to them.
  defp callers(py, count) do
    for i <- 1..count do
      async(fn -> call_on(py, i, 0, 0) end)
    end
  end

  defp call_on(py, i, n, lost) do
    payload =
      case rem(n, 4) do
        0 -> {i, n}
        1 -> Enum.to_list(1..(rem(n, 100) + 1))
        2 -> String.duplicate("#{i} ", 20_000)
        3 -> %{"text" => "#{n}", "list" => [n, [i]]}
      end

    lost =
      case Typhon.call(py, :sample, :echo, [payload], timeout: 120_000) do
        {:ok, ^payload} -> lost
        {:error, %WorkerError{}} -> lost + 1
      end

    receive do
      :stop ->
        assert_mailbox_empty()
        {n + 1, lost}
    after
      # Leaves some of the processor to those whom the test is about.
      rem(n, 3) -> call_on(py, i, n + 1, lost)
    end
  end

  defp stop_callers(tasks) do
    for task <- tasks, do: send(task.pid, :stop)
    for {calls, _lost} <- await_many(tasks), do: assert(calls > 0)
  end

  # The fault, `times` times, under load. What the pool held before it holds afterwards.
  defp repeat(py, marker, times, fault, options \\ []) do
    tasks = callers(py, Keyword.get(options, :callers, 3))
    # Once before it is counted: for what is made when it is first used.
    fault.(0)
    stop_callers(tasks)
    settled(py)

    before = Footprint.take(marker)

    tasks = callers(py, Keyword.get(options, :callers, 3))
    for i <- 1..times, do: fault.(i)
    stop_callers(tasks)
    settled(py)
    assert_mailbox_empty()

    # An atom for each fault would show; what modules bring that are loaded late must not, where faults are few.
    atoms = if times >= 20, do: times - 1, else: 100

    slack = [atoms: atoms, beam_memory: @memory, os_processes: Keyword.get(options, :os_processes, 0)]
    unchanged(before, marker, slack)
  end

  defp unchanged(before, marker, slack) do
    left =
      Enum.reduce_while(1..200, [], fn _, _ ->
        case Footprint.grown(before, Footprint.take(marker), slack) do
          [] ->
            {:halt, []}

          grown ->
            Process.sleep(50)
            {:cont, grown}
        end
      end)

    assert left == []
  end

  # All workers are there again, and have nothing to do. In this order: a worker that is to be killed still has its call.
  defp settled(py) do
    eventually(fn -> in_flight(py) == 0 and all_ready?(py) end)
  end

  defp all_ready?(py) do
    {:ok, %{workers: workers}} = Typhon.info(py)
    # The calls of one that is killed end before its process in charge hears of it.
    Enum.all?(workers, &(&1.state == :ready and lives?(&1.os_pid)))
  end

  defp lives?(os_pid), do: os_process?(os_pid) and not Proc.zombie?(os_pid)

  defp ends_by_signal(py, signal, function, args \\ []) do
    assert {:error, %WorkerError{reason: :signal, signal: ^signal} = error} =
             Typhon.call(py, :faults, function, args, timeout: 120_000)

    assert Exception.message(error) =~ signal
  end

  describe "a worker that ends" do
    test "by SIGKILL", %{marker: marker} do
      py = pool(marker)
      repeat(py, marker, 20, fn _ -> ends_by_signal(py, "SIGKILL", :kill, [9]) end)
    end

    test "by SIGSEGV", %{marker: marker} do
      py = pool(marker)
      repeat(py, marker, 20, fn _ -> ends_by_signal(py, "SIGSEGV", :segfault) end)
    end

    test "by os._exit", %{marker: marker} do
      py = pool(marker)

      repeat(py, marker, 20, fn _ ->
        assert {:error, %WorkerError{reason: :exit, exit_status: 3}} =
                 Typhon.call(py, :faults, :leave, [3], timeout: 120_000)
      end)
    end

    test "by an overflow of its stack", %{marker: marker} do
      py = pool(marker)

      repeat(py, marker, 10, fn i ->
        ends_by_signal(py, "SIGSEGV", if(rem(i, 2) == 0, do: :overflow, else: :overflow_in_c))

        assert {:error, %PythonError{type: "RecursionError"}} =
                 Typhon.call(py, :faults, :recurse, [], retry: 5)
      end)
    end

    test "in the midst of 256 MiB, in each direction", %{marker: marker} do
      py = pool(marker, workers: 2)
      size = 256 * 1024 * 1024
      big = :binary.copy("0123456789abcdef", div(size, 16))

      {took, {:ok, ^size}} =
        :timer.tc(fn -> Typhon.call(py, :faults, :size_of, [Typhon.bytes(big)], timeout: :infinity) end)

      repeat(
        py,
        marker,
        6,
        fn i ->
          # Spread over the time that a transfer takes. The victim may be another worker, or one that has just begun.
          at = rem(i, 3) * took / 3 / 1_000_000
          {:ok, pid} = Typhon.call(py, :os, :getpid, [], worker: :victim, retry: 5, timeout: 120_000)

          killer =
            async(fn ->
              Process.sleep(round(at * 1000))
              Typhon.Native.kill_pid(pid, 9)
            end)

          case Typhon.call(py, :faults, :size_of, [Typhon.bytes(big)], worker: :victim, timeout: 120_000) do
            {:ok, ^size} -> :ok
            {:error, error} -> assert %WorkerError{reason: :signal, signal: "SIGKILL"} = error
          end

          await(killer)

          case Typhon.call(py, :faults, :die_soon, [at, "blob", size, 7], timeout: 120_000) do
            {:ok, blob} -> assert blob == :binary.copy(<<7>>, size)
            {:error, error} -> assert %WorkerError{reason: :signal, signal: "SIGKILL"} = error
          end

          :erlang.garbage_collect()
        end,
        callers: 2
      )
    end

    test "or not, when it has used up its memory", %{marker: marker} do
      py = pool(marker, limits: [memory: 300_000_000])

      repeat(py, marker, 20, fn _ ->
        case Typhon.call(py, :faults, :eat, [10_000_000], timeout: 120_000) do
          {:error, %PythonError{type: "MemoryError"} = error} ->
            assert Exception.message(error) =~ "memory: 300000000"

          {:error, error} ->
            assert %WorkerError{} = error
        end
      end)
    end

    test "24 times a second", %{marker: marker} do
      py = pool(marker, workers: 12)

      repeat(
        py,
        marker,
        2,
        fn _ ->
          for _ <- 1..24 do
            {:ok, %{workers: workers}} = Typhon.info(py)
            # Those that have been replaced once wait for longer each time: the one that did so least often.
            case workers |> Enum.filter(&(&1.state == :ready)) |> Enum.min_by(& &1.restarts, fn -> nil end) do
              nil -> :ok
              %{os_pid: os_pid} -> Typhon.Native.kill_pid(os_pid, 9)
            end

            Process.sleep(40)
          end
        end,
        callers: 6
      )
    end
  end

  describe "a worker that hangs" do
    test "stopped in a call: the call ends by its deadline, the worker after the grace", %{marker: marker} do
      py = pool(marker)

      repeat(py, marker, 10, fn _ ->
        assert {:error, %TimeoutError{}} = Typhon.call(py, :faults, :stop, [], timeout: 200)
      end)

      # One that waited behind another never ran.
      {:ok, %{workers: workers}} = Typhon.info(py)
      assert Enum.sum(Enum.map(workers, & &1.restarts)) in 1..11
    end

    test "stopped while it has nothing to do: the next one waits in vain, and the worker goes", %{
      marker: marker
    } do
      py = pool(marker, workers: 1)

      for _ <- 1..3 do
        settled(py)
        %{os_pid: os_pid, restarts: restarts} = worker(py)
        kill(os_pid, "STOP")
        assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :echo, [1], timeout: 100)
        # Behind the one that showed it.
        assert {:ok, 2} = Typhon.call(py, :sample, :echo, [2], timeout: 60_000)
        eventually(fn -> worker(py).restarts == restarts + 1 end)
      end
    end

    test "stopped in a call, or before it, that may take for ever: the call says so", %{marker: marker} do
      py = pool(marker, workers: 1)
      running = async(fn -> Typhon.call(py, :faults, :stop, [], timeout: :infinity) end)
      eventually(fn -> Proc.stopped?(worker(py).os_pid) end)
      waiting = async(fn -> Typhon.call(py, :sample, :echo, [1], timeout: :infinity) end)
      assert {:error, %WorkerError{reason: :hung} = error} = await(running)
      assert Exception.message(error) =~ "its process had been stopped (SIGSTOP), and calls waited for it"
      # The worker never took this one.
      assert await(waiting) == {:ok, 1}

      kill(worker(py).os_pid, "STOP")
      assert Typhon.call(py, :sample, :echo, [2], timeout: :infinity) == {:ok, 2}
      assert worker(py).restarts == 2
    end

    test "stopped while its ring is full: who waits for room, for ever or not, has it replaced", %{
      marker: marker
    } do
      # From the first that finds no room on its grace runs: long enough for the one that is to wait in vain.
      py = pool(marker, workers: 1, grace: 3_000)
      text = String.duplicate("x", 15_000)

      for wait <- [:infinity, 50] do
        settled(py)
        %{os_pid: os_pid, restarts: restarts} = worker(py)
        kill(os_pid, "STOP")
        eventually(fn -> Typhon.cast(py, :sample, :echo, [text], timeout: 1) != :ok end)
        result = Typhon.call(py, :sample, :echo, [text], timeout: wait)

        if wait == :infinity,
          do: assert(result == {:ok, text}),
          else: assert({:error, %TimeoutError{}} = result)

        eventually(fn -> worker(py).restarts > restarts end)
      end
    end

    test "stopped, and looked at again and again: its grace ends all the same", %{marker: marker} do
      py = pool(marker, workers: 1, grace: 500)
      settled(py)
      %{os_pid: os_pid, pid: pid} = worker(py)
      kill(os_pid, "STOP")
      eventually(fn -> Proc.stopped?(os_pid) end)
      assert :ok = Typhon.cast(py, :sample, :echo, [1])

      eventually(fn ->
        :ok = Typhon.Worker.look(pid)
        worker(py).restarts == 1
      end)
    end

    test "stopped, and continued before its grace is over: nothing happens", %{marker: marker} do
      py = pool(marker, workers: 1, grace: limit())
      %{os_pid: os_pid, pid: pid} = worker(py)
      kill(os_pid, "STOP")
      eventually(fn -> Proc.stopped?(os_pid) end)
      call = async(fn -> Typhon.call(py, :sample, :echo, [1], timeout: :infinity) end)
      :ok = Typhon.Worker.look(pid)
      assert worker(py).restarts == 0
      kill(os_pid, "CONT")
      assert await(call) == {:ok, 1}
      assert %{os_pid: ^os_pid, restarts: 0} = worker(py)
    end

    test "in a C function that holds the GIL", %{marker: marker} do
      py = pool(marker)

      repeat(py, marker, 10, fn _ ->
        assert {:error, %TimeoutError{}} = Typhon.call(py, :faults, :hold_gil, [], timeout: 200)
      end)
    end
  end

  test "a worker that is ended in an import that outlasts its call", %{marker: marker} do
    py = pool(marker, import_timeout: 100)

    repeat(py, marker, 10, fn _ ->
      assert {:error, %TimeoutError{}} = Typhon.call(py, :endless, :ready, [], timeout: 300)
    end)
  end

  describe "what Python raises or returns" do
    test "exceptions without a text, a name, an end", %{marker: marker} do
      py = pool(marker, workers: 1)

      repeat(py, marker, 20, fn _ ->
        for how <-
              ["raises", "raises base", "no str", "surrogate", "recursion", "long", "nameless", "notes"] ++
                ["sneaky note", "sneaky", "cycle", "chain", "interrupt", "exit", "stop", "cancelled"] do
          assert {:error, %PythonError{} = error} = Typhon.call(py, :faults, :raise_, [how], timeout: 120_000)
          assert is_binary(Exception.message(error))
        end
      end)

      assert worker(py).restarts == 0
    end

    test "results that cannot cross", %{marker: marker} do
      py = pool(marker, workers: 1)

      repeat(py, marker, 20, fn _ ->
        for how <- ["surrogate", "cycle", "deep", "keys", "huge then bad", "objects then bad"] do
          assert {:error, %Typhon.EncodeError{path: "result" <> _}} =
                   Typhon.call(py, :faults, :result, [how], timeout: 120_000)
        end

        assert {:error, %Typhon.DecodeError{}} = Typhon.call(py, :faults, :result, ["atom"], timeout: 120_000)
      end)

      assert worker(py).restarts == 0
    end
  end

  test "an event loop whose thread cannot be started: the call says so, and the next one tries again", %{
    marker: marker
  } do
    py = pool(marker, workers: 1)
    assert Typhon.call(py, :faults, :without_threads, [true]) == {:ok, nil}

    for _ <- 1..3 do
      assert {:error, %PythonError{message: "can't start new thread"}} =
               Typhon.call(py, :faults, :coroutine, [], timeout: 60_000)
    end

    assert Typhon.call(py, :faults, :without_threads, [false]) == {:ok, nil}
    assert Typhon.call(py, :faults, :coroutine, [], timeout: 60_000) == {:ok, "done"}
  end

  describe "children of Python" do
    # Every one of them is gone soon after its worker; what a fork says by the channel would break it.
    test "a fork that returns from the call, raises or exits, answers nothing", %{marker: marker} do
      py = pool(marker, workers: 2)

      repeat(py, marker, 20, fn i ->
        assert Typhon.call(py, :faults, :fork_and_return, [], timeout: 60_000) == {:ok, false}
        assert Typhon.call(py, :faults, :fork_and_raise, [], timeout: 60_000) == {:ok, "parent"}
        assert Typhon.call(py, :faults, :fork_and_exit, [i], timeout: 60_000) == {:ok, i}
      end)

      assert restarts(py) == 0
    end

    test "a fork in code that runs while a result or an error is sent is none of the worker", %{
      marker: marker
    } do
      py = pool(marker, workers: 1)
      fork = "import os, datetime, dataclasses\ndef fork():\n  return 'parent' if os.fork() else 'child'\n"

      codes = [
        "class X:\n  def __repr__(self): return fork()\nX()",
        "class X:\n  def __del__(self): fork()\nX()\nNone",
        "class E(Exception):\n  def __str__(self): return fork()\nraise E",
        "@dataclasses.dataclass\nclass A:\n  x: int = 0\n  def __getattribute__(self, name):\n    if name == 'x': fork()\n" <>
          "    return object.__getattribute__(self, name)\nA()",
        "class Z(datetime.tzinfo):\n  def utcoffset(self, _):\n    fork()\n    return datetime.timedelta(0)\n" <>
          "  def tzname(self, _): return 'Z'\n  def dst(self, _): return None\ndatetime.datetime(2020, 1, 1, tzinfo=Z())"
      ]

      %{os_pid: os_pid} = worker(py)

      repeat(py, marker, 5, fn i ->
        for code <- codes do
          refute inspect(Typhon.eval(py, fork <> code, %{}, timeout: 60_000)) =~ "child"
          assert Typhon.call(py, :sample, :echo, [i], timeout: 60_000) == {:ok, i}
          assert Typhon.call(py, :os, :getpid, [], timeout: 60_000) == {:ok, os_pid}
        end
      end)

      assert restarts(py) == 0
    end

    test "a fork does not talk by the channel", %{marker: marker} do
      py = pool(marker, workers: 2)

      repeat(py, marker, 20, fn _ ->
        assert Typhon.call(py, :faults, :fork_and_talk, [], timeout: 60_000) ==
                 {:ok, "RuntimeError,RuntimeError,RuntimeError"}

        assert Typhon.call(py, :faults, :process_that_prints, [], timeout: 60_000) == {:ok, 0}
      end)

      assert restarts(py) == 0
    end

    test "a fork that lets go of shared memory takes it from nobody", %{marker: marker} do
      py = pool(marker, workers: 2)
      view = Typhon.buffer(:binary.copy(<<3>>, 3_000_000))

      repeat(py, marker, 20, fn _ ->
        assert Typhon.call(py, :faults, :fork_with_view, [view], timeout: 60_000) == {:ok, 3_000}
      end)

      assert restarts(py) == 0
    end

    test "a fork in a thread that serves calls, and in a coroutine", %{marker: marker} do
      py = pool(marker, workers: 2, concurrency: 4)

      repeat(py, marker, 20, fn i ->
        assert Typhon.call(py, :faults, :fork_and_return, [], timeout: 60_000) == {:ok, false}
        assert Typhon.call(py, :faults, :fork_and_exit, [i], timeout: 60_000) == {:ok, i}
        assert Typhon.call(py, :faults, :fork_in_coroutine, [], timeout: 60_000) == {:ok, "parent"}
        prints = for _ <- 1..4, do: Typhon.async(py, :faults, :process_that_prints, [], timeout: 60_000)
        assert await_many(prints) == List.duplicate({:ok, 0}, 4)
        assert {:ok, "RuntimeError," <> _} = Typhon.call(py, :faults, :fork_and_talk, [], timeout: 60_000)
      end)

      assert restarts(py) == 0
    end

    test "multiprocessing and subprocess", %{marker: marker} do
      py = pool(marker, workers: 2)

      repeat(
        py,
        marker,
        5,
        fn i ->
          squares = for n <- 0..19, do: n * n
          assert Typhon.call(py, :faults, :multiprocess, ["fork", 20], timeout: 60_000) == {:ok, squares}
          assert Typhon.call(py, :faults, :multiprocess, ["spawn", 20], timeout: 60_000) == {:ok, squares}

          assert Typhon.call(py, :faults, :subprocess_run, ["text #{i}"], timeout: 60_000) ==
                   {:ok, "text #{i}"}
        end,
        os_processes: 2
      )

      assert restarts(py) == 0
    end

    test "do not hide the end of their worker, and go with it", %{marker: marker} do
      py = pool(marker)
      repeat(py, marker, 10, fn _ -> ends_by_signal(py, "SIGKILL", :children_and_die, [600]) end)
    end
  end

  defp restarts(py) do
    {:ok, %{workers: workers}} = Typhon.info(py)
    Enum.sum(Enum.map(workers, & &1.restarts))
  end

  describe "callers" do
    test "a thousand that die at once, in calls of every kind", %{marker: marker} do
      py = pool(marker, workers: 2)

      repeat(py, marker, 5, fn _ ->
        victims = for i <- 1..1_000, do: spawn(fn -> doomed(py, rem(i, 6), i) end)
        eventually(fn -> in_flight(py) > 50 end)
        Process.sleep(:rand.uniform(200))
        for pid <- victims, do: Process.exit(pid, :kill)

        # What the victims ran may still be running when the grace is over: then its worker goes, with what waits there.
        assert Typhon.call(py, :math, :sqrt, [16], timeout: 120_000, retry: 5) == {:ok, 4.0}
      end)

      eventually(fn ->
        :erlang.garbage_collect()
        Typhon.call(py, :sample, :counters_alive, [], timeout: 120_000) == {:ok, 0}
      end)
    end

    defp doomed(py, kind, i) do
      options = [timeout: :infinity]

      case kind do
        0 -> Typhon.call(py, :sample, :echo, [i], options)
        1 -> Typhon.call(py, :talk, :sleep, [600], options)
        2 -> py |> Typhon.stream(:talk, :numbers, [1_000_000], timeout: :infinity) |> Enum.each(& &1)
        3 -> Typhon.call(py, :talk, :total, [Typhon.iter(Stream.iterate(1, &(&1 + 1)))], options)
        4 -> Typhon.call(py, :talk, :apply, [fn -> Process.sleep(10) end], options)
        5 -> Typhon.call(py, :sample, :Counter, [i], options)
      end

      doomed(py, kind, i)
    end
  end

  describe "a BEAM that ends" do
    # A BEAM of its own, with workers that are busy, that have children, and that are stopped.
    defp child_beam(marker, ending) do
      script = """
      {:ok, _} = Application.ensure_all_started(:typhon)
      options = [python_path: [#{inspect(py_dir())}], env: #{inspect(Footprint.env(marker))}, stdio: :discard, grace: 100]
      {:ok, supervisor} = Supervisor.start_link([{Typhon, [name: P, workers: 6] ++ options}], strategy: :one_for_one)
      Process.unlink(supervisor)
      {:ok, idle} = Typhon.start_link([name: Idle, workers: 1] ++ options)
      Process.unlink(idle)
      Typhon.call!(Idle, :sample, :fork_child, [600])
      {:ok, children} = Typhon.run(P, fn session -> Typhon.call!(session, :faults, :children, [600]) end)
      calls = [{:sample, :busy_c_loop, []}, {:faults, :hold_gil, []}, {:sample, :sleep, [600]}, {:talk, :sleep, [600]},
        {:faults, :children_and_sleep, [600]}, {:sample, :ignore_cancel, [600]}]
      for {module, function, args} <- calls, do: spawn(fn -> Typhon.call(P, module, function, args, timeout: :infinity) end)
      busy = fn busy ->
        {:ok, %{workers: workers}} = Typhon.info(P)
        unless Enum.all?(workers, & &1.in_flight == 1), do: Process.sleep(10) && busy.(busy)
      end
      busy.(busy)
      # The coroutine leaves its worker free, so that some of these are answered.
      for _ <- 1..20, do: spawn(fn -> Typhon.call(P, :sample, :echo, [1], timeout: :infinity) end)
      {:ok, %{workers: [%{os_pid: stopped}]}} = Typhon.info(Idle)
      System.cmd("kill", ["-STOP", "\#{stopped}"])
      Process.sleep(500)
      IO.puts("beam \#{System.pid()} children \#{length(children)}")
      #{ending}
      Process.sleep(:infinity)
      """

      paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])

      # Also when the test fails.
      on_exit(fn ->
        for os_pid <- Footprint.os_processes(marker), do: Typhon.Native.kill_pid(String.to_integer(os_pid), 9)
      end)

      Port.open({:spawn_executable, System.find_executable("elixir")}, [
        :binary,
        :exit_status,
        :stderr_to_stdout,
        {:line, 1000},
        {:env,
         for(
           {name, value} <- Footprint.env(marker),
           do: {String.to_charlist(name), String.to_charlist(value)}
         )},
        {:args, paths ++ ["-e", script]}
      ])
    end

    test "by SIGKILL: its Pythons and their children are gone", %{marker: marker} do
      for _ <- 1..3 do
        port = child_beam(marker, "")
        assert_receive {^port, {:data, {:eol, "beam " <> line}}}
        [beam, "children", "3"] = String.split(line)
        assert length(Footprint.os_processes(marker)) >= 11
        kill(beam, "KILL")
        assert_receive {^port, {:exit_status, _}}
        eventually(fn -> Footprint.os_processes(marker) == [] end)
      end
    end

    test "by System.stop with calls in flight: with its status, and nothing is left", %{marker: marker} do
      for _ <- 1..3 do
        port = child_beam(marker, "System.stop(7)")
        assert_receive {^port, {:data, {:eol, "beam " <> _}}}
        assert_receive {^port, {:exit_status, 7}}
        eventually(fn -> Footprint.os_processes(marker) == [] end)
      end
    end

    test "in order: each call in flight is answered", %{marker: marker} do
      for _ <- 1..5 do
        {:ok, supervisor} =
          Supervisor.start_link(
            [{Typhon, workers: 2, python_path: [py_dir()], env: Footprint.env(marker), stdio: :discard}],
            strategy: :one_for_one
          )

        [{_, py, _, _}] = Supervisor.which_children(supervisor)

        start = fn calls ->
          for {module, function, args} <- calls,
              do: Task.async(Typhon, :call, [py, module, function, args, [timeout: :infinity]])
        end

        # Both workers have something to do that does not end before others come to wait behind it.
        busy = start.([{:sample, :busy_c_loop, []}, {:faults, :children_and_sleep, [600]}])
        eventually(fn -> running(py) == 2 end)
        tasks = busy ++ start.(for i <- 1..50, do: {:sample, :echo, [i]})
        eventually(fn -> in_flight(py) == 52 end)
        Supervisor.stop(supervisor)

        for answer <- await_many(tasks) do
          assert {:error, %kind{reason: :stopped}} = answer
          assert kind in [WorkerError, Typhon.PoolError]
        end

        eventually(fn -> Footprint.os_processes(marker) == [] end)
      end

      assert_mailbox_empty()
    end
  end
end
