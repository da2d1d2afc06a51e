defmodule Typhon.Test.UnexpectedCallError do
  @moduledoc """
  A test met a call that it has no answer for.

  * `pool`, `module`, `function`, `args`, `kwargs` – the call, as `Typhon.Test.stub/4` names it and gets its arguments
  * `reason` – `:not_stubbed`: it went to a pool without Python (`Typhon.Test.start_pool/1`). `:made_up`: Python does not know the
    object, which is of `Typhon.Test.object/1` or `scope/0`. These two are returned as `{:error, exception}`. `:exceeded`: it came
    more often than `Typhon.Test.expect/5` said. `{:arity, arity, kwargs}`: the stub takes another number of arguments.
    `{:answer, value, must_be}`: what the stub answers cannot be the answer to this call. These are raised in the calling process
  """

  alias Typhon.Test.Written

  defexception [:pool, :module, :function, :args, :reason, kwargs: %{}]

  @type t :: %__MODULE__{
          pool: Typhon.pool(),
          module: String.t(),
          function: String.t(),
          args: list,
          kwargs: map,
          reason: :not_stubbed | :made_up | :exceeded | {:arity, arity, map} | {:answer, term, String.t()}
        }

  @impl true
  def message(%{reason: :not_stubbed} = error) do
    "#{call(error)} was called on #{inspect(error.pool)}, a test pool without Python, and has no stub for this process. " <>
      how_to_stub(error)
  end

  def message(%{reason: :made_up} = error) do
    "#{call(error)} was called on #{inspect(error.pool)}. Python does not know the object, which Typhon.Test has made, and " <>
      "the call has no stub for this process. " <> how_to_stub(error)
  end

  def message(%{reason: :exceeded} = error) do
    this_time = if eval?(error), do: "", else: ", this time with #{list(error.args)}"

    "#{call(error)} was called more often than Typhon.Test.expect said#{this_time}. " <>
      "Expect more calls, or add a Typhon.Test.stub for those beyond"
  end

  def message(%{reason: {:arity, arity, kwargs}} = error) do
    count = length(error.args)
    args = if eval?(error), do: "the code #{apply(Written, :code, error.args)}", else: list(error.args)

    "the stub for #{title(error)} takes #{arguments(arity)}, but the call has #{arguments(count)}" <>
      if kwargs == %{} do
        ": #{args}"
      else
        " and keyword arguments, #{args} and #{inspect(kwargs)}: a stub gets these in a last argument, " <>
          "so it must take #{count + 1}"
      end
  end

  def message(%{reason: {:answer, value, must_be}} = error) do
    "the stub for #{title(error)} has answered #{inspect(value)}, and no such call returns that. It must be #{must_be}"
  end

  @doc false
  # Arguments are never characters, even when they could be.
  @spec list(list) :: String.t()
  def list(args), do: inspect(args, charlists: :as_lists)

  defp how_to_stub(error) do
    "Give it one in the test:\n\n" <>
      "    Typhon.Test.stub(#{inspect(error.pool)}, #{written(error.module)}, #{inspect(error.function)}, " <>
      "#{example(error)})\n\n" <>
      "A process that the test did not start also needs Typhon.Test.allow/3 or Typhon.Test.set_global/1"
  end

  defp call(%{args: args} = error) do
    if eval?(error),
      do: "#{title(error)} of the code #{apply(Written, :code, args)}",
      else: "#{title(error)} with #{arguments(length(args))}"
  end

  defp eval?(error), do: match?(%{module: "Typhon", function: "eval", args: [_, _]}, error)

  defp title(error), do: Written.title(error.module, error.function)

  # A module of Elixir's has functions of Python's when it has a block of code (Typhon.Module).
  defp written("Elixir." <> alias), do: alias
  defp written(module), do: inspect(module)

  defp arguments(1), do: "1 argument"
  defp arguments(count), do: "#{count} arguments"

  defp example(%{args: args, kwargs: kwargs} = error) do
    names = Written.parameters(error.module, error.function) || numbered(length(args))
    names = if kwargs == %{}, do: names, else: names ++ ["kwargs"]
    "fn#{if names == [], do: "", else: " "}#{Enum.join(names, ", ")} -> #{answer(error)} end"
  end

  defp answer(%{module: "Typhon", function: "scope"}), do: "Typhon.Test.scope()"
  defp answer(_error), do: "…"

  defp numbered(0), do: []
  defp numbered(count), do: Enum.map(1..count, &"arg#{&1}")
end
