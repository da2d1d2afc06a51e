defprotocol Typhon.Encoder do
  @moduledoc """
  How a struct is sent to Python.

  `Date`, `Time`, `NaiveDateTime`, `DateTime`, `Duration`, `MapSet`, `Range`, `Decimal` and Typhon's own structs need no
  implementation: they have a counterpart in Python. `Nx.Tensor` is sent as a `Typhon.Array`. For any other struct, either derive one that
  sends the fields as a `dict` with the fields' names as `str` keys:

      defmodule Point do
        @derive Typhon.Encoder                          # all fields
        defstruct [:x, :y]
      end

      defmodule User do
        @derive {Typhon.Encoder, only: [:id, :name]}    # these fields; or except: [:password_hash]
        defstruct [:id, :name, :password_hash]
      end

  or write one that returns whatever Python is to see. The returned term may hold structs in turn:

      defmodule Money do
        defstruct [:amount, :currency]
      end

      defimpl Typhon.Encoder, for: Money do
        def encode(money), do: {money.amount, Atom.to_string(money.currency)}
      end

  Python code may make an object of its own of a struct. `as: :struct` sends the fields with the struct's name, for which Python
  code has registered a function; without one it sees the `dict` as above:

      defmodule Customer do
        @derive {Typhon.Encoder, as: :struct, except: [:password_hash]}
        defstruct [:id, :name, :password_hash]
      end

  ```python
  # In a module that each worker imports before its first call (`init: "import people"` of the pool).
  @typhon.decoder("Elixir.Customer")
  def customer(fields):
      return Customer(**fields)
  ```

  A struct without one is not sent: the call returns a `Typhon.EncodeError` with its place in the arguments. So a field that is
  no business of Python's does not get there by accident. For a struct that you do not own:

      require Protocol
      Protocol.derive(Typhon.Encoder, URI, only: [:host, :path])

  The way back is the option `as:`, see `Typhon.Structs`. What Python gets:

      {:ok, py} = Typhon.start_link(workers: 1)
      user = %User{id: 1, name: "Ann", password_hash: "…"}

      {:ok, "{'id': 1, 'name': 'Ann'}"} = Typhon.call(py, :builtins, :str, [user])
      {:ok, "(5, 'EUR')"} = Typhon.call(py, :builtins, :str, [%Money{amount: 5, currency: :EUR}])
      {:ok, "{'host': 'a.org', 'path': '/b'}"} = Typhon.call(py, :builtins, :str, [URI.parse("http://a.org/b")])
  """

  @fallback_to_any true

  @doc """
  The term that is sent in the place of the struct.

      iex> Typhon.Encoder.encode(%Typhon.EncoderTest.Point{x: 1, y: 2})
      %{"x" => 1, "y" => 2}
  """
  @spec encode(t) :: term
  def encode(struct)
end

defimpl Typhon.Encoder, for: Any do
  defmacro __deriving__(module, struct, options) do
    {form, fields} = Typhon.Encoder.Derive.options!(module, struct, options)

    pairs =
      for field <- fields do
        {Atom.to_string(field), quote(do: Map.fetch!(struct, unquote(field)))}
      end

    dict = quote(do: %{unquote_splicing(pairs)})

    sent =
      case form do
        :dict -> dict
        :struct -> quote(do: %Typhon.Struct{name: unquote(module), fields: unquote(dict)})
      end

    quote do
      defimpl Typhon.Encoder, for: unquote(module) do
        def encode(struct), do: unquote(sent)

        @doc false
        # For mix typhon.gen.py.
        def __fields__, do: unquote(fields)
      end
    end
  end

  def encode(value) do
    raise Protocol.UndefinedError,
      protocol: Typhon.Encoder,
      value: value,
      description: "derive it with @derive Typhon.Encoder, or write an implementation"
  end
end

defmodule Typhon.Struct do
  @moduledoc false
  # A struct that goes by its name, with strings as the names of its fields (`as: :struct`).

  @enforce_keys [:name, :fields]
  defstruct [:name, :fields]
end

defmodule Typhon.Encoder.Derive do
  @moduledoc false

  @doc "How a struct goes, and which of its fields."
  @spec options!(module, struct, keyword) :: {:dict | :struct, [atom]}
  def options!(module, struct, options) do
    all = struct |> Map.from_struct() |> Map.keys() |> Enum.sort()

    case Keyword.pop(options, :as, :dict) do
      {form, rest} when form in [:dict, :struct] -> {form, fields!(module, all, rest)}
      _ -> refuse!(options)
    end
  end

  defp fields!(_module, all, []), do: all

  defp fields!(module, all, only: only) when is_list(only) do
    check!(module, only, all)
    only
  end

  defp fields!(module, all, except: except) when is_list(except) do
    check!(module, except, all)
    all -- except
  end

  defp fields!(_module, _all, options), do: refuse!(options)

  defp refuse!(options) do
    raise ArgumentError,
          "@derive Typhon.Encoder takes only: [field] or except: [field], and as: :struct or as: :dict, " <>
            "got #{inspect(options)}"
  end

  defp check!(module, fields, all) do
    case Enum.find(fields, &(&1 not in all)) do
      nil ->
        :ok

      field ->
        raise ArgumentError,
              "@derive Typhon.Encoder names #{inspect(field)}, which is not a field of #{inspect(module)}. " <>
                "It has #{Enum.map_join(all, ", ", &inspect/1)}"
    end
  end
end

defmodule Typhon.Encoder.Walk do
  @moduledoc false
  # Prepares arguments for the wire when the native library met a struct that the wire does not know. To walk a term in Elixir
  # takes longer than to encode it, so it is done only then: plain terms never come here.

  alias Typhon.{Array, EncodeError}

  # The structs of the table "Values on the wire" (docs/internals.md).
  @wire [
    Date,
    Time,
    NaiveDateTime,
    DateTime,
    Duration,
    Range,
    Decimal,
    Typhon.Bytes,
    Typhon.Buffer,
    Typhon.Array,
    Typhon.Iter.Reference,
    Typhon.Object
  ]

  @elements "Typhon.iter/1 sends its elements one by one, as Python asks for them, and Enum.to_list/1 all of them"

  # What is of no use as its fields.
  @instead %{
    Stream => "a Stream is an enumerable: #{@elements}",
    File.Stream => "a File.Stream is an enumerable: #{@elements}; or send its path",
    IO.Stream => "an IO.Stream is an enumerable: #{@elements}",
    Date.Range => "a Date.Range is an enumerable: #{@elements}; or send its first and its last date",
    Regex =>
      "a Regex is compiled for Erlang: send its source (Regex.source/1), which Python's re.compile takes where both write it alike",
    Task => "a Task is what a process works at: send what it comes to (Task.await/2, Typhon.await/2)",
    Typhon.Chain =>
      "a chain is what is to be done, and no value: run it (Typhon.Chain.run/2), and send what it comes to",
    Typhon.Code =>
      "code is not run where it is an argument: run it (Typhon.eval/4), or send its text (its field code)",
    Typhon.Scope =>
      "a scope is a place for code, and no value: run code there (Typhon.eval/4), or send what it holds (Typhon.get/3)"
  }

  @spec prepare(list, map) :: {:ok, list, map} | {:error, EncodeError.t()}
  def prepare(args, kwargs) do
    {:ok, elements(args, ["args"], 0),
     Map.new(kwargs, fn {key, value} -> {key, walk(value, [["[", inspect(key), "]"], "kwargs"])} end)}
  catch
    {__MODULE__, path, type, reason} ->
      {:error,
       %EncodeError{
         path: path |> Enum.reverse() |> IO.iodata_to_binary(),
         type: type,
         reason: reason
       }}
  end

  @doc "The same for one term."
  @spec prepare(term) :: {:ok, term} | {:error, EncodeError.t()}
  def prepare(term) do
    {:ok, walk(term, ["term"])}
  catch
    {__MODULE__, path, type, reason} ->
      {:error,
       %EncodeError{path: path |> Enum.reverse() |> IO.iodata_to_binary(), type: type, reason: reason}}
  end

  defp walk(%module{} = struct, path), do: struct(module, struct, path)

  defp walk(map, path) when is_map(map) do
    Map.new(map, fn {key, value} ->
      {walk(key, [[" (key ", inspect(key), ")"] | path]), walk(value, [["[", inspect(key), "]"] | path])}
    end)
  end

  defp walk(list, path) when is_list(list), do: elements(list, path, 0)

  defp walk(tuple, path) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> elements(path, 0) |> List.to_tuple()

  defp walk(term, _path), do: term

  defp elements([head | tail], path, index),
    do: [walk(head, [["[", Integer.to_string(index), "]"] | path]) | elements(tail, path, index + 1)]

  defp elements([], _path, _index), do: []
  # The end of an improper list.
  defp elements(term, path, index), do: walk(term, [["[", Integer.to_string(index), "]"] | path])

  defp struct(MapSet, set, path),
    do: MapSet.new(set, &walk(&1, [[" (element ", inspect(&1), ")"] | path]))

  defp struct(Typhon.Struct, struct, path), do: %{struct | fields: walk(struct.fields, path)}

  defp struct(module, struct, _path) when module in @wire, do: struct

  defp struct(module, _struct, path) when is_map_key(@instead, module),
    do: throw({__MODULE__, path, module, @instead[module]})

  defp struct(Typhon.Iter, iter, _path), do: Typhon.Iter.to_reference(iter)

  defp struct(Nx.Tensor, tensor, path) do
    case Array.from_nx(tensor) do
      {:ok, array} -> array
      {:error, reason} -> throw({__MODULE__, path, Nx.Tensor, reason})
    end
  end

  defp struct(module, struct, path) do
    # Not as plain calls: a compiler that infers types would take the implementations that it knows for all there can be.
    arguments = [struct]

    case apply(Typhon.Encoder, :impl_for, arguments) do
      Typhon.Encoder.Any ->
        throw(
          {__MODULE__, path, module,
           "#{inspect(module)} is a struct without an implementation of Typhon.Encoder. " <>
             "Put @derive Typhon.Encoder before its defstruct, or for a struct that is not yours write " <>
             "Protocol.derive(Typhon.Encoder, #{inspect(module)})"}
        )

      implementation ->
        case apply(implementation, :encode, arguments) do
          %^module{} ->
            throw(
              {__MODULE__, path, module,
               "#{inspect(implementation)}.encode/1 returned a #{inspect(module)} again"}
            )

          term ->
            walk(term, path)
        end
    end
  end
end
