defmodule Typhon.Worker.OsProcess do
  @moduledoc false
  # What the system says of a process. Everything is false where it says nothing.

  @doc """
  Whether it has been stopped by a signal: no thread of it runs, so it can neither answer nor say that it cannot. One that a
  debugger holds is not stopped in this sense.
  """
  @spec stopped?(pos_integer | nil) :: boolean
  def stopped?(os_pid), do: state(os_pid) == "T"

  @doc "Whether it has ended, and nobody has collected its exit status."
  @spec zombie?(pos_integer | nil) :: boolean
  def zombie?(os_pid), do: state(os_pid) == "Z"

  defp state(nil), do: nil

  defp state(os_pid) do
    # The name before the state may hold anything.
    with {:ok, stat} <- File.read("/proc/#{os_pid}/stat"),
         [state, _] <- stat |> String.split(") ") |> List.last() |> String.split(" ", parts: 2) do
      state
    else
      _ -> nil
    end
  end
end
