defmodule Pythonx.Names do
  @moduledoc false
  # Which names of code the ~PY sigil binds: priv/python/pythonx/_names.py finds them.

  @doc "Those that the code uses before it defines them, and those that it defines."
  @spec scan(String.t()) :: {[String.t()], [String.t()]}
  def scan(code), do: Pythonx.Python.call!("scan", [code])
end
