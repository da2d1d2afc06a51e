defmodule PythonxTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO
  import Pythonx.TestHelper

  describe "eval/3" do
    test "gives the object of the last expression, and all globals" do
      {result, globals} = Pythonx.eval("y = 10\nx + y", %{"x" => 1})
      assert %Pythonx.Object{} = result
      assert Pythonx.decode(result) == 11
      assert %{"x" => x, "y" => y} = globals
      assert map_size(globals) == 2
      assert {Pythonx.decode(x), Pythonx.decode(y)} == {1, 10}
    end

    test "gives nil for a statement at the end, and None for an expression that is None" do
      assert {nil, %{"x" => _}} = Pythonx.eval("x = 1", %{})
      assert {nil, %{}} = Pythonx.eval("", %{})
      assert {nil, %{}} = Pythonx.eval("# nothing", %{})
      assert {%Pythonx.Object{} = none, %{}} = Pythonx.eval("None", %{})
      assert Pythonx.decode(none) == nil
      assert {nil, _} = Pythonx.eval("if True:\n  1", %{})
    end

    test "takes objects of other evaluations, which are the same there" do
      {_, globals} = Pythonx.eval("rows = []\ndef add(row): rows.append(row)", %{})
      {_, after_it} = Pythonx.eval("add(1)\nsame = rows", globals)
      assert Pythonx.decode(globals["rows"]) == [1]
      assert Pythonx.decode(after_it["same"]) == [1]
    end

    test "does not change the globals that it was given, and leaves none to the next one" do
      {_, first} = Pythonx.eval("x = 1", %{})
      {_, second} = Pythonx.eval("x = 2", first)
      assert {Pythonx.decode(first["x"]), Pythonx.decode(second["x"])} == {1, 2}
      assert_raise Pythonx.Error, ~r/NameError: name 'x' is not defined/, fn -> Pythonx.eval("x", %{}) end
    end

    test "finds its classes by their module: pickle, dataclasses, typing" do
      code = """
      import __main__, dataclasses, pickle, typing

      @dataclasses.dataclass
      class Point:
          x: "int"

      same = pickle.loads(pickle.dumps(Point(3)))
      hints = typing.get_type_hints(Point)
      __main__.added = Point.__module__
      (same.x, hints["x"] is int, same == Point(3), added, __name__)
      """

      {result, _} = Pythonx.eval(code, %{})
      assert Pythonx.decode(result) == {3, true, true, "__main__", "__main__"}
    end

    test "may await at its top level" do
      code = "import asyncio\nprint('before')\nawait asyncio.sleep(0)\nprint('behind')\nx = 2\nx + 1"

      assert capture_io(fn ->
               {result, globals} = Pythonx.eval(code, %{})
               assert {Pythonx.decode(result), Pythonx.decode(globals["x"])} == {3, 2}
             end) == "before\nbehind\n"
    end

    test "says what is wrong with its arguments" do
      assert_raise ArgumentError, ~r/the names of globals must be strings, got: :x/, fn ->
        Pythonx.eval("x", %{x: 1})
      end

      assert_raise ArgumentError, ~r/UTF-8/, fn -> Pythonx.eval(<<255>>, %{}) end
      assert_raise ArgumentError, fn -> Pythonx.eval("1", %{}, stdout: self()) end

      assert_raise ArgumentError, ~r/stdout_device: .* got :nobody_has_this_name/, fn ->
        Pythonx.eval("1", %{}, stdout_device: :nobody_has_this_name)
      end
    end

    test "the worker's own names are not there" do
      {result, _} = Pythonx.eval("sorted(globals())", %{})

      assert Pythonx.decode(result) ==
               ~w(__builtins__ __doc__ __loader__ __name__ __package__ __spec__)
    end
  end

  describe "output" do
    test "goes to the caller's group leader, that of threads as well" do
      code = """
      import threading
      print("hello", "from Python")
      thread = threading.Thread(target=lambda: print("hello from a thread"))
      thread.start()
      thread.join()
      print("no end", end="")
      """

      assert capture_io(fn -> Pythonx.eval(code, %{}) end) ==
               "hello from Python\nhello from a thread\nno end"
    end

    test "of stderr goes to :standard_error" do
      assert capture_io(:stderr, fn ->
               Pythonx.eval("import sys\nprint('an error', file=sys.stderr)", %{})
             end) =~ "an error\n"
    end

    test "goes to devices" do
      {:ok, out} = StringIO.open("")
      {:ok, err} = StringIO.open("")
      code = "import sys\nprint('out é')\nprint('err', file=sys.stderr)\nsys.stdout.write('\\ud800')"
      Pythonx.eval(code, %{}, stdout_device: out, stderr_device: err)
      assert StringIO.contents(out) == {"", "out é\n\\ud800"}
      assert StringIO.contents(err) == {"", "err\n"}
    end

    test "of an evaluation that fails is written, before the error is raised" do
      assert capture_io(fn ->
               assert_raise Pythonx.Error, fn -> Pythonx.eval("print('then', end='')\n1 / 0", %{}) end
             end) == "then"
    end

    test "of a thread that outlives its evaluation goes where that one's went" do
      {:ok, out} = StringIO.open("")

      code = """
      import threading
      go = threading.Event()

      def run():
          go.wait()
          print("late", end="")

      thread = threading.Thread(target=run)
      thread.start()
      """

      {_, globals} = Pythonx.eval(code, %{}, stdout_device: out)
      Pythonx.eval("go.set()\nthread.join()", globals)
      assert StringIO.contents(out) == {"", "late"}
    end

    test "of warnings and logging goes to stderr" do
      {:ok, err} = StringIO.open("")
      code = "import logging, warnings\nwarnings.warn('careful')\nlogging.warning('hot')"
      Pythonx.eval(code, %{}, stderr_device: err)
      assert {"", text} = StringIO.contents(err)
      assert text =~ "UserWarning: careful\n  warnings.warn('careful')\n"
      assert text =~ "WARNING:root:hot\n"
    end

    @tag :os_process
    test "of a process that the code forks is that of a child process" do
      code = """
      import os
      print("parent", end="")
      child = os.fork()
      if child == 0:
          print("child")
          os._exit(5)
      os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
      """

      {:ok, out} = StringIO.open("")
      # Newer Pythons warn of forks beside threads.
      {status, _} = Pythonx.eval(code, %{}, stdout_device: out, stderr_device: elem(StringIO.open(""), 1))
      assert Pythonx.decode(status) == 5
      assert StringIO.contents(out) == {"", "parent"}
    end

    test "to a device that is the caller does not keep it waiting" do
      Pythonx.eval("print('hi')", %{}, stdout_device: self())
      assert_receive {:io_request, _, _, {:put_chars, :unicode, "hi\n"}}
    end

    test "to a device that is gone is no error" do
      {:ok, out} = StringIO.open("")
      StringIO.close(out)
      assert {nil, _} = Pythonx.eval("print('hi')\nx = 1", %{}, stdout_device: out)
    end
  end

  test "there is no stdin" do
    for code <- ["input()", "import sys\nsys.stdin.read()"] do
      assert_raise Pythonx.Error, ~r/RuntimeError: stdin not supported/, fn -> Pythonx.eval(code, %{}) end
    end
  end

  describe "an error" do
    test "has the traceback of the code, and the objects" do
      code = "def share(n):\n    return 1 / n\n\nshare(0)"
      error = assert_raise(Pythonx.Error, fn -> Pythonx.eval(code, %{}) end)

      assert ["Traceback (most recent call last):\n", first, second, "ZeroDivisionError: division by zero\n"] =
               error.lines

      assert first =~ "line 4, in <module>\n    share(0)"
      assert second =~ "line 2, in share\n    return 1 / n"

      message = Exception.message(error)
      assert message =~ "Python exception raised\n\n        Traceback (most recent call last):\n"
      assert message =~ "        ZeroDivisionError: division by zero\n"

      assert inspect(error.type) == "#Pythonx.Object<\n  <class 'ZeroDivisionError'>\n>"
      assert inspect(error.value) =~ "ZeroDivisionError('division by zero')"

      # As Livebook marks the line of a cell, and prints the error.
      globals = %{"type" => error.type, "value" => error.value, "trace" => error.traceback}

      {result, _} =
        Pythonx.eval(
          "import traceback\n(trace.tb_lineno, len(traceback.format_exception(type, value, trace)))",
          globals
        )

      assert Pythonx.decode(result) == {4, 4}
    end

    test "of the syntax quotes the code, and has a traceback for those who ask" do
      error = assert_raise(Pythonx.Error, fn -> Pythonx.eval("x = 1\ny = (", %{}) end)
      text = Enum.join(error.lines)
      assert text =~ "line 2"
      assert text =~ "SyntaxError: '(' was never closed"
      refute text =~ "Traceback"
      globals = %{"value" => error.value, "trace" => error.traceback}

      {result, _} = Pythonx.eval("(isinstance(value, SyntaxError), value.lineno, trace is None)", globals)

      assert Pythonx.decode(result) == {true, 2, false}
    end

    test "may be any exception: SystemExit ends nothing" do
      assert_raise Pythonx.Error, ~r/SystemExit: 3/, fn -> Pythonx.eval("import sys\nsys.exit(3)", %{}) end
      {one, _} = Pythonx.eval("1", %{})
      assert Pythonx.decode(one) == 1
    end
  end

  describe "what code leaves behind" do
    test "an exception whose class refuses attributes is one all the same" do
      code = """
      class Strict(Exception):
          def __setattr__(self, name, value): raise ValueError("no")

      raise Strict("mine")
      """

      error = assert_raise(Pythonx.Error, fn -> Pythonx.eval(code, %{}) end)
      assert Exception.message(error) =~ "Strict: mine"
      refute Exception.message(error) =~ "_worker.py"
      assert error.lines |> Enum.join() |> String.split("File ") |> length() == 2

      code = """
      class Shut(Exception):
          def __getattribute__(self, name): raise KeyboardInterrupt

      raise Shut("mine")
      """

      error = assert_raise(Pythonx.Error, fn -> Pythonx.eval(code, %{}) end)
      assert List.last(error.lines) == "Shut\n"
      assert Enum.join(error.lines) =~ "line 4, in <module>"
    end

    test "the names are there while a thread assigns some" do
      code = """
      import sys, threading
      stop = threading.Event()
      sys.setswitchinterval(0.000_01)

      def assign():
          number = 0
          while not stop.is_set():
              number += 1
              globals()[f"v{number % 5000}"] = number
              if number % 5000 == 0:
                  for name in [name for name in globals().copy() if name.startswith("v")]:
                      del globals()[name]

      thread = threading.Thread(target=assign)
      thread.start()
      while len(globals()) < 2000: pass
      stop
      """

      for _ <- 1..10 do
        {stop, globals} = Pythonx.eval(code, %{})
        assert is_map_key(globals, "stop")
        Pythonx.eval("import sys\nstop.set()\nsys.setswitchinterval(0.005)", %{"stop" => stop})
      end
    end
  end

  describe "encode!/2" do
    test "makes objects of all types" do
      cases = [
        {nil, "None"},
        {true, "True"},
        {false, "False"},
        {:hello, "'hello'"},
        {10, "10"},
        {-10, "-10"},
        {2 ** 100, "1267650600228229401496703205376"},
        {-10.5, "-10.5"},
        {"hello", "b'hello'"},
        {"é", ~S"b'\xc3\xa9'"},
        {<<65, 255>>, ~S"b'A\xff'"},
        {"", "b''"},
        {[], "[]"},
        {[1, 2.0, "hello", [nil]], "[1, 2.0, b'hello', [None]]"},
        {{}, "()"},
        {{1}, "(1,)"},
        {{1, :a, "b"}, "(1, 'a', b'b')"},
        {%{}, "{}"},
        {%{"hello" => 1}, "{b'hello': 1}"},
        {%{2 => nil}, "{2: None}"},
        {MapSet.new([1]), "{1}"},
        {self(), "<pythonx.PID>"},
        {[%{pid: {self()}}], "[{'pid': (<pythonx.PID>,)}]"}
      ]

      for {term, repr} <- cases, do: assert({term, repr(Pythonx.encode!(term))} == {term, repr})
    end

    test "leaves objects as they are, at any depth" do
      {object, _} = Pythonx.eval("object()", %{})
      assert Pythonx.encode!(object) == object
      {same, _} = Pythonx.eval("x is y[0]['k']", %{"x" => object, "y" => [%{k: object}]})
      assert Pythonx.decode(same) == true
    end

    test "refuses what has no counterpart" do
      for term <- [<<1::4>>, &is_atom/1, make_ref(), 1..2, [1 | 2], [~D[2024-01-01]]] do
        assert_raise Protocol.UndefinedError, fn -> Pythonx.encode!(term) end
      end
    end

    test "has an encoder of one's own called for each element" do
      encoder = fn
        tuple, encoder when is_tuple(tuple) -> Pythonx.Encoder.encode(Tuple.to_list(tuple), encoder)
        other, encoder -> Pythonx.Encoder.encode(other, encoder)
      end

      assert repr(Pythonx.encode!({1, {2, %{a: {}}}}, encoder)) == "[1, [2, {'a': []}]]"
    end

    defmodule Complex do
      defstruct [:re, :im]

      defimpl Pythonx.Encoder do
        def encode(%{re: re, im: im}, _encoder) do
          {object, _} = Pythonx.eval("complex(re, im)", %{"re" => re, "im" => im})
          object
        end
      end
    end

    test "asks the protocol for structs" do
      assert repr(Pythonx.encode!(%Complex{re: 1, im: -1})) == "(1-1j)"
      {sum, _} = Pythonx.eval("sum(numbers)", %{"numbers" => [%Complex{re: 1, im: 2}, 1]})
      assert repr(sum) == "(2+2j)"
    end

    test "says what Python cannot hold, and where it is" do
      assert_raise Typhon.EncodeError, ~r/^term\[0\] cannot cross: a map with the keys 1 and 1.0/, fn ->
        Pythonx.encode!([%{1 => 1, 1.0 => 2}])
      end

      assert_raise Typhon.EncodeError, ~r/^globals\["rows"\].* an element of a MapSet is \[1\]/, fn ->
        Pythonx.eval("rows", %{"rows" => MapSet.new([[1]])})
      end
    end
  end

  describe "decode/1" do
    test "makes terms of all types" do
      cases = [
        {"None", nil},
        {"True", true},
        {"False", false},
        {"-10", -10},
        {"2 ** 100", 2 ** 100},
        {"10.5", 10.5},
        {"'hé'", "hé"},
        {~S"b'A\xff'", <<65, 255>>},
        {"[1, 2.0, 'hello', [None]]", [1, 2.0, "hello", [nil]]},
        {"()", {}},
        {"(1, ('a',))", {1, {"a"}}},
        {"{'hello': {2: None}}", %{"hello" => %{2 => nil}}},
        {"{(1, 2): b''}", %{{1, 2} => ""}},
        {"{1, frozenset({2})}", MapSet.new([1, MapSet.new([2])])},
        {"frozenset()", MapSet.new()}
      ]

      for {code, term} <- cases, do: assert({code, decoded(code)} == {code, term})
    end

    test "takes an object of a derived class for what it derives from" do
      code = """
      import collections, enum
      Point = collections.namedtuple("Point", "x y")
      class Level(enum.IntEnum): HIGH = 3
      class Text(str): pass
      class Real(float): pass
      class Raw(bytes): pass
      [Point(1, Text("b")), Level.HIGH, collections.OrderedDict(a=1), Real(0.5), Raw(b"raw")]
      """

      assert decoded(code) == [{1, "b"}, 3, %{"a" => 1}, 0.5, "raw"]
    end

    test "leaves other objects where they are: at the top the same one, inside as objects" do
      {object, _} = Pythonx.eval("complex(1)", %{})
      assert Pythonx.decode(object) == object

      assert [%Pythonx.Object{} = date, %{"k" => {%Pythonx.Object{} = number}}] =
               decoded("import datetime, decimal\n[datetime.date(2024, 1, 1), {'k': (decimal.Decimal(1),)}]")

      assert {repr(date), repr(number)} == {"datetime.date(2024, 1, 1)", "Decimal('1')"}
    end

    test "goes by the class that an object is of, and by what it holds" do
      assert %Pythonx.Object{} = decoded("class Lie:\n  __class__ = int\nLie()")
      assert [%Pythonx.Object{}, 1] = decoded("class Lie:\n  __class__ = dict\n[Lie(), 1]")

      code = """
      class Items(list):
          def __iter__(self): raise ValueError

      class Row(tuple):
          def __iter__(self): raise ValueError

      class Table(dict):
          def items(self): raise ValueError

      [Items([1]), Row((2,)), Table(a=3)]
      """

      assert decoded(code) == [[1], {2}, %{"a" => 3}]
      # A key that only its class makes hashable.
      code = "class Key(list):\n  __hash__ = object.__hash__\n[{Key(): 1}, {Key()}, 2]"
      assert [%Pythonx.Object{}, %Pythonx.Object{}, 2] = decoded(code)
    end

    test "gives pids back" do
      pid = self()
      {result, _} = Pythonx.eval("[pid, {pid: 1}, pid == pid]", %{"pid" => pid})
      assert Pythonx.decode(result) == [pid, %{pid => 1}, true]
    end

    test "says what no term can be, and where it is" do
      assert_raise Typhon.EncodeError, ~r/^object\[0\] cannot cross: its keys/, fn ->
        decoded("[{'a': 1, b'a': 2}]")
      end

      # Of two keys none is lost.
      number = """
      class Number(int):
          __hash__ = object.__hash__
          def __eq__(self, other): return self is other
      """

      for value <- ["{Number(1): 'a', Number(1): 'b'}", "{(Number(1), 2): 'a', (Number(1), 2): 'b'}"] do
        assert_raise Typhon.EncodeError, ~r/^object\[0\] cannot cross: its keys/, fn ->
          decoded(number <> "[#{value}]")
        end
      end

      assert_raise Typhon.EncodeError, ~r/^object\[0\] cannot cross: /, fn ->
        decoded(number <> "[{Number(1), Number(1)}]")
      end

      assert_raise Pythonx.Error, ~r/RecursionError/, fn -> decoded("x = []\nx.append(x)\nx") end
      assert decoded("[float('nan'), float('inf')]") == [:nan, :infinity]
    end

    test "says what to do about nil" do
      assert_raise ArgumentError, ~r/ends in a statement/, fn -> Pythonx.decode(nil) end
    end
  end

  describe "inspect" do
    test "shows Python's repr, line by line" do
      {object, _} = Pythonx.eval("class Two:\n  def __repr__(self): return 'one\\ntwo'\n\nTwo()", %{})
      assert inspect(object) == "#Pythonx.Object<\n  one\n  two\n>"

      # Control characters would reach the terminal.
      {odd, _} = Pythonx.eval("class Odd:\n  def __repr__(self): return 'a\\x1b[2J\\n\\u202eb'\nOdd()", %{})

      assert inspect(odd) == "#Pythonx.Object<\n  a\\x1b[2J\n  \\u202eb\n>"
      failing = "class Odd:\n  def __repr__(self): raise ValueError('\\x1b[2J')\nOdd()"
      {odd, _} = Pythonx.eval(failing, %{})
      refute inspect(odd) =~ "\e"
    end

    test "says so when there is none" do
      {object, _} = Pythonx.eval("class No:\n  def __repr__(self): return 1 / 0\n\nNo()", %{})
      assert inspect(object) =~ "ZeroDivisionError: division by zero"
    end
  end

  describe "in Python, pythonx" do
    test "sends objects to processes, while the evaluation runs, and from threads" do
      code = """
      import pythonx, threading
      gone = threading.Event()
      pythonx.send_tagged_object(pid, "progress", ("half", 0.5))
      thread = threading.Thread(target=pythonx.send_tagged_object, args=(pid, "threaded", object()))
      thread.start()
      thread.join()
      event.wait()
      """

      {event, _} = Pythonx.eval("import threading\nthreading.Event()", %{})
      test = self()
      task = Task.async(fn -> Pythonx.eval(code, %{"pid" => test, "event" => event}) end)
      assert_receive {:progress, %Pythonx.Object{} = object}
      # It still runs, and others are served.
      assert Pythonx.decode(object) == {"half", 0.5}
      assert_receive {:threaded, %Pythonx.Object{}}
      Pythonx.eval("event.set()", %{"event" => event})
      assert {%Pythonx.Object{}, _} = Task.await(task, :infinity)
    end

    test "has pids that cannot be made up" do
      assert_raise Pythonx.Error, ~r/pass the pid as one of the globals/, fn ->
        Pythonx.eval("import pythonx\npythonx.PID()", %{})
      end

      assert_raise Pythonx.Error, ~r/the receiver must be a pythonx.PID, not str/, fn ->
        Pythonx.eval("import pythonx\npythonx.send_tagged_object('me', 'tag', 1)", %{})
      end
    end
  end

  describe "sigil_PY/2" do
    # In quoted form, as Livebook has it: ~PY itself parses from Elixir 1.15 on.
    defp run(code, binding) do
      quoted = quote(do: import(Pythonx))
      {_, _, env} = Code.eval_quoted_with_env(quoted, [], Code.env_for_eval([]))
      Code.eval_quoted_with_env(sigil(code), binding, env)
    end

    defp sigil(code), do: {:sigil_PY, [], [{:<<>>, [], [code]}, []]}

    test "binds variables to what the code uses and defines" do
      {result, binding, _} = run("y = 10\nx + y", x: 1)
      assert Pythonx.decode(result) == 11
      assert binding |> Keyword.keys() |> Enum.sort() == [:x, :y]
      assert Pythonx.decode(binding[:y]) == 10

      {_, binding, _} = run("x = x + 1", x: 1)
      assert [x: x] = binding
      assert Pythonx.decode(x) == 2

      {result, _, _} = run("ANSWER + 1", ANSWER: 42)
      assert Pythonx.decode(result) == 43
    end

    test "a name of a branch that is not taken is nil" do
      {_, binding, _} = run("if True:\n  a = 1\nelse:\n  b = 2", [])
      assert %Pythonx.Object{} = binding[:a]
      assert Keyword.fetch!(binding, :b) == nil
    end

    test "a name that nobody has is Python's error" do
      assert_raise Pythonx.Error, ~r/NameError: name 'nobody' is not defined/, fn -> run("nobody", []) end
    end

    test "expands to the call that Livebook rewrites" do
      env = %{__ENV__ | requires: [Pythonx], macros: [{Pythonx, [{:sigil_PY, 2}]}]}
      variables = %{{:x, nil} => 0, {:unused, nil} => 1}
      ast = Macro.expand_once(sigil("y = x\nx + nobody"), %{env | versioned_vars: variables})

      {_, calls} =
        Macro.prewalk(ast, [], fn
          {{:., _, [{:__aliases__, _, [:Pythonx]}, :eval]}, _, args} = call, calls -> {call, [args | calls]}
          other, calls -> {other, calls}
        end)

      assert [["y = x\nx + nobody", {:%{}, _, [{"x", {:x, _, nil}}]}]] = calls
    end
  end

  defp repr(object) do
    {text, _} = Pythonx.eval("repr(value)", %{"value" => object})
    Pythonx.decode(text)
  end
end
