defmodule Pythonx.Terms do
  @moduledoc false
  # What Pythonx makes of terms, as Typhon sends it: binaries are bytes, atoms strings. So a term of any size is one request.

  alias Pythonx.{Encoder, Object, Python}

  @doc "The object that a term becomes."
  @spec object(term, Pythonx.encoder()) :: Object.t()
  def object(term, encoder) do
    term = built_in(term, encoder)
    Object.new(Python.call!("encode", [term, pids?(term)]))
  end

  @doc "What is sent for a term, as part of a request."
  @spec term(term, Pythonx.encoder()) :: term
  def term(term, encoder) do
    if encoder == (&Encoder.encode/2), do: built_in(term, encoder), else: encoder.(term, encoder).resource
  end

  defp built_in(term, _encoder) when term in [nil, true, false] or is_number(term) or is_pid(term), do: term
  defp built_in(term, _encoder) when is_atom(term), do: Atom.to_string(term)
  defp built_in(term, _encoder) when is_binary(term), do: %Typhon.Bytes{data: term}
  defp built_in(term, encoder) when is_list(term), do: list(term, encoder, term)

  defp built_in(term, encoder) when is_tuple(term),
    do: term |> Tuple.to_list() |> Enum.map(&term(&1, encoder)) |> List.to_tuple()

  defp built_in(%MapSet{} = set, encoder), do: MapSet.new(set, &term(&1, encoder))
  # Of structs, and of functions and the like, users know.
  defp built_in(%_{} = struct, encoder), do: Encoder.encode(struct, encoder).resource

  defp built_in(map, encoder) when is_map(map),
    do: Map.new(map, fn {key, value} -> {term(key, encoder), term(value, encoder)} end)

  defp built_in(bits, _encoder) when is_bitstring(bits) do
    raise Protocol.UndefinedError,
      protocol: Encoder,
      value: bits,
      description: "Python has nothing for bits that are no whole bytes"
  end

  defp built_in(term, encoder), do: Encoder.encode(term, encoder).resource

  defp list([head | tail], encoder, whole), do: [term(head, encoder) | list(tail, encoder, whole)]
  defp list([], _encoder, _whole), do: []

  defp list(_tail, _encoder, whole) do
    raise Protocol.UndefinedError,
      protocol: Encoder,
      value: whole,
      description: "Python has nothing for a list that does not end in []"
  end

  @doc "Whether there are pids in what is sent: Python looks for them only then."
  @spec pids?(term) :: boolean
  def pids?(pid) when is_pid(pid), do: true
  def pids?([head | tail]), do: pids?(head) or pids?(tail)
  def pids?(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> pids?()
  def pids?(%MapSet{} = set), do: Enum.any?(set, &pids?/1)
  def pids?(%_{}), do: false
  def pids?(map) when is_map(map), do: Enum.any?(map, fn {key, value} -> pids?(key) or pids?(value) end)
  def pids?(_), do: false

  @doc "What came, with its handles as objects."
  @spec with_objects(term) :: term
  def with_objects(%Typhon.Object{} = object), do: Object.new(object)
  def with_objects(%MapSet{} = set), do: MapSet.new(set, &with_objects/1)
  def with_objects([head | tail]), do: [with_objects(head) | with_objects(tail)]

  def with_objects(tuple) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> with_objects() |> List.to_tuple()

  def with_objects(map) when is_map(map),
    do: Map.new(map, fn {key, value} -> {with_objects(key), with_objects(value)} end)

  def with_objects(term), do: term
end
