defmodule Typhon.Buffer do
  @moduledoc """
  A binary that Python is to see as a read-only `memoryview`, without a copy on its side. Made by `Typhon.buffer/1`.
  """

  @enforce_keys [:data]
  defstruct [:data]

  @type t :: %__MODULE__{data: binary}
end
