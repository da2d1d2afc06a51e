defmodule Typhon.GreetingTest do
  # Whom a signal to a worker reaches: the process that greeted, if it is one of ours.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{StartError, WorkerError}

  @moduletag :capture_log
  @moduletag :os_process

  test "a second greeting ends the worker, and nobody else" do
    victim = bystander()
    py = start_pool()
    os_pid = worker(py).os_pid

    assert {:error, %WorkerError{reason: :protocol}} =
             Typhon.call(py, :frames, :greet_as, [victim], timeout: limit())

    eventually(fn -> not os_process_runs?(os_pid) end)
    assert os_process_runs?(victim)
    assert {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2], timeout: limit())
  end

  test "who claims to be another process does not start, and that one is left alone" do
    victim = bystander()

    # The bootstrap is the second argument.
    python =
      python_script("""
      code="import os
      os.getpid = lambda: #{victim}
      $2"
      shift 2
      exec python3 -c "$code" "$@"
      """)

    assert {:error, %StartError{reason: :foreign_process} = error} =
             Typhon.start_link(workers: 1, python: python, stdio: :discard, start_timeout: limit())

    assert Exception.message(error) =~ "process #{victim} greeted"
    assert os_process_runs?(victim)
  end

  test "a script that starts Python and waits is fine, and what is killed is that Python" do
    python = python_script(~s(python3 "$@"\nexit $?\n))
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
    eventually(fn -> not os_process_runs?(os_pid) end)
    assert {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2], timeout: limit())
  end

  defp channel(py) do
    {_state, %{channel: channel}} = :sys.get_state(worker(py).pid)
    channel
  end
end
