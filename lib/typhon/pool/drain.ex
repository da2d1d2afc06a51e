defmodule Typhon.Pool.Drain do
  @moduledoc false
  # Before a pool is stopped: no new calls, and those that there are finish. Runs in the process that asks for it.

  alias Typhon.{Deadline, Native, Pool, Registry, Telemetry, TimeoutError}

  @pause_max 20

  @spec drain(pid, Native.pool(), timeout) :: :ok | {:error, Exception.t()}
  def drain(pool, native, timeout) do
    began = System.monotonic_time()
    Registry.drain(pool)
    deadline = Deadline.from(timeout)

    {answer, left} =
      case wait(pool, native, deadline, 1) do
        0 -> {:ok, 0}
        left -> {{:error, %TimeoutError{timeout: timeout, operation: :drain, left: left}}, left}
      end

    Telemetry.pool(:drain, %{duration: System.monotonic_time() - began, left: left}, %{pool: pool})
    answer
  catch
    :exit, _ -> {:error, %Typhon.PoolError{pool: pool, reason: :stopped}}
  end

  defp wait(pool, native, deadline, pause) do
    case left(pool, native) do
      0 ->
        0

      left ->
        case Deadline.left(deadline) do
          0 ->
            left

          # :infinity is more than any number.
          time ->
            Process.sleep(min(pause, time))
            wait(pool, native, deadline, min(2 * pause, @pause_max))
        end
    end
  end

  # Running or waiting in a worker, casts among them; waiting for one; and who has a worker for himself.
  defp left(pool, native) do
    case Pool.info(pool) do
      {:ok, %{workers: []}} ->
        0

      {:ok, %{workers: workers, reserved: reserved}} ->
        busy = workers |> Enum.map(&if(&1.busy, do: max(&1.in_flight, 1), else: 0)) |> Enum.sum()
        Native.pool_info(native).waiting + max(reserved, busy)

      {:error, _} ->
        exit(:noproc)
    end
  end
end
