defmodule Typhon.StartTest do
  # Not async: counts file descriptors and processes of the whole BEAM.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.StartError

  setup do
    dir = new_path("start")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    {:ok, dir: dir}
  end

  # Else each start of a worker would compile it, where priv/ cannot be written to.
  test "the build has made the bytecode of what a worker imports, for the default Python" do
    package = Application.app_dir(:typhon, "priv/python/typhon")
    code = "import importlib.util, sys; print(importlib.util.cache_from_source(sys.argv[1]))"

    for module <- ["__init__", "_worker", "_io", "_embedded"] do
      {file, 0} = System.cmd("python3", ["-c", code, Path.join(package, module <> ".py")])
      # PEP 552: made from this source, whatever the files' times are.
      assert <<_magic::32, 3::32-little, _hash::64, _code::binary>> = file |> String.trim() |> File.read!()
    end
  end

  # A program in the place of Python.
  defp program(dir, script) do
    path = Path.join(dir, "python")
    File.write!(path, "#!/bin/sh\n" <> script)
    File.chmod!(path, 0o755)
    path
  end

  defp start(options) do
    before = {memfds(), length(Process.list()), length(Port.list())}
    result = Typhon.start_link(Keyword.merge([workers: 1, stdio: :discard], options))

    with {:error, %StartError{}} <- result do
      # Whoever traps exits would find the signal here.
      assert_mailbox_empty()
      # The registry closes channels of workers that are gone; the memory follows.
      eventually(fn ->
        :erlang.garbage_collect()
        {memfds, processes, ports} = before
        memfds() <= memfds and length(Process.list()) <= processes and length(Port.list()) <= ports
      end)
    end

    result
  end

  describe "start_link/1 returns a StartError" do
    test "when there is no such Python" do
      assert {:error, %StartError{reason: :python_not_found, message: message}} = start(python: "python9")
      assert message =~ ~s|there is no Python "python9". Looked for python9 on the PATH|
    end

    test "when there is no such virtualenv, with the folder and the command that makes it", %{dir: dir} do
      venv = Path.join(dir, ".venv")
      advice = "A virtualenv is made there by: python3 -m venv #{venv}. "

      assert {:error, %StartError{reason: :python_not_found, message: message}} =
               start(python: ".venv", cd: dir)

      assert message =~ "Looked for a virtualenv in #{venv} (there is no such folder), .venv on the PATH ("
      assert message =~ advice

      # By its path, by its interpreter's, and a folder that has none.
      for {python, looked} <- [{"./.venv", venv}, {".venv/bin/python3", Path.join(venv, "bin/python3")}] do
        assert {:error, %StartError{message: message}} = start(python: python, cd: dir)
        assert message =~ "Looked for #{looked}. #{advice}"
      end

      File.mkdir_p!(Path.join(venv, "bin"))
      assert {:error, %StartError{message: message}} = start(python: ".venv", cd: dir)
      assert message =~ advice

      # The Python that it was made with is gone.
      File.touch!(Path.join(venv, "pyvenv.cfg"))
      File.ln_s!("/no/python3.9", Path.join(venv, "bin/python"))
      assert {:error, %StartError{message: message}} = start(python: venv)
      assert message =~ "#{venv}/bin/python (a link to /no/python3.9, which is gone)"
      assert message =~ "python3 -m venv --clear #{venv}. "

      # No advice where a command is meant, or a folder that is none.
      for python <- ["python9", "/usr/bin/python9", "snake"] do
        assert {:error, %StartError{message: message}} = start(python: python)
        refute message =~ "-m venv"
      end
    end

    test "when the program is no Python, before it is shown what a Python gets" do
      for path <- ["/bin/ls", "/bin/cat", "/bin/sh"], options <- [[], [isolation: :interpreter]] do
        assert {:error, %StartError{reason: :not_python, python: ^path, output: []} = error} =
                 start([python: path] ++ options)

        message = Exception.message(error)

        assert message =~
                 ~r/^python: #{path} is not a Python. Asked for its --version it (said|exited with status 2)/

        refute message =~ "import"
      end
    end

    test "when a directory of python_path does not exist, or is a file", %{dir: dir} do
      missing = Path.join(dir, "py")

      assert {:error, %StartError{reason: :bad_path} = error} = start(python_path: ["py"], cd: dir)

      assert Exception.message(error) =~
               "python_path: the directory #{missing} does not exist. In a release, "

      # Relative to the VM's directory it would be there.
      assert {:error, %StartError{} = error} = start(python_path: ["test/support/py"], cd: dir)
      assert Exception.message(error) =~ "relative to cd:, and there is #{py_dir()}. "

      file = Path.join(dir, "mod.py")
      File.touch!(file)
      assert {:error, %StartError{reason: :bad_path} = error} = start(python_path: [file])

      assert Exception.message(error) ==
               "python_path: #{file} is a file. Name the directory that it is in: #{dir}"
    end

    test "python_path may hold archives", %{dir: dir} do
      {:ok, _} = :zip.create(~c"#{dir}/lib.zip", [{~c"zipped.py", "def answer(): return 42\n"}])
      py = start_pool(python_path: [Path.join(dir, "lib.zip")])
      assert Typhon.call(py, :zipped, :answer, []) == {:ok, 42}
    end

    test "when there is no /proc", %{dir: dir} do
      assert Typhon.Worker.Proc.shares_memory() == :ok
      assert {:error, message} = Typhon.Worker.Proc.shares_memory(dir)

      assert message =~
               "through #{dir}/#{System.pid()}/fd, which is not there. Mount it: mount -t proc proc #{dir}."

      File.mkdir_p!(Path.join(dir, "1"))
      assert {:error, message} = Typhon.Worker.Proc.shares_memory(dir)
      assert message =~ "#{dir} belongs to other processes than this VM's"
    end

    test "when cd does not exist" do
      assert {:error, %StartError{reason: :bad_cd} = error} = start(cd: "/no/such/dir")
      assert Exception.message(error) == "cd: the directory /no/such/dir does not exist"
    end

    test "when the interpreter cannot be executed", %{dir: dir} do
      path = Path.join(dir, "python")
      File.write!(path, <<0x7F, "ELF no program">>)
      File.chmod!(path, 0o755)
      assert {:error, %StartError{reason: reason, message: message}} = start(python: path)
      assert reason in [:cannot_execute, :exit]
      assert message =~ path
    end

    test "when Python is too old" do
      for {path, version} <- old_pythons() do
        assert {:error, %StartError{reason: :python_too_old} = error} = start(python: path)
        assert Exception.message(error) =~ "Typhon needs Python 3.11 or newer, and "
        assert Exception.message(error) =~ "is Python #{version}"
      end
    end

    @tag :os_process
    test "when Python ends at once, with what it printed", %{dir: dir} do
      path = program(dir, "echo one; echo two >&2; exit 3\n")

      assert {:error,
              %StartError{reason: :exit, output: ["one", "two"], program: ^path, python: ^path} = error} =
               start(python: path)

      assert Exception.message(error) ==
               "#{path} exited with status 3 before it was ready. Its last output:\n    one\n    two"
    end

    @tag :os_process
    test "when Python is ended by a signal", %{dir: dir} do
      path = program(dir, "kill -SEGV $$\n")
      assert {:error, %StartError{reason: :exit, message: message}} = start(python: path)
      assert message == "#{path} was ended by SIGSEGV before it was ready"
    end

    @tag :os_process
    test "when the native module cannot be loaded", %{dir: dir} do
      path = program(dir, "echo 'typhon: the native module cannot be loaded: x'; exit 97\n")

      assert {:error, %StartError{reason: :native_load_failed} = error} = start(python: path)
      assert Exception.message(error) =~ "#{path} could not load Typhon's native module. Its last output"
    end

    @tag :os_process
    test "when the channel cannot be attached", %{dir: dir} do
      path = program(dir, "exit 98\n")
      assert {:error, %StartError{reason: :channel_failed}} = start(python: path)
    end

    @tag :os_process
    test "when it is not ready in time, and the process is gone", %{dir: dir} do
      pid_file = Path.join(dir, "pid")
      path = program(dir, "echo $$ > #{pid_file}; echo waiting; exec sleep 1000\n")

      os_pid =
        in_time(300, fn timeout ->
          assert {:error, %StartError{reason: :timeout} = error} = start(python: path, start_timeout: timeout)
          assert Exception.message(error) =~ "#{path} was not ready within start_timeout: #{timeout} ms"
          first_line(pid_file)
        end)

      eventually(fn -> not os_process?(os_pid) end)
    end

    @tag :os_process
    test "when one worker of several cannot be started", %{dir: dir} do
      # mkdir succeeds for one of them only.
      python = System.find_executable("python3")

      path = program(dir, "if mkdir #{dir}/first 2>/dev/null; then exec #{python} \"$@\"; else exit 4; fi\n")

      assert {:error, %StartError{reason: :exit, message: message}} = start(python: path, workers: 3)
      assert message =~ "exited with status 4"
    end

    @tag :os_process
    test "also to a process that traps exits" do
      Process.flag(:trap_exit, true)
      assert {:error, %StartError{}} = start(python: "/bin/false")
      assert_mailbox_empty()
    end
  end

  describe "in a BEAM of its own, start_link/1 says" do
    defp beam(code, environment \\ []) do
      paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])
      {output, 0} = System.cmd("elixir", paths ++ ["-e", code], env: environment, stderr_to_stdout: true)
      output
    end

    test "that the application is not running" do
      output =
        beam("""
        {:error, error} = Typhon.start_link([])
        IO.puts(Exception.message(error))
        {:error, error} = Typhon.call(:py, :math, :sqrt, [16])
        IO.puts(Exception.message(error))
        """)

      sentence =
        "the application :typhon is not running. Start it with Application.ensure_all_started(:typhon)"

      assert output == "#{sentence}\n#{sentence}\n"
    end

    test "that the native library cannot be loaded", %{dir: dir} do
      # A copy of the application without its priv directory.
      File.mkdir_p!(Path.join(dir, "typhon/ebin"))
      File.cp_r!(:code.lib_dir(:typhon) |> Path.join("ebin"), Path.join(dir, "typhon/ebin"))

      output =
        beam("""
        Code.prepend_path(#{inspect(Path.join(dir, "typhon/ebin"))})
        {:ok, _} = Application.ensure_all_started(:typhon)
        {:error, error} = Typhon.start_link([])
        IO.inspect(error.reason)
        IO.puts(Exception.message(error))
        """)

      assert output =~
               ":nif_not_loaded\nTyphon's native library could not be loaded: Failed to load NIF library"

      assert output =~ "mix compile"
    end

    test "that an escript cannot hold what it needs", %{dir: dir} do
      script = Path.join(dir, "typhon-escript")

      main = """
      -module(typhon_escript).
      -export([main/1]).
      main(_) ->
        {ok, _} = application:ensure_all_started(typhon),
        {error, Error} = 'Elixir.Typhon':start_link([]),
        io:put_chars('Elixir.Exception':message(Error)).
      """

      File.write!(Path.join(dir, "typhon_escript.erl"), main)
      {:ok, :typhon_escript, beam} = :compile.file(~c"#{dir}/typhon_escript.erl", [:binary])

      files =
        for path <- Path.wildcard(Path.join(:code.lib_dir(:typhon), "ebin/*")),
            do: {~c"typhon/ebin/#{Path.basename(path)}", File.read!(path)}

      paths = for app <- [:elixir, :logger], do: " -pa #{:code.lib_dir(app)}/ebin"

      :ok =
        :escript.create(~c"#{script}", [
          :shebang,
          {:emu_args, ~c"-escript main typhon_escript#{paths}"},
          {:archive, [{~c"typhon_escript.beam", beam} | files], []}
        ])

      {output, 0} = System.cmd("escript", [script], stderr_to_stdout: true)
      assert output =~ "Typhon cannot run from #{script}, which is an escript or another archive"
      assert output =~ "mix release"
    end
  end

  # Else they would be while the first pool starts.
  test "the application's modules are loaded without anybody who calls them" do
    {output, 0} =
      vm("""
      {:ok, modules} = :application.get_key(:typhon, :modules)
      loaded? = fn -> Enum.all?(modules, &:code.is_loaded/1) end
      IO.write(Enum.any?(1..#{limit()}//10, fn _ -> loaded?.() or (Process.sleep(10) && false) end))
      """)

    assert output == "true"
  end

  describe "start_link/1" do
    test "raises on wrong options" do
      assert_raise ArgumentError, fn -> Typhon.start_link(workers: -1) end
    end

    test "starts all workers" do
      py = start_pool(workers: 4)
      assert {:ok, %{workers: workers}} = Typhon.info(py)
      assert Enum.map(workers, & &1.state) == List.duplicate(:ready, 4)
    end

    for {path, version} <- Typhon.TestHelper.supported_pythons() do
      @path path
      test "works with Python #{version}" do
        py = start_pool(python: @path)
        assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
        term = %{"a" => [1, 2.5, {nil, true}, "ü", -(2 ** 100)], 1 => ~D[2026-02-28]}
        assert Typhon.call(py, :sample, :echo, [term]) == {:ok, term}

        assert {:error, %Typhon.PythonError{type: "ZeroDivisionError"}} =
                 Typhon.call(py, :sample, :fail_deep, [3])

        assert {:error, %Typhon.TimeoutError{}} = Typhon.call(py, :sample, :sleep, [60], timeout: 20)
        assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
        assert worker(py).restarts == 0
        assert Typhon.stop(py) == :ok
      end
    end
  end
end
