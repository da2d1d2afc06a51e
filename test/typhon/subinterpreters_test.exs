defmodule Typhon.SubinterpretersTest do
  # Not async: how many interpreters the VM has.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.{PythonError, TimeoutError}

  @pythons for {path, version} <- pythons(), Version.match?(version, ">= 3.12.0"), do: {path, version}
  @older Enum.find(pythons(), fn {_, version} -> Version.match?(version, "~> 3.11.0") end)

  defp subs, do: Typhon.Env.capacity().subinterpreters

  defp sub(options), do: start_pool([isolation: :interpreter, engine: :subinterpreters] ++ options)

  defp python(py, expression, options \\ []),
    do: Typhon.call(py, :builtins, :eval, [expression], options)

  # `body` is one line of statements, which leave what they find in `found`.
  defp run(py, body) do
    {:ok, result} =
      Typhon.call(py, :builtins, :eval, ["(lambda n: (exec(#{inspect(body)}, n), n['found'])[1])({})"])

    result
  end

  test "there is a Python that has them: these tests are of no use otherwise" do
    assert @pythons != []
  end

  # Where there is one: Debian 13 has none.
  if @older do
    test "a Python that has none says so" do
      {path, version} = @older

      assert {:error, %Typhon.StartError{reason: :no_engine} = error} =
               Typhon.start_link(python: path, isolation: :interpreter, engine: :subinterpreters)

      assert Exception.message(error) =~
               "came with Python 3.12, and this is #{version}; engine: :namespaces runs it"

      assert {:ok, %{engines: %{subinterpreters: {:error, _}, namespaces: {:ok, _}}}} =
               Typhon.Env.describe(path)
    end
  end

  for {path, version} <- @pythons do
    describe "Python #{version}" do
      @describetag python: path

      test "has more of them than there can be namespaces, all in one", %{python: path} do
        hosts = Typhon.Env.capacity().namespaces.hosts
        py = sub(python: path, workers: 20)
        assert Typhon.Env.capacity().namespaces.hosts <= hosts + 1
        assert subs().busy >= 20

        # Each has modules, a main thread and a GIL of its own.
        meet = fn _ ->
          run(py, "import threading, time; time.sleep(0.3); found = threading.get_native_id()")
        end

        threads =
          1..20 |> Task.async_stream(meet, max_concurrency: 20, timeout: 60_000) |> Enum.map(&elem(&1, 1))

        assert threads |> Enum.uniq() |> length() == 20
        assert Typhon.stop(py) == :ok
        eventually(fn -> subs().busy == 0 end)
        used = subs().used
        py = sub(python: path, workers: 20)
        assert python(py, "2 + 2") == {:ok, 4}
        assert subs().used == used
      end

      test "extension modules without support are refused, and nothing has happened", %{python: path} do
        dir = new_path("extension")
        File.mkdir_p!(dir)
        on_exit(fn -> File.rm_rf!(dir) end)
        # One that would end the process, and one that is no library at all.
        File.write!(
          Path.join(dir, "c.c"),
          "#include <stdlib.h>\nvoid *PyInit_typhon_deadly(void) { abort(); }\n"
        )

        library = Path.join(dir, "typhon_deadly.so")
        {_, 0} = System.cmd("cc", ["-shared", "-fPIC", "-o", library, Path.join(dir, "c.c")])
        File.write!(Path.join(dir, "typhon_nothing.so"), "nothing")

        py = sub(python: path, python_path: [dir])

        for {module, reason} <- [typhon_deadly: "ended by signal 6", typhon_nothing: "typhon_nothing.so"],
            _ <- 1..2 do
          assert {:error, %PythonError{type: "ImportError"} = error} = python(py, "__import__('#{module}')")
          assert error.message =~ "#{module} cannot be imported in a sub-interpreter"
          assert error.message =~ reason
          assert error.message =~ "engine: :namespaces"
        end

        assert python(py, "__import__('json').dumps([1])") == {:ok, "[1]"}
        assert worker(py).restarts == 0
      end

      test "an array says why numpy does not run there, however it words that", %{python: path} do
        dir = new_path("numpy")
        File.mkdir_p!(dir)
        on_exit(fn -> File.rm_rf!(dir) end)
        File.write!(Path.join(dir, "typhon_core.so"), "nothing")

        File.write!(Path.join(dir, "numpy.py"), """
        try:
            import typhon_core
        except ImportError as error:
            raise ImportError("PLEASE READ THIS FOR ADVICE") from error
        """)

        py = sub(python: path, python_path: [dir])
        array = %Typhon.Array{shape: {1}, dtype: "|u1", data: <<1>>}

        assert {:error, %Typhon.EncodeError{path: "args[0]", reason: reason}} =
                 Typhon.call(py, :builtins, :len, [array])

        assert reason =~
                 "this Python needs numpy to receive a Typhon.Array, and cannot import it: ImportError: " <>
                   "typhon_core cannot be imported in a sub-interpreter ("

        assert reason =~ "engine: :namespaces has whole Pythons, in which it can"
      end

      test "extension modules that support it are imported", %{python: path} do
        dir = new_path("extension")
        File.mkdir_p!(dir)
        on_exit(fn -> File.rm_rf!(dir) end)
        find = "import _queue; print(_queue.__file__)"
        {file, 0} = System.cmd(path, ["-c", find])
        # As foreign as any: it does not lie where those of Python lie.
        copy = Path.join(dir, Path.basename(String.trim(file)))
        File.cp!(String.trim(file), copy)
        py = sub(python: path)

        load =
          "import importlib.util as u; s = u.spec_from_file_location('_queue', #{inspect(copy)}); " <>
            "m = u.module_from_spec(s); s.loader.exec_module(m); q = m.SimpleQueue(); q.put(2); found = (m.__file__, q.get())"

        assert run(py, load) == {copy, 2}
      end

      test "environment variables are each one's own, and its children's", %{python: path} do
        [a, b] = for value <- ~w(a b), do: sub(python: path, env: [{"TYPHON_SUB", value}])
        shell = "subprocess.check_output(['sh', '-c', 'echo $TYPHON_SUB'], text=True)"

        for {py, value} <- [{a, "a"}, {b, "b"}, {a, "a"}] do
          assert run(py, "import os, subprocess; found = (os.environ['TYPHON_SUB'], #{shell})") ==
                   {value, value <> "\n"}
        end

        assert run(a, "import os; os.environ['TYPHON_SUB'] = 'c'; found = os.system('[ $TYPHON_SUB = c ]')") ==
                 0

        assert run(a, "import os; found = os.waitstatus_to_exitcode(os.system('exit 3'))") == 3
        assert run(b, "import os; found = os.environ['TYPHON_SUB']") == "b"
      end

      test "what cannot be interrupted is set aside, and used again when it has ended", %{python: path} do
        py = sub(python: path, grace: 100)
        before = subs()
        gate = new_path("gate")
        {_, 0} = System.cmd("mkfifo", [gate])
        on_exit(fn -> File.rm(gate) end)
        # Opening the other end of a fifo waits until somebody opens this one.
        assert {:error, %TimeoutError{}} = python(py, "open(#{inspect(gate)}).read()", timeout: 50)
        assert python(py, "2 + 2", timeout: 30_000) == {:ok, 4}
        assert worker(py).restarts == 1
        assert subs().quarantined == before.quarantined + 1
        # Nobody may read it: open() returns, and then the call is cancelled.
        {_, _} = System.cmd("sh", ["-c", "echo done > #{gate}"], stderr_to_stdout: true)
        eventually(fn -> subs().quarantined == before.quarantined end)
      end

      test "the frames of all threads, which are other interpreters' too, are not to be had", %{python: path} do
        py = sub(python: path)

        assert {:error, %PythonError{type: "RuntimeError"} = error} =
                 python(py, "__import__('sys')._current_frames()")

        assert error.message =~ "isolation: :process"
      end

      test "asyncio, threads, and time.sleep in each of several at once", %{python: path} do
        py = sub(python: path, workers: 3, concurrency: 2)

        results =
          1..60
          |> Task.async_stream(&Typhon.call(py, :talk, :sleep, [0.01, &1], timeout: 30_000),
            max_concurrency: 30
          )
          |> Enum.map(fn {:ok, {:ok, n}} -> n end)

        assert results == Enum.to_list(1..60)
        assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :sleep, [600], timeout: 50)
        {:ok, %{workers: workers}} = Typhon.info(py)
        assert Enum.all?(workers, &(&1.restarts == 0))
      end
    end
  end
end
