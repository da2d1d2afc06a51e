defmodule Typhon.Footprint do
  @moduledoc false
  # What this BEAM and the processes it started hold, counted: take one before and one after, and compare.
  #
  # Processes are found by a variable in their environment, which children inherit: also those that have left their process
  # group, or whose parent is gone.

  defstruct [
    :os_processes,
    :fds,
    :memfds,
    :maps,
    :readers,
    :atoms,
    :processes,
    :ports,
    :messages,
    :beam_memory,
    # what runs and what is open, to name what is more than before
    running: [],
    open: []
  ]

  @type t :: %__MODULE__{}

  @variable "TYPHON_FOOTPRINT"

  @doc "What a pool's `env:` needs so that its processes are counted."
  def env(marker), do: [{@variable, marker}]

  @doc "A marker of its own."
  def marker, do: Typhon.TestHelper.unique()

  @spec take(String.t()) :: t
  def take(marker) do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    look_at_descriptors()
    open = open()

    %__MODULE__{
      os_processes: length(os_processes(marker)),
      fds: length(open),
      memfds: Typhon.TestHelper.memfds(),
      maps: maps("self"),
      readers: readers(),
      atoms: :erlang.system_info(:atom_count),
      processes: processes(),
      running: Process.list(),
      open: open,
      ports: length(Port.list()),
      messages: messages(),
      beam_memory: resident("self")
    }
  end

  @doc """
  What has grown by more than `slack` allows: `[{what, before, after}]`, of processes and descriptors with those that are new. Without a slack
  nothing may grow, except memory and atoms, which are compared only when a slack is given.
  """
  @spec grown(t, t, keyword) :: [tuple]
  def grown(before, now, slack \\ []) do
    for {name, was} <- before |> Map.from_struct() |> Map.drop([:running, :open]),
        name not in [:beam_memory, :atoms] or slack[name] != nil,
        is = Map.fetch!(now, name),
        is > was + Keyword.get(slack, name, 0) do
      case name do
        :processes -> {name, was, is, described(now.running -- before.running)}
        :fds -> {name, was, is, now.open -- before.open}
        _ -> {name, was, is}
      end
    end
  end

  # A descriptor that the emulator watched is closed when it looks at its descriptors next, as it does for a port. In a process of
  # its own: a port that ends leaves a message to a caller that traps exits, and messages are counted.
  defp look_at_descriptors do
    {pid, monitor} = spawn_monitor(fn -> {_, 0} = System.cmd("true", []) end)
    receive do: ({:DOWN, ^monitor, :process, ^pid, :normal} -> :ok)
  end

  # Of each kind of descriptor, how many there are: pipe, anon_inode, /memfd:… without what tells one from another.
  defp open do
    for fd <- File.ls!("/proc/self/fd"),
        {:ok, target} <- [File.read_link("/proc/self/fd/#{fd}")],
        do: String.replace(target, ~r/\d+/, "")
  end

  # What a worker has of its own from when it first needs it, one of each, is there or not by chance; a second one is too many.
  @helpers [{Typhon.Worker.OutsideCalls, :refuse, 2}, {Typhon.Worker.LogWriter, :loop, 1}]

  defp processes do
    all = for pid <- Process.list(), do: Process.info(pid, [:dictionary, :current_function]) || []
    workers = Enum.count(all, &(&1[:dictionary][:"$initial_call"] == {Typhon.Worker.Machine, :init, 1}))
    helpers = for helper <- @helpers, do: Enum.count(all, &(&1[:current_function] == helper))
    length(all) - Enum.sum(for count <- helpers, do: min(count, workers))
  end

  defp described(pids) do
    for pid <- pids do
      info = Process.info(pid, [:dictionary, :current_stacktrace]) || []
      {pid, info[:dictionary][:"$initial_call"], Enum.take(info[:current_stacktrace] || [], 3)}
    end
  end

  @doc "Processes of the operating system that carry the marker, as strings. A zombie carries nothing."
  @spec os_processes(String.t()) :: [String.t()]
  def os_processes(marker) do
    for name <- File.ls!("/proc"),
        name =~ ~r/^\d+$/,
        {:ok, environ} <- [File.read("/proc/#{name}/environ")],
        String.contains?(environ, "#{@variable}=#{marker}\0"),
        do: name
  end

  @doc "How many channels' memories a process has mapped: by their inodes, as neighbouring mappings may be one."
  def maps(os_pid) do
    case File.read("/proc/#{os_pid}/maps") do
      {:ok, text} -> ~r"(\d+) +/memfd:typhon" |> Regex.scan(text) |> Enum.uniq_by(&List.last/1) |> length()
      _ -> 0
    end
  end

  @doc "How many threads of this BEAM read the replies of a channel."
  @spec readers :: non_neg_integer
  def readers do
    "/proc/self/task/*/comm"
    |> Path.wildcard()
    |> Enum.count(&(File.read(&1) == {:ok, "typhon_reader\n"}))
  end

  @doc "Resident memory of a process in bytes, without the pages it shares with others."
  def resident(os_pid) do
    with {:ok, text} <- File.read("/proc/#{os_pid}/status"),
         [_, kib] <- Regex.run(~r/^RssAnon:\s+(\d+) kB/m, text) do
      String.to_integer(kib) * 1024
    else
      _ -> 0
    end
  end

  defp messages do
    for pid <- Process.list(),
        {:message_queue_len, length} <- [Process.info(pid, :message_queue_len)],
        reduce: 0 do
      sum -> sum + length
    end
  end
end
