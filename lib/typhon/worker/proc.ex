defmodule Typhon.Worker.Proc do
  @moduledoc false
  # What the system says of a process. Everything is false, or nil, where it says nothing.

  @doc """
  Whether it has been stopped by a signal: no thread of it runs, so it can neither answer nor say that it cannot. One that a
  debugger holds is not stopped in this sense.
  """
  @spec stopped?(pos_integer | nil) :: boolean
  def stopped?(os_pid), do: state(os_pid) == "T"

  @doc "Whether it has ended, and nobody has collected its exit status."
  @spec zombie?(pos_integer | nil) :: boolean
  def zombie?(os_pid), do: state(os_pid) == "Z"

  @doc "Whether workers can open what this process shares with them, which they do through /proc."
  @spec shares_memory(String.t()) :: :ok | {:error, String.t()}
  def shares_memory(proc \\ "/proc") do
    descriptors = Path.join([proc, System.pid(), "fd"])

    if File.dir?(descriptors),
      do: :ok,
      else:
        {:error,
         "a worker opens the memory that it shares with the BEAM through #{descriptors}, which is not there. " <>
           if(File.dir?(Path.join(proc, "1")),
             do:
               "#{proc} belongs to other processes than this VM's: mount it again in here (mount -t proc proc #{proc})",
             else: "Mount it: mount -t proc proc #{proc}. A chroot or a container needs it, too"
           )}
  end

  @doc """
  What it holds in memory: bytes, without what is shared with the BEAM (the channel's rings and large arguments); nil when the
  system does not say.
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

  defp kib(status, name) do
    with [_, rest] <- :binary.split(status, name),
         {kib, _} <- rest |> String.trim_leading() |> Integer.parse() do
      kib
    else
      _ -> nil
    end
  end
end
