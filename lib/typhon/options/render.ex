defmodule Typhon.Options.Render do
  @moduledoc false
  # The types of options, and the lists of them in the documentation, when Typhon is compiled.

  alias Typhon.Options.{Option, Pool, Table}

  # --- documentation ---

  @width 116

  @doc "A list in Markdown, under headings where the options have groups."
  @spec docs(Table.scope()) :: String.t()
  def docs(scope) do
    options = Table.options(scope)
    grouped = for {group, title} <- Pool.groups(), own = in_group(options, group), own != [], do: {title, own}

    if grouped == [],
      do: items(options, scope),
      else: Enum.map_join(grouped, "\n\n", fn {title, own} -> "### #{title}\n\n" <> items(own, scope) end)
  end

  defp in_group(options, group), do: Enum.filter(options, &(&1.group == group))

  defp items(options, scope) do
    {own, others} = Enum.split_with(options, &(scope in &1.scope))

    references =
      for {first, same} <- Enum.group_by(others, &hd(&1.scope)) do
        "* #{Enum.map_join(same, ", ", &code(&1.name))} – as of `#{local(first)}`"
      end

    Enum.join(Enum.map(own, &item/1) ++ references, "\n")
  end

  defp item(option) do
    text = "* #{code(option.name)} – #{String.trim_trailing(option.doc)}#{default(option)}"
    Enum.join([wrap(text) | for(key <- keys(option), do: "  " <> indent(item(key)))], "\n")
  end

  # For those who read it in a terminal.
  defp wrap(text) do
    [first | words] = String.split(text)

    Enum.reduce(words, {first, String.length(first)}, fn word, {text, column} ->
      column = column + 1 + String.length(word)

      if column > @width,
        do: {text <> "\n  " <> word, 2 + String.length(word)},
        else: {text <> " " <> word, column}
    end)
    |> elem(0)
  end

  defp indent(text), do: String.replace(text, "\n", "\n  ")

  defp keys(%Option{check: [{:keys, keys}]}), do: keys
  defp keys(_option), do: []

  defp local(scope), do: scope |> Table.function() |> String.replace_prefix("Typhon.", "")

  # A key in an option has none.
  defp default(%Option{scope: [:limits]}), do: ""
  defp default(%Option{default_doc: text}) when text != nil, do: ". Default: #{text}"

  defp default(%Option{default: {:config, key, value}}),
    do: ". Default: #{code(value)}, or what `config :typhon, #{key}: …` says"

  defp default(%Option{default: value}), do: ". Default: #{code(value)}"

  defp code(number) when is_integer(number), do: "`#{digits(number)}`"
  defp code(value), do: "`#{inspect(value)}`"

  # 60_000, as one writes it in Elixir.
  defp digits(number) do
    number |> Integer.to_string() |> String.replace(~r/\d(?=(\d{3})+$)/, "\\0_")
  end

  # --- types ---

  @doc "What a user writes: a quoted union of `{name, type}`."
  @spec type(Table.scope()) :: Macro.t()
  def type(scope), do: scope |> Table.options() |> pairs()

  @doc "What comes of the options: the fields of a quoted map."
  @spec results([Option.t()]) :: [{atom, Macro.t()}]
  def results(options) do
    for option <- options do
      type = option.result || given(option)
      {option.name, if(option.default == nil, do: union([nil, type]), else: type)}
    end
  end

  defp pairs(options), do: options |> Enum.map(&{&1.name, given(&1)}) |> union()

  defp given(%Option{type: nil, check: [true, false]}), do: quote(do: boolean)
  defp given(%Option{type: nil, check: check}), do: check |> Enum.map(&alternative/1) |> union()
  defp given(%Option{type: type}), do: type

  defp alternative(:any), do: quote(do: term)
  defp alternative(atom) when is_atom(atom), do: atom
  defp alternative({:integer, 0, _max, _says}), do: quote(do: non_neg_integer)
  defp alternative({:integer, min, _max, _says}) when min > 0, do: quote(do: pos_integer)
  defp alternative({:integer, min, max, _says}), do: quote(do: unquote(min)..unquote(max))
  defp alternative({:power_of_two, _min, _max, _says}), do: quote(do: pos_integer)
  defp alternative({:value, _says, _fun, type}), do: type
  defp alternative({:keys, options}), do: [pairs(options)]

  # Leans to the right, as types are written.
  defp union(types) do
    [last | others] = Enum.reverse(types)
    Enum.reduce(others, last, fn type, union -> quote(do: unquote(type) | unquote(union)) end)
  end
end
