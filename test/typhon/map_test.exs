defmodule Typhon.MapTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PoolError, PythonError, TimeoutError}

  setup_all do
    {:ok, py: start_pool(workers: 2)}
  end

  # Counts the elements that were taken from an endless enumerable.
  defp counted(counter) do
    Stream.map(Stream.iterate(1, &(&1 + 1)), fn i ->
      :counters.add(counter, 1, 1)
      i
    end)
  end

  describe "map/5" do
    test "gives the results in the order of the elements", %{py: py} do
      assert py |> Typhon.map(:sample, :echo, 1..200) |> Enum.to_list() == Enum.to_list(1..200)
      assert py |> Typhon.map(:sample, :echo, 1..200, batch: 7) |> Enum.to_list() == Enum.to_list(1..200)
      assert py |> Typhon.map(:sample, :echo, []) |> Enum.to_list() == []
    end

    test "or as they are there", %{py: py} do
      for batch <- [1, 3] do
        results = py |> Typhon.map(:sample, :echo, 1..100, ordered: false, batch: batch) |> Enum.to_list()
        assert Enum.sort(results) == Enum.to_list(1..100)
      end
    end

    test "passes further arguments and keyword arguments", %{py: py} do
      for batch <- [1, 2] do
        options = [args: ["b"], kwargs: %{c: "c"}, batch: batch]

        assert py |> Typhon.map(:bulk, :pair, [1, 2, 3], options) |> Enum.to_list() ==
                 for(i <- 1..3, do: {i, "b", "c"})
      end
    end

    test "is lazy: nothing happens until it runs, and it can run again", %{py: py} do
      counter = :counters.new(1, [])
      stream = Typhon.map(py, :sample, :echo, counted(counter), max_concurrency: 3)
      assert :counters.get(counter, 1) == 0
      assert Enum.take(stream, 2) == [1, 2]
      assert Enum.take(stream, 3) == [1, 2, 3]
    end

    test "takes no more elements than are in flight ahead of the consumer", %{py: py} do
      for {options, bound} <- [{[max_concurrency: 3], 3}, {[max_concurrency: 3, batch: 10], 40}] do
        counter = :counters.new(1, [])

        py
        |> Typhon.map(:sample, :echo, counted(counter), options)
        |> Stream.with_index(1)
        |> Enum.take_while(fn {_, taken} ->
          assert :counters.get(counter, 1) <= taken + bound + 1
          taken < 100
        end)
      end
    end

    test "has no more calls at a time than max_concurrency" do
      py = start_pool(workers: 3)
      test = self()

      task =
        Task.async(fn ->
          py
          |> Typhon.map(:bulk, :slow, 1..12, max_concurrency: 2)
          |> Stream.each(fn _ -> send(test, {:in_flight, in_flight(py)}) end)
          |> Enum.to_list()
        end)

      assert await(task) == Enum.to_list(1..12)
      for _ <- 1..12, do: assert_received({:in_flight, count} when count <= 2)
    end

    test "stops when the consumer does, and leaves nothing behind", %{py: py} do
      before = Process.info(self(), :links)
      assert py |> Typhon.map(:bulk, :slow, Stream.cycle([1]), max_concurrency: 4) |> Enum.take(2) == [1, 1]
      assert Process.info(self(), :links) == before
      assert_mailbox_empty()
      assert Typhon.call(py, :sample, :echo, [1]) == {:ok, 1}
    end

    test "a process that traps exits gets no messages", %{py: py} do
      Process.flag(:trap_exit, true)
      assert py |> Typhon.map(:sample, :echo, 1..20) |> Enum.to_list() == Enum.to_list(1..20)
      assert py |> Typhon.map(:bulk, :slow, Stream.cycle([1]), max_concurrency: 4) |> Enum.take(2) == [1, 1]
      assert_mailbox_empty()
    end

    @tag :os_process
    test "one late result holds the elements behind it back, unless the order does not matter" do
      py = start_pool(workers: 2)
      gate = new_path("map")
      on_exit(fn -> File.rm(gate) end)
      counter = :counters.new(1, [])
      test = self()

      # The first element waits for the gate, which opens when the sixth has been called.
      task =
        async(fn ->
          py
          |> Typhon.map(:bulk, :behind_gate, 1..20,
            args: [gate],
            max_concurrency: 2,
            ordered: false,
            timeout: 60_000
          )
          |> Enum.to_list()
        end)

      assert [2, 3, 4, 5] = task |> await() |> Enum.take(4)
      File.rm!(gate)

      task =
        async(fn ->
          py
          |> Typhon.map(:bulk, :behind_gate, counted(counter),
            args: [gate],
            max_concurrency: 2,
            timeout: 60_000
          )
          |> Enum.take(1)
          |> tap(&send(test, {:taken, &1}))
        end)

      eventually(fn -> :counters.get(counter, 1) == 3 and in_flight(py) == 1 end)
      refute_received {:taken, _}
      File.touch!(gate)
      assert await(task) == [1]
      assert :counters.get(counter, 1) == 3
    end

    test "works with what suspends a stream", %{py: py} do
      stream = Typhon.map(py, :sample, :echo, Stream.iterate(1, &(&1 + 1)))
      assert stream |> Stream.zip(1..50) |> Enum.to_list() == for(i <- 1..50, do: {i, i})
    end

    test "raises the exception of an element at its place", %{py: py} do
      test = self()

      for batch <- [1, 4] do
        error =
          assert_raise PythonError, fn ->
            py
            |> Typhon.map(:bulk, :fail_on, 1..10, args: [3], batch: batch)
            |> Enum.each(&send(test, {:got, &1}))
          end

        assert error.message == "bad 3"
        assert_received {:got, 1}
        assert_received {:got, 2}
        refute_received {:got, _}
      end

      assert_mailbox_empty()
    end

    test "or returns it, or skips the element", %{py: py} do
      for batch <- [1, 4] do
        options = [args: [3], batch: batch]

        assert [{:ok, 1}, {:ok, 2}, {:error, %PythonError{message: "bad 3"}}, {:ok, 4}] =
                 py |> Typhon.map(:bulk, :fail_on, 1..4, [on_error: :return] ++ options) |> Enum.to_list()

        assert py |> Typhon.map(:bulk, :fail_on, 1..4, [on_error: :skip] ++ options) |> Enum.to_list() == [
                 1,
                 2,
                 4
               ]
      end
    end

    test "bounds each call in time", %{py: py} do
      assert [{:error, %TimeoutError{timeout: 1_000, module: :time, function: :sleep}}, {:ok, nil}] =
               py |> Typhon.map(:time, :sleep, [30, 0], timeout: 1_000, on_error: :return) |> Enum.to_list()
    end

    test "says that there is no such pool" do
      assert_raise PoolError, fn -> :no_such_pool |> Typhon.map(:math, :sqrt, [1]) |> Enum.to_list() end
    end

    @tag :several_workers
    test "uses every place of the pool at the same time" do
      py = start_pool(workers: 2)
      gate = gate()

      task =
        async(fn -> py |> Typhon.map(:dispatch, :wait_for, List.duplicate(gate, 4)) |> Enum.to_list() end)

      assert eventually(fn -> running(py) == 2 end)
      assert in_flight(py) <= 2
      File.touch!(gate)
      assert length(await(task)) == 4
    end

    test "checks its options at once", %{py: py} do
      for {options, pattern} <- [
            {[max_concurency: 1],
             ~r/Typhon.map\/5 has no option :max_concurency, did you mean :max_concurrency/},
            {[max_concurrency: 0], ~r/max_concurrency: must be/},
            {[ordered: 1], ~r/ordered: must be/},
            {[batch: 0], ~r/batch: must be/},
            {[on_error: :ignore], ~r/on_error: must be/},
            {[args: 5], ~r/args: must be/},
            {[timeout: -1], ~r/timeout: must be/}
          ] do
        assert_raise ArgumentError, pattern, fn -> Typhon.map(py, :math, :sqrt, [1], options) end
      end

      assert_raise ArgumentError, ~r/the function must be/, fn ->
        Typhon.map(py, :math, "sqrt" |> to_charlist(), [1])
      end
    end
  end

  # A pool of one: its worker waits for the callback, or belongs to the session.
  describe "the worker that waits for a callback, or belongs to a session, is that of" do
    test "map/5, batches of it, and async/5 in a callback" do
      py = start_pool()

      for work <- [
            fn _ -> py |> Typhon.map(:operator, :add, 1..20, args: [1]) |> Enum.to_list() end,
            fn _ ->
              py |> Typhon.map(:operator, :add, 1..20, args: [1], batch: 7) |> Enum.to_list()
            end,
            fn _ ->
              1..20
              |> Enum.map(&Typhon.async(py, :operator, :add, [&1, 1]))
              |> Enum.map(&Typhon.await/1)
              |> Enum.map(&elem(&1, 1))
            end
          ] do
        test = self()

        assert {:ok, _} =
                 Typhon.call(py, :talk, :apply, [fn x -> send(test, work.(x)) && 0 end, 1], timeout: :infinity)

        assert_received results when results != []
        assert results == Enum.to_list(2..21)
      end
    end

    test "map/5 in a run" do
      py = start_pool()
      work = fn _ -> py |> Typhon.map(:operator, :add, 1..20, args: [1]) |> Enum.to_list() end
      assert {:ok, results} = Typhon.run(py, work)
      assert results == Enum.to_list(2..21)
    end
  end
end
