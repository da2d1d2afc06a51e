defmodule Typhon.MovingTest do
  # Not async: it counts what waits and what is on loan, and listens to the events of all pools.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.{Native, OverloadError, StartError, WorkerError}

  defp native(py), do: py |> Typhon.Registry.lookup() |> elem(1)

  defp channels(py) do
    {:ok, %{workers: workers}} = Typhon.info(py)
    for %{pid: pid} <- workers, {_, %{channel: channel}} <- [:sys.get_state(pid)], channel != nil, do: channel
  end

  # Calls that were taken back from a worker for another one.
  defp moved(py), do: py |> channels() |> Enum.map(&Native.channel_info(&1).moved) |> Enum.sum()

  defp place(py, place), do: {0, py |> native() |> Native.pool_info() |> where(place), 0}

  defp where(info, place) do
    {^place, _, _, serial} = List.keyfind(info.places, place, 0)
    Bitwise.bsl(serial, 16) + place
  end

  defp reserve(py, place, reserved), do: Native.pool_reserve(native(py), place, reserved)

  # So many calls in each worker but the last, which is reserved meanwhile; they run until the file is there.
  defp long_calls(py, per_worker, gate, workers \\ 2) do
    reserve(py, workers - 1, true)

    tasks =
      for i <- 1..(per_worker * (workers - 1)) do
        task = Task.async(fn -> Typhon.call(py, :dispatch, :wait_for, [gate], timeout: :infinity) end)
        eventually(fn -> begun(py) == i end)
        task
      end

    tasks
  end

  # Calls that run, on all workers.
  defp begun(py), do: py |> channels() |> Enum.map(&Native.channel_info(&1).running) |> Enum.sum()

  defp release(gate, tasks) do
    File.touch!(gate)
    for result <- await_many(tasks), do: assert({:ok, _} = result)
  end

  defp lines(path) do
    case File.read(path) do
      {:ok, text} -> text |> String.split("\n", trim: true) |> Enum.map(&String.to_integer/1)
      _ -> []
    end
  end

  describe "short calls that wait behind a long one" do
    for {name, per_worker, options} <- [
          {"one at a time", 1, []},
          {"on two threads", 2, [concurrency: 2]}
        ] do
      @tag :several_workers
      test "go to the worker that is free, #{name}" do
        py = start_pool([workers: 2] ++ unquote(options))
        rounds = if unquote(per_worker) == 1, do: 100, else: 30

        for _ <- 1..rounds do
          gate = gate()
          long = long_calls(py, unquote(per_worker), gate)

          short =
            for i <- 1..20, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: :infinity) end)

          eventually(fn -> in_flight(py) == unquote(per_worker) + 20 end)
          reserve(py, 1, false)
          assert await_many(short) == for(i <- 1..20, do: {:ok, i})
          assert Enum.all?(long, &Process.alive?(&1.pid))
          release(gate, long)
          assert in_flight(py) == 0
        end

        assert moved(py) >= 20 * rounds
        assert_mailbox_empty()
      end
    end

    @tag :several_workers
    test "that are coroutines, batches, streams and asynchronous ones do, too" do
      py = start_pool(workers: 2)
      gate = gate()
      long = long_calls(py, 1, gate)

      short = [
        Task.async(fn -> Typhon.call(py, :talk, :sleep, [0], timeout: :infinity) end),
        Task.async(fn -> Typhon.multi(py, :math, :sqrt, [[4], [9]], timeout: :infinity) end),
        Task.async(fn -> py |> Typhon.map(:math, :sqrt, [16, 25], timeout: :infinity) |> Enum.to_list() end),
        Task.async(fn -> py |> Typhon.stream(:builtins, :range, [3], timeout: :infinity) |> Enum.to_list() end),
        Task.async(fn ->
          py |> Typhon.async(:math, :sqrt, [36], timeout: :infinity) |> Typhon.await(:infinity)
        end),
        Task.async(fn -> Typhon.call(py, :talk, :apply, [fn x -> x + 1 end, 1], timeout: :infinity) end),
        Task.async(fn ->
          large = String.duplicate("x", 1_000_000)
          Typhon.call(py, :sample, :echo, [large], timeout: :infinity) == {:ok, large}
        end)
      ]

      # A map makes two calls.
      eventually(fn -> in_flight(py) == 1 + length(short) + 1 end)
      reserve(py, 1, false)

      assert await_many(short) == [
               {:ok, nil},
               [{:ok, 2.0}, {:ok, 3.0}],
               [4.0, 5.0],
               [0, 1, 2],
               {:ok, 6.0},
               {:ok, 2},
               true
             ]

      assert Enum.all?(long, &Process.alive?(&1.pid))
      release(gate, long)
      eventually(fn -> Enum.all?(channels(py), &(Native.channel_info(&1).request_arena == 0)) end)
    end

    @tag :several_workers
    test "leave it though newcomers keep the other one busy" do
      py = start_pool(workers: 2)
      gate = gate()
      long = long_calls(py, 1, gate)

      stuck =
        for i <- 1..5, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: :infinity) end)

      eventually(fn -> in_flight(py) == 6 end)
      test = self()

      # The other one always has several.
      crowd =
        for _ <- 1..4 do
          spawn_link(fn -> call_for_ever(py, test) end)
        end

      reserve(py, 1, false)
      assert await_many(stuck) == for(i <- 1..5, do: {:ok, i})
      for pid <- crowd, do: assert(Process.alive?(pid))
      assert Enum.all?(long, &Process.alive?(&1.pid))
      for pid <- crowd, do: send(pid, :stop)
      for _ <- crowd, do: assert_receive(:stopped)
      release(gate, long)
    end

    @tag :several_workers
    test "go to a worker that comes later: one that is placed, and one that the pool grows by" do
      py = start_pool(workers: 1..2)
      gate = gate()
      long = Task.async(fn -> Typhon.call(py, :dispatch, :wait_for, [gate], timeout: :infinity) end)
      eventually(fn -> begun(py) == 1 end)

      short =
        for i <- 1..5, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: :infinity) end)

      assert await_many(short) == for(i <- 1..5, do: {:ok, i})
      assert Process.alive?(long.pid)
      release(gate, [long])
    end

    @tag :several_workers
    test "wait for room, and are told" do
      py = start_pool(workers: 2)
      gate = gate()
      long = long_calls(py, 1, gate)
      text = String.duplicate("x", 10_000)

      # More than a ring of 1 MiB holds.
      short =
        for _ <- 1..300,
            do: Task.async(fn -> Typhon.call(py, :builtins, :len, [text], timeout: :infinity) end)

      eventually(fn -> py |> channels() |> Enum.any?(&(Native.channel_info(&1).waiting > 0)) end)
      reserve(py, 1, false)
      assert await_many(short) |> Enum.uniq() == [{:ok, 10_000}]
      assert Enum.all?(long, &Process.alive?(&1.pid))
      release(gate, long)
    end
  end

  describe "a call stays where it is" do
    @tag :several_workers
    test "when it names its worker, or an object in it lives there" do
      py = start_pool(workers: 2)
      reserve(py, 1, true)
      {:ok, deque} = Typhon.call(py, :collections, :deque, [[1, 2, 3]])
      gate = gate()
      long = long_calls(py, 1, gate)
      flags = place(py, 0)
      key = Enum.find(1..1_000, &(Native.pool_place(native(py), :erlang.phash2(&1, 4_294_967_296)) == 0))

      held = [
        Task.async(fn -> Typhon.call(py, deque, :pop, [], timeout: :infinity) end),
        Task.async(fn -> Typhon.call(py, :builtins, :len, [deque], timeout: :infinity) end),
        Task.async(fn -> Typhon.call(py, :sample, :echo, ["key"], worker: key, timeout: :infinity) end),
        Task.async(fn ->
          ref = make_ref()

          case Native.call(native(py), ref, 0, :sample, :echo, ["named"], %{}, :infinity, flags) do
            {:wait, _, _, _} -> receive do: ({^ref, reply} -> reply)
            reply -> reply
          end
        end)
      ]

      free = for i <- 1..5, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: :infinity) end)
      eventually(fn -> in_flight(py) == 10 end)
      before = moved(py)
      reserve(py, 1, false)
      assert await_many(free) == for(i <- 1..5, do: {:ok, i})
      # They had every chance: others that came later have moved.
      assert moved(py) - before >= 5
      assert Enum.all?(held, &Process.alive?(&1.pid))
      assert in_flight(py) == 5
      release(gate, long)
      assert [{:ok, 3}, {:ok, len}, {:ok, "key"}, {:ok, "named"}] = await_many(held)
      assert len in 2..3
    end
  end

  describe "a call that moves" do
    @tag :several_workers
    test "is not refused, and is counted once" do
      py = start_pool(workers: 2, max_queue: 10)
      gate = gate()
      long = long_calls(py, 1, gate)

      short =
        for i <- 1..10, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: :infinity) end)

      eventually(fn -> in_flight(py) == 11 end)
      assert {:error, %OverloadError{}} = Typhon.call(py, :sample, :echo, [11])
      reserve(py, 1, false)
      assert await_many(short) == for(i <- 1..10, do: {:ok, i})
      assert {:ok, %{in_flight: 1}} = Typhon.info(py)
      release(gate, long)
      assert {:ok, %{in_flight: 0}} = Typhon.info(py)
    end

    @tag :several_workers
    test "has one start and one stop in telemetry, and its time-out goes on" do
      test = self()
      :telemetry.attach_process([:typhon, :call], test)
      on_exit(fn -> :telemetry.detach_process(test) end)
      py = start_pool(workers: 2, telemetry: true)
      gate = gate()
      long = long_calls(py, 1, gate)
      for _ <- long, do: assert_receive({:telemetry, [_, _, :start], _, %{pool: ^py}})

      short =
        for i <- 1..10, do: Task.async(fn -> Typhon.call(py, :sample, :echo, [i], timeout: :infinity) end)

      eventually(fn -> in_flight(py) == 11 end)
      assert {:error, %Typhon.TimeoutError{timeout: 50}} = Typhon.call(py, :sample, :echo, [0], timeout: 50)
      reserve(py, 1, false)
      assert await_many(short) == for(i <- 1..10, do: {:ok, i})
      for _ <- 1..11, do: assert_received({:telemetry, [_, _, :start], _, %{pool: ^py}})
      for _ <- 1..10, do: assert_received({:telemetry, [_, _, :stop], _, %{pool: ^py}})
      assert_received {:telemetry, [_, _, :exception], _, %{pool: ^py}}
      refute_received {:telemetry, _, _, %{pool: ^py}}
      release(gate, long)
    end

    @tag :several_workers
    test "and whose caller is killed leaves nothing" do
      py = start_pool(workers: 2)

      for _ <- 1..20 do
        gate = gate()
        long = long_calls(py, 1, gate)

        short = for i <- 1..50, do: spawn(fn -> Typhon.call(py, :sample, :echo, [i], timeout: :infinity) end)

        eventually(fn -> in_flight(py) == 51 end)
        reserve(py, 1, false)
        for pid <- short, do: Process.exit(pid, :kill)
        eventually(fn -> in_flight(py) == 1 end)
        release(gate, long)
        eventually(fn -> in_flight(py) == 0 end)
      end

      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert Native.pool_info(native(py)).waiting == 0
    end
  end

  describe "calls that are given up before they have begun" do
    test "are over at once, and do not run" do
      py = start_pool()
      gate = gate()
      file = gate()
      long = Task.async(fn -> Typhon.call(py, :dispatch, :wait_for, [gate], timeout: :infinity) end)
      eventually(fn -> begun(py) == 1 end)

      pids =
        for i <- 1..500, do: spawn(fn -> Typhon.call(py, :moving, :note, [file, i], timeout: :infinity) end)

      eventually(fn -> in_flight(py) == 501 end)
      large = Typhon.bytes(String.duplicate("x", 1_000_000))
      assert {:error, %Typhon.TimeoutError{}} = Typhon.call(py, :builtins, :len, [large], timeout: 50)
      for pid <- pids, do: Process.exit(pid, :kill)
      # The long call still runs.
      eventually(fn -> in_flight(py) == 1 end)
      [channel] = channels(py)
      assert Native.channel_info(channel).request_arena == 0
      assert Process.alive?(long.pid)
      release(gate, [long])
      assert Typhon.call(py, :moving, :note, [file, 0]) == {:ok, 0}
      assert lines(file) == [0]
    end
  end

  # Long and short calls, callers that are killed, workers that are killed: each call that nobody killed has one answer, and
  # none has run twice.
  for {name, options} <- [{"one at a time", []}, {"on two threads", [concurrency: 2]}] do
    @tag :os_process
    @tag timeout: 600_000
    test "chaos: each call is answered once, and begun once at most, #{name}" do
      py = start_pool([workers: 3, max_restarts: :infinity] ++ unquote(options))
      file = gate()
      on_exit(fn -> File.rm(file) end)
      calls = 24
      each = 4_000

      callers =
        for i <- 1..calls do
          Task.async(fn ->
            for n <- 1..each do
              id = i * 1_000_000 + n

              result =
                case rem(id, 40) do
                  0 -> Typhon.call(py, :moving, :spin, [0.005], timeout: :infinity)
                  1 -> Typhon.call(py, :moving, :note_soon, [file, id], timeout: :infinity)
                  _ -> Typhon.call(py, :moving, :note, [file, id], timeout: :infinity)
                end

              case result do
                {:ok, nil} -> nil
                {:ok, ^id} -> {:ran, id}
                # It had been begun by a worker that was killed: perhaps it has run.
                {:error, %WorkerError{}} -> {:perhaps, id}
                # No worker was there, and the next one was killed as it started.
                {:error, %StartError{}} -> {:never, id}
              end
            end
          end)
        end

      # Callers that come and go.
      gone =
        spawn_link(fn ->
          Stream.repeatedly(fn ->
            pid = spawn(fn -> Typhon.call(py, :sample, :echo, [1], timeout: :infinity) end)
            Process.sleep(1)
            Process.exit(pid, :kill)
          end)
          |> Stream.run()
        end)

      killer =
        spawn_link(fn ->
          for _ <- 1..25 do
            Process.sleep(100)

            with [_ | _] = pids <- py |> os_pids() |> Enum.filter(& &1),
                 do: System.cmd("kill", ["-KILL", "#{Enum.random(pids)}"])
          end
        end)

      results = callers |> Task.await_many(580_000) |> Enum.concat() |> Enum.reject(&is_nil/1)
      for pid <- [gone, killer], do: Process.unlink(pid) && Process.exit(pid, :kill)
      ran = Enum.frequencies(lines(file))
      assert Enum.all?(ran, fn {_, times} -> times == 1 end)
      for {:ran, id} <- results, do: assert(ran[id] == 1)
      for {:never, id} <- results, do: assert(ran[id] == nil)
      known = MapSet.new(results, &elem(&1, 1))
      assert Enum.all?(Map.keys(ran), &MapSet.member?(known, &1))
      eventually(fn -> in_flight(py) == 0 end)
      # The last one that was killed may have been on its way.
      eventually(fn -> Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0} end)
    end
  end

  defp call_for_ever(py, test) do
    {:ok, 1} = Typhon.call(py, :sample, :echo, [1], timeout: :infinity)

    receive do
      :stop -> send(test, :stopped)
    after
      0 -> call_for_ever(py, test)
    end
  end
end
