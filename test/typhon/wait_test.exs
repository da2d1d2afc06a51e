defmodule Typhon.WaitTest do
  # The one wait of a caller, from the side of those who are asked something meanwhile: nothing is lost, nothing comes too early,
  # and whoever ends in the middle of it leaves nothing behind.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{TimeoutError, WorkerError}

  setup_all do
    {:ok, py: start_pool()}
  end

  # Python asks `count` times at once; the answers are the squares.
  defp gather(py, fun, count, options \\ []),
    do: Typhon.call(py, :converse, :gather, [fun, count], options)

  test "many questions at once are answered in their order, before the result", %{py: py} do
    me = self()

    fun = fn i ->
      send(me, {:asked, i})
      i * i
    end

    for _ <- 1..50 do
      assert gather(py, fun, 20) == {:ok, for(i <- 0..19, do: i * i)}
      for i <- 0..19, do: assert_received({:asked, ^i})
    end

    assert_mailbox_empty()
  end

  test "calls nest in answers, and answers in calls", %{py: py} do
    fun = fn i -> Typhon.call!(py, :operator, :mul, [i, i]) end
    assert gather(py, fun, 20) == {:ok, for(i <- 0..19, do: i * i)}
    assert_mailbox_empty()
  end

  test "many callers whose calls ask", %{py: py} do
    tasks =
      for n <- 1..32 do
        Task.async(fn ->
          for _ <- 1..20, do: assert(gather(py, &(&1 + n), 5) == {:ok, Enum.to_list(n..(n + 4))})
          assert_mailbox_empty()
        end)
      end

    await_many(tasks)
  end

  test "what is said while the caller answers comes in its order", %{py: py} do
    {:ok, device} = StringIO.open("")

    code = "(print('one'), f(), print('three'), f(), print('five'), 5)[5]"

    fun = fn -> IO.write(device, "answered\n") end

    for _ <- 1..20 do
      assert Typhon.call(py, :converse, :evaluate, [code, fun], stdio: device) == {:ok, 5}
    end

    {_, written} = StringIO.contents(device)
    assert written == String.duplicate("one\nanswered\nthree\nanswered\nfive\n", 20)
    assert_mailbox_empty()
  end

  test "an answer that is late ends the call, and what was asked besides is dropped", %{py: py} do
    assert {:error, %TimeoutError{}} = gather(py, fn _ -> Process.sleep(60) end, 20, timeout: 50)
    assert_mailbox_empty()
    eventually(fn -> running(py) == 0 end)
    assert gather(py, & &1, 3) == {:ok, [0, 1, 2]}
  end

  test "a caller that is killed while it answers leaves nothing behind", %{py: py} do
    for _ <- 1..20 do
      test = self()

      {pid, monitor} =
        spawn_monitor(fn ->
          gather(py, fn i -> if i == 3, do: Process.exit(self(), :kill), else: send(test, i) end, 20)
        end)

      assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}, limit()
    end

    eventually(fn -> running(py) == 0 end)
    assert gather(py, & &1, 3) == {:ok, [0, 1, 2]}
  end

  @tag :os_process
  test "a worker that ends while its caller answers ends the call, and says why" do
    py = start_pool()
    os_pid = worker(py).os_pid

    assert {:error, %WorkerError{reason: :signal}} =
             gather(
               py,
               fn i ->
                 if i == 0, do: kill(os_pid, "KILL")
                 eventually(fn -> not os_process?(os_pid) end)
               end,
               5
             )

    assert_mailbox_empty()
    eventually(fn -> gather(py, & &1, 3) == {:ok, [0, 1, 2]} end)
  end

  # A thousand questions one after the other: most are seen by whoever has just answered the one before.
  test "who looks needs no message", %{py: py} do
    ask = "[f() for _ in range(1000)] and None"

    eventually(fn ->
      task =
        Task.async(fn ->
          receive do
            :go -> Typhon.call(py, :converse, :evaluate, [ask, fn -> 1 end])
          end
        end)

      :erlang.trace(task.pid, true, [:receive])
      send(task.pid, :go)
      assert await(task) == {:ok, nil}
      delivered = :erlang.trace_delivered(task.pid)
      assert_receive {:trace_delivered, _, ^delivered}, limit()
      traced() < 500
    end)
  end

  defp traced(count \\ 0) do
    receive do
      {:trace, _, :receive, _} -> traced(count + 1)
    after
      0 -> count
    end
  end
end
