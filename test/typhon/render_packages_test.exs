defmodule Typhon.RenderPackagesTest do
  # What matplotlib, Pillow and pandas draw. scripts/test installs them.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{EncodeError, Object, Rendered}

  @moduletag :packages
  @moduletag timeout: 600_000

  @png <<0x89, "PNG\r\n", 0x1A, "\n">>

  setup_all do
    {:ok, py: start_pool()}
  end

  defp eval(where, code) do
    {:ok, %Object{} = object} = Typhon.eval(where, code, %{}, timeout: 120_000, as: :object)
    object
  end

  defp data(object) do
    {:ok, %Rendered{data: data}} = Typhon.render(object, timeout: 120_000)
    data
  end

  @tag :tmp_dir
  test "figures of matplotlib's, and what is part of one", %{py: py, tmp_dir: dir} do
    figure = eval(py, "import matplotlib.pyplot as plt; plt.plot([1, 3, 2]); plt.gcf()")
    assert {:ok, "agg"} = Typhon.eval(py, "import matplotlib; matplotlib.get_backend()")
    assert {:ok, []} = Typhon.eval(py, "import matplotlib.pyplot as plt; plt.get_fignums()")
    assert %{"image/png" => @png <> _, "text/plain" => "<Figure" <> _} = data(figure)

    for part <- ["plt.plot([1, 2])[0]", "plt.axes()", "plt.figure().subfigures(1, 2)[0].subplots()"] do
      assert %{"image/png" => @png <> _} = data(eval(py, "import matplotlib.pyplot as plt; #{part}"))
    end

    for {name, start} <- [
          {"a.png", @png},
          {"a.jpg", <<0xFF, 0xD8>>},
          {"a.pdf", "%PDF"},
          {"a.eps", "%!PS"},
          {"a.svg", "<?xml"}
        ] do
      path = Path.join(dir, name)
      assert Typhon.save(figure, path, timeout: 120_000) == :ok
      assert String.starts_with?(File.read!(path), start)
    end

    assert {:error, %EncodeError{} = error} = Typhon.save(figure, Path.join(dir, "a.html"), timeout: 120_000)
    assert Exception.message(error) =~ "What there is of it: image/png, text/plain"
  end

  test "a figure of a scope goes on to be drawn, after pyplot has forgotten it", %{py: py} do
    {:ok, scope} = Typhon.scope(py)
    options = [timeout: 120_000]

    assert {:ok, nil} =
             Typhon.eval(scope, "import matplotlib.pyplot as plt; fig, ax = plt.subplots()", %{}, options)

    {:ok, figure} = Typhon.get(scope, :fig)
    empty = data(figure)["image/png"]
    assert {:ok, []} = Typhon.eval(scope, "ax.plot([1, 2]); plt.get_fignums()", %{}, options)
    assert %{"image/png" => @png <> _ = drawn} = data(figure)
    assert drawn != empty
  end

  @tag :tmp_dir
  test "images of Pillow's", %{py: py, tmp_dir: dir} do
    image = eval(py, "from PIL import Image; Image.new('RGBA', (4, 4), 'red')")
    data = data(image)
    assert %{"image/png" => @png <> _, "text/plain" => _} = data
    refute Map.has_key?(data, "image/jpeg")

    for {name, start} <- [{"a.jpeg", <<0xFF, 0xD8>>}, {"a.gif", "GIF8"}, {"a.bmp", "BM"}, {"a.png", @png}] do
      path = Path.join(dir, name)
      assert Typhon.save(image, path, timeout: 120_000) == :ok
      assert String.starts_with?(File.read!(path), start)
    end
  end

  test "frames of pandas, and their columns", %{py: py} do
    frame = eval(py, "import pandas; pandas.DataFrame({'city': ['Oslo', 'Rome'], 'size': [7, 28]})")

    for object <- [frame, eval(py, "import pandas; pandas.Series(['Oslo'])")] do
      assert %{"text/html" => html, "text/plain" => text} = data(object)
      assert html =~ "<td>Oslo</td>"
      assert text =~ "Oslo"
    end

    assert rows(frame) == {["city", "size"], [["Oslo", 7], ["Rome", 28]]}
    assert rows(eval(py, "import pandas; pandas.Series(['Oslo'], name='city')")) == {["city"], [["Oslo"]]}

    odd = """
    import pandas
    pandas.DataFrame(
        {("a", 1): [1.5, None], "when": pandas.to_datetime(["2024-02-03", None]), "t": ["x", None], "ok": [True, False]},
        index=["first", "second"],
    )
    """

    assert rows(eval(py, odd)) ==
             {["index", "('a', 1)", "when", "t", "ok"],
              [["first", 1.5, ~N[2024-02-03 00:00:00], "x", true], ["second", nil, nil, nil, false]]}

    grouped = "import pandas; pandas.DataFrame({'c': ['b', 'a', 'b'], 'n': [1, 2, 3]}).groupby('c').sum()"
    assert rows(eval(py, grouped)) == {["c", "n"], [["a", 2], ["b", 4]]}
    same = "import pandas; pandas.DataFrame([[1, 2]], columns=['a', 'a'])"
    assert rows(eval(py, same)) == {["a", "a (2)"], [[1, 2]]}
    assert rows(eval(py, "import pandas; pandas.DataFrame(index=range(3))")) == {[], [[], [], []]}
  end

  test "tables of pyarrow, and frames of polars where it is", %{py: py} do
    table = "import pyarrow; pyarrow.table({'a': [1, None], 'b': ['x', 'y']})"
    assert rows(eval(py, table)) == {["a", "b"], [[1, "x"], [nil, "y"]]}
    assert rows(eval(py, table <> ".to_batches()[0]")) == {["a", "b"], [[1, "x"], [nil, "y"]]}

    if match?(
         {:ok, true},
         Typhon.eval(py, "import importlib.util; importlib.util.find_spec('polars') is not None")
       ) do
      frame = eval(py, "import polars; polars.DataFrame({'a': [1, None], 'b': ['x', 'y']})")
      assert rows(frame) == {["a", "b"], [[1, "x"], [nil, "y"]]}
      assert rows(eval(py, "import polars; polars.Series('s', [1, 2])")) == {["s"], [[1], [2]]}
      assert data(frame)["text/html"] =~ "<table"
    end
  end

  defp rows(object) do
    {:rows, %{columns: columns, count: count}, rows} = Table.Reader.init(object)
    assert Enum.count(rows) == count
    {columns, Enum.to_list(rows)}
  end
end
