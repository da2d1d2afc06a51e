defmodule Typhon.Structs do
  @moduledoc """
  Results as structs of yours, by the option `as:`.

      defmodule MyApp.Address do
        defstruct [:city, :street]
      end

      defmodule MyApp.User do
        @enforce_keys [:id]
        defstruct [:id, :name, :address, tags: []]
      end

      {:ok, py} = Typhon.start_link(workers: 1)
      ann = ~s({"id": 1, "name": "Ann", "address": {"city": "Oslo"}})

      {:ok, user} = Typhon.call(py, :json, :loads, [ann], as: {MyApp.User, address: MyApp.Address})
      %MyApp.User{id: 1, name: "Ann", address: %MyApp.Address{city: "Oslo"}, tags: []} = user

  Without the option that is the map `%{"id" => 1, …}`. Every function that has it takes the same forms:

  | `as:` | the result in Python |
  |---|---|
  | `MyApp.User` | a `dict`, an instance of a dataclass, or what else comes to Elixir as a map |
  | `[MyApp.User]` | a list of those |
  | `{MyApp.User, address: MyApp.Address, orders: [MyApp.Order]}` | one in which those fields hold such in turn |

  These go into one another: `[{MyApp.User, orders: [{MyApp.Order, items: [MyApp.Item]}]}]`. In `Typhon.stream/5`, `Typhon.map/5`
  and `Typhon.multi/5` the option says what each element, or each result, is.

  * A key is the name of a field: a `str` in Python (or an atom). No atom is made of it.
  * A field without a key has the struct's default. One in `@enforce_keys` has to be there.
  * A key without a field is an error, as it is mostly a misspelt one.
  * `None` in the place of a struct, or of a list of them, stays nil: a function may find nobody, and a field may be empty.
  * Values stay as they came. `"1"` does not become a number.
  * A stub of `Typhon.Test` may answer such a map, or the struct itself.

  What does not fit is a `Typhon.DecodeError`, whose path has the place: `result`, `result[3].address`. Python has done its
  work then: the call is not made again, and with `stop_on_error: true` calls after it were made.

  How a struct goes to Python, `Typhon.Encoder` says. `mix typhon.gen.py MyApp.User` writes a Python dataclass of the same fields.
  """

  alias Typhon.DecodeError

  @enforce_keys [:module, :fields, :defaults]
  defstruct @enforce_keys

  @typedoc "A struct's module, perhaps with what its fields hold, or a list with one of those."
  @type form :: one | [one]
  @type one :: module | {module, [{atom, form}]}

  # fields: its name, as Python has it, what it holds, and whether it is in @enforce_keys.
  @opaque shape ::
            %__MODULE__{
              module: module,
              fields: [{atom, String.t(), nil | shape, boolean}],
              defaults: struct
            }
            | {:list, shape}

  # --- the option ---

  @doc false
  # Of a check of options: what is no form at all has the sentence of the option.
  @spec shape(term) :: {:ok, shape} | :error
  def shape([one]) do
    with {:ok, shape} when is_struct(shape) <- shape(one), do: {:ok, {:list, shape}}, else: (_ -> :error)
  end

  def shape({module, nested}) do
    with true <- Keyword.keyword?(nested), {:ok, shape} when is_struct(shape) <- shape(module) do
      {:ok, %{shape | fields: Enum.reduce(nested, shape.fields, &nest!(&1, &2, module))}}
    else
      _ -> :error
    end
  end

  def shape(module) when is_atom(module) and module not in [nil, true, false] do
    loaded? = Code.ensure_loaded?(module)

    cond do
      loaded? and function_exported?(module, :__struct__, 0) -> {:ok, of_module(module)}
      loaded? -> raise ArgumentError, "as: #{inspect(module)} is no struct: the module has no defstruct"
      inspect(module) =~ ~r/\A[A-Z]/ -> raise ArgumentError, "as: there is no module #{inspect(module)}"
      true -> :error
    end
  end

  def shape(_other), do: :error

  @doc "What the option must be, as the sentence of an error says it."
  @spec says :: String.t()
  def says, do: "a struct's module (User, [User], {User, address: Address})"

  defp of_module(module) do
    defaults = module.__struct__()
    required = required(module, defaults)
    names = defaults |> Map.from_struct() |> Map.keys()
    fields = for name <- names, do: {name, Atom.to_string(name), nil, name in required}
    %__MODULE__{module: module, fields: fields, defaults: defaults}
  end

  @doc false
  # The fields in @enforce_keys.
  @spec required(module, struct) :: [atom]
  def required(module, defaults) do
    case module.__info__(:struct) do
      [%{required: _} | _] = fields ->
        for %{field: name, required: true} <- fields, do: name

      # Elixir does not say it. The struct itself does.
      _ ->
        given = defaults |> Map.from_struct() |> Map.to_list()
        for {name, _} <- given, refuses?(module, List.keydelete(given, name, 0)), do: name
    end
  end

  defp refuses?(module, given) do
    module.__struct__(given)
    false
  rescue
    ArgumentError -> true
  end

  defp nest!({name, form}, fields, module) do
    case List.keyfind(fields, name, 0) do
      {_, text, _, required?} ->
        List.keyreplace(fields, name, 0, {name, text, nested!(name, form), required?})

      nil ->
        raise ArgumentError, "as: #{inspect(name)} is no field of #{inspect(module)}. It has #{names(fields)}"
    end
  end

  defp nested!(name, form) do
    case shape(form) do
      {:ok, shape} -> shape
      :error -> raise ArgumentError, "as: #{name}: must be #{says()}, got #{inspect(form)}"
    end
  end

  # --- the result ---

  @doc false
  # `as` is what the option has come to.
  @spec result(result, shape | :value | :object) :: result | {:error, DecodeError.t()}
        when result: {:ok, term} | {:error, term}
  def result({:ok, value}, as) when not is_atom(as), do: build(value, as, ["result"])
  def result(result, _as), do: result

  @doc false
  # Each of several results by itself.
  @spec results([result], shape | :value) :: [result | {:error, DecodeError.t()}]
        when result: {:ok, term} | {:error, term}
  def results(results, :value), do: results
  def results(results, as), do: Enum.map(results, &result(&1, as))

  @doc false
  # The elements of a stream, which raises what does not fit.
  @spec stream(Enumerable.t(), shape | :value) :: Enumerable.t()
  def stream(elements, :value), do: elements

  def stream(elements, as) do
    elements
    |> Stream.with_index()
    |> Stream.map(fn {element, index} ->
      case build(element, as, ["[#{index}]", "result"]) do
        {:ok, value} -> value
        {:error, error} -> raise error
      end
    end)
  end

  # `path` is reversed.
  defp build(value, shape, path) do
    {:ok, value(value, shape, path)}
  catch
    {__MODULE__, path, reason} ->
      {:error, %DecodeError{path: path |> Enum.reverse() |> Enum.join(), reason: reason}}
  end

  defp value(value, nil, _path), do: value
  defp value(nil, _shape, _path), do: nil

  defp value(list, {:list, shape}, path) when length(list) >= 0 do
    list
    |> Enum.with_index()
    |> Enum.map(fn {element, index} -> value(element, shape, ["[#{index}]" | path]) end)
  end

  # What a test's stub answers may be the struct already.
  defp value(%module{} = struct, %__MODULE__{module: module} = shape, path),
    do: struct |> Map.from_struct() |> struct(shape, path)

  defp value(map, %__MODULE__{} = shape, path) when is_map(map) and not is_struct(map),
    do: struct(map, shape, path)

  defp value(other, shape, path), do: fail!(path, no_map(other, shape))

  defp struct(map, shape, path), do: fields(shape.fields, map, shape.defaults, 0, shape, path)

  # `taken`: how many keys there were fields for.
  defp fields([{name, text, nested, required?} | rest], map, made, taken, shape, path) do
    case map do
      %{^text => value} -> put(name, value, nested, rest, map, made, taken, shape, path)
      %{^name => value} -> put(name, value, nested, rest, map, made, taken, shape, path)
      %{} when required? -> fail!(path, misfit(map, shape))
      %{} -> fields(rest, map, made, taken, shape, path)
    end
  end

  defp fields([], map, made, taken, _shape, _path) when taken == map_size(map), do: made
  defp fields([], map, _made, _taken, shape, path), do: fail!(path, misfit(map, shape))

  defp put(name, value, nested, rest, map, made, taken, shape, path) do
    value = if nested, do: value(value, nested, [".#{name}" | path]), else: value
    fields(rest, map, %{made | name => value}, taken + 1, shape, path)
  end

  @spec fail!([String.t()], String.t()) :: no_return
  defp fail!(path, reason), do: throw({__MODULE__, path, reason})

  # --- sentences ---

  defp misfit(map, %{module: module, fields: fields}) do
    unknown = for {key, _} <- map, not Enum.any?(fields, &of?(key, &1)), do: key

    missing =
      for {name, text, _, true} <- fields, not is_map_key(map, text) and not is_map_key(map, name), do: text

    twice = for {name, text, _, _} <- fields, is_map_key(map, text) and is_map_key(map, name), do: text

    [
      unknown != [] &&
        "what came has #{keys(unknown)}, for which #{inspect(module)} has no field. It has #{names(fields)}. " <>
          "Leave #{if match?([_], unknown), do: "that", else: "those"} out in Python, or add a field to the struct",
      missing != [] &&
        "what came has not #{keys(missing)}, which #{inspect(module)} requires (@enforce_keys)",
      unknown == [] and missing == [] && "what came has #{keys(twice)} twice, as a string and as an atom"
    ]
    |> Enum.filter(& &1)
    |> Enum.join(". And ")
  end

  defp of?(key, {name, text, _, _}), do: key == text or key == name

  defp no_map(other, {:list, shape}) do
    hint = if is_map(other) and not is_struct(other), do: ". A single one is as: #{inspect(shape.module)}"
    "a list of #{inspect(shape.module)} is made of a list of maps, and what came is #{shown(other)}#{hint}"
  end

  defp no_map(other, %{module: module}) do
    "#{inspect(module)} is made of a map (in Python a dict, or an instance of a dataclass), and what came is " <>
      shown(other) <> hint(other, module)
  end

  defp hint(list, module) when is_list(list), do: ". For a list of them say as: [#{inspect(module)}]"
  defp hint(tuple, _module) when is_tuple(tuple), do: ". A namedtuple gives a dict by its _asdict()"
  defp hint(%Typhon.Object{}, _module), do: ". Let the function return a dict, such as vars(…) of it"
  defp hint(_other, _module), do: ""

  defp shown(%Typhon.Object{type: type}), do: "a Python object of the type #{type}"
  defp shown(%module{} = struct), do: "a #{inspect(module)}, #{short(struct)}"
  defp shown(other), do: "#{kind(other)}, #{short(other)}"

  defp kind(term) when is_boolean(term), do: "a boolean"
  defp kind(term) when is_atom(term), do: "an atom"
  defp kind(term) when is_binary(term), do: if(String.valid?(term), do: "a string", else: "a binary")
  defp kind(term) when is_integer(term), do: "an integer"
  defp kind(term) when is_float(term), do: "a float"
  defp kind(term) when is_list(term), do: if(List.improper?(term), do: "an improper list", else: "a list")
  defp kind(term) when is_tuple(term), do: "a tuple"
  defp kind(term) when is_map(term), do: "a map"
  defp kind(_term), do: "a term"

  # Python may send as much as it likes.
  defp short(term), do: inspect(term, limit: 5, printable_limit: 60, charlists: :as_lists)

  @most 10

  defp keys([key]), do: "the key #{short(key)}"
  defp keys(keys), do: "the keys " <> listed(keys, &short/1)

  defp names(fields), do: listed(fields, fn {name, _, _, _} -> inspect(name) end)

  defp listed(several, show) do
    {first, more} = Enum.split(several, @most)
    Enum.map_join(first, ", ", show) <> if(more == [], do: "", else: " and #{length(more)} more")
  end
end
