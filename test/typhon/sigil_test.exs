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
    folder =
      Path.join(System.tmp_dir!(), "typhon-sigil-#{System.pid()}-#{System.unique_integer([:positive])}")

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
end
