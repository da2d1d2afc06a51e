defmodule Typhon.EvalTest do
  # Code beside a call, namespaces that stay, and files as programs.
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO
  import ExUnit.CaptureLog
  import Typhon.TestHelper

  alias Typhon.{EncodeError, Object, PythonError, TimeoutError, WorkerError}

  # Most tests share one worker, as calls do.
  setup_all do
    {:ok, py: start_pool()}
  end

  defp scope(py, bindings \\ []) do
    {:ok, scope} = Typhon.scope(py, bindings)
    scope
  end

  defp message({:error, error}), do: Exception.message(error)

  describe "eval/4" do
    test "gives the value of the last expression, else nil", %{py: py} do
      assert Typhon.eval(py, "1 + 1") == {:ok, 2}
      assert Typhon.eval(py, "x = 20\nx + 1") == {:ok, 21}
      assert Typhon.eval(py, "x = 20; x + 1") == {:ok, 21}
      assert Typhon.eval(py, "x = 20") == {:ok, nil}
      assert Typhon.eval(py, "def f(): return 1") == {:ok, nil}
      assert Typhon.eval(py, ~s|"a doc string"|) == {:ok, "a doc string"}
      assert Typhon.eval(py, "if True:\n    5") == {:ok, nil}

      for nothing <- ["", "\n\n", "# only words", "   ", "pass"],
          do: assert(Typhon.eval(py, nothing) == {:ok, nil})

      assert Typhon.eval!(py, "[i * i for i in range(4)]") == [0, 1, 4, 9]
      assert_raise PythonError, fn -> Typhon.eval!(py, "1 / 0") end
    end

    test "has its bindings as variables, by atoms or strings, and nothing of what was there before", %{py: py} do
      assert Typhon.eval(py, "a + b", a: 1, b: 2) == {:ok, 3}
      assert Typhon.eval(py, "a + b", %{"a" => 1, b: 2}) == {:ok, 3}
      assert Typhon.eval(py, "größe * 2", größe: 4) == {:ok, 8}
      # Python's parser puts names into this form.
      assert Typhon.eval(py, "ﬁt", %{"ﬁt" => 1}) == {:ok, 1}
      assert Typhon.eval(py, "f(2)", f: &(&1 + 1)) == {:ok, 3}
      assert Typhon.eval(py, "user['name']", %{user: %{name: "Ann"}}, keys: :strings) == {:ok, "Ann"}

      assert {:ok, nil} = Typhon.eval(py, "left_behind = 1")
      assert {:error, %PythonError{type: "NameError"}} = Typhon.eval(py, "left_behind")
      assert Typhon.eval(py, "__name__, globals() is locals()") == {:ok, {"__main__", true}}
    end

    test "refuses names that no variable can have", %{py: py} do
      refuse = fn bindings, sentence ->
        assert_raise ArgumentError, sentence, fn -> Typhon.eval(py, "1", bindings) end
        assert_raise ArgumentError, sentence, fn -> Typhon.scope(py, bindings) end
        assert_raise ArgumentError, sentence, fn -> Typhon.exec_file(py, "x.py", bindings: bindings) end
      end

      refuse.([class: 1], ~r/"class" is a keyword of Python.*such as "class_"/)
      refuse.(%{"None" => 1}, ~r/"None" is a keyword of Python/)
      refuse.(%{"lambda" => 1}, ~r/"lambda" is a keyword/)

      for bad <- ["a b", "1a", "a-b", "", "a.b", "a\0", <<255>>],
          do: refuse.(%{bad => 1}, ~r/no name of a variable/)

      refuse.(%{1 => 2}, ~r/must be atoms or strings, got 1/)
      refuse.([{:a, 1}, {"a", 2}], ~r/"a" twice/)
      refuse.([1], ~r/the element 1/)

      assert_raise ArgumentError, ~r/must be a map or a keyword list, got 5/, fn ->
        Typhon.eval(py, "1", 5)
      end

      assert_raise ArgumentError, ~r/map or a keyword list/, fn -> Typhon.eval(py, "1", ~D[2020-01-01]) end

      # Words that are keywords in some places alone are names.
      assert Typhon.eval(py, "match + type + print", match: 1, type: 2, print: 3) == {:ok, 6}

      for keyword <- Typhon.eval!(py, "import keyword; keyword.kwlist"),
          do: assert_raise(ArgumentError, fn -> Typhon.eval(py, "1", %{keyword => 1}) end)
    end

    test "ends by `return`, wherever that stands", %{py: py} do
      assert Typhon.eval(py, "return 5\nraise Exception") == {:ok, 5}
      assert Typhon.eval(py, "return") == {:ok, nil}
      assert Typhon.eval(py, "if False:\n    return 1\n'on'") == {:ok, "on"}
      assert Typhon.eval(py, "for i in range(9):\n    if i == 3:\n        return i") == {:ok, 3}
      assert Typhon.eval(py, "return None\n2") == {:ok, nil}

      assert Typhon.eval(py, "log = []\ntry:\n    return log\nfinally:\n    log.append(1)") == {:ok, [1]}
      # It is no exception.
      assert Typhon.eval(py, "try:\n    return 1\nexcept BaseException:\n    return 2") == {:ok, 1}

      assert Typhon.eval(py, "import contextlib\nwith contextlib.suppress(BaseException):\n    return 3") ==
               {:ok, 3}

      # Names are those of the module in there, too.
      code = """
      if True:
          a: int = 1
          def f():
              return a, [b for b in range(a)], (lambda: a)()
          class C:
              c = a
          [last := i for i in range(3)]
          exec("d = 4")
          from math import pi as p
          from string import *
          for q in (1, 2):
              pass
          try:
              1 / 0
          except ZeroDivisionError as e:
              pass
          with open("/dev/null") as h:
              pass
          if not a:
              return 1
      assert locals() is globals() and h.closed
      assert digits == "0123456789"
      f(), C.c, C.__qualname__, f.__qualname__, last, d, round(p), q, "e" in globals()
      """

      assert Typhon.eval(py, code) == {:ok, {{1, [0], 1}, 1, "C", "f", 2, 4, 3, 2, false}}

      assert {:error, %PythonError{type: "SyntaxError"} = error} = Typhon.eval(py, "class A:\n    return 1")
      assert error.message =~ "'return' outside function"
      assert {:error, %PythonError{type: "SyntaxError"}} = Typhon.eval(py, "if x:\n    yield 1\n    return 2")
      assert {:error, %PythonError{type: "SyntaxError"}} = Typhon.eval(py, "yield 1")
    end

    test "awaits at top level", %{py: py} do
      assert Typhon.eval(py, "import asyncio\nawait asyncio.sleep(0.001, 5)") == {:ok, 5}
      assert Typhon.eval(py, "import asyncio\nx = await asyncio.sleep(0, 5)\nreturn x + 1") == {:ok, 6}

      code = """
      import asyncio
      async def numbers():
          for i in range(9):
              yield i
      async for i in numbers():
          await asyncio.sleep(0)
          if i == limit:
              return [j async for j in numbers()][:i]
      """

      assert Typhon.eval(py, code, limit: 2) == {:ok, [0, 1]}
      assert Typhon.eval(py, code, limit: 20) == {:ok, nil}
      assert Typhon.eval(py, "async with lock as l:\n    x = l\nx", lock: nil) |> message() =~ "async"
      # A coroutine that is the value is awaited, as that of a call.
      assert Typhon.eval(py, "import asyncio\nasyncio.sleep(0, 7)") == {:ok, 7}

      tasks =
        for i <- 1..50 do
          async(fn ->
            Typhon.eval(py, "import asyncio\nawait asyncio.sleep(0.2, i)", [i: i], timeout: limit())
          end)
        end

      assert await_many(tasks) == for(i <- 1..50, do: {:ok, i})
    end

    test "takes off the indentation, a BOM and CRLF", %{py: py} do
      assert Typhon.eval(py, "    x = 1\n\n    if x:\n        y = 2\n    y") == {:ok, 2}
      assert Typhon.eval(py, "\tx = 1\n\tx") == {:ok, 1}
      assert Typhon.eval(py, "\n  # first\n  x = 1\n# outside\n  x") == {:ok, 1}
      assert Typhon.eval(py, "    x = '''\na\n      b\n    c'''\n    x") == {:ok, "\na\n  b\nc"}
      assert Typhon.eval(py, "\uFEFFx = 1\r\nx\r\n") == {:ok, 1}
      assert Typhon.eval(py, "x = 1\rx") == {:ok, 1}
      assert Typhon.eval(py, "    x = 1\r\n    x\r\n") == {:ok, 1}
    end

    test "says what is wrong with indentation", %{py: py} do
      assert message(Typhon.eval(py, "\tx = 1\n        y = 2")) =~
               "indented by tabs, and line 2 of it by spaces"

      assert message(Typhon.eval(py, "    x = 1\n\ty = 2")) =~ "indented by spaces, and line 2 of it by tabs"

      assert {:error, %PythonError{type: "TabError"} = error} =
               Typhon.eval(py, "if 1:\n\tx = 1\n        y = 2")

      assert Exception.message(error) =~ "Indent all of the code by tabs, or all of it by spaces"
    end

    test "shows the line of a SyntaxError, with a caret, and where it stands", %{py: py} do
      assert {:error, %PythonError{type: "SyntaxError"} = error} =
               Typhon.eval(py, "  x = 1\n  y = = 2", %{}, file: "lib/shop.ex", line: 40)

      assert Exception.message(error) ==
               ~s|  File "lib/shop.ex", line 41\n    y = = 2\n        ^\nSyntaxError: invalid syntax|

      assert [%{file: "lib/shop.ex", line: 41, source: "y = = 2"}] = error.traceback
      assert error.cause == nil

      # Whatever a file of that name has there.
      assert {:error, %PythonError{} = error} = Typhon.eval(py, "'ü' +", %{}, file: __ENV__.file, line: 2)
      assert Exception.message(error) =~ "line 2\n    'ü' +\n         ^\n"

      # What the parser lets pass and the compiler does not; where a file of that name has other lines.
      assert {:error, %PythonError{} = error} =
               Typhon.eval(py, "# ü\nfor i in 'ü', ü: break; break", %{}, file: __ENV__.file, line: 7)

      assert error.type == "NameError"

      assert {:error, %PythonError{} = error} =
               Typhon.eval(py, "'ü'; break", %{}, file: __ENV__.file, line: 7)

      text =
        "  File #{inspect(__ENV__.file)}, line 7\n    'ü'; break\n         ^^^^^\nSyntaxError: 'break' outside loop"

      assert Exception.message(error) == text

      # Without a file there is one name for one code.
      assert {:error, one} = Typhon.eval(py, "1 +")
      assert {:error, same} = Typhon.eval(py, "1 +")
      assert hd(one.traceback).file =~ "<eval "
      assert one.traceback == same.traceback
    end

    test "has the user's frames in its errors, and no others, with their lines", %{py: py} do
      code = "def share(n):\n    return 1 / n\nshare(0)"
      assert {:error, %PythonError{} = error} = Typhon.eval(py, code, %{}, file: "lib/shop.ex", line: 12)

      assert error.traceback == [
               %{file: "lib/shop.ex", line: 14, function: "<module>", source: "share(0)"},
               %{file: "lib/shop.ex", line: 13, function: "share", source: "return 1 / n"}
             ]

      refute Exception.message(error) =~ "_eval"

      for code <- ["import asyncio\nawait asyncio.sleep(0)\n1/0", "if True:\n    1/0\n    return 1"] do
        assert {:error, %PythonError{traceback: [frame], cause: nil}} = Typhon.eval(py, code)
        assert %{function: "<module>", source: "1/0"} = frame
      end

      assert {:error, %PythonError{type: "SystemExit"}} = Typhon.eval(py, "import sys; sys.exit(3)")

      # Whatever the exception's class makes of its attributes.
      for body <- [
            "def __getattribute__(self, name): raise KeyboardInterrupt",
            "def __setattr__(self, name, value): raise KeyboardInterrupt",
            "__traceback__ = __cause__ = __context__ = __notes__ = 5"
          ] do
        code = "class Odd(Exception):\n    #{body}\nraise Odd('why')"
        assert {:error, %PythonError{traceback: [frame]} = error} = Typhon.eval(py, code)
        assert {error.type, error.message} == {"Odd", "why"}
        assert %{line: 3, source: "raise Odd('why')"} = frame
      end
    end

    test "refuses code that is no text, has a NUL, is too much or too deep", %{py: py} do
      assert {:error, %EncodeError{path: "code"}} = Typhon.eval(py, "x = '" <> <<255>> <> "'")
      assert {:error, %EncodeError{path: "bindings[\"x\"][0]"}} = Typhon.eval(py, "x", x: [<<255>>])
      assert_raise ArgumentError, ~r/must be a string, got :code/, fn -> Typhon.eval(py, :code) end
      assert_raise ArgumentError, ~r/must be a string/, fn -> Typhon.eval(py, ~c"1", x: 1) end

      assert {:error, %PythonError{type: "SyntaxError"} = error} = Typhon.eval(py, "x = 5\ny = '\0'")
      assert Exception.message(error) =~ "has a NUL"
      assert [%{line: 2}] = error.traceback

      assert message(Typhon.eval(py, String.duplicate("x = 1\n", 1_700_000))) =~ "10200000 characters"

      deep = fn before, behind ->
        String.duplicate(before, 10_000) <> "1" <> String.duplicate(behind, 10_000)
      end

      for code <- [
            deep.("(", ")"),
            deep.("[", "]"),
            deep.("-", ""),
            deep.("", "+1"),
            deep.("", ".a"),
            deep.("f(", ")")
          ] do
        assert {:error, %PythonError{} = error} = Typhon.eval(py, code, %{}, timeout: limit())
        assert error.type in ["SyntaxError", "RecursionError", "MemoryError", "AttributeError"]
        # Of a long line what matters is quoted.
        assert byte_size(Exception.message(error)) < 2_000

        if error.type in ["RecursionError", "MemoryError"],
          do: assert(hd(error.notes) =~ "split it into several")
      end

      assert Typhon.eval(py, "1") == {:ok, 1}
    end

    test "gives a handle of whatever it is with as: :object", %{py: py} do
      assert {:ok, %Object{type: "int"} = five} = Typhon.eval(py, "5", %{}, as: :object)
      assert Typhon.call(py, :operator, :add, [five, 1]) == {:ok, 6}
      assert {:ok, %Object{type: "list"} = list} = Typhon.eval(py, "[1]", %{}, as: :object)
      assert Typhon.call(py, list, :append, [2]) == {:ok, nil}
      assert Typhon.eval(py, "list", list: list) == {:ok, [1, 2]}
      assert {:ok, %Object{type: "NoneType"}} = Typhon.eval(py, "x = 1", %{}, as: :object)
      later = "import asyncio\nawait asyncio.sleep(0, 'x')"
      assert {:ok, %Object{type: "str"}} = Typhon.eval(py, later, %{}, as: :object)

      assert {:ok, %Object{type: "coroutine"} = coroutine} =
               Typhon.eval(py, "import asyncio\nasyncio.sleep(0)", %{}, as: :object)

      assert Typhon.call(py, coroutine, :close, []) == {:ok, nil}
      assert {:ok, %Object{type: "function"}} = Typhon.eval(py, "lambda: 1")

      assert_raise ArgumentError, ~r/as: must be :value, :object or a struct.s module/, fn ->
        Typhon.eval(py, "1", %{}, as: :term)
      end
    end

    test "takes the options of a call", %{py: py} do
      assert {:error, %TimeoutError{} = error} =
               Typhon.eval(py, "import time; time.sleep(60)", %{}, timeout: 100)

      assert Exception.message(error) =~ "Typhon.eval"

      assert {:error, %TimeoutError{}} =
               Typhon.eval(py, "import asyncio; await asyncio.sleep(60)", %{}, timeout: 100)

      assert capture_io(fn -> Typhon.eval(py, "print('out')", %{}, stdio: :group_leader) end) == "out\n"

      assert_raise ArgumentError, ~r/has no option :tiemout, did you mean :timeout/, fn ->
        Typhon.eval(py, "1", %{}, tiemout: 1)
      end

      for line <- [0, -1, 1_000_001, "1"],
          do: assert_raise(ArgumentError, ~r/line: must be/, fn -> Typhon.eval(py, "1", %{}, line: line) end)

      assert_raise ArgumentError, ~r/file: must be/, fn -> Typhon.eval(py, "1", %{}, file: 5) end

      for file <- ["a\0b", <<255>>, ""],
          do:
            assert_raise(ArgumentError, ~r/file: must be the name of a file/, fn ->
              Typhon.eval(py, "1", %{}, file: file)
            end)
    end

    test "compiles the same code once, and keeps so much of it" do
      py = start_pool()
      count = fn -> Typhon.eval!(py, "import typhon._eval as e; len(e._programs)") end
      count.()
      before = count.()
      for i <- 1..20, do: assert(Typhon.eval(py, "kept = n", n: i) == {:ok, nil})
      assert count.() == before + 1
      assert Typhon.eval(py, "kept = n", [n: 1], line: 5) == {:ok, nil}
      assert Typhon.eval(py, "kept = n", [n: 1], file: "a") == {:ok, nil}
      assert count.() == before + 3

      for i <- 1..600, do: Typhon.eval!(py, "#{i}")
      assert count.() == 512

      assert Typhon.eval!(py, "import linecache; sum(name.startswith('<eval') for name in linecache.cache)") <=
               513
    end

    test "quotes the lines of the code itself, also beside code of the same checksum", %{py: py} do
      code = fn i -> "a#{i} = #{i}\nraise ValueError(a#{i})" end
      assert :erlang.crc32("1:" <> code.(65_159)) == :erlang.crc32("1:" <> code.(106_588))

      for i <- [65_159, 106_588, 65_159] do
        assert {:error, %PythonError{traceback: [frame]} = error} = Typhon.eval(py, code.(i))
        assert frame.source == "raise ValueError(a#{i})"
        assert Exception.message(error) =~ "    raise ValueError(a#{i})\n"
      end
    end

    # Inside the VM the next pool may have the same interpreter.
    test "leaves nothing to the next pool" do
      one = start_pool()
      scope = scope(one, x: 1)
      for i <- 1..3, do: Typhon.eval!(scope, "y#{i} = 1")
      Typhon.eval!(one, "left = 1")
      :ok = Typhon.stop(one)

      left = """
      import sys, linecache
      sum(name.startswith("<eval") for name in linecache.cache), [n for n in sys.modules if n.startswith("typhon_scope")]
      """

      assert Typhon.eval(start_pool(), left) == {:ok, {1, []}}
    end

    @tag :several_workers
    test "goes to the worker of a key, and is made again" do
      py = start_pool(workers: 2)

      pids =
        for _ <- 1..5,
            do: Typhon.eval!(py, "import threading, os; os.getpid(), threading.get_ident()", %{}, worker: :a)

      assert length(Enum.uniq(pids)) == 1
      assert Typhon.eval(py, "1", %{}, retry: 2) == {:ok, 1}
    end

    test "works in a session" do
      py = start_pool()

      {:ok, scope} =
        Typhon.run!(py, fn session ->
          assert Typhon.eval(session, "1 + 1") == {:ok, 2}
          {:ok, scope} = Typhon.scope(session, x: 1)
          assert Typhon.eval(scope, "x += 1; x") == {:ok, 2}
          assert Task.await(Task.async(fn -> Typhon.eval(scope, "x") end)) == {:ok, 2}
          {:ok, scope}
        end)

      # The worker is there, and the scope with it.
      assert Typhon.eval(scope, "x") == {:ok, 2}
    end

    test "is stubbed by its own name" do
      {:ok, py} = Typhon.Test.start_pool()

      assert message(Typhon.eval(py, "1")) =~
               ~s|Typhon.Test.stub(#{inspect(py)}, "Typhon", "eval", fn code, bindings -> … end)|

      Typhon.Test.stub(py, "Typhon", :eval, fn code, bindings -> {code, bindings} end)
      Typhon.Test.stub(py, "Typhon", :exec_file, fn path, argv -> length([path | argv]) end)
      scope = %Typhon.Scope{pool: py, object: Typhon.Test.object("typhon.Scope"), name: "stubbed"}
      Typhon.Test.stub(py, "Typhon", :scope, scope)
      assert Typhon.eval(py, "1") == {:ok, {"1", %{}}}
      assert Typhon.eval(py, "x", x: 1) == {:ok, {"x", %{"x" => 1}}}
      assert Typhon.scope(py, x: 1) == {:ok, scope}
      assert Typhon.eval(scope, "y", y: 2) == {:ok, {"y", %{"y" => 2}}}
      assert Typhon.exec_file(py, "a.py", argv: ["b"]) == {:ok, 2}
    end

    test "is refused by what is no pool, and says how it is called" do
      assert {:error, %Typhon.PoolError{reason: :not_found}} = Typhon.eval(:no_such_pool, "1")
      assert {:error, %Typhon.PoolError{reason: :not_found}} = Typhon.scope(:no_such_pool)
    end
  end

  describe "a scope" do
    test "keeps its names, and no other one sees them", %{py: py} do
      one = scope(py, x: 1)
      two = scope(py)
      assert inspect(one) =~ ~r/#Typhon.Scope<typhon_scope_\d+>/
      assert Typhon.eval(one, "def f(): return x\ny = f() + 1") == {:ok, nil}
      assert Typhon.eval(one, "y + z", z: 10) == {:ok, 12}
      assert Typhon.eval(one, "z") == {:ok, 10}
      assert {:error, %PythonError{type: "NameError"}} = Typhon.eval(two, "x")
      assert {:error, %PythonError{type: "NameError"}} = Typhon.eval(py, "x")
      assert Typhon.eval(two, "x = 5; x") == {:ok, 5}
      assert Typhon.eval(one, "x") == {:ok, 1}
      # Each has the same code by itself.
      for scope <- [one, two, one], do: assert({:ok, nil} = Typhon.eval(scope, "x += 1"))
      assert {Typhon.eval!(one, "x"), Typhon.eval!(two, "x")} == {3, 6}

      assert Typhon.eval(one, "for i in range(9):\n    if i == x:\n        found = i\n        return i") ==
               {:ok, 3}

      assert Typhon.eval(one, "found") == {:ok, 3}
    end

    test "has get, put, delete and names", %{py: py} do
      scope = scope(py, b: 1)
      assert Typhon.put(scope, :a, [1, 2]) == :ok
      assert Typhon.put(scope, "größe", 2) == :ok
      assert Typhon.get(scope, "a") == {:ok, [1, 2]}
      assert {:ok, %Object{type: "list"}} = Typhon.get(scope, :a, as: :object)
      assert Typhon.names(scope) == {:ok, ["a", "b", "größe"]}
      assert {Typhon.get!(scope, :b), Typhon.names!(scope)} == {1, ["a", "b", "größe"]}
      assert Typhon.delete(scope, :b) == :ok
      assert_raise PythonError, fn -> Typhon.get!(scope, :b) end
      assert Typhon.names(scope) == {:ok, ["a", "größe"]}

      assert {:error, %PythonError{type: "NameError", message: "there is no 'b' in this scope"}} =
               Typhon.get(scope, :b)

      assert {:error, %PythonError{type: "NameError"}} = Typhon.delete(scope, :b)
      assert {:error, %PythonError{type: "NameError"}} = Typhon.get(scope, :print)
      assert_raise ArgumentError, ~r/"class" is a keyword/, fn -> Typhon.put(scope, :class, 1) end
      assert_raise ArgumentError, ~r/no name of a variable/, fn -> Typhon.get(scope, "a.b") end
      assert_raise ArgumentError, ~r/must be an atom or a string, got 1/, fn -> Typhon.delete(scope, 1) end
      assert {:error, %EncodeError{path: "bindings" <> _}} = Typhon.put(scope, :x, <<255>>)

      assert message(Typhon.eval(py, "x", x: scope)) =~
               ~s|bindings["x"] cannot cross: a scope is a place for code|

      # One that is kept is not awaited.
      assert Typhon.eval(scope, "async def f(): return 1\nc = f()") == {:ok, nil}
      assert {:ok, %Object{type: "coroutine"}} = Typhon.get(scope, :c)
      assert Typhon.eval(scope, "await c") == {:ok, 1}
    end

    test "of a scope is a fork: the same objects, names of its own", %{py: py} do
      scope = scope(py, x: 1, shared: [])
      {:ok, fork} = Typhon.scope(scope, y: 2)
      assert fork.name != scope.name
      assert Typhon.eval(fork, "x, y, __name__") == {:ok, {1, 2, fork.name}}
      assert Typhon.eval(fork, "x = 10; shared.append(1)") == {:ok, nil}
      assert Typhon.eval(scope, "x, shared, 'y' in globals()") == {:ok, {1, [1], false}}
    end

    test "is a module: inspect, dataclasses, pickle, pdb and tracebacks find what they look for", %{py: py} do
      scope = scope(py)
      {:ok, nil} = Typhon.eval(scope, "def f(x):\n    # in f\n    return 1 / x")

      {:ok, nil} =
        Typhon.eval(scope, """
        from __future__ import annotations
        from dataclasses import dataclass, field
        from typing import ClassVar, get_type_hints
        import inspect, pickle, sys

        @dataclass
        class Point:
            x: int = 0
            kind: ClassVar[str] = "point"

            class Inner:
                inner = 1

            def boom(self):
                return f(0)
        """)

      {:ok, nil} = Typhon.eval(scope, "class Late:\n    late = 1", %{}, file: "lib/late.ex", line: 70)

      assert Typhon.eval(scope, "inspect.getsource(f)") == {:ok, "def f(x):\n    # in f\n    return 1 / x\n"}
      assert {:ok, "@dataclass\nclass Point:\n" <> _} = Typhon.eval(scope, "inspect.getsource(Point)")

      assert Typhon.eval(scope, "inspect.getsource(Point.Inner)") ==
               {:ok, "    class Inner:\n        inner = 1\n"}

      assert Typhon.eval(scope, "inspect.getsource(Late)") == {:ok, "class Late:\n    late = 1\n"}

      assert Typhon.eval(scope, "inspect.getsource(Point.boom)") ==
               {:ok, "    def boom(self):\n        return f(0)\n"}

      assert {:ok, source} = Typhon.eval(scope, "inspect.getsource(sys.modules[__name__])")
      assert source =~ "# in f"

      assert Typhon.eval(scope, "inspect.getmodule(Point).__name__ == __name__, __file__")
             |> elem(1)
             |> elem(0)

      assert Typhon.eval(scope, "pickle.loads(pickle.dumps(Point(3))) == Point(3)") == {:ok, true}

      assert Typhon.eval(scope, "sorted(get_type_hints(Point)), Point(2)") ==
               {:ok, {["kind", "x"], %{"x" => 2}}}

      assert {:error, %PythonError{} = error} = Typhon.eval(scope, "Point().boom()")
      assert ["Point().boom()", "return f(0)", "return 1 / x"] = Enum.map(error.traceback, & &1.source)

      assert {:error, %PythonError{type: type}} =
               Typhon.eval(scope, "class Mine(Exception): pass\nraise Mine")

      assert type == scope.name <> ".Mine"

      pdb = """
      import io, pdb
      out = io.StringIO()
      debugger = pdb.Pdb(stdin=io.StringIO("step\\nstep\\nlist\\ncontinue\\n"), stdout=out, nosigint=True, readrc=False)
      debugger.runcall(f, 1)
      out.getvalue()
      """

      assert {:ok, output} = Typhon.eval(scope, pdb)
      assert output =~ "return 1 / x"
    end

    test "keeps so much of what has run, and of its classes the lines that are theirs" do
      py = start_pool()
      scope = scope(py)
      source = fn name -> Typhon.eval(scope, "inspect.getsource(#{name})") end
      {:ok, nil} = Typhon.eval(scope, "import inspect\nclass Old:\n    old = 1")
      assert source.("Old") == {:ok, "class Old:\n    old = 1\n"}

      # What has no functions is over at its end.
      for i <- 1..600, do: {:ok, nil} = Typhon.eval(scope, "x = #{i}")
      assert source.("Old") == {:ok, "class Old:\n    old = 1\n"}

      for i <- 1..1_500 do
        {:ok, nil} = Typhon.eval(scope, "# #{i}\ndef f#{rem(i, 10)}():\n    return 1")

        if i == 1_400,
          do: {:ok, nil} = Typhon.eval(scope, "\nclass New:\n    new = 2\n    class In:\n        inner = 3")
      end

      {:ok, nil} = Typhon.eval(scope, "class Last:\n    last = 4")
      assert source.("New") == {:ok, "class New:\n    new = 2\n    class In:\n        inner = 3\n"}
      assert source.("New.In") == {:ok, "    class In:\n        inner = 3\n"}
      assert source.("Last") == {:ok, "class Last:\n    last = 4\n"}
      assert source.("f0") == {:ok, "def f0():\n    return 1\n"}
      # None, and not those of something else.
      assert {:error, %PythonError{type: "OSError"}} = source.("Old")

      kept = """
      import gc, typhon._compile as compiled
      gc.collect()
      programs = [each for each in gc.get_objects() if isinstance(each, compiled.Program)]
      (len(programs), len(compiled._files))
      """

      # Beside those that the worker keeps.
      assert {:ok, {programs, files}} = Typhon.eval(py, kept)
      assert programs <= 2 * 512
      assert files <= 2 * 512

      # Of large ones fewer.
      for i <- 1..12,
          do: {:ok, nil} = Typhon.eval(scope, "def f(): return #{i}\nx = '#{String.duplicate("x", 900_000)}'")

      assert {:ok, size} = Typhon.eval(scope, "import linecache\nsum(map(len, linecache.getlines(__file__)))")

      assert size <= 4 * 1024 * 1024
    end

    test "has its names and forks while a thread of its code assigns" do
      scope = scope(start_pool())

      code = """
      import sys, threading
      stop = []
      before = sys.getswitchinterval()
      sys.setswitchinterval(0.000_01)

      def assign():
          number = 0
          while not stop:
              number += 1
              globals()[f"v{number % 20000}"] = number
              if number % 20000 == 0:
                  for name in [name for name in globals().copy() if name.startswith("v")]:
                      del globals()[name]

      thread = threading.Thread(target=assign)
      thread.start()
      """

      {:ok, nil} = Typhon.eval(scope, code)

      for _ <- 1..30 do
        assert {:ok, names} = Typhon.names(scope)
        assert "stop" in names
        assert {:ok, %Typhon.Scope{}} = Typhon.scope(scope)
        assert {:ok, nil} = Typhon.eval(scope, "class Mine:\n    pass")
      end

      # Inside the VM the next pool may have the same interpreter.
      assert Typhon.eval(scope, "stop.append(1); thread.join(); sys.setswitchinterval(before)") == {:ok, nil}
    end

    test "has classes of whatever metaclass", %{py: py} do
      code = """
      class Meta(type):
          def __getattribute__(self, name): raise KeyboardInterrupt
          def __hash__(self): raise KeyboardInterrupt
          def __eq__(self, other): raise KeyboardInterrupt
          def __instancecheck__(self, other): raise KeyboardInterrupt

      class Mine(metaclass=Meta):
          pass

      1
      """

      assert Typhon.eval(scope(py), code) == {:ok, 1}
    end

    test "that takes too long says where the code stands, and that an option was taken for a variable", %{
      py: py
    } do
      long = "import time; time.sleep(600)"
      {:error, %TimeoutError{} = error} = Typhon.eval(py, long, %{}, timeout: 100, file: "lib/a.ex", line: 7)
      assert Exception.message(error) =~ "The code stands in lib/a.ex:7"

      {:error, %TimeoutError{} = error} = Typhon.eval(py, long, [timeout: 60_000], timeout: 100)
      assert Exception.message(error) =~ "timeout: stands among the bindings, so it is a variable of the code"
    end

    test "is traced after calls have been given up, wherever their thread was" do
      py = start_pool(concurrency: 2, grace: 30_000)

      traced = """
      import sys
      def f(): return 1
      sys.settrace(lambda *_: None)
      try:
          value = f()
      finally:
          sys.settrace(None)
      value
      """

      for {code, bindings} <- [
            {"while True: pass", %{}},
            {"import time; time.sleep(600)", %{}},
            {"f()", %{f: fn -> Process.sleep(500) end}},
            {"class A:\n    def __repr__(self):\n        while True: pass\nA()", %{}}
          ],
          _ <- 1..3 do
        assert {kind, _} = Typhon.eval(py, code, bindings, timeout: 200, as: :object)
        assert kind in [:ok, :error]
        assert Typhon.eval(py, traced) == {:ok, 1}
      end
    end

    test "is released when Elixir drops it", %{py: py} do
      names = fn ->
        Typhon.eval!(
          py,
          "import sys, gc; gc.collect(); [n for n in sys.modules if n.startswith('typhon_scope')]"
        )
      end

      test = self()

      task =
        async(fn ->
          scope = scope(py)
          Typhon.eval!(scope, "def f(): return f\nx = f")
          send(test, {:name, scope.name})
          receive do: (:end -> :ok)
        end)

      name = receive(do: ({:name, name} -> name))
      assert name in names.()
      send(task.pid, :end)
      await(task)
      eventually(fn -> name not in names.() end)
    end

    test "that was written down and is gone, or of another pool, is refused", %{py: py} do
      dropped = async(fn -> :erlang.term_to_binary(scope(py)) end) |> await()

      eventually(fn ->
        result = Typhon.eval(:erlang.binary_to_term(dropped), "1")

        match?({:error, %EncodeError{}}, result) and
          message(result) =~ ~r/\Athe scope typhon_scope_\d+ is not there any more/
      end)

      other = start_pool()
      scope = scope(other)
      :ok = Typhon.stop(other)
      assert {:error, error} = Typhon.eval(scope, "1")
      assert Exception.message(error) =~ "stopped"
    end

    @tag :os_process
    test "says why, after its worker ended" do
      py = start_pool()
      scope = scope(py, x: 1)

      assert {:error, %WorkerError{}} =
               Typhon.eval(scope, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

      for result <- [
            Typhon.eval(scope, "x"),
            Typhon.get(scope, :x),
            Typhon.put(scope, :x, 1),
            Typhon.scope(scope)
          ] do
        assert {:error, %WorkerError{reason: :signal, signal: "SIGKILL"} = error} = result

        assert Exception.message(error) =~
                 "was ended by SIGKILL. The scope #{scope.name} was there, and is gone"
      end

      assert Typhon.eval(py, "1") == {:ok, 1}
      assert Typhon.eval(scope(py), "1") == {:ok, 1}
    end

    test "says why, after its worker was replaced" do
      py = start_pool()
      scope = scope(py, x: 1)
      :ok = Typhon.restart(py)
      assert {:error, %WorkerError{} = error} = Typhon.eval(scope, "x")
      assert Exception.message(error) =~ "and is gone with all that it held"
    end

    test "takes what comes from several processes one after the other", %{py: py} do
      for py <- [py, start_pool(concurrency: 4)] do
        scope = scope(py, log: [])

        once = """
        import asyncio, time
        log.append("in")
        if later:
            await asyncio.sleep(0.01)
        else:
            time.sleep(0.01)
        log.append("out")
        """

        sync = "import time\nlog.append('in')\ntime.sleep(0.01)\nlog.append('out')"

        tasks =
          for i <- 1..20 do
            async(fn ->
              if rem(i, 2) == 0,
                do: Typhon.eval(scope, once, [later: rem(i, 4) == 0], timeout: limit()),
                else: Typhon.eval(scope, sync, %{}, timeout: limit())
            end)
          end

        assert await_many(tasks) == List.duplicate({:ok, nil}, 20)
        assert {:ok, log} = Typhon.get(scope, :log, timeout: limit())
        assert log == List.flatten(List.duplicate(["in", "out"], 20))
      end
    end

    test "goes on when code was given up", %{py: py} do
      for py <- [py, start_pool(concurrency: 2)] do
        scope = scope(py)

        for code <- ["import time; time.sleep(60)", "import asyncio; await asyncio.sleep(60)"] do
          assert {:error, %TimeoutError{}} = Typhon.eval(scope, code, %{}, timeout: 100)
          assert Typhon.eval(scope, "1", %{}, timeout: limit()) == {:ok, 1}
        end

        # Those that wait for it are given up by themselves.
        gate = gate()
        wait = "import os, asyncio\nwhile not os.path.exists(gate): await asyncio.sleep(0.01)\n2"
        slow = async(fn -> Typhon.eval(scope, wait, [gate: gate], timeout: limit()) end)
        eventually(fn -> in_flight(py) > 0 end)

        for code <- ["3", "import asyncio; await asyncio.sleep(0, 3)"],
            do: assert({:error, %TimeoutError{}} = Typhon.eval(scope, code, %{}, timeout: 50))

        File.touch!(gate)
        assert await(slow) == {:ok, 2}
        assert Typhon.eval(scope, "4", %{}, timeout: limit()) == {:ok, 4}
      end
    end

    test "takes code of its own callbacks at once", %{py: py} do
      for py <- [py, start_pool(concurrency: 2)] do
        scope = scope(py, z: 5)
        Typhon.eval!(scope, "import typhon, asyncio")
        sync = fn -> Typhon.eval!(scope, "z * 2") end
        later = fn -> Typhon.eval!(scope, "await asyncio.sleep(0, z * 2)") end

        for fun <- [sync, later], code <- ["g()", "await typhon.aio.apply(g)"] do
          assert Typhon.eval(scope, code, [g: fun], timeout: limit()) == {:ok, 10}
        end

        # Also when somebody waits for the only thread of the worker.
        gate = gate()
        began = "open(mark, 'w').close()\nawait typhon.aio.apply(g)"

        wait = fn ->
          eventually(fn -> File.exists?(gate) end) && Typhon.call!(py, :operator, :add, [sync.(), 1])
        end

        bound = [g: wait, mark: gate <> "-began"]
        on_exit(fn -> File.rm(gate <> "-began") end)
        asks = async(fn -> Typhon.eval(scope, began, bound, timeout: limit()) end)
        eventually(fn -> File.exists?(gate <> "-began") end)
        behind = async(fn -> Typhon.eval(scope, "z", %{}, timeout: limit()) end)
        eventually(fn -> in_flight(py) == 2 end)
        Process.sleep(20)
        File.touch!(gate)
        assert {await(asks), await(behind)} == {{:ok, 11}, {:ok, 5}}
        File.rm(gate <> "-began")

        # At any remove.
        far = fn -> Typhon.call!(py, :functools, :reduce, [fn x, y -> sync.() + x + y end, [1, 2]]) end

        for code <- ["g()", "await typhon.aio.apply(g)"],
            do: assert(Typhon.eval(scope, code, [g: far], timeout: limit()) == {:ok, 13})
      end
    end

    @tag :several_workers
    test "of one worker does not wait for that of another" do
      py = start_pool(workers: 2)
      scopes = eventually(fn -> two_places(py) end)
      gate = gate()
      wait = "import os, time\nwhile not os.path.exists(gate): time.sleep(0.01)\n'open'"
      waiting = async(fn -> Typhon.eval(hd(scopes), wait, [gate: gate], timeout: limit()) end)

      assert Typhon.eval(List.last(scopes), "open(gate, 'w').close()", [gate: gate], timeout: limit()) ==
               {:ok, nil}

      assert await(waiting) == {:ok, "open"}
    end

    @tag :several_workers
    test "does not take objects of another worker" do
      py = start_pool(workers: 2)
      [one, two] = eventually(fn -> two_places(py) end)
      {:ok, %Object{} = object} = Typhon.eval(one, "object()")
      assert {:error, %EncodeError{path: "bindings"} = error} = Typhon.eval(two, "x", x: object)
      assert Exception.message(error) =~ "on different workers"
      assert {:ok, %Object{}} = Typhon.eval(one, "x", x: object)
    end

    defp two_places(py) do
      here = "import os, threading; f'{os.getpid()} {threading.get_ident()} {id(threading)}'"

      scopes =
        for i <- 1..8, {:ok, scope} = Typhon.scope(py, %{}, worker: i), do: {Typhon.eval!(scope, here), scope}

      with [_, _] = two <- Enum.uniq_by(scopes, &elem(&1, 0)),
           do: Enum.map(two, &elem(&1, 1)),
           else: (_ -> nil)
    end
  end

  describe "exec_file/3" do
    test "runs a file as a program", %{py: py} do
      path = Path.join(py_dir(), "script.py")

      out = fn options ->
        capture_io(fn -> send(self(), Typhon.exec_file(py, path, [stdio: :group_leader] ++ options)) end)
      end

      assert out.(argv: ["a", "b c"]) == "arguments: ['a', 'b c']\n"
      assert_received {:ok, 2}
      out.([])
      assert_received {:ok, 0}
      out.(bindings: [given: 7])
      assert_received {:ok, 7}
      assert out.(argv: ["words"]) =~ "in words\n"
      assert_received {:ok, 1}
      assert Typhon.exec_file(py, path, argv: ["state"]) == {:ok, 0}
      assert Typhon.exec_file!(py, path) == 0

      assert {:error, %PythonError{type: "ValueError"} = error} = Typhon.exec_file(py, path, argv: ["raise"])
      assert ["<module>", "main"] = Enum.map(error.traceback, & &1.function)
      assert Enum.all?(error.traceback, &(&1.file == path))

      # Nothing of it stays.
      assert Typhon.eval(
               py,
               "import sys; sys.argv[1:], 'script' in sys.modules, sys.modules['__main__'].__dict__.get('main')"
             ) ==
               {:ok, {[], false, nil}}
    end

    test "says what is wrong with the file", %{py: py} do
      assert {:error, %PythonError{type: "FileNotFoundError"} = error} = Typhon.exec_file(py, "no/such.py")
      assert Exception.message(error) =~ "No such file or directory: 'no/such.py'"
      dir = new_path("exec")
      File.mkdir_p!(dir)
      on_exit(fn -> File.rm_rf(dir) end)
      path = Path.join(dir, "bad.py")
      File.write!(path, "x = 1\ny = = 2\n")
      assert {:error, %PythonError{type: "SyntaxError", traceback: [frame]}} = Typhon.exec_file(py, path)
      assert %{file: ^path, line: 2} = frame
      File.write!(Path.join(dir, "__main__.py"), "\uFEFFimport sys, beside\r\nsys.exit(beside.X)\r\n")
      File.write!(Path.join(dir, "beside.py"), "X = 4\n")
      assert Typhon.exec_file(py, dir) == {:ok, 4}

      assert_raise ArgumentError, ~r/argv: must be a list of strings, got 1/, fn ->
        Typhon.exec_file(py, path, argv: [1])
      end

      assert_raise ArgumentError, ~r/path must be a string/, fn -> Typhon.exec_file(py, :path) end
    end

    @tag :os_process
    test "has Python's own exit status, whatever was given to exit() or made of stdout" do
      py = start_pool()
      path = new_path("status.py")
      on_exit(fn -> File.rm(path) end)
      {python, 0} = System.cmd("python3", ["-c", "import sys; print(sys.executable)"])

      for code <- [
            "import sys; sys.exit(2**64)",
            "import sys; sys.exit(-2**63 - 1)",
            "import sys; sys.exit(2**63 - 1)",
            "import sys; sys.exit(-3)",
            "import sys; sys.exit(True)",
            "import sys\nclass N(int):\n    def __and__(self, other): raise ValueError\nsys.exit(N(5))",
            "import sys\nclass N:\n    __class__ = int\nsys.exit(N())",
            "import sys\nclass X:\n    def __str__(self): raise ValueError\nsys.exit(X())",
            "import sys\nclass X:\n    def __str__(self): raise SystemExit(7)\nsys.exit(X())",
            "import sys; sys.stderr.flush(); sys.exit('words')",
            ~s|import os, sys\nwith open(os.devnull, "w") as file:\n    sys.stdout = file\n    print("hi")|,
            "import sys; sys.stdout = None"
          ] do
        File.write!(path, code)
        {_, status} = System.cmd(String.trim(python), [path], stderr_to_stdout: true)
        capture_log(fn -> assert {code, Typhon.exec_file(py, path)} == {code, {:ok, status}} end)
      end

      # Its stdout is its own: an exception is not that of the flush.
      File.write!(
        path,
        "import io, sys\nsys.stdout = io.StringIO()\nsys.stdout.close()\nraise KeyError('mine')"
      )

      assert {:error, %PythonError{type: "KeyError"}} = Typhon.exec_file(py, path)
    end
  end

  @tag :os_process
  test "eval is Python's" do
    rb = start_supervised!({Typhon, language: :ruby, workers: 1})

    for call <- [&Typhon.eval(&1, "1"), &Typhon.scope/1, &Typhon.exec_file(&1, "x")] do
      assert_raise ArgumentError, ~r/is Python's: this pool has Rubies/, fn -> call.(rb) end
    end
  end
end
