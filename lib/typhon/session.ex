defmodule Typhon.Session do
  @moduledoc false
  def with_entry(native, entry, fun) do
    before = Process.get(:"$typhon_session")
    Process.put(:"$typhon_session", Map.put(before || %{}, native, entry))
    try do fun.() after
      if before, do: Process.put(:"$typhon_session", before), else: Process.delete(:"$typhon_session")
    end
  end
  def aim(native, bits) do
    case Process.get(:"$typhon_session") do
      %{^native => {where, parent}} -> {bits, where, parent}
      _ -> bits
    end
  end
end
