defmodule Typhon.ErlportNestingTest do
  @moduledoc "While Python waits for the BEAM, an instance runs on top of that what it is asked."
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  defmodule Back do
    @moduledoc false

    def nap, do: Process.sleep(20)

    def outlive(instance) do
      # Its instance takes it with it.
      {:links, links} = Process.info(self(), :links)
      for pid <- links, do: Process.unlink(pid)
      send(:typhon_nesting_test, {:outlives, self()})

      receive do
        :go -> :ok
      end

      told =
        try do
          :python.call(instance, :operator, :add, [1, 2])
        catch
          _, reason -> reason
        end

      send(:typhon_nesting_test, {:told, told})
    end

    def through_another(_instance, 0), do: 0

    def through_another(instance, depth) do
      args = [__MODULE__, :through_another, [instance, depth - 1]]
      1 + Task.await(Task.async(:python, :call, [instance, :erlport_sample, :back, args]), :infinity)
    end

    def nest(_instance, _test, 0), do: 0

    def nest(instance, test, depth) do
      1 + :python.call(instance, :erlport_sample, :back, [__MODULE__, :nest, [instance, test, depth - 1]])
    catch
      :error, reason ->
        send(test, {:failed, reason})
        0
    end
  end

  setup do
    {:ok, instance} = :python.start_link(python_path: ~c"#{Path.join(__DIR__, "py")}")
    on_exit(fn -> Process.alive?(instance) && :python.stop(instance) end)
    {:ok, instance: instance}
  end

  defp failed do
    receive do
      {:failed, reason} -> [reason | failed()]
    after
      0 -> []
    end
  end

  test "where that comes to the end of Python's stack, the error is one of ErlPort's", %{instance: instance} do
    depth = Back.nest(instance, self(), 2_000)
    assert_received {:failed, reason}
    # Those above may need more frames when they go on.
    for reason <- [reason | failed()] do
      assert {:python, :"builtins.RecursionError", message, [frame | _]} = reason
      assert List.to_string(message) =~ "maximum recursion depth exceeded"
      assert List.to_string(frame) =~ "File"
    end

    assert depth in 100..1_000
    assert :python.call(instance, :sys, :getrecursionlimit, []) == 1_000
  end

  test "calls that others make wait before it comes to that", %{instance: instance} do
    calls =
      for _ <- 1..1_000, do: Task.async(:python, :call, [instance, :erlport_sample, :back, [Back, :nap, []]])

    assert await_many(calls) == List.duplicate(:ok, 1_000)
  end

  test "those that a callback makes itself do not wait, however many others do", %{instance: instance} do
    test = self()

    others =
      for _ <- 1..200, do: Task.async(:python, :call, [instance, :erlport_sample, :back, [Back, :nap, []]])

    nests = for _ <- 1..2, do: Task.async(fn -> Back.nest(instance, test, 70) end)
    assert await_many(nests) == [70, 70]
    assert await_many(others) == List.duplicate(:ok, 200)
    refute_received {:failed, _}
  end

  test "nor does any wait for ever that a callback waits for", %{instance: instance} do
    assert Back.through_another(instance, 67) == 67
  end

  test "a callback that outlives its instance is told what the instance ended with", %{instance: instance} do
    Process.unlink(instance)
    test = self()
    Process.register(test, :typhon_nesting_test)

    call =
      Task.async(fn ->
        catch_error(:python.call(instance, :erlport_sample, :back, [Back, :outlive, [instance]]))
      end)

    assert_receive {:outlives, pid}, limit()
    :python.stop(instance)
    assert await(call) == :stopped
    send(pid, :go)
    assert_receive {:told, told}, limit()
    assert told == catch_exit(:python.call(instance, :operator, :add, [1, 2]))
  end
end
