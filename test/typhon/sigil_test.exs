defmodule Typhon.SigilTest do
  # Python code that Elixir's compiler sees. What it asks a Python is configured for the whole VM.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Typhon.Sigil
  import Typhon.TestHelper

  alias Typhon.PythonError

  setup_all do
    {:ok, py: start_pool()}
  end

  defp configure(name, value) do
    before = Application.fetch_env(:typhon, name)
    Application.put_env(:typhon, name, value)

    on_exit(fn ->
      case before do
        {:ok, value} -> Application.put_env(:typhon, name, value)
        :error -> Application.delete_env(:typhon, name)
      end
    end)
  end

  # A program that is a Python by its name.
  defp program(script) do
    folder = new_path("sigil")

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    path = Path.join(folder, "python3")
    File.write!(path, "#!/bin/sh\n" <> script)
    File.chmod!(path, 0o755)
    path
  end

  defp compile(code, options \\ []) do
    options = Keyword.merge([file: Path.absname("lib/shop.ex"), line: 10], options)
    {value, _} = Code.eval_string("import Typhon.Sigil\n" <> code, [], options)
    value
  end

  describe "the sigil" do
    test "is code with the place where it stands" do
      here = __ENV__.line + 1
      code = ~P"1 + 1"
      assert code == %Typhon.Code{code: "1 + 1", file: "test/typhon/sigil_test.exs", line: here}

      code = ~P"""
      x = 1
      x
      """

      assert %Typhon.Code{code: "x = 1\nx\n", line: line} = code
      assert line == here + 4
    end

    test "has two letters where Elixir reads them, and is a macro everywhere" do
      call = quote(do: sigil_PY(<<"1 + 1">>, []))
      {value, _} = Code.eval_quoted(call, [], __ENV__)
      assert %Typhon.Code{code: "1 + 1"} = value

      if Version.match?(System.version(), ">= 1.15.0-dev"),
        do: assert(%Typhon.Code{code: "1 + 1", line: 11} = compile(~S(~PY"1 + 1")))
    end

    test "leaves its text as it is", %{py: py} do
      code = ~P|"#{x}\n" + '\t'|
      assert code.code == ~S|"#{x}\n" + '\t'|
      assert Typhon.eval(py, code) == {:ok, "\#{x}\n\t"}
    end

    test "is evaluated with its place", %{py: py} do
      here = __ENV__.line + 3

      code = ~P"""
      def fail():
          return 1 / 0
      fail()
      """

      assert {:error, %PythonError{traceback: traceback}} = Typhon.eval(py, code)
      assert {"test/typhon/sigil_test.exs", here + 1} in Enum.map(traceback, &{&1.file, &1.line})

      # What is said there counts.
      assert {:error, %PythonError{traceback: traceback}} =
               Typhon.eval(py, code, [], file: "other.ex", line: 7)

      assert {"other.ex", 8} in Enum.map(traceback, &{&1.file, &1.line})

      {:ok, scope} = Typhon.scope(py, x: 20)
      assert Typhon.eval(scope, ~P"x + 1") == {:ok, 21}
      assert Typhon.eval!(scope, %Typhon.Code{code: "x * y"}, y: 2) == 40
      assert_raise ArgumentError, ~r/has no option :no/, fn -> Typhon.eval(py, code, [], no: 1) end

      assert_raise ArgumentError, ~r/must be a string, got 1. A Typhon.Code may be given, too/, fn ->
        Typhon.eval(py, %{code | code: 1})
      end
    end

    test "refuses modifiers that there are not" do
      assert_raise CompileError, ~r/lib\/shop.ex:11: ~PY has no modifier "z"/, fn -> compile(~S(~P"1"z)) end
    end
  end

  describe "a syntax error" do
    test "is one of the compiler, with its place" do
      error = assert_raise CompileError, fn -> compile(~s(~P"""\nok = 1\nfor row in rows\n    x\n""")) end
      assert {error.file, error.line} == {"lib/shop.ex", 13}
      message = Exception.message(error)

      assert message =~
               "this is no Python: expected ':' (SyntaxError)\n    for row in rows\n                   ^"

      assert message =~ "compile_python:"

      assert %{line: 11} = assert_raise(CompileError, fn -> compile(~S(~P"1 +")) end)
    end

    test "is found in whatever way the code is wrong, and nothing else is one" do
      for wrong <- [
            "x = 1; global x",
            "break",
            "if x:\n\ty\n        z",
            "a b",
            "'",
            "(",
            "\0",
            "def f(:",
            "é?"
          ] do
        assert_raise CompileError, ~r/lib\/shop.ex:\d+: this is no Python/, fn ->
          Code.eval_quoted(
            quote(do: Typhon.Sigil.sigil_P(<<unquote(wrong)>>, [])),
            [],
            %{__ENV__ | file: Path.absname("lib/shop.ex")}
          )
        end
      end

      for right <- ["", "return 1", "await x", "  x\n  y", "\uFEFFx", "a\r\nb\r\n", "größe", "# é", ~S("\d")] do
        assert capture_io(:stderr, fn ->
                 {code, _} =
                   Code.eval_quoted(quote(do: Typhon.Sigil.sigil_P(<<unquote(right)>>, [])), [], __ENV__)

                 assert code.code == right
               end) == ""
      end
    end

    test "is told of code that is too long" do
      long = String.duplicate("x", 1_048_577)

      assert_raise CompileError, ~r/the code has 1048577 characters/, fn ->
        Code.eval_quoted(quote(do: Typhon.Sigil.sigil_P(<<unquote(long)>>, [])), [], __ENV__)
      end
    end

    test "is left to the worker without a Python" do
      for none <- [false, "no-such-python", program("echo Python 3.8\nexit 0\n") |> Path.dirname()] do
        configure(:compile_python, none)
        assert %Typhon.Code{code: "1 +"} = compile(~S(~P"1 +"))
      end
    end

    test "is left to it, and a warning says why, when the Python does not answer" do
      configure(:compile_timeout, 300)

      for {script, sentence} <- [
            {"sleep 1000", "did not answer within 300 ms"},
            {"echo no; exit 3", "exited with status 3"},
            {"yes", "could not be asked"}
          ] do
        configure(:compile_python, program("exec #{script}\n" |> String.replace("exec echo", "echo")))
        warning = capture_io(:stderr, fn -> assert %Typhon.Code{} = compile(~S(~P"1 +")) end)
        assert warning =~ "compiled without a look at it"
        assert warning =~ sentence
        # It is not asked again.
        assert capture_io(:stderr, fn -> assert %Typhon.Code{} = compile(~S(~P"1 +")) end) == ""
      end
    end
  end

  describe "the modifier r" do
    setup %{py: py} do
      configure(:default, py)
      :ok
    end

    test "runs the code with the variables that it reads" do
      rows = [1, 2, 5]
      factor = 10
      assert ~P"sum(rows) * factor"r == 80

      assert ~P"""
             total = 0
             for row in rows:
                 total += row
             return total
             """r == 8

      # Elixir's stay as they are.
      assert ~P"rows = 1; rows"r == 1
      assert rows == [1, 2, 5]
      assert factor == 10
      größe = 3
      assert ~P"größe + 1"r == 4
      _hidden = 4
      assert ~P"_hidden + 1"r == 5
      assert_raise PythonError, ~r/ZeroDivisionError/, fn -> ~P"1 / 0"r end
      assert_raise PythonError, ~r/NameError/, fn -> ~P"nowhere"r end
    end

    test "makes no warning of a variable that Python alone reads, and one of others" do
      code = """
      defmodule Typhon.SigilTest.Reads do
        import Typhon.Sigil
        def sum(rows, _skipped) do
          factor = 2
          ~P"sum(rows) * factor"r
        end
      end
      """

      assert capture_io(:stderr, fn -> Code.compile_string(code) end) == ""
      assert apply(Typhon.SigilTest.Reads, :sum, [[1, 2], 0]) == 6

      unread = String.replace(code, ~s(sum(rows\) * factor"), ~s(sum(rows\)"))
      warnings = capture_io(:stderr, fn -> Code.compile_string(unread) end)
      assert warnings =~ ~s(variable "factor" is unused)
    after
      :code.purge(Typhon.SigilTest.Reads)
      :code.delete(Typhon.SigilTest.Reads)
    end

    test "binds what the code assigns in IEx and Livebook, and nowhere else" do
      code = ~S"""
      import Typhon.Sigil
      x = 1
      kept = 5
      value = ~P|y = x + 1; DF = 3; end = 4; __z__ = 5; _ = 6; y * 2
      if y > 100:
          kept = 6
          never = 7|r
      {value, y, kept}
      """

      # What is no statement's value is nil.
      for file <- ["iex", "/home/ann/book.livemd#cell:abc"] do
        {result, bindings} = Code.eval_string(code <> "|> Tuple.append(never)", [], file: file)
        assert result == {nil, 2, 5, nil}
        assert Keyword.keys(bindings) -- [:x, :kept, :value, :y, :never] == []
      end

      {_, bindings} = Code.eval_string("import Typhon.Sigil\n~P|x = 1; x|r", [], file: "script.exs")
      assert bindings == []

      functions =
        "import Typhon.Sigil\nimport_it = ~P|import math; f = lambda: 2|r\n{math, ~P|math.floor(2.5) + f()|r}"

      assert {{%Typhon.Object{type: "module"}, 4}, _} = Code.eval_string(functions, [], file: "iex")
      awaits = "import Typhon.Sigil\nw = ~P|import asyncio; v = await asyncio.sleep(0, 3); v + 1|r\n{w, v}"
      assert {{4, 3}, _} = Code.eval_string(awaits, [], file: "iex")

      assert_raise PythonError, fn ->
        Code.eval_string("import Typhon.Sigil\n~P|x = 1 / 0|r", [], file: "iex")
      end
    end

    test "finds the same without a Python" do
      configure(:compile_python, false)
      bindings = [rows: [1, 2], factor: 2, x: 100, s: "no"]

      code = ~S'''
      import Typhon.Sigil
      ~P"""
      def scaled(x):
          return x * factor  # x
      s = f"{sum(rows)!r:>{int('3')}} factor"
      [scaled(x) for x in rows] + ["rows", s, (lambda factor: factor)(1)]
      """r
      '''

      assert {[2, 4, "rows", "  3 factor", 1], _} = Code.eval_string(code, bindings)
    end

    test "has no pool without a default one" do
      Application.delete_env(:typhon, :default)
      assert_raise ArgumentError, ~r/no default pool.*Typhon.default\(workers: 1\)/, fn -> ~P"1"r end
    end
  end

  describe "default/1" do
    test "starts a pool that belongs to nobody, and comes before the configured one", %{py: py} do
      configure(:default, py)
      options = [workers: 1, start_timeout: limit()]
      pool = fn -> Task.await(Task.async(fn -> Typhon.default(options) end), :infinity) end
      {:ok, started} = pool.()
      on_exit(fn -> if Process.alive?(started), do: Typhon.stop(started) end)
      assert ~P"1 + 1"r == 2
      {:ok, pid} = Typhon.eval(started, "import os; os.getpid(), id(os)")
      assert ~P"import os; os.getpid(), id(os)"r == pid

      # The same options, the same pool.
      assert pool.() == {:ok, started}
      assert {:ok, another} = Typhon.default([concurrency: 2] ++ options)
      refute Process.alive?(started)
      assert ~P"2"r == 2
      assert {:error, %Typhon.StartError{}} = Typhon.default(python: "no-such-python")
      refute Process.alive?(another)
      # That of the configuration.
      assert ~P"3"r == 3
    end

    test "refuses options that there are not" do
      assert_raise ArgumentError, ~r/has no option :wokers/, fn -> Typhon.default(wokers: 1) end
    end
  end

  describe "names of code" do
    # {code, reads, assigns}
    @codes [
      {"x + y", "x y", ""},
      {"x = 1; x + y", "y", "x"},
      {"x += 1", "x", "x"},
      {"x = x", "x", "x"},
      {"a.b.c(d=e, *f, **g)", "a e f g", ""},
      {"[x for x in rows if x > lo]", "lo rows", ""},
      {"[x for x in x]", "x", ""},
      {"[(i, j) for i, j in p for k in j if k]", "p", ""},
      {"{k: v for k in ks for v in k}", "ks", ""},
      {"[y := f(x) for x in xs]", "f xs", "y"},
      {"sorted(r, key=lambda x, y=z: (x.a, y, k))", "k r sorted z", ""},
      {"x = lambda *a, b=1, **c: (a, b)", "", "x"},
      {"def f(a: T, /, *r, k=z, **o) -> U:\n  q = a\n  return q + w + f(1)\nf(v)", "T U v w z", "f"},
      {"def g():\n  global h\n  h = 1\n  return k", "k", "g h"},
      {"async def f():\n  async with s as t:\n    await t\n  return [u async for u in v]", "s v", "f"},
      {"class A(B):\n  def m(self): return self.x + y", "B y", "A"},
      {"for i in xs:\n  t = i\n  print(i, t)", "print xs", "i t"},
      {"with open(p) as f, g(p) as (h, *l):\n  f.read()", "g open p", "f h l"},
      {"import a.b as c, d.e\nfrom m import (n as o,\n q)\nc + d + o", "", "c d o q"},
      {"match s:\n  case K(z=[1, *more]): more", "K s", "more"},
      {"match = 3; match.x; case", "case", "match"},
      {"f'{a!r:>{w}} {{no}} {d[\"k\"]}'", "a d w", ""},
      {"\"\"\"no \" # no\"\"\" + rb'\\'no' + u # no", "u", ""},
      {"1e5 + 0xff + 1_000j + n.real", "n", ""},
      {"x[y].z, w = v", "v x y", "w"},
      {"x: T = v; y: U", "T U v", "x y"},
      {"del x; x", "x", "x"},
      {"if (n := len(rows)) > 3: n", "len n rows", "n"},
      {"größe + ﬁt", "fit größe", ""},
      {"  \tx = 1\n  \ty", "y", "x"},
      {"", "", ""}
    ]

    test "are those that Python's parser finds, and the same ones from tokens alone" do
      for {code, reads, assigns} <- @codes do
        names = %{reads: String.split(reads), assigns: String.split(assigns)}
        assert {code, Typhon.Outline.names!(code, {"x", 1})} == {code, {:ok, names}}
        assert {code, Typhon.Outline.Names.names(code)} == {code, names}
      end
    end

    test "are those of type parameters, which came with Python 3.12" do
      for {code, reads, assigns} <- [
            {"type X[T] = list[T] | y", "list y", "X"},
            {"def f[T: B, *Ts](x: T) -> T: return x", "B", "f"},
            {"class A[T](B[T]): z: T", "B", "A"},
            {"type = 1; type.x", "", "type"}
          ] do
        names = %{reads: String.split(reads), assigns: String.split(assigns)}
        assert {code, Typhon.Outline.Names.names(code)} == {code, names}
      end
    end

    test "are found in whatever text there is" do
      for text <-
            [
              "(",
              ")",
              "f'{",
              "f'{a:{",
              "'",
              "lambda",
              "lambda:",
              "for",
              "for x",
              "x = = 1",
              "def",
              "def f",
              "\0",
              "[for]"
            ] ++
              [
                "import",
                "from",
                "with",
                "match x",
                "case",
                "type X",
                "@",
                ":",
                "a:=",
                "(((((",
                "\\",
                "if",
                "del",
                "=",
                "async"
              ],
          do: assert(%{reads: _, assigns: _} = Typhon.Outline.Names.names(text))

      assert %{reads: ["x"]} = Typhon.Outline.Names.names(String.duplicate("(", 100_000) <> "x")
      assert %{reads: ["x"]} = Typhon.Outline.Names.names("x\n" <> String.duplicate("y = x + 1\n", 20_000))
    end
  end
end
