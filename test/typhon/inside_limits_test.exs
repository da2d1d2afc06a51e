defmodule Typhon.InsideLimitsTest do
  # limits: [memory:] of interpreters inside the VM. Not async: it takes some hundred megabytes of this process.
  use ExUnit.Case, async: false

  import Typhon.TestHelper
  alias Typhon.PythonError

  @moduletag :capture_log
  @limit 100_000_000
  @note "This worker's limit is memory: #{@limit} bytes (limits: of its pool)."

  defp inside(options \\ [limits: [memory: @limit]]), do: start_pool([isolation: :interpreter] ++ options)

  defp run(py, code), do: Typhon.call(py, :builtins, :exec, [code, %{}], timeout: 120_000)

  test "an allocation beyond it is a MemoryError that names the limit, and the worker goes on" do
    py = inside()

    for _ <- 1..3 do
      assert {:error, %PythonError{type: "MemoryError", notes: [@note]} = error} =
               Typhon.call(py, :sample, :hold, [1_000_000_000])

      assert Exception.message(error) =~ @note
    end

    assert Typhon.call(py, :sample, :hold, [80_000_000]) == {:ok, 80_000_000}
    assert {:error, %PythonError{type: "MemoryError"}} = Typhon.call(py, :sample, :hold, [90_000_000])
    assert Typhon.call(py, :sample, :hold, [1]) == {:ok, 1}
    assert Typhon.call(py, :sample, :hold, [90_000_000]) == {:ok, 90_000_000}
    assert worker(py).restarts == 0
  end

  test "many small ones, and what grows, too" do
    py = inside()

    for code <- [
          "x = []\nwhile True: x.append([0] * 100)",
          "x = []\nwhile True: x.append(object())",
          "x = {}\nwhile True: x[len(x)] = 1.5 * len(x)",
          "x = bytearray()\nwhile True: x += b'x' * 10_000",
          "x = 'x'\nwhile True: x += x"
        ] do
      assert {:error, %PythonError{type: "MemoryError", notes: [@note]}} = run(py, code)
    end

    # What was freed counts no more.
    assert run(py, "for i in range(1000): x = bytearray(10_000_000)") == {:ok, nil}
    assert run(py, "for i in range(200): x = [object() for i in range(50_000)]") == {:ok, nil}
    assert worker(py).restarts == 0
  end

  test "arrays of numpy before they are made, also when it had been there before the limit" do
    for options <- [[limits: [memory: @limit]], [], [limits: [memory: @limit]]] do
      py = inside(options)
      big = run(py, "import numpy\nnumpy.ones(25_000_000)")

      if options == [],
        do: assert(big == {:ok, nil}),
        else: assert({:error, %PythonError{notes: [@note]}} = big)

      assert run(py, "import numpy\nfor _ in range(100): x = numpy.ones(5_000_000)") == {:ok, nil}
      assert Typhon.stop(py) == :ok
    end
  end

  test "is taken off when another worker gets the interpreter" do
    py = inside()
    who = Typhon.call!(py, :sample, :pid, [])
    assert {:error, %PythonError{type: "MemoryError"}} = Typhon.call(py, :sample, :hold, [150_000_000])
    assert Typhon.stop(py) == :ok

    # It is cleaned first, and there may be others that nobody uses: pools are started until one has got this one.
    py =
      Enum.find(
        Stream.repeatedly(fn -> Process.sleep(100) && inside([]) end),
        &(Typhon.call!(&1, :sample, :pid, []) == who)
      )

    assert Typhon.call(py, :sample, :hold, [150_000_000]) == {:ok, 150_000_000}
    # Without a limit the error is Python's own.
    assert {:error, %PythonError{type: "MemoryError", notes: []}} =
             Typhon.call(py, :sample, :raise_memory_error, [])
  end

  test "is each interpreter's own" do
    [limited, free] = [inside(), inside([])]
    assert Typhon.call(free, :sample, :hold, [150_000_000]) == {:ok, 150_000_000}
    assert Typhon.call(limited, :sample, :hold, [80_000_000]) == {:ok, 80_000_000}
    assert {:error, %PythonError{type: "MemoryError"}} = Typhon.call(limited, :sample, :hold, [150_000_000])
  end

  test "holds before user code runs, init: among it" do
    assert {:error, %Typhon.StartError{reason: :init_failed} = error} =
             Typhon.start_link(
               workers: 1,
               stdio: :discard,
               isolation: :interpreter,
               limits: [memory: @limit],
               init: "x = bytearray(1_000_000_000)"
             )

    assert Exception.message(error) =~ @note
  end

  test "threads of the worker have it together" do
    py = inside(limits: [memory: @limit], concurrency: 4)
    code = "import threading\nx = []\nwhile True: x.append([0] * 100)"
    results = 1..4 |> Enum.map(fn _ -> Task.async(fn -> run(py, code) end) end) |> Task.await_many(:infinity)
    for result <- results, do: assert({:error, %PythonError{type: "MemoryError"}} = result)
    assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
  end

  test "what the operating system limits for whole processes is refused, with a sentence" do
    for limit <- [cpu_time: 1, open_files: 64, nice: 5] do
      options = [isolation: :interpreter, limits: [limit, memory: @limit]]
      error = assert_raise ArgumentError, fn -> Typhon.start_link(options) end
      assert Exception.message(error) =~ "limits: of #{elem(limit, 0)} need isolation: :process"
    end
  end
end
