defmodule Mix.Tasks.Typhon.Gen.Py do
  @shortdoc "Writes Python dataclasses for Elixir structs"

  @moduledoc """
  Writes Python dataclasses for structs: for type checkers, and for code that likes `user.name` more than `user["name"]`.

  ```sh
  mix typhon.gen.py MyApp.User MyApp.Order --out priv/py/models.py
  mix typhon.gen.py MyApp.User MyApp.Order --out priv/py/models.py --check
  ```

  Without `--out` the source is printed.

  * `--force` – writes over a file that this task has not written
  * `--check` – writes nothing, and fails when the file is not what would be written: for CI

  A class has the name of the struct's last part: `MyApp.User` is `User`. Its fields are those that the struct's
  `Typhon.Encoder` sends when it is derived (`only:`, `except:`), else all.

  * What is in `@enforce_keys` has to be given. The others have the struct's defaults.
  * Types are those of the struct's `@type t`, as far as Python has them: `String.t` is `str`, `[integer]` is `list[int]`,
    `Date.t | nil` is `datetime.date | None`, `MyApp.Order.t` is `Order` when that is written, too. What is not known is
    `typing.Any`.
  * A name that Python does not have, such as `class` or `active?`, becomes `class_` or `active_`. The class has methods then:
    `from_elixir` takes what Elixir sends, and `to_elixir` gives what the option `as:` takes.

  A module of yours gets a dict, and may return an instance:

  ```python
  # priv/py/users.py
  from models import User


  def rename(sent, name):
      user = User(**sent)
      user.name = name
      return user
  ```

  `Typhon.call(MyApp.Python, :users, :rename, [user, "Bo"], as: MyApp.User)` gives a `%MyApp.User{}` again (`Typhon.Structs`).
  Structs in structs, and in lists, are instances in Python, too, when their classes are in the file.
  """

  use Mix.Task

  alias Typhon.Dataclasses

  @switches [out: :string, force: :boolean, check: :boolean]

  @impl true
  def run(arguments) do
    {options, names} = OptionParser.parse!(arguments, strict: @switches)

    if names == [],
      do: Mix.raise("mix typhon.gen.py takes the names of structs: mix typhon.gen.py MyApp.User")

    if options[:check] && !options[:out], do: Mix.raise("--check needs --out: the file that is to be checked")

    # The structs are the project's.
    Mix.Task.run("app.config")
    modules = Enum.map(names, &given!/1)

    command =
      Enum.join(
        ["mix typhon.gen.py" | names] ++ if(options[:out], do: ["--out", options[:out]], else: []),
        " "
      )

    source = Dataclasses.source(modules, command)

    case Map.new(options) do
      %{check: true, out: path} -> check(path, source, command)
      %{out: path} -> write(path, source, options[:force] || false)
      _ -> Mix.shell().info(String.trim_trailing(source))
    end
  end

  defp given!(name) do
    module = Module.concat([Mix.Typhon.module!(name, "mix typhon.gen.py MyApp.User")])

    cond do
      not Code.ensure_loaded?(module) ->
        Mix.raise("there is no module #{name}, neither in this project nor in what it depends on")

      not function_exported?(module, :__struct__, 0) ->
        Mix.raise("#{name} is no struct: the module has no defstruct")

      true ->
        module
    end
  end

  defp check(path, source, command) do
    case File.read(path) do
      {:ok, ^source} ->
        Mix.shell().info("#{path} is up to date")

      {:ok, _} ->
        Mix.raise("#{path} is out of date: #{command} writes it again")

      {:error, reason} ->
        Mix.raise("#{path} cannot be read (#{:file.format_error(reason)}): #{command} writes it")
    end
  end

  defp write(path, source, force) do
    with {:ok, text} <- File.read(path), false <- force or Dataclasses.ours?(text) do
      Mix.raise("#{path} was not written by mix typhon.gen.py: --force writes over it")
    else
      _ -> Mix.Generator.create_file(path, source, force: true)
    end
  end
end
