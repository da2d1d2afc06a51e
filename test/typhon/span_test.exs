defmodule Typhon.SpanTest do
  # Not async: whether Elixir has the module Duration is the same for all.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.EncodeError

  @fields [year: 0, month: 0, week: 0, day: 0, hour: 0, minute: 0, second: 0, microsecond: {0, 0}]

  defp duration(fields), do: struct!(Duration, fields)

  defp echo(py, term, options \\ []), do: Typhon.call(py, :sample, :echo, [term], options)

  describe "where Elixir has no Duration" do
    # From 1.17 on there is always one.
    unless Code.ensure_loaded?(Duration) do
      test "a timedelta is a tuple" do
        py = start_pool()

        for {args, tuple} <- [
              {[0, 0, 0], {:timedelta, 0, 0, 0}},
              {[1, 2, 3], {:timedelta, 1, 2, 3}},
              {[0, -1, 0], {:timedelta, -1, 86_399, 0}},
              {[999_999_999, 86_399, 999_999], {:timedelta, 999_999_999, 86_399, 999_999}}
            ] do
          assert Typhon.call(py, :shapes, :time_span, args) == {:ok, tuple}
          assert echo(py, [tuple, %{"k" => tuple}]) == {:ok, [tuple, %{"k" => tuple}]}
        end
      end
    end
  end

  describe "the tuple" do
    test "is a timedelta in Python, also where atoms are strings" do
      for options <- [[], [values: :strings], [keys: :strings, values: :strings]] do
        py = start_pool(options)
        assert Typhon.call(py, :shapes, :seconds, [{:timedelta, 0, 90, 500_000}]) == {:ok, 90.5}
        assert {:ok, [_, set]} = echo(py, [{:timedelta, 1, 2, 3}, MapSet.new([{:timedelta, 0, 90_000, 0}])])
        assert MapSet.size(set) == 1
      end
    end

    test "with other elements is a tuple of Elixir's" do
      py = start_pool()

      for tuple <- [
            {:timedelta, 1, 2},
            {:timedelta, 1, 2.0, 3},
            {:timedelta, "a", 2, 3},
            {:timedelta, 1, 2, 3, 4}
          ] do
        assert echo(py, tuple) == {:ok, tuple}
        text = put_elem(tuple, 0, "timedelta")
        assert echo(py, tuple, values: :strings) == {:ok, text}
      end
    end

    test "that no timedelta holds is an error with its place" do
      py = start_pool()

      assert {:error, %EncodeError{path: ~s|args[0]["a"][1]|, reason: reason}} =
               echo(py, %{"a" => [1, {:timedelta, 1_000_000_000, 0, 0}]})

      assert reason =~ "cannot make a datetime.timedelta: OverflowError: "
    end
  end

  describe "where Elixir has Duration" do
    setup do
      unless Code.ensure_loaded?(Duration) do
        # A stand-in for that of Elixir 1.17
        Module.create(Duration, quote(do: defstruct(unquote(@fields))), Macro.Env.location(__ENV__))

        on_exit(fn ->
          :code.purge(Duration)
          :code.delete(Duration)
        end)
      end

      {:ok, py: start_pool()}
    end

    test "a timedelta is one", %{py: py} do
      for {args, fields} <- [
            {[0, 0, 0], []},
            {[1, 2, 3], [day: 1, second: 2, microsecond: {3, 6}]},
            {[0, -1, 0], [second: -1]},
            {[-2, 0, 5], [day: -1, second: -86_399, microsecond: {-999_995, 6}]}
          ] do
        assert Typhon.call(py, :shapes, :time_span, args) == {:ok, duration(fields)}
        assert echo(py, duration(fields)) == {:ok, duration(fields)}

        assert Typhon.multi(py, :shapes, :time_span, [args, args]) ==
                 List.duplicate({:ok, duration(fields)}, 2)
      end
    end

    test "one is a timedelta", %{py: py} do
      span = duration(week: 1, day: -1, hour: 2, minute: 3, second: 4, microsecond: {500_000, 6})
      assert Typhon.call(py, :shapes, :seconds, [span]) == {:ok, 6 * 86_400 + 7_384.5}
      assert Typhon.call(py, :shapes, :seconds, [span], values: :strings) == {:ok, 6 * 86_400 + 7_384.5}
      assert Typhon.call(py, :shapes, :seconds, [{:timedelta, 0, 1, 0}]) == {:ok, 1.0}
    end

    test "one with years or months is refused, with its place", %{py: py} do
      for fields <- [[year: 1], [month: -1, day: 3]] do
        assert {:error, %EncodeError{path: ~s|args[0]["a"]|, reason: reason}} =
                 echo(py, %{"a" => duration(fields)})

        assert reason =~ "a Duration with years or months, which have no fixed length"
      end
    end

    test "an implementation of Typhon.Encoder is not asked for it, and arguments may hold both", %{py: py} do
      point = %Typhon.EncoderTest.Point{x: duration(day: 1), y: nil}
      assert echo(py, [point]) == {:ok, [%{"x" => duration(day: 1), "y" => nil}]}
    end
  end
end
