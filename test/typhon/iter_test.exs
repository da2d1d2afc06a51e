defmodule Typhon.IterTest do
  # Enumerables that Python pulls from.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PythonError, TimeoutError}

  defp python(py, expression, args, options \\ []),
    do: Typhon.call(py, :converse, :evaluate, [expression | args], options)

  # Numbers from 0 on; the agent knows how many were made, and whether the end was told.
  defp counted(last \\ :infinity) do
    {:ok, agent} = Agent.start_link(fn -> %{made: 0, begun: 0, ended: 0} end)

    stream =
      Stream.resource(
        fn ->
          Agent.update(agent, &%{&1 | begun: &1.begun + 1})
          0
        end,
        fn
          n when n == last ->
            {:halt, n}

          n ->
            Agent.update(agent, &%{&1 | made: &1.made + 1})
            {[n], n + 1}
        end,
        fn _ -> Agent.update(agent, &%{&1 | ended: &1.ended + 1}) end
      )

    {agent, stream}
  end

  defp count(agent), do: Agent.get(agent, & &1)

  # Most tests share one worker, as calls do.
  setup_all do
    {:ok, py: start_pool()}
  end

  describe "iter/1" do
    test "lends lists, ranges, maps, streams", %{py: py} do
      assert Typhon.call(py, :builtins, :list, [Typhon.iter([])]) == {:ok, []}

      assert Typhon.call(py, :builtins, :list, [Typhon.iter([1, "zwei", :three, nil])]) ==
               {:ok, [1, "zwei", :three, nil]}

      assert Typhon.call(py, :builtins, :sum, [Typhon.iter(1..1_000)]) == {:ok, 500_500}
      assert Typhon.call(py, :builtins, :dict, [Typhon.iter(%{"a" => 1})]) == {:ok, %{"a" => 1}}
      assert Typhon.call(py, :builtins, :list, [Typhon.iter(Stream.map(1..3, &(&1 * 2)))]) == {:ok, [2, 4, 6]}
      assert Typhon.call(py, :builtins, :list, [Typhon.iter(MapSet.new([1]))]) == {:ok, [1]}
    end

    test "wherever it is in the arguments, and several of them", %{py: py} do
      assert python(py, "[a + b for a, b in zip(f['x'], f['y'][0])]", [
               %{"x" => Typhon.iter(1..500), "y" => [Typhon.iter(501..1_000)]}
             ]) ==
               {:ok, for({a, b} <- Enum.zip(1..500, 501..1_000), do: a + b)}

      assert Typhon.call(py, :builtins, :sorted, [Typhon.iter([2, 1])], kwargs: %{key: & &1}) == {:ok, [1, 2]}
    end

    test "is an iterator: used up once", %{py: py} do
      assert python(py, "(iter(f) is f, list(f), list(f), next(f, None))", [Typhon.iter(1..3)]) ==
               {:ok, {true, [1, 2, 3], [], nil}}

      # The same value lent twice is two iterators.
      lent = Typhon.iter(1..3)
      assert python(py, "(list(f), list(x))", [lent, lent]) == {:ok, {[1, 2, 3], [1, 2, 3]}}
      assert {:ok, 6} = Typhon.call(py, :builtins, :sum, [lent])
      assert {:ok, 6} = Typhon.call(py, :builtins, :sum, [lent])
    end

    test "1,000,000 elements", %{py: py} do
      assert Typhon.call(py, :builtins, :sum, [Typhon.iter(1..1_000_000)], timeout: 60_000) ==
               {:ok, 500_000_500_000}

      texts = Stream.map(1..1_000_000, &Integer.to_string/1)

      assert python(py, "sum(len(text) for text in f)", [Typhon.iter(texts)], timeout: 60_000) ==
               {:ok, 5_888_896}
    end

    test "large elements", %{py: py} do
      large = String.duplicate("x", 1_000_000)

      assert python(py, "sum(len(text) for text in f)", [Typhon.iter(Stream.duplicate(large, 100))]) ==
               {:ok, 100_000_000}
    end

    test "makes no more than is asked for, but a batch", %{py: py} do
      {agent, stream} = counted()
      assert Typhon.call(py, :talk, :take, [Typhon.iter(stream), 10]) == {:ok, Enum.to_list(0..9)}
      assert %{made: made, begun: 1, ended: 1} = count(agent)
      assert made <= 64 + 1

      {agent, stream} = counted()
      assert {:ok, elements} = Typhon.call(py, :talk, :take, [Typhon.iter(stream), 5_000])
      assert elements == Enum.to_list(0..4_999)
      assert %{made: made, ended: 1} = count(agent)
      assert made in 5_000..(5_000 + 4_097)
    end

    test "that is never looked at is never begun", %{py: py} do
      {agent, stream} = counted()
      assert Typhon.call(py, :sample, :type_of, [Typhon.iter(stream)]) == {:ok, "typhon.Iter"}
      assert %{made: 0, begun: 0, ended: 0} = count(agent)
    end

    test "runs in the process that made the call", %{py: py} do
      me = self()
      assert python(py, "list(f)", [Typhon.iter(Stream.map(1..2, fn _ -> self() end))]) == {:ok, [me, me]}
    end

    test "may call the pool itself", %{py: py} do
      roots = Stream.map(1..200, fn i -> Typhon.call!(py, :math, :sqrt, [i * i]) end)
      assert python(py, "sum(f)", [Typhon.iter(roots)]) == {:ok, 20_100.0}
    end

    test "may be nested: a callback lends another one", %{py: py} do
      inner = fn n -> Typhon.call!(py, :builtins, :sum, [Typhon.iter(1..n)]) end

      assert python(py, "[x(n) for n in f]", [Typhon.iter(1..100), inner]) ==
               {:ok, for(n <- 1..100, do: div(n * (n + 1), 2))}
    end

    test "an enumerable that is none", %{py: py} do
      assert {:error, %PythonError{type: "typhon.BeamError"} = error} =
               python(py, "list(f)", [Typhon.iter(5)])

      assert error.message =~ "Enumerable"
    end
  end

  describe "the clean-up of an enumerable" do
    test "runs when Python stops early", %{py: py} do
      {agent, stream} = counted()
      assert python(py, "next(f)", [Typhon.iter(stream)]) == {:ok, 0}
      assert %{begun: 1, ended: 1} = count(agent)
    end

    test "runs when Python closes it, once", %{py: py} do
      {agent, stream} = counted()
      ended = fn -> count(agent).ended end

      assert python(py, "(next(f), f.close(), x(), list(f), f.close(), x())", [Typhon.iter(stream), ended]) ==
               {:ok, {0, nil, 1, [], nil, 1}}

      assert %{begun: 1, ended: 1} = count(agent)
    end

    test "runs when Python has come to the end", %{py: py} do
      {agent, stream} = counted(1_000)
      ended = fn -> count(agent).ended end
      assert python(py, "(sum(f), x())", [Typhon.iter(stream), ended]) == {:ok, {499_500, 1}}
      assert %{begun: 1, ended: 1, made: 1_000} = count(agent)
    end

    test "runs when Python raises", %{py: py} do
      {agent, stream} = counted()

      assert {:error, %PythonError{type: "ZeroDivisionError"}} =
               python(py, "(next(f), 1 / 0)", [Typhon.iter(stream)])

      assert %{begun: 1, ended: 1} = count(agent)
    end

    test "runs when the call's time is over", %{py: py} do
      # Also when Python never stops to pull.
      for goes_on <- ["time.sleep(600)", "sum(f)"] do
        expression = "(next(f), pathlib.Path(x).touch(), #{goes_on})"

        agent =
          overrun(py, fn timeout, mark ->
            {agent, stream} = counted()

            assert {:error, %TimeoutError{}} =
                     python(py, expression, [Typhon.iter(stream), mark], timeout: timeout)

            agent
          end)

        assert %{begun: 1, ended: 1} = count(agent)
      end

      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert_mailbox_empty()
    end

    @tag :os_process
    test "runs when the worker ends" do
      py = start_pool()
      {agent, stream} = counted()
      assert {:error, %Typhon.WorkerError{}} = python(py, "(next(f), os._exit(3))", [Typhon.iter(stream)])
      assert %{begun: 1, ended: 1} = count(agent)
    end

    test "runs when the call cannot be made", %{py: py} do
      {agent, stream} = counted()

      assert {:error, %Typhon.EncodeError{}} =
               Typhon.call(py, :builtins, :list, [Typhon.iter(stream), {:x, %URI{}}])

      assert %{begun: 0, ended: 0} = count(agent)
    end

    test "leaves nothing in the process", %{py: py} do
      before = Process.get_keys()
      {_, stream} = counted()
      for _ <- 1..10, do: python(py, "next(f)", [Typhon.iter(stream)])
      for _ <- 1..10, do: python(py, "1 / 0", [Typhon.iter(stream)])
      assert Process.get_keys() -- before == []
      assert_mailbox_empty()
    end
  end

  describe "an enumerable that fails" do
    test "raises in Python, and is at its end then", %{py: py} do
      fails = Stream.map(1..100, fn i -> if i == 70, do: raise("at #{i}"), else: i end)

      assert {:error, %PythonError{type: "typhon.BeamError"} = error} =
               python(py, "sum(f)", [Typhon.iter(fails)])

      assert error.message =~ "at 70"
      assert Exception.message(error) =~ "iter_test.exs"

      assert {:ok, {{"raised", %{"message" => "at 70"}}, []}} =
               python(py, "(attempt(sum, f), list(f))", [Typhon.iter(fails)])

      for stop <- [fn -> throw(:ball) end, fn -> exit(:why) end] do
        thrown = Stream.map([1], fn _ -> stop.() end)
        assert {:error, %PythonError{type: "typhon.BeamError"}} = python(py, "sum(f)", [Typhon.iter(thrown)])
      end
    end

    test "as an element that cannot cross does", %{py: py} do
      assert {:error, %PythonError{message: message}} = python(py, "list(f)", [Typhon.iter([%URI{}])])
      assert message =~ "URI"
      assert {:ok, {"DecodeError", _}} = python(py, "attempt(list, f)", [Typhon.iter([<<255>>])])
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    test "in its clean-up raises in the caller, and the others are cleaned up all the same", %{py: py} do
      bad_end = Stream.resource(fn -> 0 end, &{[&1], &1 + 1}, fn _ -> raise "in the clean-up" end)
      {agent, stream} = counted()
      {other_agent, other} = counted()

      assert_raise RuntimeError, "in the clean-up", fn ->
        python(py, "[next(a) for a in args]", [Typhon.iter(stream), Typhon.iter(bad_end), Typhon.iter(other)])
      end

      assert %{begun: 1, ended: 1} = count(agent)
      assert %{begun: 1, ended: 1} = count(other_agent)
      # When it is Python that ends it, Python is told.
      assert {:error, %PythonError{type: "typhon.BeamError"}} =
               python(py, "(next(f), f.close())", [Typhon.iter(bad_end)])

      assert_mailbox_empty()
      assert Process.get_keys() |> Enum.filter(&match?({Typhon.Iter, _}, &1)) == []
    end
  end

  describe "a loan ends with its call" do
    test "afterwards it says so", %{py: py} do
      assert {:ok, nil} = Typhon.call(py, :converse, :keep, ["late", Typhon.iter(1..1_000)])
      assert {:ok, {"raised", %{"message" => message}}} = python(py, "attempt(next, kept['late'])", [])
      assert message =~ "not lent to Python any more"
      assert message =~ "Typhon.iter/1"
    end

    test "one that was begun goes no further", %{py: py} do
      assert {:ok, 0} =
               python(py, "(keep('late', f), next(f))[1]", [Typhon.iter(Stream.iterate(0, &(&1 + 1)))])

      # What has been fetched is there; then it is over.
      assert {:ok, {"raised", %{"message" => message}}} = python(py, "attempt(sum, kept['late'])", [])
      assert message =~ "not lent to Python any more"
    end

    @tag :os_process
    test "a cast has none", %{py: py} do
      path = new_path("iter")
      on_exit(fn -> File.rm(path) end)
      {agent, stream} = counted()
      :ok = Typhon.cast(py, :converse, :note_sum, [Typhon.iter(stream), path])
      eventually(fn -> File.exists?(path) end)
      eventually(fn -> File.read!(path) == "BeamError" end)
      assert %{begun: 0, ended: 0} = count(agent)
      assert Process.get_keys() |> Enum.filter(&match?({Typhon.Iter, _}, &1)) == []
    end
  end

  describe "elsewhere" do
    test "in a coroutine, without blocking the others", %{py: py} do
      assert Typhon.call(py, :converse, :sum_async, [Typhon.iter(1..10_000)]) == {:ok, 50_005_000}
      {agent, stream} = counted()
      assert Typhon.call(py, :converse, :take_async, [Typhon.iter(stream), 3]) == {:ok, [0, 1, 2]}
      assert %{begun: 1, ended: 1} = count(agent)
      # The blocking form works there, too.
      assert Typhon.call(py, :converse, :sum_blocking_async, [Typhon.iter(1..100)]) == {:ok, 5_050}
    end

    test "in tasks, many at once", %{py: py} do
      tasks =
        for i <- 1..50, do: Typhon.async(py, :builtins, :sum, [Typhon.iter(1..(i * 100))], timeout: 30_000)

      for {task, i} <- Enum.zip(tasks, 1..50),
          do: assert(Typhon.await(task) == {:ok, div(i * 100 * (i * 100 + 1), 2)})
    end

    test "in multi and map", %{py: py} do
      assert Typhon.multi(py, [
               {:builtins, :sum, [Typhon.iter(1..100)]},
               {:builtins, :sum, [Typhon.iter(1..10)]}
             ]) == [ok: 5_050, ok: 55]

      assert py |> Typhon.map(:builtins, :sum, [Typhon.iter(1..3), Typhon.iter(1..4)]) |> Enum.to_list() == [
               6,
               10
             ]
    end

    test "in a session", %{py: py} do
      assert {:ok, {:ok, 55}} =
               Typhon.run(py, fn worker -> Typhon.call(worker, :builtins, :sum, [Typhon.iter(1..10)]) end)
    end

    test "in a thread of the user's it is not lent: the thread belongs to no call", %{py: py} do
      assert {:error, %PythonError{message: message}} =
               python(py, "in_pool(lambda _: sum(f), 1, 1)", [Typhon.iter(1..3)])

      assert message =~ "not lent to Python any more"
    end

    test "on a worker with threads" do
      py = start_pool(concurrency: 4)

      tasks =
        for i <- 1..16,
            do:
              Typhon.async(py, :builtins, :sum, [Typhon.iter(Stream.map(1..5_000, &(&1 * i)))],
                timeout: 30_000
              )

      for {task, i} <- Enum.zip(tasks, 1..16), do: assert(Typhon.await(task) == {:ok, 12_502_500 * i})
    end
  end
end
