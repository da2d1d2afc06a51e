defmodule Typhon.SessionTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{Native, OverloadError, PoolError, Session, TimeoutError, WorkerError}

  # A process that holds a worker until it is told to go.
  defp hold(py) do
    test = self()

    task =
      Task.async(fn ->
        Typhon.run!(
          py,
          fn session ->
            send(test, {:holds, self(), session})

            receive do
              :go -> :gone
            end
          end,
          timeout: :infinity
        )
      end)

    pid = task.pid
    assert_receive {:holds, ^pid, session}
    {task, session}
  end

  defp let_go({task, _session}) do
    send(task.pid, :go)
    assert await(task) == :gone
  end

  defp native(py), do: py |> Typhon.Registry.lookup() |> elem(1)
  defp reserved(py), do: Enum.count(Native.pool_info(native(py)).places, &elem(&1, 1))
  defp waiting(py), do: Native.pool_info(native(py)).waiting

  describe "run/3" do
    test "gives all calls the same worker, with its memory" do
      py = start_pool(workers: 3)

      assert {:ok, pids} =
               Typhon.run(py, fn session ->
                 :ok = Typhon.cast(session, :sample, :put, ["key", "value"])
                 # A worker of several threads may run it after what comes behind it.
                 eventually(fn -> Typhon.call(session, :sample, :get, ["key"]) == {:ok, "value"} end)

                 assert Typhon.call(session, :sample, :echo_all, [1], kwargs: [a: 2]) ==
                          {:ok, {{1}, %{"a" => 2}}}

                 for _ <- 1..20, do: Typhon.call!(session, :sample, :pid, [])
               end)

      assert [_] = Enum.uniq(pids)
      assert reserved(py) == 0
    end

    @tag :several_workers
    test "the calls of its process to the pool itself go there, too" do
      name = :"pool_of_#{inspect(make_ref())}"
      py = start_pool(workers: 2, name: name)

      Typhon.run!(name, fn session ->
        pid = Typhon.call!(session, :sample, :pid, [])
        for pool <- [py, name], _ <- 1..5, do: assert(Typhon.call!(pool, :sample, :pid, []) == pid)
        assert Typhon.call!(py, :sample, :pid, [], worker: "any", retry: 3) == pid
        :ok = Typhon.cast(py, :sample, :put, ["cast", 1])
        assert Typhon.call!(session, :sample, :get, ["cast"]) == 1

        # Not those of another process, nor those to another pool.
        other = await(Task.async(fn -> Typhon.call!(py, :sample, :pid, []) end))
        assert other != pid
        refute Typhon.call!(start_pool(), :sample, :pid, []) in [pid, other]
      end)

      assert Process.get(Session.key()) == nil
    end

    test "works with telemetry switched off" do
      py = start_pool(workers: 2, telemetry: false)

      Typhon.run!(py, fn session ->
        pid = Typhon.call!(session, :sample, :pid, [])
        assert Typhon.call!(py, :sample, :pid, []) == pid
        assert await(Task.async(fn -> Typhon.call!(session, :sample, :pid, []) end)) == pid
      end)
    end

    test "the session stands in the place of the pool elsewhere" do
      py = start_pool()

      Typhon.run!(py, fn session ->
        assert {:ok, %{pid: ^py, workers: [_]}} = Typhon.info(session)
        assert Typhon.run(session, fn ^session -> Typhon.call!(session, :math, :sqrt, [16]) end) == {:ok, 4.0}
        assert inspect(session) == "#Typhon.Session<#{inspect(py)}, worker 0>"
      end)
    end

    test "a session that is sent to another process works there while the run lasts" do
      py = start_pool(workers: 2)

      {session, pid} =
        Typhon.run!(py, fn session ->
          pid = Typhon.call!(session, :sample, :pid, [])
          assert await(Task.async(fn -> Typhon.call!(session, :sample, :pid, []) end)) == pid

          assert await(
                   Task.async(fn ->
                     Typhon.run!(session, fn _ -> Typhon.call!(py, :sample, :pid, []) end)
                   end)
                 ) == pid

          {session, pid}
        end)

      assert is_integer(pid)

      for error <- [
            Typhon.call(session, :math, :sqrt, [16]),
            Typhon.call(session, :math, :sqrt, [16], timeout: 10, retry: 1),
            Typhon.cast(session, :math, :sqrt, [16]),
            Typhon.info(session),
            Typhon.run(session, fn _ -> flunk("it ran") end)
          ] do
        assert {:error, %PoolError{reason: :session_ended} = error} = error
        assert Exception.message(error) =~ "has ended: the Typhon.run/3 that it was made for has returned"
      end
    end

    test "a run within a run of the same pool has the same worker" do
      py = start_pool()

      Typhon.run!(py, fn outer ->
        pid = Typhon.call!(outer, :sample, :pid, [])

        inner =
          Typhon.run!(py, fn inner ->
            assert inner.worker == outer.worker
            assert Typhon.call!(inner, :sample, :pid, []) == pid
            assert Typhon.call!(outer, :sample, :pid, []) == pid
            inner
          end)

        assert {:error, %PoolError{reason: :session_ended}} = Typhon.call(inner, :sample, :pid, [])
        assert Typhon.call!(outer, :sample, :pid, []) == pid
        assert reserved(py) == 1
      end)

      assert reserved(py) == 0
    end

    test "a callback of its call can call the session, the pool, and run: all on the worker that waits for it" do
      py = start_pool()

      assert Typhon.run!(py, fn session ->
               pid = Typhon.call!(session, :sample, :pid, [])

               add = fn a, b ->
                 assert Typhon.call!(py, :sample, :pid, []) == pid
                 assert Typhon.run!(py, fn inner -> Typhon.call!(inner, :sample, :pid, []) end) == pid
                 Typhon.call!(session, :operator, :add, [a, b])
               end

               Typhon.call!(session, :functools, :reduce, [add, [1, 2, 3]])
             end) == 6
    end

    test "runs on two pools within each other" do
      {one, two} = {start_pool(), start_pool()}

      Typhon.run!(one, fn first ->
        Typhon.run!(two, fn second ->
          refute Typhon.call!(one, :sample, :pid, []) == Typhon.call!(two, :sample, :pid, [])
          assert Typhon.call!(one, :sample, :pid, []) == Typhon.call!(first, :sample, :pid, [])
          assert Typhon.call!(two, :sample, :pid, []) == Typhon.call!(second, :sample, :pid, [])
        end)
      end)
    end

    @tag :os_process
    test "gives the worker back when the function raises, throws or exits" do
      py = start_pool()

      assert_raise RuntimeError, "no", fn -> Typhon.run(py, fn _ -> raise "no" end) end
      assert catch_throw(Typhon.run(py, fn _ -> throw(:ball) end)) == :ball
      assert catch_exit(Typhon.run(py, fn _ -> exit(:away) end)) == :away

      assert reserved(py) == 0
      assert Process.get(Session.key()) == nil
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    test "gives the worker back when its process is killed, also in the middle of a call" do
      py = start_pool()

      for busy? <- [false, true], _ <- 1..3 do
        {task, session} = hold(py)
        if busy?, do: Typhon.cast(session, :time, :sleep, [0.05])
        Process.unlink(task.pid)
        Process.exit(task.pid, :kill)
        eventually(fn -> reserved(py) == 0 end)
        assert {:error, %PoolError{reason: :session_ended}} = Typhon.call(session, :math, :sqrt, [16])
        assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      end
    end

    @tag :several_workers
    test "keeps others off the worker; they take the rest of the pool" do
      py = start_pool(workers: 2)
      {_, session} = held = hold(py)
      pid = Typhon.call!(session, :sample, :pid, [])
      for _ <- 1..20, do: refute(Typhon.call!(py, :sample, :pid, []) == pid)
      let_go(held)
    end

    test "while all workers are taken, calls wait within their timeout" do
      py = start_pool()
      held = hold(py)

      assert {:error, %TimeoutError{timeout: 20, function: :sqrt}} =
               Typhon.call(py, :math, :sqrt, [16], timeout: 20)

      calls = for i <- 1..50, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: 60_000) end)
      eventually(fn -> waiting(py) == 50 end)
      let_go(held)
      assert await_many(calls) == for(i <- 1..50, do: {:ok, i})
      eventually(fn -> waiting(py) == 0 end)
      assert_mailbox_empty()
    end

    test "while all workers are taken, runs wait within their timeout" do
      py = start_pool()
      held = hold(py)

      assert {:error, %TimeoutError{timeout: 20} = error} =
               Typhon.run(py, fn _ -> flunk("it ran") end, timeout: 20)

      assert Exception.message(error) =~ "Typhon.run/3 found no worker free within 20 ms"
      assert waiting(py) == 0
      let_go(held)
      # What gave up is not served.
      eventually(fn -> reserved(py) == 0 end)
      assert_mailbox_empty()
    end

    test "one that waits and is killed neither gets a worker nor is counted on" do
      py = start_pool()
      held = hold(py)
      waiters = for _ <- 1..20, do: spawn(fn -> Typhon.run(py, fn _ -> :ok end, timeout: :infinity) end)
      calls = for _ <- 1..20, do: spawn(fn -> Typhon.call(py, :math, :sqrt, [16], timeout: :infinity) end)
      eventually(fn -> waiting(py) == 40 end)
      for pid <- waiters ++ calls, do: Process.exit(pid, :kill)
      eventually(fn -> waiting(py) == 0 end)
      let_go(held)
      assert Typhon.run(py, fn session -> Typhon.call!(session, :math, :sqrt, [16]) end) == {:ok, 4.0}
      assert reserved(py) == 0
    end

    test "calls and runs that wait do not starve each other" do
      py = start_pool()
      held = hold(py)

      runs = for i <- 1..10, do: Task.async(fn -> Typhon.run!(py, fn _ -> i end, timeout: 60_000) end)

      calls = for i <- 1..10, do: Task.async(fn -> Typhon.call!(py, :sample, :echo, [i], timeout: 60_000) end)
      eventually(fn -> waiting(py) == 20 end)
      let_go(held)
      assert await_many(runs ++ calls) == Enum.to_list(1..10) ++ Enum.to_list(1..10)
    end

    @tag :several_workers
    test "200 at once on two workers: all get their turn, and nobody comes in between" do
      py = start_pool(workers: 2)

      runs =
        for i <- 1..200 do
          Task.async(fn ->
            Typhon.run!(
              py,
              fn session ->
                for _ <- 1..5, do: Typhon.call!(session, :dispatch, :mark, [i], timeout: 60_000)
                i
              end,
              timeout: 120_000
            )
          end)
        end

      calls =
        for i <- 1..200, do: Task.async(fn -> Typhon.call!(py, :dispatch, :mark, [-i], timeout: 120_000) end)

      assert await_many(runs) == Enum.to_list(1..200)
      await_many(calls)
      {first, second} = {hold(py), hold(py)}
      logs = for {_, session} <- [first, second], do: Typhon.call!(session, :dispatch, :marks, [])
      let_go(first)
      let_go(second)

      assert logs |> List.flatten() |> Enum.filter(&(&1 < 0)) |> Enum.sort(:desc) ==
               Enum.to_list(-1..-200//-1)

      blocks =
        for log <- logs, [i | _] = block <- Enum.chunk_by(log, & &1), i > 0 do
          assert length(block) == 5
          i
        end

      assert Enum.sort(blocks) == Enum.to_list(1..200)
      assert %{waiting: 0} = Native.pool_info(native(py))
      assert reserved(py) == 0
      assert_mailbox_empty()
    end

    @tag :os_process
    test "the worker dies: further calls say that its state is lost, and the pool goes on" do
      py = start_pool()

      Typhon.run!(py, fn session ->
        Typhon.call!(session, :sample, :put, ["key", "value"])
        os_pid = Typhon.call!(session, :sample, :pid, [])
        assert {:error, %WorkerError{reason: :signal}} = Typhon.call(session, :os, :kill, [os_pid, 9])

        eventually(fn ->
          match?({:error, %WorkerError{reason: :lost}}, Typhon.call(session, :sample, :pid, []))
        end)

        for target <- [session, py] do
          assert {:error, %WorkerError{reason: :lost} = error} = Typhon.call(target, :sample, :get, ["key"])
          assert Exception.message(error) =~ "belongs to is gone, and what it held in memory with it"
          assert {:error, %WorkerError{reason: :lost}} = Typhon.call(target, :sample, :pid, [], retry: 5)
          assert {:error, %WorkerError{reason: :lost}} = Typhon.cast(target, :sample, :pid, [])
        end

        # Others have the new one already.
        assert await(Task.async(fn -> Typhon.call(py, :sample, :get, ["key"]) end)) == {:ok, nil}
      end)

      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert Typhon.run(py, fn session -> Typhon.call!(session, :math, :sqrt, [16]) end) == {:ok, 4.0}
      assert reserved(py) == 0
    end

    @tag :os_process
    test "killed from outside while idle, again and again" do
      py = start_pool()

      for _ <- 1..3 do
        Typhon.run!(py, fn session ->
          %{os_pid: os_pid} = worker(py)
          kill(os_pid, "KILL")

          eventually(fn ->
            match?({:error, %WorkerError{reason: :lost}}, Typhon.call(session, :sample, :pid, []))
          end)
        end)

        assert {:ok, _} = Typhon.call(py, :sample, :pid, [], timeout: 30_000)
      end

      assert reserved(py) == 0
    end

    @tag :os_process
    test "those who wait for a worker that dies get the new one" do
      py = start_pool()
      {_, session} = held = hold(py)
      runs = for i <- 1..5, do: Task.async(fn -> Typhon.run!(py, fn _ -> i end, timeout: 60_000) end)
      calls = for i <- 1..5, do: Task.async(fn -> Typhon.call!(py, :sample, :echo, [i], timeout: 60_000) end)
      eventually(fn -> waiting(py) == 10 end)
      kill(Typhon.call!(session, :sample, :pid, []), "KILL")
      assert await_many(runs ++ calls) == Enum.to_list(1..5) ++ Enum.to_list(1..5)
      let_go(held)
    end

    test "the Elixir process of the worker is killed" do
      py = start_pool()
      %{pid: pid} = worker(py)

      Typhon.run!(py, fn session ->
        Process.exit(pid, :kill)

        eventually(fn ->
          match?({:error, %WorkerError{reason: :lost}}, Typhon.call(session, :sample, :pid, []))
        end)
      end)

      assert {:ok, _} = Typhon.call(py, :sample, :pid, [], timeout: 30_000)
      assert reserved(py) == 0
    end

    test "the pool is stopped: those who wait are told, and the session ends" do
      py = start_pool()
      {_, session} = held = hold(py)
      runs = for _ <- 1..5, do: Task.async(fn -> Typhon.run(py, fn _ -> :ran end, timeout: 60_000) end)
      calls = for _ <- 1..5, do: Task.async(fn -> Typhon.call(py, :math, :sqrt, [16], timeout: 60_000) end)
      eventually(fn -> waiting(py) == 10 end)
      assert Typhon.stop(py) == :ok

      for result <- await_many(runs ++ calls),
          do: assert({:error, %PoolError{reason: :stopped}} = result)

      assert {:error, %WorkerError{}} = Typhon.call(session, :math, :sqrt, [16])
      let_go(held)
    end

    test "max_queue holds for runs: no more than so many wait" do
      py = start_pool(max_queue: 2)
      held = hold(py)
      runs = for i <- 1..2, do: Task.async(fn -> Typhon.run!(py, fn _ -> i end, timeout: 60_000) end)
      eventually(fn -> waiting(py) == 2 end)

      assert {:error, %OverloadError{pool: ^py, queued: 2, workers: 0, max_queue: 2}} =
               Typhon.run(py, fn _ -> flunk("it ran") end)

      assert {:error, %OverloadError{}} = Typhon.call(py, :math, :sqrt, [16])
      let_go(held)
      assert await_many(runs) == [1, 2]
      assert Typhon.run(py, fn _ -> 3 end) == {:ok, 3}
    end

    test "an object that lives on a worker which is taken: a call with it waits" do
      py = start_pool()
      {:ok, counter} = Typhon.call(py, :sample, :Counter, [1])
      {_, session} = held = hold(py)
      assert Typhon.call(session, counter, :add, [1]) == {:ok, 2}
      assert {:error, %TimeoutError{}} = Typhon.call(py, counter, :add, [1], timeout: 20)
      call = Task.async(fn -> Typhon.call(py, counter, :add, [1], timeout: 60_000) end)
      eventually(fn -> waiting(py) == 1 end)
      let_go(held)
      assert await(call) == {:ok, 3}
    end

    test "takes its options seriously, and no other pools than there are" do
      py = start_pool()

      assert_raise ArgumentError, ~r/Typhon.run\/3 has no option :timout/, fn ->
        Typhon.run(py, fn _ -> :ok end, timout: 1)
      end

      assert {:error, %PoolError{reason: :not_found}} = Typhon.run(:no_such_pool, fn _ -> :ok end)
      assert_raise PoolError, fn -> Typhon.run!(:no_such_pool, fn _ -> :ok end) end
    end
  end

  describe "a session begins when its worker is at rest:" do
    # A session that tells when its function runs. It begins to wait before this returns.
    defp run(py, options \\ [timeout: :infinity]) do
      test = self()

      task =
        Task.async(fn ->
          Typhon.run(py, fn session -> send(test, {:began, self(), session}) && :ran end, options)
        end)

      while_it_runs(task, fn -> waiting(py) > 0 end)
      task
    end

    defp began(%{pid: pid} = run) do
      assert await(run) == {:ok, :ran}
      assert_received {:began, ^pid, _}
    end

    defp calls(py),
      do: Enum.sum(for {_, _, in_flight, _} <- Native.pool_info(native(py)).places, do: in_flight)

    defp refute_began do
      # Several looks of the worker at what it runs.
      refute_receive {:began, _, _}, 100
    end

    test "a call that runs there ends first, and those that come later wait" do
      for concurrency <- [1, 2] do
        py = start_pool(concurrency: concurrency)
        let_go = keep_busy(py)
        run = run(py)
        eventually(fn -> reserved(py) == 1 end)
        later = Task.async(fn -> Typhon.call!(py, :dispatch, :mark, ["later"], timeout: :infinity) end)
        eventually(fn -> waiting(py) == 2 end)
        refute_began()
        assert calls(py) == 1
        let_go.()
        began(run)
        assert await(later) == 1
        assert %{waiting: 0} = Native.pool_info(native(py))
        assert reserved(py) == 0
      end
    end

    test "so do calls that wait in the queue of a worker" do
      py = start_pool()
      let_go = keep_busy(py)

      queued =
        for i <- 1..5, do: Task.async(fn -> Typhon.call!(py, :dispatch, :mark, [i], timeout: :infinity) end)

      eventually(fn -> calls(py) == 6 end)
      test = self()

      run =
        Task.async(fn ->
          Typhon.run!(
            py,
            fn session ->
              send(test, {:began, self(), session})
              Typhon.call!(session, :dispatch, :mark, ["session"])
            end,
            timeout: :infinity
          )
        end)

      eventually(fn -> waiting(py) == 1 end)
      refute_began()
      let_go.()
      assert Enum.sort(await_many(queued)) == Enum.to_list(1..5)
      assert await(run) == 6
    end

    test "a coroutine that waits" do
      py = start_pool(concurrency: 2)
      path = gate()
      call = Task.async(fn -> Typhon.call(py, :dispatch, :await_file, [path], timeout: :infinity) end)
      eventually(fn -> calls(py) == 1 end)
      run = run(py)
      refute_began()
      File.touch!(path)
      assert {:ok, _} = await(call)
      began(run)
    end

    test "casts, one that has begun, and one of a coroutine" do
      for function <- [:wait_for, :await_file] do
        py = start_pool(concurrency: 2)
        path = gate()
        :ok = Typhon.cast(py, :dispatch, function, [path])
        run = run(py)
        refute_began()
        assert reserved(py) == 1
        File.touch!(path)
        began(run)
      end
    end

    test "what the session before has left there" do
      py = start_pool(concurrency: 2)
      path = gate()
      Typhon.run!(py, &Typhon.cast(&1, :dispatch, :wait_for, [path]))
      run = run(py)
      refute_began()
      File.touch!(path)
      began(run)
    end

    test "a call whose caller has gone, until Python has ended it" do
      py = start_pool(concurrency: 2)
      {mark, path} = {gate(), gate()}
      pid = spawn(fn -> Typhon.call(py, :dispatch, :end_late, [mark, path], timeout: :infinity) end)
      eventually(fn -> File.exists?(mark) end)
      Process.exit(pid, :kill)
      run = run(py)
      refute_began()
      File.touch!(path)
      began(run)
    end

    test "a call that calls back gets its answers meanwhile, and its callback may call" do
      py = start_pool()
      test = self()

      callback = fn a, b ->
        send(test, {:called, self()})

        receive do
          :go -> Typhon.call!(py, :operator, :add, [a, b])
        end
      end

      call =
        Task.async(fn -> Typhon.call(py, :functools, :reduce, [callback, [1, 2, 3]], timeout: :infinity) end)

      assert_receive {:called, pid}
      run = run(py)
      eventually(fn -> reserved(py) == 1 end)
      send(pid, :go)
      assert_receive {:called, pid}
      refute_received {:began, _, _}
      send(pid, :go)
      assert await(call) == {:ok, 6}
      began(run)
    end

    test "a stream that another process has open does not keep it from beginning" do
      py = start_pool()

      assert py
             |> Typhon.stream(:itertools, :count, [1], batch: 1)
             |> Stream.take(3)
             |> Enum.map(fn i -> Typhon.run!(py, &Typhon.call!(&1, :operator, :add, [i, 1])) end) == [2, 3, 4]
    end

    @tag :several_workers
    test "one that has nothing to do comes first" do
      py = start_pool(workers: 3)
      let_go = keep_busy(py, 2)
      assert {:ok, _} = Typhon.run(py, &Typhon.call!(&1, :sample, :pid, []))
      assert reserved(py) == 0
      let_go.()
    end

    @tag :several_workers
    test "the first of all that has nothing to do any more" do
      for first <- [0, 1] do
        py = start_pool(workers: 2)
        lets_go = [keep_busy(py), keep_busy_too(py)]
        run = run(py)
        eventually(fn -> reserved(py) == 1 end)
        refute_began()
        Enum.at(lets_go, first).()
        began(run)
        eventually(fn -> reserved(py) == 0 end)
        Enum.at(lets_go, 1 - first).()
        assert {:ok, _} = Typhon.run(py, fn _ -> :ok end)
      end
    end

    # keep_busy/2 waits until nothing runs.
    defp keep_busy_too(py) do
      path = gate()
      task = Task.async(fn -> Typhon.call(py, :dispatch, :wait_for, [path], timeout: :infinity) end)
      eventually(fn -> running(py) == 2 end)

      fn ->
        File.touch!(path)
        assert {:ok, _} = await(task)
      end
    end

    test "its time is over while it waits: the worker is everybody's again" do
      py = start_pool(concurrency: 2)
      let_go = keep_busy(py)

      assert {:error, %TimeoutError{timeout: 50} = error} =
               Typhon.run(py, fn _ -> flunk("it ran") end, timeout: 50)

      assert Exception.message(error) =~ "Typhon.run/3 found no worker free within 50 ms"
      eventually(fn -> reserved(py) == 0 end)
      assert waiting(py) == 0
      # Beside the one that still runs.
      assert Typhon.call(py, :operator, :add, [1, 2], timeout: :infinity) == {:ok, 3}
      let_go.()
      assert {:ok, :ran} = Typhon.run(py, fn _ -> :ran end)
      assert_mailbox_empty()
    end

    test "it is killed while it waits: the next one waits in its place, then calls" do
      py = start_pool(concurrency: 2)
      let_go = keep_busy(py)

      [first, second] =
        for _ <- 1..2, do: spawn(fn -> Typhon.run(py, fn _ -> :ok end, timeout: :infinity) end)

      eventually(fn -> waiting(py) == 2 end)
      eventually(fn -> reserved(py) == 1 end)
      call = Task.async(fn -> Typhon.call(py, :operator, :add, [1, 2], timeout: :infinity) end)
      eventually(fn -> waiting(py) == 3 end)
      for pid <- [first, second], do: Process.exit(pid, :kill)
      assert await(call) == {:ok, 3}
      eventually(fn -> reserved(py) == 0 end)
      assert waiting(py) == 0
      let_go.()
      assert {:ok, :ran} = Typhon.run(py, fn _ -> :ran end)
    end

    @tag :os_process
    test "the worker dies while it waits: it gets the next one" do
      py = start_pool(concurrency: 2)
      os_pid = worker(py).os_pid
      path = gate()
      call = Task.async(fn -> Typhon.call(py, :dispatch, :wait_for, [path], timeout: :infinity) end)
      eventually(fn -> running(py) == 1 end)
      run = run(py)
      eventually(fn -> reserved(py) == 1 end)
      kill(os_pid, "KILL")
      assert {:error, %WorkerError{}} = await(call)
      began(run)
      eventually(fn -> reserved(py) == 0 end)
    end

    @tag :os_process
    test "the worker is replaced while it waits: it gets the new one" do
      py = start_pool(concurrency: 2)
      let_go = keep_busy(py)
      run = run(py)
      eventually(fn -> reserved(py) == 1 end)
      restart = Task.async(fn -> Typhon.restart(py) end)
      began(run)
      let_go.()
      assert await(restart) == :ok
      assert reserved(py) == 0
    end
  end

  describe "an entry in the dictionary of a process" do
    test "leads calls to a worker, and is taken back" do
      py = start_pool(workers: 2)
      native = native(py)
      {place, where} = Native.pool_pick(native)

      Session.with_entry(native, {where, 7}, fn ->
        assert Session.current(native) == {where, 7}
        assert Session.aim(native, 1) == {1, where, 7}
        pid = Typhon.call!(py, :sample, :pid, [])

        assert Typhon.run!(py, fn session -> {session.worker, Typhon.call!(session, :sample, :pid, [])} end) ==
                 {place, pid}
      end)

      assert Session.current(native) == nil
    end

    @tag :os_process
    test "a worker that is gone by then" do
      py = start_pool()
      native = native(py)
      {_, where} = Native.pool_pick(native)
      os_pid = worker(py).os_pid
      kill(os_pid, "KILL")
      eventually(fn -> match?(%{state: :ready, os_pid: new} when new != os_pid, worker(py)) end)

      Session.with_entry(native, {where, 0}, fn ->
        assert {:error, %WorkerError{reason: :lost}} = Typhon.call(py, :math, :sqrt, [16])
      end)
    end
  end
end
