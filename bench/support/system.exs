defmodule Bench.System do
  @moduledoc "What Linux says about processes: memory, processor time, children."

  @doc """
  Memory of these OS processes together, in KiB. Pages that several share count once (the kernel's PSS).
  """
  def memory(os_pids) do
    for(os_pid <- os_pids, do: smaps(os_pid, "Pss")) |> Enum.sum()
  end

  @doc "Resident memory of one process in KiB, shared pages included."
  def resident(os_pid), do: smaps(os_pid, "Rss")

  defp smaps(os_pid, name) do
    [_, kib] = Regex.run(~r/^#{name}: +(\d+) kB/m, File.read!("/proc/#{os_pid}/smaps_rollup"))
    String.to_integer(kib)
  end

  @doc """
  Nanoseconds that the threads of these processes have spent on a processor: all of them, or those whose names begin
  with `prefix`.
  """
  def processor_time(os_pids, prefix \\ "") do
    for os_pid <- os_pids,
        task <- File.ls!("/proc/#{os_pid}/task"),
        {:ok, name} <- [File.read("/proc/#{os_pid}/task/#{task}/comm")],
        String.starts_with?(name, prefix),
        {:ok, text} <- [File.read("/proc/#{os_pid}/task/#{task}/schedstat")],
        reduce: 0 do
      sum -> sum + (text |> String.split() |> hd() |> String.to_integer())
    end
  end

  @doc "The OS processes below this BEAM whose command is a Python."
  def python_children do
    parents =
      for name <- File.ls!("/proc"),
          name =~ ~r/^\d+$/,
          {:ok, stat} <- [File.read("/proc/#{name}/stat")],
          into: %{} do
        # The command in parentheses may hold anything; the fields after it are simple.
        [_, ppid | _] = stat |> String.split(")") |> List.last() |> String.split()
        {name, ppid}
      end

    for {os_pid, _} <- parents,
        below?(os_pid, System.pid(), parents),
        python?(os_pid),
        do: String.to_integer(os_pid)
  end

  defp below?(os_pid, ancestor, parents) do
    case parents[os_pid] do
      nil -> false
      ^ancestor -> true
      parent -> below?(parent, ancestor, parents)
    end
  end

  defp python?(os_pid) do
    case File.read_link("/proc/#{os_pid}/exe") do
      {:ok, path} -> Path.basename(path) =~ "python"
      {:error, _} -> false
    end
  end

  @doc "What was measured on."
  def describe(python) do
    cpu =
      case Regex.run(~r/^model name\s*: (.*)$/m, File.read!("/proc/cpuinfo")) do
        [_, model] -> model
        nil -> "unknown"
      end

    {python_version, 0} =
      System.cmd(python, ["-c", "import platform; print(platform.python_version(), end='')"])

    %{
      cpu: cpu,
      cores: System.schedulers_online(),
      otp: System.otp_release(),
      elixir: System.version(),
      python: python_version,
      load: File.read!("/proc/loadavg") |> String.split() |> hd() |> String.to_float()
    }
  end
end
