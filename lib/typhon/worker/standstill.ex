defmodule Typhon.Worker.Standstill do
  @moduledoc false
  # Whether a process has been stopped by a signal: no thread of it runs, so it can neither answer nor say that it cannot.

  @doc "False also where the system does not say. One that a debugger holds is not stopped in this sense."
  @spec stopped?(pos_integer | nil) :: boolean
  def stopped?(nil), do: false

  def stopped?(os_pid) do
    # The name before the state may hold anything.
    with {:ok, stat} <- File.read("/proc/#{os_pid}/stat"),
         ["T", _] <- stat |> String.split(") ") |> List.last() |> String.split(" ", parts: 2) do
      true
    else
      _ -> false
    end
  end
end
