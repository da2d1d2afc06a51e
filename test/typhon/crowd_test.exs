defmodule Typhon.CrowdTest do
  # While many call at once, callers do not wait for messages: they poll, each when its turn on a scheduler comes. What holds
  # for calls must hold for these, too. Not async: it counts what the whole BEAM holds.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.{PoolError, TimeoutError, WorkerError}

  # `count` processes call `function` again and again, until they are told to stop or are killed.
  defp crowd(count, function) do
    pids = for i <- 1..count, do: spawn_link(fn -> call_until_told(function, i, 0) end)
    on_exit(fn -> for pid <- pids, do: Process.exit(pid, :kill) end)
    pids
  end

  defp call_until_told(function, i, n) do
    function.(i, n)

    receive do
      {:stop, parent} ->
        assert_mailbox_empty()
        send(parent, {:stopped, self()})
    after
      0 -> call_until_told(function, i, n + 1)
    end
  end

  defp stop_crowd(pids) do
    for pid <- pids, do: send(pid, {:stop, self()})
    for pid <- pids, do: receive(do: ({:stopped, ^pid} -> :ok))
  end

  # The crowd polls for a while; what it leaves behind is nothing.
  defp watch_poll(py, pids) do
    eventually(fn -> polling(py) > 0 end)
    Process.sleep(500)
    stop_crowd(pids)
    assert {in_flight(py), polling(py)} == {0, 0}
  end

  test "each caller gets its own answers, and all have their turns" do
    py = start_pool(workers: 2)
    answers = :counters.new(200, [])

    pids =
      crowd(200, fn i, n ->
        assert Typhon.call(py, :sample, :echo, [{i, n, "text #{i} #{n}"}]) == {:ok, {i, n, "text #{i} #{n}"}}
        :counters.add(answers, i, 1)
      end)

    # However fast the others are.
    eventually(fn -> Enum.all?(1..200, &(:counters.get(answers, &1) > 1)) end)
    watch_poll(py, pids)
  end

  test "answers of every size: small ones are parked in place, larger ones beside, the largest in segments" do
    py = start_pool()

    pids =
      crowd(32, fn i, n ->
        text =
          String.duplicate(<<rem(i, 26) + ?a>>, Enum.at([3, 500, 600, 5_000, 40_000, 300_000], rem(n, 6)))

        assert Typhon.call(py, :sample, :echo, [text]) == {:ok, text}
      end)

    watch_poll(py, pids)
  end

  test "what Python asks one of many arrives whole: large terms, and objects" do
    py = start_pool(concurrency: 4)

    pids =
      crowd(32, fn i, n ->
        # Most of them make small calls, and find what Python asks the others.
        if rem(i, 4) == 0 do
          text = String.duplicate(<<rem(i, 26) + ?a>>, Enum.at([10, 20_000, 300_000], rem(n, 3)))
          assert Typhon.call(py, :talk, :apply, [fn asked -> asked == text end, text]) == {:ok, true}
          assert Typhon.call(py, :talk, :comes_back, [& &1]) == {:ok, true}
        else
          assert Typhon.call(py, :sample, :echo, [n]) == {:ok, n}
        end
      end)

    watch_poll(py, pids)
  end

  test "errors of Python, of arguments and of results reach the caller whose they are" do
    py = start_pool()

    pids =
      crowd(64, fn i, n ->
        case rem(i + n, 4) do
          0 ->
            assert {:ok, ^i} = Typhon.call(py, :sample, :echo, [i])

          1 ->
            assert {:error, %{message: "no " <> _}} = Typhon.call(py, :sample, :fail, ["no #{i}"])

          2 ->
            assert {:error, %Typhon.EncodeError{}} = Typhon.call(py, :sample, :echo, [<<255>>])

          3 ->
            assert {:error, %Typhon.DecodeError{}} =
                     Typhon.call(py, :sample, :atom, ["no_such_atom_#{i}_here"])
        end
      end)

    Process.sleep(500)
    stop_crowd(pids)
  end

  test "a caller that is killed while it polls leaves nothing behind" do
    py = start_pool()

    for _ <- 1..20 do
      pids =
        for i <- 1..100,
            do: spawn(fn -> call_until_told(fn _, n -> Typhon.call(py, :sample, :Counter, [n]) end, i, 0) end)

      eventually(fn -> polling(py) > 0 end)
      Process.sleep(:rand.uniform(5))
      for pid <- pids, do: Process.exit(pid, :kill)
    end

    eventually(fn -> {in_flight(py), polling(py)} == {0, 0} end)

    eventually(fn ->
      :erlang.garbage_collect()
      Typhon.call(py, :sample, :counters_alive, []) == {:ok, 0}
    end)

    assert {:ok, 4.0} = Typhon.call(py, :math, :sqrt, [16])
  end

  test "callers that are killed again and again are forgotten while the others go on" do
    py = start_pool()
    pids = crowd(16, fn i, _ -> assert {:ok, ^i} = Typhon.call(py, :sample, :echo, [i]) end)

    for _ <- 1..20 do
      victims =
        for i <- 1..100,
            do: spawn(fn -> call_until_told(fn _, n -> Typhon.call(py, :sample, :echo, [n]) end, i, 0) end)

      Process.sleep(:rand.uniform(5))
      for pid <- victims, do: Process.exit(pid, :kill)
    end

    eventually(fn -> polling(py) <= 16 and in_flight(py) <= 16 end)
    stop_crowd(pids)
  end

  @tag :os_process
  test "a worker that dies under a crowd: each caller is told, or served by the next one" do
    py = start_pool(workers: 2)

    pids =
      crowd(100, fn i, _ ->
        case Typhon.call(py, :sample, :echo, [i], timeout: 60_000) do
          {:ok, ^i} -> :ok
          {:error, %WorkerError{reason: :signal}} -> :ok
        end
      end)

    for _ <- 1..5 do
      eventually(fn -> polling(py) > 0 end)
      workers = fn -> py |> Typhon.info() |> elem(1) |> Map.fetch!(:workers) end
      os_pid = eventually(fn -> Enum.find_value(workers.(), &(&1.state == :ready && &1.os_pid)) end)
      kill(os_pid, "KILL")
      # Else the next turn might find the same one, which is gone.
      eventually(fn -> not Enum.any?(workers.(), &(&1.os_pid == os_pid)) end)
    end

    stop_crowd(pids)
    eventually(fn -> {in_flight(py), polling(py)} == {0, 0} end)
    eventually(fn -> match?({:ok, %{workers: [%{state: :ready}, %{state: :ready}]}}, Typhon.info(py)) end)
    eventually(fn -> memfds() == 2 end)
  end

  test "a pool that is stopped under a crowd: nobody is left waiting" do
    py = start_pool(workers: 2)

    tasks =
      for i <- 1..100 do
        async(fn ->
          fn -> Typhon.call(py, :sample, :echo, [i], timeout: :infinity) end
          |> Stream.repeatedly()
          |> Enum.find(&(not match?({:ok, ^i}, &1)))
        end)
      end

    eventually(fn -> polling(py) > 0 end)
    Typhon.stop(py)

    for answer <- await_many(tasks) do
      assert {:error, %error{}} = answer
      assert error in [PoolError, WorkerError]
    end
  end

  test "a call that takes long is given up in time, and the others go on" do
    py = start_pool(workers: 2)
    pids = crowd(32, fn i, _ -> assert {:ok, ^i} = Typhon.call(py, :sample, :echo, [i], timeout: 60_000) end)
    eventually(fn -> polling(py) > 0 end)

    for _ <- 1..5 do
      assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :sleep, [0.5], timeout: 50)
      assert_mailbox_empty()
    end

    stop_crowd(pids)
  end

  test "calls that take long wait for messages, and use no processor time meanwhile" do
    py = start_pool()
    pids = crowd(16, fn i, _ -> assert {:ok, ^i} = Typhon.call(py, :sample, :echo, [i]) end)
    eventually(fn -> polling(py) > 0 end)
    stop_crowd(pids)
    gate = gate()
    tasks = for _ <- 1..8, do: Task.async(Typhon, :call, [py, :dispatch, :wait_for, [gate]])
    eventually(fn -> in_flight(py) == 8 and polling(py) == 0 end)
    File.touch!(gate)
    assert Enum.all?(await_many(tasks), &match?({:ok, _}, &1))
  end
end
