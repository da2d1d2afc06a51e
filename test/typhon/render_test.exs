defmodule Typhon.RenderTest do
  # What objects look like: pictures, HTML, text.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{EncodeError, Object, PythonError, Rendered, TimeoutError, WorkerError}

  @png <<0x89, "PNG\r\n", 0x1A, "\n">> <> :binary.list_to_bin(Enum.to_list(0..255))
  @svg "<svg xmlns='http://www.w3.org/2000/svg'/>"

  setup_all do
    {:ok, py: start_pool()}
  end

  defp object(py, function, args \\ []) do
    {:ok, %Object{} = object} = Typhon.call(py, :shown, function, args, as: :object)
    object
  end

  defp data(py, function, args \\ []) do
    {:ok, %Rendered{data: data}} = py |> object(function, args) |> Typhon.render()
    data
  end

  defp folder(%{} = _context) do
    folder = new_path("render")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    {:ok, folder: folder}
  end

  describe "render/2" do
    test "asks for what notebooks ask for", %{py: py} do
      assert data(py, :every) == %{
               "text/html" => "<b>ü</b>",
               "text/markdown" => "**b**",
               "text/latex" => "$x$",
               "image/svg+xml" => @svg,
               "image/png" => @png,
               "application/pdf" => "%PDF-1.7",
               "application/json" => ~s({"a": [1, null, "ü"]}),
               "application/javascript" => "1 + 1",
               "text/plain" => "Rich()"
             }

      assert data(py, :jpeg) == %{"image/jpeg" => <<0xFF, 0xD8, 0xFF, 0xE0>>, "text/plain" => "Rich()"}
      assert data(py, :base64_as_bytes) == %{"image/png" => @png, "text/plain" => "Rich()"}
    end

    test "takes a bundle first, and what else there is beside it", %{py: py} do
      assert data(py, :bundle) == %{
               "image/png" => @png,
               "image/gif" => "GIF89a",
               "application/vnd.chart.v5+json" => ~s({"mark": "bar"}),
               "application/json" => ~s({"a": 1}),
               "text/html" => "<p>\n</p>",
               "audio/wav" => <<0, 1>>,
               "application/x-own" => <<0xFF>>,
               "text/plain" => "Rich()"
             }

      assert data(py, :on_class) == %{
               "text/plain" => "by the bundle",
               "text/markdown" => "**instance**",
               "text/html" => "<b>instance</b>"
             }
    end

    test "passes over what raises and what is nonsense", %{py: py} do
      assert data(py, :nonsense) == %{"text/plain" => "Rich()"}
      assert data(py, :without_repr) == %{"text/html" => "<b>there</b>"}

      assert data(py, :odd_classes) == %{
               "text/html" => "<b>text</b>",
               "image/svg+xml" => "\\ud800",
               "text/plain" => "Rich()"
             }

      odd = data(py, :odd_bundle)
      assert map_size(odd) < 65
      assert odd["text/x-1"] == "many"
      assert odd["text/plain"] == "Rich()"
      for mime <- Map.keys(odd), do: assert(mime =~ ~r{\Atext/(x-\d+|plain)\z})
    end

    test "shows what has no such method, or has any method, as its repr", %{py: py} do
      assert data(py, :anything) == %{"text/plain" => "Anything()"}
      assert data(py, :refusing) == %{"text/plain" => "Refusing()"}
      assert %{"text/plain" => "<class 'shown.OnClass'>"} = class = data(py, :the_class)
      assert map_size(class) == 1

      for {value, text} <- [{[1, 2], "[1, 2]"}, {"ü", "'ü'"}, {nil, "None"}] do
        {:ok, object} = Typhon.eval(py, "value", [value: value], as: :object)
        assert {:ok, %Rendered{data: %{"text/plain" => ^text}}} = Typhon.render(object)
      end
    end

    test "is an error when nothing works: that of repr()", %{py: py} do
      silent = object(py, :silent)

      assert {:error, %PythonError{type: "ValueError", message: "nothing to see"} = error} =
               Typhon.render(silent)

      refute Exception.message(error) =~ "_render.py"
      assert_raise PythonError, fn -> Typhon.render!(silent) end
    end

    test "is the error of repr(), whatever that exception is", %{py: py} do
      code = """
      class Falsy(Exception):
          def __bool__(self): return False

      class Silent:
          def __repr__(self): raise Falsy("nothing")

      Silent()
      """

      {:ok, silent} = Typhon.eval(py, code)
      assert {:error, %PythonError{message: "nothing"} = error} = Typhon.render(silent)
      assert error.type =~ "Falsy"
    end

    test "has JSON that is JSON", %{py: py} do
      code = """
      class Chart:
          def __init__(self, json): self.json = json
          def _repr_json_(self): return self.json
          def __repr__(self): return "Chart()"

      Chart(eval(json))
      """

      for json <- ["float('nan')", "[float('-inf')]", "{'a': float('inf')}"] do
        {:ok, chart} = Typhon.eval(py, code, json: json)
        assert Typhon.render!(chart).data == %{"text/plain" => "Chart()"}
      end

      # A str that is no JSON is a string of it.
      for {json, text} <- [{"'NaN'", ~S("NaN")}, {"'[Infinity]'", ~S("[Infinity]")}, {"'[1.5]'", "[1.5]"}] do
        {:ok, chart} = Typhon.eval(py, code, json: json)
        assert Typhon.render!(chart).data["application/json"] == text
      end
    end

    test "says what there is when it is inspected, not the bytes", %{py: py} do
      assert inspect(Typhon.render!(object(py, :jpeg))) ==
               "#Typhon.Rendered<shown.Rich: image/jpeg (4 bytes), text/plain (6 bytes)>"
    end

    # Inside the VM large binaries do not count.
    @tag :os_process
    test "does not take what is larger than the pool allows" do
      py = start_pool(max_result: 100_000)
      large = object(py, :large, [200_000])
      assert {:error, %EncodeError{reason: reason}} = Typhon.render(large)
      assert reason =~ "max_result"
      assert {:error, %EncodeError{reason: ^reason}} = Typhon.save(large, "large.png")
      assert byte_size(data(py, :large, [50_000])["image/png"]) == 50_264
    end

    test "has a deadline, as a call has", %{py: py} do
      slow = object(py, :slow)
      assert {:error, %TimeoutError{} = error} = Typhon.render(slow, timeout: 100)
      assert Exception.message(error) =~ "Typhon.render with 1 argument did not answer"
      assert {:error, %TimeoutError{} = error} = Typhon.save(slow, "slow.html", timeout: 100)
      assert Exception.message(error) =~ "Typhon.save with 2 arguments did not answer"
      # It is interrupted: the worker is free again.
      assert {:ok, 2} = Typhon.eval(py, "1 + 1")
    end

    test "does not depend on what the pool makes of keys and values" do
      py = start_pool(keys: :strings, values: :strings)
      assert %{"text/plain" => "Rich()", "image/png" => @png} = data(py, :every)
    end

    test "is of objects alone, and of those that are there", %{py: py} do
      assert_raise ArgumentError, ~r"Typhon.render/2 takes a Typhon.Object, got 5", fn -> Typhon.render(5) end
      object = object(py, :every)
      assert_raise ArgumentError, ~r/Typhon.render\/2.*:as/s, fn -> Typhon.render(object, as: :object) end

      pool = start_pool()
      lost = object(pool, :every)
      :ok = Typhon.restart(pool)
      assert {:error, %WorkerError{}} = Typhon.render(lost)
    end
  end

  describe "save/3" do
    setup :folder

    test "writes what the extension says", %{py: py, folder: folder} do
      every = object(py, :every)
      rendered = Typhon.render!(every)

      for {name, data} <- [
            {"a.png", @png},
            {"a.SVG", @svg},
            {"a.pdf", "%PDF-1.7"},
            {"a.html", "<b>ü</b>"},
            {"a.htm", "<b>ü</b>"},
            {"a.md", "**b**"},
            {"a.tex", "$x$"},
            {"a.js", "1 + 1"},
            {"a.json", ~s({"a": [1, null, "ü"]})},
            {"a.txt", "Rich()"}
          ],
          what <- [every, rendered] do
        path = Path.join(folder, name)
        assert Typhon.save(what, path) == :ok
        assert File.read!(path) == data
        File.rm!(path)
      end

      assert Typhon.save(object(py, :jpeg), [folder, "/a.jpeg"]) == :ok
      assert File.read!(Path.join(folder, "a.jpeg")) == <<0xFF, 0xD8, 0xFF, 0xE0>>
    end

    test "says what there is instead, and what failed", %{py: py, folder: folder} do
      path = Path.join(folder, "a.png")
      rendered = Typhon.render!(object(py, :jpeg))
      assert {:error, %EncodeError{type: "shown.Rich"} = error} = Typhon.save(rendered, path)

      assert Exception.message(error) ==
               "a value of type shown.Rich has no image/png. What there is of it: image/jpeg, text/plain"

      assert {:error, %EncodeError{} = error} = Typhon.save(object(py, :nonsense), Path.join(folder, "a.svg"))
      assert Exception.message(error) =~ "no image/svg+xml. What there is of it: text/plain. What failed: "
      assert Exception.message(error) =~ "_repr_svg_: ValueError: no picture today"

      assert {:error, %EncodeError{} = error} =
               Typhon.save(object(py, :silent, [String.duplicate("x", 9_000)]), path)

      assert Exception.message(error) =~ "What there is of it: nothing. What failed: "
      assert byte_size(Exception.message(error)) < 1_000
      refute File.exists?(path)

      code = """
      class Meta(type):
          def __getattribute__(self, name): raise KeyboardInterrupt

      class Odd(Exception, metaclass=Meta):
          def __str__(self): raise SystemExit(3)

      class Chart:
          def _repr_png_(self): raise Odd
          def __repr__(self): return "Chart()"

      Chart()
      """

      {:ok, chart} = Typhon.eval(py, code)
      assert {:error, %EncodeError{reason: reason}} = Typhon.save(chart, path)
      assert reason =~ "What there is of it: text/plain. What failed: _repr_png_: Odd"
    end

    test "says why a file cannot be written, and which names mean something", %{py: py, folder: folder} do
      every = object(py, :every)
      path = Path.join(folder, "missing/a.png")
      assert {:error, %File.Error{reason: :enoent, path: ^path} = error} = Typhon.save(every, path)
      assert Exception.message(error) =~ "could not write to file"

      assert_raise ArgumentError, ~r/one of .png, .svg.*"a.doc" is .doc/, fn ->
        Typhon.save(every, "a.doc")
      end

      assert_raise ArgumentError, ~r/"chart" is none/, fn -> Typhon.save(every, "chart") end

      assert_raise ArgumentError, ~r"Typhon.save/3 takes a Typhon.Object, got 5", fn ->
        Typhon.save(5, "a.png")
      end

      assert_raise ArgumentError, ~r/timout/, fn -> Typhon.save(Typhon.render!(every), "a.png", timout: 5) end
    end
  end
end
