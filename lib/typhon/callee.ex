defmodule Typhon.Callee do
  @moduledoc false
  # What names a Python function among the arguments of Typhon's: a mistake there is one in the program.

  alias Typhon.{Registry, Session}

  # Atoms that are no names: a variable was nil, a condition stands where its result should.
  defguard is_name(term) when (is_atom(term) and term not in [nil, true, false]) or is_binary(term)

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

  @spec check!(term, term, term, term) :: :ok
  def check!(pool, module, function, args) do
    unless is_name(module) or is_struct(module, Typhon.Object) or main?(module, pool) do
      raise ArgumentError,
            "the module must be an atom, a string or a Typhon.Object, got #{inspect(module)}" <>
              as_name(module)
    end

    unless is_name(function) do
      raise ArgumentError,
            "the function must be an atom or a string, got #{inspect(function)}" <> as_name(function)
    end

    unless is_list(args) and List.improper?(args) == false do
      raise ArgumentError,
            "the arguments must be a list, got #{inspect(args)}. A single argument is [#{inspect(args)}]"
    end

    :ok
  end

  # nil is Ruby's top level.
  defp main?(nil, %Session{pid: pid}), do: ruby?(pid)

  defp main?(nil, pool) do
    case Registry.lookup(pool) do
      {pid, _, _} -> ruby?(pid)
      {:error, _} -> false
    end
  end

  defp main?(_module, _pool), do: false

  defp ruby?(pid), do: Registry.options(pid)[:language] == :ruby

  @doc "`argument` is what it takes."
  @spec fun!(term, String.t(), String.t()) :: :ok
  def fun!(fun, _of, _argument) when is_function(fun, 1), do: :ok

  def fun!(other, of, argument) do
    raise ArgumentError,
          "the function of #{of} must take one argument, which is #{argument}, got #{inspect(other)}"
  end

  @doc "A module by its name alone."
  @spec module!(term) :: :ok
  def module!(module) when is_name(module), do: :ok

  def module!(other) do
    raise ArgumentError, "the module must be an atom or a string, got #{inspect(other)}" <> as_name(other)
  end

  @spec name?(term) :: boolean
  def name?(term), do: is_name(term)

  @doc "How a name is given that an atom is not, for the end of a sentence."
  @spec as_name(term) :: String.t()
  def as_name(atom) when is_atom(atom), do: ~s(. One that has this name is "#{Atom.to_string(atom)}")
  def as_name(_other), do: ""
end
