defmodule Typhon.DocsWalk do
  @moduledoc false
  # Pages that make a project are followed to the letter, as somebody who has nothing else would. scripts/docs says how.

  alias Typhon.DocsBlocks

  @root File.cwd!()
  @files ["docs/getting-started.md", "docs/testing.md", "docs/deploying.md"]

  @doc "A page goes on with the project of those before it."
  def with_those_before(files) do
    count = Enum.find_value(length(@files)..1, 0, &(Enum.at(@files, &1 - 1) in files && &1))
    Enum.take(@files, count)
  end

  def walk?([%{path: path} | _]), do: path in @files

  @doc "What came of it: a list of failures. One shell runs all of them, from one command to the next."
  def run([], _venv, _work), do: []

  def run(pages, venv, work) do
    # As the pages say, Typhon lies beside the project.
    File.ln_s!(@root, Path.join(work, "typhon"))

    steps =
      pages |> Enum.sort_by(&order/1) |> Enum.concat() |> Enum.reject(& &1.skip) |> Enum.chunk_by(&runs?/1)

    script = Path.join(work, "walk.sh")
    File.write!(script, [prelude(venv), Enum.map(steps, &step(&1, work))])

    case System.cmd("bash", [script], cd: work, stderr_to_stdout: true, env: [{"MIX_ENV", nil}]) do
      {_, 0} -> []
      {output, _} -> ["What follows #{Enum.join(@files, ", ")} said:\n#{output}"]
    end
  end

  defp order([%{path: path} | _]), do: Enum.find_index(@files, &(&1 == path))

  # Blocks of Elixir that follow each other are one program.
  defp runs?(%{language: "elixir", name: nil}), do: :elixir
  defp runs?(block), do: block

  defp prelude(venv) do
    """
    set -eEuo pipefail
    trap 'echo "$at: this failed: $BASH_COMMAND"' ERR
    begin() {
      at=$1
      if [[ -f mix.exs && ! -e .venv ]]; then ln -s '#{venv}' .venv; fi
    }
    says() { [[ $1 == *"$2"* ]] || { echo "$at: this was said: $1, and not: $2"; exit 1; }; }
    """
  end

  defp step([%{language: "elixir", name: nil} = first | _] = blocks, work) do
    file = Path.join(work, "#{Path.basename(first.path)}-#{first.line}.exs")

    File.write!(file, """
    Code.require_file(#{inspect(Path.join(__DIR__, "docs_blocks.exs"))})
    blocks = #{inspect(Enum.map(blocks, &Map.to_list(Map.from_struct(&1))), limit: :infinity, printable_limit: :infinity)}
    Typhon.DocsBlocks.evaluate!(Enum.map(blocks, &struct!(Typhon.DocsBlocks, &1)))
    """)

    ["begin #{first.path}:#{first.line}\n", "mix run #{file}\n"]
  end

  defp step(blocks, work), do: Enum.map(blocks, &one(&1, work))

  defp one(%{name: "mix.exs"} = block, _work) do
    # A function of the project's own takes the place of the one there.
    change = """
    code = #{inspect(block.code |> String.replace(~r/^# mix.exs\n/, "") |> String.replace(~r/^(?=.)/m, "  "))}
    File.write!("mix.exs", Regex.replace(~r/^  defp deps do\\n.*?^  end\\n/ms, File.read!("mix.exs"), fn _ -> code end))
    """

    ["begin #{block.path}:#{block.line}\n", "elixir -e #{quoted(change)}\n"]
  end

  defp one(%{name: nil, language: "sh"} = block, _work) do
    commands =
      for line <- String.split(block.code, "\n") do
        case String.split(line, ~r/\s+# => /) do
          [command, text] -> "says \"$(#{command})\" #{quoted(text)}\n"
          [command] -> command <> "\n"
        end
      end

    ["begin #{block.path}:#{block.line}\n", commands]
  end

  defp one(%{name: nil}, _work), do: []

  defp one(block, work) do
    from = Path.join(work, "#{Path.basename(block.path)}-#{block.line}")
    DocsBlocks.write(block, from)
    to = quoted(block.name)

    "begin #{block.path}:#{block.line}\nmkdir -p \"$(dirname #{to})\" && cp #{quoted(from)} #{to}\n"
  end

  defp quoted(text), do: "'" <> String.replace(text, "'", "'\\''") <> "'"
end
