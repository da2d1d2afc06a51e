defmodule Typhon.Worker.Host.OsProcess do
  @moduledoc false
  # A process of the operating system.
  #
  # The Port carries life and death: stdin is the control pipe and its end tells the process to go, and the exit status says how it
  # went. That comes as soon as nobody holds its stdout any more, and a child that user code started may. So the end of the
  # process itself is watched, too, where the system allows it. Such children go with the worker; one that left its process group
  # is not waited for.
  #
  # Instances of ErlPort have launch/5, attach/2, adopt/2 and close/1 of this.

  @behaviour Typhon.Worker.Host

  alias Typhon.{Language, Native, Variables}
  alias Typhon.Worker.{Cgroup, Host, Proc, Settings, StartFailure}

  @sigkill 9
  # How long an exit status may lag behind the end of its process before something else must be holding the process' stdout,
  # and how long when that has been killed and the status has been collected.
  @status_grace 20
  @status_last 500

  @enforce_keys [:channel, :port]
  defstruct [
    :channel,
    :port,
    :os_pid,
    # tells of the end of the process, also when its Port does not
    :watch,
    :cgroup,
    # what the launcher said when there was no program to become
    :refused,
    # whether processor time is limited
    cpu_time?: false,
    # whether it has greeted as itself
    adopted?: false,
    ended?: false
  ]

  @type t :: %__MODULE__{}

  @impl true
  def prepare(config) do
    case Proc.shares_memory() do
      :ok -> {:ok, config}
      {:error, message} -> {:error, Language.start_error(config.language, :no_proc, config.program, message)}
    end
  end

  @impl true
  def in_vm?, do: false

  @impl true
  def open(config, %{channel: channel, region: region, fd: fd}) do
    command = [config.program | Language.args(config, region, Settings.worker(config))]
    options = [:binary, :exit_status, :hide, {:cd, config.cd}, {:env, Variables.for_port(config.env)}]

    with {:ok, port} <- try_launch(config, region, fd, command, options) do
      host = attach(port, channel)
      cgroup = Cgroup.enter(host.os_pid, config.limits[:memory])
      {:ok, %{host | cgroup: cgroup, cpu_time?: is_map_key(config.limits, :cpu_time)}}
    end
  end

  defp try_launch(config, region, fd, command, options) do
    {:ok, launch(region, fd, "1,2", command, options)}
  rescue
    error in ErlangError -> {:error, StartFailure.refused(config, :file.format_error(error.original))}
    ArgumentError -> {:error, StartFailure.refused(config, :file.format_error(:badarg))}
  end

  @doc """
  A Port whose process becomes the program when the pipe for its output is in the place of these descriptors (native/launch).
  """
  @spec launch(Language.region(), integer, String.t() | charlist, [String.t() | charlist], list) :: port
  def launch(%{os_pid: beam}, fd, descriptors, command, options) do
    args = ["#{beam}", "#{fd}", descriptors | command]
    Port.open({:spawn_executable, Native.priv_path("typhon_launch")}, [{:args, args} | options])
  end

  @doc "The process of a Port that was launched."
  @spec attach(port, Native.channel()) :: t
  def attach(port, channel) do
    case Port.info(port, :os_pid) do
      {:os_pid, os_pid} -> %__MODULE__{channel: channel, port: port, os_pid: os_pid, watch: watch(os_pid)}
      # It has ended already.
      nil -> %__MODULE__{channel: channel, port: port}
    end
  end

  # Not everywhere (Linux before 5.3, other systems): then the Port alone tells.
  defp watch(os_pid) do
    case Native.process_watch(os_pid) do
      {:ok, watch} -> watch
      {:error, _} -> nil
    end
  end

  # Its word for who it is counts when that is a process of ours: the Port's, or a descendant, as `python:` may be a script that
  # starts one and waits.
  @impl true
  def adopt(%{os_pid: nil}, _greeting), do: {:error, :no_process}

  def adopt(host, greeting) do
    with :ok <- Native.adopt(host.channel, host.os_pid, greeting["os_pid"]),
         do: {:ok, %{host | adopted?: true}}
  end

  # Only the launcher has the Port's stdout.
  @impl true
  def event(%{port: port} = host, {port, {:data, text}}) when is_port(port),
    do: {:ok, %{host | refused: String.trim(text)}}

  def event(%{port: port} = host, {port, {:exit_status, status}}) when is_port(port), do: ended(host, status)
  def event(%{port: port} = host, {:EXIT, port, _reason}) when is_port(port), do: ended(host, nil)

  def event(%{watch: watch} = host, {:select, watch, _, _}) when is_reference(watch),
    do: look_again(host, :kill_group, @status_grace)

  def event(%{watch: watch} = host, {watch, :kill_group}) when is_reference(watch) do
    Native.kill_pid(-host.os_pid, @sigkill)
    look_again(host, :collect, @status_grace)
  end

  # Erlang's helper process has not had its turn yet: the status is on its way.
  def event(%{watch: watch} = host, {watch, :collect}) when is_reference(watch) do
    if Proc.zombie?(host.os_pid),
      do: look_again(host, :collect, @status_grace),
      else: look_again(host, :give_up, @status_last)
  end

  def event(%{watch: watch} = host, {watch, :give_up}) when is_reference(watch), do: ended(host, nil)
  def event(_host, _message), do: :unknown

  defp look_again(host, what, time) do
    Process.send_after(self(), {host.watch, what}, time)
    {:ok, host}
  end

  defp ended(host, status) do
    # What it started goes with it.
    if host.os_pid, do: Native.kill_pid(-host.os_pid, @sigkill)
    exit = Host.exit_of(status)
    {:ended, %{host | ended?: true}, %{exit | reason: reason(exit, host), refused: host.refused}}
  end

  defp reason(%{signal: "SIGXCPU"}, %{cpu_time?: true}), do: {:limit, :cpu_time}

  defp reason(%{signal: "SIGKILL"}, host),
    do: if(Cgroup.killed?(host.cgroup), do: {:limit, :memory}, else: :signal)

  defp reason(exit, _host), do: exit.reason

  # The pipe holds 64 KiB and a command a dozen bytes; a worker that reads none of it is not to be waited for.
  @impl true
  def interrupt(host, id) do
    Port.command(host.port, Host.cancel(id), [:nosuspend])
  rescue
    ArgumentError -> false
  end

  # By the channel's process descriptor once there is one: a bare pid may be given to another process.
  @impl true
  def kill(host) do
    with {:error, _} <- Native.kill(host.channel, @sigkill), do: Native.kill_pid(host.os_pid, @sigkill)
    :ok
  end

  @impl true
  def abort(host) do
    # What init: has started does not go by itself.
    if host.adopted?, do: Native.kill(host.channel, @sigkill)

    # Of one that never greeted its pid is all there is to know it by; it is a child that has not been waited for, or gone.
    if host.os_pid && not host.ended?, do: Native.kill_pid(host.os_pid, @sigkill)
    :ends
  end

  @impl true
  def close(host) do
    if host.watch, do: Native.descriptor_close(host.watch)
    close_port(host.port)
    Cgroup.leave(host.cgroup)
    if host.os_pid, do: %{host | port: nil, watch: nil}
  end

  defp close_port(port) do
    Port.close(port)
  rescue
    ArgumentError -> true
  end

  # Erlang's own helper process collects its status, so there is no zombie. What it started goes with it.
  @impl true
  def see_off(host, grace) do
    with :there <- await_end(host.os_pid, grace) do
      if host.adopted?,
        do: Native.kill(host.channel, @sigkill),
        else: Native.kill_pid(host.os_pid, @sigkill)

      await_end(host.os_pid, grace)
    end

    Native.kill_pid(-host.os_pid, @sigkill)
    Cgroup.leave(host.cgroup)
  end

  defp await_end(os_pid, left, pause \\ 1) do
    cond do
      Native.kill_pid(os_pid, 0) != :ok ->
        :gone

      left > 0 ->
        Process.sleep(pause)
        await_end(os_pid, left - pause, min(pause * 2, 20))

      true ->
        :there
    end
  end

  @impl true
  def os_pid(host), do: host.os_pid

  @impl true
  def memory(host), do: Proc.resident(host.os_pid)

  @impl true
  def stopped?(host), do: Proc.stopped?(host.os_pid)
end
