defmodule Typhon.RetryTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PythonError, TimeoutError, WorkerError}

  setup do
    path = Path.join(System.tmp_dir!(), "typhon-#{System.unique_integer([:positive])}")
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

        assert match?(%TimeoutError{timeout: 1_500}, error) or match?(%WorkerError{}, error)
        assert_mailbox_empty()
      end

      @tag :os_process
      test "and the error has that timeout, also when it is Python that says the time is over", %{path: path} do
        py = start_pool(telemetry: @telemetry, init: "import time; time.sleep(0.5)")
        options = [retry: 1, timeout: 1_200]
        caller = Task.async(fn -> Typhon.call(py, :dispatch, :die_unless, [path], options) end)
        eventually(fn -> match?(%{state: :starting, restarts: 1}, worker(py)) end)

        # Held up where it waits for the new worker, until another call has that; and again until its time is over.
        true = :erlang.suspend_process(caller.pid)
        busy = Task.async(fn -> Typhon.call(py, :time, :sleep, [1.5], timeout: 60_000) end)
        eventually(fn -> match?(%{state: :ready}, worker(py)) and running(py) == 1 end)
        true = :erlang.resume_process(caller.pid)
        eventually(fn -> in_flight(py) == 2 end)
        true = :erlang.suspend_process(caller.pid)
        assert Task.await(busy, 60_000) == {:ok, nil}
        eventually(fn -> in_flight(py) == 0 end)
        true = :erlang.resume_process(caller.pid)
        assert {:error, %TimeoutError{timeout: 1_200}} = Task.await(caller, 60_000)
      end
    end
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

    Task.await_many(calls, 120_000)
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
