defprotocol Pythonx.Encoder do
  @moduledoc """
  How a struct becomes an object of Python's.

      defmodule Complex do
        defstruct [:re, :im]
      end

      defimpl Pythonx.Encoder, for: Complex do
        def encode(%{re: re, im: im}, _encoder) do
          {object, _} = Pythonx.eval("complex(re, im)", %{"re" => re, "im" => im})
          object
        end
      end

  The second argument is what the elements of a container are encoded by: `encoder.(element, encoder)`.
  """

  @doc "The object."
  @spec encode(t, Pythonx.encoder()) :: Pythonx.Object.t()
  def encode(term, encoder)
end

# One request, whatever is inside; elements only come by themselves when the encoder is the user's.
for type <- [Atom, Integer, Float, BitString, List, Tuple, Map, PID, MapSet] do
  defimpl Pythonx.Encoder, for: type do
    def encode(term, encoder), do: Pythonx.Terms.object(term, encoder)
  end
end

defimpl Pythonx.Encoder, for: Pythonx.Object do
  def encode(object, _encoder) do
    if Pythonx.Object.node_of(object) == node() do
      object
    else
      raise Protocol.UndefinedError,
        protocol: @protocol,
        value: object,
        description:
          "remote objects cannot be encoded implicitly: it lives on the node #{Pythonx.Object.node_of(object)}. " <>
            "Make a copy with Pythonx.copy_remote_object/1 first"
    end
  end
end
