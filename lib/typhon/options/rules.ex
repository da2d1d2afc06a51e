defmodule Typhon.Options.Rules do
  @moduledoc false
  # What the options of a pool say together: which go with which language and isolation, and what one is by another.

  alias Typhon.Options.{Check, Pool, Table}

  # --- of the options as they are given ---

  @doc """
  A pool of Rubies is started as one of Pythons, by the Ruby's name and with its paths; what is to be loaded is the first part
  of its init:.
  """
  @spec language!(keyword) :: keyword
  def language!(options) do
    case value!(options, :language) do
      :python -> python!(options)
      :ruby -> ruby!(options)
    end
  end

  defp python!(options) do
    with {name, _} <- only(options, :ruby),
         do: raise(ArgumentError, "#{name}: is for language: :ruby alone")

    options
  end

  defp ruby!(options) do
    with {name, _} <- only(options, :python) do
      raise ArgumentError,
            "#{name}: is for Python alone. With language: :ruby there are ruby:, ruby_path: and require:, and a worker runs " <>
              "one call at a time"
    end

    if Keyword.get(options, :isolation, :process) != :process do
      raise ArgumentError,
            "isolation: #{inspect(options[:isolation])} is for Python alone: a Ruby runs in a process of its own, " <>
              "isolation: :process"
    end

    [ruby, paths, required] = Enum.map([:ruby, :ruby_path, :require], &value!(options, &1))
    load = for name <- required, do: {"typhon._life", "require", [name]}
    init = load ++ List.wrap(Keyword.get(options, :init, []))

    options
    |> Keyword.drop([:ruby, :ruby_path, :require])
    |> Keyword.merge(python: ruby, python_path: paths, isolation: :process, init: init)
  end

  # The first that is of this language alone.
  defp only(options, language), do: Enum.find(options, fn {name, _} -> option(name).language == language end)

  defp value!(options, name) do
    option = option(name)
    Check.check!(option, Keyword.get(options, name, option.default))
  end

  defp option(name), do: Map.fetch!(Table.by_name(:pool), name)

  @doc "What is planned."
  @spec planned!(keyword) :: keyword
  def planned!(options) do
    if options[:isolation] == :node do
      raise ArgumentError,
            "isolation: :node does not exist yet. isolation: :process (the default) and :interpreter do"
    end

    options
  end

  # --- of the options that are checked ---

  @doc "What the operating system does for a process it cannot do for a part of one. Memory is counted by Python's allocators."
  @spec isolation!(map) :: map
  def isolation!(%{isolation: :interpreter} = options) do
    with [_ | _] = others <- options.limits |> Map.delete(:memory) |> Map.to_list() do
      raise ArgumentError,
            "limits: of #{Enum.map_join(others, " and ", &elem(&1, 0))} need isolation: :process, as the operating system " <>
              "sets them for whole processes or for good, and this process is the VM's. memory: works with isolation: :interpreter"
    end

    if options.limits != %{} and options.engine == :subinterpreters do
      raise ArgumentError,
            "limits: [memory:] needs engine: :namespaces or :threads, or isolation: :process: sub-interpreters share the " <>
              "allocators of one Python"
    end

    if options.results == :shared do
      raise ArgumentError,
            "results: :shared is for isolation: :process. Inside the VM large binaries are shared in any case"
    end

    if options.max_memory do
      raise ArgumentError,
            "max_memory: needs isolation: :process: what one interpreter holds of the VM's memory cannot be told. " <>
              "max_calls: works with isolation: :interpreter"
    end

    for {name, value} <- options.env, value != nil, name in Typhon.Interpreters.unwanted() do
      raise ArgumentError,
            "env: #{name} needs isolation: :process: inside the VM it would make Python take over signals, wait for a " <>
              "terminal or be another Python"
    end

    threads(options)
  end

  def isolation!(%{engine: :auto} = options), do: options

  def isolation!(%{engine: engine}) do
    raise ArgumentError,
          "engine: #{inspect(engine)} is for isolation: :interpreter; a worker process is run by the Python of python: alone"
  end

  # One interpreter, in which as many threads take calls.
  defp threads(%{engine: :threads, workers: workers} = options) do
    count = with {_min, max} <- workers, do: max
    %{options | workers: 1, concurrency: count * options.concurrency}
  end

  defp threads(options), do: options

  @doc "Relative paths are relative to the directory that the worker runs in."
  @spec paths(map) :: map
  def paths(options) do
    cd = Path.expand(options.cd)
    %{options | cd: cd, python_path: Enum.map(options.python_path, &Path.expand(&1, cd))}
  end

  @doc "From here on `workers` is the number of places: the most that there may be."
  @spec elastic(map) :: map
  def elastic(%{workers: {min, max}} = options), do: restarts(%{options | workers: max}, min)
  def elastic(%{workers: count} = options), do: restarts(options, count)

  defp restarts(options, min) do
    max =
      if options.max_restarts == nil, do: Pool.restarts_each() * options.workers, else: options.max_restarts

    Map.merge(options, %{max_restarts: max, min_workers: min})
  end
end
