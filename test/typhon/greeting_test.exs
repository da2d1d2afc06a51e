defmodule Typhon.GreetingTest do
  # Whom a signal to a worker reaches: the process that greeted, if it is one of ours.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{StartError, WorkerError}

  @moduletag :capture_log
  @moduletag :os_process

  # A process that has nothing to do with any worker.
  defp bystander do
    port = Port.open({:spawn_executable, System.find_executable("sleep")}, args: ["600"])
    {:os_pid, os_pid} = Port.info(port, :os_pid)
    on_exit(fn -> System.cmd("kill", ["-9", "#{os_pid}"], stderr_to_stdout: true) end)
    os_pid
  end

  defp script(lines) do
    directory = Path.join(System.tmp_dir!(), "typhon-greeting-#{System.unique_integer([:positive])}")
    File.mkdir_p!(directory)
    on_exit(fn -> File.rm_rf(directory) end)
    path = Path.join(directory, "python3")
    File.write!(path, "#!/bin/sh\n" <> lines)
    File.chmod!(path, 0o755)
    path
  end

  defp runs?(os_pid), do: os_process?(os_pid) and not zombie?(os_pid)

  test "a second greeting ends the worker, and nobody else" do
    victim = bystander()
    py = start_pool()
    os_pid = worker(py).os_pid

    assert {:error, %WorkerError{reason: :protocol}} =
             Typhon.call(py, :frames, :greet_as, [victim], timeout: limit())

    eventually(fn -> not runs?(os_pid) end)
    assert runs?(victim)
    assert {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2], timeout: limit())
  end

  test "who claims to be another process does not start, and that one is left alone" do
    victim = bystander()

    # The bootstrap is the second argument.
    python =
      script("""
      code="import os
      os.getpid = lambda: #{victim}
      $2"
      shift 2
      exec python3 -c "$code" "$@"
      """)

    assert {:error, %StartError{reason: :foreign_process} = error} =
             Typhon.start_link(workers: 1, python: python, stdio: :discard, start_timeout: limit())

    assert Exception.message(error) =~ "process #{victim} greeted"
    assert runs?(victim)
  end

  test "nor does an instance of ErlPort's" do
    Process.flag(:trap_exit, true)
    victim = bystander()

    # It is asked for its version first. After -u -m erlport.cli come its options.
    python =
      script("""
      [ "$1" = -V ] && exec python3 -V
      shift 3
      exec python3 -u -c "import os, runpy
      os.getpid = lambda: #{victim}
      runpy.run_module('erlport.cli', run_name='__main__', alter_sys=True)" "$@"
      """)

    {:ok, pid} = :python.start_link(python: String.to_charlist(python))
    assert_receive {:EXIT, ^pid, {:foreign_process, ^victim}}, limit()
    assert runs?(victim)
  end

  test "a script that starts Python and waits is fine, and what is killed is that Python" do
    python = script(~s(python3 "$@"\nexit $?\n))
    py = start_pool(python: python, grace: 50)
    assert {:ok, os_pid} = Typhon.call(py, :os, :getpid, [])
    assert os_pid != worker(py).os_pid
    assert Typhon.Native.channel_info(channel(py)).os_pid == os_pid

    # It does not end by itself, and takes no interrupt.
    code = """
    import signal, time
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
    while True:
        time.sleep(600)
    """

    Typhon.call(py, :builtins, :exec, [code], timeout: 200)
    eventually(fn -> not runs?(os_pid) end)
    assert {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2], timeout: limit())
  end

  defp channel(py) do
    {_state, %{channel: channel}} = :sys.get_state(worker(py).pid)
    channel
  end
end
