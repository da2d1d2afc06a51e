defmodule Typhon.Worker.Cgroup do
  @moduledoc false
  # A control group (cgroup v2) for one worker, where somebody has delegated one to this BEAM: then the kernel counts what the
  # worker and all that it starts really use. Most machines delegate none; then the limit of the address space stands alone,
  # and nothing here fails.

  @root "/sys/fs/cgroup"

  @doc """
  Puts a process into a new group with that much memory. nil where that is not possible.

  The group is made beside or below the one this BEAM is in, whichever may have groups with a memory limit: a group that
  has processes of its own may not.
  """
  @spec enter(pos_integer | nil, pos_integer | nil, Path.t()) :: Path.t() | nil
  def enter(os_pid, bytes, root \\ @root)
  def enter(nil, _bytes, _root), do: nil
  def enter(_os_pid, nil, _root), do: nil

  def enter(os_pid, bytes, root) do
    with own when own != nil <- own(root),
         parent when parent != nil <- Enum.find([own, Path.dirname(own)], &delegated?(&1, root)),
         group = Path.join(parent, "typhon-#{os_pid}"),
         :ok <- make(group) do
      with :ok <- File.write(Path.join(group, "memory.max"), "#{bytes}"),
           # Else the kernel would swap for ever where it should say no. Not every kernel has it.
           _ <- File.write(Path.join(group, "memory.swap.max"), "0"),
           :ok <- File.write(Path.join(group, "cgroup.procs"), "#{os_pid}") do
        group
      else
        _ ->
          leave(group)
          nil
      end
    else
      _ -> nil
    end
  end

  @doc "Whether the kernel has killed a process of the group for its memory."
  @spec killed?(Path.t() | nil) :: boolean
  def killed?(nil), do: false

  def killed?(group) do
    case File.read(Path.join(group, "memory.events")) do
      {:ok, events} -> Regex.match?(~r/^oom_kill [1-9]/m, events)
      _ -> false
    end
  end

  @doc "Removes the group of a process that has ended."
  @spec leave(Path.t() | nil) :: :ok
  def leave(nil), do: :ok

  def leave(group) do
    File.rmdir(group)
    :ok
  end

  defp own(root) do
    with {:ok, groups} <- File.read("/proc/self/cgroup"),
         [_, path] <- Regex.run(~r/^0::(.*)$/m, groups),
         group = Path.join(root, path),
         true <- File.dir?(group) do
      group
    else
      _ -> nil
    end
  end

  defp delegated?(group, root) do
    with true <- String.starts_with?(group, root),
         {:ok, controllers} <- File.read(Path.join(group, "cgroup.subtree_control")) do
      "memory" in String.split(controllers)
    else
      _ -> false
    end
  end

  defp make(group) do
    with {:error, :eexist} <- File.mkdir(group), do: :ok
  end
end
