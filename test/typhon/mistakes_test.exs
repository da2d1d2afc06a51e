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

  defp refused(text, fun) do
    error = assert_raise(ArgumentError, fun)
    assert Exception.message(error) =~ text
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

  describe "what is given in a wrong place" do
    setup do
      py = start_pool(workers: 1)
      {:ok, object} = Typhon.call(py, :collections, :deque, [[1, 2]])
      {:ok, function} = Typhon.call(py, :operator, :itemgetter, [0])
      {:ok, scope} = Typhon.scope(py)
      {:ok, py: py, object: object, function: function, scope: scope}
    end

    test "is the method of an object without the pool", %{py: py, object: object, function: function} do
      for name <- [:append, "append"] do
        refused("A method of the object is Typhon.call(py, object, #{inspect(name)}, args)", fn ->
          Typhon.call(object, name, [[3]])
        end)
      end

      refused("A single argument is [5]", fn -> Typhon.call(function, 5) end)

      refused("an object is called by Typhon.call(object, args), and its method by", fn ->
        Typhon.call(py, function, [1])
      end)

      assert {:error, error} = Typhon.call(object, :math, :sqrt, [1])

      assert Exception.message(error) =~
               "is an object, and not a Typhon pool: an object is called by Typhon.call(object, args)"
    end

    test "is a scope", %{object: object, scope: scope} do
      takes = "what takes a scope is Typhon.eval/4, Typhon.get/3, Typhon.put/4"
      assert {:error, error} = Typhon.call(scope, :math, :sqrt, [1])
      assert Exception.message(error) =~ "is a scope, and not a Typhon pool: #{takes}"

      for fun <- [
            fn -> Typhon.call(scope, :f, [1]) end,
            fn -> Typhon.set(scope, :x, 1) end,
            fn -> Typhon.item(scope, :x) end,
            fn -> Typhon.stream(scope) end,
            fn -> Typhon.chain(scope, get: :x) end,
            fn -> Typhon.save(scope, "x.txt") end
          ],
          do: refused(takes, fun)

      refused("Typhon.put/4 takes a Typhon.Scope, got #Typhon.Object<", fn -> Typhon.put(object, :x, 1) end)
    end

    test "is none of what a function takes", %{py: py, object: object} do
      for {text, fun} <- [
            {"Typhon.enter/3 takes a Typhon.Object, got \"x\"", fn -> Typhon.enter("x", & &1) end},
            {"the function of Typhon.enter/3 must take one argument, which is what Python binds",
             fn -> Typhon.enter(object, fn -> 1 end) end},
            {"the function of Typhon.run/3 must take one argument, which is the session",
             fn -> Typhon.run(py, fn -> 1 end) end},
            {"Typhon.chain/3 takes a Typhon.Object, got nil", fn -> Typhon.chain(nil, get: :a) end},
            {"Typhon.chain/3 takes a Typhon.Object, got nil", fn -> Typhon.chain(nil) end},
            {~s|A method is called by call: {"head", [2]}|, fn -> Typhon.chain(object, head: [2]) end},
            {"Typhon.names/2 takes a Typhon.Scope, got #{inspect(py)}", fn -> Typhon.names(py) end},
            {"Typhon.put/4 takes a Typhon.Scope, got #{inspect(py)}", fn -> Typhon.put(py, :x, 1) end},
            {"Typhon.stream/2 takes a Typhon.Object, got [1]", fn -> Typhon.stream([1]) end},
            {"Typhon.type/1 takes a Typhon.Object, got 1", fn -> Typhon.type(1) end},
            {"Typhon.same?/2 takes a Typhon.Object, got 1", fn -> Typhon.same?(object, 1) end},
            {"Typhon.Array.to_list/1 takes a Typhon.Array", fn -> Typhon.Array.to_list([1]) end},
            {"Typhon.Array.to_nx/1 takes a Typhon.Array", fn -> Typhon.Array.to_nx([1]) end},
            {"Typhon.save/3 takes the object and then the path of the file",
             fn -> Typhon.save("x.txt", object) end},
            {"a step is added to a Typhon.Chain, which Typhon.chain/1 makes, got #Typhon.Object<",
             fn -> Typhon.Chain.get(object, :a) end},
            {"the module must be an atom or a string, got nil", fn -> Typhon.reload(py, nil) end},
            {"Typhon.await/2 takes a task, which Typhon.async/5 returns, got {:ok, 1}",
             fn -> Typhon.await({:ok, 1}) end},
            {"Typhon.bytes/1 takes a binary, got [1]", fn -> Typhon.bytes([1]) end},
            {"Typhon.buffer/1 takes a binary, got 1", fn -> Typhon.buffer(1) end}
          ],
          do: refused(text, fun)
    end

    test "is an argument of Python's among the options", %{py: py} do
      refused("has no option :weights. It takes :kwargs", fn -> Typhon.call(py, :m, :f, [], weights: [1]) end)

      refused("An argument that Python takes by this name is kwargs: [weights: …]", fn ->
        Typhon.call(py, :m, :f, [], weights: [1])
      end)
    end

    test "is a value where a name should be", %{py: py, object: object, scope: scope} do
      for value <- [nil, true, false] do
        name = ~s(got #{inspect(value)}. One that has this name is "#{inspect(value)}")
        refused(name, fn -> Typhon.put(scope, value, 1) end)
        refused(name, fn -> Typhon.get(scope, value) end)
        refused(name, fn -> Typhon.eval(py, "1", %{value => 1}) end)
        refused(name, fn -> Typhon.get(object, value) end)
        refused("a name in a chain must", fn -> Typhon.chain(object, get: value) end)
        assert {:error, error} = Typhon.eval(value, "1")

        assert Exception.message(error) =~
                 "#{value} is not a Typhon pool: expected the pid from Typhon.start_link/1"
      end

      assert Typhon.put(scope, "nil", 1) == :ok
      assert Typhon.get(scope, "nil") == {:ok, 1}
    end

    test "is an argument of a program that is no string", %{py: py} do
      refused("argv: must be a list of strings, got 1 among them", fn ->
        Typhon.exec_file(py, "x.py", argv: ["a", 1])
      end)
    end

    test "is a folder with other things in it as a virtualenv", %{dir: dir} do
      module(dir, "mine", "")

      assert {:error, %Typhon.StartError{message: message}} =
               Typhon.start_link(python: dir, workers: 1, isolation: :process, engine: :auto)

      assert message =~ ~s(made in it by: python3 -m venv #{dir}/.venv, and named by python: "#{dir}/.venv". )
    end
  end

  describe "a key that is an atom" do
    test "where Python has a str" do
      py = start_pool(workers: 1)
      {:ok, dict} = Typhon.call(py, :builtins, :dict, [%{"name" => 1}], as: :object)
      note = "The key is an atom in Elixir, which is typhon.Atom('name') in Python, and not the str 'name'."

      for fun <- [
            fn -> Typhon.item(dict, :name) end,
            fn -> Typhon.chain(dict, item: :name) end,
            fn -> Typhon.call(py, :operator, :getitem, [%{"name" => 1}, :name]) end
          ] do
        assert {:error, %PythonError{type: "KeyError"} = error} = fun.()
        assert Exception.message(error) =~ note
      end

      assert Typhon.item(dict, :name, values: :strings) == {:ok, 1}
      assert {:error, %PythonError{notes: []}} = Typhon.item(dict, "other")
    end
  end

  describe "an atom that was a float" do
    test "is one again by float()" do
      py = start_pool(workers: 1)

      for value <- [:nan, :infinity, :neg_infinity],
          do: assert(Typhon.call(py, :builtins, :float, [value]) == {:ok, value})

      note = "float(x) makes the float of such an atom"

      for fun <- [
            fn -> Typhon.call(py, :operator, :add, [1, :nan]) end,
            fn -> Typhon.call(py, :json, :dumps, [[1.5, :infinity]]) end,
            fn -> Typhon.eval(py, "max(rows)", rows: [1.5, :neg_infinity]) end,
            fn -> Typhon.eval(py, "x.is_integer()", x: :nan) end
          ] do
        assert {:error, %PythonError{} = error} = fun.()
        assert Exception.message(error) =~ note
        refute Exception.message(error) =~ "values: :strings"
      end

      assert {:error, error} = Typhon.call(py, :operator, :add, [1, :other])
      assert Exception.message(error) =~ "values: :strings"
      assert {:error, error} = Typhon.call(py, :builtins, :float, [:other])
      assert Exception.message(error) =~ "must be real number, not typhon.Atom"
      assert Exception.message(error) =~ "values: :strings"
    end

    # Where there are these.
    test "is one again by numpy and pandas" do
      py = start_pool(workers: 1)
      rows = [1.5, :nan, :infinity, :neg_infinity]

      if match?({:ok, _}, Typhon.call(py, :numpy, :array, [[1]])) do
        assert {:ok, array} = Typhon.call(py, :numpy, :array, [rows], kwargs: [dtype: "float64"])
        assert Typhon.Array.to_list(array) == rows
      end

      if match?({:ok, _}, Typhon.call(py, :pandas, :Series, [[1]])) do
        code = "import pandas; [float(x) for x in pandas.Series(rows).astype(float)]"
        assert Typhon.eval(py, code, rows: rows) == {:ok, rows}
      end
    end
  end

  describe "a struct that is of no use as its fields" do
    test "is refused with what to send" do
      py = start_pool(workers: 1)

      for {value, text} <- [
            {Stream.map([1], & &1), "Typhon.iter/1 sends its elements one by one"},
            {File.stream!("x.txt"), "Typhon.iter/1 sends its elements one by one"},
            {Date.range(~D[2026-01-01], ~D[2026-01-02]), "Typhon.iter/1 sends its elements one by one"},
            {~r/a/, "send its source (Regex.source/1)"},
            {Task.completed(1), "send what it comes to"}
          ] do
        assert {:error, %EncodeError{path: "args[0][0]", reason: reason}} = Typhon.call(py, :m, :f, [[value]])
        assert reason =~ text
        refute reason =~ "derive"
      end

      assert {:error, %EncodeError{reason: reason}} = Typhon.call(py, :m, :f, [URI.parse("http://a.org")])
      assert reason =~ "Protocol.derive(Typhon.Encoder, URI)"
      assert Typhon.call(py, :builtins, :list, [Typhon.iter(Stream.map([1], & &1))]) == {:ok, [1]}
    end
  end

  describe "the traceback of a stream" do
    test "begins in the user's code", %{dir: dir} do
      module(dir, "counts", """
      def failing():
          yield 1
          raise ValueError("late")

      async def failing_later():
          yield 1
          raise ValueError("late")

      def never():
          raise ValueError("at once")
      """)

      py = start_pool(workers: 1, python_path: [dir])

      for {function, line} <- [failing: 3, failing_later: 7, never: 10] do
        error =
          assert_raise(PythonError, fn -> py |> Typhon.stream(:counts, function, []) |> Enum.to_list() end)

        assert [%{file: file, line: ^line}] = error.traceback
        assert file =~ "counts.py"
        refute Exception.message(error) =~ "_stream.py"
      end

      # Nothing of the user's code has a frame.
      {:ok, int} = Typhon.get(py, :builtins, :int)

      for {module, function, args} <- [{:builtins, :map, [int, ["x"]]}, {:builtins, :int, [1]}] do
        error =
          assert_raise(PythonError, fn -> py |> Typhon.stream(module, function, args) |> Enum.to_list() end)

        assert [%{file: "<call>", function: "Typhon.stream"}] = error.traceback
      end
    end
  end
end
