defmodule Typhon.RoutedTest do
  # A worker with several threads in Python (an event loop, threads that serve calls): whoever has nothing to do reads the ring,
  # else the router does. Each frame must reach whom it is for, whoever reads it.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  for concurrency <- [1, 3] do
    describe "concurrency: #{concurrency}" do
      setup do
        py = start_pool(concurrency: unquote(concurrency))
        assert Typhon.call!(py, :talk, :sleep, [0, 1]) == 1
        [py: py]
      end

      test "one caller, each kind of call after each other one", %{py: py} do
        for {_, one} <- kinds(py), {_, other} <- kinds(py), _ <- 1..20 do
          assert one.() == :right
          assert other.() == :right
        end

        assert_mailbox_empty()
      end

      test "several callers, with pauses in which everybody falls asleep", %{py: py} do
        1..6
        |> Enum.map(fn _ ->
          async(fn ->
            for _ <- 1..150 do
              {name, kind} = Enum.random(kinds(py))
              assert {name, kind.()} == {name, :right}
              if :rand.uniform(10) == 1, do: Process.sleep(:rand.uniform(2))
            end

            assert_mailbox_empty()
          end)
        end)
        |> await_many()
      end

      test "a call is given up while it waits for its callback", %{py: py} do
        for _ <- 1..10 do
          function = fn x ->
            Process.sleep(20)
            x
          end

          case Typhon.call(py, :talk, :apply, [function, 1], timeout: 5) do
            {:error, %Typhon.TimeoutError{}} -> :ok
            # It was there before this process looked for it.
            {:ok, 1} -> :ok
          end

          assert kinds(py)[:call].() == :right
          assert kinds(py)[:callback].() == :right
        end

        assert_mailbox_empty()
      end
    end
  end

  @tag :os_process
  test "it ends at once while its threads wait for work" do
    for _ <- 1..5 do
      {:ok, py} = Typhon.start_link(workers: 1, concurrency: 2, python_path: [py_dir()])
      os_pid = Typhon.call!(py, :os, :getpid, [])
      for _ <- 1..50, do: assert(kinds(py)[:call].() == :right)
      assert Typhon.stop(py) == :ok
      refute File.exists?("/proc/#{os_pid}")
    end
  end

  defp kinds(py) do
    [
      call: fn -> right(Typhon.call(py, :operator, :add, [1, 2]), 3) end,
      callback: fn -> right(Typhon.call(py, :talk, :apply, [&(&1 + 1), 1]), 2) end,
      nested: fn ->
        function = fn x -> Typhon.call!(py, :operator, :add, [x, 1]) end
        right(Typhon.call(py, :talk, :apply, [function, 1]), 2)
      end,
      coroutine: fn -> right(Typhon.call(py, :talk, :sleep, [0, 5]), 5) end,
      asking: fn -> right(Typhon.call(py, :talk, :ask, [&(&1 + 1), 1]), 2) end
    ]
  end

  defp right({:ok, value}, value), do: :right
  defp right(other, _value), do: other
end
