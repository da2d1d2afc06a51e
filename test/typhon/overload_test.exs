defmodule Typhon.OverloadTest do
  # Not async: listens to the events of all pools.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.{Native, OverloadError, TimeoutError}

  defp native(py), do: py |> Typhon.Registry.lookup() |> elem(1)
  defp waiting(py), do: Native.pool_info(native(py)).waiting

  describe "max_queue" do
    test "0: a call runs at once or is refused" do
      py = start_pool(max_queue: 0)
      for i <- 1..100, do: assert(Typhon.call(py, :sample, :echo, [i]) == {:ok, i})
      free = keep_busy(py, 1)

      assert {:error, %OverloadError{} = error} = Typhon.call(py, :math, :sqrt, [16])
      assert %{pool: ^py, queued: 0, workers: 1, concurrency: 1, max_queue: 0} = error

      assert Exception.message(error) ==
               "the Typhon pool #{inspect(py)} is overloaded: 0 calls waiting (max_queue: 0), 1 worker busy. " <>
                 "The call was refused and has not run. " <>
                 "Try again later, shed load, or start the pool with more workers or a higher max_queue"

      assert {:error, %OverloadError{}} = Typhon.cast(py, :math, :sqrt, [16])
      assert {:error, %OverloadError{}} = Typhon.call(py, :math, :sqrt, [16], worker: "key", retry: 3)
      assert_raise OverloadError, fn -> Typhon.call!(py, :math, :sqrt, [16]) end
      free.()
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert_mailbox_empty()
    end

    test "so many wait, the next one is refused, and the figures say so" do
      py = start_pool(workers: 2, max_queue: 3, name: :overload_test_pool)
      free = keep_busy(py, 2)
      calls = for i <- 1..3, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: 60_000) end)
      eventually(fn -> in_flight(py) == 5 end)

      assert {:error, %OverloadError{pool: :overload_test_pool, queued: 3, workers: 2, max_queue: 3} = error} =
               Typhon.call(:overload_test_pool, :math, :sqrt, [16])

      assert Exception.message(error) =~ "3 calls waiting (max_queue: 3), 2 workers busy"
      free.()
      assert await_many(calls) == for(i <- 1..3, do: {:ok, i})
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    test "1,000 callers: each gets its answer or an OverloadError, and the counts return to 0" do
      py = start_pool(workers: 2, max_queue: 20)
      free = keep_busy(py, 2)

      calls =
        for i <- 1..1_000, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: 120_000) end)

      # Nobody is answered before the workers are free, so all others have been refused by now.
      eventually(fn -> Enum.count(calls, &Process.alive?(&1.pid)) <= 20 + System.schedulers_online() end)
      free.()
      results = calls |> await_many() |> Enum.zip(1..1_000)
      {good, refused} = Enum.split_with(results, &match?({{:ok, _}, _}, &1))
      for {result, i} <- good, do: assert(result == {:ok, i})
      for {result, _} <- refused, do: assert({:error, %OverloadError{max_queue: 20}} = result)
      assert length(good) >= 20
      assert length(good) <= 20 + System.schedulers_online()

      eventually(fn -> in_flight(py) == 0 end)
      assert waiting(py) == 0
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert_mailbox_empty()
    end

    @tag :several_workers
    test "bounds the calls on an object, which wait for its worker though another one is free" do
      py = start_pool(workers: 2, max_queue: 1)
      {:ok, wait_for} = Typhon.call(py, :builtins, :eval, ["__import__('dispatch').wait_for"])
      gate = gate()
      call = fn -> Typhon.call(py, wait_for, :__call__, [gate], timeout: :infinity) end
      accepted = for n <- 1..3, do: {Task.async(call), eventually(fn -> in_flight(py) == n end)}
      for _ <- 1..5, do: assert({:error, %OverloadError{max_queue: 1}} = call.())
      assert {:error, %OverloadError{}} = Typhon.cast(py, wait_for, :__call__, [gate])
      # What may go to the other one does.
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      File.touch!(gate)
      for {task, _} <- accepted, do: assert({:ok, _} = await(task))
      assert call.() |> elem(0) == :ok
    end

    test "holds while no worker is there, and for callers that are killed while they wait" do
      py = start_pool(max_queue: 10)
      Native.pool_reserve(native(py), 0, true)

      # The worker's process knows nothing of this reservation, so the pool seems to have none: ask the counter alone.
      tickets = for _ <- 1..10, do: Native.pool_wait(native(py), false)
      assert {:overload, 10, 0, 1, 10} = Native.pool_wait(native(py), false)
      assert {:ok, _} = forced = Native.pool_wait(native(py), true)
      for {:ok, ticket} <- [forced | tickets], do: Native.pool_done(ticket)
      assert waiting(py) == 0

      pids =
        for _ <- 1..10 do
          spawn(fn ->
            {:ok, ticket} = Native.pool_wait(native(py), false)
            receive do: (:never -> Native.pool_done(ticket))
          end)
        end

      eventually(fn -> waiting(py) == 10 end)
      for pid <- pids, do: Process.exit(pid, :kill)
      eventually(fn -> waiting(py) == 0 end)
      Native.pool_reserve(native(py), 0, false)
    end

    @tag :os_process
    test "while the only worker is replaced, no more than so many wait" do
      py = start_pool(max_queue: 5, concurrency: 1)
      {:ok, os_pid} = Typhon.call(py, :sample, :pid, [])
      # Stopped, the worker neither serves nor ends; then it is killed, and all that were accepted move on.
      kill(os_pid, "STOP")
      calls = for i <- 1..50, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: 60_000) end)
      eventually(fn -> Enum.count(calls, &Process.alive?(&1.pid)) <= 6 + System.schedulers_online() end)
      kill(os_pid, "KILL")
      results = await_many(calls)

      for {result, i} <- Enum.zip(results, 1..50) do
        assert result == {:ok, i} or match?({:error, %OverloadError{}}, result) or
                 match?({:error, %Typhon.WorkerError{reason: :signal}}, result)
      end

      assert Enum.count(results, &match?({:ok, _}, &1)) >= 5
      eventually(fn -> in_flight(py) == 0 and waiting(py) == 0 end)
    end

    test "counts those who wait for room in a worker's memory" do
      py = start_pool(max_queue: 20, ring_size: 65_536)
      free = keep_busy(py, 1)
      text = String.duplicate("x", 12_000)

      calls =
        for _ <- 1..20, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [text], timeout: 60_000) end)

      # The ring holds a few of them.
      eventually(fn -> in_flight(py) + waiting(py) == 21 end)
      assert waiting(py) > 10
      assert {:error, %OverloadError{queued: 20}} = Typhon.call(py, :math, :sqrt, [16])
      free.()
      assert await_many(calls) == List.duplicate({:ok, text}, 20)
      eventually(fn -> in_flight(py) == 0 and waiting(py) == 0 end)
      assert_mailbox_empty()
    end

    test "with :infinity nothing is refused" do
      py = start_pool()
      free = keep_busy(py, 1)
      calls = for i <- 1..500, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: 60_000) end)
      eventually(fn -> in_flight(py) == 501 end)
      free.()
      assert await_many(calls) == for(i <- 1..500, do: {:ok, i})
    end

    test "is checked" do
      for wrong <- [-1, 1.5, nil, :many] do
        assert_raise ArgumentError, ~r/max_queue: must be a non-negative integer or :infinity/, fn ->
          Typhon.start_link(max_queue: wrong)
        end
      end
    end
  end

  describe "waiting" do
    test "counts towards the timeout, and who gave up is not run" do
      py = start_pool()
      free = keep_busy(py, 1)
      {:error, %TimeoutError{timeout: 20}} = Typhon.call(py, :dispatch, :mark, ["gave up"], timeout: 20)
      waits = Task.async(fn -> Typhon.call(py, :dispatch, :mark, ["waited"], timeout: 60_000) end)
      gone = spawn(fn -> Typhon.call(py, :dispatch, :mark, ["late"], timeout: 50) end)
      eventually(fn -> not Process.alive?(gone) end)
      free.()
      assert {:ok, 1} = await(waits)
      assert Typhon.call(py, :dispatch, :marks, []) == {:ok, ["waited"]}
      assert_mailbox_empty()
    end
  end

  describe "events" do
    setup do
      test = self()
      :telemetry.attach_process([:typhon], test)
      on_exit(fn -> :telemetry.detach_process(test) end)
    end

    test "of a refused call" do
      py = start_pool(max_queue: 0)
      free = keep_busy(py, 1)
      assert {:error, error} = Typhon.call(py, :math, :sqrt, [16])
      assert_receive {:telemetry, [:typhon, :pool, :overload], measurements, %{pool: ^py} = metadata}
      assert measurements == %{queued: 0, workers: 1}

      assert metadata ==
               %{pool: py, concurrency: 1, max_queue: 0, module: :math, function: :sqrt, arity: 1}

      assert_receive {:telemetry, [:typhon, :call, :exception], _, %{pool: ^py, reason: ^error}}
      free.()
    end

    test "of a session" do
      py = start_pool()
      Typhon.run!(py, fn _ -> :ok end)
      assert_receive {:telemetry, [:typhon, :session, :start], start, %{pool: ^py, worker: 0}}
      assert %{monotonic_time: _, system_time: _, wait: wait} = start
      assert wait >= 0
      assert_receive {:telemetry, [:typhon, :session, :stop], stop, %{pool: ^py, worker: 0}}
      assert %{duration: duration, monotonic_time: _} = stop
      assert duration >= 0

      catch_throw(Typhon.run!(py, fn _ -> throw(:ball) end))
      assert_receive {:telemetry, [:typhon, :session, :stop], _, %{pool: ^py}}
    end
  end
end
