defmodule Pythonx.UvTest do
  # It replaces the one Python.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Pythonx.TestHelper

  # What a project needs of uv, as a shell script: it says what it was told, and makes a virtualenv.
  @uv """
  #!/bin/sh
  env | grep -E '^(UV_|VIRTUAL_ENV=)' | sort
  echo "$@" in $(pwd -P)
  if grep -q unheard-of pyproject.toml; then echo "no solution found"; exit 2; fi
  exec python3 -m venv --without-pip .venv
  """

  @empty """
  [project]
  name = "project"
  version = "0.0.0"
  """

  setup do
    dir = Path.join(System.tmp_dir!(), "pythonx-uv-#{System.unique_integer([:positive])}-#{System.pid()}")
    File.mkdir_p!(dir)
    path = System.get_env("PATH")
    System.put_env("PYTHONX_CACHE_DIR", Path.join(dir, "cache"))

    on_exit(fn ->
      System.put_env("PATH", path)
      System.delete_env("PYTHONX_CACHE_DIR")
      Pythonx.Python.use!(nil)
      :persistent_term.erase({Pythonx.Project, :state})
      File.rm_rf!(dir)
    end)

    {:ok, dir: dir, path: path}
  end

  describe "without uv" do
    setup %{path: path} do
      folders = Enum.reject(String.split(path, ":"), &File.exists?(Path.join(&1, "uv")))
      System.put_env("PATH", Enum.join(folders, ":"))
    end

    test "the configured interpreter serves a project that needs no more than it has" do
      project = @empty <> ~s(requires-python = ">=3.11, <4"\ndependencies = []\n)
      assert Pythonx.uv_init(project) == :ok
      assert decoded("1 + 1") == 2
      assert Pythonx.install_paths() == []
    end

    test "and what it does not have is said, with what to do" do
      project =
        @empty <>
          ~s(requires-python = ">=3.99"\ndependencies = ["no-such-thing[all]>=2", "other==1; python_version < '3'"]\n)

      error = assert_raise(RuntimeError, fn -> Pythonx.uv_init(project) end)
      message = Exception.message(error)
      assert message =~ ~r/python\S* \(Python 3\.\d+\.\d+\) does not have what the project asks for/
      assert message =~ "  * Python >=3.99\n  * no-such-thing[all]>=2\n"
      assert message =~ "Either put uv on the PATH"
      assert message =~ "config :pythonx, python:"
      refute message =~ "other"

      assert_raise RuntimeError, ~r/Python 3.9 \(python: of uv_init/, fn ->
        Pythonx.uv_init(@empty, python: "3.9")
      end
    end

    test "a text that is no TOML is Python's error, and an unknown option ours" do
      assert_raise Pythonx.Error, ~r/TOMLDecodeError/, fn -> Pythonx.uv_init("[project") end

      assert_raise ArgumentError, ~r/unknown keys \[:forced\]/, fn ->
        Pythonx.uv_init(@empty, forced: true)
      end
    end
  end

  describe "with uv" do
    setup %{dir: dir, path: path} do
      bin = Path.join(dir, "bin")
      File.mkdir_p!(bin)
      File.write!(Path.join(bin, "uv"), @uv)
      File.chmod!(Path.join(bin, "uv"), 0o755)
      System.put_env("PATH", bin <> ":" <> path)
    end

    test "its environment is Python's, whatever the user has configured for uv", %{dir: dir} do
      for {name, value} <- [{"UV_CONFIG_FILE", "/nowhere/uv.toml"}, {"VIRTUAL_ENV", "/nowhere"}] do
        System.put_env(name, value)
        on_exit(fn -> System.delete_env(name) end)
      end

      before = decoded("import os\nos.getpid()")
      said = capture_io(fn -> assert Pythonx.uv_init(@empty, python: "3.12", native_tls: true) == :ok end)
      assert said =~ "sync --no-config --python 3.12 in #{dir}/cache/typhon/"
      # A company's certificates are those of the operating system.
      assert said =~ "UV_NATIVE_TLS=1\nUV_SYSTEM_CERTS=1\n"
      refute said =~ "nowhere"

      assert decoded("import sys\nsys.prefix") =~ ~r"^#{dir}/cache/typhon/\w+/\.venv$"

      assert decoded("import os\nos.getpid()") != before or
               Application.get_env(:pythonx, :isolation) == :interpreter

      # What is there already is taken, unless it is to be made anew.
      assert capture_io(fn -> Pythonx.uv_init(@empty, python: "3.12", native_tls: true) end) == ""
      again = capture_io(fn -> Pythonx.uv_init(@empty, python: "3.12", force: true) end)
      assert again =~ "sync"
      refute again =~ "TLS"

      [project, home] = Pythonx.install_paths()
      assert File.exists?(Path.join(project, "pyproject.toml"))
      assert File.dir?(home)
    end

    test "what it cannot make is an error, and is tried again", %{dir: dir} do
      project = @empty <> ~s(dependencies = ["unheard-of"]\n)

      for _ <- 1..2 do
        assert capture_io(fn ->
                 assert_raise RuntimeError, ~r/status 2.*#{dir}.*by hand/s, fn -> Pythonx.uv_init(project) end
               end) =~ "no solution found"
      end
    end

    test "another node is initialized in the same way by its environment" do
      assert_raise RuntimeError, ~r/call Pythonx.uv_init/, fn -> Pythonx.install_env() end
      capture_io(fn -> Pythonx.uv_init(@empty, python: "3.12") end)
      prefix = decoded("import sys\nsys.prefix")

      Pythonx.Python.use!(nil)
      assert decoded("import sys\nsys.prefix") != prefix
      for {name, value} <- Pythonx.install_env(), do: System.put_env(name, value)
      on_exit(fn -> System.delete_env("PYTHONX_INIT_STATE") end)

      Application.stop(:pythonx)
      {:ok, _} = Application.ensure_all_started(:pythonx)
      assert decoded("import sys\nsys.prefix") == prefix
    end

    test "so it is by its configuration" do
      Application.put_env(:pythonx, :uv_init, pyproject_toml: @empty, python: "3.12")
      on_exit(fn -> Application.delete_env(:pythonx, :uv_init) end)
      Application.stop(:pythonx)

      assert capture_io(fn ->
               Task.async(fn -> Pythonx.Project.init_at_start!() end) |> Task.await(:infinity)
             end) =~ "sync"

      assert decoded("import sys\nsys.prefix") =~ "/.venv"
    end
  end
end
