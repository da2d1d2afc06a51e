defmodule Typhon.Apart do
  @moduledoc false
  # What a caller does not wait for runs in a process of its own, and prints and logs there as in the caller's.

  # Logger's level of a process lies in its dictionary, by the name that each version has for it.
  @levels [:logger_level, {Logger, :level}]

  @doc "For spawn. `keys`: what else the process gets of the caller's dictionary. The group leader it has anyway."
  @spec like_caller([term], (() -> term)) :: (() -> term)
  def like_caller(keys, fun) do
    callers = [self() | Process.get(:"$callers", [])]
    entries = for key <- keys ++ @levels, value = Process.get(key), do: {key, value}
    metadata = Map.put_new(Map.new(Logger.metadata()), :pid, self())

    fn ->
      :logger.set_process_metadata(metadata)
      for {key, value} <- [{:"$callers", callers} | entries], do: Process.put(key, value)
      fun.()
    end
  end
end
