defmodule Typhon.VectorsTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  # test/vectors/README.md says what the columns are.
  @index Path.expand("../vectors/index.tsv", __DIR__)
  @external_resource @index

  setup_all do
    {:ok, py: start_pool(atoms: :create)}
  end

  defp vectors do
    for line <- File.stream!(@index), not String.starts_with?(line, "#") do
      [name, flags, hex, _canonical, _source] = line |> String.trim_trailing("\n") |> String.split("\t")
      {name, String.split(flags, ","), Base.decode16!(hex, case: :mixed)}
    end
  end

  defp decode(bytes) do
    {:ok, :erlang.binary_to_term(bytes)}
  rescue
    ArgumentError -> :error
  end

  # Terms that come back as the type table says, and not as they went.
  defp plain?(binary) when is_binary(binary), do: String.valid?(binary)
  defp plain?([head | tail]), do: plain?(head) and plain?(tail)
  defp plain?(%_{}), do: false

  # A list or a dict cannot be the key of a dict, and 1 and 1.0 are one key.
  defp plain?(map) when is_map(map) do
    keys = Map.keys(map)

    not Enum.any?(keys, &(is_list(&1) or is_map(&1))) and
      not Enum.any?(keys, fn key -> Enum.any?(keys, &(&1 == key and &1 !== key)) end) and
      map |> Map.to_list() |> plain?()
  end

  defp plain?(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> plain?()
  defp plain?(_), do: true

  test "each term that this OTP reads goes through Python and back", %{py: py} do
    {sent, skipped} =
      for {name, flags, bytes} <- vectors(), "accept" in flags, {:ok, term} <- [decode(bytes)] do
        {name, term}
      end
      |> Enum.split_with(fn {_, term} -> plain?(term) end)

    for {name, term} <- sent do
      assert {name, Typhon.call(py, :sample, :echo, [term])} === {name, {:ok, term}}
    end

    # A guard against a reader that reads nothing.
    assert length(sent) > 50
    assert length(skipped) < length(sent)
  end

  test "binaries that are no strings go as bytes", %{py: py} do
    for {name, flags, bytes} <- vectors(), "accept" in flags do
      assert {name, Typhon.call(py, :sample, :echo, [Typhon.bytes(bytes)])} == {name, {:ok, bytes}}
    end
  end
end
