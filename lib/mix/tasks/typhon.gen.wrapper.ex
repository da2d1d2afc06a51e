defmodule Mix.Tasks.Typhon.Gen.Wrapper do
  @shortdoc "Writes Elixir functions for those of a Python module"

  @moduledoc """
  Writes what `use Typhon.Module` makes as source: to read it, or for where no Python is at hand when it is compiled.

  ```sh
  mix typhon.gen.wrapper statistics --out lib/shop/statistics.ex
  mix typhon.gen.wrapper priv/py/report.py --out lib/shop/report.ex --pool Shop.Python
  ```

  What is named is a module, or a file when it ends in `.py`. Without `--out` the source is printed.

  * `--module Shop.Statistics` – the name of the Elixir module. Else it is made of the path below `lib`, or of Python's.
  * `--pool Shop.Python` – the pool that the functions call, else the default one
  * `--python-path priv/py` – a folder to look for the module in first; may be given several times
  * `--force` – writes over a file that is there without asking

  The Python that reads the source, and finds the module, is `python3` of the `PATH`, or what `config :typhon, compile_python:` names.
  """

  use Mix.Task

  alias Typhon.Module.Wrapper

  @switches [out: :string, module: :string, pool: :string, python_path: :keep, force: :boolean]

  @impl true
  def run(arguments) do
    {options, python} =
      case parse!(arguments) do
        {options, [python]} ->
          {options, python}

        _ ->
          Mix.raise(
            "mix typhon.gen.wrapper takes the name of one module, or a file: mix typhon.gen.wrapper statistics"
          )
      end

    source = source(python, options)

    case options[:out] do
      nil -> Mix.shell().info(String.trim_trailing(source))
      path -> Mix.Generator.create_file(path, source, force: options[:force] || false)
    end
  end

  defp parse!(arguments) do
    OptionParser.parse!(arguments, strict: @switches)
  rescue
    # The nearest option has nothing to do with it.
    error in OptionParser.ParseError ->
      if Enum.any?(arguments, &(&1 == "--python" or String.starts_with?(&1, "--python="))),
        do:
          Mix.raise(
            "mix typhon.gen.wrapper has no option --python. The Python that reads the source is python3 of the PATH, " <>
              "or what config :typhon, compile_python: names"
          ),
        else: reraise(error, __STACKTRACE__)
  end

  defp source(python, options) do
    module = module(options[:module] || named(options[:out], python))
    of = if Path.extname(python) == ".py", do: [file: python], else: [module: python]
    folders = Keyword.get_values(options, :python_path)
    pool = if options[:pool], do: [pool: Module.concat([module(options[:pool])])], else: []

    {python, outline} =
      Typhon.Module.read!(of ++ [python_path: folders] ++ pool, module, {"mix typhon.gen.wrapper", 1})

    if outline.functions == [], do: Mix.shell().error("warning: " <> Typhon.Module.empty(python))
    name = python[:module]
    doc = "Functions of Python's module `#{name}`, written by `mix typhon.gen.wrapper`."
    doc = if outline.doc, do: doc <> "\n\n" <> outline.doc, else: doc
    Wrapper.source(module, doc, python, outline.functions)
  rescue
    error in CompileError -> Mix.raise(error.description)
  end

  # lib/shop/statistics.ex has Shop.Statistics.
  defp named(nil, python),
    do: python |> Path.basename(".py") |> String.split(".") |> Enum.map_join(".", &Macro.camelize/1)

  defp named(path, _python) do
    path
    |> Path.rootname()
    |> Path.split()
    |> Enum.reverse()
    |> Enum.take_while(&(&1 != "lib"))
    |> Enum.reverse()
    |> Enum.reject(&(&1 == "/"))
    |> Enum.map_join(".", &Macro.camelize/1)
  end

  defp module(name), do: Mix.Typhon.module!(name, "--module Shop.Statistics gives one")
end
