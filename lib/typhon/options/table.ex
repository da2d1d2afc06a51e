defmodule Typhon.Options.Table do
  @moduledoc false
  # All options there are, and which function takes which.

  alias Typhon.Options.{Calls, Check, Option, Pool}

  # multi/3 makes calls of all sorts, which have keyword arguments of their own.
  @scopes [
    pool: "Typhon.start_link/1",
    call: "Typhon.call/5",
    cast: "Typhon.cast/5",
    run: "Typhon.run/3",
    yield_many: "Typhon.yield_many/2",
    multi_each: "Typhon.multi/3",
    multi: "Typhon.multi/5",
    map: "Typhon.map/5",
    restart: "Typhon.restart/2",
    reload: "Typhon.reload/3",
    stream: "Typhon.stream/5",
    send: "Typhon.send/3",
    eval: "Typhon.eval/4",
    exec_file: "Typhon.exec_file/3",
    scope: "Typhon.scope/3",
    put: "Typhon.put/4",
    names: "Typhon.names/2",
    object: "Typhon.get/3",
    call_object: "Typhon.call/3",
    stream_object: "Typhon.stream/2",
    enter: "Typhon.enter/3",
    render: "Typhon.render/2",
    save: "Typhon.save/3"
  ]

  @typedoc "One of `scopes/0`."
  @type scope :: atom

  @spec scopes :: [scope]
  def scopes, do: Keyword.keys(@scopes)

  @doc "The function whose options these are."
  @spec function(scope) :: String.t()
  def function(scope), do: Keyword.fetch!(@scopes, scope)

  @all Pool.options() ++ Calls.options()

  @spec options(scope) :: [Option.t(), ...]
  @spec by_name(scope) :: %{atom => Option.t()}
  # What those come to that are not given.
  @spec defaults(scope) :: %{atom => term}

  # Calls look here, so it is made when this is compiled.
  for {scope, _} <- @scopes do
    options = Enum.filter(@all, &(scope in &1.scope or scope in &1.as_of))

    def options(unquote(scope)), do: unquote(Macro.escape(options))
    def by_name(unquote(scope)), do: unquote(Macro.escape(Map.new(options, &{&1.name, &1})))

    # Those of a pool may come from the configuration.
    if scope != :pool do
      values = Map.new(options, &{&1.name, Check.check!(&1, &1.default)})
      def defaults(unquote(scope)), do: unquote(Macro.escape(values))
    end
  end

  @doc "Those of a pool once it does not matter which language it has: what is Ruby's alone is said by others then."
  @spec started :: [Option.t(), ...]
  def started, do: Enum.reject(options(:pool), &(&1.language == :ruby))
end
