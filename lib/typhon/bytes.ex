defmodule Typhon.Bytes do
  @moduledoc """
  A binary that Python is to see as `bytes` instead of `str`. Made by `Typhon.bytes/1`.
  """

  @enforce_keys [:data]
  defstruct [:data]

  @type t :: %__MODULE__{data: binary}
end
