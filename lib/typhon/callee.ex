defmodule Typhon.Callee do
  @moduledoc false
  # What names a Python function among the arguments of Typhon's: a mistake there is one in the program.

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
