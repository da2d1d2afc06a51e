defmodule Typhon.CancelTest do
  # Calls that nobody waits for any more: Python is interrupted, nothing is left. Not async: it counts what the whole BEAM holds.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  @moduletag timeout: 120_000

  setup do
    dir = Path.join(System.tmp_dir!(), "typhon-cancel-#{System.pid()}-#{System.unique_integer([:positive])}")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    {:ok, dir: dir}
  end

  # For a while after it was killed its tables are being deleted: it cannot be sent anything, and those who watch it do not know.
  defp slow_to_die(fun) do
    spawn(fn ->
      table = :ets.new(:large, [])
      for i <- 1..200_000, do: :ets.insert(table, {i})
      fun.()
    end)
  end

  describe "a caller that takes long to die" do
    # By then others drain the answers: the handle goes on a scheduler's thread, and tells the worker at once.
    test "is answered with an object of Python, while others call", %{dir: dir} do
      py = start_pool()
      assert Typhon.call(py, :converse, :wait_for, [dir]) == {:ok, nil}

      others =
        for i <- 1..8 do
          spawn_link(fn ->
            Enum.find(Stream.cycle([i]), fn i ->
              {:ok, ^i} = Typhon.call(py, :sample, :echo, [i])

              receive do
                :stop -> true
              after
                0 -> false
              end
            end)
          end)
        end

      for n <- 1..3 do
        gate = Path.join(dir, "gate#{n}")
        caller = slow_to_die(fn -> Typhon.call(py, :converse, :late_object, [gate]) end)

        eventually(fn ->
          Process.info(caller, :current_function) == {:current_function, {Typhon.Call, :request, 9}}
        end)

        Process.exit(caller, :kill)
        File.touch!(gate)
      end

      for pid <- others, do: send(pid, :stop)
      eventually(fn -> not Enum.any?(others, &Process.alive?/1) end)
      eventually(fn -> Typhon.call(py, :sample, :counters_alive, []) == {:ok, 0} end)
      eventually(fn -> in_flight(py) == 0 end)
    end

    test "is asked with an object of Python", %{dir: dir} do
      py = start_pool()
      gate = Path.join(dir, "gate")
      caller = slow_to_die(fn -> Typhon.call(py, :converse, :apply_late_to_object, [& &1, gate]) end)
      eventually(fn -> running(py) == 1 end)
      Process.exit(caller, :kill)
      File.touch!(gate)
      assert Typhon.call(py, :math, :sqrt, [16], timeout: 20_000) == {:ok, 4.0}
      eventually(fn -> Typhon.call(py, :sample, :counters_alive, []) == {:ok, 0} end)
      eventually(fn -> in_flight(py) == 0 end)
    end
  end
end
