defmodule Typhon.PackagesTest do
  # The large packages with C code, in several Pythons of one process. In a VM of its own: what goes wrong there does so for
  # the whole process. scripts/test installs the packages.
  use ExUnit.Case, async: true

  import Typhon.TestHelper
  alias Typhon.TestPackages

  @moduletag :packages
  @moduletag timeout: 600_000

  @room {"GLIBC_TUNABLES", "glibc.rtld.nns=16:glibc.rtld.optional_static_tls=65536"}

  # Debian's own Python has them as far as Debian has packaged them.
  defp packages do
    code = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    names = Enum.map(TestPackages.all(), fn {module, _} -> Atom.to_string(module) end)
    {text, 0} = System.cmd("python3", ["-c", code | names])
    there = for {module, _} <- TestPackages.all(), text =~ "'#{module}'", do: module
    {system, 0} = System.cmd("python3", ["-c", "import sys; print(sys.base_prefix == '/usr')"])
    missing = Keyword.keys(TestPackages.all()) -- there
    assert missing == [] or system =~ "True", "python3 has no #{inspect(missing)}: run scripts/test inside"
    there
  end

  test "all of them in four Pythons at once, several times, and again in Pythons that come back" do
    code = """
    Logger.configure(level: :error)
    path = [#{inspect(py_dir())}]

    wind_up = fn again ->
      %{busy: busy, quarantined: quarantined} = Typhon.Env.capacity().namespaces

      if busy + quarantined > 0 do
        Process.sleep(20)
        again.(again)
      end
    end

    pools =
      for _ <- 1..2 do
        # Four times as many threads as cores: those that wait should not spin.
        {:ok, py} =
          Typhon.start_link(
            isolation: :interpreter,
            workers: 4,
            python_path: path,
            env: [OMP_WAIT_POLICY: "passive"],
            stdio: :discard
          )

        {wrong, who} = Typhon.TestPackages.use_all(py, #{inspect(packages())}, 4, 2)
        Enum.each(wrong, &IO.puts/1)
        :ok = Typhon.stop(py)
        # On a busy machine Pythons may take longer to wind up than a pool that stops waits for them.
        wind_up.(wind_up)
        Enum.sort(who)
      end

    IO.inspect(Enum.map(pools, &length/1), label: "Pythons")
    IO.puts("the same again: \#{match?([same, same], pools)}")
    IO.inspect(Typhon.Env.capacity().namespaces, label: "left")
    """

    {text, status} = vm(code, [@room])
    assert {status, text} == {0, text}
    assert text =~ "Pythons: [4, 4]\nthe same again: true\n"
    assert text =~ ~r/left: %\{.*idle: 4,.*worn: 0\}/
    # Nothing else: neither a wrong answer nor an error.
    assert length(String.split(text, "\n", trim: true)) == 3, text
  end

  test "without room for their thread-local variables the error says how to make it" do
    code = """
    Logger.configure(level: :critical)

    find = \"\"\"
    import ctypes, glob, importlib.util, os
    (packages,) = importlib.util.find_spec("sklearn").submodule_search_locations
    (ctypes.CDLL((glob.glob(os.path.join(os.path.dirname(packages), "scikit_learn.libs", "libgomp*")) or ["libgomp.so.1"])[0]))
    \"\"\"

    with {:ok, py} <- Typhon.start_link(isolation: :interpreter, workers: 9, stdio: :discard),
         results = for(key <- 1..200, do: Typhon.call(py, :builtins, :exec, [find, %{}], worker: key, timeout: 60_000)),
         nil <- Enum.find(results, &match?({:error, _}, &1)) do
      IO.puts("there was room")
    else
      {:error, error} -> IO.puts(Exception.message(error))
    end
    """

    {text, status} = vm(code, [{"GLIBC_TUNABLES", ""}])
    assert {text, status} == {text, 0}
    assert text =~ "static TLS"
    assert text =~ "GLIBC_TUNABLES=glibc.rtld."
  end
end
