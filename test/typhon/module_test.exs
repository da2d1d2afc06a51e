defmodule Typhon.ModuleTest do
  # Functions of Python's as those of Elixir modules.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Typhon.Sigil
  import Typhon.TestHelper

  alias Typhon.PythonError

  defmodule Wrapped do
    use Typhon.Module, file: "test/support/py/wrapped.py"
  end

  defmodule Statistics do
    use Typhon.Module, module: :statistics
  end

  defmodule Block do
    use Typhon.Module,
      code: ~P"""
      import dataclasses

      runs = 0

      @dataclasses.dataclass
      class Row:
          n: int

      def count(step: int = 1) -> int:
          "Counts what was called."
          global runs
          runs += step
          return runs

      def rows(n):
          for i in range(n):
              yield i

      def name():
          return __name__, Row.__module__

      def fail():
          raise ValueError("no")
      """
  end

  setup_all do
    py = start_pool()
    before = Application.fetch_env(:typhon, :default)
    Application.put_env(:typhon, :default, py)

    on_exit(fn ->
      case before do
        {:ok, value} -> Application.put_env(:typhon, :default, value)
        :error -> Application.delete_env(:typhon, :default)
      end
    end)

    {:ok, py: py}
  end

  defp define(options) do
    quoted =
      quote do
        defmodule unquote(Module.concat(__MODULE__, "M#{System.unique_integer([:positive])}")) do
          use Typhon.Module, unquote(Macro.escape(options))
        end
      end

    {{:module, module, binary, _}, _} = Code.eval_quoted(quoted, [], file: Path.absname("lib/shop.ex"))

    on_exit(fn ->
      :code.purge(module)
      :code.delete(module)
    end)

    {module, binary}
  end

  defp write(text, name \\ "written.py") do
    folder = new_path("module")

    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    path = Path.join(folder, name)
    File.write!(path, text)
    path
  end

  describe "functions of a file" do
    test "are called with Python's arguments" do
      assert Wrapped.mean([1, 2, 3]) == {:ok, 2.0}
      assert Wrapped.mean!([1, 2, 3], weight: 2) == 4.0
      assert Wrapped.named("x", key: "k") == {:ok, %{"a" => "x", "key" => "k", "other" => nil}}
      assert Wrapped.open_ended(a: 1, b: 2) == {:ok, %{"a" => 1, "b" => 2}}
      assert Wrapped.later(3) == {:ok, {3, "late"}}
      assert Wrapped.either("x") == {:ok, "x"}
      assert Wrapped.twice() == {:ok, 2}
      assert Wrapped.fallback(5) == {:ok, 5}
    end

    test "have *args as a list, and by position what Python has there" do
      assert Wrapped.total([1, 2, 3]) == {:ok, 6}
      assert Wrapped.total([1, 2, 3], start: 4) == {:ok, 10}
      assert Wrapped.shifted(1, []) == {:ok, [1, 2, {}, 3]}
      assert Wrapped.shifted(1, [], b: 5, c: 6) == {:ok, [1, 5, {}, 6]}
      assert Wrapped.shifted(1, [7, 8], b: 5) == {:ok, [1, 5, {7, 8}, 3]}
      assert_raise ArgumentError, ~r/shifted needs b:/, fn -> Wrapped.shifted(1, [7]) end
      assert_raise ArgumentError, ~r/must be a list, got 5/, fn -> Wrapped.shifted(1, 5) end

      assert Wrapped.placed(0) == {:ok, [0, 1, 2]}
      assert Wrapped.placed(0, b: 5) == {:ok, [0, 5, 2]}
      assert Wrapped.placed(0, c: 6, b: 5) == {:ok, [0, 5, 6]}
      assert_raise ArgumentError, ~r/placed needs b: with c:/, fn -> Wrapped.placed(0, c: 5) end
    end

    test "refuse arguments that there are not" do
      assert_raise ArgumentError, ~r/mean has no argument :wait.*There are :weight, :typhon/, fn ->
        Wrapped.mean([1], wait: 1)
      end

      assert_raise ArgumentError, ~r/option of the call is typhon: \[timeout: 20\]/, fn ->
        Wrapped.mean([1], timeout: 20)
      end

      assert_raise ArgumentError, ~r/named needs key:/, fn -> Wrapped.named("x", other: 1) end

      assert_raise ArgumentError, ~r/mean: options must be a keyword list, got 5/, fn ->
        Wrapped.mean([1], 5)
      end

      assert_raise ArgumentError, ~r/typhon: must be a keyword list/, fn -> Wrapped.mean([1], typhon: 5) end
    end

    test "take options of the call, and have its errors", %{py: py} do
      assert Wrapped.mean([1, 2], typhon: [pool: py, timeout: 60_000]) == {:ok, 1.5}
      assert_raise ArgumentError, ~r/has no option :no/, fn -> Wrapped.mean([1], typhon: [no: 1]) end
      assert {:error, %PythonError{type: "ValueError"}} = Wrapped.fails("x")
      assert_raise PythonError, fn -> Wrapped.fails!("x") end
    end

    test "are streams where they are generators" do
      assert Enum.to_list(Wrapped.count(4)) == [0, 1, 2, 3]
      assert Wrapped.count_later(100_000) |> Enum.take(2) == [0, 1]
      refute function_exported?(Wrapped, :count!, 1)
      assert {:ok, %Typhon.Object{}} = Wrapped.managed()
    end

    test "have names that Elixir can call" do
      assert Wrapped.end_(1, Größe: 5) == {:ok, [1, 1, 5]}
      assert Wrapped.quote_("x") == {:ok, "'x'"}
      assert Wrapped.to_string_(5) == {:ok, "5"}
      # The other one is capital by itself.
      assert Wrapped.capital() == {:ok, "small"}
      assert Wrapped.capital_(5) == {:ok, 5}
      assert Wrapped.größe() == {:ok, 3}

      names = for {name, _} <- Wrapped.__info__(:functions), do: name
      for missing <- [:_private, :shape, :Shape, :area], do: refute(missing in names)
    end

    test "bring their file, their documentation and their types" do
      assert Path.absname("test/support/py/wrapped.py") in Wrapped.__info__(:attributes)[:external_resource]

      {_, binary} = define(file: Path.absname("test/support/py/wrapped.py"))
      path = write(binary, "m.beam")
      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(path)
      docs = for {{:function, name, _}, _, _, %{"en" => text}, _} <- docs, into: %{}, do: {name, text}

      assert docs[:mean] =~ "The mean of rows.\n\nOf none there is an error."
      assert docs[:mean] =~ "In Python: `mean(rows: list[float], /, weight: float=1.0) -> float`"
      assert docs[:total] =~ "Calls Python's `total`."
      assert docs[:either] =~ "What counts."
      assert docs[:mean!] == "As `mean/2`, and returns the value itself or raises the exception."
      assert docs[:end_] =~ "It is `end` there."

      {:ok, specs} = Code.Typespec.fetch_specs(binary)

      specs =
        for {{name, _}, list} <- specs, spec <- list do
          Macro.to_string(Code.Typespec.spec_to_quoted(name, spec))
        end

      assert "mean([number()]) :: {:ok, float()} | {:error, Typhon.error()}" in specs
      assert "mean!([number()], weight: number(), typhon: keyword()) :: float()" in specs
      assert "total([integer()]) :: {:ok, integer()} | {:error, Typhon.error()}" in specs
      assert "later!(integer()) :: {integer(), String.t()}" in specs
      assert "count(integer()) :: Enumerable.t()" in specs
      assert "fails!(Typhon.Bytes.t()) :: nil" in specs

      assert Enum.any?(
               specs,
               &(&1 =~ "named!(String.t(), key: String.t(), other: integer() | nil, typhon: keyword()) :: %{")
             )
    end

    test "come of files with anything in them, or a sentence says why not" do
      for {text, sentence} <- [
            {"def f(:", ~r/written.py:1: this is no Python/},
            {"x = 1\ndef f():\nreturn 1", ~r/written.py:3: this is no Python/},
            {"return 1", ~r/this is no Python: 'return' outside function/},
            {"def f(): pass\0", ~r/null bytes|NUL/},
            {<<"x = '", 255, "'">>, ~r/encoding|utf-8|UTF-8/},
            {"# coding: nonsense\n", ~r/encoding/}
          ] do
        assert_raise CompileError, sentence, fn -> define(file: write(text)) end
      end

      for text <- [
            "",
            "\uFEFFdef f(): return 1\r\n",
            "# coding: latin-1\n# \xE9\n",
            "raise SystemExit",
            "__all__ = x\n"
          ] do
        assert {_, _} = define(file: write(text))
      end

      {module, _} =
        define(file: write("__all__ = ['_f', 'g', 'gone']\ndef _f(): pass\ndef h(): pass\ndef g(): pass"))

      assert module.__info__(:functions) |> Keyword.keys() |> Enum.uniq() |> Enum.sort() == [
               :_f,
               :_f!,
               :g,
               :g!
             ]
    end

    test "have arguments of any name" do
      {module, _} =
        define(
          file:
            write("""
            def handler(_, event, __, _a, a, *___): return [event, _]
            def several(*__, **_): return [__, _]
            """)
        )

      names = module.__info__(:functions)
      assert names[:handler] == 6
      assert names[:several] == 1
    end

    test "are left out, with a warning, where Elixir can have none" do
      for {made, name, sentence} <- [
            {String.duplicate("a", 255), "x", "its name has more than 254 bytes"},
            {String.duplicate("ä", 128), "x", "its name has more than 254 bytes"},
            {String.duplicate("A", 300), "x", "its name has more than 254 bytes"},
            {"f", "*, #{String.duplicate("o", 256)}=1",
             "its argument oooooooooooooooooooo… has more than 255"},
            {"f", Enum.map_join(1..255, ", ", &"a#{&1}"), "it has 256 arguments with its options"}
          ] do
        path = write("def g(): pass\ndef #{made}(#{name}): pass\n")
        shown = String.slice(made, 0, 60)

        for make <- [
              fn -> define(file: path) end,
              fn -> generate([path, "--module", "WrittenByATest.Limits"]) end
            ] do
          warning = capture_io(:stderr, fn -> send(self(), {:made, make.()}) end)
          assert warning =~ "Python's function #{shown}"
          assert warning =~ "written.py:2) is left out: #{sentence}"
          assert_received {:made, made}

          case made do
            {module, _} -> assert module.__info__(:functions) == [g: 0, g: 1, g!: 0, g!: 1]
            source -> refute source =~ shown <> "("
          end
        end
      end

      {module, _} =
        define(
          file:
            write("""
            def #{String.duplicate("a", 254)}(*, #{String.duplicate("ö", 255)}=1): pass
            def f(#{Enum.map_join(1..254, ", ", &"a#{&1}")}): pass
            def g(#{String.duplicate("x", 300)}): pass
            """)
        )

      assert Keyword.keys(module.__info__(:functions)) |> Enum.uniq() |> length() == 6
    end

    test "are not too many for the compiler" do
      many = Enum.map_join(1..5_001, "\n", &"def f#{&1}(): pass")
      path = write(many)
      assert_raise CompileError, ~r/written.py has 5001 functions.*__all__/, fn -> define(file: path) end
      assert_raise Mix.Error, ~r/written.py has 5001 functions.*__all__/, fn -> generate([path]) end
      {module, _} = define(file: write(many <> "\n__all__ = ['f7']"))
      assert function_exported?(module, :f7!, 0)
    end

    test "keep what Python's compiler can follow, whatever nests in it" do
      deep = Enum.map_join(1..900, " + ", fn _ -> "1" end)
      union = Enum.map_join(1..800, " | ", fn _ -> "int" end)
      branches = Enum.map_join(1..900, "\n", &"elif x == #{&1}: pass")

      {_, binary} =
        define(
          file:
            write("""
            x = 1
            if x: pass
            #{branches}
            else:
                def below(): pass
            def deep(a: #{union}, b: int = #{deep}, c: "#{union}" = 1, d: "a\\0b" = 2) -> #{union}: pass
            """)
        )

      specs = specs(binary)
      assert "deep!(term(), b: integer(), c: term(), d: term(), typhon: keyword()) :: term()" in specs
      assert "below!() :: term()" in specs

      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(write(binary, "deep.beam"))

      docs = for {{:function, name, _}, _, _, %{"en" => text}, _} <- docs, into: %{}, do: {name, text}
      doc = docs[:deep]
      assert doc =~ "deep(a: ..., b: int=..., c: 'int | int"
      assert doc =~ "d: 'a\\x00b'=2) -> ..."
    end

    test "have an argument of Python's that is called typhon", %{py: py} do
      {module, _} =
        define(
          code: """
          def f(*, typhon): return typhon
          def g(x, typhon=5, typhon_=6, /): return [x, typhon, typhon_]
          def h(**names): return names
          """
        )

      assert module.f(typhon_: 1) == {:ok, 1}
      assert module.f(typhon_: 1, typhon: [pool: py]) == {:ok, 1}
      assert module.g(1, typhon_: 2, typhon__: 3) == {:ok, [1, 2, 3]}

      assert module.h(typhon_: 1, typhon__: 2, typhon_x: 3) ==
               {:ok, %{"typhon" => 1, "typhon_" => 2, "typhon_x" => 3}}

      assert_raise ArgumentError, ~r/f needs typhon_:/, fn -> module.f(typhon: []) end

      assert_raise ArgumentError, ~r/got 7. Python's argument of that name is typhon_:/, fn ->
        module.g(1, typhon: 7)
      end

      assert_raise ArgumentError, ~r/got 7$/, fn -> module.h(typhon: 7) end
    end

    test "are those of the folder's module" do
      for {file, module} <- [
            {"priv/py/shop/report.py", "shop.report"},
            {"a/priv/py/shop/__init__.py", "shop"},
            {"x/y.py", "y"}
          ] do
        root = Path.dirname(write(""))
        path = Path.join(root, file)
        File.mkdir_p!(Path.dirname(path))
        File.write!(path, "")
        assert {[module: ^module], _} = Typhon.Module.read!([file: path], "M", {"x.ex", 1})
        assert {[module: "other"], _} = Typhon.Module.read!([file: path, module: "other"], "M", {"x.ex", 1})
      end
    end
  end

  describe "functions of a module" do
    test "are made without an import of it" do
      assert Statistics.fmean([1, 2]) == {:ok, 1.5}
      assert Statistics.fmean!([1, 2], weights: [1, 3]) == 1.75
      assert {:error, %PythonError{type: "statistics.StatisticsError"}} = Statistics.mean([])
      refute function_exported?(Statistics, :_sum, 1)

      path = write("raise SystemExit('imported')\ndef f(): return 1", "shop_of_a_test.py")
      assert {module, _} = define(module: "shop_of_a_test", python_path: [Path.dirname(path)])
      assert function_exported?(module, :f, 0)
    end

    test "are not there without a source" do
      for {name, sentence} <- [
            {"no_such.module", ~r/there is no module no_such/},
            {"math", ~r/math has no source in Python/},
            {"json.nope", ~r/there is no module json.nope/},
            {"json.decoder.x", ~r/json.decoder is no package/},
            {"", ~r/no module/},
            {"a\0b", ~r/no module a/}
          ] do
        assert_raise CompileError, sentence, fn -> define(module: name) end
      end
    end
  end

  describe "functions of a block" do
    test "run in a module of their own, which has run once" do
      {:ok, first} = Block.count(step: 2)
      assert Block.count() == {:ok, first + 1}
      assert Enum.to_list(Block.rows(3)) == [0, 1, 2]
      assert Block.name() == {:ok, {"Typhon.ModuleTest.Block", "Typhon.ModuleTest.Block"}}
    end

    test "have classes that are found by their names" do
      code = """
      import copy, dataclasses, inspect, pickle, typing

      @dataclasses.dataclass
      class Price:
          n: "int"
          of: "Price | None" = None

      def pickled():
          return pickle.loads(pickle.dumps(Price(1))) == Price(1)

      def hints():
          return typing.get_type_hints(Price)["n"] is int

      def found():
          return inspect.getmodule(Price).__name__

      def package():
          import importlib
          above = __name__.rpartition(".")[0]
          package = importlib.import_module(above)
          try:
              importlib.import_module(above + ".Nothing")
          except ModuleNotFoundError:
              return getattr(package, __name__.rpartition(".")[2]).Price is Price and not hasattr(package, "Nothing")
      """

      {inner, _} = define(code: code)
      assert inner.pickled() == {:ok, true}
      assert inner.hints() == {:ok, true}
      assert inner.found() == {:ok, inspect(inner)}
      assert inner.package() == {:ok, true}
    end

    test "are of a module below another one, whichever runs first", %{py: py} do
      code =
        "class Price: pass\ndef pickled():\n  import pickle\n  return type(pickle.loads(pickle.dumps(Price()))) is Price"

      call = &Typhon.call(py, "typhon._block", "call", [&1, code, nil, 1, "pickled", [], %{}])

      for owner <- ["Below.Of.It", "Below", "Below.Of", "Below.Of.It", "json.Shop", ":erlang.style", ":flat"],
          do: assert({owner, call.(owner)} == {owner, {:ok, true}})

      assert {:ok, "{}"} = Typhon.call(py, "json", "dumps", [%{}])
      assert {:error, %PythonError{type: "ModuleNotFoundError"}} = Typhon.call(py, "Bellow", "f", [])
    end

    test "stay a module when a new version of it raises", %{py: py} do
      call = &Typhon.call(py, "typhon._block", "call", ["Shop.Versions", &1, nil, 1, "f", [], %{}])
      code = "class A: pass\ndef f():\n  import pickle\n  return type(pickle.loads(pickle.dumps(A()))) is A"
      assert call.(code) == {:ok, true}
      assert {:error, %PythonError{type: "ZeroDivisionError"}} = call.("1/0")
      assert call.(code) == {:ok, true}
    end

    test "are in tracebacks with their place" do
      {:error, error} = Block.fail()
      frame = List.last(error.traceback)
      assert frame.file == "test/typhon/module_test.exs"

      assert "test/typhon/module_test.exs" |> File.read!() |> String.split("\n") |> Enum.at(frame.line - 1) =~
               "raise ValueError"
    end

    test "have their arguments named in errors" do
      {module, _} = define(code: "def f(x, y=1): return x")
      assert {:error, %Typhon.EncodeError{} = error} = module.f(<<255>>)
      assert error.path == "args[0]"
      assert {:error, %Typhon.EncodeError{path: "kwargs" <> _}} = module.f(1, y: <<255>>)
      assert_raise CompileError, ~r/lib\/shop.ex:\d+: this is no Python/, fn -> define(code: "def f(:") end
      {module, _} = define(code: "import asyncio\nawait asyncio.sleep(0)\ndef f(): pass")

      assert_raise CompileError, ~r/nests deeper/, fn ->
        define(code: "x = #{String.duplicate("-", 100_000)}1")
      end

      assert_raise CompileError, ~r/not UTF-8/, fn -> define(code: <<255>>) end

      assert_raise CompileError, ~r/1048577 characters/, fn ->
        define(code: String.duplicate("x", 1_048_577))
      end

      assert {:error, %PythonError{type: "TypeError", message: "a block of functions cannot await" <> _}} =
               module.f()
    end
  end

  describe "use" do
    test "says what it takes" do
      for {options, sentence} <- [
            {[], ~r/needs one of module:/},
            {[modul: "x"], ~r/no option :modul. It takes :module/},
            {[code: 5], ~r/needs one of/},
            {[file: nil], ~r/needs one of/},
            {[file: "no/such.py"], ~r/No such file/}
          ],
          do: assert_raise(CompileError, sentence, fn -> define(options) end)
    end

    test "makes a body of the module that is no longer for more functions" do
      require Typhon.Module

      statements = fn count ->
        code = Enum.map_join(1..count, &"def f#{&1}(): pass\n")
        using = quote(do: Typhon.Module.__using__(code: unquote(code)))
        {:__block__, _, statements} = Macro.expand_once(using, __ENV__)
        length(statements)
      end

      assert statements.(20) == statements.(1)
    end

    test "needs a Python, and says so" do
      Application.put_env(:typhon, :compile_python, false)
      on_exit(fn -> Application.delete_env(:typhon, :compile_python) end)

      assert_raise CompileError, ~r/a Python reads.*compile_python:.*mix typhon.gen.wrapper/s, fn ->
        define(module: "json")
      end
    end

    test "makes no warnings" do
      for file <- [Path.absname("test/support/py/wrapped.py"), write("class A: pass")],
          do: assert(capture_io(:stderr, fn -> define(file: file) end) == "")
    end
  end

  test "a module that defines no function itself is warned of" do
    folder = Path.dirname(write("from math import *\nclass A: pass\n", "classes_alone.py"))

    said = capture_io(:stderr, fn -> define(module: "classes_alone", python_path: folder) end)

    assert said =~
             "use Typhon.Module: there is no function in classes_alone that it defines itself; classes, and"

    said =
      capture_io(:stderr, fn ->
        capture_io(fn -> Mix.Task.rerun("typhon.gen.wrapper", ["--python-path", folder, "classes_alone"]) end)
      end)

    assert said =~ "warning: there is no function in classes_alone that it defines itself"
  end

  describe "mix typhon.gen.wrapper" do
    defp generate(arguments), do: capture_io(fn -> Mix.Task.rerun("typhon.gen.wrapper", arguments) end)

    # The names are gone when the test is over.
    defp compiled(source) do
      modules = capture_io_of(fn -> Code.compile_string(source) end)

      on_exit(fn ->
        for {module, _} <- modules do
          :code.purge(module)
          :code.delete(module)
        end
      end)

      [{module, binary}] = modules
      {module, binary}
    end

    defp capture_io_of(fun) do
      parent = self()
      ref = make_ref()
      assert capture_io(:stderr, fn -> send(parent, {ref, fun.()}) end) == ""
      receive do: ({^ref, value} -> value)
    end

    defp specs(binary) do
      {:ok, specs} = Code.Typespec.fetch_specs(binary)

      for {{name, _}, list} <- specs, spec <- list do
        Macro.to_string(Code.Typespec.spec_to_quoted(name, spec))
      end
    end

    test "writes what use Typhon.Module makes" do
      path = Path.absname("test/support/py/wrapped.py")
      {_, made} = define(file: path)
      out = Path.join(Path.dirname(write("")), "lib/written_by_a_test/wrapped.ex")
      assert generate([path, "--out", out]) =~ "creating"
      source = File.read!(out)
      assert source == source |> Code.format_string!() |> IO.iodata_to_binary() |> Kernel.<>("\n")
      {module, written} = compiled(source)
      assert module == WrittenByATest.Wrapped
      assert Enum.sort(specs(written)) == Enum.sort(specs(made))
      assert apply(module, :mean, [[1, 2], [weight: 2]]) == {:ok, 3.0}
      assert Enum.to_list(apply(module, :count, [2])) == [0, 1]

      assert generate([path, "--out", out, "--force", "--module", "Other.Name", "--pool", "My.Pool"]) =~
               "creating"

      assert File.read!(out) =~ ~r/\Adefmodule Other.Name do.*\[module: "wrapped", pool: My.Pool\]/s
      assert generate(["statistics"]) =~ ~r/\Adefmodule Statistics do.*def fmean\(data, options/s
    end

    test "writes names that are none in Elixir" do
      path = write("def ᛋ(ᛋ, _, *__, ᛋᛋ=1, typhon=2): return 1\ndef Ω(): yield 1\n")
      {made, _} = define(file: path)
      {written, _} = compiled(generate([path, "--module", "WrittenByATest.Runes"]))
      assert written.__info__(:functions) == made.__info__(:functions)
      assert {:"ᛋ!", 4} in written.__info__(:functions)
    end

    test "writes whatever a docstring has" do
      doc = ~S|quotes: \"\"\" '' #{x} \\ \\n \u202e \x00 end|

      {module, binary} =
        compiled(
          generate([
            write("def f():\n    \"#{doc}\"\ndef g(): 'a \\\\ #{"\#{y}"}'"),
            "--module",
            "WrittenByATest.Docs"
          ])
        )

      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(write(binary, "docs.beam"))
      docs = for {{:function, name, _}, _, _, %{"en" => text}, _} <- docs, into: %{}, do: {name, text}
      assert docs[:f] =~ ~s|quotes: """ '' \#{x} \\ \\n \u202e \0 end|
      assert docs[:g] =~ ~S|a \ #{y}|
      assert function_exported?(module, :f, 0)
    end

    test "says what it takes" do
      for {arguments, sentence} <- [
            {[], ~r/the name of one module/},
            {["a", "b"], ~r/the name of one module/},
            {["math"], ~r/math has no source/},
            {["no_such"],
             ~r/there is no module no_such on the path of .*; config :typhon, compile_python: names another/},
            {["json", "--python", "python3"],
             ~r/no option --python. The Python that reads .* compile_python: names/},
            {["json", "--python=.venv"], ~r/no option --python. The Python that reads/},
            {["no/such.py"], ~r/No such file/},
            {["json", "--module", "shop"], ~r/"shop" is no name of an Elixir module/},
            {[write("def f(:")], ~r/this is no Python/}
          ],
          do: assert_raise(Mix.Error, sentence, fn -> generate(arguments) end)
    end
  end
end
