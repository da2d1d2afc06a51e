defmodule Typhon.Test.Written do
  @moduledoc false
  # Between a call as Typhon makes it and one as its caller wrote it: what names it for a stub, its arguments, how an error shows
  # it, and what may answer it.

  alias Typhon.{Chain, Object, Rendered, Scope}

  @scope "typhon.Scope"
  # What "Typhon" has, with the names of the arguments.
  @code %{
    "eval" => ["code", "bindings"],
    "exec_file" => ["path", "argv"],
    "scope" => ["bindings"],
    "get" => ["name"],
    "put" => ["name", "value"],
    "delete" => ["name"],
    "names" => []
  }
  # What Typhon does with objects, and with a module: `.get`. No function of Python's has such a name.
  @operations %{
    ".call" => nil,
    ".chain" => ["steps"],
    ".delete" => ["path"],
    ".dir" => [],
    ".doc" => [],
    ".enter" => [],
    ".get" => ["path"],
    ".item" => ["key"],
    ".len" => [],
    ".put_item" => ["key", "value"],
    ".render" => [],
    ".repr" => [],
    ".save" => ["mime_type"],
    ".set" => ["path", "value"],
    ".stream" => [],
    ".to_term" => []
  }
  # Nobody calls these by such a name (Typhon.same?/2, and Table.Reader in Livebook).
  @internal [".same", ".shape", ".rows"]

  # Characters of an error's line of code and of a name in it, and names.
  @most_code 60
  @most_name 40
  @most_names 10

  # --- what a test names ---

  @doc "How stubs name what is called: an object's methods by its class."
  @spec module(term) :: String.t()
  def module(%Object{type: type}), do: type
  def module(Typhon), do: "Typhon"
  def module(module), do: to_string(module)

  @doc "The two names of a function that a test gives. One that nothing can call is a mistake."
  @spec name!(term, term) :: {String.t(), String.t()}
  def name!(module, function) do
    function = to_string(function)

    case name = {module(module), function} do
      {_, "." <> _} when not is_map_key(@operations, function) and function not in @internal ->
        raise ArgumentError,
              "Typhon does nothing with an object that is called #{inspect(function)}: there are #{those(@operations)}. " <>
                "A method of its own has no dot in front"

      {"Typhon", "." <> _} ->
        name

      {"Typhon", _} when not is_map_key(@code, function) ->
        raise ArgumentError,
              "of Typhon a test gives answers for #{those(@code)}, not for #{inspect(function)}. " <>
                "A function of Python's is named by its module, and what Typhon does with an object " <>
                "by the object's class: \"pandas.DataFrame\", \".get\""

      _ ->
        name
    end
  end

  defp those(names), do: names |> Map.keys() |> Enum.sort() |> Enum.join(", ")

  # --- a call ---

  @doc "A call as it was written."
  @spec call(term, term, list, map) :: {module :: term, function :: term, list, map}
  # What Typhon.Module makes of one when its functions are a block of code.
  def call("typhon._block", "call", [owner, _code, _file, _line, function, args, kwargs], _),
    do: {"Elixir." <> owner, function, args, kwargs}

  def call(module, function, args, kwargs) do
    {module, function, args} = written(module, function, args)
    {module, function, args, kwargs}
  end

  # Typhon.Eval and Typhon.Scope.
  defp written("typhon._eval", _, [code | rest]), do: eval(code, rest)
  defp written("typhon._scope", "scope", args), do: {"Typhon", "scope", args}
  defp written("typhon._program", "execute", [path, argv, _]), do: {"Typhon", "exec_file", [path, argv]}
  defp written(%Object{type: @scope}, "evaluate", [code | rest]), do: eval(code, rest)
  defp written(%Object{type: @scope}, "fork", args), do: {"Typhon", "scope", args}
  defp written(%Object{type: @scope}, "get", [name | _]), do: {"Typhon", "get", [name]}

  defp written(%Object{type: @scope}, "put", [names]) do
    [{name, value}] = Map.to_list(names)
    {"Typhon", "put", [name, value]}
  end

  defp written(%Object{type: @scope}, function, args) when function in ["delete", "names"],
    do: {"Typhon", function, args}

  # Typhon.Object and Typhon.Chain.
  defp written("typhon._objects", "get_of_module", [module, path]), do: {module, ".get", [path]}
  defp written(%Object{} = object, ".get_path", args), do: {object, ".get", args}

  defp written(%Object{} = object, ".chain", [shape, args]),
    do: {object, ".chain", [Chain.steps(shape, args)]}

  defp written(module, function, args), do: {module, function, args}

  defp eval(code, []), do: {"Typhon", "eval", [code, %{}]}
  defp eval(code, [bindings | _]), do: {"Typhon", "eval", [code, bindings]}

  # --- its answer ---

  @doc "What a stub answers, as the call of `module` and `function` (before call/4) returns it in this pool."
  @spec answer(term, term, term, pid) :: {:ok, term} | {:wrong, must_be :: String.t()}
  def answer("typhon._scope", "scope", value, _pool), do: scope(value)
  def answer(%Object{type: @scope}, "fork", value, _pool), do: scope(value)
  # It has left no variables.
  def answer("typhon._eval", "assigning", value, pool), do: {:ok, {adopt(value, pool), %{}}}
  def answer(%Object{}, ".enter", value, pool), do: {:ok, {:stubbed, adopt(value, pool)}}
  def answer(%Object{}, ".save", value, _pool) when is_binary(value), do: {:ok, value}
  def answer(%Object{}, ".save", _value, _pool), do: {:wrong, "a binary, what the file is to hold"}
  def answer(%Object{}, ".render", %Rendered{data: data}, _pool), do: rendered(data)
  def answer(%Object{}, ".render", value, _pool), do: rendered(value)
  def answer(_module, _function, value, pool), do: {:ok, adopt(value, pool)}

  defp scope(%Scope{} = scope), do: {:ok, scope}
  defp scope(_value), do: {:wrong, "a scope, Typhon.Test.scope()"}

  defp rendered(%{} = data) when map_size(data) > 0 and not is_struct(data) do
    if Enum.all?(data, fn {type, bytes} -> is_binary(type) and is_binary(bytes) end),
      do: {:ok, Map.to_list(data)},
      else: rendered(nil)
  end

  defp rendered(_value),
    do:
      {:wrong,
       ~s(a map of MIME types and binaries, such as %{"text/html" => "<b>1</b>"}, or a Typhon.Rendered)}

  # The objects that a test has made are of the pool that returns them.
  defp adopt(%Object{pool: nil} = object, pool),
    do: if(Object.made_up?(object), do: %{object | pool: pool}, else: object)

  defp adopt(%_{} = struct, _pool), do: struct
  defp adopt(%{} = map, pool), do: Map.new(map, fn {key, value} -> {key, adopt(value, pool)} end)
  defp adopt([value | rest], pool), do: [adopt(value, pool) | adopt(rest, pool)]
  defp adopt(tuple, pool) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> adopt(pool) |> List.to_tuple()
  defp adopt(value, _pool), do: value

  # --- how errors show it ---

  @doc "The function: `math.sqrt`, `Typhon.eval`, `Typhon.get of pandas.DataFrame`."
  @spec title(String.t(), String.t()) :: String.t()
  def title(module, "." <> operation), do: "Typhon.#{operation} of #{plain(module)}"
  def title(module, function), do: "#{plain(module)}.#{function}"

  defp plain(module), do: String.replace_prefix(module, "Elixir.", "")

  @doc "The names of its arguments; nil of those that only Python knows."
  @spec parameters(String.t(), String.t()) :: [String.t()] | nil
  def parameters(_module, "." <> _ = operation), do: @operations[operation]
  def parameters("Typhon", function), do: @code[function]
  def parameters(_module, _function), do: nil

  @doc "Code by the line where it begins, and the names of its bindings."
  @spec code(String.t(), map) :: String.t()
  def code(code, bindings) do
    [line | rest] = code |> String.trim_leading() |> String.split("\n", parts: 2)
    line = String.trim_trailing(line)
    shown = String.slice(line, 0, @most_code)
    more? = shown != line or Enum.any?(rest, &(String.trim_leading(&1) != ""))
    inspect(if(more?, do: shown <> "…", else: shown)) <> bindings(bindings |> Map.keys() |> Enum.sort())
  end

  defp bindings([]), do: " without bindings"

  defp bindings(names) do
    shown = names |> Enum.take(@most_names) |> Enum.map_join(", ", &String.slice(&1, 0, @most_name))
    more = length(names) - @most_names
    " with the bindings #{shown}" <> if(more > 0, do: " and #{more} more", else: "")
  end
end
