defmodule Typhon.Health do
  @moduledoc false
  # How a pool fares, for a readiness probe or a dashboard.

  alias Typhon.{Pool, PoolError, Registry}
  alias Typhon.Pool.Keeper

  @serving [:ready, :reloading]
  @without_python %{
    status: :ok,
    ready: 0,
    size: 0,
    min: 0,
    max: 0,
    in_flight: 0,
    reserved: 0,
    draining: false,
    uptime: 0,
    memory: 0,
    restarts: 0,
    recent_restarts: 0,
    max_restarts: :infinity,
    max_seconds: 60,
    last_error: nil
  }

  @spec check(term) :: {:ok, map} | {:error, PoolError.t()}
  def check(key) do
    case Registry.find(key) do
      {pool, _native, _flags} -> figures(pool)
      {:error, %PoolError{reason: {:down, _}} = error} -> {:ok, %{status: :down, last_error: error}}
      error -> error
    end
  end

  defp figures(pool) do
    with {:ok, info} <- Pool.info(pool),
         {:ok, keeper} <- Pool.keeper(pool) do
      figures = Keeper.figures(keeper)
      holders = Enum.filter(info.workers, &(&1.role == :holder and &1.state != :retiring))
      ready = Enum.count(holders, &(&1.state in @serving))

      {:ok,
       %{
         status: status(ready, length(holders), info),
         ready: ready,
         size: info.size,
         min: info.min,
         max: info.max,
         in_flight: info.in_flight,
         reserved: info.reserved,
         draining: info.draining,
         uptime: info.uptime,
         memory: info.workers |> Enum.map(&(&1.memory || 0)) |> Enum.sum(),
         restarts: info.restarts,
         recent_restarts: figures.recent_restarts,
         max_restarts: figures.max_restarts,
         max_seconds: figures.max_seconds,
         last_error: figures.last_error
       }}
    else
      # A pool of a test, which has no Python: stubs are always well.
      :none -> {:ok, @without_python}
      error -> error
    end
  catch
    :exit, _ -> {:error, %PoolError{pool: pool, reason: :stopped}}
  end

  defp status(0, _size, _info), do: :down
  defp status(_ready, _size, %{draining: true}), do: :degraded
  defp status(ready, size, %{min: min}) when ready < size or ready < min, do: :degraded
  defp status(_ready, _size, _info), do: :ok
end
