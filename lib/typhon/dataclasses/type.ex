defmodule Typhon.Dataclasses.Type do
  @moduledoc false
  # What a type of Elixir's is in Python: the alternatives of a union, as text.

  alias Typhon.Dataclasses.Scope

  @integers [:integer, :non_neg_integer, :pos_integer, :neg_integer, :byte, :char, :arity, :range]
  @remote %{
    String => "str",
    Date => {"datetime", "date"},
    Time => {"datetime", "time"},
    DateTime => {"datetime", "datetime"},
    NaiveDateTime => {"datetime", "datetime"},
    Decimal => {"decimal", "Decimal"},
    Range => "range"
  }

  # How many names of types lead to the next one. Some lead to themselves.
  @depth 20

  @doc "Those of the fields in the module's `@type t`, as far as it can be read."
  @spec fields(module, Scope.t()) :: %{optional(atom) => [String.t()]}
  def fields(module, scope) do
    types = own(module)

    with {form, []} <- types[:t], {:type, _, :map, fields} when is_list(fields) <- bare(form) do
      context = %{scope: scope, module: module, types: types, depth: @depth}

      for {:type, _, :map_field_exact, [{:atom, _, name}, type]} <- fields,
          name != :__struct__,
          into: %{},
          do: {name, of(type, context)}
    else
      _ -> %{}
    end
  end

  # Those that take no parameters.
  defp own(module) do
    case Elixir.Code.Typespec.fetch_types(module) do
      {:ok, types} -> for {_kind, {name, form, []}} <- types, into: %{}, do: {name, {form, []}}
      :error -> %{}
    end
  end

  defp bare({:ann_type, _, [_name, type]}), do: bare(type)
  defp bare({:paren_type, _, [type]}), do: bare(type)
  defp bare(type), do: type

  @doc "A type of which nothing is known."
  @spec any(Scope.t()) :: [String.t()]
  def any(scope), do: [Scope.module(scope, "typing") <> ".Any"]

  @doc "As an annotation."
  @spec text([String.t()], Scope.t()) :: String.t()
  def text(alternatives, scope) do
    [any] = any(scope)
    {none, others} = alternatives |> Enum.uniq() |> Enum.split_with(&(&1 == "None"))
    if any in others, do: any, else: Enum.join(others ++ none, " | ")
  end

  @doc "The one class that values of this type are made of, or a list of."
  @spec class([String.t()], Scope.t()) :: {:one | :list, module} | nil
  def class(alternatives, scope) do
    list = Scope.builtin(scope, "list")

    with [one] <- alternatives |> Enum.uniq() |> List.delete("None") do
      Enum.find_value(scope.classes, fn {module, class} ->
        cond do
          one == class -> {:one, module}
          one in ["#{list}[#{class}]", "#{list}[#{class} | None]"] -> {:list, module}
          true -> nil
        end
      end)
    else
      _ -> nil
    end
  end

  defp of({:type, _, :union, types}, context), do: Enum.flat_map(types, &of(&1, context))
  defp of({:atom, _, nil}, _context), do: ["None"]
  defp of({:atom, _, value}, context) when is_boolean(value), do: builtin("bool", context)
  defp of({:integer, _, _}, context), do: builtin("int", context)
  defp of({:op, _, :-, {:integer, _, _}}, context), do: builtin("int", context)
  defp of({:type, _, :boolean, []}, context), do: builtin("bool", context)
  defp of({:type, _, name, _}, context) when name in @integers, do: builtin("int", context)
  defp of({:type, _, :float, []}, context), do: builtin("float", context)
  defp of({:type, _, :number, []}, context), do: builtin("int", context) ++ builtin("float", context)
  defp of({:type, _, :binary, _}, context), do: builtin("str", context)
  defp of({:type, _, nil, []}, context), do: generic("list", [any(context.scope)], context)
  defp of({:type, _, :list, []}, context), do: generic("list", [any(context.scope)], context)

  defp of({:type, _, name, [type]}, context) when name in [:list, :nonempty_list],
    do: generic("list", [of(type, context)], context)

  defp of({:type, _, :nonempty_list, []}, context), do: generic("list", [any(context.scope)], context)
  defp of({:type, _, :tuple, :any}, context), do: generic("tuple", [any(context.scope), ["..."]], context)
  defp of({:type, _, :tuple, []}, context), do: generic("tuple", [["()"]], context)

  defp of({:type, _, :tuple, types}, context),
    do: generic("tuple", Enum.map(types, &of(&1, context)), context)

  defp of({:type, _, :map, [{:type, _, _, [key, value]}]}, context) when elem(key, 0) != :atom,
    do: generic("dict", [of(key, context), of(value, context)], context)

  defp of({:type, _, :map, fields}, context) do
    any = any(context.scope)

    case is_list(fields) && Enum.find(fields, &match?({:type, _, _, [{:atom, _, :__struct__}, _]}, &1)) do
      {:type, _, _, [_, {:atom, _, module}]} -> remote(module, [], context)
      _ -> generic("dict", [any, any], context)
    end
  end

  defp of({:remote_type, _, [{:atom, _, module}, {:atom, _, :t}, types]}, context),
    do: remote(module, types, context)

  defp of({kind, _, _} = type, context) when kind in [:ann_type, :paren_type],
    do: type |> bare() |> of(context)

  defp of({:user_type, _, :t, []}, context), do: remote(context.module, [], context)

  defp of({:user_type, _, name, []}, %{depth: depth} = context) when depth > 0 do
    case context.types[name] do
      {form, []} -> of(form, %{context | depth: depth - 1})
      nil -> any(context.scope)
    end
  end

  defp of(_other, context), do: any(context.scope)

  defp remote(MapSet, [], context), do: generic("set", [any(context.scope)], context)
  defp remote(MapSet, [type], context), do: generic("set", [of(type, context)], context)

  defp remote(module, _types, context) do
    case {context.scope.classes, @remote} do
      {%{^module => class}, _} -> [class]
      {_, %{^module => {python, name}}} -> [Scope.module(context.scope, python) <> "." <> name]
      {_, %{^module => name}} -> builtin(name, context)
      _ -> any(context.scope)
    end
  end

  defp builtin(name, context), do: [Scope.builtin(context.scope, name)]

  defp generic(name, types, context) do
    types = Enum.map_join(types, ", ", &text(&1, context.scope))
    ["#{Scope.builtin(context.scope, name)}[#{types}]"]
  end
end
