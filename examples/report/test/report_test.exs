defmodule ReportTest do
  use ExUnit.Case

  @csv Application.app_dir(:report, "priv/sales.csv")

  setup do
    folder = Path.join(System.tmp_dir!(), "typhon-report-#{System.pid()}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    %{folder: folder}
  end

  test "the rows of the table" do
    {:ok, sales} = Report.Sales.read(@csv)
    assert %Typhon.Object{type: "pandas.DataFrame"} = sales
    rows = sales |> Report.Sales.monthly!() |> Report.Sales.rows!()

    assert length(rows) == 6
    assert %{"month" => ~D[2026-01-01], "North" => north} = hd(rows)

    # The same, in Elixir.
    assert north ==
             @csv
             |> File.stream!()
             |> Stream.map(&(&1 |> String.trim() |> String.split(",")))
             |> Stream.filter(&match?(["2026-01" <> _, "North" | _], &1))
             |> Enum.map(fn [_, _, _, pieces, price] -> String.to_integer(pieces) * String.to_float(price) end)
             |> Enum.sum()
  end

  test "a page and a chart", %{folder: folder} do
    assert Report.write(@csv, folder) == :ok

    html = File.read!(Path.join(folder, "report.html"))
    assert html =~ "Sales, January 2026 to June 2026"
    assert html =~ "<th>East &amp; West</th>"
    assert html =~ ~s|<img src="chart.svg"|

    chart = File.read!(Path.join(folder, "chart.svg"))
    assert chart =~ "<svg"
    # The legend has the regions.
    assert chart =~ "North"
  end

  test "the best month is that of the highest sum" do
    rows = [
      %{"month" => ~D[2026-01-01], "A" => 1.0, "B" => 9.0},
      %{"month" => ~D[2026-02-01], "A" => 6.0, "B" => 5.0}
    ]

    assert Report.html(rows) =~ "The best month was <b>February 2026</b>, with 11.00."
  end

  test "a file that is no table of sales says what is missing", %{folder: folder} do
    csv = Path.join(folder, "people.csv")
    File.write!(csv, "name,day\nAnn,2026-01-01\n")
    assert Report.write(csv, folder) == {:error, "no column region, product, pieces, price in #{csv}"}
  end

  test "a day that is none", %{folder: folder} do
    csv = Path.join(folder, "sales.csv")

    File.write!(
      csv,
      "day,region,product,pieces,price\n2026-02-28,North,tea,1,3.5\n2026-02-30,North,tea,1,3.5\n"
    )

    assert Report.write(csv, folder) == {:error, "#{csv}, line 3: 2026-02-30 is no day"}
  end

  test "a file without sales", %{folder: folder} do
    csv = Path.join(folder, "sales.csv")
    File.write!(csv, "day,region,product,pieces,price\n")
    assert Report.write(csv, folder) == {:error, "no sales in #{csv}"}
  end

  test "a file that is not there", %{folder: folder} do
    assert {:error, message} = Report.write(Path.join(folder, "none.csv"), folder)
    assert message =~ "No such file"
  end

  test "a folder that is not there", %{folder: folder} do
    assert {:error, message} = Report.write(@csv, Path.join(folder, "none"))
    assert message =~ "no such file or directory"
  end

  test "the wrapper has the documentation of Python's functions" do
    {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(Report.Sales)
    assert {_, _, _, %{"en" => doc}, _} = List.keyfind(docs, {:function, :monthly, 2}, 0)
    assert doc =~ "a row for each month"
  end
end
