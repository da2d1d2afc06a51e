defmodule Typhon.QuotaTest do
  # What Python asks, says and sends in nobody's name is bounded, whether Python waits for it or not.
  # Not at the same time as others: they look at what is logged, and Logger drops some when there is much.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.WorkerError

  @moduletag :capture_log

  # native/channel/layout.h, and a few of the worker's own.
  @most 1_024
  @some 200

  defp python(py, expression, args, options \\ []),
    do: Typhon.call(py, :converse, :evaluate, [expression | args], options)

  defp cast(py, expression, args), do: :ok = Typhon.cast(py, :converse, :evaluate, [expression | args])

  defp queue(pid) do
    {:message_queue_len, length} = Process.info(pid, :message_queue_len)
    length
  end

  # Whether a number stays where it is while Python has every chance to change it.
  defp settled(fun, before \\ nil) do
    Process.sleep(300)
    now = fun.()
    if now == before, do: now, else: settled(fun, now)
  end

  # Reads nothing until it is told.
  defp receiver(test \\ self()) do
    spawn_link(fn ->
      receive do
        :read -> count(test, 0)
      end
    end)
  end

  defp count(test, read) do
    receive do
      :last -> send(test, {:read, read})
      _ -> count(test, read + 1)
    end
  end

  describe "Python waits" do
    for {what, statement} <- [
          {"messages to names", "typhon.send('error', i)"},
          {"messages to pids", "typhon.send(f, i)"},
          {"records of logging", "logging.getLogger('quota').warning('%s', i)"},
          {"lines", "typhon._io.tell((typhon.Atom('print'), 'x\\n'), 0)"}
        ] do
      test "until #{what} are taken" do
        py = start_pool(stdio: :logger)
        owner = worker(py).pid
        taker = receiver()
        :ok = :sys.suspend(owner)
        cast(py, "[#{unquote(statement)} for i in range(20_000)] and typhon.send(x, 'done')", [taker, self()])

        eventually(fn -> queue(owner) + queue(taker) > 700 end)
        assert settled(fn -> queue(owner) + queue(taker) end) <= @most + @some
        refute_received "done"
        :sys.resume(owner)
        assert_receive "done", limit()
      end
    end

    test "until processes that answer in nobody's name have ended" do
      py = start_pool()
      owner = worker(py).pid
      test = self()

      wait = fn ->
        receive do
          :go -> :ok
        end
      end

      :ok = Typhon.cast(py, :converse, :ask_at_once, [wait, 3_000, test])
      helpers = fn -> owner |> Process.info(:links) |> elem(1) |> Enum.filter(&is_pid/1) end
      # The owner has its supervisor, too.
      eventually(fn -> length(helpers.()) >= 1_000 end)
      assert settled(fn -> length(helpers.()) end) <= @most + 8
      assert queue(owner) < @some
      release(helpers)
      assert_received {"answered", 3_000}
    end

    test "for a process with too many messages, as long as it reads some" do
      py = start_pool(max_mailbox: 1_000)
      slow = receiver()
      cast(py, "[typhon.send(f, i) for i in range(20_000)] and typhon.send(f, typhon.Atom('last'))", [slow])
      eventually(fn -> queue(slow) > 1_000 end)
      assert settled(fn -> queue(slow) end) <= 1_000 + 2 * @most
      send(slow, :read)
      assert_receive {:read, 20_000}, limit()
      assert {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
    end

    test "not for its own mailbox" do
      py = start_pool()

      assert {:ok, 20_000} =
               python(
                 py,
                 "len([typhon.send(typhon.self(), i) for i in range(20_000)]) and " <>
                   "sum(1 for i in range(20_000) if typhon.receive(60) == i)",
                 [],
                 timeout: limit()
               )
    end
  end

  describe "large messages" do
    # Of 16 MB each: what may wait, what the worker may have said, and what is looked at together.
    @some_large 48

    for {what, dest} <- [{"to a pid", "f"}, {"to a name", "x"}] do
      test "#{what} that reads nothing: some of them are enough, and the worker is ended" do
        py = start_pool()
        deaf = receiver()
        Process.register(deaf, :typhon_quota_deaf)
        send_on = "[typhon.send(#{unquote(dest)}, b'x' * 16_000_000) for i in itertools.count()]"
        options = [timeout: 2 * limit()]

        assert {:error, %WorkerError{reason: :flood} = error} =
                 python(py, send_on, [deaf, :typhon_quota_deaf], options)

        assert Exception.message(error) =~ "more than is taken"
        assert queue(deaf) in 2..@some_large
        Process.unlink(deaf)
        Process.exit(deaf, :kill)
      end
    end

    test "with an allow list Python is told" do
      deaf = receiver()
      py = start_pool(allow: [{Enum, :_, :_}], send_to: [deaf])
      send_on = "[typhon.send(f, b'x' * 16_000_000) for i in itertools.count()]"

      assert {:error, %Typhon.PythonError{type: "typhon.BeamError", message: message}} =
               python(py, send_on, [deaf], timeout: 2 * limit())

      assert message =~ "reads none"
      assert queue(deaf) in 2..@some_large
      Process.unlink(deaf)
      Process.exit(deaf, :kill)
    end

    test "all arrive where they are read" do
      py = start_pool()
      reader = receiver()

      cast(
        py,
        "[typhon.send(f, b'x' * 4_000_000) for i in range(200)] and typhon.send(f, typhon.Atom('last'))",
        [reader]
      )

      eventually(fn -> queue(reader) > 10 end)
      assert settled(fn -> queue(reader) end) <= 4 * @some_large
      send(reader, :read)
      assert_receive {:read, 200}, limit()
    end
  end

  describe "a worker is ended" do
    test "that sends on to a process which reads nothing" do
      py = start_pool(max_mailbox: 1_000)
      deaf = receiver()

      assert {:error, %WorkerError{reason: :flood} = error} =
               python(py, "[typhon.send(f, i) for i in itertools.count()]", [deaf], timeout: limit())

      assert Exception.message(error) =~ "more than is taken"
      assert queue(deaf) <= 1_000 + 2 * @most
      assert {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2], timeout: limit())
    end

    for {what, function, args, most} <- [
          {"questions of nobody", :ask_without_end, [1], 3_000},
          {"statements", :ask_without_end, [0], 1_500},
          {"questions in the name of a call that there is not", :ask_in_a_lost_name, [], 66_000}
        ] do
      @tag :os_process
      test "that floods with #{what}" do
        py = start_pool()
        owner = worker(py).pid
        processes = :erlang.system_info(:process_count)
        # The owner is slow to look, so nothing but the native library stands in the way.
        :ok = :sys.suspend(owner)
        args = unquote(args)

        assert {:error, %WorkerError{reason: :flood}} =
                 Typhon.call(py, :frames, unquote(function), args, timeout: limit())

        assert queue(owner) <= unquote(most)
        :sys.resume(owner)
        assert {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2], timeout: limit())
        assert worker(py).pid == owner
        eventually(fn -> :erlang.system_info(:process_count) < processes + 1_000 end)
      end
    end

    @tag :os_process
    test "that floods its caller" do
      py = start_pool()
      test = self()

      busy = fn ->
        send(test, {:busy, self()})

        receive do
          :go -> :ok
        end
      end

      call = Task.async(fn -> Typhon.call(py, :frames, :ask_in_a_name, [busy], timeout: limit()) end)
      assert_receive {:busy, caller}, limit()
      eventually(fn -> queue(caller) >= 16_000 end)
      assert settled(fn -> queue(caller) end) <= 16_384 + @some
      send(caller, :go)
      assert {:error, %WorkerError{reason: :flood}} = Task.await(call, limit())
      assert {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2], timeout: limit())
    end
  end

  test "a process that answers and is killed leaves nobody waiting" do
    py = start_pool()
    cast(py, "typhon.send(x, swallow(f))", [fn -> Process.exit(self(), :kill) end, self()])
    assert_receive "BeamError", limit()
  end

  test "what cannot be dealt with does not end the worker's process" do
    py = start_pool()
    owner = worker(py).pid

    for statement <- [
          "typhon.Atom('log'), 5, b'\\xff', {'file': b'\\xff', 'line': 'x'}",
          "typhon.Atom('log'), 'info', b'\\xff', {'extra': b'\\xff'}",
          "typhon.Atom('log'), 'info', 5, 6",
          "typhon.Atom('send'), 5, 6",
          "typhon.Atom('print'), b'\\xff'",
          "typhon.Atom('error'),"
        ] do
      assert {:ok, nil} = python(py, "typhon._io.tell((#{statement}), 0)", [])
    end

    assert {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
    assert worker(py).pid == owner
  end

  defp release(helpers) do
    for pid <- helpers.(), do: send(pid, :go)

    receive do
      {"answered", 3_000} = answered -> send(self(), answered)
    after
      10 -> release(helpers)
    end
  end
end
