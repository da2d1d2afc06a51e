defmodule Bench.Report do
  @moduledoc "The table on the terminal and the JSON beside it."

  @doc "Prints one line of the table, when its measurement is there."
  def line(row) do
    IO.puts(
      pad(row.name, 54) <>
        pad_left(quantity(row.floor, row.unit), 11) <>
        pad_left(quantity(row.typhon, row.unit), 11) <>
        pad_left(compared(row), 11) <> pad_left(goal(row), 12) <> "  " <> verdict(row)
    )
  end

  def heading(text) do
    IO.puts(
      "\n#{pad(text, 54)}#{pad_left("floor", 11)}#{pad_left("Typhon", 11)}#{pad_left("compared", 11)}#{pad_left("goal", 12)}"
    )

    IO.puts(String.duplicate("-", 106))
  end

  def summary(rows) do
    judged = for row <- rows, row.met != nil, do: row.met
    IO.puts("\n#{Enum.count(judged, & &1)} of #{length(judged)} goals met")
  end

  defp compared(%{compared: nil}), do: "–"
  defp compared(%{how: :ratio, compared: value}), do: "× " <> number(value)
  defp compared(%{how: :added, compared: value} = row), do: "+ " <> quantity(value, row.unit)
  defp compared(%{compared: value} = row), do: bound(row, value)

  defp goal(%{goal: nil}), do: ""
  defp goal(%{goal: {:at_most, value}} = row), do: "≤ " <> bound(row, value)
  defp goal(%{goal: {:at_least, value}} = row), do: "≥ " <> bound(row, value)

  # What is judged by itself has a unit where the figures would be long without one.
  defp bound(%{how: how, unit: unit}, value) when how != :ratio and unit in [:ns, :rate],
    do: quantity(value, unit)

  defp bound(_row, value), do: number(value)

  defp verdict(%{met: nil}), do: ""
  defp verdict(%{met: true}), do: "met"
  defp verdict(%{met: false}), do: "NOT MET"

  defp quantity(nil, _), do: "–"
  defp quantity(value, :ns) when value < 1_000, do: "#{number(value)} ns"
  defp quantity(value, :ns) when value < 1_000_000, do: "#{number(value / 1_000)} µs"
  defp quantity(value, :ns) when value < 1_000_000_000, do: "#{number(value / 1_000_000)} ms"
  defp quantity(value, :ns), do: "#{number(value / 1_000_000_000)} s"
  defp quantity(value, :rate) when value >= 1_000_000, do: "#{number(value / 1_000_000)} M/s"
  defp quantity(value, :rate) when value >= 1_000, do: "#{number(value / 1_000)} k/s"
  defp quantity(value, :rate), do: "#{number(value)} /s"
  defp quantity(value, :kib), do: "#{number(value / 1024)} MiB"
  defp quantity(value, :percent), do: "#{number(value)} %"
  defp quantity(value, :ratio), do: number(value)

  defp number(value) when value == 0, do: "0"
  defp number(value) when abs(value) >= 100, do: Integer.to_string(round(value))
  defp number(value) when abs(value) >= 10, do: :erlang.float_to_binary(value / 1, decimals: 1)
  defp number(value), do: :erlang.float_to_binary(value / 1, decimals: 2)

  defp pad(text, width), do: String.pad_trailing(text, width)
  defp pad_left(text, width), do: String.pad_leading(text, width)

  def write_json(path, value) do
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, [json(value), "\n"])
    IO.puts("written to #{Path.relative_to_cwd(path)}")
  end

  defp json(map) when is_map(map) do
    [
      "{",
      map
      |> Enum.sort()
      |> Enum.map(fn {key, value} -> [json(to_string(key)), ": ", json(value)] end)
      |> Enum.intersperse(",\n "),
      "}"
    ]
  end

  defp json(list) when is_list(list), do: ["[", list |> Enum.map(&json/1) |> Enum.intersperse(", "), "]"]
  defp json({bound, value}), do: json([bound, value])
  defp json(value) when is_number(value) or is_boolean(value), do: to_string(value)
  defp json(nil), do: "null"
  defp json(value) when is_atom(value), do: json(Atom.to_string(value))

  defp json(text) when is_binary(text) do
    [?", String.replace(text, ~w(\\ "), &("\\" <> &1)) |> String.replace("\n", "\\n"), ?"]
  end
end
