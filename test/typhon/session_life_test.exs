defmodule Typhon.SessionLifeTest do
  # Sessions and what happens to workers: a session keeps its Python to its end.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{Native, TestLoad}

  # A session in a process of its own, which runs functions that are sent to it.
  defp session(py) do
    parent = self()

    task =
      Task.async(fn ->
        Typhon.run!(py, fn session ->
          send(parent, {:session, self(), session})
          serve(session)
        end)
      end)

    assert_receive {:session, pid, session} when pid == task.pid
    {task, session}
  end

  defp serve(session) do
    receive do
      {:run, fun, from} ->
        send(from, {:ran, fun.(session)})
        serve(session)

      :end ->
        :ended
    end
  end

  defp in_session(task, fun) do
    send(task.pid, {:run, fun, self()})
    assert_receive {:ran, result}
    result
  end

  defp finish(task) do
    send(task.pid, :end)
    assert await(task) == :ended
  end

  defp pid(py), do: Typhon.call(py, :sample, :pid, [])

  @tag :os_process
  test "restart/2 waits for it, and what waits for the worker then goes to the new one" do
    py = start_pool()
    {task, _} = session(py)
    {:ok, old} = in_session(task, &pid/1)
    restart = Task.async(Typhon, :restart, [py])
    # The new one is there, and waits.
    eventually(fn -> match?({:ok, %{workers: [_, %{state: :waiting}]}}, Typhon.info(py)) end)
    waiting = for _ <- 1..3, do: Task.async(fn -> Typhon.run!(py, fn session -> pid(session) end) end)
    calls = for _ <- 1..3, do: Task.async(fn -> pid(py) end)
    eventually(fn -> Native.pool_info(native(py)).waiting == 6 end)
    assert {:ok, ^old} = in_session(task, &pid/1)
    assert {:ok, %{reserved: 1}} = Typhon.health(py)
    finish(task)
    assert await(restart) == :ok
    {:ok, new} = pid(py)
    refute new == old
    assert await_many(waiting) == List.duplicate({:ok, new}, 3)
    assert await_many(calls) == List.duplicate({:ok, new}, 3)
    refute os_process?(old)
    eventually(fn -> Native.pool_info(native(py)).waiting == 0 end)
  end

  @tag :os_process
  test "max_calls does not end it" do
    py = start_pool(max_calls: 5)
    {task, _} = session(py)
    {:ok, old} = in_session(task, &pid/1)
    for _ <- 1..30, do: assert({:ok, ^old} = in_session(task, &pid/1))
    eventually(fn -> match?({:ok, %{workers: [_, %{state: :waiting}]}}, Typhon.info(py)) end)
    assert {:ok, ^old} = in_session(task, &pid/1)
    finish(task)
    eventually(fn -> not os_process?(old) end)
    assert {:ok, _} = pid(py)
  end

  test "reload/3 waits for it" do
    py = start_pool()
    {:ok, _} = Typhon.call(py, :colorsys, :rgb_to_hsv, [0, 0, 0])
    {task, _} = session(py)
    reload = Task.async(Typhon, :reload, [py, :colorsys])
    {:ok, %{workers: [%{pid: worker}]}} = Typhon.info(py)
    eventually(fn -> match?({:ready, %{pending: [_]}}, :sys.get_state(worker)) end)
    assert {:ok, 2} = in_session(task, &Typhon.call(&1, :operator, :add, [1, 1]))
    finish(task)
    assert await(reload) == {:ok, ["colorsys"]}
  end

  @tag :capture_log
  @tag :os_process
  test "a Python that ends in a session leaves nothing to wait for" do
    py = start_pool()
    {task, _} = session(py)
    {:ok, old} = in_session(task, &pid/1)
    restart = Task.async(Typhon, :restart, [py])
    eventually(fn -> match?({:ok, %{workers: [_, %{state: :waiting}]}}, Typhon.info(py)) end)
    kill(old, "KILL")
    assert await(restart) == :ok
    assert {:error, %Typhon.WorkerError{reason: :lost}} = in_session(task, &pid/1)
    finish(task)
    assert {:ok, _} = pid(py)
    eventually(fn -> match?({:ok, %{workers: [_]}}, Typhon.info(py)) end)
  end

  test "sessions make a pool grow, and one that is idle keeps its worker" do
    py = start_pool(workers: 1..2, idle_timeout: 50)
    {first, _} = session(py)
    {second, _} = session(py)
    {:ok, a} = in_session(first, &pid/1)
    {:ok, b} = in_session(second, &pid/1)
    refute a == b
    # Long enough for several looks at who is idle.
    for _ <- 1..10 do
      Process.sleep(30)
      assert {:ok, ^a} = in_session(first, &pid/1)
    end

    assert {:ok, ^b} = in_session(second, &pid/1)
    finish(first)
    finish(second)
    eventually(fn -> match?({:ok, %{size: 1, workers: [_]}}, Typhon.info(py)) end)
  end

  test "calls by key go on while a pool breathes" do
    py = start_pool(workers: 1..3, idle_timeout: 50)

    for _ <- 1..3 do
      load = TestLoad.start(py, 6, sleep: 0.005)

      for key <- 1..100,
          do: assert(Typhon.call(py, :sample, :echo, [key], worker: key, timeout: 60_000) == {:ok, key})

      TestLoad.stop(load)
      for key <- 1..100, do: assert(Typhon.call(py, :sample, :echo, [key], worker: key) == {:ok, key})
      eventually(fn -> match?({:ok, %{size: 1}}, Typhon.info(py)) end)
    end

    assert_mailbox_empty()
  end

  test "drain/2 waits for it" do
    py = start_pool()
    {task, _} = session(py)
    assert {:error, %Typhon.TimeoutError{left: 1}} = Typhon.drain(py, 50)
    assert {:ok, 2} = in_session(task, &Typhon.call(&1, :operator, :add, [1, 1]))
    drain = Task.async(Typhon, :drain, [py, 60_000])
    finish(task)
    assert await(drain) == :ok
  end

  defp native(py) do
    {_, native, _} = Typhon.Registry.lookup(py)
    native
  end
end
