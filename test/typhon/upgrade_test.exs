defmodule Typhon.UpgradeTest do
  # The native library under code loading: a new version while calls are under way, and its removal with terms of it alive.
  # In a VM of its own, as the library is one for the whole VM.
  use ExUnit.Case, async: true

  @script ~S"""
  {:ok, py} = Typhon.start_link(workers: 2)

  callers =
    for i <- 1..16 do
      Task.async(fn -> for j <- 1..2_000, do: {:ok, i + j} == Typhon.call(py, :operator, :add, [i, j]) end)
    end

  for _ <- 1..10 do
    Process.sleep(5)
    {:module, _} = :code.load_file(Typhon.Native)
    # A caller that polls is in the library between its turns: it leaves the old one with its answer.
    true = Enum.any?(1..1_000, fn _ -> :code.soft_purge(Typhon.Native) or Process.sleep(1) == :never end)
  end

  true = callers |> Task.await_many(60_000) |> List.flatten() |> Enum.all?()
  {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
  :ok = Typhon.stop(py)

  {:ok, py} = Typhon.start_link(workers: 1)
  {:ok, object} = Typhon.call(py, :collections, :deque, [[1]])
  {:ok, binary} = Typhon.call(py, :operator, :mul, [Typhon.bytes("x"), 1_000_000])

  # Deleted and purged: its threads are gone, what points into it stays good.
  true = :code.delete(Typhon.Native)
  :code.purge(Typhon.Native)
  1_000_000 = byte_size(binary)
  true = binary == String.duplicate("x", 1_000_000)
  "#Typhon.Object<collections.deque" <> _ = inspect(object)

  {:module, _} = :code.load_file(Typhon.Native)
  {:ok, py} = Typhon.start_link(workers: 1)
  {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
  IO.puts("upgraded")
  """

  # Large binaries between the VM and an interpreter inside it: out on loan while the library is replaced, and when it goes.
  @loans ~S"""
  loans = fn -> {:ok, %{workers: [w]}} = Typhon.info(:loans); w.loans end
  {:ok, py} = Typhon.start_link(name: :loans, workers: 1, isolation: :interpreter)
  large = :crypto.strong_rand_bytes(100_000)
  {:ok, view} = Typhon.call(py, :collections, :deque, [[Typhon.buffer(large)]])
  {:ok, result} = Typhon.call(py, :operator, :mul, [Typhon.bytes("xy"), 500_000])

  callers =
    for _ <- 1..8 do
      Task.async(fn -> for _ <- 1..300, do: {:ok, large} == Typhon.call(py, :builtins, :bytes, [Typhon.buffer(large)]) end)
    end

  for _ <- 1..10 do
    Process.sleep(5)
    {:module, _} = :code.load_file(Typhon.Native)
    true = Enum.any?(1..1_000, fn _ -> :code.soft_purge(Typhon.Native) or Process.sleep(1) == :never end)
  end

  true = callers |> Task.await_many(60_000) |> List.flatten() |> Enum.all?()
  {:ok, ^large} = Typhon.call(py, view, :pop, [])
  true = result == String.duplicate("xy", 500_000)

  settle = fn expected ->
    Enum.any?(1..1_000, fn _ ->
      for pid <- Process.list(), do: :erlang.garbage_collect(pid)
      loans.() == expected or Process.sleep(10) == :never
    end)
  end

  true = settle.(%{to_python: 0, to_elixir: 1_000_000})
  {:ok, kept} = Typhon.call(py, :builtins, :bytes, [Typhon.buffer(large)])
  :ok = Typhon.stop(py)

  true = :code.delete(Typhon.Native)
  :code.purge(Typhon.Native)
  true = kept == large
  true = result == String.duplicate("xy", 500_000)
  {:module, _} = :code.load_file(Typhon.Native)
  true = kept == large
  IO.puts("upgraded")
  """

  @tag timeout: 120_000
  test "the library is replaced under load, and removed, without harm", do: assert_upgraded(@script)

  @tag timeout: 120_000
  test "and so it is while binaries are on loan to an interpreter inside the VM", do: assert_upgraded(@loans)

  defp assert_upgraded(script) do
    paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])

    {output, status} =
      System.cmd("elixir", paths ++ ["--no-halt", "-e", start() <> script <> "System.halt(0)"],
        stderr_to_stdout: true
      )

    assert {status, output =~ "upgraded"} == {0, true}, output
  end

  defp start, do: "{:ok, _} = Application.ensure_all_started(:typhon)\n"
end
