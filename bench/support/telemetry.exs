defmodule Bench.Telemetry do
  @moduledoc "A stand-in for the package :telemetry, with what its execute/3 costs where nobody has attached a handler."

  @table {__MODULE__, :table}

  @doc "From here on pools find it, when they start."
  def load do
    :persistent_term.put(
      @table,
      :ets.new(__MODULE__, [:duplicate_bag, :public, {:keypos, 1}, {:read_concurrency, true}])
    )

    # Not in the code path of who runs the benchmarks: elsewhere the package itself may be there.
    unless Code.ensure_loaded?(:telemetry) do
      Module.create(:telemetry, definition(), Macro.Env.location(__ENV__))
    end

    Typhon.Telemetry.detect()
  end

  @doc "Pools that are started from here on do without."
  def unload do
    :code.purge(:telemetry)
    :code.delete(:telemetry)
    Typhon.Telemetry.detect()
  end

  defp definition do
    quote do
      def execute(event, measurements, metadata) when is_map(measurements) and is_map(metadata) do
        for {_event, handler} <- :ets.lookup(:persistent_term.get(unquote(Macro.escape(@table))), event),
            do: handler.(event, measurements, metadata)

        :ok
      end
    end
  end
end
