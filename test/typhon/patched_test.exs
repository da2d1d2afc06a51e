defmodule Typhon.PatchedTest do
  # Python in which a library has put others into the places of threads, locks, selectors and sleep: a stand-in
  # (test/support/py/patches.py), and gevent itself where python3 has it. scripts/test installs it.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.TimeoutError

  # A pool whose Python is patched before its first coroutine function is called, by `init:` or by the module that is called; or after it.
  defp start_patched(way, options) do
    {:ok, device} = StringIO.open("")
    patch = Keyword.fetch!(options, :patch)
    options = options |> Keyword.delete(:patch) |> Keyword.merge(stdio: device)

    case way do
      :init ->
        {start_pool([init: patch] ++ options), :patched_work, device}

      :middle ->
        py = start_pool(options)
        assert Typhon.call(py, :patched_work, :add, [1, 2], timeout: limit()) == {:ok, 3}
        assert Typhon.call(py, :builtins, :exec, [patch]) == {:ok, nil}
        {py, :patched_work, device}

      :import ->
        {start_pool(options), :patched_at_import, device}
    end
  end

  defp assert_all_works(py, module, device) do
    call = fn function, args -> Typhon.call(py, module, function, args, timeout: limit()) end

    assert call.(:add, [1, 2]) == {:ok, 3}
    assert call.(:add_all, [20]) == {:ok, 190}
    assert call.(:ask, [fn x -> x * 2 end, 21]) == {:ok, 42}
    assert call.(:apply, [fn x -> x * 2 end, 21]) == {:ok, 42}
    assert call.(:ask_beam, [-3]) == {:ok, 3}
    assert py |> Typhon.stream(module, :produce, [5]) |> Enum.to_list() == Enum.to_list(0..4)
    assert py |> Typhon.stream(module, :produce_slowly, [5]) |> Enum.to_list() == Enum.to_list(0..4)
    assert py |> Typhon.stream(module, :produce, [1_000]) |> Enum.take(2) == [0, 1]

    assert Typhon.multi(py, module, :add, for(i <- 1..5, do: [i, i])) == for(i <- 1..5, do: {:ok, 2 * i})
    tasks = for i <- 1..20, do: Typhon.async(py, module, :add, [i, i], timeout: limit())
    assert Task.await_many(tasks, limit()) == for(i <- 1..20, do: {:ok, 2 * i})

    assert call.(:speak, ["text"]) == {:ok, nil}
    eventually(fn -> StringIO.contents(device) |> elem(1) =~ "printed text" end)

    # A deadline ends the work in Python, and the worker goes on.
    assert {:error, %TimeoutError{}} = Typhon.call(py, module, :wait_for_ever, [], timeout: 50)
    eventually(fn -> in_flight(py) == 0 end)
    %{restarts: restarts} = worker(py)

    assert {:error, %TimeoutError{}} =
             overrun(py, fn timeout, mark ->
               Typhon.call(py, module, :sleep_marked, [600, mark], timeout: timeout)
             end)

    assert call.(:sleep, [0.001]) == {:ok, "slept"}
    assert call.(:add, [1, 2]) == {:ok, 3}
    assert worker(py).restarts == restarts
  end

  describe "threads that are none" do
    for way <- [:init, :import, :middle] do
      test "do not stop coroutine functions, streams, callbacks, output and deadlines (#{way})" do
        {py, module, device} = start_patched(unquote(way), patch: "import patches; patches.patch()")
        assert_all_works(py, module, device)
        assert Typhon.call(py, :patches, :is_patched, []) == {:ok, true}
        # Typhon started none of them as such.
        assert Typhon.call(py, :builtins, :eval, ["len(__import__('patches').never_run)"]) == {:ok, 0}
      end
    end

    test "nor the threads of a worker" do
      {py, module, _} = start_patched(:init, patch: "import patches; patches.patch()", concurrency: 3)

      # Of several threads that import one module at once all but one wait for its lock, which the stand-in refuses.
      assert Typhon.call(py, module, :add, [1, 2], timeout: limit()) == {:ok, 3}
      tasks = for _ <- 1..9, do: Typhon.async(py, module, :sleep, [0.01], timeout: limit())
      assert Task.await_many(tasks, limit()) == List.duplicate({:ok, "slept"}, 9)
      assert py |> Typhon.stream(module, :produce_slowly, [5]) |> Enum.to_list() == Enum.to_list(0..4)
    end
  end

  describe "gevent" do
    @describetag :any_extension
    @python System.find_executable("python3") || "python3"
    @code "import sys, importlib.util as i; sys.exit(i.find_spec('gevent') is None)"
    unless match?({_, 0}, System.cmd(@python, ["-c", @code])),
      do: @describetag(skip: "python3 has no gevent: scripts/test installs it")

    @patch "import gevent.monkey; gevent.monkey.patch_all()"

    for way <- [:init, :middle] do
      test "patches all, and all works (#{way})" do
        {py, module, device} = start_patched(unquote(way), patch: @patch)
        assert_all_works(py, module, device)

        assert Typhon.call(py, :builtins, :eval, ["__import__('time').sleep.__module__"]) ==
                 {:ok, "gevent.hub"}
      end
    end

    test "has greenlets that call the BEAM, and what asyncio gives to threads" do
      {py, _, _} = start_patched(:init, patch: @patch)

      code = """
      def ask(function, count):
          import gevent
          jobs = [gevent.spawn(function, i) for i in range(count)]
          gevent.joinall(jobs)
          return [job.value for job in jobs]

      async def hand_over(count):
          import asyncio
          return [await asyncio.to_thread(abs, -i) for i in range(count)]
      """

      run = fn expression, args ->
        Typhon.call(py, :converse, :evaluate, [expression | args], timeout: limit())
      end

      assert Typhon.call(py, :"typhon._life", :execute, [code, "test"]) == {:ok, nil}
      assert run.("__import__('__main__').ask(*args)", [fn i -> i * i end, 4]) == {:ok, [0, 1, 4, 9]}
      assert run.("__import__('__main__').hand_over(*args)", [4]) == {:ok, [0, 1, 2, 3]}
    end
  end
end
