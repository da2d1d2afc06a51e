defmodule Typhon.Options.Check do
  @moduledoc false
  # A check is the list of what a value may be. The sentence of its error, and mostly its type, come from the same list.

  alias Typhon.Callee
  alias Typhon.Options.Option

  @type t :: [alternative, ...]

  @typedoc """
  An atom is itself. `:any` of its own takes every term. Of the others the sentence says `says`.

  The function of a `:value` returns what the option comes to, or `:error`, or `{:error, part}` with the part that is wrong,
  `{:error, part, where}` when the sentence goes on with where that is, or
  `{:one, element}` when it is an element of the list that it must be.
  `type` is quoted code. `:keys` are options in an option.
  """
  @type alternative ::
          atom
          | {:integer, integer, integer | :infinity, says :: String.t()}
          | {:power_of_two, integer, integer, says :: String.t()}
          | {:value, says :: String.t(), (term -> {:ok, term} | :error | {:error, term} | {:one, term}),
             type :: Macro.t()}
          | {:keys, [Option.t()]}

  # --- what a table is written with ---

  @spec positive(nil | String.t()) :: alternative
  def positive(unit \\ nil), do: {:integer, 1, :infinity, "a positive integer" <> unit(unit)}

  @spec non_negative(nil | String.t()) :: alternative
  def non_negative(unit \\ nil), do: {:integer, 0, :infinity, "a non-negative integer" <> unit(unit)}

  @spec integer(integer, integer | :infinity, nil | String.t()) :: alternative
  def integer(min, :infinity, unit),
    do: {:integer, min, :infinity, "an integer from #{min}" <> unit(unit)}

  def integer(min, max, unit), do: {:integer, min, max, "an integer from #{min} to #{max}" <> unit(unit)}

  @spec power_of_two(pos_integer, pos_integer, String.t()) :: alternative
  def power_of_two(min, max, unit),
    do: {:power_of_two, min, max, "a power of two from #{min} to #{max}" <> unit(unit)}

  defp unit(nil), do: ""
  defp unit(unit), do: " (#{unit})"

  # --- checking ---

  @doc "What an option comes to, or an ArgumentError that says what it must be."
  @spec check!(Option.t(), term) :: term
  def check!(%Option{default: nil}, nil), do: nil
  def check!(%Option{name: name, check: check}, value), do: value!(check, name, value)

  # `name` is the option as the sentence names it.
  defp value!(check, name, value) do
    case any(check, name, value, :error) do
      {:ok, value} -> value
      :error -> wrong!(name, says(check), value, "")
      {:error, part, where} -> wrong!(name, says(check), part, where)
      {:error, part} -> wrong!(name, says(check), part, "")
      {:one, one} -> wrong!(name, says(check), value, ". A single one is #{inspect([one])}")
    end
  end

  defp any([], _name, _value, error), do: error

  defp any([alternative | others], name, value, error) do
    case one(alternative, name, value) do
      {:ok, _} = ok -> ok
      :error -> any(others, name, value, error)
      error -> any(others, name, value, error)
    end
  end

  defp one(atom, _name, value) when is_atom(atom),
    do: if(value === atom or atom == :any, do: {:ok, value}, else: :error)

  defp one({:integer, min, max, _says}, _name, value),
    # An atom is larger than any number.
    do: if(is_integer(value) and value >= min and value <= max, do: {:ok, value}, else: :error)

  defp one({:power_of_two, min, max, says}, name, value) do
    with {:ok, size} <- one({:integer, min, max, says}, name, value),
         do: if(Bitwise.band(size, size - 1) == 0, do: {:ok, size}, else: :error)
  end

  defp one({:value, _says, fun, _type}, _name, value), do: fun.(value)

  defp one({:keys, options}, name, value) do
    value = if is_map(value), do: Map.to_list(value), else: value
    known!(value, Enum.map(options, & &1.name), "#{name}:")

    {:ok,
     Map.new(value, fn {key, value} ->
       option = Enum.find(options, &(&1.name == key))
       {key, value!(option.check, "#{name}: #{key}", value)}
     end)}
  end

  @doc "What a value must be, as the sentence of an error says it."
  @spec says(t) :: String.t()
  def says(check) do
    case Enum.map(check, &say/1) do
      [one] -> one
      several -> Enum.join(Enum.drop(several, -1), ", ") <> " or " <> List.last(several)
    end
  end

  defp say(:any), do: "any term"
  defp say(atom) when is_atom(atom), do: inspect(atom)
  defp say({:integer, _min, _max, says}), do: says
  defp say({:power_of_two, _min, _max, says}), do: says
  defp say({:value, says, _fun, _type}), do: says
  defp say({:keys, options}), do: "a keyword list of #{Enum.map_join(options, ", ", &inspect(&1.name))}"

  @spec wrong!(atom | String.t(), String.t(), term, String.t()) :: no_return
  def wrong!(name, allowed, given, instead),
    do: raise(ArgumentError, "#{name}: must be #{allowed}, got #{inspect(given)}" <> instead)

  @doc "`where` is the function, or the option, that takes options of these names."
  @spec known!(term, [atom], String.t()) :: :ok
  def known!(options, known, where) do
    unless Keyword.keyword?(options) do
      raise ArgumentError, "the options of #{where} must be a keyword list, got #{inspect(options)}"
    end

    case Enum.find(options, fn {name, _} -> name not in known end) do
      nil -> :ok
      {name, _} -> raise ArgumentError, unknown(name, known, where)
    end
  end

  defp unknown(name, known, where) do
    {nearest, distance} =
      known
      |> Enum.map(&{&1, String.jaro_distance(Atom.to_string(&1), Atom.to_string(name))})
      |> Enum.max_by(&elem(&1, 1))

    "#{where} has no option #{inspect(name)}" <>
      if(distance > 0.77, do: ", did you mean #{inspect(nearest)}?", else: ".") <>
      " It takes #{Enum.map_join(known, ", ", &inspect/1)}" <>
      if(distance <= 0.77 and :kwargs in known, do: ". " <> kwargs_hint(name), else: "")
  end

  defp kwargs_hint(name) do
    [key, _] = [{name, 0}] |> inspect() |> String.split("0]")
    "An argument that Python takes by this name is kwargs: #{key}…]"
  end

  # --- values that are more than an atom or a number ---

  @spec name(term) :: {:ok, term} | :error
  def name(name) when is_atom(name) and not is_boolean(name), do: {:ok, name}
  def name({:global, _} = name), do: {:ok, name}
  def name({:via, module, _} = name) when is_atom(module), do: {:ok, name}
  def name(_), do: :error

  @doc "The least and the most. A pair as Erlang writes it."
  @spec range(term) :: {:ok, {pos_integer, pos_integer}} | :error
  def range(%Range{first: min, last: max, step: 1}), do: range({min, max})

  def range({min, max}) when is_integer(min) and is_integer(max) and min > 0 and min <= max,
    do: {:ok, {min, max}}

  def range(_), do: :error

  @spec pid(term) :: {:ok, pid} | :error
  def pid(pid) when is_pid(pid), do: {:ok, pid}
  def pid(_), do: :error

  @spec list(term) :: {:ok, list} | :error | {:one, term}
  def list(list) when length(list) >= 0, do: {:ok, list}
  def list(list) when is_list(list), do: :error
  def list(one), do: {:one, one}

  @doc "The name of a file that need not be there."
  @spec file(term) :: {:ok, String.t()} | :error
  def file(name) do
    with {:ok, name} <- path(name),
         do: if(String.valid?(name) and not String.contains?(name, "\0"), do: {:ok, name}, else: :error)
  end

  @spec strings(term) :: {:ok, [String.t()]} | {:error, term, String.t()} | {:one, String.t()}
  def strings(list) do
    with {:error, part} <- each(list, &if(is_binary(&1), do: {:ok, &1}, else: :error)),
         do: {:error, part, " among them"}
  end

  @doc "A charlist, too, as Erlang writes strings."
  @spec path(term) :: {:ok, String.t()} | :error
  def path(path) when is_binary(path) and path != "", do: {:ok, path}

  def path([_ | _] = path),
    do: if(List.ascii_printable?(path), do: {:ok, List.to_string(path)}, else: :error)

  def path(_), do: :error

  @spec paths(term) :: {:ok, [String.t()]} | :error | {:error, term} | {:one, String.t()}
  def paths(paths) do
    # A charlist is a list.
    case path(paths) do
      {:ok, path} -> {:one, path}
      :error -> each(paths, &path/1)
    end
  end

  @doc "A module, or a list of them."
  @spec modules(term) :: {:ok, [String.t()]} | {:error, term}
  def modules(modules), do: modules |> one_or_more() |> each(&module/1)

  defp module(name) when is_binary(name) and name != "", do: {:ok, name}
  defp module(name) when is_atom(name) and name not in [nil, true, false], do: {:ok, Atom.to_string(name)}
  defp module(_), do: :error

  @doc "What Ruby loads, a string or a list of them."
  @spec features(term) :: {:ok, [String.t()]} | {:error, term}
  def features(names) do
    names
    |> List.wrap()
    |> each(&if(is_binary(&1) and &1 != "", do: {:ok, &1}, else: :error))
  end

  @doc "Steps of Typhon.Worker.Steps, of one step or of a list of them."
  @spec steps(term) :: {:ok, [Typhon.Worker.Steps.step()]} | {:error, term}
  def steps(steps), do: steps |> one_or_more() |> each(&step/1)

  defp step(code) when is_binary(code), do: {:ok, {:code, code}}

  defp step({module, function, args})
       when (is_atom(module) or is_binary(module)) and (is_atom(function) or is_binary(function)) and
              is_list(args),
       do: {:ok, {:call, module, function, args}}

  defp step(_), do: :error

  @spec allow(term) :: {:ok, [{module, atom, arity | :_}]} | :error | {:one, tuple}
  def allow(list) do
    case each(list, &function/1) do
      {:error, part} -> wrong!(:allow, "a list of {module, function, arity}, each of them also :_", part, "")
      other -> other
    end
  end

  defp function({module, function, arity} = entry)
       when is_atom(module) and is_atom(function) and (arity == :_ or arity in 0..255),
       do: {:ok, entry}

  defp function(_), do: :error

  @spec addresses(term) :: {:ok, [pid | atom | {atom, node}]} | :error | {:error, term} | {:one, term}
  def addresses(list), do: each(list, &address/1)

  defp address(pid) when is_pid(pid), do: {:ok, pid}
  defp address(name) when is_atom(name) and name not in [nil, true, false], do: {:ok, name}
  defp address({name, node} = to) when is_atom(name) and is_atom(node), do: {:ok, to}
  defp address(_), do: :error

  @doc "The hash of the key: the native library spreads its whole range over the workers."
  @spec worker(term) :: {:ok, {:worker, non_neg_integer}} | :error
  def worker({:worker, key}), do: {:ok, {:worker, hash(key)}}
  def worker(_), do: :error

  @spec hash(term) :: non_neg_integer
  def hash(key), do: :erlang.phash2(key, 4_294_967_296)

  @spec env(term) :: {:ok, [{String.t(), String.t() | nil}]} | :error | {:one, tuple}
  def env(env) when is_map(env) or is_list(env), do: {:ok, Enum.map(env, &variable!/1)}
  def env({_, _} = one), do: {:one, one}
  def env(_), do: :error

  defp variable!({name, value}) when is_atom(name) and name != nil,
    do: variable!({Atom.to_string(name), value})

  defp variable!({name, value})
       when is_binary(name) and name != "" and (is_binary(value) or value in [nil, false]) do
    if String.contains?(name, ["=", "\0"]) or (is_binary(value) and String.contains?(value, "\0")) do
      raise ArgumentError,
            "env: a name must not contain = and neither name nor value a NUL, got #{inspect({name, value})}"
    end

    unless String.valid?(name) and (value in [nil, false] or String.valid?(value)) do
      raise ArgumentError, "env: names and values must be UTF-8, got #{inspect({name, value})}"
    end

    {name, value || nil}
  end

  defp variable!(other) do
    raise ArgumentError,
          "env: must hold {name, value} with a string or atom and a string (nil unsets the variable), " <>
            "got #{inspect(other)}"
  end

  @spec kwargs(term) :: {:ok, %{optional(String.t()) => term}} | :error
  def kwargs(kwargs) when kwargs == %{} or kwargs == [], do: {:ok, %{}}

  def kwargs(kwargs) when (is_map(kwargs) and not is_struct(kwargs)) or is_list(kwargs),
    do: {:ok, Enum.reduce(kwargs, %{}, &keyword!/2)}

  def kwargs(_), do: :error

  defp keyword!({key, _}, map) when is_binary(key) and is_map_key(map, key),
    do: raise(ArgumentError, "kwargs: names #{inspect(key)} twice")

  defp keyword!({key, value}, map) when is_binary(key), do: Map.put(map, key, value)
  defp keyword!({key, value}, map) when is_atom(key), do: keyword!({Atom.to_string(key), value}, map)

  defp keyword!({key, _}, _map),
    do: raise(ArgumentError, "the names in kwargs: must be atoms or strings, got #{inspect(key)}")

  defp keyword!(other, _map) do
    raise ArgumentError, "kwargs: must be a map or a keyword list, it has the element #{inspect(other)}"
  end

  # Those of every version from 3.11 on.
  @keywords ~w(False None True and as assert async await break class continue def del elif else except finally for from
               global if import in is lambda nonlocal not or pass raise return try while with yield)

  @doc "Variables of Python code, with their names as Python's parser has them."
  @spec bindings(term) :: {:ok, %{optional(String.t()) => term}} | :error
  def bindings(bindings) when bindings == %{} or bindings == [], do: {:ok, %{}}

  def bindings(bindings) when (is_map(bindings) and not is_struct(bindings)) or is_list(bindings),
    do: {:ok, Enum.reduce(bindings, %{}, &binding!/2)}

  def bindings(_), do: :error

  defp binding!({name, value}, map) when is_binary(name) or is_atom(name) do
    name = variable!("bindings", name)
    if is_map_key(map, name), do: raise(ArgumentError, "bindings: name #{inspect(name)} twice")
    Map.put(map, name, value)
  end

  defp binding!({name, _}, _map),
    do: raise(ArgumentError, "the names of bindings must be atoms or strings, got #{inspect(name)}")

  defp binding!(other, _map) do
    raise ArgumentError, "bindings must be a map or a keyword list, they have the element #{inspect(other)}"
  end

  @doc "The name of a variable, as Python's parser has it. `what` is what the sentence of an error says it is."
  @spec variable!(String.t(), term) :: String.t()
  def variable!(what, name) when name in [nil, true, false],
    do:
      raise(
        ArgumentError,
        "#{what}: a name must be an atom or a string, got #{inspect(name)}" <> Callee.as_name(name)
      )

  def variable!(what, name) when is_atom(name), do: variable!(what, Atom.to_string(name))

  def variable!(what, name) when is_binary(name) do
    cond do
      name in @keywords ->
        raise ArgumentError,
              "#{what}: #{inspect(name)} is a keyword of Python, and no variable can have that name. " <>
                "Give it another one, such as #{inspect(name <> "_")}"

      plain?(name) ->
        name

      identifier?(name) ->
        String.normalize(name, :nfkc)

      true ->
        raise ArgumentError,
              "#{what}: #{inspect(name)} is no name of a variable in Python. " <>
                "One has letters, digits and underscores, and does not begin with a digit"
    end
  end

  def variable!(what, name),
    do: raise(ArgumentError, "#{what}: a name must be an atom or a string, got #{inspect(name)}")

  @doc "Whether it can be the name of a variable, and Python's parser leaves it as it stands."
  @spec variable?(String.t()) :: boolean
  def variable?(name) do
    name not in @keywords and
      (plain?(name) or (identifier?(name) and String.normalize(name, :nfkc) == name))
  end

  defp identifier?(name) do
    String.valid?(name) and name =~ ~r/\A[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*\z/u
  end

  defp plain?(<<first, rest::binary>>) when first in ?a..?z or first in ?A..?Z or first == ?_,
    do: plain_rest?(rest)

  defp plain?(_name), do: false

  defp plain_rest?(<<one, rest::binary>>)
       when one in ?a..?z or one in ?A..?Z or one == ?_ or one in ?0..?9,
       do: plain_rest?(rest)

  defp plain_rest?(rest), do: rest == ""

  defp one_or_more(list) when is_list(list), do: list
  defp one_or_more(one), do: [one]

  defp each(list, fun) when is_list(list), do: each(list, fun, [])

  defp each(one, fun) do
    with {:ok, _} <- fun.(one), do: {:one, one}
  end

  defp each([], _fun, done), do: {:ok, Enum.reverse(done)}

  defp each([element | rest], fun, done) do
    case fun.(element) do
      {:ok, value} -> each(rest, fun, [value | done])
      :error -> {:error, element}
    end
  end

  # An improper list.
  defp each(rest, _fun, _done), do: {:error, rest}
end
