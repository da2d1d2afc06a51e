defmodule :telemetry do
  @moduledoc false
  # Stands in for the package :telemetry, of which Typhon uses execute/3 alone. With it in the code path, the tests run the
  # code that applications with the package run.

  @handlers {__MODULE__, :handlers}

  def execute(event, measurements, metadata) do
    for {prefix, pid} <- :persistent_term.get(@handlers, []), List.starts_with?(event, prefix) do
      send(pid, {:telemetry, event, measurements, metadata})
    end

    :ok
  end

  # Not the package's attach/4: the tests need messages.
  def attach_process(prefix, pid),
    do: :persistent_term.put(@handlers, [{prefix, pid} | :persistent_term.get(@handlers, [])])

  def detach_process(pid),
    do:
      :persistent_term.put(
        @handlers,
        Enum.reject(:persistent_term.get(@handlers, []), &(elem(&1, 1) == pid))
      )
end
