defmodule Typhon.Livebook do
  @moduledoc """
  Objects of Python's in Livebook.

  Where the packages `kino` and `table` are, Typhon has implementations of their protocols. It does not depend on them.

  * `Kino.Render` for `Typhon.Object` and `Typhon.Rendered`: a cell that ends in a figure shows the figure, one that ends
    in a frame its HTML. Of several representations it shows the first there is of: HTML, Markdown, LaTeX, SVG, PNG or another
    picture, text.
  * `Table.Reader` for `Typhon.Object`: `Kino.DataTable.new(frame)` shows the frame, and `Table.to_rows(frame)` reads it. What has
    rows are frames and series of pandas and polars, tables of pyarrow. They are fetched from Python when they are
    looked at, up to 1,000 rows in a request. An index of pandas' that is more than the number of the row is a column, what is missing is
    nil, and a second column of the same name gets a number: `"a (2)"`.

  They are written for Kino 0.19.0 and Table 0.1.2. Each is there when its package is compiled before Typhon is, and Mix does
  not know of this order. When a cell shows `#Typhon.Object<…>` in place of the figure, compile Typhon once more:
  `mix deps.compile typhon --force`.
  """

  alias Typhon.{Object, Rendered}

  # As notebooks prefer them.
  @preferred ~w(text/html text/markdown text/latex image/svg+xml image/png)

  @doc false
  # What is shown of an object: a representation, or why there is none.
  @spec shown(Object.t() | Rendered.t()) :: {String.t(), binary}
  def shown(%Object{} = object) do
    case Rendered.render(object, []) do
      {:ok, rendered} -> shown(rendered)
      {:error, error} -> {"text/plain", "#{inspect(object)}\n\n#{Exception.message(error)}"}
    end
  end

  def shown(%Rendered{data: data} = rendered) do
    mime = Enum.find(@preferred, &is_map_key(data, &1)) || picture(data) || "text/plain"
    {mime, Map.get(data, mime, inspect(rendered))}
  end

  defp picture(data), do: data |> Map.keys() |> Enum.sort() |> Enum.find(&String.starts_with?(&1, "image/"))
end

if match?({:module, _}, Code.ensure_compiled(Kino.Render)) do
  defimpl Kino.Render, for: [Typhon.Object, Typhon.Rendered] do
    def to_livebook(value), do: value |> Typhon.Livebook.shown() |> kino() |> Kino.Render.to_livebook()

    defp kino({"text/html", html}), do: Kino.HTML.new(html)
    # Markdown of Livebook's has formulas.
    defp kino({mime, text}) when mime in ["text/markdown", "text/latex"], do: Kino.Markdown.new(text)
    defp kino({"image/" <> _ = mime, picture}), do: Kino.Image.new(picture, mime)
    defp kino({_text, text}), do: Kino.Text.new(text)
  end
end

if match?({:module, _}, Code.ensure_compiled(Table.Reader)) do
  defimpl Table.Reader, for: Typhon.Object do
    def init(object) do
      case Typhon.Livebook.Rows.of(object) do
        {columns, rows} -> {:rows, %{columns: columns, count: rows.count}, rows}
        nil -> :none
      end
    end
  end
end
