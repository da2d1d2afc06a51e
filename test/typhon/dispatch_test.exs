defmodule Typhon.DispatchTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  require Typhon.Wire

  alias Typhon.{Native, TimeoutError, Wire}

  defp native(py), do: py |> Typhon.Registry.lookup() |> elem(1)
  defp pid_for(py, key), do: Typhon.call!(py, :sample, :pid, [], worker: key, timeout: 60_000)

  defp places(pool, keys),
    do: for(key <- keys, do: Native.pool_place(pool, :erlang.phash2(key, 4_294_967_296)))

  describe "a call" do
    @tag :os_process
    test "goes to an idle worker when there is one, also when many start at once" do
      for _ <- 1..5 do
        py = start_pool(workers: 2)
        path = new_path()
        on_exit(fn -> File.rm(path) end)

        tasks =
          for _ <- 1..2 do
            Task.async(fn ->
              receive do: (:go -> Typhon.call!(py, :dispatch, :wait_for, [path], timeout: 60_000))
            end)
          end

        for task <- tasks, do: send(task.pid, :go)
        eventually(fn -> running(py) == 2 end)
        File.write!(path, "")
        assert [one, two] = await_many(tasks)
        assert one != two
      end
    end

    @tag :several_workers
    test "that names a channel, for a request" do
      py = start_pool(workers: 2)
      native = native(py)
      [{0, false, 0, _}, {1, false, 0, serial}] = Native.pool_info(native).places
      where = Bitwise.bsl(serial, 16) + 1
      {:ok, pid} = Typhon.call(py, :sample, :pid, [])

      call = fn flags -> Native.call(native, make_ref(), 0, :sample, :pid, [], %{}, 5_000, flags) end

      for flags <- [{0, where, 0}, {0, where, 12_345}, {128, where, 0}] do
        case call.(flags) do
          {:ok, other} -> assert other != pid
          {:wait, ^where, _, _} -> assert_receive {_, {:ok, other}} when other != pid
        end
      end

      assert call.({0, where + Bitwise.bsl(1_000_000, 16), 0}) == {:down, :gone}

      for flags <- [{0, :there, 0}, {0, where, -1}, {0, where}, :none, -1] do
        assert_raise ArgumentError, fn -> call.(flags) end
      end
    end
  end

  describe "worker: key" do
    @tag :several_workers
    test "sends the same key to the same worker, and uses all of them" do
      py = start_pool(workers: 3)
      pids = Map.new(1..50, &{&1, pid_for(py, &1)})
      assert pids |> Map.values() |> Enum.uniq() |> length() == 3
      for _ <- 1..3, {key, pid} <- pids, do: assert(pid_for(py, key) == pid)
      # Any term, and another pool of the same size agrees.
      assert pid_for(py, {"user", %{id: 1}}) == pid_for(py, {"user", %{id: 1}})
    end

    test "nil is no key" do
      py = start_pool()
      assert {:ok, _} = Typhon.call(py, :sample, :pid, [], worker: nil)
    end

    test "a cast goes to the same worker as a call" do
      py = start_pool(workers: 3)

      for key <- 1..10 do
        :ok = Typhon.cast(py, :sample, :put, [key, "here"], worker: key)
        assert Typhon.call(py, :sample, :get, [key], worker: key) == {:ok, "here"}
      end
    end

    @tag :os_process
    test "keeps its place when the worker is replaced, and waits for it" do
      py = start_pool(workers: 2)
      before = for key <- 1..10, do: {key, pid_for(py, key)}
      {_, victim} = hd(before)
      kill(victim, "KILL")
      # At once: most of these find the place empty.
      after_ = for {key, _} <- before, do: {key, pid_for(py, key)}

      for {{key, old}, {key, new}} <- Enum.zip(before, after_) do
        if old == victim, do: assert(new != victim), else: assert(new == old)
      end

      # All keys of the victim have gone to its successor, not to the other worker.
      assert after_ |> Enum.map(&elem(&1, 1)) |> Enum.uniq() |> length() == 2
    end

    @tag :several_workers
    test "waits within its timeout, also for a worker that belongs to a session" do
      py = start_pool(workers: 2)
      test = self()

      holder =
        Task.async(fn ->
          Typhon.run!(py, fn session ->
            send(test, {:worker, session.worker, Typhon.call!(session, :sample, :pid, [])})
            receive do: (:go -> :gone)
          end)
        end)

      assert_receive {:worker, place, held}
      assert Typhon.call!(py, :sample, :pid, []) != held
      key = Enum.find(1..1_000, &(places(native(py), [&1]) == [place]))
      assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :pid, [], worker: key, timeout: 200)

      call = Task.async(fn -> pid_for(py, key) end)
      eventually(fn -> Native.pool_info(native(py)).waiting == 1 end)
      send(holder.pid, :go)
      assert await(call) == held
      assert await(holder) == :gone
      assert_mailbox_empty()
    end

    @tag :several_workers
    test "moves on when its place goes away" do
      py = start_pool(workers: 2)
      native = native(py)
      key = Enum.find(1..1_000, &(places(native, [&1]) == [1]))
      Native.pool_reserve(native, 0, true)
      test = self()

      # The pool lends place 1, since 0 is reserved.
      holder =
        Task.async(fn ->
          Typhon.run!(py, fn session ->
            send(test, {:holds, session.worker})
            receive do: (:go -> :gone)
          end)
        end)

      assert_receive {:holds, 1}
      Native.pool_reserve(native, 0, false)

      waiters = [
        Task.async(fn -> pid_for(py, key) end),
        Task.async(fn ->
          Typhon.cast(py, :sample, :put, ["moved", key], worker: key, timeout: 60_000)
        end)
      ]

      eventually(fn -> Native.pool_info(native).waiting == 2 end)
      # As a pool that becomes smaller does.
      Native.pool_active(native, 1, false)

      [{id, _, _, _}] =
        for {{Typhon.Worker, 1, _}, _, _, _} = child <- Supervisor.which_children(py), do: child

      :ok = Supervisor.terminate_child(py, id)
      :ok = Supervisor.delete_child(py, id)
      assert [pid, :ok] = await_many(waiters)
      assert {:ok, ^pid} = Typhon.call(py, :sample, :pid, [])
      assert Typhon.call(py, :sample, :get, ["moved"]) == {:ok, key}
      send(holder.pid, :go)
      assert await(holder) == :gone
    end

    test "few keys move when the number of places changes" do
      keys = Enum.to_list(1..10_000)
      pool = Native.pool_new(10)
      before = places(pool, keys)

      for {_, count} <- Enum.frequencies(before), do: assert(count in 800..1_200)

      Native.pool_active(pool, 9, false)
      smaller = places(pool, keys)

      for {old, new} <- Enum.zip(before, smaller) do
        if old == 9, do: assert(new in 0..8), else: assert(new == old)
      end

      assert smaller == places(Native.pool_new(9), keys)
      Native.pool_active(pool, 9, true)
      assert places(pool, keys) == before
    end
  end

  describe "the native pool" do
    @tag :several_workers
    test "a reserved place is passed by, unless it is named" do
      py = start_pool(workers: 2)
      native = native(py)
      assert {0, where} = Native.pool_pick(native)
      Native.pool_reserve(native, 0, true)
      assert {1, _} = Native.pool_pick(native)
      Native.pool_reserve(native, 1, true)
      assert Native.pool_pick(native) == :none
      assert [{0, true, 0, _}, {1, true, 0, _}] = Native.pool_info(native).places

      call = fn flags -> Native.call(native, make_ref(), 0, :math, :sqrt, [16], %{}, 5_000, flags) end
      assert call.(0) == :no_worker
      assert call.(Bitwise.bsl(2, Wire.place_bit())) == {:held, 1}

      case call.({0, where, 0}) do
        {:ok, 4.0} -> :ok
        {:wait, _, _, _} -> assert_receive {_, {:ok, 4.0}}
      end

      Native.pool_reserve(native, 0, false)
      Native.pool_reserve(native, 1, false)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    @tag :os_process
    test "tells a watcher, once, of a call that finds no worker free" do
      py = start_pool()
      native = native(py)
      assert Native.pool_watch(native, self()) == :ok
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      refute_received {:typhon, :busy}

      path = new_path()
      on_exit(fn -> File.rm(path) end)
      busy = Task.async(fn -> Typhon.call!(py, :dispatch, :wait_for, [path], timeout: 60_000) end)
      eventually(fn -> running(py) == 1 end)
      refute_received {:typhon, :busy}
      calls = for _ <- 1..5, do: Task.async(fn -> Typhon.call!(py, :math, :sqrt, [16], timeout: 60_000) end)
      assert_receive {:typhon, :busy}
      eventually(fn -> in_flight(py) == 6 end)
      refute_received {:typhon, :busy}
      File.write!(path, "")
      await_many([busy | calls])

      # No worker at all.
      Native.pool_watch(native, self())
      Native.pool_reserve(native, 0, true)
      assert {:ok, ticket} = Native.pool_wait(native, false)
      assert_receive {:typhon, :busy}
      Native.pool_done(ticket)
      Native.pool_done(ticket)
      assert Native.pool_info(native).waiting == 0
      Native.pool_reserve(native, 0, false)
    end

    test "refuses what is no pool, place or option" do
      pool = Native.pool_new(2, %{max_queue: 3, concurrency: 4})
      assert %{size: 2, max_queue: 3, concurrency: 4, waiting: 0, places: []} = Native.pool_info(pool)
      assert %{max_queue: :infinity, concurrency: 1} = Native.pool_info(Native.pool_new(1))

      for fun <- [
            fn -> Native.pool_new(2, %{max_queue: -1}) end,
            fn -> Native.pool_new(2, %{concurrency: 0}) end,
            fn -> Native.pool_new(0, %{}) end,
            fn -> Native.pool_new(2, []) end,
            fn -> Native.pool_reserve(pool, 2, true) end,
            fn -> Native.pool_reserve(pool, 0, :yes) end,
            fn -> Native.pool_active(pool, 2, true) end,
            fn -> Native.pool_watch(pool, :me) end,
            fn -> Native.pool_wait(make_ref(), true) end,
            fn -> Native.pool_done(pool) end,
            fn -> Native.pool_place(pool, -1) end,
            fn -> Native.pool_info(make_ref()) end
          ] do
        assert_raise ArgumentError, fun
      end
    end
  end
end
