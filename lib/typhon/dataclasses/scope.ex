defmodule Typhon.Dataclasses.Scope do
  @moduledoc false
  # Which names mean what in a file of dataclasses.

  alias Typhon.Options.Check

  # What a class of other names has.
  @methods ~w(from_elixir to_elixir)
  @modules ~w(builtins dataclasses datetime decimal typhon typing)

  @enforce_keys [:classes, :fields, :taken]
  defstruct @enforce_keys

  @typedoc "`fields`: each with its name in Python. `taken`: those names, which hide others from what follows in their class."
  @type t :: %__MODULE__{
          classes: %{module => String.t()},
          fields: %{module => [{atom, String.t()}]},
          taken: MapSet.t(String.t())
        }

  @doc "For these structs with these fields."
  @spec new(%{module => [atom]}) :: t
  def new(structs) do
    fields = Map.new(structs, fn {module, names} -> {module, python(names)} end)
    taken = for {_, names} <- fields, {_, python} <- names, into: MapSet.new(), do: python
    %__MODULE__{classes: classes(Map.keys(structs), taken), fields: fields, taken: taken}
  end

  # The last part of the name, as long as that tells them apart.
  defp classes(modules, taken) do
    short = Enum.frequencies_by(modules, &last/1)

    names =
      for module <- modules do
        if short[last(module)] == 1, do: last(module), else: module |> Module.split() |> Enum.join()
      end

    modules |> Enum.zip(unique(names, taken)) |> Map.new()
  end

  defp last(module), do: module |> Module.split() |> List.last()

  # Most are the same.
  defp python(fields) do
    names = Enum.map(fields, &Atom.to_string/1)
    # Those that stay have a right to their name.
    {whole, others} = Enum.split_with(names, &name?/1)
    renamed = others |> Enum.zip(unique(others, MapSet.new(whole))) |> Map.new()
    Enum.map(fields, &{&1, Map.get(renamed, Atom.to_string(&1), Atom.to_string(&1))})
  end

  # Two underscores at the beginning: Python has a meaning for the name, or gives it another one in a class.
  defp name?(name), do: Check.variable?(name) and not String.starts_with?(name, "__") and name not in @methods

  defp unique(names, taken) do
    {names, _taken} =
      Enum.map_reduce(names, taken, fn name, taken ->
        name = name |> identifier() |> free(taken)
        {name, MapSet.put(taken, name)}
      end)

    names
  end

  defp free(name, taken), do: if(name in taken, do: free(name <> "_", taken), else: name)

  defp identifier(name) do
    plain =
      name
      |> String.normalize(:nfkc)
      |> String.replace(~r/[^\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}_]/u, "_")
      |> String.replace(~r/\A_+(?=[\p{L}_])/u, "_")

    cond do
      name?(plain) -> plain
      name?(plain <> "_") -> plain <> "_"
      name?("_" <> plain) -> "_" <> plain
      true -> "field"
    end
  end

  @doc "A module of Python's."
  @spec module(t, String.t()) :: String.t()
  def module(scope, name) when name in @modules, do: free(name, scope.taken)

  @doc "A builtin."
  @spec builtin(t, String.t()) :: String.t()
  def builtin(scope, name),
    do: if(name in scope.taken, do: module(scope, "builtins") <> "." <> name, else: name)

  @doc "Of what the text of the classes names."
  @spec imports(t, String.t()) :: String.t()
  def imports(scope, classes) do
    @modules
    |> Enum.filter(&(classes =~ ~r/(?<![\w.])#{module(scope, &1)}\./))
    |> Enum.map_join("\n", fn name ->
      if module(scope, name) == name, do: "import #{name}", else: "import #{name} as #{module(scope, name)}"
    end)
  end
end
