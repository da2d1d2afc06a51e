defmodule Typhon.ErlportNestingTest do
  @moduledoc "While Python waits for the BEAM, an instance runs on top of that what it is asked."
  use ExUnit.Case, async: true

  defmodule Back do
    @moduledoc false

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

  test "where that comes to the end of Python's stack, the error is one of ErlPort's", %{instance: instance} do
    depth = Back.nest(instance, self(), 2_000)
    assert_received {:failed, reason}
    assert {:python, :"builtins.RecursionError", message, [frame | _]} = reason
    assert List.to_string(message) =~ "maximum recursion depth exceeded"
    assert List.to_string(frame) =~ "File"
    # That is where it ended.
    refute_received {:failed, _}
    assert depth in 100..1_000
    assert :python.call(instance, :sys, :getrecursionlimit, []) == 1_000
  end
end
