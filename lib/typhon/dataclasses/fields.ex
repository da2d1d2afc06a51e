defmodule Typhon.Dataclasses.Fields do
  @moduledoc false
  # Which fields of a struct its dataclass has.

  alias Typhon.Structs

  @doc "In the order of defstruct, where Elixir says it; those that are sent, where that is known."
  @spec names(module) :: [atom]
  def names(module) do
    all =
      case module.__info__(:struct) do
        [_ | _] = fields -> Enum.map(fields, & &1.field)
        _ -> all(module)
      end

    case sent(module) do
      {:derived, fields} -> Enum.filter(all, &(&1 in fields))
      _ -> all
    end
  end

  @doc "Those in @enforce_keys."
  @spec required(module) :: [atom]
  def required(module), do: Structs.required(module, module.__struct__())

  @doc "What Elixir sends of it."
  @spec sent(module) :: {:derived, [atom]} | :by_hand | :nothing
  def sent(module) do
    # Not as plain calls: a compiler that infers types would take the implementations that it knows for all there can be.
    implementation = apply(Typhon.Encoder, :impl_for!, [module.__struct__()])

    cond do
      implementation == Typhon.Encoder.Any -> :nothing
      exports_fields?(implementation) -> {:derived, apply(implementation, :__fields__, [])}
      true -> :by_hand
    end
  end

  defp exports_fields?(module),
    do: Elixir.Code.ensure_loaded?(module) and function_exported?(module, :__fields__, 0)

  @doc "Those that are not sent."
  @spec left_out(module) :: [atom]
  def left_out(module) do
    case sent(module) do
      {:derived, fields} -> all(module) -- fields
      _ -> []
    end
  end

  defp all(module), do: module.__struct__() |> Map.from_struct() |> Map.keys()
end
