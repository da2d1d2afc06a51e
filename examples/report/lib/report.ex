defmodule Report do
  @moduledoc """
  A monthly report out of a CSV file: a page of HTML, with a table and a chart.
  """

  alias Report.Sales

  require EEx
  EEx.function_from_file(:defp, :page, "lib/report.html.eex", [:rows, :regions, :best])

  @doc "Writes `report.html` and `chart.svg` into a folder; or says why there is no report."
  @spec write(Path.t(), Path.t()) :: :ok | {:error, String.t()}
  def write(csv, folder) do
    # `sales` and `table` are handles: the frames stay in Python, and the rows of the table alone come over.
    with {:ok, sales} <- Sales.read(csv),
         {:ok, table} <- Sales.monthly(sales),
         {:ok, rows} <- Sales.rows(table),
         {:ok, chart} <- Sales.chart(table),
         :ok <- Typhon.save(chart, Path.join(folder, "chart.svg")) do
      File.write!(Path.join(folder, "report.html"), html(rows))
    else
      # What sales.py or pandas says of the file.
      {:error, %Typhon.PythonError{message: message}} -> {:error, message}
      {:error, error} -> {:error, Exception.message(error)}
    end
  end

  @doc "The page of these rows. From here on all is Elixir: the rows are maps, the months dates, the revenues floats."
  @spec html([map]) :: String.t()
  def html(rows) do
    regions = rows |> hd() |> Map.delete("month") |> Map.keys() |> Enum.sort()
    page(rows, regions, Enum.max_by(rows, &total(&1, regions)))
  end

  defp total(row, regions), do: regions |> Enum.map(&row[&1]) |> Enum.sum()

  defp month(%Date{} = day), do: Calendar.strftime(day, "%B %Y")

  defp money(amount), do: :erlang.float_to_binary(amount / 1, decimals: 2)

  # A name out of a file may have any letters.
  defp text(name) do
    name |> String.replace("&", "&amp;") |> String.replace("<", "&lt;") |> String.replace(">", "&gt;")
  end
end
