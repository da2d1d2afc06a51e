defmodule Typhon.Test.VerificationError do
  @moduledoc """
  The calls that were made are not those that a test demanded (`Typhon.Test.verify!/0`, `Typhon.Test.assert_called/5`).
  """

  defexception [:message]

  @type t :: %__MODULE__{message: String.t()}
end
