defmodule Typhon.WireTest do
  use ExUnit.Case, async: true

  test "the native library has the same numbers" do
    assert Typhon.Native.numbers() == Typhon.Wire.numbers()
  end

  test "the page on internals has each function of the library" do
    page = File.read!(Path.expand("../../docs/internals.md", __DIR__))
    # What Elixir adds to the library's own.
    own = [:atom_room, :archive, :load, :load_error, :priv_dir, :priv_path, :read, :wire_atoms]
    functions = for {name, _} <- Typhon.Native.__info__(:functions), name not in own, uniq: true, do: name
    assert for(name <- functions, not String.contains?(page, "#{name}("), do: name) == []
  end

  test "a channel's name in its pool holds the place" do
    assert Typhon.Wire.place(Typhon.Wire.where(7, 123_456)) == 7
  end
end
