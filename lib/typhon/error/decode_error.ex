defmodule Typhon.DecodeError do
  @moduledoc """
  A value arrived and could not be built: an argument in Python, or a result in Elixir.

  The common case is a binary argument that is not UTF-8 and so cannot be a Python `str`: `Typhon.bytes/1` sends it as `bytes`.

  * `path` – where it is: `args[0]["user"]`
  * `reason` – what was wrong and what to do about it
  """

  defexception [:path, :reason]

  @type t :: %__MODULE__{path: String.t() | nil, reason: String.t()}

  @impl true
  def message(%{path: path, reason: reason}) when path in [nil, ""], do: reason
  def message(%{path: path, reason: reason}), do: "#{path} cannot be decoded: #{reason}"
end
