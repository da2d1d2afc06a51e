defmodule Typhon.CallbackTest do
  # Python calls the BEAM while the BEAM calls Python.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PythonError, TimeoutError, WorkerError}

  # Most tests share one worker, as calls do.
  setup_all do
    {:ok, py: start_pool()}
  end

  def double(x), do: 2 * x

  def quit, do: Process.exit(self(), :normal)

  def vanish do
    for pid <- Process.info(self(), :links) |> elem(1), do: Process.unlink(pid)
    Process.exit(self(), :kill)
  end

  def boom(text), do: raise(ArgumentError, text)

  defmodule Fault do
    defexception [:message]
  end

  defp python(py, expression, args \\ [], options \\ []),
    do: Typhon.call(py, :converse, :evaluate, [expression | args], options)

  defp attempt(py, function, args \\ [], options \\ []),
    do: Typhon.call!(py, :converse, :attempt, [function | args], options)

  # From Elixir to Python and back, `depth` times, on top of each other.
  defp down(_py, 0), do: 0
  defp down(py, depth), do: 1 + Typhon.call!(py, :talk, :nest, [&down(py, &1 - 1), depth])

  describe "a function as an argument" do
    test "is called in Python like any other", %{py: py} do
      assert Typhon.call(py, :talk, :apply, [fn x -> x + 1 end, 41]) == {:ok, 42}
      assert Typhon.call(py, :talk, :apply, [&double/1, 21]) == {:ok, 42}
      assert Typhon.call(py, :talk, :apply, [&__MODULE__.double/1, 21]) == {:ok, 42}
      assert Typhon.call(py, :talk, :apply, [&Enum.sum/1, [1, 2, 3]]) == {:ok, 6}
      assert Typhon.call(py, :talk, :apply, [fn -> :done end]) == {:ok, :done}
      assert Typhon.call(py, :talk, :apply, [fn a, b, c -> {c, b, a} end, 1, 2, 3]) == {:ok, {3, 2, 1}}
    end

    test "may be anywhere in the arguments", %{py: py} do
      assert python(py, "f['deep'][0](7)", [%{"deep" => [&(&1 * 2)]}]) == {:ok, 14}
      assert Typhon.call(py, :builtins, :sorted, [[3, 1, 2]], kwargs: %{key: &(-&1)}) == {:ok, [3, 2, 1]}
      assert python(py, "list(map(f, range(100)))", [&(&1 * &1)]) == {:ok, for(i <- 0..99, do: i * i)}
    end

    test "runs in the process that made the call", %{py: py} do
      Process.put(:secret, 7)
      me = self()
      assert Typhon.call(py, :talk, :apply, [fn -> Process.get(:secret) end]) == {:ok, 7}
      assert Typhon.call(py, :talk, :apply, [fn -> self() end]) == {:ok, me}
      assert python(py, "typhon.caller()") == {:ok, me}
      assert Typhon.call(py, :talk, :apply, [fn -> Process.put(:left, :here) end]) == {:ok, nil}
      assert Process.get(:left) == :here

      assert ExUnit.CaptureIO.capture_io(fn ->
               assert Typhon.call(py, :talk, :apply, [fn -> IO.puts("in Elixir") end]) == {:ok, :ok}
             end) == "in Elixir\n"
    end

    test "receives the messages of the process, and leaves none of its own", %{py: py} do
      send(self(), :one)

      assert Typhon.call(py, :talk, :apply, [
               fn ->
                 receive do
                   message -> message
                 end
               end
             ]) == {:ok, :one}

      assert_mailbox_empty()
    end

    test "takes and gives whatever crosses", %{py: py} do
      for value <- [
            nil,
            true,
            1.5,
            :ok,
            "ü",
            <<1::3>>,
            {1, [2]},
            %{"a" => [self()]},
            ~D[2024-02-29],
            1..3,
            MapSet.new([1])
          ] do
        assert Typhon.call(py, :talk, :apply, [fn ^value -> value end, value]) == {:ok, value}
      end

      # An object of Python is a handle here, and the object itself again there.
      assert python(py, "f(sample.Counter(5))", [fn counter -> Typhon.call!(py, counter, :add, [1]) end]) ==
               {:ok, 6}

      assert python(py, "f(sample.Counter(5)).value", [& &1]) == {:ok, 5}
      :erlang.garbage_collect()
      eventually(fn -> Typhon.call(py, :sample, :counters_alive, []) == {:ok, 0} end)
    end

    test "of large values", %{py: py} do
      large = String.duplicate("0123456789", 1_000_000)
      assert {:ok, ^large} = Typhon.call(py, :talk, :apply, [& &1, large])
      assert python(py, "len(f('x' * 10_000_000))", [&(&1 <> "y")]) == {:ok, 10_000_001}
      assert python(py, "len(f(bytes(10_000_000)))", [&Typhon.bytes/1]) == {:ok, 10_000_000}
      assert python(py, "sum(f(list(range(1_000_000))))", [&Enum.reverse/1]) == {:ok, 499_999_500_000}
      for _ <- 1..20, do: assert(python(py, "len(f('x' * 10_000_000))", [& &1]) == {:ok, 10_000_000})
    end

    test "may be called after its call has ended, but not by that call's caller", %{py: py} do
      me = self()
      assert Typhon.call(py, :converse, :keep, ["later", fn -> self() end]) == {:ok, nil}
      assert {:ok, {"returned", ^me}} = Typhon.call(py, :converse, :use, ["later"])
      other = Task.async(fn -> {self(), Typhon.call!(py, :converse, :use, ["later"])} end)
      assert {pid, {"returned", pid}} = await(other)
    end
  end

  describe "typhon.call" do
    test "names a module and a function", %{py: py} do
      assert python(py, "typhon.call('Elixir.Enum', 'sum', [[1, 2]])") == {:ok, 3}
      assert python(py, "typhon.call(typhon.Atom('Elixir.Enum'), typhon.Atom('sum'), ([1, 2],))") == {:ok, 3}
      assert python(py, "typhon.call('lists', 'reverse', [[1, 2]])") == {:ok, [2, 1]}
      assert python(py, "typhon.call('erlang', 'node')") == {:ok, node()}
      assert python(py, "typhon.call('erlang', '+', [1, 2])") == {:ok, 3}
      assert python(py, "typhon.call('erlang', 'self')") == {:ok, self()}
      assert python(py, "typhon.call('Elixir.Typhon.CallbackTest', 'double', [4])") == {:ok, 8}
    end

    test "has a shorter form", %{py: py} do
      assert python(py, "typhon.Elixir.Enum.sum([1, 2])") == {:ok, 3}
      assert python(py, "typhon.Elixir.Typhon.CallbackTest.double(4)") == {:ok, 8}
      assert python(py, "typhon.erlang.node()") == {:ok, node()}
      assert python(py, "repr(typhon.Elixir.Enum)") == {:ok, "<module Elixir.Enum of the BEAM>"}
      assert python(py, "typhon.Elixir.Enum.sum.__qualname__") == {:ok, "Elixir.Enum.sum"}
      assert python(py, "hasattr(typhon.Elixir.Enum, '__len__')") == {:ok, false}
    end

    test "loads a module that has not been loaded", %{py: py} do
      :code.purge(:orddict)
      :code.delete(:orddict)
      assert python(py, "typhon.call('orddict', 'new')") == {:ok, []}
    end

    test "does not make atoms", %{py: py} do
      for i <- 1..50 do
        assert {:ok, {"raised", %{"type" => "UndefinedFunctionError"}}} =
                 Typhon.call(py, :converse, :attempt_call, ["Elixir.NoModule#{i}x", "no_function#{i}x", []])

        assert {:ok, {"raised", %{"type" => "UndefinedFunctionError"}}} =
                 Typhon.call(py, :converse, :attempt_call, ["Elixir.Enum", "no_function#{i}y", []])

        for name <- ["Elixir.NoModule#{i}x", "no_function#{i}x", "no_function#{i}y"],
            do: assert_raise(ArgumentError, fn -> String.to_existing_atom(name) end)
      end
    end

    test "refuses what is no name or no list", %{py: py} do
      for expression <- [
            "typhon.call(1, 'sum', [])",
            "typhon.call('a', None)",
            "typhon.call('a', 'b', 'text')",
            "typhon.call('a', 'b', 1)"
          ] do
        assert {:error, %PythonError{type: "TypeError"}} = python(py, expression)
      end
    end
  end

  defmodule Speechless do
    defexception [:text]
    def message(_), do: exit(:speechless)
  end

  describe "an error in the BEAM" do
    # It follows the callback's answer so soon that who answers sees it.
    test "that Python lets through is the call's error, each time" do
      py = start_pool()

      for _ <- 1..3_000 do
        assert {:error, %PythonError{type: "typhon.BeamError"}} =
                 Typhon.call(py, :talk, :apply, [fn -> raise "x" end])
      end
    end

    test "that cannot be described says so, and the worker goes on", %{py: py} do
      ways = [
        fn -> raise Speechless, text: "x" end,
        fn -> :erlang.raise(:error, :x, [{:m, :f, 1, [file: self(), line: 1]}]) end,
        fn -> :erlang.raise(:error, :undef, [{:m, :f, [1 | 2], []}]) end
      ]

      for way <- ways do
        assert {:error, %PythonError{type: "typhon.BeamError", message: message}} =
                 Typhon.call(py, :talk, :apply, [way])

        assert message =~ "in a way that cannot be described"
        assert Typhon.call(py, :talk, :apply, [fn -> 1 end]) == {:ok, 1}
      end
    end

    test "is a BeamError with kind, type, reason and stacktrace", %{py: py} do
      assert {"raised", error} = attempt(py, fn -> boom("no luck") end)

      assert %{"kind" => "error", "type" => "ArgumentError", "message" => "no luck", "reason" => "no luck"} =
               error

      assert error["stacktrace"] =~ "callback_test.exs"
      assert error["stacktrace"] =~ "Typhon.CallbackTest.boom/1"
      # What called Python in the first place is not of this error.
      assert [_boom] = String.split(error["stacktrace"], "\n", trim: true)

      # Of an enumerable's, and of one that calls Python itself.
      elements = Typhon.iter(Stream.map([1], fn _ -> boom("none") end))
      assert {"raised", %{"stacktrace" => stack}} = Typhon.call!(py, :converse, :attempt_next, [elements])
      assert stack =~ "Typhon.CallbackTest.boom/1"
      refute stack =~ "lib/typhon/"
      assert {"raised", error} = attempt(py, fn -> [Typhon.run!(py, fn _ -> [boom("within")] end)] end)
      assert error["stacktrace"] =~ "Typhon.CallbackTest.boom/1"
      assert error["stacktrace"] |> String.split("\n", trim: true) |> List.last() =~ "callback_test.exs"
      assert ["The BEAM's stacktrace:\n" <> _] = error["notes"]

      assert {"raised", error} = attempt(py, fn -> throw({:ball, 1}) end)
      assert %{"kind" => "throw", "type" => "", "reason" => {:ball, 1}} = error
      assert error["message"] =~ "{:ball, 1}"

      assert {"raised", error} = attempt(py, fn -> exit({:shutdown, "why"}) end)
      assert %{"kind" => "exit", "type" => "", "reason" => {:shutdown, "why"}} = error
      assert error["message"] =~ "shutdown"

      assert {"raised", %{"kind" => "error", "type" => "ErlangError", "message" => message}} =
               attempt(py, fn -> :erlang.error({:own, 5}) end)

      assert message =~ "{:own, 5}"

      assert {"raised", %{"type" => "ArithmeticError"}} = attempt(py, &div(1, &1), [0])

      assert {"raised", %{"type" => "Typhon.CallbackTest.Fault", "message" => "own"}} =
               attempt(py, fn -> raise Fault, message: "own" end)

      assert {"raised", %{"type" => "MatchError"}} = attempt(py, fn -> {:ok, _} = List.first([:no]) end)
    end

    test "may have a reason that cannot cross", %{py: py} do
      assert {"raised", %{"reason" => reason}} = attempt(py, fn -> throw(%{<<255>> => <<254>>}) end)
      assert reason =~ "<<255>>"
      assert {"raised", %{"reason" => reason}} = attempt(py, fn -> exit(<<255>>) end)
      assert is_binary(reason)
      assert {"raised", %{"message" => message}} = attempt(py, fn -> raise "bytes: " <> <<255>> end)
      assert is_binary(message)
    end

    test "may be very large", %{py: py} do
      assert {"raised", %{"message" => message}} =
               attempt(py, fn -> raise String.duplicate("é", 1_000_000) end)

      assert byte_size(message) < 1_000_000
      assert {"raised", %{"kind" => "throw"}} = attempt(py, fn -> throw(Enum.to_list(1..1_000_000)) end)
    end

    test "of names and numbers of arguments says which", %{py: py} do
      for {module, function, args, text} <- [
            {"Elixir.NoSuchModule", "f", [], "NoSuchModule"},
            {"nosuchmodule", "f", [], "nosuchmodule"},
            {"Elixir.Enum", "summ", [[1]], "Enum.summ/1"},
            {"Elixir.Enum", "sum", [1, 2], "Enum.sum/2"},
            {"erlang", "node", [1, 2, 3], "node/3"},
            {"", "f", [], ""}
          ] do
        assert {:ok, {"raised", error}} = Typhon.call(py, :converse, :attempt_call, [module, function, args])
        assert %{"kind" => "error", "type" => "UndefinedFunctionError"} = error
        assert error["message"] =~ text
      end

      assert {"raised", %{"type" => "BadArityError"}} = attempt(py, fn x -> x end, [1, 2])
      # A function of a module that is missing in the callback itself.
      assert {"raised", %{"type" => "UndefinedFunctionError"}} =
               attempt(py, fn -> apply(NoSuchModule, :f, []) end)
    end

    test "of a result that the BEAM cannot encode is one as well, and says where", %{py: py} do
      assert {"raised", error} = attempt(py, fn -> {:ok, [%Fault{}]} end)
      assert %{"kind" => "error", "type" => "Typhon.EncodeError"} = error
      assert error["message"] =~ "the result cannot cross to Python"
      assert error["message"] =~ "Typhon.CallbackTest.Fault"
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    test "of a result that Python cannot hold is Python's own, and says where", %{py: py} do
      assert {"DecodeError", "answer[1]: " <> text} = attempt(py, fn -> ["fine", <<255>>] end)
      assert text =~ "Typhon.bytes/1"
      assert {"DecodeError", "answer" <> _} = attempt(py, fn -> %{1 => 1, 1.0 => 2} end)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    test "an argument that cannot cross raises in Python", %{py: py} do
      assert {:ok, {"EncodeError", text}} =
               python(py, "attempt(f, 1, {'a': ['\\ud800']})", [fn _, b -> b end])

      assert text =~ ~s(args[1]["a"][0])
      assert text =~ "surrogate"

      assert {:ok, {"EncodeError", "args[0]: " <> _}} =
               python(py, "attempt(typhon.call, 'lists', 'reverse', [{b'x': 2, 'x': 3}])")

      assert {:error, %PythonError{type: "typhon.EncodeError"}} = python(py, "f({b'x': 2, 'x': 3})", [& &1])
      # Atoms are made on this side, if at all.
      assert {:ok, {"raised", %{"type" => "ArgumentError"}}} =
               python(py, "attempt(f, typhon.Atom('no_such_atom_in_here'))", [& &1])

      # Nothing of what failed is left: an object before it in the arguments was let go.
      assert {"EncodeError", _} =
               python(py, "attempt(f, sample.Counter(), '\\ud800')", [fn a, _ -> a end]) |> elem(1)

      eventually(fn -> Typhon.call(py, :sample, :counters_alive, []) == {:ok, 0} end)
    end

    test "that Python does not catch comes back with both stacktraces", %{py: py} do
      assert {:error, %PythonError{} = error} = Typhon.call(py, :talk, :apply, [fn -> boom("both") end])
      assert error.type == "typhon.BeamError"
      assert error.message =~ "both"
      text = Exception.message(error)
      assert text =~ "talk.py"
      assert text =~ "callback_test.exs"
      assert text =~ "Typhon.CallbackTest.boom/1"
    end

    test "that leads to another one in Python is its context", %{py: py} do
      assert {:error, %PythonError{type: "ValueError"} = error} =
               Typhon.call(py, :converse, :fail_after, [fn -> boom("first") end])

      assert Exception.message(error) =~ "first"
    end

    test "goes through all levels", %{py: py} do
      assert {:error, error} =
               Typhon.call(py, :talk, :apply, [
                 fn -> Typhon.call!(py, :talk, :apply, [fn -> boom("innermost") end]) end
               ])

      assert %PythonError{type: "typhon.BeamError"} = error
      assert Exception.message(error) =~ "innermost"

      assert {:ok, {"raised", %{"type" => "Typhon.PythonError", "message" => message}}} =
               Typhon.call(py, :converse, :attempt, [
                 fn -> Typhon.call!(py, :sample, :fail, ["in Python"]) end
               ])

      assert message =~ "in Python"
    end

    test "can be pickled", %{py: py} do
      assert {:ok, {"raised", %{"kind" => "throw", "reason" => 5}}} =
               python(
                 py,
                 "attempt(lambda: (_ for _ in ()).throw(pickle.loads(pickle.dumps(typhon.BeamError('throw', '', 'm', 5, 's')))))"
               )
    end
  end

  describe "nesting" do
    test "to the end of Python's stack: the call that finds none left says so" do
      py = start_pool()
      me = self()

      down = fn down ->
        case Typhon.call(py, :talk, :nest, [fn 0 -> down.(down) end, 0], timeout: :infinity) do
          {:ok, _} -> 0
          {:error, error} -> send(me, {:failed, error}) && 0
        end
      end

      down.(down)
      # Those above may need more frames when they go on.
      assert_received {:failed, error}
      for error <- [error | failed()], do: assert(%PythonError{type: "RecursionError"} = error)
      assert Exception.message(error) =~ "maximum recursion depth exceeded"
      assert Typhon.call(py, :sys, :getrecursionlimit, []) == {:ok, 1_000}
    end

    defp failed do
      receive do
        {:failed, error} -> [error | failed()]
      after
        0 -> []
      end
    end

    test "50 deep in both directions on one worker" do
      py = start_pool()
      assert down(py, 50) == 50
      assert down(py, 50) == 50
      assert_mailbox_empty()
    end

    test "50 deep when a thread reads the ring" do
      py = start_pool()
      assert {:ok, _} = Typhon.call(py, :talk, :sleep, [0])
      assert down(py, 50) == 50
    end

    test "50 deep on a worker with threads, several at once" do
      for _ <- 1..5 do
        py = start_pool(concurrency: 4)
        tasks = for _ <- 1..8, do: Task.async(fn -> down(py, 50) end)
        assert await_many(tasks) == List.duplicate(50, 8)
      end
    end

    test "while others call the same worker" do
      py = start_pool()

      others =
        for i <- 1..20,
            do: Task.async(fn -> for _ <- 1..50, do: {:ok, ^i} = Typhon.call(py, :sample, :echo, [i]) end)

      for _ <- 1..10, do: assert(down(py, 20) == 20)
      await_many(others)
    end

    test "each level has its own time" do
      py = start_pool()

      assert {:ok, :in_time} =
               Typhon.call(
                 py,
                 :talk,
                 :apply,
                 [
                   fn ->
                     assert {:error, %TimeoutError{timeout: 100}} =
                              Typhon.call(py, :sample, :sleep, [600], timeout: 100)

                     :in_time
                   end
                 ],
                 timeout: limit()
               )

      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert worker(py).restarts == 0
    end

    test "a callback that outlasts its call: the call is given up when it returns" do
      py = start_pool()
      slow = fn -> Typhon.call!(py, :sample, :sleep, [0.2]) end

      assert {:error, %TimeoutError{timeout: 100}} =
               python(py, "(f(), time.sleep(600))", [slow], timeout: 100)

      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert worker(py).restarts == 0
      assert_mailbox_empty()
    end
  end

  # Everything here would take ten minutes if the time of the outer call did not bound it.
  describe "the deadline of a call" do
    # What `fun` said in a callback of a call that was over meanwhile.
    defp in_callback(py, fun) do
      me = self()

      callback = fn ->
        result = fun.()
        send(me, {:nested, result})
        result
      end

      overrun(py, fn timeout, mark ->
        code = "(pathlib.Path(x).touch(), f(), time.sleep(600))"

        assert {:error, %TimeoutError{timeout: ^timeout, function: :evaluate}} =
                 python(py, code, [callback, mark], timeout: timeout)

        receive do
          {:nested, :again} -> :again
          {:nested, result} -> {timeout, result}
        after
          0 -> :again
        end
      end)
    end

    test "bounds the calls that its callback makes, however long they may take", %{py: py} do
      for nested <- [600_000, :infinity] do
        {outer, result} = in_callback(py, fn -> Typhon.call(py, :sample, :sleep, [600], timeout: nested) end)

        assert {:error, %TimeoutError{function: :sleep, timeout: timeout}} = result
        # Beside the milliseconds that it may be rounded by.
        assert timeout <= outer + 2
      end

      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert worker(py).restarts == 0
      assert_mailbox_empty()
    end

    test "counts from when the call was made, not from when Python asks", %{py: py} do
      overrun(py, fn timeout, mark ->
        me = self()

        tell = fn ->
          send(me, {:left, Typhon.Session.deadline() - System.monotonic_time(:millisecond)})
          Process.sleep(:infinity)
        end

        Task.async(fn ->
          send(me, {:begun, System.monotonic_time(:millisecond)})

          python(py, "(time.sleep(x / 2000), pathlib.Path(args[2]).touch(), f())", [tell, timeout, mark],
            timeout: timeout
          )
        end)
        |> then(fn task ->
          receive do
            {:left, left} ->
              Task.shutdown(task, :brutal_kill)
              # A machine that is busy may have counted late.
              if left <= div(timeout, 2) + 1, do: left, else: :again
          after
            2 * timeout ->
              Task.shutdown(task, :brutal_kill)
              :again
          end
        end)
      end)
    end

    test "three levels down", %{py: py} do
      me = self()
      reached = :counters.new(1, [])

      third = fn ->
        result = Typhon.call(py, :sample, :sleep, [600], timeout: :infinity)
        :counters.add(reached, 1, 1)
        send(me, {:third, result})
        :third
      end

      second = fn -> Typhon.call(py, :talk, :apply, [third], timeout: :infinity) end

      {outer, {:error, %TimeoutError{timeout: timeout, function: :apply}}} =
        in_callback(py, fn ->
          :counters.put(reached, 1, 0)
          result = Typhon.call(py, :talk, :apply, [second], timeout: 600_000)
          # On a busy machine the time may be up before the third is made.
          if match?({:error, %TimeoutError{}}, result) and :counters.get(reached, 1) == 1,
            do: result,
            else: :again
        end)

      assert timeout <= outer + 2
      assert_received {:third, {:error, %TimeoutError{function: :sleep, timeout: innermost}}}
      assert innermost <= timeout + 2
      assert worker(py).restarts == 0
    end

    @tag :several_workers
    test "bounds what goes to another pool", %{py: py} do
      other = start_pool()
      {_, result} = in_callback(py, fn -> Typhon.call(other, :sample, :sleep, [600], timeout: 600_000) end)
      assert {:error, %TimeoutError{function: :sleep}} = result
      assert Typhon.call(other, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    test "whatever it is made by", %{py: py} do
      options = [timeout: 600_000]

      for {name, call} <- [
            multi: fn -> Typhon.multi(py, :sample, :sleep, [[600]], options) end,
            each: fn -> Typhon.multi(py, [{:sample, :sleep, [600]}], options) end,
            keyword: fn -> Typhon.call(py, :sample, :sleep, [], [kwargs: %{seconds: 600}] ++ options) end,
            retry: fn -> Typhon.call(py, :sample, :sleep, [600], [retry: 2] ++ options) end,
            method: fn -> Typhon.call(py, :converse, "time.sleep", [600], options) end,
            coroutine: fn -> Typhon.call(py, :talk, :sleep, [600], options) end,
            stream: fn ->
              try do
                py |> Typhon.stream(:talk, :slow_numbers, [5, 600], options) |> Enum.to_list()
              rescue
                error in TimeoutError -> {:error, error}
              end
            end,
            session: fn ->
              {:ok, result} = Typhon.run(py, &Typhon.call(&1, :sample, :sleep, [600], options), options)
              result
            end,
            # A process of its own, which calls as any other.
            async: fn -> py |> Typhon.async(:sample, :sleep, [600], options) |> Typhon.await() end,
            map: fn ->
              py |> Typhon.map(:sample, :sleep, [600], [on_error: :return] ++ options) |> Enum.to_list()
            end
          ] do
        {_, result} = in_callback(py, call)
        assert [{:error, %TimeoutError{}}] = List.wrap(result), "by #{name}"
      end

      eventually(fn -> match?({:ok, 4.0}, Typhon.call(py, :math, :sqrt, [16])) end)
      assert worker(py).restarts == 0
    end

    test "bounds a wait for a worker, and the pool's own work", %{py: py} do
      other = start_pool()
      me = self()

      holder =
        Task.async(fn ->
          Typhon.run(other, fn _ ->
            send(me, :held)
            Process.sleep(:infinity)
          end)
        end)

      assert_receive :held
      {_, result} = in_callback(py, fn -> Typhon.run(other, fn _ -> :never end, timeout: 600_000) end)
      assert {:error, %TimeoutError{arity: nil}} = result
      {_, result} = in_callback(py, fn -> Typhon.call(other, :math, :sqrt, [16], timeout: 600_000) end)
      assert {:error, %TimeoutError{function: :sqrt}} = result
      Task.shutdown(holder, :brutal_kill)

      release = keep_busy(other)
      {_, result} = in_callback(py, fn -> Typhon.reload(other, :sample, timeout: 600_000) end)
      assert {:error, %TimeoutError{}} = result
      {_, result} = in_callback(py, fn -> Typhon.drain(other, 600_000) end)
      assert {:error, %TimeoutError{operation: :drain}} = result
      release.()
    end

    test "is that of the outermost call, and gone with the callback", %{py: py} do
      assert Typhon.Session.deadline() == :infinity

      {:ok, {outer, inner}} =
        Typhon.call(
          py,
          :talk,
          :apply,
          [
            fn ->
              inner = fn -> Typhon.Session.deadline() end
              {Typhon.Session.deadline(), Typhon.call!(py, :talk, :apply, [inner], timeout: :infinity)}
            end
          ],
          timeout: limit()
        )

      assert is_integer(outer)
      assert inner <= outer + 2
      assert Typhon.Session.deadline() == :infinity

      assert Typhon.call(py, :talk, :apply, [fn -> Typhon.Session.deadline() end], timeout: :infinity) ==
               {:ok, :infinity}
    end

    test "is not that of questions in nobody's name", %{py: py} do
      me = self()

      :ok =
        Typhon.cast(py, :talk, :apply, [fn -> send(me, {:deadline, Typhon.Session.deadline()}) end],
          timeout: 1_000
        )

      assert_receive {:deadline, :infinity}
    end
  end

  describe "who may ask" do
    test "hears of a process that ends without an answer, in whatever way", %{py: py} do
      for function <- ~w(quit vanish) do
        code = "in_thread_of_its_own(lambda: typhon.call('#{__MODULE__}', '#{function}'))"
        assert {:ok, "the process that was to answer has ended: " <> _} = python(py, code)
      end
    end

    test "a thread of the user's" do
      py = start_pool()
      me = self()
      assert Typhon.call(py, :talk, :in_threads, [&(&1 * 10), 4]) == {:ok, [0, 10, 20, 30]}
      squares = for i <- 0..199, do: i * i
      assert Typhon.call(py, :converse, :in_pool, [&(&1 * &1), 200, 8]) == {:ok, squares}

      # Not the caller answers: the thread belongs to no call.
      assert {:ok, [pid]} = Typhon.call(py, :converse, :in_pool, [fn _ -> self() end, 1, 1])
      assert is_pid(pid) and pid != me

      assert {:error, %PythonError{type: "typhon.BeamError"}} =
               Typhon.call(py, :converse, :in_pool, [fn _ -> boom("x") end, 4, 2])
    end

    test "a coroutine, and others go on meanwhile" do
      py = start_pool()
      me = self()
      assert Typhon.call(py, :talk, :ask, [fn x -> x * 2 end, 21]) == {:ok, 42}
      assert Typhon.call(py, :talk, :ask, [fn -> self() end]) == {:ok, me}
      assert Typhon.call(py, :converse, :gather, [&(&1 + 1), 100]) == {:ok, Enum.to_list(1..100)}

      assert {:ok, {"raised", %{"kind" => "throw", "reason" => {:a, "b"}}}} =
               Typhon.call(py, :converse, :attempt_async, [fn -> throw({:a, "b"}) end])

      tasks =
        for i <- 1..200,
            do: Task.async(fn -> Typhon.call!(py, :talk, :ask, [&(&1 + i), 1], timeout: 30_000) end)

      assert await_many(tasks) == Enum.to_list(2..201)
    end

    test "a coroutine whose callback calls a coroutine, or an ordinary function, of the same worker" do
      py = start_pool()
      assert {:ok, 4.0} = Typhon.call(py, :talk, :ask, [fn -> Typhon.call!(py, :math, :sqrt, [16]) end])
      assert {:ok, 5} = Typhon.call(py, :talk, :ask, [fn -> Typhon.call!(py, :talk, :sleep, [0.01, 5]) end])
      assert {:ok, 6} = Typhon.call(py, :talk, :ask, [fn -> Typhon.call!(py, :talk, :ask, [fn -> 6 end]) end])
      # And an ordinary one whose callback calls a coroutine.
      assert {:ok, 7} =
               Typhon.call(py, :talk, :apply, [fn -> Typhon.call!(py, :talk, :ask, [fn -> 7 end]) end])
    end

    test "a cast: a process of its own answers" do
      py = start_pool()
      me = self()
      :ok = Typhon.cast(py, :talk, :apply, [fn -> send(me, {:from, self()}) end])
      assert_receive {:from, pid}
      assert pid != me
      :ok = Typhon.cast(py, :talk, :ask, [fn -> send(me, {:from_coroutine, self()}) end])
      assert_receive {:from_coroutine, _}
    end

    test "a callback of a cast may call the same worker" do
      py = start_pool()
      me = self()
      :ok = Typhon.cast(py, :talk, :apply, [fn -> send(me, Typhon.call(py, :math, :sqrt, [16])) end])
      assert_receive {:ok, 4.0}
    end

    @tag :os_process
    test "a call of a session, whose worker takes no other calls" do
      py = start_pool(workers: 2)

      assert {:ok, :done} =
               Typhon.run(py, fn worker ->
                 os_pid = Typhon.call!(worker, :os, :getpid, [])
                 same = fn -> Typhon.call!(py, :os, :getpid, []) end
                 assert Typhon.call(worker, :talk, :apply, [same]) == {:ok, os_pid}

                 assert Typhon.call(worker, :talk, :apply, [fn -> Typhon.call!(worker, :os, :getpid, []) end]) ==
                          {:ok, os_pid}

                 assert Typhon.call(worker, :talk, :ask, [fn x -> x end, 1]) == {:ok, 1}
                 assert Typhon.call(worker, :talk, :in_threads, [& &1, 2]) == {:ok, [0, 1]}
                 assert down(worker, 20) == 20
                 assert down(py, 20) == 20
                 :done
               end)
    end

    test "a call of an object, and one by key" do
      py = start_pool(workers: 2)
      counter = Typhon.call!(py, :sample, :Counter, [])
      assert Typhon.call(py, :talk, :apply, [fn -> Typhon.call!(py, counter, :add, []) end]) == {:ok, 1}
      assert Typhon.call(py, :talk, :apply, [fn x -> x end, 1], worker: "key") == {:ok, 1}
      assert Typhon.call(py, :talk, :apply, [fn x -> x end, 1], retry: 1) == {:ok, 1}
    end

    test "threads of a worker, each for its own caller" do
      py = start_pool(concurrency: 4)

      tasks =
        for i <- 1..50 do
          Task.async(fn ->
            me = self()

            for _ <- 1..20,
                do: {:ok, {^me, ^i}} = Typhon.call(py, :talk, :apply, [fn x -> {self(), x} end, i])
          end)
        end

      await_many(tasks)
    end
  end

  describe "a callback whose caller" do
    setup do
      path = new_path("callback")

      on_exit(fn -> File.rm(path) end)
      {:ok, path: path}
    end

    for function <- [:note, :note_async] do
      test "dies in the middle: Python is interrupted (#{function})", %{path: path} do
        py = start_pool()
        me = self()

        caller =
          spawn(fn ->
            forever = fn ->
              send(me, :asked)
              Process.sleep(:infinity)
            end

            Typhon.call(py, :converse, unquote(function), [forever, path], timeout: :infinity)
          end)

        assert_receive :asked
        Process.exit(caller, :kill)
        eventually(fn -> match?({:ok, text} when text != "", File.read(path)) end)
        assert File.read!(path) in ["Cancelled", "CancelledError"]
        assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
        eventually(fn -> in_flight(py) == 0 end)
        assert worker(py).restarts == 0
      end
    end

    test "dies with calls on top of calls: each is interrupted", %{path: path} do
      py = start_pool(grace: 60_000)

      for depth <- [1, 2, 10], routed <- [false, true] do
        if routed, do: Typhon.call!(py, :talk, :sleep, [0])
        File.rm(path)
        caller = spawn(fn -> dig(py, depth, path) end)
        eventually(fn -> in_flight(py) == depth + 1 and File.exists?(path) end)
        Process.exit(caller, :kill)
        eventually(fn -> in_flight(py) == 0 end)
        assert File.read!(path) == "Cancelled"
        assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      end

      assert worker(py).restarts == 0
    end

    defp dig(py, 0, path),
      do:
        python(py, "note(lambda: (pathlib.Path(f).touch(), time.sleep(600)), f)", [path], timeout: :infinity)

    defp dig(py, depth, path),
      do: Typhon.call(py, :talk, :apply, [fn -> dig(py, depth - 1, path) |> elem(0) end], timeout: :infinity)

    test "dies, and Python asks again: it is told", %{path: path} do
      py = start_pool(grace: 60_000)
      me = self()

      caller =
        spawn(fn ->
          forever = fn ->
            send(me, :asked)
            Process.sleep(:infinity)
          end

          python(py, "(swallow(f), note(f, x))", [forever, path], timeout: :infinity)
        end)

      assert_receive :asked
      Process.exit(caller, :kill)
      eventually(fn -> File.exists?(path) end)
      eventually(fn -> File.read!(path) == "BeamError" end)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    test "is gone by its own time limit" do
      py = start_pool()
      assert {:error, %TimeoutError{}} = python(py, "(f(), time.sleep(600))", [fn -> 1 end], timeout: 200)

      assert {:error, %TimeoutError{}} =
               Typhon.call(py, :talk, :ask_and_sleep, [fn -> Process.sleep(100) end], timeout: 20)

      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert_mailbox_empty()
    end

    test "raises nothing of its own: what a callback raises never leaves the call" do
      py = start_pool()
      assert {:ok, "BeamError"} = Typhon.call(py, :converse, :swallow, [fn -> exit(:kill) end])
      assert {:ok, "BeamError"} = Typhon.call(py, :converse, :swallow, [fn -> throw(:x) end])
    end
  end

  describe "the worker" do
    @tag :os_process
    test "is killed while a callback runs" do
      py = start_pool()

      assert {:error, %WorkerError{reason: :signal}} =
               Typhon.call(py, :talk, :apply, [
                 fn ->
                   kill(worker(py).os_pid, "KILL")
                   eventually(fn -> match?(%{state: :ready, restarts: 1}, worker(py)) end)
                   :too_late
                 end
               ])

      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert_mailbox_empty()
    end

    @tag :os_process
    test "is killed while a callback calls it" do
      py = start_pool()
      killer = fn -> kill(worker(py).os_pid, "KILL") end

      assert {:error, %WorkerError{}} =
               Typhon.call(py, :talk, :apply, [
                 fn ->
                   spawn_link(killer)
                   assert {:error, %WorkerError{}} = Typhon.call(py, :sample, :sleep, [60], timeout: 30_000)
                 end
               ])

      eventually(fn -> match?({:ok, 4.0}, Typhon.call(py, :math, :sqrt, [16])) end)
      assert_mailbox_empty()
    end

    test "ends while coroutines and casts wait for answers" do
      py = start_pool()
      me = self()

      wait = fn ->
        send(me, {:waits, self()})
        Process.sleep(:infinity)
      end

      :ok = Typhon.cast(py, :talk, :ask, [wait])
      assert_receive {:waits, answerer}
      monitor = Process.monitor(answerer)
      Typhon.stop(py)
      assert_receive {:DOWN, ^monitor, _, _, _}
    end
  end

  describe "many" do
    test "1,000 callers with callbacks at once on 2 workers" do
      py = start_pool(workers: 2)

      tasks =
        for i <- 1..1_000 do
          Task.async(fn ->
            for n <- 1..5,
                do:
                  {:ok, [^i, ^n]} =
                    Typhon.call(py, :talk, :apply, [fn x -> [i, x] end, n], timeout: :infinity)

            assert_mailbox_empty()
          end)
        end

      await_many(tasks)
      eventually(fn -> {in_flight(py), polling(py)} == {0, 0} end)
    end

    test "callbacks that call the same pool from another process: no deadlock on two workers" do
      py = start_pool(workers: 2)
      inner = fn x -> py |> Typhon.async(:operator, :add, [x, 1]) |> Typhon.await() end
      assert {:ok, {:ok, 2}} = Typhon.call(py, :talk, :apply, [fn x -> {:ok, elem(inner.(x), 1)} end, 1])
    end

    test "and on one worker it ends by its timeout" do
      py = start_pool(workers: 1)

      inner = fn ->
        Task.async(fn -> Typhon.call(py, :math, :sqrt, [16], timeout: 200) end) |> await() |> elem(0)
      end

      assert Typhon.call(py, :talk, :apply, [inner]) == {:ok, :error}
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end
  end

  describe "allow:" do
    test "a list says what may be called" do
      py =
        start_pool(allow: [{Enum, :_, :_}, {:erlang, :node, 0}, {List, :first, :_}, {:_, :unique_integer, 0}])

      for {module, function, args} <- [
            {"Elixir.Enum", "sum", [[1]]},
            {"Elixir.Enum", "map", [[], &Function.identity/1]},
            {"erlang", "node", []},
            {"Elixir.List", "first", [[1]]},
            {"erlang", "unique_integer", []}
          ] do
        assert {:ok, {"returned", _}} = Typhon.call(py, :converse, :attempt_call, [module, function, args])
      end

      for {module, function, args} <- [
            {"erlang", "node", [self()]},
            {"erlang", "halt", []},
            {"Elixir.System", "pid", []},
            {"Elixir.List", "last", [[1]]}
          ] do
        assert {:ok, {"raised", %{"message" => message}}} =
                 Typhon.call(py, :converse, :attempt_call, [module, function, args])

        assert message =~ "allow:"
      end

      assert python(py, "typhon.Elixir.Enum.sum([1])") == {:ok, 1}
      assert {:error, %PythonError{message: message}} = python(py, "typhon.erlang.processes()")
      assert message =~ "Python may not call :erlang.processes/0"
    end

    test "[] leaves the functions that are arguments" do
      py = start_pool(allow: [])
      assert Typhon.call(py, :talk, :apply, [fn x -> x + 1 end, 1]) == {:ok, 2}
      assert Typhon.call(py, :talk, :apply, [&Enum.sum/1, [1]]) == {:ok, 1}
      assert Typhon.call(py, :talk, :ask, [fn x -> x + 1 end, 1]) == {:ok, 2}
      assert python(py, "f['x'][0]()", [%{"x" => [fn -> 5 end]}]) == {:ok, 5}
      assert Typhon.call(py, :builtins, :sorted, [[2, 1]], kwargs: %{key: & &1}) == {:ok, [1, 2]}
      assert Typhon.call(py, :builtins, :sum, [Typhon.iter([1, 2])]) == {:ok, 3}
      assert {:error, %PythonError{message: message}} = python(py, "typhon.erlang.node()")
      assert message =~ "allow:"
    end

    test "made-up functions are refused, and those of other calls" do
      py = start_pool(allow: [])
      assert {:ok, [{"raised", %{"message" => message}}]} = Typhon.call(py, :converse, :made_up_functions, [])
      assert message =~ "allow:"
      assert {:ok, nil} = Typhon.call(py, :converse, :keep, ["theirs", fn -> :secret end])
      assert {:ok, {"raised", %{"message" => message}}} = Typhon.call(py, :converse, :use, ["theirs"])
      assert message =~ "allow:"
    end

    test "holds for casts, threads and coroutines" do
      py = start_pool(allow: [{Enum, :sum, 1}])

      assert {:error, %PythonError{message: message}} =
               python(py, "in_pool(lambda _: typhon.erlang.node(), 1, 1)")

      assert message =~ "allow:"
      assert python(py, "in_pool(lambda n: typhon.Elixir.Enum.sum([n]), 2, 1)") == {:ok, [0, 1]}
      assert {:error, %PythonError{message: message}} = Typhon.call(py, :converse, :ask_node, [])
      assert message =~ "allow:"
    end

    test "is checked" do
      for allow <- [:none, [:enum], [{Enum, :sum}], [{Enum, "sum", 1}], [{Enum, :sum, -1}]] do
        assert_raise ArgumentError, ~r/allow/, fn -> Typhon.start_link(allow: allow) end
      end
    end
  end
end
