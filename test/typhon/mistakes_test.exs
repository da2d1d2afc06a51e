defmodule Typhon.MistakesTest do
  # What those read who made a mistake that many make: the sentence says what to do.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{EncodeError, PythonError}

  setup do
    dir = new_path("mistakes")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    {:ok, dir: dir}
  end

  defp module(dir, name, code), do: File.write!(Path.join(dir, name <> ".py"), code)

  defp message(py, module, function, args \\ []) do
    {:error, error} = Typhon.call(py, module, function, args)
    Exception.message(error)
  end

  describe "the name of a module" do
    test "is an alias of Elixir's" do
      py = start_pool()

      assert message(py, Math, :sqrt, [4]) ==
               String.trim_trailing("""
               Traceback (most recent call last):
                 File "<call>", line 1, in Elixir.Math.sqrt
               ModuleNotFoundError: No module named 'Elixir'
               Math is an alias in Elixir, the atom :"Elixir.Math". Name a Python module by an atom or a string: :math or "Math"
               """)

      assert message(py, My.Module, :f) =~ ~s|by an atom or a string: :"my.module" or "My.Module"|
      assert {:ok, [{:error, error}]} = {:ok, Typhon.multi(py, [{Math, :sqrt, [4]}])}
      assert Exception.message(error) =~ ~s|:math or "Math"|

      assert_raise PythonError, ~r/:math or "Math"/, fn ->
        py |> Typhon.stream(Math, :f, []) |> Enum.to_list()
      end
    end

    test "has a class in it" do
      py = start_pool()

      assert {:error, %PythonError{notes: [note]}} = Typhon.call(py, "datetime.datetime", :now, [])

      assert note ==
               "datetime.datetime is no module: it is an attribute of the module datetime. " <>
                 ~s|Call :datetime, "datetime.now"|

      assert {:error, %PythonError{notes: []}} = Typhon.call(py, "datetime.nothing", :now, [])
    end

    test "is that of a package which is not installed", %{dir: dir} do
      module(dir, "needs", "import sklearn.svm as svm")
      py = start_pool(python_path: [dir])
      {:ok, python} = Typhon.call(py, "sys", "executable.__str__", [])
      {:ok, version} = Typhon.call(py, "platform", "python_version", [])

      assert {:error, %PythonError{message: "No module named 'not_there'", notes: [where, how, own]}} =
               Typhon.call(py, :not_there, :f, [])

      assert where =~ "#{python} (Python #{version}) looked for it in #{dir}, /"

      assert how ==
               "Check that the name is right, and that not_there is the package you mean. To install the package there: " <>
                 "#{python} -m pip install not_there"

      assert own =~ "python_path:"
      refute where =~ "priv/python"

      # Deep in the user's own module, and by the name that it is installed by.
      unless match?({:ok, _}, Typhon.call(py, "sklearn", "__name__.upper", [])) do
        assert message(py, :needs, :f) =~ ~r/needs.py", line 1.*-m pip install scikit-learn\n/s
      end
    end
  end

  describe "a module of the user's with the name of one of Python's" do
    # Typhon needs these to start.
    for name <- ["contextvars", "__future__"] do
      @tag :os_process
      test "#{name}.py does not let it start, and is named", %{dir: dir} do
        module(dir, unquote(name), "def mine(): return 1\n")

        assert {:error, %Typhon.StartError{reason: :exit} = error} =
                 Typhon.start_link(
                   workers: 1,
                   python_path: [dir],
                   stdio: :discard,
                   isolation: :process,
                   engine: :auto
                 )

        assert List.last(error.output) =~
                 "#{dir}/#{unquote(name)}.py has the name of the module #{unquote(name)} of Python's standard library"
      end
    end

    for {name, call} <- [
          {"asyncio", {:asyncio, :sleep, [0]}},
          {"socket", {:asyncio, :sleep, [0]}},
          {"queue", {"concurrent.futures.thread", "ThreadPoolExecutor", []}}
        ] do
      test "#{name}.py is named by what fails for it", %{dir: dir} do
        module(dir, unquote(name), "def mine(): return 1\n")
        py = start_pool(python_path: [dir], isolation: :process, engine: :auto)
        {module, function, args} = unquote(Macro.escape(call))

        assert message(py, module, function, args) =~
                 "#{dir}/#{unquote(name)}.py has the name of the module #{unquote(name)} of Python's standard library"

        assert Typhon.call(py, unquote(String.to_atom(name)), :mine, []) == {:ok, 1}
      end
    end

    test "logging.py may be called, and what needs the other one names it", %{dir: dir} do
      module(dir, "logging", "def mine(): return 1\n")
      py = start_pool(python_path: [dir], isolation: :process, engine: :auto)
      assert Typhon.call(py, :logging, :mine, []) == {:ok, 1}
      assert message(py, :asyncio, :sleep, [0]) =~ "#{dir}/logging.py has the name of the module logging"
    end

    test "datetime.py is named where a value cannot be made", %{dir: dir} do
      module(dir, "datetime", "")
      py = start_pool(python_path: [dir], isolation: :process, engine: :auto)

      assert {:error, %EncodeError{path: "args[0]", reason: reason}} =
               Typhon.call(py, :builtins, :str, [~D[2026-01-01]])

      assert reason =~
               "cannot make a datetime.date: AttributeError: module 'datetime' has no attribute 'date'. #{dir}/datetime.py"
    end

    # Later ones do without it.
    for {path, version} <- Typhon.TestHelper.supported_pythons(), Version.match?(version, "< 3.13.0") do
      @path path
      test "token.py is named, which the tracebacks of Python #{version} need", %{dir: dir} do
        module(dir, "token", "")
        py = start_pool(python: @path, python_path: [dir], isolation: :process, engine: :auto)
        assert message(py, :operator, :truediv, [1, 0]) =~ "the exception could not be described: "
        assert message(py, :operator, :truediv, [1, 0]) =~ "#{dir}/token.py has the name of the module token"
      end
    end
  end

  describe "a syntax error in the user's module" do
    test "comes without the frames of the import", %{dir: dir} do
      module(dir, "broken", "def f(:\n    pass\n")
      module(dir, "fine", "def f(): return 1\n")
      py = start_pool(python_path: [dir])

      expected =
        ~s|Traceback (most recent call last):\n  File "<call>", line 1, in broken.f\n  File "#{dir}/broken.py", line 1\n|

      assert String.starts_with?(message(py, :broken, :f), expected)

      assert {:error, %PythonError{traceback: [%{file: "<call>"}]}} =
               Typhon.call(py, :importlib, :import_module, ["broken"])

      assert Typhon.call(py, :fine, :f, []) == {:ok, 1}
      module(dir, "fine", "def f(: return 1\n")
      assert {:error, %PythonError{} = error} = Typhon.reload(py, :fine)
      refute Exception.message(error) =~ "importlib._bootstrap"
      refute Exception.message(error) =~ "importlib/__init__"
      assert Exception.message(error) =~ ~s|File "#{dir}/fine.py", line 1|
    end
  end
end
