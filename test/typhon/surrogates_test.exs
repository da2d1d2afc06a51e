defmodule Typhon.SurrogatesTest do
  # A str of Python may hold lone surrogates, which no string of Elixir can.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.EncodeError

  defp eval(py, code), do: Typhon.call(py, :builtins, :eval, [code])

  test "are refused, with a sentence that names the option" do
    py = start_pool(workers: 1)
    assert {:error, %EncodeError{path: "result[1]", reason: reason}} = eval(py, ~S|["a", "b\udcff"]|)

    assert reason ==
             "a str with a lone surrogate (character 1 is U+DCFF), which no UTF-8 can hold. Python makes such a str of a " <>
               "file name that is not UTF-8: the option surrogates: of the pool lets it go as :bytes, or with :replace"
  end

  @tag :tmp_dir
  test "of file names are the bytes that these consist of", %{tmp_dir: dir} do
    py = start_pool(workers: 1, surrogates: :bytes)
    name = <<"caf", 0xE9, ".txt">>
    File.write!(dir <> "/" <> name, "latin-1")
    File.write!(Path.join(dir, "ä.txt"), "utf-8")
    assert {:ok, names} = Typhon.call(py, :os, :listdir, [dir])
    assert Enum.sort(names) == Enum.sort([name, "ä.txt"])
    code = "lambda dir, name: open(__import__('os').path.join(__import__('os').fsencode(dir), name)).read()"
    {:ok, read} = eval(py, code)
    assert Typhon.call(py, read, :__call__, [dir, Typhon.bytes(name)]) == {:ok, "latin-1"}
  end

  test "are bytes at any depth, in keys, in large texts and in batches" do
    py = start_pool(workers: 1, surrogates: :bytes)
    assert eval(py, ~S|{"\udcff": [("a\udc80",)]}|) == {:ok, %{<<255>> => [{<<"a", 128>>}]}}
    assert eval(py, ~S|{"\udcff"}|) == {:ok, MapSet.new([<<255>>])}
    assert eval(py, ~S|["é" * 100_000 + "\udcff"]|) == {:ok, [String.duplicate("é", 100_000) <> <<255>>]}
    assert eval(py, ~S|type("Name", (str,), {})("\udcff")|) == {:ok, <<255>>}
    assert eval(py, ~S|[__import__("pathlib").Path("a/\udcff")]|) == {:ok, [<<"a/", 255>>]}
    assert Typhon.multi(py, :builtins, :eval, [[~S|"\udcff"|], ["1"]]) == [{:ok, <<255>>}, {:ok, 1}]

    # What Python says and asks.
    code = ~S|[f("\udcff") for f in [ask]]|
    {:ok, ask} = eval(py, "lambda ask: #{code}")
    assert Typhon.call(py, ask, :__call__, [fn name -> byte_size(name) end]) == {:ok, [1]}

    # One that stands for no byte.
    assert {:error, %EncodeError{reason: reason}} = eval(py, ~S|"\udcff\ud800"|)
    assert reason == "a str with a lone surrogate (character 1 is U+D800) that stands for no byte"
  end

  test "are replaced" do
    py = start_pool(workers: 1, surrogates: :replace)
    assert eval(py, ~S|["a\udcff😀\ud800", {"\udfff": 1}]|) == {:ok, ["a\uFFFD😀\uFFFD", %{"\uFFFD" => 1}]}
    assert eval(py, ~S|__import__("pathlib").Path("\udcff")|) == {:ok, "\uFFFD"}
  end

  test "make no two keys one" do
    for {surrogates, codes} <- [
          bytes: [
            ~S|{"\udcff": 1, b"\xff": 2}|,
            ~S|{"\udcc3\udca9": 1, "é": 2}|,
            ~S|{"é", "\udcc3\udca9"}|,
            ~S|{"\udcff": 1, __import__("pathlib").Path("\udcff"): 2}|
          ],
          replace: [
            ~S|{"\udcff": 1, "\udcfe": 2}|,
            ~S|{"\udcff": 1, "\ufffd": 2}|,
            ~S|{"\udcff", "\udcfe"}|,
            ~S|{"\ufffd", __import__("pathlib").Path("\udcff")}|
          ]
        ] do
      py = start_pool(workers: 1, surrogates: surrogates)

      for code <- codes do
        assert {:error, %EncodeError{reason: reason}} = eval(py, code)
        assert reason =~ "are one term on the BEAM"
      end
    end
  end

  test "have an option of three values, for Python alone" do
    assert_raise ArgumentError, "surrogates: must be :error, :bytes or :replace, got :ignore", fn ->
      Typhon.start_link(surrogates: :ignore)
    end

    assert_raise ArgumentError, ~r/surrogates: is for Python alone/, fn ->
      Typhon.start_link(language: :ruby, surrogates: :bytes)
    end
  end
end
