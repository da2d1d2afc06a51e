defmodule Typhon.EnvironmentTest do
  # A Python inside the VM is in its environment what a worker process is. In VMs of their own: each environment is an interpreter
  # of its own, and some are none.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  @moduletag :tmp_dir

  @python """
  import locale, os, subprocess, sys

  def found(path):
      return {
          "utf8": sys.flags.utf8_mode, "names": sys.getfilesystemencoding(), "errors": sys.getfilesystemencodeerrors(),
          "texts": locale.getpreferredencoding(False), "locale": locale.setlocale(locale.LC_CTYPE), "exists": os.path.exists(path),
          "executable": sys.executable, "warnings": sys.warnoptions, "random": sys.flags.hash_randomization,
          "optimize": sys.flags.optimize, "path": "/typhon/there" in sys.path,
          "variables": {k: v for k, v in os.environ.items() if k.startswith(("LC_", "LANG", "PYTHON", "TYPHON_TEXT"))},
      }

  def children():
      os.environ["TYPHON_HERE"] = "set"
      os.environ.pop("TYPHON_GONE", None)
      shell = ["/bin/sh", "-c", "echo $TYPHON_MINE,$TYPHON_HERE,${TYPHON_GONE-none}"]
      said = [subprocess.run(shell, capture_output=True, close_fds=close).stdout for close in (True, False)]
      return [*said, subprocess.run(shell, capture_output=True, env={"TYPHON_MINE": "other"}).stdout, os.popen(shell[2]).read().encode()]
  """

  # Whether the calls of `function` give in every engine what they give in a worker process, for each environment.
  @compare """
  compare = fn python, environments, function, args ->
    for variables <- environments do
      options = [workers: 1, python: python, python_path: [folder], env: variables, surrogates: :bytes, start_timeout: 120_000]
      {:ok, process} = Typhon.start_link([isolation: :process] ++ options)
      expected = Typhon.call!(process, :environment_probe, function, args, timeout: 120_000)
      {:ok, %{engines: engines}} = Typhon.Env.describe(python)

      for {engine, {:ok, _}} <- engines do
        {:ok, inside} = Typhon.start_link([isolation: :interpreter, engine: engine] ++ options)
        found = Typhon.call!(inside, :environment_probe, function, args, timeout: 120_000)
        if found != expected, do: raise("\#{engine}, \#{inspect(variables)}: \#{inspect(found)} is not \#{inspect(expected)}")
        Typhon.stop(inside)
      end

      Typhon.stop(process)
    end
  end
  """

  setup %{tmp_dir: folder} do
    File.write!(Path.join(folder, "environment_probe.py"), @python)
    {:ok, code: "Logger.configure(level: :error)\nfolder = #{inspect(folder)}\n" <> @compare}
  end

  defp same(code, variables) do
    {text, status} = vm(code <> "\nIO.puts(\"alive\")", variables)
    assert {text, status, String.ends_with?(text, "alive\n")} == {text, 0, true}
  end

  # Its bytes, whatever the VM takes the command line for.
  defp literal(path), do: "Base.decode64!(#{inspect(Base.encode64(path))})"

  test "the locale, however the VM was started", %{code: code, tmp_dir: folder} do
    there = Path.join(folder, "größe")
    File.write!(there, "")

    compare = """
    text = #{literal("größe 名前")}
    environments = [[TYPHON_TEXT: text], [LC_ALL: "C"], [PYTHONUTF8: "0", LC_ALL: "C"], [PYTHONCOERCECLOCALE: "0"]]
    compare.("python3", environments, :found, [#{literal(there)}])
    """

    for locale <- ["C.UTF-8", nil],
        do:
          same(code <> compare, [
            {"LC_ALL", locale},
            {"LC_CTYPE", nil},
            {"LANG", nil},
            {"TYPHON_TEXT_OF_VM", "größe 名前"}
          ])
  end

  test "the variables that Python reads when it starts", %{code: code} do
    same(
      code <>
        """
        compare.(
          "python3",
          [
            [PYTHONHASHSEED: "0", PYTHONPATH: "/typhon/there"],
            [PYTHONWARNINGS: "error", PYTHONOPTIMIZE: "2"],
            [PYTHONUTF8: "1", PYTHONPATH: nil]
          ],
          :found,
          ["/"]
        )
        """,
      [{"PYTHONPATH", "/typhon/elsewhere"}]
    )
  end

  test "a virtualenv below a folder beyond ASCII", %{code: code, tmp_dir: folder} do
    venv = Path.join(folder, "größe 名前/venv")
    {_, 0} = System.cmd("python3", ["-m", "venv", "--without-pip", venv], stderr_to_stdout: true)
    compare = "compare.(#{literal(venv)}, [[], [LC_ALL: \"C\"]], :found, [\"/\"])\n"

    for locale <- [nil, "C.UTF-8"],
        do: same(code <> compare, [{"LC_ALL", locale}, {"LC_CTYPE", nil}, {"LANG", nil}])
  end

  test "what children get of it", %{code: code} do
    same(code <> "compare.(\"python3\", [[TYPHON_MINE: \"mine\"]], :children, [])\n", [
      {"TYPHON_GONE", "there"}
    ])
  end

  test "variables and folders that are no UTF-8", %{code: code, tmp_dir: folder} do
    here = Path.join(folder, <<"a", 0xFF, "é">>)
    File.mkdir!(here)

    File.write!(
      Path.join(here, "there.py"),
      "def told(): return __import__('os').environb[b'TYPHON_ODD'], __import__('os').getcwdb()\n"
    )

    code = """
    #{code}
    for isolation <- [:process, :interpreter] do
      here = #{literal(here)}
      {:ok, py} = Typhon.start_link(workers: 1, isolation: isolation, python_path: [here], cd: here)
      {:ok, {<<255, 195, 169, 254>>, cwd}} = Typhon.call(py, :there, :told, [])
      if isolation == :process or Typhon.call!(py, "sys", "_typhon_own_directory.__str__", []) == "1", do: ^here = cwd
    end
    IO.puts("alive")
    """

    for locale <- ["C.UTF-8", nil] do
      # A shell sets it: the emulator would take it for text.
      start = "export TYPHON_ODD=$(printf '\\377\\303\\251\\376'); exec elixir \"$@\""
      paths = ["-pa", Path.join(:code.lib_dir(:typhon), "ebin")]
      run = paths ++ ["-e", "{:ok, _} = Application.ensure_all_started(:typhon)\n" <> code]

      {text, status} =
        System.cmd("sh", ["-c", start, "sh" | run],
          env: [{"LC_ALL", locale}, {"LC_CTYPE", nil}, {"LANG", nil}],
          stderr_to_stdout: true
        )

      assert {text, status, String.ends_with?(text, "alive\n")} == {text, 0, true}
    end
  end

  # Python ends its process then.
  test "an environment in which Python does not start is an error", %{code: code} do
    code = """
    #{code}
    {:ok, first} = Typhon.start_link(workers: 1, isolation: :interpreter)
    {:error, error} = Typhon.start_link(workers: 1, isolation: :interpreter, env: [PYTHONHASHSEED: "x"])
    IO.puts(Exception.message(error))
    System.put_env("PYTHONHASHSEED", "y")
    {:error, %Typhon.StartError{}} = Typhon.start_link(workers: 1, isolation: :interpreter)
    {:ok, 4.0} = Typhon.call(first, :math, :sqrt, [16])
    """

    {text, status} = vm(code)
    assert {text, status} == {text, 0}
    assert text =~ "PYTHONHASHSEED must be"
  end
end
