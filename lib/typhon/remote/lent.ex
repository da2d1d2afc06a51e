defmodule Typhon.Remote.Lent do
  @moduledoc false
  # What crosses between two nodes of a call's arguments and its result.
  #
  # A function runs in the process that made the call. In its place this struct crosses, and the owner's node puts a function
  # there that asks for it (Typhon.Remote.Server). What has become one comes back as the function that it was. An enumerable of
  # Typhon.iter/1 is a function that gives its next elements.

  alias Typhon.{EncodeError, Encoder, Iter, Object}

  @enforce_keys [:index, :arity]
  defstruct @enforce_keys

  @type t :: %__MODULE__{index: non_neg_integer, arity: arity | :iter}

  @typedoc "Functions of the caller by their index."
  @type functions :: %{non_neg_integer => fun}

  @most_arity 16

  @doc "The arguments as they cross to the node, with structs encoded and functions lent. Within Typhon.Iter.with_references/1."
  @spec lend(list, map, node, functions) :: {:ok, list, map, functions} | {:error, EncodeError.t()}
  def lend(args, kwargs, node, functions) do
    with {:ok, args, kwargs} <- Encoder.Walk.prepare(args, kwargs) do
      {args, functions} = walk(args, ["args"], functions, node)

      {kwargs, functions} =
        Enum.map_reduce(kwargs, functions, fn {key, value}, functions ->
          {value, functions} = walk(value, [["[", inspect(key), "]"], "kwargs"], functions, node)
          {{key, value}, functions}
        end)

      {:ok, args, Map.new(kwargs), functions}
    end
  catch
    {__MODULE__, path, type, reason} -> {:error, refused(path, type, reason)}
  end

  defp refused(path, type, reason),
    do: %EncodeError{path: path |> Enum.reverse() |> IO.iodata_to_binary(), type: type, reason: reason}

  @doc "The same for one term."
  @spec lend(term, node, functions) :: {:ok, term, functions} | {:error, EncodeError.t()}
  def lend(term, node, functions) do
    with {:ok, [term], %{}, functions} <- lend([term], %{}, node, functions), do: {:ok, term, functions}
  end

  @doc "What is wrong with a call of this node when its arguments have handles of other nodes; nil when they have none."
  @spec misplaced(list, map) :: EncodeError.t() | nil
  def misplaced(args, kwargs) do
    walk(args, ["args"], nil, node())
    for {key, value} <- kwargs, do: walk(value, [["[", inspect(key), "]"], "kwargs"], nil, node())
    nil
  catch
    {__MODULE__, path, type, reason} -> refused(path, type, reason)
  end

  defp walk(%Iter.Reference{pull: key}, _path, functions, _node) when functions != nil,
    do: lent(fn count -> Iter.pull(key, count) end, :iter, functions)

  defp walk(%Object{pool: pool} = object, path, functions, node) do
    if is_pid(pool) and node(pool) != node do
      refuse(
        path,
        Object,
        "it lives on the node #{node(pool)}, and the call goes to #{node}. Objects of one call have to live in the same worker"
      )
    end

    {object, functions}
  end

  defp walk(function, path, functions, _node) when is_function(function) and functions != nil do
    case Function.info(function, :arity) do
      {:arity, arity} when arity <= @most_arity ->
        lent(function, arity, functions)

      {:arity, arity} ->
        refuse(
          path,
          nil,
          "to another node a function of at most #{@most_arity} arguments can be lent, and this one takes #{arity}"
        )
    end
  end

  defp walk([head | tail], path, functions, node), do: elements([head | tail], path, 0, functions, node)

  defp walk(tuple, path, functions, node) when is_tuple(tuple) do
    {list, functions} = tuple |> Tuple.to_list() |> elements(path, 0, functions, node)
    {List.to_tuple(list), functions}
  end

  defp walk(map, path, functions, node) when is_map(map) do
    {pairs, functions} =
      Enum.map_reduce(Map.to_list(map), functions, fn {key, value}, functions ->
        {key, functions} = walk(key, [[" (key ", inspect(key), ")"] | path], functions, node)
        {value, functions} = walk(value, [["[", inspect(key), "]"] | path], functions, node)
        {{key, value}, functions}
      end)

    {Map.new(pairs), functions}
  end

  defp walk(term, _path, functions, _node), do: {term, functions}

  defp lent(function, arity, functions) do
    index = map_size(functions)
    {%__MODULE__{index: index, arity: arity}, Map.put(functions, index, function)}
  end

  defp elements([head | tail], path, index, functions, node) do
    {head, functions} = walk(head, [["[", Integer.to_string(index), "]"] | path], functions, node)
    {tail, functions} = elements(tail, path, index + 1, functions, node)
    {[head | tail], functions}
  end

  defp elements([], _path, _index, functions, _node), do: {[], functions}
  # The end of an improper list.
  defp elements(term, path, index, functions, node),
    do: walk(term, [["[", Integer.to_string(index), "]"] | path], functions, node)

  @spec refuse(list, module | nil, String.t()) :: no_return
  defp refuse(path, type, reason), do: throw({__MODULE__, path, type, reason})

  @doc "A term with each of its parts of which `fun` makes something else."
  @spec map(term, (term -> {:ok, term} | :descend)) :: term
  def map(term, fun) do
    case fun.(term) do
      {:ok, other} -> other
      :descend -> descend(term, fun)
    end
  end

  defp descend([head | tail], fun), do: [map(head, fun) | descend_tail(tail, fun)]

  defp descend(tuple, fun) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> descend(fun) |> List.to_tuple()

  defp descend(map, fun) when is_map(map),
    do: map |> Map.to_list() |> Map.new(fn {key, value} -> {map(key, fun), map(value, fun)} end)

  defp descend(term, _fun), do: term

  defp descend_tail([_ | _] = list, fun), do: descend(list, fun)
  defp descend_tail([], _fun), do: []
  defp descend_tail(term, fun), do: map(term, fun)

  @doc "The handles in a term."
  @spec objects(term, [Object.t()]) :: [Object.t()]
  def objects(term, found \\ [])
  def objects(%Object{pool: nil}, found), do: found
  def objects(%Object{} = object, found), do: [object | found]
  def objects([head | tail], found), do: objects(tail, objects(head, found))
  def objects(tuple, found) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> objects(found)

  def objects(map, found) when is_map(map),
    do: :maps.fold(fn key, value, found -> objects(value, objects(key, found)) end, found, map)

  def objects(_term, found), do: found
end
