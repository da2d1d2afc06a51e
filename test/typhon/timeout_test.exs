defmodule Typhon.TimeoutTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{TimeoutError, WorkerError}

  describe "a call that takes too long" do
    test "returns a TimeoutError, and the worker is usable at once" do
      py = start_pool()

      assert {:error, %TimeoutError{timeout: 50, module: :sample, function: :sleep, arity: 1}} =
               Typhon.call(py, :sample, :sleep, [600], timeout: 50)

      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert worker(py).restarts == 0
      assert_mailbox_empty()
    end

    test "is interrupted in Python, where finally and except BaseException see it" do
      py = start_pool()
      # The module is imported before the clock runs, so that the function is under way when its time is over.
      assert Typhon.call(py, :sample, :get, ["k"]) == {:ok, nil}
      assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :sleep_and_note, [600, "k"], timeout: 50)
      assert Typhon.call(py, :sample, :get, ["k"]) == {:ok, "Cancelled"}
      assert worker(py).restarts == 0
    end

    test "is interrupted in a loop of Python code" do
      py = start_pool()
      assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :spin_python, [600], timeout: 50)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert worker(py).restarts == 0
    end

    @tag :os_process
    test "and cannot be interrupted: after the grace the worker is killed and replaced" do
      py = start_pool(grace: 100)
      os_pid = worker(py).os_pid
      assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :busy_c_loop, [], timeout: 50)
      assert Typhon.call(py, :math, :sqrt, [16], timeout: 60_000) |> retry(py) == {:ok, 4.0}
      eventually(fn -> not os_process?(os_pid) end)
      assert worker(py).restarts == 1
    end

    test "and swallows the interrupt: after the grace the worker is killed, and others hear why" do
      py = start_pool(grace: 100)
      assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :ignore_cancel, [600], timeout: 50)

      case Typhon.call(py, :math, :sqrt, [16], timeout: 60_000) do
        {:ok, 4.0} -> :ok
        {:error, error} -> assert %WorkerError{reason: :overdue} = error
      end

      eventually(fn -> worker(py).restarts == 1 end)
    end

    # The call behind the overdue one may have been in flight when the worker was killed.
    defp retry({:error, %WorkerError{reason: :overdue}}, py), do: Typhon.call(py, :math, :sqrt, [16])
    defp retry(result, _py), do: result

    test "is not interrupted in the midst of an import, which would break the module for the worker's life" do
      for concurrency <- [1, 3] do
        py = start_pool(concurrency: concurrency, grace: 30_000)

        1..3
        |> Enum.map(fn _ -> async(fn -> Typhon.call(py, :slow_package, :ready, [], timeout: 50) end) end)
        |> Task.await_many()
        |> Enum.each(fn result -> assert {:error, %TimeoutError{}} = result end)

        assert Typhon.call(py, :slow_package, :ready, [], timeout: 60_000) == {:ok, ["a", "b"]}
        assert worker(py).restarts == 0
      end
    end

    test "never runs when its time was over before it began" do
      py = start_pool()
      blocker = async(fn -> Typhon.call(py, :sample, :sleep, [0.5]) end)
      Process.sleep(100)
      assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :put, ["ran", true], timeout: 20)
      assert Task.await(blocker) == {:ok, "slept"}
      assert Typhon.call(py, :sample, :get, ["ran"]) == {:ok, nil}
    end

    test "timeout: 0 is over at once" do
      py = start_pool()

      for _ <- 1..50 do
        case Typhon.call(py, :sample, :echo, [1], timeout: 0) do
          {:ok, 1} -> :ok
          {:error, error} -> assert %TimeoutError{timeout: 0} = error
        end
      end

      assert Typhon.call(py, :sample, :echo, [2]) == {:ok, 2}
      assert_mailbox_empty()
    end
  end

  test "a late answer never reaches the mailbox, whenever it comes" do
    py = start_pool(workers: 2)

    # Answers just before, at, and after the deadline, from many callers at once.
    1..40
    |> Enum.map(fn i ->
      async(fn ->
        for j <- 1..10 do
          case Typhon.call(py, :sample, :sleep, [rem(i * j, 7) / 1000], timeout: 3) do
            {:ok, "slept"} -> :ok
            {:error, %TimeoutError{}} -> :ok
          end
        end

        Process.sleep(50)
        assert_mailbox_empty()
      end)
    end)
    |> Task.await_many(60_000)

    assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    {:ok, %{workers: workers}} = Typhon.info(py)
    assert Enum.all?(workers, &(&1.restarts == 0))
  end

  test "a caller that dies leaves the worker usable" do
    py = start_pool()
    caller = spawn(fn -> Typhon.call(py, :sample, :sleep, [0.3]) end)
    Process.sleep(50)
    Process.exit(caller, :kill)
    assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
  end
end
