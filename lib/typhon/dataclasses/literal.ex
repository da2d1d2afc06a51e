defmodule Typhon.Dataclasses.Literal do
  @moduledoc false
  # A default of Elixir's as Python writes it.

  alias Typhon.Dataclasses.Scope

  @typedoc "A value that instances may share; a function that makes one for each; or it has no counterpart."
  @type t :: {:plain, String.t()} | {:made, String.t()} | :none

  @spec of(term, Scope.t()) :: t
  def of([], scope), do: {:made, Scope.builtin(scope, "list")}
  def of(map, scope) when map == %{}, do: {:made, Scope.builtin(scope, "dict")}

  def of(value, scope) do
    text = text(value, scope)
    if shared?(value), do: {:plain, text}, else: {:made, "lambda: " <> text}
  catch
    {__MODULE__, :none} -> :none
  end

  defp shared?(%module{}), do: module in [Date, Time, DateTime, NaiveDateTime, Decimal, Range]
  defp shared?(value), do: is_atom(value) or is_number(value) or is_binary(value)

  defp text(nil, _scope), do: "None"
  defp text(true, _scope), do: "True"
  defp text(false, _scope), do: "False"

  defp text(atom, scope) when is_atom(atom),
    do: "#{Scope.module(scope, "typhon")}.Atom(#{string(Atom.to_string(atom))})"

  defp text(number, _scope) when is_number(number), do: to_string(number)

  defp text(binary, _scope) when is_binary(binary),
    do: if(String.valid?(binary), do: string(binary), else: bytes(binary))

  defp text([], _scope), do: "[]"

  defp text(list, scope) when is_list(list) do
    if List.improper?(list), do: throw({__MODULE__, :none})
    "[#{join(list, scope)}]"
  end

  defp text({}, _scope), do: "()"
  defp text({one}, scope), do: "(#{text(one, scope)},)"
  defp text(tuple, scope) when is_tuple(tuple), do: "(#{tuple |> Tuple.to_list() |> join(scope)})"
  defp text(%module{} = struct, scope), do: struct(module, struct, scope)

  defp text(map, scope) when is_map(map),
    do:
      "{#{map |> Enum.sort() |> Enum.map_join(", ", fn {key, value} -> "#{text(key, scope)}: #{text(value, scope)}" end)}}"

  defp text(_other, _scope), do: throw({__MODULE__, :none})

  defp struct(Date, %{calendar: Calendar.ISO, year: year} = date, scope) when year in 1..9999,
    do: date("date", [year, date.month, date.day], scope)

  defp struct(Time, %{calendar: Calendar.ISO} = time, scope), do: date("time", clock(time), scope)

  defp struct(NaiveDateTime, %{calendar: Calendar.ISO, year: year} = time, scope) when year in 1..9999,
    do: date("datetime", [year, time.month, time.day | clock(time)], scope)

  defp struct(DateTime, %{calendar: Calendar.ISO, year: year, time_zone: "Etc/UTC"} = time, scope)
       when year in 1..9999 do
    utc = "tzinfo=#{Scope.module(scope, "datetime")}.timezone.utc"
    date("datetime", [year, time.month, time.day | clock(time)] ++ [utc], scope)
  end

  # Not all projects have it.
  defp struct(Decimal, decimal, scope),
    do: "#{Scope.module(scope, "decimal")}.Decimal(#{string(to_string(decimal))})"

  defp struct(Range, %{first: first, last: last, step: step}, scope),
    do: "#{Scope.builtin(scope, "range")}(#{first}, #{last + if(step > 0, do: 1, else: -1)}, #{step})"

  defp struct(MapSet, set, scope) do
    elements = Enum.sort(set)
    "#{Scope.builtin(scope, "set")}(#{if elements == [], do: "", else: "[#{join(elements, scope)}]"})"
  end

  defp struct(module, struct, %{classes: classes} = scope) when is_map_key(classes, module) do
    fields =
      for {name, python} <- scope.fields[module], do: "#{python}=#{struct |> Map.fetch!(name) |> text(scope)}"

    "#{classes[module]}(#{Enum.join(fields, ", ")})"
  end

  defp struct(_module, _struct, _scope), do: throw({__MODULE__, :none})

  defp clock(%{hour: hour, minute: minute, second: second, microsecond: {microsecond, _}}) when second < 60,
    do: [hour, minute, second, microsecond]

  defp clock(_leap_second), do: throw({__MODULE__, :none})

  defp date(name, parts, scope), do: "#{Scope.module(scope, "datetime")}.#{name}(#{Enum.join(parts, ", ")})"

  defp join(values, scope), do: Enum.map_join(values, ", ", &text(&1, scope))

  @doc "A str."
  @spec string(String.t()) :: String.t()
  def string(text), do: ~s("#{for <<character::utf8 <- text>>, into: "", do: escaped(character)}")

  defp escaped(?"), do: ~S(\")
  defp escaped(?\\), do: ~S(\\)
  defp escaped(?\n), do: ~S(\n)
  defp escaped(?\t), do: ~S(\t)

  # What one does not see, or what changes the direction of a line, is a number.
  defp escaped(character) do
    text = <<character::utf8>>

    cond do
      character < 128 and character >= 32 and character != 127 -> text
      text =~ ~r/\A[\p{L}\p{N}\p{M}\p{P}\p{S}]\z/u -> text
      true -> "\\U" <> (character |> Integer.to_string(16) |> String.pad_leading(8, "0"))
    end
  end

  defp bytes(binary),
    do: ~s(b"#{for <<byte <- binary>>, into: "", do: "\\x" <> Base.encode16(<<byte>>, case: :lower)}")
end
