defmodule Typhon.Apart do
  @moduledoc false
  # What a caller does not wait for runs in a process of its own, and prints and logs there as in the caller's.

  # What Logger keeps in the dictionary: its metadata, and its level, by the name that each version has for it.
  @logger [:"$logger_metadata$", :logger_level, {Logger, :level}]

  @doc "For spawn. `keys`: what else the process gets of the caller's dictionary. The group leader it has anyway."
  @spec like_caller([term], (() -> term)) :: (() -> term)
  def like_caller(keys, fun) do
    callers = [self() | Process.get(:"$callers", [])]
    entries = for key <- keys ++ @logger, value = Process.get(key), do: {key, value}

    fn ->
      for {key, value} <- [{:"$callers", callers} | entries], do: Process.put(key, value)
      fun.()
    end
  end
end
