defmodule TyphonTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{EncodeError, Object, PoolError, PythonError}

  # The examples that are left out look at processes.
  doctest Typhon,
    except:
      if(System.get_env("TYPHON_ISOLATION", "process") == "process",
        do: [],
        else: [info: 1, restart: 1, restart: 2]
      )

  setup_all do
    {:ok, py: start_link_for_all()}
  end

  # One pool for the tests that do not touch the pool itself.
  defp start_link_for_all do
    start_supervised!({Typhon, workers: 2, python_path: [py_dir()], stdio: :discard})
  end

  describe "call/4" do
    test "returns the result", %{py: py} do
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert Typhon.call(py, "math", "sqrt", [16]) == {:ok, 4.0}
    end

    test "finds functions by dotted names, in modules and in classes", %{py: py} do
      assert Typhon.call(py, "builtins", "str.join", [",", ["a", "b"]]) == {:ok, "a,b"}
      assert Typhon.call(py, "os.path", :join, ["a", "b"]) == {:ok, "a/b"}
      assert Typhon.call(py, :sample, "Group.Inner.twice", [4]) == {:ok, 8}
    end

    test "takes no, one and many arguments", %{py: py} do
      assert Typhon.call(py, :builtins, :int, []) == {:ok, 0}

      assert Typhon.call(py, :sample, :echo_all, Enum.to_list(1..300)) ==
               {:ok, {List.to_tuple(Enum.to_list(1..300)), %{}}}
    end

    test "returns what Python raised, with the traceback", %{py: py} do
      assert {:error, %PythonError{type: "ZeroDivisionError", message: "division by zero"}} =
               Typhon.call(py, :operator, :truediv, [1, 0])

      assert {:error, %PythonError{type: "ZeroDivisionError", traceback: frames} = error} =
               Typhon.call(py, :sample, :fail_deep, [2])

      assert [%{function: "fail_deep"}, %{function: "fail_deep"}, last] = frames
      assert last.source == "return 1 / 0"
      assert last.line > 0
      assert last.file == Path.join(py_dir(), "sample.py")

      text = Exception.message(error)
      assert String.starts_with?(text, "Traceback (most recent call last):\n  File \"#{last.file}\", line ")
      assert String.ends_with?(text, "ZeroDivisionError: division by zero")
    end

    test "names an exception by its module", %{py: py} do
      assert {:error, %PythonError{type: "sample.OwnError", message: "mine"}} =
               Typhon.call(py, :sample, :fail, ["mine"])
    end

    test "returns the chain of causes", %{py: py} do
      assert {:error, %PythonError{cause_kind: :cause, cause: cause} = error} =
               Typhon.call(py, :sample, :fail_with_cause, [])

      assert %PythonError{type: "KeyError", message: "'missing'", cause: nil, traceback: [_ | _]} = cause
      assert Exception.message(error) =~ "The above exception was the direct cause"

      assert {:error, %PythonError{cause_kind: :context, cause: %PythonError{type: "KeyError"}} = error} =
               Typhon.call(py, :sample, :fail_in_handler, [])

      assert Exception.message(error) =~ "During handling of the above exception"
    end

    test "returns notes", %{py: py} do
      assert {:error, %PythonError{notes: ["first note", "second note"]} = error} =
               Typhon.call(py, :sample, :fail_with_notes, [])

      assert Exception.message(error) =~ "first note\nsecond note"
    end

    test "survives exceptions of every sort", %{py: py} do
      assert {:error, %PythonError{type: "sample.Unprintable"}} =
               Typhon.call(py, :sample, :fail_unprintable, [])

      assert {:error, %PythonError{type: "ExceptionGroup"} = error} =
               Typhon.call(py, :sample, :fail_group, [])

      assert Exception.message(error) =~ "TypeError: b"
      assert {:error, %PythonError{type: "SystemExit"}} = Typhon.call(py, :sample, :exit_with, [3])
      assert {:error, %PythonError{type: "RecursionError"}} = Typhon.call(py, :sample, :recurse, [])
      assert Typhon.call(py, :math, :sqrt, [4]) == {:ok, 2.0}
    end

    test "a module or function that does not exist is Python's own error", %{py: py} do
      assert {:error, %PythonError{type: "ModuleNotFoundError", message: "No module named 'no_such_module'"}} =
               Typhon.call(py, :no_such_module, :f, [])

      assert {:error, %PythonError{type: "AttributeError", message: message}} =
               Typhon.call(py, :math, :no_such_function, [])

      assert message =~ "no_such_function"
      assert {:error, %PythonError{type: "TypeError"}} = Typhon.call(py, :math, :pi, [])

      assert {:error, %PythonError{type: "RuntimeError", message: "this module cannot be imported"}} =
               Typhon.call(py, :broken_module, :f, [])
    end

    test "refuses what is no call", %{py: py} do
      for {fun, text} <- [
            {fn -> Typhon.call(py, :math, :sqrt, 16) end,
             "the arguments must be a list, got 16. A single argument is [16]"},
            {fn -> Typhon.call(py, :math, :sqrt, [16 | 17]) end,
             "the arguments must be a list, got [16 | 17]. A single argument is [[16 | 17]]"},
            {fn -> Typhon.call(py, 1, :sqrt, []) end,
             "the module must be an atom, a string or a Typhon.Object, got 1"},
            {fn -> Typhon.call(py, nil, :sqrt, [16]) end,
             ~s|the module must be an atom, a string or a Typhon.Object, got nil. One that has this name is "nil"|},
            {fn -> Typhon.cast(py, true, :sqrt, [16]) end,
             ~s|the module must be an atom, a string or a Typhon.Object, got true. One that has this name is "true"|},
            {fn -> Typhon.multi(py, false, :sqrt, [[16]]) end,
             ~s|the module must be an atom, a string or a Typhon.Object, got false. One that has this name is "false"|},
            {fn -> Typhon.multi(py, [{:math, :sqrt, [16]}, {nil, :sqrt, [16]}]) end,
             ~s|the module must be an atom, a string or a Typhon.Object, got nil. One that has this name is "nil"|},
            {fn -> Typhon.run!(py, &Typhon.call(&1, nil, :sqrt, [16])) end,
             ~s|the module must be an atom, a string or a Typhon.Object, got nil. One that has this name is "nil"|},
            {fn -> Typhon.call(:no_such_pool, nil, :sqrt, [16]) end,
             ~s|the module must be an atom, a string or a Typhon.Object, got nil. One that has this name is "nil"|},
            {fn -> Typhon.call(py, :math, nil, []) end,
             ~s|the function must be an atom or a string, got nil. One that has this name is "nil"|},
            {fn -> Typhon.call(py, :math, {}, []) end, "the function must be an atom or a string, got {}"},
            {fn -> Typhon.call(py, :math, :sqrt, [16], kwarg: %{}) end,
             "Typhon.call/5 has no option :kwarg, did you mean :kwargs? It takes :kwargs, :timeout, :worker, :retry, " <>
               ":stdio, :keys, :values, :as"},
            {fn -> Typhon.cast(py, :math, :sqrt, 16) end,
             "the arguments must be a list, got 16. A single argument is [16]"}
          ] do
        assert Exception.message(assert_raise(ArgumentError, fun)) == text
      end
    end

    test "an improper list of arguments is refused on the short road, too", %{py: py} do
      assert_raise ArgumentError, fn -> Typhon.call(py, :math, :sqrt, [16 | 17]) end
    end

    test "leaves nothing in the mailbox", %{py: py} do
      for i <- 1..200, do: {:ok, ^i} = Typhon.call(py, :sample, :echo, [i])
      assert_mailbox_empty()
    end

    test "is not confused by what is in the mailbox", %{py: py} do
      for i <- 1..1_000, do: send(self(), {make_ref(), {:ok, i}})
      assert Typhon.call(py, :time, :sleep, [0.01]) == {:ok, nil}
      assert {:message_queue_len, 1_000} = Process.info(self(), :message_queue_len)
    end
  end

  describe "call/5" do
    test "passes keyword arguments, as a map or a list, by atoms or strings", %{py: py} do
      assert Typhon.call(py, :statistics, :fmean, [[1, 2]], kwargs: %{weights: [1, 3]}, timeout: 5_000) ==
               {:ok, 1.75}

      for kwargs <- [%{"a" => 1, "b" => nil}, %{a: 1, b: nil}, [a: 1, b: nil]] do
        assert Typhon.call(py, :sample, :echo_all, [], kwargs: kwargs) ==
                 {:ok, {{}, %{"a" => 1, "b" => nil}}}
      end

      for kwargs <- [%{}, []] do
        assert Typhon.call(py, :sample, :echo_all, [1], kwargs: kwargs) == {:ok, {{1}, %{}}}
      end
    end

    test "timeout may be :infinity", %{py: py} do
      assert Typhon.call(py, :math, :sqrt, [16], timeout: :infinity) == {:ok, 4.0}
    end
  end

  describe "call!/4 and call!/5" do
    test "return the value", %{py: py} do
      assert Typhon.call!(py, :math, :sqrt, [16]) == 4.0
      assert Typhon.call!(py, :builtins, :int, ["ff"], kwargs: [base: 16]) == 255
    end

    test "raise the exception", %{py: py} do
      assert_raise PythonError, ~r/ZeroDivisionError: division by zero$/, fn ->
        Typhon.call!(py, :operator, :truediv, [1, 0])
      end

      assert_raise PoolError, fn -> Typhon.call!(:no_such_pool, :math, :sqrt, [16]) end
    end
  end

  describe "cast/4 and cast/5" do
    test "run the function", %{py: _} do
      py = start_pool()
      assert Typhon.cast(py, :sample, :put, ["k", 1]) == :ok
      assert Typhon.cast(py, :sample, :put, [], kwargs: %{key: "l", value: 2}) == :ok
      # One worker: in order.
      assert Typhon.call(py, :sample, :get, ["k"]) == {:ok, 1}
      assert Typhon.call(py, :sample, :get, ["l"]) == {:ok, 2}
      assert_mailbox_empty()
    end

    test "an exception is logged, and the worker goes on" do
      log =
        ExUnit.CaptureLog.capture_log(fn ->
          py = start_pool()
          assert Typhon.cast(py, :operator, :truediv, [1, 0]) == :ok
          assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
          await_logged(py)
        end)

      assert log =~ "ZeroDivisionError: division by zero"
      assert_mailbox_empty()
    end

    test "a pool that does not exist", %{py: _} do
      assert {:error, %PoolError{reason: :not_found}} = Typhon.cast(:no_such_pool, :a, :b, [])
    end
  end

  describe "objects" do
    test "stay in Python; methods and attributes are reached through the handle" do
      py = start_pool(workers: 2)
      {:ok, counter} = Typhon.call(py, :sample, :Counter, [10])
      assert %Object{type: "sample.Counter"} = counter
      assert inspect(counter) == "#Typhon.Object<sample.Counter>"

      # With two workers, each call finds the one that has the object.
      for i <- 11..40, do: assert(Typhon.call(py, counter, :add, []) == {:ok, i})
      assert Typhon.call(py, counter, "add", [], kwargs: %{n: 5}) == {:ok, 45}
      assert Typhon.call(py, :sample, :value_of, [counter]) == {:ok, 45}
      assert {:ok, [%Object{}, %{"same" => %Object{}}]} = Typhon.call(py, :sample, :pair_of, [counter])
      assert {:ok, %Object{} = same} = Typhon.call(py, counter, :myself, [])
      assert Typhon.call(py, same, :add, []) == {:ok, 46}
    end

    test "are released when Elixir drops the last handle" do
      py = start_pool()

      fn ->
        for i <- 1..50, do: {:ok, %Object{}} = Typhon.call(py, :sample, :Counter, [i])
      end
      |> Task.async()
      |> await()

      eventually(fn ->
        :erlang.garbage_collect()
        Typhon.call(py, :sample, :counters_alive, []) == {:ok, 0}
      end)
    end

    @tag :several_workers
    test "of two workers cannot meet in one call" do
      py = start_pool(workers: 2)

      # Calls at the same time run on both workers.
      handles =
        eventually(fn ->
          1..4
          |> Enum.map(fn _ -> Task.async(Typhon, :call!, [py, :sample, :slow_counter, []]) end)
          |> await_many()
          |> Enum.uniq_by(&Typhon.call!(py, :sample, :pid_with, [&1]))
          |> then(&if(length(&1) == 2, do: &1))
        end)

      assert {:error, %EncodeError{} = error} = Typhon.call(py, :sample, :echo_all, handles)
      assert Exception.message(error) =~ "different workers"
    end

    @tag :os_process
    test "of a worker that is gone are an error" do
      py = start_pool()
      {:ok, counter} = Typhon.call(py, :sample, :Counter, [])
      os_pid = worker(py).os_pid
      kill(os_pid, "KILL")
      eventually(fn -> match?(%{state: :ready, restarts: 1}, worker(py)) end)
      assert {:error, %Typhon.WorkerError{}} = Typhon.call(py, counter, :add, [])
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end
  end

  describe "names" do
    test "an atom, {:global, _} and {:via, _, _}" do
      start_supervised!({Registry, keys: :unique, name: Typhon.TestRegistry})

      for name <- [
            Typhon.NamedPool,
            {:global, :typhon_named},
            {:via, Registry, {Typhon.TestRegistry, :py}}
          ] do
        pid = start_pool(name: name)
        assert Typhon.call(name, :math, :sqrt, [16]) == {:ok, 4.0}
        assert Typhon.call(pid, :math, :sqrt, [16]) == {:ok, 4.0}
        assert {:error, {:already_started, ^pid}} = Typhon.start_link(name: name)
        assert Typhon.stop(name) == :ok
        assert {:error, %PoolError{pool: ^name, reason: :not_found}} = Typhon.call(name, :math, :sqrt, [16])
      end
    end

    test "what is no pool is an error" do
      assert {:error, %PoolError{reason: :not_found}} = Typhon.call(:no_such_pool, :math, :sqrt, [16])
      assert {:error, %PoolError{reason: :stopped}} = Typhon.call(self(), :math, :sqrt, [16])
      assert {:error, %PoolError{reason: :not_a_pool}} = Typhon.call(:code_server, :math, :sqrt, [16])
      assert {:error, %PoolError{reason: :invalid}} = Typhon.call("py", :math, :sqrt, [16])
      assert {:error, %PoolError{reason: :not_found}} = Typhon.stop(:no_such_pool)
      assert {:error, %PoolError{reason: :not_found}} = Typhon.info(:no_such_pool)
    end
  end

  describe "builtins that look into the namespace of their caller" do
    test "exec and eval have one of their own, like a program's", %{py: py} do
      code = """
      from math import sqrt
      import __main__
      def roots(numbers):
          return [sqrt(number) for number in numbers]
      __main__.found = list(sqrt(number) for number in roots([16, 81])), __name__
      global leaked
      leaked = 1
      """

      assert Typhon.call(py, :builtins, :exec, [code]) == {:ok, nil}

      assert Typhon.call(py, :builtins, :eval, ["__import__('__main__').found"]) ==
               {:ok, {[2.0, 3.0], "__main__"}}

      names = ~w(__annotations__ __builtins__ __doc__ __loader__ __name__ __package__ __spec__)
      assert Typhon.call(py, :builtins, :eval, ["sorted(globals())"]) == {:ok, names}
      assert Typhon.call(py, :builtins, :dir, []) == {:ok, names}

      assert {:ok, %{"__name__" => "__main__"}} =
               Typhon.call(py, :builtins, :eval, ["{'__name__': __name__}"])

      # None is none; one that is given is used.
      assert Typhon.call(py, :builtins, :eval, ["a + len(dir())", %{"a" => 40}, %{"b" => 1}]) == {:ok, 41}
      assert Typhon.call(py, :builtins, :eval, ["b", nil, %{"b" => 2}]) == {:ok, 2}
      assert {:ok, attributes} = Typhon.call(py, :builtins, :dir, [1])
      assert "bit_length" in attributes
    end

    test "and so have those of a batch, a stream, a thread", %{py: py} do
      calls = [["globals().setdefault('x', 1)"], ["globals().get('x')"]]
      assert Typhon.multi(py, :builtins, :eval, calls) == [ok: 1, ok: nil]
      each = for [code] <- calls, do: {:builtins, :eval, [code]}
      assert Typhon.multi(py, each) == [ok: 1, ok: nil]

      assert py |> Typhon.stream(:builtins, :eval, ["(a for a in [__name__])"]) |> Enum.to_list() == [
               "__main__"
             ]

      threads = start_pool(concurrency: 2)
      assert Typhon.call(threads, :builtins, :eval, ["__name__"]) == {:ok, "__main__"}
    end

    test "what they raise is told without a frame of Typhon's", %{py: py} do
      assert {:error, %PythonError{} = error} = Typhon.call(py, :builtins, :exec, ["\n1 / 0"])
      assert [%{file: "<string>", line: 2, function: "<module>"}] = error.traceback
      refute error.text =~ "_namespace"
      assert {:error, %PythonError{type: "TypeError"}} = Typhon.call(py, :builtins, :exec, [])
    end
  end

  describe "info/1" do
    @tag :several_workers
    test "lists the workers", %{py: py} do
      assert {:ok, %{pid: ^py, isolation: isolation, workers: [first, second]}} = Typhon.info(py)
      assert isolation == Application.fetch_env!(:typhon, :isolation)
      assert %{index: 0, state: :ready, os_pid: os_pid, restarts: 0, python: "3." <> _} = first
      assert os_process?(os_pid)
      assert second.index == 1
      assert second.os_pid != os_pid or isolation == :interpreter
      assert File.exists?(first.executable)
    end
  end

  describe "options of the workers" do
    test "python_path, env, cd" do
      dir = new_path("cd")
      File.mkdir_p!(Path.join(dir, "lib"))
      on_exit(fn -> File.rm_rf!(dir) end)
      File.write!(Path.join(dir, "lib/local_module.py"), "def answer():\n    return 42\n")
      System.put_env("TYPHON_TEST_INHERITED", "yes")
      System.put_env("TYPHON_TEST_UNSET", "yes")

      py =
        start_pool(
          cd: dir,
          python_path: ["lib", py_dir()],
          env: %{"TYPHON_TEST_SET" => "wért", TYPHON_TEST_UNSET: nil}
        )

      assert Typhon.call(py, :local_module, :answer, []) == {:ok, 42}
      assert Typhon.call(py, :sample, :cwd, []) == {:ok, dir}
      assert Typhon.call(py, :sample, :environment, ["TYPHON_TEST_SET"]) == {:ok, "wért"}
      assert Typhon.call(py, :sample, :environment, ["TYPHON_TEST_INHERITED"]) == {:ok, "yes"}
      assert Typhon.call(py, :sample, :environment, ["TYPHON_TEST_UNSET"]) == {:ok, nil}

      {:ok, path} = Typhon.call(py, :sample, :sys_path, [])
      assert [_package, lib, tests | others] = path
      assert "" not in others
      assert lib == Path.join(dir, "lib")
      assert tests == py_dir()
    end

    test "a file in the current directory stands in for no module" do
      dir = new_path("cd")
      File.mkdir_p!(dir)
      on_exit(fn -> File.rm_rf!(dir) end)

      for name <- ~w(random logging queue typing local_module),
          do: File.write!(Path.join(dir, "#{name}.py"), "1 / 0\n")

      py = start_pool(cd: dir)
      assert Typhon.call(py, :random, "Random.__name__.upper", []) == {:ok, "RANDOM"}
      assert Typhon.call(py, :logging, :getLevelName, [30]) == {:ok, "WARNING"}
      assert {:error, %PythonError{type: "ModuleNotFoundError"}} = Typhon.call(py, :local_module, :f, [])
      # Unless that is what is asked for.
      py = start_pool(cd: dir, python_path: ["."])
      assert {:error, %PythonError{type: "ZeroDivisionError"}} = Typhon.call(py, :local_module, :f, [])
    end

    test "user code does not see the control pipe", %{py: py} do
      assert Typhon.call(py, :sample, :stdin_is_empty, []) == {:ok, ""}
      assert Typhon.call(py, :sys, "argv.__len__", []) == {:ok, 1}
    end

    test "a virtualenv" do
      [{python, _} | _] = supported_pythons()
      dir = new_path("venv")
      on_exit(fn -> File.rm_rf!(dir) end)
      {_, 0} = System.cmd(python, ["-m", "venv", "--without-pip", dir])

      py = start_pool(python: dir)
      {:ok, {executable, prefix, base}} = Typhon.call(py, :sample, :interpreter, [])
      assert executable == Path.join(dir, "bin/python")
      assert prefix == dir
      refute base == dir
    end

    test "atoms" do
      name = "typhon_unheard_of_#{System.unique_integer([:positive])}"
      py = start_pool(atoms: :existing)
      assert {:error, error} = Typhon.call(py, :sample, :atom, [name])
      assert Exception.message(error) =~ name
      assert Exception.message(error) =~ "atoms: :create"

      py = start_pool(atoms: :create)
      assert {:ok, atom} = Typhon.call(py, :sample, :atom, [name])
      assert Atom.to_string(atom) == name
    end

    test "atoms that Python brings do not fill the VM's table" do
      script = """
      {:ok, py} = Typhon.start_link(atoms: :create, workers: 2, python_path: [#{inspect(py_dir())}], stdio: :discard)
      bring = fn letter, i -> Typhon.call(py, :sample, :atoms, [letter, i * 1_000, 1_000]) end
      results = for letter <- ["a", "名"], i <- 1..60, do: bring.(letter, i)
      {:error, error} = Enum.find(results, &match?({:error, _}, &1))
      brought = Enum.count(results, &match?({:ok, _}, &1))
      {:ok, known} = bring.("a", 1)
      IO.puts("brought \#{brought} known \#{length(known)} \#{Exception.message(error)}")
      IO.puts(inspect(Typhon.call(py, :operator, :add, [1, 2])))
      """

      {text, 0} = vm(script, [{"ERL_FLAGS", "+t 65536"}])
      assert [_, brought, message] = Regex.run(~r/brought (\d+) known 1000 (.*)/, text)
      assert String.to_integer(brought) in 10..40
      assert message =~ "half of the room in the atom table"
      assert text =~ "{:ok, 3}"
    end

    test "spin and ring_size" do
      py = start_pool(spin: 0, ring_size: 65_536)
      assert Typhon.call(py, :sample, :echo, [1]) == {:ok, 1}
      assert Typhon.call(py, :sample, :echo, [Enum.to_list(1..10_000)]) == {:ok, Enum.to_list(1..10_000)}
    end
  end
end
