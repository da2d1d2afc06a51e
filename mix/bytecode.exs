defmodule Typhon.Mix.Bytecode do
  @moduledoc false
  # Bytecode of a folder of Python packages, for each Python that is found: where it cannot be written to, or Python is told not
  # to write any, each start of a worker would compile what it imports. It is used as long as the source is the same (PEP 552).

  @code "import sys, compileall, py_compile; mode = py_compile.PycInvalidationMode.CHECKED_HASH; " <>
          "sys.version_info >= (3, 11) and compileall.compile_dir(sys.argv[1], quiet=2, invalidation_mode=mode)"

  # One that cannot be run is no reason to fail: its workers take a little longer.
  @spec compile(Path.t()) :: :ok
  def compile(folder) do
    for python <- pythons(), do: System.cmd(python, ["-I", "-c", @code, folder], stderr_to_stdout: true)
    :ok
  end

  @doc "The Pythons that are found."
  @spec pythons :: [Path.t()]
  def pythons do
    candidates =
      ["python3" | for(minor <- 11..19, do: "python3.#{minor}")] ++
        Path.wildcard(Path.join(pyenv(), "*/bin/python3")) ++
        Path.wildcard(Path.join(home(), ".local/share/uv/python/*/bin/python3"))

    for name <- candidates, python = System.find_executable(name), uniq: true, do: Path.expand(python)
  end

  @spec home :: Path.t()
  def home, do: System.user_home() || "/"

  @spec pyenv :: Path.t()
  def pyenv, do: Path.join(System.get_env("PYENV_ROOT", Path.join(home(), ".pyenv")), "versions")
end
