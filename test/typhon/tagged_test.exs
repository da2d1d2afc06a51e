defmodule Typhon.TaggedTest do
  # Fractions and complex numbers of Python's, where the pool says tagged: true.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{EncodeError, Object}

  setup_all do
    {:ok, py: start_pool(tagged: true)}
  end

  defp eval(py, code), do: Typhon.call(py, :builtins, :eval, [code])
  defp type(py, term, options \\ []), do: Typhon.call(py, :sample, :type_of, [term], options)

  test "are handles otherwise, and tuples are tuples" do
    py = start_pool()
    assert {:ok, %Object{type: "fractions.Fraction"}} = Typhon.call(py, :shapes, :fraction, [])
    assert {:ok, %Object{type: "complex"}} = eval(py, "1j")
    assert type(py, {:fraction, 1, 3}) == {:ok, "tuple"}
    assert type(py, {:complex, 1.0, 3.0}) == {:ok, "tuple"}
  end

  test "are tuples that name them, both ways", %{py: py} do
    assert Typhon.call(py, :shapes, :fraction, []) == {:ok, {:fraction, 1, 3}}

    assert eval(py, "[1+2j, complex('nan'), complex('-infj')]") ==
             {:ok, [{:complex, 1.0, 2.0}, {:complex, :nan, 0.0}, {:complex, 0.0, :neg_infinity}]}

    for {term, type} <- [
          {{:fraction, 1, 3}, "fractions.Fraction"},
          {{:fraction, 2 ** 200, 3}, "fractions.Fraction"},
          {{:complex, 1.0, -2.5}, "complex"},
          {{:complex, :infinity, :nan}, "complex"}
        ],
        options <- [[], [keys: :strings, values: :strings]] do
      assert type(py, term, options) == {:ok, type}
      assert Typhon.call(py, :sample, :echo, [%{"k" => [term]}], options) == {:ok, %{"k" => [term]}}
    end

    assert Typhon.call(py, :operator, :add, [{:fraction, 1, 3}, {:fraction, 1, 6}]) ==
             {:ok, {:fraction, 1, 2}}

    assert Typhon.multi(py, :operator, :neg, [[{:fraction, 1, 3}], [{:complex, 1, 2}]]) ==
             [{:ok, {:fraction, -1, 3}}, {:ok, {:complex, -1.0, -2.0}}]
  end

  test "with other parts are tuples of Elixir's", %{py: py} do
    for term <- [{:fraction, 1, 2.0}, {:fraction, 1}, {:complex, 1.0, "2"}, {:complex, :other, 1.0}] do
      assert Typhon.call(py, :sample, :echo, [term]) == {:ok, term}
      assert type(py, term, values: :strings) == {:ok, "tuple"}
    end
  end

  test "go through questions of Python's", %{py: py} do
    assert Typhon.call(py, :functools, :reduce, [
             fn x, {:complex, 0.0, 1.0} -> x end,
             [{:fraction, 1, 3}, {:complex, 0, 1}]
           ]) ==
             {:ok, {:fraction, 1, 3}}
  end

  test "that are none are refused, with their place", %{py: py} do
    assert {:error, %EncodeError{path: "args[0][1]", reason: reason}} =
             Typhon.call(py, :sample, :echo, [[1, {:fraction, 1, 0}]])

    assert reason == "cannot make a fractions.Fraction: ZeroDivisionError: Fraction(1, 0)"
  end

  test "the option is Python's, and true or false" do
    assert_raise ArgumentError, ~r/tagged: must be true or false, got 1/, fn ->
      Typhon.start_link(tagged: 1)
    end

    assert_raise ArgumentError, ~r/tagged: is for Python alone/, fn ->
      Typhon.start_link(language: :ruby, tagged: true)
    end
  end
end
