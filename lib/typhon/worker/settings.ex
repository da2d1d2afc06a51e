defmodule Typhon.Worker.Settings do
  @moduledoc false
  # What the two ends of a worker's channel are told of its pool's options.

  alias Typhon.Native

  @doc "For the BEAM's end."
  @spec channel(map) :: map
  def channel(config) do
    {spin, worker_spin} = spin(config.spin)

    %{
      ring_size: config.ring_size,
      spin_us: spin,
      worker_spin_us: worker_spin,
      atoms: config.atoms,
      keys: config.keys,
      values: config.values,
      atom_room: Native.atom_room(),
      results: config.results,
      max_result: config.max_result,
      max_held: if(config.max_held == :auto, do: 0, else: config.max_held),
      pool: config.pool,
      embedded: config.host.in_vm?(),
      allow: config.allow,
      send_to: config.send_to,
      # Elixir before 1.15 keeps a version in its sets.
      mapset_version: Map.has_key?(MapSet.new(), :version),
      # Elixir before 1.17 has no Duration.
      duration: Code.ensure_loaded?(Duration),
      tagged: config.tagged
    }
  end

  # Whoever spins on the only core keeps the other side from running.
  defp spin(:auto) do
    case System.schedulers_online() do
      1 -> {0, 0}
      _ -> {20, 20}
    end
  end

  defp spin(microseconds), do: {microseconds, microseconds}

  @doc "What the native worker has to know before it takes the first call."
  @spec worker(map) :: [{atom, integer}]
  def worker(config) do
    [
      concurrency: config.concurrency,
      log_level: Keyword.fetch!(Typhon.Options.log_levels(), config.log_level),
      capture: if(config.stdio == :caller, do: 1, else: 0),
      restricted: if(config.allow == :all, do: 0, else: 1),
      surrogates: surrogates(config.surrogates)
    ] ++ Enum.map(config.limits, &limit/1)
  end

  # The numbers of python::Surrogates (native/python/codec.h).
  defp surrogates(:error), do: 0
  defp surrogates(:bytes), do: 1
  defp surrogates(:replace), do: 2

  defp limit({:memory, bytes}), do: {:limit_memory, bytes}
  defp limit({:cpu_time, seconds}), do: {:limit_cpu, seconds}
  defp limit({:open_files, count}), do: {:limit_files, count}
  defp limit({:nice, nice}), do: {:nice, nice}
end
