defmodule Typhon.Pool.Reload do
  @moduledoc false
  # Hot reload of Python modules: one worker after the other, each between two of its calls.

  alias Typhon.{Deadline, Pool, PoolError, Telemetry, TimeoutError, Worker}

  @spec module(pid, atom | String.t(), timeout) :: {:ok, [String.t()]} | {:error, Exception.t()}
  def module(pool, name, timeout),
    do: each(pool, {:call, "typhon._life", "reload", [to_string(name)]}, timeout)

  @doc "The modules that were loaded from these files."
  @spec files(pid, [Path.t()], timeout) :: {:ok, [String.t()]} | {:error, Exception.t()}
  def files(pool, paths, timeout), do: each(pool, {:call, "typhon._life", "reload_files", [paths]}, timeout)

  defp each(pool, step, timeout) do
    began = System.monotonic_time()
    deadline = Deadline.from(timeout)

    with {:ok, modules} <- each(Pool.workers(pool), step, deadline, []) do
      Telemetry.pool(:reload, %{duration: System.monotonic_time() - began}, %{pool: pool, modules: modules})
      {:ok, modules}
    end
  catch
    :exit, _ -> {:error, %PoolError{pool: pool, reason: :stopped}}
  end

  defp each([], _step, _deadline, modules), do: {:ok, Enum.uniq(modules)}

  # The first error ends it: the workers that follow would have the same one.
  defp each([worker | rest], step, deadline, modules) do
    with {:ok, reloaded} <- between_calls(worker, step, deadline),
         do: each(rest, step, deadline, modules ++ (reloaded || []))
  end

  defp between_calls(worker, step, deadline) do
    with {:error, %TimeoutError{}} <- Worker.between_calls(worker, step, Deadline.left(deadline)), do: late()
  catch
    :exit, {:timeout, _} -> late()
    # It gave up its place and ended: its successor has imported the module anew.
    :exit, {reason, _} when reason in [:noproc, :normal] or elem(reason, 0) == :shutdown -> {:ok, []}
  end

  defp late, do: {:error, %TimeoutError{operation: :reload}}
end
