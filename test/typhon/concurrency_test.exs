defmodule Typhon.ConcurrencyTest do
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  test "many processes get their own answers" do
    py = start_pool(workers: 2)

    1..500
    |> Enum.map(fn i ->
      async(fn ->
        for j <- 1..40, do: {:ok, {^i, ^j}} = Typhon.call(py, :sample, :echo, [{i, j}])
        assert_mailbox_empty()
      end)
    end)
    |> await_many()
  end

  test "one process may have calls of its own in flight by way of tasks" do
    py = start_pool(workers: 2)
    tasks = for i <- 1..100, do: Task.async(Typhon, :call, [py, :sample, :echo, [i], [timeout: :infinity]])
    assert await_many(tasks) == for(i <- 1..100, do: {:ok, i})
    assert_mailbox_empty()
  end

  test "payloads larger than the ring, in both directions at the same time" do
    py = start_pool(workers: 2, ring_size: 65_536)

    for size <- [60_000, 70_000, 300_000, 3_000_000] do
      1..16
      |> Enum.map(fn i ->
        async(fn ->
          text = String.duplicate(<<rem(i, 26) + ?a>>, size)
          bytes = :binary.copy(<<i>>, size)

          for _ <- 1..4 do
            assert Typhon.call(py, :sample, :echo, [text], timeout: :infinity) == {:ok, text}
            assert Typhon.call(py, :sample, :echo, [Typhon.bytes(bytes)], timeout: :infinity) == {:ok, bytes}

            assert Typhon.call(py, :sample, :checksum, [Typhon.buffer(bytes)], timeout: :infinity) ==
                     {:ok, :erlang.crc32(bytes)}
          end

          assert_mailbox_empty()
        end)
      end)
      |> await_many()
    end
  end

  test "a ring that is full makes callers wait, and nobody is lost" do
    py = start_pool(ring_size: 65_536)
    text = String.duplicate("x", 1_000)
    free = keep_busy(py)

    tasks =
      for i <- 1..200, do: async(fn -> Typhon.call(py, :sample, :echo, [{i, text}], timeout: 60_000) end)

    eventually(fn -> Enum.any?(tasks, &waits_for_room?/1) end)
    free.()
    assert await_many(tasks) == for(i <- 1..200, do: {:ok, {i, text}})
  end

  test "the wait for room counts towards the timeout, and leaves nothing in the mailbox" do
    py = start_pool(ring_size: 65_536)
    text = String.duplicate("x", 1_000)
    free = keep_busy(py)
    parent = self()

    tasks =
      for _ <- 1..100 do
        async(fn ->
          result = Typhon.call(py, :sample, :echo, [text], timeout: 50)
          send(parent, {:result, result})
          # Until the ring has been emptied: whoever waits for room is told then.
          receive do: (:look -> assert_mailbox_empty())
        end)
      end

    for _ <- tasks do
      assert_receive {:result, result}
      assert {:error, %Typhon.TimeoutError{}} = result
    end

    free.()
    assert Typhon.call(py, :sample, :echo, [text]) == {:ok, text}
    for task <- tasks, do: send(task.pid, :look)
    await_many(tasks)
  end

  defp waits_for_room?(task),
    do: match?({:current_function, {Typhon.Room, :wait, 3}}, Process.info(task.pid, :current_function))

  test "casts wait for room, too" do
    py = start_pool(ring_size: 65_536)
    text = String.duplicate("x", 1_000)
    for i <- 1..200, do: assert(Typhon.cast(py, :sample, :put, [i, text], timeout: :infinity) == :ok)
    assert Typhon.call(py, :sample, :get, [200], timeout: :infinity) == {:ok, text}
    assert_mailbox_empty()
  end

  test "casts that wait for room are told of it every time" do
    py = start_pool(ring_size: 65_536)
    text = String.duplicate("x", 1_000)
    for _ <- 1..20_000, do: :ok = Typhon.cast(py, :sample, :put, [1, text], timeout: 30_000)
    assert_mailbox_empty()
  end

  test "calls of many sizes at random keep their order and content" do
    py = start_pool(workers: 2, ring_size: 65_536)

    1..20
    |> Enum.map(fn seed ->
      async(fn ->
        :rand.seed(:exsss, {seed, 0, 0})

        for _ <- 1..50 do
          size = :rand.uniform(Enum.random([10, 1_000, 20_000, 200_000]))
          list = Enum.to_list(1..size)
          assert Typhon.call(py, :sample, :echo, [list], timeout: :infinity) == {:ok, list}
        end

        assert_mailbox_empty()
      end)
    end)
    |> await_many()
  end

  test "large results do not pile up in shared memory" do
    py = start_pool()

    for _ <- 1..30 do
      {:ok, blob} = Typhon.call(py, :sample, :blob, [10_000_000], timeout: :infinity)
      assert byte_size(blob) == 10_000_000
    end
  end

  test "callers that die at once leave the pool usable" do
    py = start_pool(workers: 2)

    pids = for _ <- 1..200, do: spawn(fn -> Typhon.call(py, :sample, :sleep, [0.01], timeout: :infinity) end)
    Process.sleep(50)
    for pid <- pids, do: Process.exit(pid, :kill)
    assert Typhon.call(py, :math, :sqrt, [16], timeout: 60_000) == {:ok, 4.0}
  end
end
