defmodule Typhon.ArrayTest do
  use ExUnit.Case, async: true

  alias Typhon.Array

  doctest Typhon.Array

  describe "new/3 and to_list/1" do
    test "are each other's inverse for every dtype" do
      for {dtype, elements} <- [
            {:f64, [1.5, -2.25, :nan, :infinity, :neg_infinity]},
            {:f32, [1.5, -2.25, :nan, :infinity, :neg_infinity]},
            {:f16, [1.5, -2.25, :nan, :infinity, :neg_infinity]},
            {:s8, [-128, 0, 127]},
            {:s16, [-32_768, 0, 32_767]},
            {:s32, [-2_147_483_648, 0, 2_147_483_647]},
            {:s64, [-9_223_372_036_854_775_808, 9_223_372_036_854_775_807]},
            {:u8, [0, 255]},
            {:u16, [0, 65_535]},
            {:u32, [0, 4_294_967_295]},
            {:u64, [0, 18_446_744_073_709_551_615]},
            {:bool, [true, false]},
            {:c64, [{1.0, -2.0}]},
            {:c128, [{1.0, :infinity}]}
          ] do
        assert elements |> Array.new({length(elements)}, dtype) |> Array.to_list() == elements
      end
    end

    test "take every shape" do
      assert Array.to_list(Array.new([7], {}, :u8)) == 7
      assert Array.to_list(Array.new([], {0}, :u8)) == []
      assert Array.to_list(Array.new([], {0, 3}, :u8)) == []
      assert Array.to_list(Array.new([], {2, 0}, :u8)) == [[], []]
      nested = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
      assert Array.to_list(Array.new(nested, {2, 2, 2}, "<i4")) == nested
    end

    test "read dates, durations and strings, which come from numpy alone" do
      for {dtype, count, element} <- [
            {"<M8[Y]", 54, ~D[2024-01-01]},
            {"<M8[M]", -1, ~D[1969-12-01]},
            {"<M8[W]", 1, ~D[1970-01-08]},
            {"<M8[D]", -1, ~D[1969-12-31]},
            {"<M8[h]", 1, ~N[1970-01-01 01:00:00]},
            {"<M8[25s]", 2, ~N[1970-01-01 00:00:50]},
            {"<M8[ms]", 1, ~N[1970-01-01 00:00:00.001000]},
            {"<M8[us]", 1, ~N[1970-01-01 00:00:00.000001]},
            {"<M8[ns]", 1_700_000_000_123_456_789, ~N[2023-11-14 22:13:20.123456]},
            {"<M8[as]", -1, ~N[1969-12-31 23:59:59.999999]},
            {"<M8[D]", -0x8000_0000_0000_0000, nil},
            {"<m8[s]", -5, -5},
            {"<m8[s]", -0x8000_0000_0000_0000, nil}
          ] do
        array = %Array{shape: {1}, dtype: dtype, data: <<count::signed-little-64>>}
        assert {dtype, Array.to_list(array)} == {dtype, [element]}
      end

      text = <<?é::little-32, 0::32, ?a::little-32, ?b::little-32>>
      assert Array.to_list(%Array{shape: {2, 1}, dtype: "<U2", data: text}) == [["é"], ["ab"]]
      assert Array.to_list(%Array{shape: {2}, dtype: "|S2", data: <<"a", 0, 1, 255>>}) == ["a", <<1, 255>>]
      assert Array.to_list(%Array{shape: {2}, dtype: "<U0", data: ""}) == ["", ""]

      for {dtype, count} <- [{"<M8[D]", 10_000_000_000}, {"<M8[Y]", 20_000}, {"<M8[s]", 2 ** 62}] do
        array = %Array{shape: {1}, dtype: dtype, data: <<count::signed-little-64>>}

        assert_raise ArgumentError, "the array holds a date that is not in the years -9999 to 9999", fn ->
          Array.to_list(array)
        end
      end

      assert_raise ArgumentError, ~r/lone surrogate/, fn ->
        Array.to_list(%Array{shape: {1}, dtype: "<U1", data: <<0xD800::little-32>>})
      end

      assert_raise ArgumentError, ~r/unknown dtype "<M8\[parsec\]"/, fn ->
        Array.to_list(%Array{shape: {1}, dtype: "<M8[parsec]", data: <<0::64>>})
      end
    end

    test "refuse what does not fit" do
      for {fun, text} <- [
            {fn -> Array.new(<<1, 2, 3>>, {1}, :f32) end,
             "an array of the shape {1} and the dtype <f4 has 4 bytes, got 3"},
            {fn -> Array.new([256], {1}, :u8) end, "256 does not fit into unsigned of 8 bits"},
            {fn -> Array.new([-129], {1}, :s8) end, "-129 does not fit into signed of 8 bits"},
            {fn -> Array.new(["x"], {1}, :f64) end, ~s|"x" does not fit into float of 64 bits|},
            {fn -> Array.new([1], {-1}, :f64) end, "a shape is a tuple of sizes, got {-1}"}
          ] do
        assert Exception.message(assert_raise(ArgumentError, fun)) == text
      end

      assert Exception.message(assert_raise(ArgumentError, fn -> Array.new([1], {1}, :f7) end)) =~
               ~s|unknown dtype :f7, expected one of "<f8" (:f64), |
    end
  end

  test "Inspect shows small arrays and the shape of large ones" do
    assert inspect(Array.new([[1, 2], [3, 4]], {2, 2}, :u8)) == "#Typhon.Array<u1 2×2 [[1, 2], [3, 4]]>"
    assert inspect(Array.new([7.0], {}, :f64)) == "#Typhon.Array<f8 7.0>"
    assert inspect(Array.new(<<0::8000>>, {1000}, :u8)) == "#Typhon.Array<u1 1000 …>"
    assert inspect(%Array{shape: {1}, dtype: "<f8", data: "bad"}) == "#Typhon.Array<f8 1 …>"
  end

  test "to_nx/1 says that Nx is not there" do
    unless Code.ensure_loaded?(Nx) do
      assert_raise ArgumentError, ~r/Nx is not there/, fn -> Array.to_nx(Array.new([1], {1}, :u8)) end
    end
  end
end
