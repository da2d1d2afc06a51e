defmodule Typhon.RetryTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PythonError, TimeoutError, WorkerError}

  setup do
    path = new_path()
    on_exit(fn -> File.rm(path) end)
    {:ok, path: path}
  end

  for telemetry <- [true, false] do
    describe "retry: n (telemetry: #{telemetry})" do
      @telemetry telemetry

      @tag :os_process
      test "a call whose worker dies is made again", %{path: path} do
        py = start_pool(telemetry: @telemetry)
        assert Typhon.call(py, :dispatch, :die_unless, [path], retry: 1, timeout: 60_000) == {:ok, "alive"}
        assert_mailbox_empty()
      end

      @tag :os_process
      test "so often and no more", %{path: path} do
        py = start_pool(telemetry: @telemetry)

        assert {:error, %WorkerError{reason: :signal, signal: "SIGKILL"}} =
                 Typhon.call(py, :dispatch, :count_and_die, [path], retry: 2, timeout: 60_000)

        assert File.read!(path) == "xxx"
        assert {:ok, _} = Typhon.call(py, :sample, :pid, [], timeout: 60_000)
        assert_mailbox_empty()
      end

      @tag :os_process
      test "not without being asked", %{path: path} do
        py = start_pool(telemetry: @telemetry)
        assert {:error, %WorkerError{}} = Typhon.call(py, :dispatch, :count_and_die, [path])
        assert File.read!(path) == "x"
      end

      test "not for what Python raises", %{path: path} do
        py = start_pool(telemetry: @telemetry)

        assert {:error, %PythonError{type: "ValueError"}} =
                 Typhon.call(py, :dispatch, :count_and_raise, [path], retry: 5)

        assert File.read!(path) == "x"
      end

      @tag :os_process
      test "not beyond the timeout, which is that of the whole call", %{path: path} do
        py = start_pool(telemetry: @telemetry)
        # For ever, were it not for the timeout: the workers' restarts back off.
        assert {:error, error} =
                 Typhon.call(py, :dispatch, :count_and_die, [path], retry: 1_000_000, timeout: 1_500)

        case error do
          %TimeoutError{} -> assert error.timeout == 1_500
          _ -> assert %WorkerError{} = error
        end

        assert_mailbox_empty()
      end

      @tag :os_process
      test "and the error has that timeout, also when it is Python that says the time is over", %{path: path} do
        outlast_new_worker(path, @telemetry, 1_200)
      end
    end
  end

  # The caller is held up where it waits for the new worker, until another call has that; and again until its time is over. It
  # has twice the time when a busy machine takes too long for that.
  defp outlast_new_worker(path, telemetry, timeout) do
    File.rm(path)
    py = start_pool(telemetry: telemetry, init: "import time; time.sleep(0.5)")
    options = [retry: 1, timeout: timeout]
    caller = Task.async(fn -> Typhon.call(py, :dispatch, :die_unless, [path], options) end)
    eventually(fn -> match?(%{restarts: 1}, worker(py)) end)
    suspended(caller)
    busy = Task.async(fn -> Typhon.call(py, :time, :sleep, [timeout / 1000], timeout: :infinity) end)
    eventually(fn -> match?(%{state: :ready}, worker(py)) and running(py) == 1 end)
    resumed(caller)
    in_time? = eventually(fn -> (in_flight(py) == 2 && :yes) || (ended?(caller) && :no) end) == :yes
    suspended(caller)
    assert await(busy) == {:ok, nil}
    eventually(fn -> in_flight(py) == 0 end)
    resumed(caller)
    result = await(caller)

    if in_time?,
      do: assert({:error, %TimeoutError{timeout: ^timeout}} = result),
      else: outlast_new_worker(path, telemetry, 2 * timeout)
  end

  defp ended?(task), do: not Process.alive?(task.pid)

  defp suspended(task) do
    :erlang.suspend_process(task.pid)
  rescue
    ArgumentError -> assert ended?(task)
  end

  defp resumed(task) do
    :erlang.resume_process(task.pid)
  rescue
    ArgumentError -> assert ended?(task)
  end

  @tag :os_process
  test "a key's worker that dies is waited for", %{path: path} do
    py = start_pool(workers: 2)

    assert Typhon.call(py, :dispatch, :die_unless, [path], worker: "key", retry: 1, timeout: 60_000) ==
             {:ok, "alive"}
  end

  @tag :os_process
  test "a worker that is killed again and again under many callers: all get their answers" do
    py = start_pool(workers: 2)

    calls =
      for i <- 1..50 do
        Task.async(fn ->
          for j <- 1..10 do
            assert Typhon.call(py, :sample, :echo, [{i, j}], retry: 100, timeout: 120_000) == {:ok, {i, j}}
          end
        end)
      end

    for _ <- 1..3 do
      case Enum.reject(os_pids(py), &is_nil/1) do
        [os_pid | _] -> System.cmd("kill", ["-KILL", "#{os_pid}"], stderr_to_stdout: true)
        [] -> :none
      end
    end

    await_many(calls)
    assert_mailbox_empty()
  end

  test "is checked, and no option of a cast" do
    py = start_pool()

    assert_raise ArgumentError, ~r/retry: must be a non-negative integer, got -1/, fn ->
      Typhon.call(py, :math, :sqrt, [16], retry: -1)
    end

    assert_raise ArgumentError, ~r/Typhon.cast\/5 has no option :retry/, fn ->
      Typhon.cast(py, :math, :sqrt, [16], retry: 1)
    end
  end
end
