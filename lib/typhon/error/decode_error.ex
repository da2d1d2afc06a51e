defmodule Typhon.DecodeError do
  @moduledoc """
  A result arrived that Elixir cannot build: an atom that does not exist in this VM, what does not fit the struct that `as:` names
  (`Typhon.Structs`), or bytes that break the protocol.

  * `path` – where it is: `result["rows"][3]`, in a struct `result[3].address`
  * `reason` – what was wrong and what to do about it
  """

  defexception [:path, :reason]

  @type t :: %__MODULE__{path: String.t() | nil, reason: String.t()}

  @impl true
  def message(%{path: path, reason: reason}) when path in [nil, ""], do: reason
  def message(%{path: path, reason: reason}), do: "#{path} cannot be decoded: #{reason}"
end
