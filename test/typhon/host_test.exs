defmodule Typhon.Worker.HostTest do
  # A worker knows nothing of what runs its Python but what Typhon.Worker.Host says: here that is something that runs nothing.
  use ExUnit.Case, async: true

  import Typhon.TestHelper, only: [eventually: 1]

  alias Typhon.{Language, Native, Options, PythonError, StandInHost, StartError, Worker, WorkerError}
  alias Typhon.Pool.Board

  @limit Typhon.TestHelper.limit()

  defp start(answers \\ %{}, options \\ [], role \\ :holder) do
    options = Options.start!(Keyword.merge([workers: 1, stdio: :discard], options))
    board = Board.new()
    # What the pool's keeper is told comes here.
    :ets.insert(board, {:keeper, self()})

    config =
      options
      |> Language.named()
      |> Map.merge(%{host: StandInHost, pool: self(), board: board, program: "/stand/in"})
      |> Map.merge(%{tester: self(), answers: answers})

    native = Native.pool_new(1, Map.take(config, [:max_queue, :concurrency]))
    place = %{index: 0, serial: Board.next_serial(board), role: role}
    {start_supervised!({Worker, {config, native, place}}), native}
  end

  defp opened do
    assert_receive {:host, {:open, host}}, @limit
    host
  end

  defp ready(answers \\ %{}, options \\ []) do
    {worker, native} = start(answers, options)
    host = opened()
    StandInHost.greet(host, worker)
    assert :gen_statem.call(worker, :await) == :ok
    {worker, host, native}
  end

  defp told(what), do: assert_receive({:"$gen_cast", ^what}, @limit)

  test "it takes calls when its host has greeted and was taken for what it says" do
    {worker, host, native} = ready()
    assert_received {:host, {:adopt, %{"version" => "0.1"}}}
    told({:placed, worker})
    assert {0, _where} = Native.pool_pick(native)

    assert %{state: :ready, os_pid: nil, memory: 42, python: "0.1", executable: "/stand/in"} =
             Worker.info(worker)

    refute_received {:host, _}
    assert host.channel != nil
  end

  test "one that cannot be started is tried again" do
    error = %StartError{reason: :cannot_execute, message: "there is nothing"}
    {worker, native} = start(%{open: {:error, error}})
    assert :gen_statem.call(worker, :await) == {:error, error}
    told({:ended, worker, error})
    opened()
    opened()
    assert Native.pool_pick(native) == :none
    # Nothing was opened that could be closed.
    refute_received {:host, :close}
  end

  test "one that is not what was started is aborted" do
    {worker, _native} = start(%{adopt: {:error, :foreign}})
    StandInHost.greet(opened(), worker)
    assert {:error, %StartError{reason: :foreign_process} = error} = :gen_statem.call(worker, :await)
    assert Exception.message(error) =~ "neither the one that /stand/in was started as"
    assert_received {:host, :abort}
    assert_received {:host, :close}
  end

  test "one that does not greet in time is aborted" do
    {worker, _native} = start(%{}, start_timeout: 1)
    assert {:error, %StartError{reason: :timeout}} = :gen_statem.call(worker, :await)
    assert_received {:host, :abort}
    assert_received {:host, :close}
  end

  test "one whose init: fails is aborted" do
    {worker, _native} = start(%{}, init: "what nobody runs")
    StandInHost.greet(opened(), worker)
    eventually(fn -> match?({:starting, %{steps: {_, {:code, _}}}}, :sys.get_state(worker)) end)
    {:starting, %{steps: {ref, _step}}} = :sys.get_state(worker)
    send(worker, {:steps, ref, {{:error, %PythonError{type: "ValueError", message: "no"}}, ["printed"]}})

    assert {:error, %StartError{reason: :init_failed, output: ["printed"]} = error} =
             :gen_statem.call(worker, :await)

    assert Exception.message(error) =~ "init: failed in a new worker:"
    assert_received {:host, :abort}
    assert_received {:host, :close}
  end

  test "one that ends before it greets says how" do
    {worker, _native} = start()
    StandInHost.ends(opened(), worker, 97)
    assert {:error, %StartError{reason: :native_load_failed}} = :gen_statem.call(worker, :await)
  end

  test "one that ends is replaced, and so is one that is killed for what it says" do
    {worker, host, _native} = ready()
    StandInHost.ends(host, worker, 3)
    told({:ended, worker, %WorkerError{reason: :exit, exit_status: 3}})

    second = opened()
    assert second.ref != host.ref
    # What the first one still had to say is for nobody.
    StandInHost.ends(host, worker, 4)
    StandInHost.greet(host, worker)
    StandInHost.greet(second, worker)
    assert :gen_statem.call(worker, :await) == :ok

    send(worker, {:typhon, second.channel, {:bad_frame, "nonsense"}})
    assert_receive {:host, :kill}, @limit
    told({:ended, worker, %WorkerError{reason: :protocol, exit_status: 137, signal: "SIGKILL"}})
    opened()
    assert %{restarts: 2} = Worker.info(worker)
  end

  test "a call that was given up is interrupted, and one that stands still is killed" do
    {worker, host, _native} = ready(%{stopped?: true}, grace: 1)
    send(worker, {:typhon, host.channel, {:overdue, 7}})
    assert_receive {:host, {:interrupt, 7}}, @limit

    # Nothing waits for it: it may stand still for as long as it likes.
    Worker.look(worker)
    assert %{state: :ready} = Worker.info(worker)
    refute_received {:host, :kill}
  end

  test "it is told to go, and seen off, when its pool stops" do
    {worker, host, native} = ready()
    Worker.leave(worker)
    assert_receive {:host, :close}, @limit
    assert %{state: :leaving} = Worker.info(worker)
    assert Native.pool_pick(native) == :none
    StandInHost.ends(host, worker, 0)
    stop_supervised!({Worker, 0, 1})
    assert_received {:host, {:see_off, true}}
  end

  test "its supervisor ends it without a word before" do
    {_worker, _host, _native} = ready()
    stop_supervised!({Worker, 0, 1})
    assert_received {:host, :close}
    assert_received {:host, {:see_off, false}}
  end

  test "one that ends while its pool waits for its calls is not waited for once more" do
    {worker, host, native} = ready(%{}, shutdown: @limit)
    assert {:wait, _, _, _} = Native.call(native, make_ref(), 0, "time", "sleep", [1], %{}, :infinity, 0)
    assert %{busy: true} = Worker.info(worker)
    # Its supervisor comes first.
    :sys.suspend(worker)
    StandInHost.ends(host, worker, 0)
    stop_supervised!({Worker, 0, 1})
    assert_received {:host, {:see_off, true}}
  end

  test "one that gives up its place ends, and leaves none behind" do
    {worker, _host, native} = ready()
    monitor = Process.monitor(worker)
    Worker.retire(worker)
    assert_receive {:DOWN, ^monitor, :process, _, {:shutdown, :retired}}, @limit
    assert_received {:host, {:see_off, false}}
    assert Native.pool_pick(native) == :none
  end

  test "one that has not greeted has nothing to finish" do
    {worker, _native} = start()
    opened()
    monitor = Process.monitor(worker)
    Worker.retire(worker)
    assert_receive {:DOWN, ^monitor, :process, _, {:shutdown, :retired}}, @limit
    assert_received {:host, :abort}
    assert_received {:host, :close}
  end

  test "a successor waits for its place" do
    {worker, native} = start(%{}, [], :successor)
    StandInHost.greet(opened(), worker)
    told({:waiting, worker})
    assert %{state: :waiting} = Worker.info(worker)
    assert Native.pool_pick(native) == :none
    Worker.take_place(worker)
    eventually(fn -> Worker.info(worker).state == :ready end)
    assert {0, _where} = Native.pool_pick(native)
  end

  test "a session that has it loses it with its host" do
    {worker, host, _native} = ready()
    assert {:ok, grant} = :gen_statem.call(worker, {:checkout, make_ref(), :now})
    assert %{reserved: true} = Worker.info(worker)
    before = :atomics.get(grant.state, 1)
    StandInHost.ends(host, worker, 1)
    opened()
    assert %{reserved: false} = Worker.info(worker)
    refute :atomics.get(grant.state, 1) == before
  end
end
