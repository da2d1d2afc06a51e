defmodule Mix.Typhon do
  @moduledoc false
  # What the tasks that write sources have in common.

  @doc "The name of an Elixir module, as it was given. `hint` says how to give one."
  @spec module!(String.t(), String.t()) :: String.t()
  def module!(name, hint) do
    if name =~ ~r/\A[A-Z]\w*(\.[A-Z]\w*)*\z/,
      do: name,
      else: Mix.raise("#{inspect(name)} is no name of an Elixir module: #{hint}")
  end
end
