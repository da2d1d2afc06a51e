defmodule Typhon.Worker.Memory do
  @moduledoc false
  # What a worker's process holds in memory, as the operating system counts it.

  @doc """
  Bytes, without what is shared with the BEAM (the channel's rings and large arguments); nil when the system does not say.
  """
  @spec resident(pos_integer | nil) :: non_neg_integer | nil
  def resident(nil), do: nil

  def resident(os_pid) do
    with {:ok, status} <- File.read("/proc/#{os_pid}/status"),
         resident when resident != nil <- kib(status, "VmRSS:") do
      1024 * max(resident - (kib(status, "RssShmem:") || 0), 0)
    else
      _ -> nil
    end
  end

  defp kib(status, name) do
    with [_, rest] <- :binary.split(status, name),
         {kib, _} <- rest |> String.trim_leading() |> Integer.parse() do
      kib
    else
      _ -> nil
    end
  end
end
