defmodule Typhon.LivebookTest do
  # With stand-ins for Kino.Render and Table.Reader (test/support/livebook.ex).
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{Object, PythonError, Rendered, WorkerError}

  setup_all do
    # A process: its interpreter had no user before, so the stand-in for pyarrow (test/support/py/tables.py) is the only one there.
    {:ok, py: start_pool(isolation: :process)}
  end

  defp object(py, module, function, args) do
    {:ok, %Object{} = object} = Typhon.call(py, module, function, args, as: :object)
    object
  end

  defp table(py, names, columns), do: object(py, :tables, :table, [names, columns])

  describe "Kino.Render" do
    test "shows a handle as what comes first of its representations", %{py: py} do
      shown = fn function -> Kino.Render.to_livebook(object(py, :shown, function, [])) end

      assert shown.(:every) == %{type: :js, html: "<b>ü</b>"}
      assert %{type: :image, mime_type: "image/jpeg", content: <<0xFF, 0xD8, 0xFF, 0xE0>>} = shown.(:jpeg)

      assert %{type: :image, mime_type: "image/png", content: <<0x89, "PNG", _::binary>>} =
               shown.(:base64_as_bytes)

      assert shown.(:nonsense) == %{type: :plain_text, text: "Rich()"}
    end

    test "shows what has been rendered" do
      for {data, output} <- [
            {%{"text/markdown" => "*x*", "image/png" => "p"}, %{type: :markdown, text: "*x*"}},
            {%{"text/latex" => "$x$", "text/plain" => "x"}, %{type: :markdown, text: "$x$"}},
            {%{"image/svg+xml" => "<svg/>", "image/png" => "p"},
             %{type: :image, mime_type: "image/svg+xml", content: "<svg/>"}},
            {%{"image/gif" => "g", "text/plain" => "x"},
             %{type: :image, mime_type: "image/gif", content: "g"}},
            {%{"application/pdf" => "p", "text/plain" => "x"}, %{type: :plain_text, text: "x"}},
            {%{"application/pdf" => "p"},
             %{type: :plain_text, text: "#Typhon.Rendered<a.B: application/pdf (1 bytes)>"}}
          ] do
        assert Kino.Render.to_livebook(%Rendered{data: data, type: "a.B"}) == output
      end
    end

    test "says why an object cannot be shown", %{py: py} do
      assert %{type: :plain_text, text: text} = Kino.Render.to_livebook(object(py, :shown, :silent, []))
      assert text =~ "#Typhon.Object<shown.Rich"
      assert text =~ "ValueError: nothing to see"
    end
  end

  describe "Table.Reader" do
    test "reads rows of a table, a part of them in one request", %{py: py} do
      object = table(py, ["n", "square"], [Enum.to_list(1..2_500), for(n <- 1..2_500, do: n * n)])
      assert {:rows, %{columns: ["n", "square"], count: 2_500}, rows} = Table.Reader.init(object)

      assert Enum.count(rows) == 2_500
      assert Enum.take(rows, 2) == [[1, 1], [2, 4]]
      assert Enum.slice(rows, 1_200, 2) == [[1_201, 1_442_401], [1_202, 1_444_804]]
      assert Enum.at(rows, -1) == [2_500, 6_250_000]
      assert Enum.to_list(rows) == for(n <- 1..2_500, do: [n, n * n])
      assert Enum.slice(rows, 0..2_499//1_249) == [[1, 1], [1_250, 1_562_500], [2_499, 6_245_001]]
      assert Enum.slice(rows, 2_500, 5) == []
      assert [2_500, 6_250_000] in rows

      {:ok, slices} = Typhon.get(object, :slices)
      assert Enum.all?(slices, fn {_start, count} -> count <= 1_000 end)
    end

    test "gives columns of one name different names", %{py: py} do
      names = ["a", "a", "a (2)", "a", "b"]
      {:rows, %{columns: columns}, rows} = Table.Reader.init(table(py, names, List.duplicate([1], 5)))
      assert columns == ["a", "a (2)", "a (2) (2)", "a (3)", "b"]
      assert Enum.to_list(rows) == [[1, 1, 1, 1, 1]]
    end

    test "has no rows where there are none", %{py: py} do
      assert {:rows, %{columns: [], count: 0}, rows} = Table.Reader.init(table(py, [], []))
      assert Enum.to_list(rows) == []
      assert {:rows, %{columns: ["a"], count: 0}, rows} = Table.Reader.init(table(py, ["a"], [[]]))
      assert Enum.to_list(rows) == []
      assert Enum.slice(rows, 0, 5) == []
    end

    test "ends with a table that has become shorter", %{py: py} do
      object = table(py, ["n"], [Enum.to_list(1..1_500)])
      {:rows, _, rows} = Table.Reader.init(object)
      {:ok, nil} = Typhon.call(py, object, :drop, [1_000])
      assert Enum.to_list(rows) == for(n <- 1..500, do: [n])
      assert Enum.slice(rows, 499, 10) == [[500]]
    end

    test "is none of what is no table, and an error when Python cannot be asked", %{py: py} do
      assert Table.Reader.init(object(py, :shown, :every, [])) == :none
      assert Table.Reader.init(object(py, :builtins, :list, [[1]])) == :none

      other = start_pool(isolation: :process)
      object = table(other, ["n"], [[1]])
      {:rows, _, rows} = Table.Reader.init(object)
      :ok = Typhon.restart(other)
      assert_raise WorkerError, fn -> Table.Reader.init(object) end
      assert_raise WorkerError, fn -> Enum.to_list(rows) end

      odd = table(py, ["n"], [[1]])
      {:rows, _, rows} = Table.Reader.init(odd)
      :ok = Typhon.set(odd, :columns, 5)
      assert_raise PythonError, fn -> Enum.to_list(rows) end
    end
  end
end
