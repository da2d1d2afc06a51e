defmodule Typhon.Options do
  @moduledoc false
  # Options as functions take them. A wrong one is a mistake in the program, so it raises ArgumentError with a sentence that
  # says what was given, what is allowed, and for an unknown name which one was probably meant.
  #
  # An option is data, in Typhon.Options.Pool and Typhon.Options.Calls: a new one is a new entry there, and no more.

  alias Typhon.Options.{Calls, Check, Option, Pool, Render, Rules, Table}

  # `interpreter`: what isolation: :interpreter loads; known when the pool starts.
  @type start :: %{
          unquote_splicing([
            {quote(do: optional(:interpreter)), quote(do: nil | Typhon.Env.t())},
            {:min_workers, quote(do: pos_integer)}
            | Render.results(Table.started())
          ])
        }

  @type call :: %{kwargs: %{optional(String.t()) => term}, timeout: timeout, routing: routing}

  @type stream :: %{
          kwargs: map,
          timeout: timeout,
          batch: pos_integer,
          as: :value | Typhon.Structs.shape(),
          routing: routing
        }

  @typedoc """
  Where a call goes and how often, where it prints, what becomes of its atoms, and of its result; nil: to the least loaded worker, once, to
  the caller, and what the pool says. `worker` is the hash of the key.
  """
  @type routing ::
          nil
          | %{
              worker: nil | non_neg_integer,
              retry: non_neg_integer,
              stdio: nil | :group_leader | :logger | :discard | pid,
              text: text,
              as: :value | :object | Typhon.Structs.shape()
            }

  @typedoc "What a call says of `keys:` and `values:`; nil: what its pool says."
  @type text :: nil | {nil | :atoms | :strings, nil | :atoms | :strings}

  # What functions that make several calls hand on to each.
  @handed_on for %{as_of: [_ | _], name: name} <- Table.options(:map), name != :as, do: name

  defdelegate default_timeout, to: Calls
  defdelegate log_levels, to: Pool
  defdelegate log_level(name), to: Pool
  defdelegate docs(scope), to: Render
  defdelegate type(scope), to: Render

  @spec start!(keyword) :: start
  def start!(options) do
    known!(options, :pool)

    options
    |> Rules.language!()
    |> Rules.planned!()
    |> started!()
    |> Rules.paths()
    |> Rules.isolation!()
    |> Rules.elastic()
  end

  # Defaults may come from the configuration.
  defp started!(options) do
    Map.new(Table.started(), fn option ->
      value = Keyword.get_lazy(options, option.name, fn -> Option.default(option) end)
      {option.name, Check.check!(option, value)}
    end)
  end

  @doc "Options of a pool that poolboy manages: one worker, found by its pid."
  @spec poolboy!(keyword) :: keyword
  def poolboy!(options) do
    Check.known!(options, names(Table.started()), "Typhon.Worker.start_link/1")

    if Keyword.get(options, :workers, 1) != 1 do
      raise ArgumentError,
            "workers: must be 1 for a worker of poolboy, got #{inspect(options[:workers])}. " <>
              "How many there are is poolboy's size: and max_overflow:"
    end

    if options[:name] != nil do
      raise ArgumentError,
            "name: is not for a worker of poolboy, got #{inspect(options[:name])}. " <>
              "The pool's name is poolboy's name:, and a worker is the pid that poolboy hands out"
    end

    Keyword.put(options, :workers, 1)
  end

  # Without a look at each option where there is but the common one.
  @spec call!(keyword) :: call
  def call!([{:timeout, timeout}]), do: %{kwargs: %{}, timeout: timeout!(timeout), routing: nil}
  def call!(options), do: options |> values!(:call) |> call()

  @spec cast!(keyword) :: call
  def cast!(options), do: options |> values!(:cast) |> call()

  @spec run!(keyword) :: %{timeout: timeout}
  def run!(options), do: values!(options, :run)

  @spec restart!(keyword) :: %{timeout: timeout}
  def restart!(options), do: values!(options, :restart)

  @spec reload!(keyword) :: %{timeout: timeout}
  def reload!(options), do: values!(options, :reload)

  @spec send!(keyword) :: %{to: :one | :all | {:worker, non_neg_integer}, timeout: timeout}
  def send!(options), do: values!(options, :send)

  @spec stream!(keyword) :: stream
  def stream!(options), do: of_elements(options, :stream)

  @spec eval!(keyword) :: map
  def eval!([]), do: %{kwargs: %{}, timeout: default_timeout(), routing: nil, file: nil, line: 1, as: :value}
  def eval!(options), do: with_own(options, :eval, [:file, :line, :as])

  @spec exec_file!(keyword) :: map
  def exec_file!(options), do: with_own(options, :exec_file, [:argv, :bindings])

  @doc "Of the functions that work with a scope."
  @spec scope!(keyword, :scope | :get | :put | :delete | :names) :: map
  def scope!(options, function) when function in [:get, :delete], do: with_own(options, :object, [:as])
  def scope!(options, function), do: with_own(options, function, [])

  defp with_own(options, scope, own) do
    {own, values} = options |> values!(scope) |> Map.split(own)
    Map.merge(own, own |> in_elixir(values) |> call())
  end

  # What stays in Python is the code's to say; a struct is made of its value as of any other.
  defp in_elixir(%{as: as}, values) when as not in [:value, :object], do: Map.put(values, :as, as)
  defp in_elixir(_own, values), do: values

  @spec bindings!(term) :: %{optional(String.t()) => term}
  def bindings!(bindings) do
    case Check.bindings(bindings) do
      {:ok, bindings} -> bindings
      :error -> raise ArgumentError, "bindings must be a map or a keyword list, got #{inspect(bindings)}"
    end
  end

  @spec stream_object!(keyword) :: stream
  def stream_object!(options), do: of_elements(options, :stream_object)

  # A batch itself is no struct.
  defp of_elements(options, scope) do
    {own, values} = options |> values!(scope) |> Map.split([:batch, :as])
    Map.merge(own, call(values))
  end

  @doc "Those of the functions on objects."
  @spec object!(keyword, :object | :call_object | :enter | :render | :save) :: call
  def object!(options, scope \\ :object)
  def object!([], _scope), do: %{kwargs: %{}, timeout: default_timeout(), routing: nil}
  def object!(options, scope), do: options |> values!(scope) |> call()

  @doc "`call`: what is left for the call that carries the batch, without kwargs and timeout."
  @spec multi!(keyword, :multi | :multi_each) :: %{
          stop_on_error: boolean,
          as: :value | Typhon.Structs.shape(),
          kwargs: map,
          timeout: timeout,
          call: keyword
        }
  def multi!(options, scope), do: Map.merge(%{kwargs: %{}}, handing_on!(options, scope))

  @doc "`call` as for multi!/2."
  @spec map!(keyword) :: %{
          args: list,
          max_concurrency: pos_integer | nil,
          ordered: boolean,
          batch: pos_integer,
          on_error: :raise | :return | :skip,
          as: :value | Typhon.Structs.shape(),
          kwargs: map,
          timeout: timeout,
          call: keyword
        }
  def map!(options), do: handing_on!(options, :map)

  defp handing_on!(options, scope) do
    options
    |> values!(scope)
    |> Map.drop(@handed_on)
    |> Map.put(:call, Keyword.take(options, @handed_on))
  end

  @spec yield_many!(timeout | keyword) :: %{timeout: timeout, on_timeout: :nothing | :ignore | :kill_task}
  def yield_many!(options) when is_list(options), do: values!(options, :yield_many)
  def yield_many!(timeout), do: yield_many!(timeout: timeout)

  @spec timeout!(term) :: timeout
  def timeout!(timeout), do: Check.check!(Table.by_name(:call).timeout, timeout)

  @spec kwargs!(term) :: %{optional(String.t()) => term}
  def kwargs!(kwargs), do: Check.check!(Table.by_name(:call).kwargs, kwargs)

  defp call(values),
    do: %{kwargs: Map.get(values, :kwargs, %{}), timeout: values.timeout, routing: routing(values)}

  # Some functions have some of these alone.
  defp routing(values) do
    case %{
      worker: Map.get(values, :worker),
      retry: Map.get(values, :retry, 0),
      stdio: Map.get(values, :stdio),
      text: text(values),
      as: Map.get(values, :as, :value)
    } do
      %{worker: nil, retry: 0, stdio: nil, text: nil, as: :value} -> nil
      %{worker: nil} = routing -> routing
      %{worker: key} = routing -> %{routing | worker: Check.hash(key)}
    end
  end

  defp text(%{keys: keys, values: values}) when keys != nil or values != nil, do: {keys, values}
  defp text(_values), do: nil

  # --- what each option comes to ---

  # Without a look at those that are not given: this is part of what a call takes.
  defp values!(options, scope) do
    known!(options, scope)
    Map.merge(Table.defaults(scope), given!(options, Table.by_name(scope), %{}))
  end

  defp given!([], _by_name, given), do: given

  # The first of a name counts.
  defp given!([{name, _} | rest], by_name, given) when is_map_key(given, name),
    do: given!(rest, by_name, given)

  defp given!([{name, value} | rest], by_name, given) do
    value = Check.check!(Map.fetch!(by_name, name), value)
    given!(rest, by_name, Map.put(given, name, value))
  end

  defp known!(options, scope) do
    unless known?(options, Table.by_name(scope)),
      do: Check.known!(options, names(Table.options(scope)), Table.function(scope))
  end

  defp known?([{name, _} | rest], by_name) when is_map_key(by_name, name), do: known?(rest, by_name)
  defp known?(rest, _by_name), do: rest == []

  defp names(options), do: Enum.map(options, & &1.name)
end
