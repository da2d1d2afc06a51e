defmodule Typhon.CoroutineTest do
  # Coroutine functions, and workers with threads.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PythonError, TimeoutError, WorkerError}

  setup do
    path = new_path("coroutine")

    on_exit(fn -> File.rm(path) end)
    {:ok, path: path}
  end

  # Most tests share one worker, as calls do.
  setup_all do
    {:ok, py: start_pool()}
  end

  defp python(py, expression, args \\ [], options \\ []),
    do: Typhon.call(py, :converse, :evaluate, [expression | args], options)

  describe "an async def" do
    test "is awaited", %{py: py} do
      for i <- 1..5, do: assert(Typhon.call(py, :talk, :sleep, [0.001, i]) == {:ok, i})
      assert Typhon.call(py, :asyncio, :sleep, [0.001, "direct"]) == {:ok, "direct"}
      assert Typhon.call(py, :talk, :sleep, [0], kwargs: %{result: 7}) == {:ok, 7}
      assert Typhon.call(py, "converse", "Asynchronous.method", [5]) == {:ok, 10}
    end

    test "may be the method of an object", %{py: py} do
      object = Typhon.call!(py, :converse, :Asynchronous, [])
      assert Typhon.call(py, object, :own, [5]) == {:ok, {"own", 5}}
      assert Typhon.call(py, object, :own, [6]) == {:ok, {"own", 6}}
    end

    test "may be decorated, or a function that returns a coroutine", %{py: py} do
      assert Typhon.call(py, :converse, :returns_coroutine, [3]) == {:ok, 3}
      assert Typhon.call(py, :converse, :returns_coroutine, [4]) == {:ok, 4}
      # Some calls return one, others do not.
      for i <- 1..6, do: assert(Typhon.call(py, :converse, :sometimes_coroutine, [i]) == {:ok, i})
    end

    test "by cast, task, multi and map", %{py: py, path: path} do
      :ok = Typhon.cast(py, :converse, :write_async, [path, "by cast"])
      eventually(fn -> File.read(path) == {:ok, "by cast"} end)
      assert py |> Typhon.async(:talk, :sleep, [0.001, 1]) |> Typhon.await() == {:ok, 1}
      assert py |> Typhon.map(:talk, :sleep, [0.001, 0.002], args: ["x"]) |> Enum.to_list() == ["x", "x"]
    end

    test "thousands at once on one worker, mixed with ordinary calls", %{py: py} do
      sleeping =
        for i <- 1..2_000, do: Task.async(fn -> Typhon.call(py, :talk, :sleep, [0.2, i], timeout: 60_000) end)

      for i <- 1..500, do: assert(Typhon.call(py, :sample, :echo, [i], timeout: 60_000) == {:ok, i})
      assert await_many(sleeping) == for(i <- 1..2_000, do: {:ok, i})
      eventually(fn -> in_flight(py) == 0 end)
    end

    test "goes on while an ordinary call blocks, and the other way round" do
      py = start_pool()
      assert Typhon.call(py, :talk, :sleep, [0, 1]) == {:ok, 1}
      blocker = Task.async(fn -> Typhon.call(py, :sample, :sleep, [600], timeout: :infinity) end)
      eventually(fn -> running(py) == 1 end)
      # It is known to be a coroutine function.
      for i <- 1..50, do: assert(Typhon.call(py, :talk, :sleep, [0.001, i]) == {:ok, i})
      Task.shutdown(blocker, :brutal_kill)
      waiting = Task.async(fn -> Typhon.call(py, :talk, :sleep, [600], timeout: :infinity) end)
      eventually(fn -> in_flight(py) == 1 end)
      for i <- 1..50, do: assert(Typhon.call(py, :sample, :echo, [i]) == {:ok, i})
      Task.shutdown(waiting, :brutal_kill)
      eventually(fn -> in_flight(py) == 0 end)
      assert worker(py).restarts == 0
    end

    test "the loop does not wait for a function that is none, whatever it has returned before" do
      py = start_pool()
      assert Typhon.call(py, :converse, :coroutine_or_sleep, [0]) == {:ok, "awaited"}

      blocker =
        Task.async(fn -> Typhon.call(py, :converse, :coroutine_or_sleep, [600], timeout: :infinity) end)

      eventually(fn -> running(py) == 1 end)
      # The loop's thread is free: a coroutine is known to be one by its second call.
      Task.shutdown(blocker, :brutal_kill)
      assert Typhon.call(py, :talk, :sleep, [0, 1]) == {:ok, 1}

      blocker =
        Task.async(fn -> Typhon.call(py, :converse, :coroutine_or_sleep, [600], timeout: :infinity) end)

      eventually(fn -> running(py) == 1 end)
      for i <- 1..5, do: assert(Typhon.call(py, :talk, :sleep, [0.001, i], timeout: 60_000) == {:ok, i})
      Task.shutdown(blocker, :brutal_kill)

      # The name of a coroutine function may come to mean something else: once the loop finds out, and then no more.
      for _ <- 1..2, do: assert(Typhon.call(py, :converse, :bound_anew, []) == {:ok, "awaited"})
      assert Typhon.call(py, :converse, :bind_anew, [0]) == {:ok, nil}
      assert Typhon.call(py, :converse, :bound_anew, []) == {:ok, "slept"}
      assert Typhon.call(py, :converse, :bind_anew, [600]) == {:ok, nil}
      blocker = Task.async(fn -> Typhon.call(py, :converse, :bound_anew, [], timeout: :infinity) end)
      eventually(fn -> running(py) == 1 end)
      for i <- 1..5, do: assert(Typhon.call(py, :talk, :sleep, [0.001, i], timeout: 60_000) == {:ok, i})
      Task.shutdown(blocker, :brutal_kill)
      eventually(fn -> in_flight(py) == 0 end)
      assert worker(py).restarts == 0
    end

    test "belongs to its call, tasks that it starts too", %{py: py} do
      tasks =
        for i <- 1..20, do: Task.async(fn -> {self(), i, Typhon.call(py, :converse, :callers_async, [])} end)

      for {pid, _, result} <- await_many(tasks), do: assert(result == {:ok, [pid, pid, pid]})
    end

    test "has the worker's own loop", %{py: py} do
      assert Typhon.call(py, :converse, :own_loop, []) == {:ok, true}
      assert {:ok, true} = python(py, "typhon.loop() is typhon.loop()")
      # From another thread.
      assert python(py, "asyncio.run_coroutine_threadsafe(asyncio.sleep(0.001, 5), typhon.loop()).result(10)") ==
               {:ok, 5}

      # One of the user's own is no way to the BEAM, and says so.
      assert {:error, %PythonError{type: "RuntimeError", message: message}} =
               python(py, "asyncio.run(ask_node())")

      assert message =~ "worker's own event loop"
    end
  end

  describe "what goes wrong in a coroutine" do
    test "raises as ever", %{py: py} do
      assert {:error, %PythonError{type: "ValueError", message: "no"} = error} =
               Typhon.call(py, :talk, :fail, ["no"])

      assert Exception.message(error) =~ "talk.py"

      assert {:error, %PythonError{type: "ExceptionGroup"}} =
               Typhon.call(py, :converse, :fail_group_async, [])

      assert {:error, %PythonError{type: "TypeError"}} = Typhon.call(py, :talk, :sleep, [])
      assert {:error, %PythonError{}} = Typhon.call(py, :converse, :exit_async, ["SystemExit"])
      assert {:error, %PythonError{}} = Typhon.call(py, :converse, :exit_async, ["KeyboardInterrupt"])
      assert Typhon.call(py, :talk, :sleep, [0, 1]) == {:ok, 1}
      assert worker(py).restarts == 0
    end

    test "an argument or a result that cannot cross", %{py: py} do
      assert Typhon.call(py, :talk, :sleep, [0, 1]) == {:ok, 1}

      assert {:error, %Typhon.EncodeError{path: "args[1]" <> _}} =
               Typhon.call(py, :talk, :sleep, [0, <<255>>])

      assert {:error, error} = Typhon.call(py, :converse, :unencodable_async, [])
      assert Exception.message(error) =~ "surrogate"
      assert Typhon.call(py, :talk, :sleep, [0, 1]) == {:ok, 1}
    end
  end

  # httpx, anyio and redis end so. Nobody has cancelled the call.
  describe "a CancelledError of Python's own" do
    @cancelled "asyncio.exceptions.CancelledError"

    defp assert_own(result, function, message) do
      assert {:error, %PythonError{type: @cancelled, message: ^message} = error} = result
      assert Exception.message(error) =~ "cancelling.py"
      assert function in Enum.map(error.traceback, & &1.function)
      # What the loop does to learn of it is of no interest.
      refute Enum.any?(error.traceback, &(&1.file =~ "_aio.py"))
    end

    test "is an exception like any other, whoever raised it", %{py: py} do
      # The first call of a coroutine function goes another way than the later ones.
      for _ <- 1..2 do
        assert_own(Typhon.call(py, :cancelling, :raises, []), "raises", "mine")
        assert_own(Typhon.call(py, :cancelling, :raises_later, []), "raises_later", "mine")
        assert_own(Typhon.call(py, :cancelling, :raises_at_once, []), "raises_at_once", "mine")
        assert_own(Typhon.call(py, :cancelling, :itself, []), "itself", "by myself")
        assert_own(Typhon.call(py, :cancelling, :awaits_cancelled, []), "awaits_cancelled", "of the library")
        assert_own(Typhon.call(py, :cancelling, :awaits_cancelled_future, []), "awaits_cancelled_future", "")
        assert_own(Typhon.call(py, :cancelling, :gathers_cancelled, []), "raises_later", "mine")
        assert_own(Typhon.call(py, :cancelling, :group_raises, []), "group_raises", "in the group")
      end

      assert {:error, %PythonError{type: "concurrent.futures._base.CancelledError"}} =
               Typhon.call(py, :cancelling, :raises_of_futures, [])

      assert Typhon.call(py, :talk, :sleep, [0, 1]) == {:ok, 1}
      assert worker(py).restarts == 0
    end

    test "that of Typhon's is, too, where nobody gave up on the call", %{py: py} do
      for function <- [:raises_ours, :raises_ours_async, :raises_ours, :raises_ours_async] do
        assert {:error, %PythonError{type: "typhon.Cancelled", message: "mine"} = error} =
                 Typhon.call(py, :cancelling, function, [])

        assert Exception.message(error) =~ "cancelling.py"
      end
    end

    test "asyncio.timeout and TaskGroup work as ever", %{py: py} do
      assert Typhon.call(py, :cancelling, :in_time, [60, 0]) == {:ok, "in time"}

      assert {:error, %PythonError{type: "TimeoutError"}} =
               Typhon.call(py, :cancelling, :in_time, [0.01, 600])

      assert Typhon.call(py, :cancelling, :group, []) == {:ok, true}
    end

    test "of a call that another one has cancelled" do
      py = start_pool()
      # They are in the loop when the last one runs.
      Typhon.call!(py, :talk, :sleep, [0])
      Typhon.call!(py, :cancelling, :all_others, [])

      victims =
        for _ <- 1..5, do: Task.async(fn -> Typhon.call(py, :talk, :sleep, [600], timeout: :infinity) end)

      eventually(fn -> in_flight(py) == 5 end)
      assert {:ok, 5} = Typhon.call(py, :cancelling, :all_others, [])

      for result <- await_many(victims),
          do: assert({:error, %PythonError{type: @cancelled, message: "by another one"}} = result)
    end

    test "in a batch: that call alone", %{py: py} do
      for options <- [[], [stop_on_error: true]] do
        results = Typhon.multi(py, :cancelling, :mixed, [[0], [1], [2]], options)
        assert [{:ok, 0}, {:error, %PythonError{type: @cancelled, message: "mine"}} | rest] = results
        if options == [], do: assert(rest == [ok: 2])
      end

      assert [{:error, %PythonError{type: @cancelled}}, {:ok, 4.0}] =
               Typhon.multi(py, [{:cancelling, :raises_at_once, []}, {:math, :sqrt, [16]}])
    end

    test "in a stream: after the elements before it", %{py: py} do
      for function <- [:numbers, :numbers_at_once] do
        me = self()

        error =
          assert_raise PythonError, fn ->
            py |> Typhon.stream(:cancelling, function, [5]) |> Enum.each(&send(me, {:element, &1}))
          end

        assert error.type == @cancelled
        for i <- 0..4, do: assert_received({:element, ^i})
      end
    end

    test "in a cast: it counts as done" do
      py = start_pool()
      for _ <- 1..2, do: :ok = Typhon.cast(py, :cancelling, :raises_later, [])
      assert Typhon.drain(py, limit()) == :ok
    end

    test "after the call was given up nobody hears of", %{py: py} do
      for function <- [:swallows_and_returns, :swallows_and_cancels, :interrupted_in_group] do
        overrun(py, fn timeout, mark ->
          assert {:error, %TimeoutError{timeout: ^timeout}} =
                   Typhon.call(py, :cancelling, function, [mark], timeout: timeout)
        end)
      end

      assert_mailbox_empty()
      assert Typhon.call(py, :talk, :sleep, [0, 1]) == {:ok, 1}
      assert worker(py).restarts == 0
    end
  end

  describe "a coroutine that is given up" do
    test "at its deadline: its finally sees it", %{py: py, path: path} do
      overrun(py, fn timeout, mark ->
        assert {:error, %TimeoutError{timeout: ^timeout}} =
                 Typhon.call(py, :talk, :forever, [path, mark], timeout: timeout)
      end)

      assert File.read(path) == {:ok, "cleaned up"}
      assert_mailbox_empty()
    end

    test "when its caller dies", %{py: py, path: path} do
      Typhon.call!(py, :talk, :sleep, [0])
      caller = spawn(fn -> Typhon.call(py, :talk, :forever, [path], timeout: :infinity) end)
      eventually(fn -> in_flight(py) == 1 end)
      # It is under way: else it would not run at all.
      assert Typhon.call(py, :talk, :sleep, [0.01, 1]) == {:ok, 1}
      Process.exit(caller, :kill)
      eventually(fn -> File.read(path) == {:ok, "cleaned up"} end)
      eventually(fn -> in_flight(py) == 0 end)
    end

    test "when its task is shut down", %{py: py, path: path} do
      Typhon.call!(py, :talk, :sleep, [0])
      task = Task.async(fn -> Typhon.call(py, :talk, :forever, [path], timeout: :infinity) end)
      eventually(fn -> in_flight(py) == 1 end)
      assert Typhon.call(py, :talk, :sleep, [0.01, 1]) == {:ok, 1}
      Task.shutdown(task, :brutal_kill)
      eventually(fn -> File.read(path) == {:ok, "cleaned up"} end)
    end

    test "many at once, and the others go on", %{py: py} do
      keep =
        for i <- 1..200, do: Task.async(fn -> Typhon.call(py, :talk, :sleep, [0.3, i], timeout: 60_000) end)

      lost = for _ <- 1..500, do: Task.async(fn -> Typhon.call(py, :talk, :sleep, [600], timeout: 50) end)
      for result <- await_many(lost), do: assert({:error, %TimeoutError{}} = result)
      assert await_many(keep) == for(i <- 1..200, do: {:ok, i})
      eventually(fn -> in_flight(py) == 0 end)
      assert worker(py).restarts == 0
    end

    test "and swallows it: after the grace the worker is killed, and the others hear why" do
      py = start_pool(grace: 100)
      Typhon.call!(py, :talk, :sleep, [0])

      {{:error, error}, restarts} =
        overrun(py, fn timeout, mark ->
          eventually(fn -> worker(py).state == :ready end)
          %{restarts: restarts} = worker(py)
          other = Task.async(fn -> Typhon.call(py, :talk, :sleep, [600], timeout: 2 * limit()) end)
          eventually(fn -> in_flight(py) == 1 end)

          assert {:error, %TimeoutError{}} =
                   Typhon.call(py, :converse, :ignore_cancel_async, [mark], timeout: timeout)

          if File.exists?(mark) do
            {await(other), restarts}
          else
            Task.shutdown(other, :brutal_kill)
            :again
          end
        end)

      assert %WorkerError{reason: reason} = error

      # Inside the VM Python hears of it, too, and may be the first to say so.
      if Application.fetch_env!(:typhon, :isolation) == :process or reason != :stopped do
        assert reason == :overdue
        assert Exception.message(error) =~ "deadline"
      end

      eventually(fn -> worker(py).restarts == restarts + 1 end)
    end
  end

  @tag :os_process
  test "telemetry of a coroutine: its run time is what it waited" do
    me = self()
    :telemetry.attach_process([:typhon, :call, :stop], me)
    :telemetry.attach_process([:typhon, :call, :exception], me)
    on_exit(fn -> :telemetry.detach_process(me) end)
    py = start_pool()
    slept = System.convert_time_unit(50, :millisecond, :native)

    # The first one is handed over to the loop, the second one comes there at once.
    for _ <- 1..2 do
      assert {:ok, 1} = Typhon.call(py, :talk, :sleep, [0.05, 1])
      assert_receive {:telemetry, _, %{run: run, queue: _, decode: _, encode: _, transfer: _}, %{pool: ^py}}
      assert run >= slept
    end

    for _ <- 1..2 do
      assert {:error, %PythonError{}} = Typhon.call(py, :talk, :fail, ["late", 0.05])
      assert_receive {:telemetry, _, %{run: run}, %{pool: ^py}}
      assert run >= slept
    end
  end

  describe "concurrency: 4" do
    test "four calls sleep at the same time" do
      py = start_pool(concurrency: 4)
      # Each waits for the three others: they can only finish together.
      tasks =
        for i <- 1..4, do: Task.async(fn -> Typhon.call(py, :converse, :meet, [4, i], timeout: 30_000) end)

      assert tasks |> await_many() |> Enum.sort() == for(i <- 1..4, do: {:ok, i})
    end

    test "errors are each call's own" do
      py = start_pool(concurrency: 4)

      tasks =
        for i <- 1..100 do
          Task.async(fn ->
            text = "no #{i}"
            assert {:error, %PythonError{message: ^text}} = Typhon.call(py, :sample, :fail, [text])
            assert {:ok, ^i} = Typhon.call(py, :sample, :echo, [i])
          end)
        end

      await_many(tasks)
    end

    test "a Python loop in a thread is interrupted, and the other calls are not" do
      py = start_pool(concurrency: 4)
      Typhon.call!(py, :sample, :echo, [1])
      other = Task.async(fn -> Typhon.call(py, :converse, :slow_steps, [0.5], timeout: 60_000) end)

      tasks =
        for _ <- 1..3, do: Task.async(fn -> Typhon.call(py, :sample, :spin_python, [600], timeout: 100) end)

      for task <- tasks, do: assert({:error, %TimeoutError{}} = await(task))
      assert await(other) == {:ok, "done"}
      eventually(fn -> in_flight(py) == 0 end)
      assert worker(py).restarts == 0
    end

    test "its finally sees it in each thread", %{path: path} do
      py = start_pool(concurrency: 4)
      Typhon.call!(py, :converse, :evaluate, ["1"])

      overrun(py, fn timeout, mark ->
        tasks =
          for i <- 1..4 do
            Task.async(fn ->
              Typhon.call(py, :converse, :spin_and_note, ["#{path}#{i}", "#{mark}#{i}"], timeout: timeout)
            end)
          end

        for task <- tasks, do: assert({:error, %TimeoutError{}} = await(task))
        File.touch!(mark)
        if Enum.all?(1..4, &(File.rm("#{mark}#{&1}") == :ok)), do: :ok, else: :again
      end)

      for i <- 1..4, do: eventually(fn -> File.read("#{path}#{i}") == {:ok, "Cancelled"} end)
      for i <- 1..4, do: File.rm("#{path}#{i}")
      eventually(fn -> in_flight(py) == 0 end)
      assert worker(py).restarts == 0
    end

    test "time.sleep in a thread ends at the deadline" do
      py = start_pool(concurrency: 3, grace: 60_000)
      Typhon.call!(py, :sample, :echo, [1])
      tasks = for _ <- 1..3, do: Task.async(fn -> Typhon.call(py, :sample, :sleep, [600], timeout: 100) end)
      for task <- tasks, do: assert({:error, %TimeoutError{}} = await(task))
      eventually(fn -> in_flight(py) == 0 end)
      # All of them are free again.
      meet = "__import__('__main__').__dict__.setdefault('gate', __import__('threading').Barrier(3)).wait(30)"

      tasks =
        for _ <- 1..3, do: Task.async(fn -> Typhon.call(py, :builtins, :eval, [meet], timeout: 60_000) end)

      assert tasks |> await_many() |> Enum.sort() == [{:ok, 0}, {:ok, 1}, {:ok, 2}]
      assert worker(py).restarts == 0
    end

    @tag :os_process
    test "a system call in a thread cannot be interrupted: after the grace the worker is replaced" do
      py = start_pool(concurrency: 2, grace: 100)
      Typhon.call!(py, :sample, :echo, [1])

      restarts =
        overrun(py, fn timeout, mark ->
          eventually(fn -> worker(py).state == :ready end)
          %{restarts: restarts} = worker(py)
          # Which of them is on the main thread is not known: that one can be interrupted.
          tasks =
            for i <- 1..2 do
              Task.async(fn ->
                Typhon.call(py, :sample, :recv_in_c, ["#{mark}#{i}"], timeout: timeout)
              end)
            end

          for task <- tasks, do: assert({:error, %TimeoutError{}} = await(task))
          File.touch!(mark)
          if for(i <- 1..2, do: File.rm("#{mark}#{i}")) == [:ok, :ok], do: restarts, else: :again
        end)

      eventually(fn -> worker(py).restarts == restarts + 1 end)
      eventually(fn -> Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0} end)
    end

    test "prints of several calls go each to its own caller" do
      py = start_pool(concurrency: 4, stdio: :caller)

      tasks =
        for i <- 1..12 do
          Task.async(fn ->
            {:ok, device} = StringIO.open("")
            Process.group_leader(self(), device)
            assert {:ok, nil} = Typhon.call(py, :converse, :print_steps, ["call #{i}", 20], timeout: 30_000)
            {_, text} = StringIO.contents(device)
            {text, Enum.map_join(1..20, &"call #{i} step #{&1}\n") <> "the end of call #{i}"}
          end)
        end

      for {text, expected} <- await_many(tasks), do: assert(text == expected)
    end
  end
end
