defmodule Typhon.WireTest do
  use ExUnit.Case, async: true

  test "the native library has the same numbers" do
    assert Typhon.Native.numbers() == Typhon.Wire.numbers()
  end

  test "a channel's name in its pool holds the place" do
    assert Typhon.Wire.place(Typhon.Wire.where(7, 123_456)) == 7
  end
end
