defmodule Typhon.MessageTest do
  # Messages between processes and workers.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.PythonError

  setup do
    {:ok, py: start_pool()}
  end

  defp python(py, expression, args \\ [], options \\ []),
    do: Typhon.call(py, :converse, :evaluate, [expression | args], options)

  defp address(py), do: py |> python("typhon.self()") |> elem(1)

  describe "typhon.send" do
    test "to a pid", %{py: py} do
      assert python(py, "typhon.send(f, ('hello', 1))", [self()]) == {:ok, nil}
      assert_received {"hello", 1}
    end

    test "arrives before the answer of the call, in order", %{py: py} do
      for round <- 1..50 do
        assert {:ok, _} = python(py, "[typhon.send(f, (x, i)) for i in range(50)]", [self(), round])
        for i <- 0..49, do: assert_received({^round, ^i})
      end
    end

    test "in order also when a large one is among them", %{py: py} do
      assert {:ok, _} = python(py, "[typhon.send(f, m) for m in (1, 'x' * 3_000_000, 2)]", [self()])

      received =
        for _ <- 1..3 do
          receive do
            message when is_integer(message) -> message
            message when is_binary(message) -> byte_size(message)
          after
            limit() -> nil
          end
        end

      assert received == [1, 3_000_000, 2]
    end

    test "to itself: whatever it is, and in order with what others send", %{py: py} do
      pid = address(py)
      send(pid, 0)

      code =
        "[typhon.send(typhon.self(), m) for m in (1, (typhon.Atom('EXIT'), typhon.self(), 2), 'x' * 3_000_000, " <>
          "{'f': f}, 4)] and f()"

      assert {:ok, :sent} = python(py, code, [fn -> send(pid, 5) && :sent end])

      assert {:ok, [0, 1, 2, 3_000_000, 1, 4, 5]} =
               python(py, "[measured(typhon.receive(60)) for _ in range(7)]")
    end

    test "to a registered name, as an atom or a text, and on a node", %{py: py} do
      name = :"typhon_message_test_#{System.unique_integer([:positive])}"
      Process.register(self(), name)
      assert {:ok, nil} = python(py, "typhon.send(typhon.Atom(f), 1)", [Atom.to_string(name)])
      assert_receive 1
      assert {:ok, nil} = python(py, "typhon.send(f, 2)", [Atom.to_string(name)])
      assert_receive 2
      assert {:ok, nil} = python(py, "typhon.send((typhon.Atom(f), x), 3)", [Atom.to_string(name), node()])
      assert_receive 3
    end

    test "to nobody is nothing", %{py: py} do
      dead = spawn(fn -> :ok end)
      eventually(fn -> not Process.alive?(dead) end)

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          assert {:ok, nil} = python(py, "typhon.send(f, 1)", [dead])
          assert {:ok, nil} = python(py, "typhon.send(f, 'x' * 3_000_000)", [dead])
          assert {:ok, nil} = python(py, "typhon.send(typhon.Atom('init_not_there'), 1)")
          assert {:ok, nil} = python(py, "typhon.send('no_process_of_this_name_here', 1)")
          assert {:ok, nil} = python(py, "typhon.send((typhon.Atom('ok'), typhon.Atom('nonode@nohost')), 1)")
          assert {:ok, 4.0} = Typhon.call(py, :math, :sqrt, [16])
        end)

      # Other tests run at the same time, and their workers fail on purpose.
      other_pool = "the Typhon pool (?!#{Regex.escape(inspect(py))})"
      refute log =~ Regex.compile!("\\[error\\] (?!a Python worker|#{other_pool})")
    end

    test "what cannot be sent raises", %{py: py} do
      assert {:error, %PythonError{type: "TypeError"}} = python(py, "typhon.send(5, 1)")

      assert {:error, %PythonError{type: "typhon.EncodeError", message: message}} =
               python(py, "typhon.send(f, ['\\ud800'])", [self()])

      assert message =~ "message[0]"
    end

    test "brings whatever crosses, objects of Python too", %{py: py} do
      assert {:ok, nil} =
               python(py, "typhon.send(f, [sample.Counter(5), None, f, typhon.Atom('ok'), {'a': (1,)}])", [
                 self()
               ])

      me = self()
      assert_received [%Typhon.Object{} = counter, nil, ^me, :ok, %{"a" => {1}}]
      assert Typhon.call(py, counter, :add, [1]) == {:ok, 6}
    end

    test "objects keep their place among other messages", %{py: py} do
      # Of a cast: nobody of the emulator waits in the ring for what it brings.
      code = "[typhon.send(f[0], m) for m in ([sample.Counter(5), {'people': f[1]}], 'after')]"

      for fun <- [nil, &String.length/1] do
        :ok = Typhon.cast(py, :converse, :evaluate, [code, {self(), fun}])
        assert_receive "after"
        assert_received [%Typhon.Object{} = counter, %{"people" => ^fun}]
        assert Typhon.call(py, counter, :add, [1]) == {:ok, 6}
      end
    end

    test "objects beside a fun that takes a scheduler to make live as long as their handles", %{py: py} do
      large = Map.new(1..100, &{&1, &1})
      fun = fn -> large end

      :ok =
        Typhon.cast(py, :converse, :evaluate, ["typhon.send(f[0], [sample.Counter(5), f[1]])", {self(), fun}])

      assert_receive [%Typhon.Object{} = counter, ^fun]
      :erlang.garbage_collect()
      assert Typhon.call(py, counter, :add, [1]) == {:ok, 6}
    end

    test "from casts, threads and coroutines", %{py: py} do
      :ok = Typhon.cast(py, :converse, :evaluate, ["typhon.send(f, 'cast')", self()])
      assert_receive "cast"
      assert {:ok, _} = python(py, "in_pool(lambda i: typhon.send(f, i), 10, 3)", [self()])
      for i <- 0..9, do: assert_receive(^i)
      assert {:ok, nil} = Typhon.call(py, :converse, :send_async, [self(), 3])
      for i <- 0..2, do: assert_received({"async", ^i})
    end

    test "100,000 messages", %{py: py} do
      assert {:ok, nil} = Typhon.call(py, :converse, :send_many, [self(), 100_000], timeout: 60_000)
      for i <- 0..99_999, do: assert_received(^i)
      assert_mailbox_empty()
    end
  end

  describe "what is sent to typhon.self()" do
    test "is a process of this node, the same at each call", %{py: py} do
      pid = address(py)
      assert is_pid(pid) and pid == address(py) and pid == worker(py).pid
    end

    test "waits for typhon.receive()", %{py: py} do
      pid = address(py)
      send(pid, {:hello, "Python", [1]})
      assert python(py, "typhon.receive()") == {:ok, {:hello, "Python", [1]}}
      for i <- 1..100, do: send(pid, i)
      assert python(py, "[typhon.receive() for _ in range(100)]") == {:ok, Enum.to_list(1..100)}
    end

    test "is a way to answer", %{py: py} do
      server =
        spawn_link(fn ->
          receive do
            {"ask", from} -> send(from, {:answer, 42})
          end
        end)

      eventually(fn -> match?({:ok, 4.0}, Typhon.call(py, :math, :sqrt, [16])) end)

      assert python(py, "(typhon.send(f, ('ask', typhon.self())), typhon.receive(30))[1]", [server]) ==
               {:ok, {:answer, 42}}
    end

    test "may be large, and may be anything", %{py: py} do
      pid = address(py)
      large = String.duplicate("x", 10_000_000)
      send(pid, {:large, large})
      assert python(py, "len(typhon.receive()[1])") == {:ok, 10_000_000}

      for value <- [nil, true, 1.5, ~D[2024-02-29], self(), %{"a" => 1}, [], {}],
          do: send(pid, {:value, value})

      assert {:ok, values} = python(py, "[typhon.receive()[1] for _ in range(8)]")
      assert values == [nil, true, 1.5, ~D[2024-02-29], self(), %{"a" => 1}, [], {}]
    end

    test "that Python cannot hold raises where it is received, and the next one is fine", %{py: py} do
      pid = address(py)
      send(pid, {:bad, <<255>>})
      send(pid, {:good, 1})

      assert {:error, %PythonError{type: "typhon.DecodeError", message: message}} =
               python(py, "typhon.receive(5)")

      assert message =~ "message[1]"
      assert python(py, "typhon.receive(5)") == {:ok, {:good, 1}}
    end

    test "that the BEAM cannot encode is logged, and the worker's process lives on", %{py: py} do
      pid = address(py)

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          send(pid, {:bad, %URI{}})
          send(pid, {:good, 1})
          assert python(py, "typhon.receive(5)") == {:ok, {:good, 1}}
          await_logged(py)
        end)

      assert log =~ "a message to a worker was dropped"
      assert log =~ "URI"
      assert address(py) == pid
    end

    test "100,000 messages arrive in order", %{py: py} do
      pid = address(py)

      task =
        Task.async(fn ->
          python(py, "all(typhon.receive(60) == (f, i) for i in range(100_000))", [:n], timeout: 60_000)
        end)

      for i <- 0..99_999, do: send(pid, {:n, i})
      assert await(task) == {:ok, true}
    end

    test "waits in the worker's process while the ring is full, and no message is lost" do
      py = start_pool(ring_size: 65_536)
      pid = address(py)
      free = keep_busy(py)
      text = String.duplicate("x", 1_000)

      log =
        ExUnit.CaptureLog.capture_log(fn ->
          for i <- 1..1_000, do: send(pid, {i, text})
          # It is alive and well meanwhile.
          assert worker(py).state == :ready
          free.()
          assert python(py, "[typhon.receive(5)[0] for _ in range(1000)]") == {:ok, Enum.to_list(1..1_000)}
        end)

      refute log =~ "dropped"
    end

    test "comes to a worker of a session, too", %{py: py} do
      assert {:ok, {:ok, 5}} =
               Typhon.run(py, fn worker ->
                 {:ok, pid} = python(worker, "typhon.self()")
                 send(pid, 5)
                 python(worker, "typhon.receive(5)")
               end)
    end
  end

  describe "Typhon.Message.send/4" do
    test "returns when it is in the worker's ring", %{py: py} do
      [{_, %{channel: channel}}] = for pid <- [worker(py).pid], do: :sys.get_state(pid)
      assert Typhon.Message.send(nil, channel, {:hello, 1}, 1_000) == :ok
      assert Typhon.Message.send(nil, channel, ~D[2024-02-29], 1_000) == :ok
      assert {:error, %Typhon.EncodeError{}} = Typhon.Message.send(nil, channel, %URI{}, 1_000)
      assert python(py, "(typhon.receive(5), str(typhon.receive(5)))") == {:ok, {{:hello, 1}, "2024-02-29"}}
      Typhon.stop(py)
      assert {:error, %{__exception__: true}} = Typhon.Message.send(nil, channel, 1, 1_000)
    end

    test "waits for room, and no longer than its time" do
      py = start_pool(ring_size: 65_536)
      assert python(py, "1") == {:ok, 1}
      [{_, %{channel: channel}}] = for pid <- [worker(py).pid], do: :sys.get_state(pid)
      free = keep_busy(py)
      text = String.duplicate("x", 10_000)
      results = for _ <- 1..20, do: Typhon.Message.send(nil, channel, text, 10)
      assert :ok in results
      assert {:error, %Typhon.TimeoutError{timeout: 10}} = List.last(results)
      free.()
      assert_mailbox_empty()
      accepted = Enum.count(results, &(&1 == :ok))

      assert python(py, "[len(typhon.receive(5)) for _ in range(f)]", [accepted]) ==
               {:ok, List.duplicate(10_000, accepted)}
    end
  end

  describe "typhon.receive" do
    test "waits, and no longer than its time", %{py: py} do
      assert python(py, "attempt(typhon.receive, 0)") == {:ok, {"TimeoutError", "no message has come"}}
      assert python(py, "attempt(typhon.receive, 0.05)") == {:ok, {"TimeoutError", "no message has come"}}
      assert python(py, "attempt(typhon.receive, -5)") == {:ok, {"TimeoutError", "no message has come"}}
      pid = address(py)
      task = Task.async(fn -> python(py, "(typhon.send(f, 'ready'), typhon.receive())[1]", [self()]) end)
      eventually(fn -> running(py) == 1 end)
      send(pid, :at_last)
      assert await(task) == {:ok, :at_last}
    end

    test "is ended by the call's time", %{py: py} do
      assert {:error, %Typhon.TimeoutError{}} = python(py, "typhon.receive()", [], timeout: 100)
      # Also when a thread reads the ring.
      Typhon.call!(py, :talk, :sleep, [0])
      assert {:error, %Typhon.TimeoutError{}} = python(py, "typhon.receive()", [], timeout: 100)
      assert {:error, %Typhon.TimeoutError{}} = python(py, "typhon.receive(60)", [], timeout: 100)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert worker(py).restarts == 0
      # Nobody waits any more: the next message is for the next one who does.
      send(address(py), 1)
      assert python(py, "typhon.receive(5)") == {:ok, 1}
    end

    test "while calls wait: they have their turn afterwards", %{py: py} do
      pid = address(py)
      receiver = Task.async(fn -> python(py, "typhon.receive()") end)
      eventually(fn -> running(py) == 1 end)
      calls = for i <- 1..20, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i]) end)
      eventually(fn -> in_flight(py) == 21 end)
      send(pid, :now)
      assert await(receiver) == {:ok, :now}
      assert await_many(calls) == for(i <- 1..20, do: {:ok, i})
    end

    test "in threads of the user's", %{py: py} do
      pid = address(py)
      task = Task.async(fn -> python(py, "sorted(in_pool(lambda _: typhon.receive(30), 20, 4))") end)
      for i <- 1..20, do: send(pid, i)
      assert await(task) == {:ok, Enum.to_list(1..20)}
    end

    test "in several threads of a worker" do
      py = start_pool(concurrency: 4)
      pid = address(py)
      tasks = for _ <- 1..4, do: Task.async(fn -> python(py, "typhon.receive(30)") end)
      for i <- 1..4, do: send(pid, i)
      assert tasks |> await_many() |> Enum.sort() == [ok: 1, ok: 2, ok: 3, ok: 4]
    end

    test "and a callback, in the middle of each other", %{py: py} do
      pid = address(py)
      assert python(py, "(f(), typhon.receive(5), f())", [fn -> send(pid, :m) && 1 end]) == {:ok, {1, :m, 1}}
      assert python(py, "typhon.receive(5)") == {:ok, :m}
    end
  end

  describe "on_message" do
    test "handles each message, those that came before as well", %{py: py} do
      pid = address(py)
      send(pid, 1)
      assert {:ok, _} = python(py, "(seen.clear(), typhon.on_message(seen.append), None)[2]")
      for i <- 2..100, do: send(pid, i)
      eventually(fn -> python(py, "len(seen)") == {:ok, 100} end)
      assert python(py, "list(seen)") == {:ok, Enum.to_list(1..100)}
    end

    test "goes on after one that raises", %{py: py} do
      pid = address(py)

      assert {:ok, nil} =
               python(py, "(seen.clear(), typhon.on_message(lambda m: seen.append(1 / m)), None)[2]")

      send(pid, 0)
      send(pid, <<255>>)
      send(pid, 1)
      eventually(fn -> python(py, "list(seen)") == {:ok, [1.0]} end)
      assert worker(py).restarts == 0
    end

    @tag :os_process
    test "what it raises is printed" do
      log =
        ExUnit.CaptureLog.capture_log(fn ->
          py = start_pool(stdio: :logger)
          assert {:ok, nil} = python(py, "(typhon.on_message(lambda m: (seen.append(m), 1 / m)), None)[1]")
          send(address(py), 0)
          eventually(fn -> python(py, "list(seen)") == {:ok, [0]} end)
          # The end of the worker brings all that was printed.
          assert {:error, _} = Typhon.call(py, :sample, :hard_exit, [0])
        end)

      assert log =~ "ZeroDivisionError"
    end

    test "may be taken away: messages wait again", %{py: py} do
      pid = address(py)
      assert {:ok, nil} = python(py, "(seen.clear(), typhon.on_message(seen.append), None)[2]")
      send(pid, 1)
      eventually(fn -> python(py, "list(seen)") == {:ok, [1]} end)
      assert {:ok, nil} = python(py, "typhon.on_message(None)")
      send(pid, 2)
      assert python(py, "typhon.receive(5)") == {:ok, 2}
      assert python(py, "list(seen)") == {:ok, [1]}
      assert {:error, %PythonError{type: "TypeError"}} = python(py, "typhon.on_message(5)")
    end

    test "may call the BEAM and send", %{py: py} do
      pid = address(py)

      assert {:ok, nil} =
               python(
                 py,
                 "(typhon.on_message(lambda m: typhon.send(m, typhon.Elixir.Enum.sum([1, 2]))), None)[1]"
               )

      send(pid, self())
      assert_receive 3
    end

    test "while callers call", %{py: py} do
      pid = address(py)
      assert {:ok, nil} = python(py, "(seen.clear(), typhon.on_message(seen.append), None)[2]")

      callers =
        for i <- 1..10,
            do: Task.async(fn -> for _ <- 1..200, do: {:ok, ^i} = Typhon.call(py, :sample, :echo, [i]) end)

      for i <- 1..2_000, do: send(pid, i)
      await_many(callers)
      eventually(fn -> python(py, "list(seen) == list(range(1, 2001))") == {:ok, true} end)
    end

    test "on a worker with threads" do
      py = start_pool(concurrency: 4)
      pid = address(py)
      assert {:ok, nil} = python(py, "(typhon.on_message(seen.append), None)[1]")
      for i <- 1..500, do: send(pid, i)
      eventually(fn -> python(py, "sorted(seen) == list(range(1, 501))") == {:ok, true} end)
    end
  end

  describe "typhon.mailbox" do
    test "gives messages to coroutines", %{py: py} do
      pid = address(py)
      task = Task.async(fn -> Typhon.call(py, :talk, :next_message, []) end)
      eventually(fn -> in_flight(py) == 1 end)
      send(pid, {:one, 1})
      assert await(task) == {:ok, {:one, 1}}
      send(pid, {:two, 2})
      assert Typhon.call(py, :talk, :next_message, []) == {:ok, {:two, 2}}
    end

    test "to several, in the order in which they asked", %{py: py} do
      pid = address(py)
      assert {:ok, _} = Typhon.call(py, :talk, :sleep, [0])
      task = Task.async(fn -> Typhon.call(py, :converse, :messages_async, [100], timeout: 30_000) end)
      for i <- 1..100, do: send(pid, i)
      assert await(task) == {:ok, Enum.to_list(1..100)}
    end

    test "one that gives up loses no message", %{py: py} do
      pid = address(py)
      assert Typhon.call(py, :converse, :message_in_time, [0.02]) == {:ok, "TimeoutError"}
      assert {:error, %Typhon.TimeoutError{}} = Typhon.call(py, :talk, :next_message, [], timeout: 50)
      eventually(fn -> in_flight(py) == 0 end)
      for i <- 1..20, do: send(pid, i)
      assert Typhon.call(py, :converse, :messages_async, [20]) == {:ok, Enum.to_list(1..20)}
    end

    test "raises for a message that cannot be decoded", %{py: py} do
      send(address(py), <<255>>)
      assert {:error, %PythonError{type: "typhon.DecodeError"}} = Typhon.call(py, :talk, :next_message, [])
      send(address(py), 1)
      assert {:ok, 1} = Typhon.call(py, :talk, :next_message, [])
    end

    test "many", %{py: py} do
      pid = address(py)
      task = Task.async(fn -> Typhon.call(py, :converse, :count_messages, [20_000], timeout: 60_000) end)
      for i <- 1..20_000, do: send(pid, i)
      assert await(task) == {:ok, 200_010_000}
    end
  end
end
