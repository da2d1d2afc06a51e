defmodule Typhon.Soak.Payload do
  @moduledoc false
  # Random terms that come back from Python as they were.

  @atoms [:ok, :error, :some_atom, :"with space", nil, true, false]

  @spec term(non_neg_integer) :: term
  def term(depth \\ 3)

  def term(0) do
    case :rand.uniform(9) do
      1 -> :rand.uniform(100)
      2 -> :rand.uniform(1_000_000_000_000) - 500_000_000_000
      3 -> Bitwise.bsl(:rand.uniform(1_000_000), :rand.uniform(300))
      4 -> :rand.normal() * 1.0e6
      5 -> Enum.random(@atoms)
      6 -> text(:rand.uniform(20))
      7 -> text(:rand.uniform(2_000))
      8 -> Date.add(~D[2000-01-01], :rand.uniform(20_000))
      9 -> make_ref()
    end
  end

  def term(depth) do
    count = :rand.uniform(6) - 1

    case :rand.uniform(7) do
      1 -> for _ <- 1..count//1, do: term(depth - 1)
      2 -> List.to_tuple(for _ <- 1..count//1, do: term(depth - 1))
      3 -> for i <- 1..count//1, into: %{}, do: {"key #{i}", term(depth - 1)}
      4 -> MapSet.new(for _ <- 1..count//1, do: :rand.uniform(1_000))
      5 -> for _ <- 1..(count * 50)//1, do: :rand.uniform(300)
      6 -> term(0)
      7 -> {self(), term(depth - 1)}
    end
  end

  @spec text(non_neg_integer) :: String.t()
  def text(length),
    do: for(_ <- 1..length//1, into: "", do: <<Enum.random([?a, ?Z, ?\s, ?ä, ?€, ?\n, 0x1F600])::utf8>>)

  @doc "Bytes, mostly few, sometimes several megabytes."
  @spec bytes :: binary
  def bytes do
    size = :rand.uniform(Enum.random([100, 5_000, 20_000, 100_000, 1_000_000, 8_000_000]))
    pattern = :rand.bytes(min(size, 997))
    pattern |> :binary.copy(div(size, byte_size(pattern)) + 1) |> binary_part(0, size)
  end
end
