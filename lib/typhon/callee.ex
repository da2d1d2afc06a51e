defmodule Typhon.Callee do
  @moduledoc false
  # What names a Python function among the arguments of Typhon's: a mistake there is one in the program.

  # In Python such an object would be the name of a module, or what is here put around one.
  @mistaken ["str", "tuple", "String", "Typhon::Tuple"]

  @doc "A module or an object among the arguments of a function of Typhon's own in Python or Ruby."
  @spec target(Typhon.callee()) :: String.t() | Typhon.Object.t() | {Typhon.Object.t()}
  def target(%Typhon.Object{type: type} = object) when type in @mistaken, do: {object}
  def target(%Typhon.Object{} = object), do: object
  def target(module), do: to_string(module)

  @doc "What target/1 was of."
  @spec bare(term) :: term
  def bare({object}), do: object
  def bare(module), do: module

  @spec check!(term, term, term) :: :ok
  def check!(module, function, args) do
    unless is_atom(module) or is_binary(module) or is_struct(module, Typhon.Object) do
      raise ArgumentError,
            "the module must be an atom, a string or a Typhon.Object, got #{inspect(module)}"
    end

    unless is_atom(function) or is_binary(function) do
      raise ArgumentError,
            "the function must be an atom or a string, got #{inspect(function)}"
    end

    unless is_list(args) and List.improper?(args) == false do
      raise ArgumentError,
            "the arguments must be a list, got #{inspect(args)}. A single argument is [#{inspect(args)}]"
    end

    :ok
  end
end
