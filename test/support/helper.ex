defmodule Typhon.TestHelper do
  @moduledoc false

  import ExUnit.Assertions
  import ExUnit.Callbacks

  # No test waits for longer, and none says how long: a bound only ends a test that has failed, and a machine may be busy.
  @limit 120_000

  # As long as a busy machine may take to interrupt Python. Tests of Python that is killed have a short one of their own.
  @grace 30_000

  @doc "The bound of whatever a test waits for."
  def limit, do: @limit

  @doc "The Python modules of the tests."
  def py_dir, do: Path.expand("py", __DIR__)

  @doc "A library of a file in C, compiled when it is first used."
  def c_library(source, flags \\ []) do
    hash = :erlang.phash2({File.read!(source), flags})
    path = Path.join(Mix.Project.build_path(), "typhon-#{Path.basename(source, ".c")}-#{hash}.so")

    unless File.exists?(path) do
      made = "#{path}.#{System.pid()}-#{System.unique_integer([:positive])}"
      always = ~w(-std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC)

      {output, status} =
        System.cmd(System.get_env("CC", "cc"), always ++ ["-o", made, source | flags], stderr_to_stdout: true)

      if status != 0, do: raise("#{source} cannot be compiled:\n" <> output)
      File.rename!(made, path)
    end

    path
  end

  @doc "A pool with one worker that finds the test modules, keeps quiet and is patient, unless the options say otherwise."
  def start_pool(options \\ []) do
    defaults = [workers: 1, python_path: [py_dir()], stdio: :discard, grace: @grace, start_timeout: @limit]
    options = Keyword.merge(defaults, options)

    start_supervised!(%{
      id: make_ref(),
      start: {Typhon, :start_link, [options]},
      type: :supervisor,
      restart: :temporary
    })
  end

  @doc "Interpreters of this machine: {path, version}."
  def pythons do
    candidates =
      Path.wildcard(Path.expand("~/.pyenv/versions/*/bin/python")) ++
        for name <- ["python3" | Enum.map(7..20, &"python3.#{&1}")],
            path = System.find_executable(name),
            path != nil,
            do: path

    candidates
    |> Enum.flat_map(fn path ->
      code = "import sys; print('%d.%d.%d' % tuple(sys.version_info[:3]))"

      case System.cmd(path, ["-c", code], stderr_to_stdout: true) do
        {version, 0} -> [{path, Version.parse!(String.trim(version))}]
        _ -> []
      end
    end)
    |> Enum.uniq_by(&elem(&1, 1))
    |> Enum.sort_by(&elem(&1, 1), Version)
  end

  @doc "Those in which the pools of this test run can live."
  def supported_pythons do
    oldest = if Application.get_env(:typhon, :engine) == :subinterpreters, do: ">= 3.12.0", else: ">= 3.11.0"
    Enum.filter(pythons(), &Version.match?(elem(&1, 1), oldest))
  end

  def old_pythons, do: Enum.reject(pythons(), &Version.match?(elem(&1, 1), ">= 3.11.0"))

  @doc "A Python without a GIL, {path, version} as scripts/pythons has them; nil where there is none."
  def free_threaded_python do
    {text, 0} = System.cmd(Path.expand("scripts/pythons"), [])

    with [_, version, path] <- Regex.run(~r/^(\S+t) (.+)$/m, text), do: {path, version}
  end

  @doc "What Typhon.Env.capacity/0 says of the interpreters that pools inside the VM have unless they say otherwise."
  def interpreters do
    kind =
      if Application.get_env(:typhon, :engine) == :subinterpreters, do: :subinterpreters, else: :namespaces

    Typhon.Env.capacity()[kind]
  end

  @doc "The only worker of a pool."
  def worker(py) do
    {:ok, %{workers: [worker]}} = Typhon.info(py)
    worker
  end

  @doc "How many calls the workers of a pool have, running or waiting."
  def in_flight(py), do: py |> channels() |> Enum.map(&Typhon.Native.channel_info(&1).in_flight) |> Enum.sum()

  @doc "How many callers look for their answers turn by turn at this moment."
  def polling(py), do: py |> channels() |> Enum.map(&Typhon.Native.channel_info(&1).polling) |> Enum.sum()

  @doc "How many workers of a pool run a call at this moment."
  def running(py), do: py |> channels() |> Enum.count(&(Typhon.Native.channel_info(&1).running > 0))

  defp channels(py) do
    {:ok, %{workers: workers}} = Typhon.info(py)

    for %{pid: pid} <- workers,
        {_state, %{channel: channel}} <- [:sys.get_state(pid)],
        channel != nil,
        do: channel
  end

  def os_pids(py) do
    {:ok, %{workers: workers}} = Typhon.info(py)
    Enum.map(workers, & &1.os_pid)
  end

  @doc "Whether a process of the operating system exists; a zombie does."
  def os_process?(os_pid), do: File.exists?("/proc/#{os_pid}")

  def zombie?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, stat} -> stat |> String.split(") ") |> List.last() |> String.starts_with?("Z")
      _ -> false
    end
  end

  def os_process_runs?(os_pid), do: os_process?(os_pid) and not zombie?(os_pid)

  @doc "A process of the system's that has nothing to do with any worker."
  def bystander do
    port = Port.open({:spawn_executable, System.find_executable("sleep")}, args: ["600"])
    {:os_pid, os_pid} = Port.info(port, :os_pid)
    on_exit(fn -> System.cmd("kill", ["-9", "#{os_pid}"], stderr_to_stdout: true) end)
    os_pid
  end

  @doc "The path of a shell script that stands for a Python."
  def python_script(lines) do
    directory = Path.join(System.tmp_dir!(), "typhon-python-#{System.unique_integer([:positive])}")
    File.mkdir_p!(directory)
    on_exit(fn -> File.rm_rf(directory) end)
    path = Path.join(directory, "python3")
    File.write!(path, "#!/bin/sh\n" <> lines)
    File.chmod!(path, 0o755)
    path
  end

  @doc "Children of Erlang's helper process that nobody collected."
  def zombies do
    for "/proc/" <> pid <- Path.wildcard("/proc/[0-9]*"), zombie?(pid), parent_is_ours?(pid), do: pid
  end

  defp parent_is_ours?(pid) do
    with {:ok, stat} <- File.read("/proc/#{pid}/stat"),
         [_state, parent | _] <- stat |> String.split(") ") |> List.last() |> String.split(),
         {:ok, stat} <- File.read("/proc/#{parent}/stat"),
         [_, grandparent | _] <- stat |> String.split(") ") |> List.last() |> String.split() do
      System.pid() in [parent, grandparent]
    else
      _ -> false
    end
  end

  def kill(os_pid, signal), do: {_, 0} = System.cmd("kill", ["-#{signal}", "#{os_pid}"])

  @doc "How many file descriptors of this BEAM are shared memory of channels."
  def memfds do
    for fd <- File.ls!("/proc/self/fd"),
        {:ok, target} <- [File.read_link("/proc/self/fd/#{fd}")],
        String.starts_with?(target, "/memfd:typhon") do
      fd
    end
    |> length()
  end

  @doc "Asks again and again. For what becomes true by the work of others."
  def eventually(fun), do: eventually(fun, System.monotonic_time(:millisecond) + @limit)

  defp eventually(fun, until) do
    case fun.() do
      falsy when falsy in [nil, false] ->
        if System.monotonic_time(:millisecond) > until, do: flunk("it never became true")
        Process.sleep(10)
        eventually(fun, until)

      value ->
        value
    end
  end

  @doc "As eventually/1. A task that ends before it is true has something to say about it."
  def while_it_runs(task, fun) do
    eventually(fn ->
      fun.() || ((result = Task.yield(task, 0)) && flunk("its task has ended already: #{inspect(result)}"))
    end)
  end

  def await(task), do: Task.await(task, @limit)
  def await_many(tasks), do: Task.await_many(tasks, @limit)

  @doc """
  What becomes of Python that still runs when its call's time is over. The function makes the call, with a timeout and the path
  of a file that Python makes when it has got to where it is to be interrupted. On a busy machine its time may be over before:
  then the function is called again with twice the time, as when it returns `:again`. On return Python has nothing to do, but
  for what cannot be interrupted: that ends with the test, as inside the VM it would keep its interpreter (sample.wanted, busy_c_loop).
  """
  def overrun(py, call, timeout \\ 100) do
    dir = new_path()
    File.mkdir!(dir)
    File.write!(Path.join(dir, "over"), <<0>>)

    ExUnit.Callbacks.on_exit(fn ->
      # In its place: Python may have it in its memory.
      File.open!(Path.join(dir, "over"), [:read, :write], &IO.binwrite(&1, <<1>>))
      # Python may still make files in it: gone in one step it has to be, and not file by file.
      File.rename!(dir, dir <> "-over")
      File.rm_rf!(dir <> "-over")
    end)

    mark = Path.join(dir, "mark")
    result = call.(timeout, mark)
    eventually(fn -> in_flight(py) == 0 end)

    reached? = File.rm(mark) == :ok

    if reached? and result != :again do
      result
    else
      assert timeout < @limit, "Python did not get there in #{timeout} ms"
      overrun(py, call, 2 * timeout)
    end
  end

  @doc "What the function returns, which is given a time; with twice of it when that is `{:error, _}`, because it was too short."
  def in_time(timeout, fun) do
    case fun.(timeout) do
      {:error, reason} ->
        assert timeout < @limit, "not in #{timeout} ms: #{inspect(reason)}"
        in_time(2 * timeout, fun)

      result ->
        result
    end
  end

  @doc "The line that somebody has written to a file; an error when nobody has yet."
  def first_line(path) do
    case File.read(path) do
      {:ok, text} when text != "" -> String.trim(text)
      _ -> {:error, :enoent}
    end
  end

  @doc "Waits until Logger has what the worker's process has given it."
  def await_logged(py) do
    {_state, %{printer: printer}} = :sys.get_state(worker(py).pid)
    eventually(fn -> :sys.get_state(printer).output.records == %{} end)
  end

  @doc """
  A path where nothing is, nor ever was. The system gives the id of a process again after a while: one that was ended may have
  left files.
  """
  def new_path(name \\ "test"), do: Path.join(System.tmp_dir!(), "typhon-#{name}-#{unique()}")

  @doc "A word that nobody else has, nor had."
  def unique, do: "#{System.pid()}-#{System.os_time()}-#{System.unique_integer([:positive])}"

  @doc "A path that Python can wait for (dispatch.wait_for): until the test makes a file there."
  def gate do
    path = new_path()
    on_exit(fn -> File.rm(path) end)
    path
  end

  @doc "Keeps so many workers of a pool busy with a call each. The function that it gives lets them go."
  def keep_busy(py, count \\ 1) do
    path = gate()
    # What an earlier test left may still run, and would be taken for one of these.
    eventually(fn -> running(py) == 0 end)

    tasks =
      for i <- 1..count do
        task = Task.async(fn -> Typhon.call(py, :dispatch, :wait_for, [path], timeout: :infinity) end)
        while_it_runs(task, fn -> running(py) == i end)
        task
      end

    fn ->
      File.touch!(path)
      for result <- await_many(tasks), do: assert({:ok, _} = result)
    end
  end

  @doc "No answer of a call, late or superfluous, may be in the mailbox."
  def assert_mailbox_empty do
    assert {:messages, []} = Process.info(self(), :messages)
  end

  @doc "Runs code with Typhon in a VM of its own, to its end: what it printed, and its exit status."
  def vm(code, env \\ [], applications \\ [:typhon]) do
    paths = Enum.flat_map(applications, &["-pa", Path.join(:code.lib_dir(&1), "ebin")])
    start = "{:ok, _} = Application.ensure_all_started(:typhon)\n"
    System.cmd("elixir", paths ++ ["-e", start <> code], env: env, stderr_to_stdout: true)
  end

  @doc "The function runs in a process of its own, so that the test can wait for other things meanwhile."
  def async(fun), do: Task.async(fun)
end
