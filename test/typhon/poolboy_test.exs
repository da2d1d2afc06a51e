# Debian's erlang-poolboy lies in OTP's own library folder, which Mix does not prune (prune_code_paths).
unless Code.ensure_loaded?(:poolboy) do
  case Path.wildcard("#{:code.lib_dir()}/poolboy-*/ebin") do
    [ebin | _] -> Code.append_path(ebin)
    [] -> raise "poolboy is not installed: apt-get install erlang-poolboy (scripts/setup test does it)"
  end
end

defmodule Typhon.PoolboyTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.StartError

  doctest Typhon.Worker

  defp start_poolboy(pool_options, worker_options \\ []) do
    worker_options = Keyword.merge([python_path: [py_dir()], stdio: :discard], worker_options)
    pool_options = Keyword.merge([worker_module: Typhon.Worker, size: 2, max_overflow: 1], pool_options)
    # With a spec of six elements, which poolboy gives.
    {id, start, _restart, shutdown, type, _modules} =
      :poolboy.child_spec(make_ref(), pool_options, worker_options)

    start_supervised!(%{id: id, start: start, restart: :temporary, shutdown: shutdown, type: type})
  end

  defp os_pid(worker), do: worker |> worker() |> Map.fetch!(:os_pid)

  defp free(pool), do: elem(:poolboy.status(pool), 1)

  test "calls through a transaction" do
    pool = start_poolboy([])
    assert :poolboy.transaction(pool, &Typhon.call(&1, :math, :sqrt, [16])) == {:ok, 4.0}
    assert {:ready, 2, 0, 0} = :poolboy.status(pool)
  end

  test "as the child of a supervisor, by its name" do
    spec =
      :poolboy.child_spec(
        :kit_poolboy,
        [name: {:local, :kit_poolboy}, worker_module: Typhon.Worker, size: 1],
        []
      )

    {:ok, supervisor} = Supervisor.start_link([spec], strategy: :one_for_one)
    assert :poolboy.transaction(:kit_poolboy, &Typhon.call!(&1, :math, :sqrt, [16])) == 4.0
    Supervisor.stop(supervisor)
  end

  test "whoever has a worker has a Python to itself, with its state" do
    pool = start_poolboy([])

    1..20
    |> Enum.map(fn i ->
      async(fn ->
        :poolboy.transaction(
          pool,
          fn py ->
            Typhon.call!(py, :sample, :put, ["key", i])
            pid = Typhon.call!(py, :sample, :pid, [])
            for _ <- 1..5, do: assert(Typhon.call!(py, :sample, :get, ["key"]) == i)
            assert Typhon.call!(py, :sample, :pid, []) == pid
          end,
          60_000
        )
      end)
    end)
    |> await_many()
  end

  @tag :os_process
  test "a worker that is killed is replaced, and its Python goes" do
    pool = start_poolboy(size: 1, max_overflow: 0)
    worker = :poolboy.checkout(pool)
    os_pid = os_pid(worker)
    Process.exit(worker, :kill)
    eventually(fn -> not os_process?(os_pid) end)
    eventually(fn -> free(pool) == 1 end)

    :poolboy.transaction(pool, fn py ->
      assert py != worker
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end)
  end

  @tag :os_process
  test "a Python that is killed is replaced below the same worker" do
    pool = start_poolboy(size: 1, max_overflow: 0)

    :poolboy.transaction(pool, fn py ->
      os_pid = os_pid(py)
      kill(os_pid, "KILL")
      eventually(fn -> worker(py).os_pid not in [nil, os_pid] end)
      assert Typhon.call(py, :math, :sqrt, [16], timeout: 30_000) == {:ok, 4.0}
    end)
  end

  @tag :os_process
  test "workers beyond the size end when they are given back, and their Pythons go" do
    pool = start_poolboy(size: 1, max_overflow: 2)
    workers = for _ <- 1..3, do: :poolboy.checkout(pool)
    os_pids = Enum.map(workers, &os_pid/1)
    assert length(Enum.uniq(os_pids)) == 3
    assert :full = :poolboy.checkout(pool, false)
    for worker <- workers, do: :poolboy.checkin(pool, worker)
    eventually(fn -> Enum.count(os_pids, &os_process?/1) == 1 end)
    assert {:ready, 1, 0, 0} = :poolboy.status(pool)
    eventually(fn -> Enum.count(workers, &Process.alive?/1) == 1 end)
  end

  test "a process that dies with a worker gives it back" do
    pool = start_poolboy(size: 1, max_overflow: 0)
    test = self()

    process =
      spawn(fn ->
        send(test, {:has, :poolboy.checkout(pool)})
        Process.sleep(:infinity)
      end)

    assert_receive {:has, _worker}
    assert free(pool) == 0
    Process.exit(process, :kill)
    eventually(fn -> free(pool) == 1 end)
    assert :poolboy.transaction(pool, &Typhon.call(&1, :math, :sqrt, [16])) == {:ok, 4.0}
  end

  @tag :os_process
  test "the end of the pool leaves nothing" do
    pool = start_poolboy(size: 2)
    workers = for _ <- 1..3, do: :poolboy.checkout(pool)
    os_pids = Enum.map(workers, &os_pid/1)
    for worker <- workers, do: :poolboy.checkin(pool, worker)
    :poolboy.stop(pool)
    eventually(fn -> not Enum.any?(os_pids, &os_process?/1) end)
    eventually(fn -> not Enum.any?(workers, &Process.alive?/1) end)

    for worker <- workers,
        do: assert({:error, %Typhon.PoolError{}} = Typhon.call(worker, :math, :sqrt, [16]))
  end

  test "options that poolboy's own stand for are refused, and a bad Python is an error" do
    assert_raise ArgumentError, ~r/workers: must be 1 .* poolboy's size:/, fn ->
      Typhon.Worker.start_link(workers: 2)
    end

    assert_raise ArgumentError, ~r/name: is not for a worker of poolboy/, fn ->
      Typhon.Worker.start_link(name: :python)
    end

    assert_raise ArgumentError, ~r/Typhon.Worker.start_link\/1 has no option :pyton/, fn ->
      Typhon.Worker.start_link(pyton: "python3")
    end

    assert {:error, %StartError{reason: :python_not_found}} =
             Typhon.Worker.start_link(python: "no-such-python")
  end
end
