defmodule Typhon.Array do
  @moduledoc """
  An array of numbers: what a `numpy.ndarray` is in Elixir.

  * `shape` – the size of each dimension, a tuple: `{2, 3}` is two rows of three
  * `dtype` – what an element is, as numpy writes it: `"<f8"` is a little-endian float of 8 bytes
  * `data` – the elements, the last dimension varying fastest (C order), one binary

  A numpy array in a result comes as a `Typhon.Array`. One among the arguments becomes a read-only `numpy.ndarray` over the
  same bytes; numpy has to be installed for the Python in use.

      {:ok, py} = Typhon.start_link(workers: 1, python: ".venv")
      array = Typhon.Array.new([[1.0, 2.0], [3.0, 4.0]], {2, 2}, :f64)
      {:ok, 10.0} = Typhon.call(py, :numpy, :sum, [array])

  | dtype | short | element |
  |---|---|---|
  | `"<f8"`, `"<f4"`, `"<f2"` | `:f64`, `:f32`, `:f16` | float |
  | `"\|i1"`, `"<i2"`, `"<i4"`, `"<i8"` | `:s8`, `:s16`, `:s32`, `:s64` | signed integer |
  | `"\|u1"`, `"<u2"`, `"<u4"`, `"<u8"` | `:u8`, `:u16`, `:u32`, `:u64` | unsigned integer |
  | `"\|b1"` | `:bool` | boolean |
  | `"<c16"`, `"<c8"` | `:c128`, `:c64` | complex number, in Elixir `{real, imaginary}` |
  | `"<M8[D]"`, `"<M8[ns]"` … | | date or time: a `Date` (years to days) or a `NaiveDateTime` (hours and finer), `nil` for `NaT`; `to_list/1` alone |
  | `"<m8[s]"` … | | duration: an integer, in the unit of the dtype, `nil` for `NaT`; `to_list/1` alone |
  | `"<U5"`, `"\|S5"` … | | string, binary; `to_list/1` alone |

  An array of objects, of strings of any length, or with a mask (`numpy.ma`) comes as a list instead, nested as its shape says, with `nil`
  for what is masked. One whose elements have fields is refused; its columns can go.
  """

  @enforce_keys [:shape, :dtype, :data]
  defstruct [:shape, :dtype, :data]

  @type t :: %__MODULE__{shape: tuple, dtype: String.t(), data: binary}
  @type dtype :: String.t() | atom
  @type number_like ::
          number | boolean | :nan | :infinity | :neg_infinity | {number_like, number_like}

  # name, short name, type of Nx, kind, bytes of an element
  @types [
    {"<f8", :f64, {:f, 64}, :float, 8},
    {"<f4", :f32, {:f, 32}, :float, 4},
    {"<f2", :f16, {:f, 16}, :float, 2},
    {"|i1", :s8, {:s, 8}, :signed, 1},
    {"<i2", :s16, {:s, 16}, :signed, 2},
    {"<i4", :s32, {:s, 32}, :signed, 4},
    {"<i8", :s64, {:s, 64}, :signed, 8},
    {"|u1", :u8, {:u, 8}, :unsigned, 1},
    {"<u2", :u16, {:u, 16}, :unsigned, 2},
    {"<u4", :u32, {:u, 32}, :unsigned, 4},
    {"<u8", :u64, {:u, 64}, :unsigned, 8},
    {"|b1", :bool, nil, :bool, 1},
    {"<c8", :c64, {:c, 64}, :complex, 8},
    {"<c16", :c128, {:c, 128}, :complex, 16}
  ]

  # What a date of the unit counts, how many of them, and in how many parts one is divided. numpy counts from 1970 on.
  @units %{
    "Y" => {:months, 12, 1},
    "M" => {:months, 1, 1},
    "W" => {:days, 7, 1},
    "D" => {:days, 1, 1},
    "h" => {:microseconds, 3_600_000_000, 1},
    "m" => {:microseconds, 60_000_000, 1},
    "s" => {:microseconds, 1_000_000, 1},
    "ms" => {:microseconds, 1_000, 1},
    "us" => {:microseconds, 1, 1},
    "ns" => {:microseconds, 1, 1_000},
    "ps" => {:microseconds, 1, 1_000_000},
    "fs" => {:microseconds, 1, 1_000_000_000},
    "as" => {:microseconds, 1, 1_000_000_000_000}
  }
  # NaT
  @no_time -0x8000_0000_0000_0000

  @doc """
  Makes an array from the elements, as a (nested) list or as a binary in the layout of the dtype.

      iex> Typhon.Array.new([[1, 2, 3], [4, 5, 6]], {2, 3}, :u8).data
      <<1, 2, 3, 4, 5, 6>>

      iex> Typhon.Array.new(<<0, 0, 128, 63>>, {1}, "<f4") |> Typhon.Array.to_list()
      [1.0]

      iex> Typhon.Array.new([1, 2, 3], {2, 2}, :f64)
      ** (ArgumentError) an array of the shape {2, 2} holds 4 elements, got 3
  """
  @spec new(binary | [term], tuple, dtype) :: t
  def new(data, shape, dtype) when is_tuple(shape) do
    {name, _, _, kind, bytes} = type!(dtype)
    count = count!(shape)

    data =
      if is_binary(data) do
        data
      else
        flat = List.flatten(data)

        if length(flat) != count do
          raise ArgumentError,
                "an array of the shape #{inspect(shape)} holds #{count} elements, got #{length(flat)}"
        end

        for element <- flat, into: <<>>, do: pack(kind, bytes, element)
      end

    size!(data, shape, name, count * bytes)
    %__MODULE__{shape: shape, dtype: name, data: data}
  end

  @doc """
  The elements as a list, nested as the shape says; a number for an array without dimensions.

      iex> Typhon.Array.to_list(Typhon.Array.new(<<1, 2, 3, 4>>, {2, 2}, :u8))
      [[1, 2], [3, 4]]

  A float that is not a number comes as `:nan`, `:infinity` or `:neg_infinity`. What is finer than a microsecond is cut off.

      iex> Typhon.Array.to_list(%Typhon.Array{shape: {2}, dtype: "<M8[D]", data: <<1::little-64, 0::56, 0x80>>})
      [~D[1970-01-02], nil]
  """
  @spec to_list(t) :: [term] | term
  def to_list(%__MODULE__{shape: shape, dtype: dtype, data: data}) do
    {kind, bytes} = element!(dtype)
    size!(data, shape, dtype, count!(shape) * bytes)

    case Tuple.to_list(shape) do
      [] -> unpack(kind, bytes, data)
      dimensions -> nest(dimensions, data, kind, bytes)
    end
  end

  def to_list(other), do: no_array!(other, "to_list")

  # Strings of no length at all take no bytes.
  defp nest([size], _data, kind, 0), do: List.duplicate(unpack(kind, 0, ""), size)

  defp nest([_size], data, kind, bytes),
    do: for(at <- 0..(byte_size(data) - 1)//bytes, do: unpack(kind, bytes, binary_part(data, at, bytes)))

  defp nest([0 | _], _data, _kind, _bytes), do: []

  defp nest([size | rest], data, kind, bytes) do
    part = div(byte_size(data), size)
    for index <- 0..(size - 1), do: nest(rest, binary_part(data, index * part, part), kind, bytes)
  end

  @doc """
  The array as an `Nx.Tensor`: `tensor = Typhon.Array.to_nx(array)`. Raises `ArgumentError` when Nx is not among the application's dependencies, or when Nx has no
  such type.
  """
  @spec to_nx(t) :: struct
  def to_nx(%__MODULE__{} = array) do
    {name, _, type, _, _} = type!(array.dtype)

    # numpy's booleans are bytes of 0 and 1, and so are those of Nx.
    type = if name == "|b1", do: {:u, 8}, else: type

    unless Code.ensure_loaded?(Nx) do
      raise ArgumentError, "Nx is not there: add it to the dependencies in mix.exs"
    end

    tensor = apply(Nx, :from_binary, [array.data, type])
    apply(Nx, :reshape, [tensor, array.shape])
  end

  def to_nx(other), do: no_array!(other, "to_nx")

  @spec no_array!(term, String.t()) :: no_return
  defp no_array!(other, function) do
    raise ArgumentError,
          "Typhon.Array.#{function}/1 takes a Typhon.Array, which is an array of numpy's that Python has returned, " <>
            "got #{inspect(other)}"
  end

  @doc false
  @spec from_nx(struct) :: {:ok, t} | {:error, String.t()}
  def from_nx(tensor) do
    type = apply(Nx, :type, [tensor])

    case List.keyfind(@types, type, 2) do
      {name, _, _, _, _} ->
        {:ok,
         %__MODULE__{
           shape: apply(Nx, :shape, [tensor]),
           dtype: name,
           data: apply(Nx, :to_binary, [tensor])
         }}

      nil ->
        {:error, "numpy has no counterpart of the Nx type #{inspect(type)}: convert it with Nx.as_type/2"}
    end
  end

  defp type!(dtype) do
    case List.keyfind(@types, dtype, 0) || List.keyfind(@types, dtype, 1) do
      nil ->
        raise ArgumentError,
              "unknown dtype #{inspect(dtype)}, expected one of " <>
                Enum.map_join(@types, ", ", fn {name, short, _, _, _} ->
                  "#{inspect(name)} (#{inspect(short)})"
                end)

      type ->
        type
    end
  end

  # What an element is, and its bytes.
  defp element!(dtype) do
    case is_binary(dtype) && Regex.run(~r/\A(?:<(M|m)8\[(\d*)([a-zA-Z]+)\]|<(U)(\d+)|\|(S)(\d+))\z/, dtype) do
      [_, kind, count, unit] -> {time!(kind, count, unit, dtype), 8}
      [_, "", "", "", "U", length] -> {:text, 4 * String.to_integer(length)}
      [_, "", "", "", "", "", "S", length] -> {:binary, String.to_integer(length)}
      _ -> {elem(type!(dtype), 3), elem(type!(dtype), 4)}
    end
  end

  defp time!("m", _count, _unit, _dtype), do: :duration

  defp time!("M", count, unit, dtype) do
    count = if count == "", do: 1, else: String.to_integer(count)

    case @units do
      %{^unit => {what, many, parts}} -> {what, many * count, parts}
      _ -> type!(dtype)
    end
  end

  defp count!(shape) do
    Enum.reduce(Tuple.to_list(shape), 1, fn
      size, count when is_integer(size) and size >= 0 ->
        size * count

      _, _ ->
        raise ArgumentError,
              "a shape is a tuple of sizes, got #{inspect(shape)}"
    end)
  end

  defp size!(data, _shape, _name, bytes) when byte_size(data) == bytes, do: :ok

  defp size!(data, shape, name, bytes) do
    raise ArgumentError,
          "an array of the shape #{inspect(shape)} and the dtype #{name} has #{bytes} bytes, got #{byte_size(data)}"
  end

  defp pack(:float, bytes, element) when is_number(element),
    do: <<element::float-little-size(bytes)-unit(8)>>

  defp pack(:float, 8, :nan), do: <<0x7FF8_0000_0000_0000::little-64>>
  defp pack(:float, 8, :infinity), do: <<0x7FF0_0000_0000_0000::little-64>>
  defp pack(:float, 8, :neg_infinity), do: <<0xFFF0_0000_0000_0000::little-64>>
  defp pack(:float, 4, :nan), do: <<0x7FC0_0000::little-32>>
  defp pack(:float, 4, :infinity), do: <<0x7F80_0000::little-32>>
  defp pack(:float, 4, :neg_infinity), do: <<0xFF80_0000::little-32>>
  defp pack(:float, 2, :nan), do: <<0x7E00::little-16>>
  defp pack(:float, 2, :infinity), do: <<0x7C00::little-16>>
  defp pack(:float, 2, :neg_infinity), do: <<0xFC00::little-16>>

  defp pack(:signed, bytes, element)
       when is_integer(element) and element >= -Bitwise.bsl(1, bytes * 8 - 1) and
              element < Bitwise.bsl(1, bytes * 8 - 1),
       do: <<element::signed-little-size(bytes)-unit(8)>>

  defp pack(:unsigned, bytes, element)
       when is_integer(element) and element >= 0 and element < Bitwise.bsl(1, bytes * 8),
       do: <<element::little-size(bytes)-unit(8)>>

  defp pack(:bool, 1, true), do: <<1>>
  defp pack(:bool, 1, false), do: <<0>>

  defp pack(:complex, bytes, {real, imaginary}) do
    half = div(bytes, 2)
    pack(:float, half, real) <> pack(:float, half, imaginary)
  end

  defp pack(kind, bytes, element) do
    raise ArgumentError, "#{inspect(element)} does not fit into #{kind} of #{bytes * 8} bits"
  end

  for bytes <- [2, 4, 8] do
    defp unpack(:float, unquote(bytes), <<element::float-little-size(unquote(bytes))-unit(8)>>), do: element
  end

  defp unpack(:float, bytes, data), do: not_finite(bytes, data)

  for bytes <- [1, 2, 4, 8] do
    defp unpack(:signed, unquote(bytes), <<element::signed-little-size(unquote(bytes))-unit(8)>>), do: element
    defp unpack(:unsigned, unquote(bytes), <<element::little-size(unquote(bytes))-unit(8)>>), do: element
  end

  defp unpack(:bool, 1, <<element>>), do: element != 0

  defp unpack(:complex, bytes, data) do
    half = div(bytes, 2)

    {unpack(:float, half, binary_part(data, 0, half)), unpack(:float, half, binary_part(data, half, half))}
  end

  defp unpack(:binary, _bytes, data), do: String.trim_trailing(data, <<0>>)

  defp unpack(:text, _bytes, data) do
    case :unicode.characters_to_binary(data, {:utf32, :little}) do
      text when is_binary(text) -> String.trim_trailing(text, <<0>>)
      _ -> raise ArgumentError, "the array holds a string with a lone surrogate, which no UTF-8 can hold"
    end
  end

  defp unpack(_time, 8, <<@no_time::signed-little-64>>), do: nil
  defp unpack(:duration, 8, <<count::signed-little-64>>), do: count

  defp unpack({what, many, parts}, 8, <<count::signed-little-64>>) do
    date(what, Integer.floor_div(count * many, parts))
  rescue
    # Beyond the years of Elixir's calendar.
    _ in [FunctionClauseError, ArgumentError] ->
      raise ArgumentError, "the array holds a date that is not in the years -9999 to 9999"
  end

  defp date(:months, count),
    do: Date.from_erl!({1970 + Integer.floor_div(count, 12), Integer.mod(count, 12) + 1, 1})

  defp date(:days, count), do: Date.add(~D[1970-01-01], count)

  defp date(:microseconds, count) do
    time = NaiveDateTime.add(~N[1970-01-01 00:00:00.000000], count, :microsecond)
    if elem(time.microsecond, 0) == 0, do: NaiveDateTime.truncate(time, :second), else: time
  end

  # The exponent is all ones: an infinity when the fraction is zero.
  defp not_finite(bytes, data) do
    fraction_bits = %{2 => 10, 4 => 23, 8 => 52}[bytes]
    bits = :binary.decode_unsigned(data, :little)
    fraction = Bitwise.band(bits, Bitwise.bsl(1, fraction_bits) - 1)

    cond do
      fraction != 0 -> :nan
      Bitwise.bsr(bits, bytes * 8 - 1) == 0 -> :infinity
      true -> :neg_infinity
    end
  end

  defimpl Inspect do
    import Inspect.Algebra

    @shown 64

    def inspect(array, opts) do
      sizes = array.shape |> Tuple.to_list() |> Enum.join("×")

      concat([
        "#Typhon.Array<",
        String.trim_leading(array.dtype, "<") |> String.trim_leading("|"),
        if(sizes == "", do: "", else: " " <> sizes),
        elements(array, opts),
        ">"
      ])
    end

    # A large array is shown by its shape alone.
    defp elements(array, opts) do
      if Tuple.product(array.shape) <= @shown do
        concat(" ", to_doc(Typhon.Array.to_list(array), %{opts | charlists: :as_lists}))
      else
        " …"
      end
    rescue
      _ -> " …"
    end
  end
end
