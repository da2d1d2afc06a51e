defmodule Mix.Tasks.Compile.ErlportFiles do
  @moduledoc false
  # What else belongs to the application where it is built: `src`, as programs of ErlPort's include its headers from there
  # (`-include_lib("erlport/src/python.hrl")`), and the bytecode of the Python package.

  use Mix.Task.Compiler

  @impl true
  def run(_args) do
    link_sources()
    # Typhon's sources are there, whichever way they came.
    Code.ensure_loaded?(Typhon.Mix.Bytecode) ||
      Code.require_file(Path.join(Mix.Project.deps_paths()[:typhon], "mix/bytecode.exs"))

    Mix.Project.build_structure()
    if compile_python(), do: {:ok, []}, else: {:noop, []}
  end

  @impl true
  def clean, do: File.rm(stamp_file())

  defp link_sources do
    link = Path.join(Mix.Project.app_path(), "src")
    File.mkdir_p!(Path.dirname(link))

    if File.read_link(link) != {:ok, Path.expand("src")} do
      File.rm_rf!(link)
      with {:error, _} <- File.ln_s(Path.expand("src"), link), do: File.cp_r!("src", link)
    end
  end

  defp compile_python do
    sources = for file <- Path.wildcard("priv/python/**/*.py"), do: [file, File.read!(file)]
    stamp = :erlang.md5([sources | Typhon.Mix.Bytecode.pythons()])

    if File.read(stamp_file()) != {:ok, stamp} do
      Typhon.Mix.Bytecode.compile(Path.expand("priv/python"))
      File.mkdir_p!(Path.dirname(stamp_file()))
      File.write!(stamp_file(), stamp)
    end
  end

  defp stamp_file, do: Path.join(Mix.Project.manifest_path(), "compile.erlport_files")
end
