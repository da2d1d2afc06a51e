defmodule Typhon.EncodeError do
  @moduledoc """
  A value cannot cross the border: an argument that Python cannot be given, or a result that Elixir cannot be given.

  The common case is a binary argument that is not UTF-8 and so cannot be a Python `str`: `Typhon.bytes/1` sends it as `bytes`.

  * `path` – where it is: `args[0]["user"]`, `kwargs["weights"][1]`, `result["rows"][3]`
  * `type` – what it is: a struct's module, or the name of a Python class
  * `reason` – why it cannot cross, and what to do about it
  """

  defexception [:path, :type, :reason]

  @type t :: %__MODULE__{
          path: String.t(),
          type: module | String.t() | nil,
          reason: String.t()
        }

  @impl true
  def message(%{path: path, reason: reason}) when path in [nil, ""], do: reason
  def message(%{path: path, reason: reason}), do: "#{path} cannot cross: #{reason}"
end
