defmodule Pythonx.Object do
  @moduledoc """
  An object of Python's. It is released there when no Elixir process holds it any more.

  `inspect/1` shows what Python's `repr` says. The fields are private.
  """

  # `resource`: the handle of Typhon's. `remote_info`: a note that ends with the struct, of an object of another node.
  defstruct [:resource, :remote_info]

  @type t :: %__MODULE__{resource: Typhon.Object.t(), remote_info: reference | nil}

  @doc false
  @spec new(Typhon.Object.t()) :: t
  def new(%Typhon.Object{} = object), do: %__MODULE__{resource: object}

  @doc false
  @spec node_of(t) :: node
  def node_of(%__MODULE__{resource: %{ref: ref}}), do: :erlang.node(ref)

  @doc false
  @spec local!(t, String.t()) :: t
  def local!(object, done) do
    if node_of(object) == node() do
      object
    else
      raise ArgumentError,
            "an object of the node #{node_of(object)} cannot be #{done} here: make a copy with Pythonx.copy_remote_object/1 first"
    end
  end

  @doc false
  @spec represent(t) :: String.t()
  def represent(object), do: Pythonx.Python.call!("represent", [object.resource])

  defimpl Inspect do
    import Inspect.Algebra

    alias Pythonx.Object

    def inspect(object, _opts) do
      node = Object.node_of(object)
      place = if node == node(), do: [], else: ["[node: #{node}]"]

      lines =
        Enum.map(place ++ String.split(text(node, object), "\n"), &(&1 |> Typhon.Text.visible() |> string()))

      inner = concat([line() | Enum.intersperse(lines, line())])
      force_unfit(concat(["#Pythonx.Object<", nest(inner, 2), line(), ">"]))
    end

    # An object that cannot be shown is no reason to fail: it may stand deep in what is.
    defp text(node, object) do
      if node == node(),
        do: Object.represent(object),
        else: :erpc.call(node, Object, :represent, [object], 15_000)
    rescue
      error -> "(Python says nothing of it: #{first_line(error)})"
    end

    defp first_line(%Pythonx.Error{lines: lines}), do: lines |> List.last() |> String.trim()
    defp first_line(error), do: error |> Exception.message() |> String.split("\n") |> hd()
  end
end
