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
  "#Typhon.Object<collections.deque>" = inspect(object)

  {:module, _} = :code.load_file(Typhon.Native)
  {:ok, py} = Typhon.start_link(workers: 1)
  {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
  IO.puts("upgraded")
  """

  test "the library is replaced under load, and removed, without harm" do
    paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])

    {output, status} =
      System.cmd("elixir", paths ++ ["--no-halt", "-e", start() <> @script <> "System.halt(0)"],
        stderr_to_stdout: true
      )

    assert {status, output =~ "upgraded"} == {0, true}, output
  end

  defp start, do: "{:ok, _} = Application.ensure_all_started(:typhon)\n"
end
