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

      overrun(py, fn timeout, mark ->
        assert {:error, %TimeoutError{}} =
                 Typhon.call(py, :sample, :sleep_and_note, [600, "k", mark], timeout: timeout)
      end)

      assert Typhon.call(py, :sample, :get, ["k"]) == {:ok, "Cancelled"}
      assert worker(py).restarts == 0
    end

    test "says that it never began, if it did not" do
      py = start_pool()
      let_go = keep_busy(py)
      assert {:error, %TimeoutError{began: false} = error} = Typhon.call(py, :math, :sqrt, [16], timeout: 50)

      assert Exception.message(error) =~
               "math.sqrt with 1 argument did not begin within 50 ms: no worker was free"

      let_go.()
      assert {:error, %TimeoutError{began: true}} = Typhon.call(py, :sample, :sleep, [600], timeout: 200)
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

      %{os_pid: os_pid, restarts: restarts} =
        overrun(py, fn timeout, mark ->
          eventually(fn -> worker(py).state == :ready end)
          worker = worker(py)
          assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :busy_c_loop, [mark], timeout: timeout)
          worker
        end)

      assert Typhon.call(py, :math, :sqrt, [16], timeout: 60_000) == {:ok, 4.0}
      eventually(fn -> not os_process?(os_pid) end)
      assert worker(py).restarts == restarts + 1
    end

    test "and swallows the interrupt: after the grace the worker is killed, and others hear why" do
      py = start_pool(grace: 100)

      restarts =
        overrun(py, fn timeout, mark ->
          eventually(fn -> worker(py).state == :ready end)
          %{restarts: restarts} = worker(py)

          assert {:error, %TimeoutError{}} =
                   Typhon.call(py, :sample, :ignore_cancel, [600, mark], timeout: timeout)

          # It waits behind the one that is killed: its worker never took it, or did so when it was too late.
          case Typhon.call(py, :math, :sqrt, [16], timeout: 60_000) do
            {:ok, 4.0} -> :ok
            {:error, error} -> assert %WorkerError{reason: :overdue} = error
          end

          restarts
        end)

      eventually(fn -> worker(py).restarts == restarts + 1 end)
    end

    test "is not interrupted in the midst of an import, which would break the module for the worker's life" do
      for concurrency <- [1, 3] do
        py = start_pool(concurrency: concurrency, grace: 30_000)

        1..3
        |> Enum.map(fn _ -> async(fn -> Typhon.call(py, :slow_package, :ready, [], timeout: 50) end) end)
        |> await_many()
        |> Enum.each(fn result -> assert {:error, %TimeoutError{}} = result end)

        assert Typhon.call(py, :slow_package, :ready, [], timeout: 60_000) == {:ok, ["a", "b"]}
        assert worker(py).restarts == 0
      end
    end

    test "never runs when its time was over before it began" do
      py = start_pool()
      free = keep_busy(py)
      assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :put, ["ran", true], timeout: 20)
      free.()
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
    |> await_many()

    assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    {:ok, %{workers: workers}} = Typhon.info(py)
    assert Enum.all?(workers, &(&1.restarts == 0))
  end

  # What a stream does that is not read to its end.
  test "a call that is given up while its worker ends leaves nothing in the mailbox" do
    for _ <- 1..8 do
      py = start_pool()
      parent = self()

      tasks =
        for i <- 1..300 do
          async(fn ->
            pending = Typhon.Call.begin(py, {:sample, :sleep, [600], :infinity}, nil)
            send(parent, :begun)
            receive do: (:go -> :ok)
            Process.sleep(div(i, 30))
            Typhon.Call.abandon(pending)
            # For what might still come.
            Process.sleep(100)
            assert_mailbox_empty()
          end)
        end

      for _ <- tasks, do: assert_receive(:begun)
      for task <- tasks, do: send(task.pid, :go)
      Process.sleep(3)
      Typhon.stop(py)
      await_many(tasks)
    end
  end

  test "a caller that dies leaves the worker usable" do
    py = start_pool()
    caller = spawn(fn -> Typhon.call(py, :sample, :sleep, [600], timeout: :infinity) end)
    eventually(fn -> running(py) == 1 end)
    Process.exit(caller, :kill)
    assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
  end
end
