defmodule Typhon.PropertyTest do
  # Random terms through Python's identity function and back, by PropEr (Debian: erlang-proper).
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  unless Code.ensure_loaded?(:proper), do: @moduletag(skip: "PropEr is not there (Debian: erlang-proper)")

  setup_all do
    {:ok, py: start_pool(workers: 1)}
  end

  # Macros of PropEr's header file, written out.
  defp forall(type, property), do: :proper.forall(type, property)
  defp lazy(fun), do: :proper_types.lazy(fun)

  defp check(property, tests) do
    options = [:quiet, :long_result, {:numtests, tests}, {:max_size, 60}]

    case :proper.quickcheck(property, options) do
      true -> :ok
      counterexample -> flunk("it does not hold for #{inspect(counterexample, limit: :infinity)}")
    end
  end

  defp text do
    :proper_types.list(
      :proper_types.weighted_union([
        {6, :proper_types.integer(0, 127)},
        {2, :proper_types.integer(128, 0xD7FF)},
        {1, :proper_types.integer(0x10000, 0x10FFFF)}
      ])
    )
    |> bind(&List.to_string/1)
  end

  defp bind(type, fun), do: :proper_types.bind(type, fun, true)

  defp atom, do: :proper_types.oneof([:ok, :error, :undefined, :"strange atom", :ünïcode, nil, true, false])

  defp big_integer,
    do:
      bind(:proper_types.tuple([:proper_types.integer(), :proper_types.integer(0, 700)]), fn {n, bits} ->
        n * 2 ** bits + n
      end)

  defp leaf do
    :proper_types.oneof([
      :proper_types.integer(),
      :proper_types.integer(-0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF),
      big_integer(),
      :proper_types.float(),
      text(),
      atom(),
      # What is not UTF-8 goes as bytes; see wrap/1.
      :proper_types.binary(),
      :proper_types.bitstring(),
      self(),
      make_ref()
    ])
  end

  defp term(0), do: leaf()

  defp term(size) do
    smaller = lazy(fn -> term(div(size, 4)) end)

    :proper_types.weighted_union([
      {3, leaf()},
      {2, :proper_types.list(smaller)},
      {2, bind(:proper_types.list(smaller), &List.to_tuple/1)},
      {2, bind(:proper_types.list(:proper_types.tuple([smaller, smaller])), &Map.new/1)},
      {1, bind(:proper_types.tuple([smaller, leaf()]), &improper/1)},
      {1, :proper_types.list(:proper_types.integer(0, 255))}
    ])
  end

  # The end of an improper list is neither a list nor (so that it stays one) empty.
  defp improper({head, tail}), do: [head | tail]

  defp sized, do: :proper_types.sized(&term/1)

  # As the documentation says: a binary that is not UTF-8 has to be wrapped to cross, and comes back as the binary.
  defp wrap(binary) when is_binary(binary),
    do: if(String.valid?(binary), do: binary, else: Typhon.bytes(binary))

  defp wrap([head | tail]), do: [wrap(head) | wrap(tail)]
  defp wrap(map) when is_map(map), do: Map.new(map, fn {key, value} -> {wrap(key), wrap(value)} end)
  defp wrap(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> wrap() |> List.to_tuple()
  defp wrap(term), do: term

  # Python has one number line: 1, 1.0 and True are one key of a dict. And a list, a dict or a set cannot be a key.
  defp keys?(map) when is_map(map) do
    keys = Map.keys(map)
    Enum.all?(keys, &key?/1) and Enum.all?(Map.values(map), &keys?/1) and distinct?(keys)
  end

  defp keys?([head | tail]), do: keys?(head) and keys?(tail)
  defp keys?(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> keys?()
  defp keys?(_), do: true

  defp key?(list) when is_list(list), do: false
  defp key?(map) when is_map(map), do: false
  defp key?(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> Enum.all?(&key?/1)
  defp key?(_), do: true

  defp distinct?(keys) do
    length(Enum.uniq_by(keys, &as_python/1)) == length(keys)
  end

  defp as_python(true), do: 1
  defp as_python(false), do: 0

  defp as_python(float) when is_float(float),
    do: if(trunc(float) == float, do: trunc(float), else: float)

  defp as_python(tuple) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> Enum.map(&as_python/1) |> List.to_tuple()

  defp as_python(term), do: term

  test "any term comes back as it went", %{py: py} do
    check(
      forall(sized(), fn term ->
        not keys?(term) or Typhon.call(py, :sample, :echo, [wrap(term)], timeout: :infinity) === {:ok, term}
      end),
      300
    )
  end

  test "any arguments and keyword arguments arrive in their places", %{py: py} do
    check(
      forall(
        :proper_types.tuple([
          :proper_types.list(leaf()),
          bind(:proper_types.list(:proper_types.tuple([text(), leaf()])), &Map.new/1)
        ]),
        fn {args, kwargs} ->
          Typhon.call(py, :sample, :echo_all, wrap(args), kwargs: wrap_values(kwargs)) ===
            {:ok, {List.to_tuple(args), kwargs}}
        end
      ),
      100
    )
  end

  defp wrap_values(map), do: Map.new(map, fn {key, value} -> {key, wrap(value)} end)

  test "any binary crosses as bytes and as a buffer", %{py: py} do
    check(
      forall(:proper_types.binary(), fn binary ->
        Typhon.call(py, :sample, :echo, [Typhon.bytes(binary)]) === {:ok, binary} and
          Typhon.call(py, :sample, :echo, [Typhon.buffer(binary)]) === {:ok, binary}
      end),
      100
    )
  end

  test "any binary that is not UTF-8 is refused by its place, wherever it is", %{py: py} do
    check(
      forall(:proper_types.tuple([:proper_types.list(leaf()), text()]), fn {before, key} ->
        args = wrap(before) ++ [%{key => [<<255>>]}]
        path = "args[#{length(before)}]"

        case Typhon.call(py, :sample, :echo_all, args) do
          {:error, %Typhon.EncodeError{path: found}} -> String.starts_with?(found, path)
          _ -> false
        end
      end),
      100
    )
  end
end
