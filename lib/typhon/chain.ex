defmodule Typhon.Chain do
  @moduledoc """
  Several steps from one object to the next, in one request.

  Each step takes what the one before it has come to, and nothing but the last result crosses to Elixir:

      {:ok, py} = Typhon.start_link(workers: 1)
      {:ok, words} = Typhon.call(py, :collections, :deque, [["b", "a", "b"]])

      # In Python: words.copy().__class__.__name__.upper()
      {:ok, "DEQUE"} =
        Typhon.chain(words, call: {:copy, []}, get: "__class__.__name__", call: {:upper, []})

  | step | in Python |
  |---|---|
  | `get: "a.b"` | `….a.b` |
  | `item: key` | `…[key]` |
  | `call: ["city"]`, `call: {["city"], kwargs}` | `…("city")`, `…("city", **kwargs)` |
  | `call: {"mean", []}`, `call: {"mean", [], kwargs}` | `….mean()`, `….mean(**kwargs)` |

  A coroutine that a call returns is awaited. What Python raises says which step it was: `step 3 of 5, item: 'price'`.

  A chain may also be made step by step, and is run at its end:

      {:ok, "DEQUE"} =
        words
        |> Typhon.chain()
        |> Typhon.Chain.call(:copy, [])
        |> Typhon.Chain.get("__class__.__name__")
        |> Typhon.Chain.call(:upper, [])
        |> Typhon.Chain.run()
  """

  alias Typhon.{EncodeError, Object, Options}

  # `steps`, the last one first: {kind, name, what it takes}, as python/typhon/_chain.py has them.
  @enforce_keys [:object]
  defstruct [:object, steps: []]

  @opaque t :: %__MODULE__{object: Object.t(), steps: [{kind :: char, String.t(), taken :: list}]}

  @type step :: {:get, Typhon.name()} | {:item, term} | {:call, list | tuple}

  # Python compiles a chain.
  @most 1_000

  defimpl Inspect do
    def inspect(%{object: object, steps: steps}, _opts),
      do: "#Typhon.Chain<#{object.type}, steps: #{length(steps)}>"
  end

  @doc false
  @spec new(Object.t()) :: t
  def new(object) do
    Object.given!(object, "Typhon.chain/3")
    %__MODULE__{object: object}
  end

  @doc false
  @spec new(Object.t(), [step]) :: t
  def new(object, steps), do: %{new(object) | steps: steps!(steps, [], 1)}

  @doc "An attribute of what there is; with dots attributes of attributes."
  @spec get(t, Typhon.name()) :: t
  def get(chain, path), do: add(chain, step!({:get, path}))

  @doc "An element of what there is, by its key."
  @spec item(t, term) :: t
  def item(chain, key), do: add(chain, step!({:item, key}))

  @doc "Calls what there is."
  @spec call(t, list) :: t
  def call(chain, args) when is_list(args), do: add(chain, step!({:call, args}))

  @doc "Calls what there is with keyword arguments, a map or a keyword list; or, by its name, a method of it."
  @spec call(t, list, map | keyword) :: t
  @spec call(t, Typhon.name(), list) :: t
  def call(chain, args, kwargs) when is_list(args), do: add(chain, step!({:call, {args, kwargs}}))
  def call(chain, name, args), do: add(chain, step!({:call, {name, args}}))

  @doc "Calls a method of what there is with keyword arguments, a map or a keyword list."
  @spec call(t, Typhon.name(), list, map | keyword) :: t
  def call(chain, name, args, kwargs), do: add(chain, step!({:call, {name, args, kwargs}}))

  @doc "Runs the chain, in one request. The options are those of `Typhon.get/3`."
  @spec run(t, [Typhon.object_option()]) :: {:ok, term} | {:error, Typhon.error()}
  def run(%__MODULE__{object: object, steps: steps}, options \\ []) do
    count = length(steps)

    if count > @most,
      do: raise(ArgumentError, "a chain has at most #{@most} steps, and this one has #{count}: take several")

    {shape, args} = request(steps, [], [])
    shape = IO.iodata_to_binary(["0 ", Integer.to_string(count) | shape])

    with {:error, %EncodeError{path: "args[1]" <> path} = error} <-
           Object.chain(object, shape, args, options),
         do: {:error, %{error | path: place(Enum.reverse(steps), 1, path)}}
  end

  defp request([{kind, name, taken} | steps], shape, args),
    do: request(steps, [0, kind, name | shape], taken ++ args)

  defp request([], shape, args), do: {shape, args}

  @doc false
  # From what is sent back to the steps as they were written, for Typhon.Test. Names are strings, keyword arguments maps.
  @spec steps(String.t(), list) :: [step]
  def steps(shape, args) do
    [_count | steps] = :binary.split(shape, <<0>>, [:global])
    written(steps, args)
  end

  defp written([], []), do: []
  defp written([<<?g, name::binary>> | steps], args), do: [{:get, name} | written(steps, args)]
  defp written([<<?i>> | steps], [key | args]), do: [{:item, key} | written(steps, args)]

  defp written([<<?*, name::binary>> | steps], [taken | args]),
    do: [{:call, called(name, taken)} | written(steps, args)]

  defp written([<<?&, name::binary>> | steps], [taken, kwargs | args]),
    do: [{:call, called(name, taken, kwargs)} | written(steps, args)]

  defp written([<<count, name::binary>> | steps], args) do
    {taken, args} = Enum.split(args, count - ?0)
    [{:call, called(name, taken)} | written(steps, args)]
  end

  defp called("", args), do: args
  defp called(name, args), do: {name, args}
  defp called("", args, kwargs), do: {args, kwargs}
  defp called(name, args, kwargs), do: {name, args, kwargs}

  @doc "As `run/2`, and returns the value itself or raises the exception."
  @spec run!(t, [Typhon.object_option()]) :: term
  def run!(chain, options \\ []) do
    case run(chain, options) do
      {:ok, value} -> value
      {:error, error} -> raise error
    end
  end

  # From the place in what is sent to that in the step.
  defp place(steps, number, path) do
    case Regex.run(~r/\A\[(\d+)\](.*)\z/s, path, capture: :all_but_first) do
      [index, rest] ->
        {number, part} = part(steps, number, String.to_integer(index))
        "step #{number}, #{part}#{rest}"

      nil ->
        path
    end
  end

  defp part([{kind, _, taken} | _], number, index) when index < length(taken) do
    case kind do
      ?i -> {number, "key"}
      ?* -> {number, "args"}
      ?& -> {number, Enum.at(["args", "kwargs"], index)}
      _ -> {number, "args[#{index}]"}
    end
  end

  defp part([{_, _, taken} | steps], number, index), do: part(steps, number + 1, index - length(taken))

  defp add(%__MODULE__{steps: steps} = chain, step), do: %{chain | steps: [step | steps]}
  defp add(other, _step), do: no_chain!(other)

  @spec no_chain!(term) :: no_return
  defp no_chain!(other),
    do:
      raise(
        ArgumentError,
        "a step is added to a Typhon.Chain, which Typhon.chain/1 makes, got #{inspect(other)}"
      )

  defp steps!([step | rest], made, index), do: steps!(rest, [step!(step, index) | made], index + 1)
  defp steps!([], made, _index), do: made

  defp steps!(other, _made, _index),
    do: raise(ArgumentError, "the steps must be a list, got #{inspect(other)}")

  defp step!(step, index \\ nil)
  defp step!({:get, path}, _) when is_binary(path) or is_atom(path), do: {?g, name!(path), []}
  defp step!({:item, key}, _), do: {?i, "", [key]}
  defp step!({:call, args}, _) when length(args) >= 0, do: call_step("", args)

  defp step!({:call, {args, kwargs}}, _) when length(args) >= 0,
    do: {?&, "", [args, Options.kwargs!(kwargs)]}

  defp step!({:call, {name, args}}, _) when (is_binary(name) or is_atom(name)) and length(args) >= 0,
    do: call_step(name!(name), args)

  defp step!({:call, {name, args, kwargs}}, _) when (is_binary(name) or is_atom(name)) and length(args) >= 0,
    do: {?&, name!(name), [args, Options.kwargs!(kwargs)]}

  defp step!(other, index) do
    raise ArgumentError,
          "#{if index, do: "step #{index} of a chain", else: "a step of a chain"} must be get: path, item: key, call: args, " <>
            "call: {args, kwargs}, call: {name, args} or call: {name, args, kwargs}, got #{inspect(other)}. " <>
            "args is a list, kwargs a map or a keyword list" <> method(other)
  end

  # The name of a method where the kind of step should be.
  defp method({name, args}) when is_atom(name) and is_list(args),
    do: ". A method is called by call: #{inspect({Atom.to_string(name), args})}"

  defp method(_other), do: ""

  defp call_step(name, args) when length(args) < 10, do: {?0 + length(args), name, args}
  defp call_step(name, args), do: {?*, name, [args]}

  defp name!(name) when is_binary(name) and name != "", do: plain!(name, name)
  defp name!(name) when is_atom(name) and name not in [nil, true, false], do: name!(Atom.to_string(name))
  defp name!(name), do: bad_name!(name)

  # A NUL would begin the next step.
  defp plain!(<<0, _::binary>>, name), do: bad_name!(name)
  defp plain!(<<_, rest::binary>>, name), do: plain!(rest, name)
  defp plain!(<<>>, name), do: name

  @spec bad_name!(term) :: no_return
  defp bad_name!(name),
    do: raise(ArgumentError, "a name in a chain must have characters, and no NUL, got #{inspect(name)}")
end
