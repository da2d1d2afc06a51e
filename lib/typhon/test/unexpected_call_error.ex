defmodule Typhon.Test.UnexpectedCallError do
  @moduledoc """
  A test met a call that it has no answer for.

  * `pool`, `module`, `function`, `args` – the call
  * `reason` – `:not_stubbed`: it went to a pool without Python (`Typhon.Test.start_pool/1`), and is returned as
    `{:error, exception}`. `:exceeded`: it came more often than `Typhon.Test.expect/5` said, or `{:arity, arity, kwargs}`: the
    stub takes another number of arguments; these are raised in the calling process
  """

  defexception [:pool, :module, :function, :args, :reason]

  @type t :: %__MODULE__{
          pool: Typhon.pool(),
          module: String.t(),
          function: String.t(),
          args: list,
          reason: :not_stubbed | :exceeded | {:arity, arity, map}
        }

  @impl true
  def message(%{reason: :not_stubbed} = error) do
    "#{call(error)} was called on #{inspect(error.pool)}, a test pool without Python, and has no stub for this process. " <>
      "Give it one in the test:\n\n" <>
      "    Typhon.Test.stub(#{inspect(error.pool)}, #{written(error.module)}, #{inspect(error.function)}, " <>
      "#{example(error.args)})\n\n" <>
      "A process that the test did not start also needs Typhon.Test.allow/3 or Typhon.Test.set_global/1"
  end

  def message(%{reason: :exceeded} = error) do
    "#{call(error)} was called more often than Typhon.Test.expect said, this time with #{list(error.args)}. " <>
      "Expect more calls, or add a Typhon.Test.stub for those beyond"
  end

  def message(%{reason: {:arity, arity, kwargs}} = error) do
    count = length(error.args)

    "the stub for #{title(error)} takes #{arguments(arity)}, but the call has #{arguments(count)}" <>
      if kwargs == %{} do
        ": #{list(error.args)}"
      else
        " and keyword arguments, #{list(error.args)} and #{inspect(kwargs)}: a stub gets these in a last argument, " <>
          "so it must take #{count + 1}"
      end
  end

  @doc false
  # Arguments are never characters, even when they could be.
  @spec list(list) :: String.t()
  def list(args), do: inspect(args, charlists: :as_lists)

  defp call(error), do: "#{title(error)} with #{arguments(length(error.args))}"

  defp title(error), do: "#{String.replace_prefix(error.module, "Elixir.", "")}.#{error.function}"

  # A module of Elixir's has functions of Python's when it has a block of code (Typhon.Module).
  defp written("Elixir." <> alias), do: alias
  defp written(module), do: inspect(module)

  defp arguments(1), do: "1 argument"
  defp arguments(count), do: "#{count} arguments"

  defp example([]), do: "fn -> … end"
  defp example(args), do: "fn #{Enum.map_join(1..length(args), ", ", &"arg#{&1}")} -> … end"
end
