defmodule Typhon.InterpreterTest do
  use ExUnit.Case, async: true

  alias Typhon.Language.Python
  alias Typhon.StartError

  doctest Typhon.Env

  setup do
    dir = Typhon.TestHelper.new_path()
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    {:ok, dir: dir}
  end

  defp executable(path) do
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, "#!/bin/sh\n")
    File.chmod!(path, 0o755)
    path
  end

  test "a program that is asked and does not end, or says too much, is ended", %{dir: dir} do
    for {script, answer} <- [{"exec sleep 600", :timeout}, {"exec yes", {:error, :too_much}}] do
      path = executable(Path.join(dir, "python"))
      File.write!(path, "#!/bin/sh\necho $$ > #{dir}/pid\n#{script}\n")
      timeout = if answer == :timeout, do: 1_000, else: Typhon.TestHelper.limit()
      assert Typhon.Program.run(path, ["--version"], timeout) == answer
      os_pid = dir |> Path.join("pid") |> File.read!() |> String.trim()
      Typhon.TestHelper.eventually(fn -> not File.exists?("/proc/#{os_pid}") end)
    end

    refute_received _
  end

  test "a command on the PATH" do
    assert {:ok, path} = Python.find("python3", "/")
    assert path == System.find_executable("python3")
  end

  test "a path, absolute or relative to cd", %{dir: dir} do
    path = executable(Path.join(dir, "py/mine"))
    assert Python.find(path, "/") == {:ok, path}
    assert Python.find("py/mine", dir) == {:ok, path}
    assert Python.find("./py/mine", dir) == {:ok, path}
  end

  test "a virtualenv, with or without a slash", %{dir: dir} do
    path = executable(Path.join(dir, ".venv/bin/python"))
    assert Python.find(Path.join(dir, ".venv"), "/") == {:ok, path}
    assert Python.find(".venv", dir) == {:ok, path}
    assert Python.find("./.venv/", dir) == {:ok, path}
  end

  test "a virtualenv with python3 alone", %{dir: dir} do
    path = executable(Path.join(dir, "env/bin/python3"))
    assert Python.find("env", dir) == {:ok, path}
  end

  test "says where it looked", %{dir: dir} do
    assert {:error, %StartError{reason: :python_not_found, message: message}} =
             Python.find("no-such-python", dir)

    assert message =~ ~s|there is no Python "no-such-python". Looked for no-such-python on the PATH (/|

    File.mkdir_p!(Path.join(dir, "empty"))
    assert {:error, %StartError{message: message}} = Python.find("./empty", dir)
    assert message =~ "Looked for #{dir}/empty/bin/python, #{dir}/empty/bin/python3."

    assert {:error, %StartError{message: message}} = Python.find("./missing", dir)
    assert message =~ "Looked for #{dir}/missing."
  end

  test "says that a file is not executable", %{dir: dir} do
    File.write!(Path.join(dir, "py"), "")
    assert {:error, %StartError{message: message}} = Python.find("./py", dir)
    assert message =~ "#{dir}/py (not executable)"
  end
end
