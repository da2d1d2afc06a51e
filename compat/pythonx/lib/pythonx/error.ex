defmodule Pythonx.Error do
  @moduledoc """
  Python raised an exception.

    * `lines` – the traceback as Python formats it, a list of strings
    * `type`, `value`, `traceback` – the objects: the exception's class, the exception, and its traceback or `None`
  """

  alias Pythonx.Object

  defexception [:lines, :type, :value, :traceback]

  @type t :: %__MODULE__{lines: [String.t()], type: Object.t(), value: Object.t(), traceback: Object.t()}

  @impl true
  def message(%{lines: lines}) do
    text = lines |> IO.iodata_to_binary() |> String.trim_trailing("\n") |> String.replace("\n", "\n        ")
    "Python exception raised\n\n        " <> text <> "\n"
  end
end
