defmodule Typhon.Bytes do
  @moduledoc """
  A binary that Python is to see as `bytes` instead of `str`. Made by `Typhon.bytes/1`.
  """

  @enforce_keys [:data]
  defstruct [:data]

  @type t :: %__MODULE__{data: binary}

  @doc false
  @spec refuse!(String.t(), term) :: no_return
  def refuse!(function, other),
    do:
      raise(
        ArgumentError,
        "#{function} takes a binary, got #{inspect(other)}. Bytes in a list are :binary.list_to_bin/1"
      )
end
