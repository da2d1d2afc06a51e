defmodule Typhon.TestKitTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PoolError, PythonError, Test, TimeoutError}
  alias Typhon.Test.{Store, UnexpectedCallError, VerificationError}

  doctest Typhon.Test

  setup_all do
    # Shared by all tests, as an application's pool is.
    {:ok, py: start_pool(workers: 1)}
  end

  setup do
    {:ok, pool: start_supervised!({Test, []})}
  end

  # A process that no test knows of.
  defp stranger(fun) do
    test = self()
    ref = make_ref()
    spawn(fn -> send(test, {ref, fun.()}) end)

    receive do
      {^ref, result} -> result
    after
      limit() -> flunk("no answer")
    end
  end

  # Not started by the test: by somebody who is gone.
  defp unrelated_agent(options \\ []) do
    {:ok, agent} = stranger(fn -> Agent.start(fn -> nil end, options) end)
    on_exit(fn -> Process.exit(agent, :kill) end)
    agent
  end

  defmodule Prices do
    use Typhon.Module,
      code: """
      def total(prices, tax=0):
          return sum(prices) + tax

      def each(prices):
          yield from prices
      """
  end

  test "functions of a block of code are those of the Elixir module", %{py: py, pool: pool} do
    for pool <- [py, pool] do
      Test.stub(pool, Prices, :total, fn prices, kwargs -> {prices, kwargs} end)
      assert Prices.total([1, 2], tax: 3, typhon: [pool: pool]) == {:ok, {[1, 2], %{"tax" => 3}}}
      Test.stub(pool, Prices, :each, [7, 8])
      assert Enum.to_list(Prices.each([1], typhon: [pool: pool])) == [7, 8]
    end

    assert {:error, %UnexpectedCallError{} = error} =
             Task.await(Task.async(fn -> stranger(fn -> Prices.total([1], typhon: [pool: pool]) end) end))

    assert Exception.message(error) =~ ~s|stub(#{inspect(pool)}, Typhon.TestKitTest.Prices, "total", fn arg1|
    assert stranger(fn -> Prices.total!([1], typhon: [pool: py]) end) == 1
  end

  describe "start_pool/1" do
    test "is a pool in all but Python", %{pool: pool} do
      # What results take is the whole VM's.
      assert {:ok, %{results: %{held: _, cached: _, limit: _}} = info} = Typhon.info(pool)
      assert Map.delete(info, :results) == %{pid: pool, isolation: :process, workers: []}
      assert Typhon.stop(pool) == :ok
      assert {:error, %PoolError{reason: :stopped}} = Typhon.call(pool, :math, :sqrt, [16])
    end

    test "has a name, and takes what Typhon takes" do
      start_supervised!(
        {Test, name: :kit_named, workers: 4, python: "no-such-python", python_path: ["priv/py"]}
      )

      Test.stub(:kit_named, :math, :sqrt, 4.0)
      assert Typhon.call(:kit_named, :math, :sqrt, [16]) == {:ok, 4.0}
      assert Typhon.call(Process.whereis(:kit_named), :math, :sqrt, [16]) == {:ok, 4.0}
      assert {:error, {:already_started, _}} = Test.start_pool(name: :kit_named)
      assert_raise ArgumentError, ~r/no option :nam/, fn -> Test.start_pool(nam: :kit_named) end
    end

    test "without a stub there is an error that says how to make one", %{pool: pool} do
      assert {:error, %UnexpectedCallError{reason: :not_stubbed} = error} =
               Typhon.call(pool, :math, :pow, [2, 3])

      message = Exception.message(error)
      assert message =~ "math.pow with 2 arguments was called on #{inspect(pool)}, a test pool without Python"
      assert message =~ ~s|Typhon.Test.stub(#{inspect(pool)}, "math", "pow", fn arg1, arg2 -> … end)|

      assert_raise UnexpectedCallError, fn -> Typhon.call!(pool, :math, :pow, [2, 3]) end
      assert {:error, %UnexpectedCallError{}} = Typhon.cast(pool, :math, :pow, [2, 3])
      assert [{:error, %UnexpectedCallError{}}] = Typhon.multi(pool, :math, :pow, [[2, 3]])
    end
  end

  describe "stub/4" do
    test "answers with values, errors and functions, on both kinds of pools", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        Test.stub(pool, :kit, :value, %{"a" => 1})
        assert Typhon.call(pool, "kit", "value", [1, 2]) == {:ok, %{"a" => 1}}

        Test.stub(pool, "kit", "value", {:ok, 5})
        assert Typhon.call(pool, :kit, :value, []) == {:ok, 5}

        error = Test.error("kit.OwnError", "own")

        for answer <- [
              error,
              {:error, error},
              fn -> error end,
              fn -> {:error, error} end,
              fn -> raise error end
            ] do
          Test.stub(pool, :kit, :value, answer)
          assert Typhon.call(pool, :kit, :value, []) == {:error, error}
          assert_raise PythonError, "kit.OwnError: own", fn -> Typhon.call!(pool, :kit, :value, []) end
        end

        Test.stub(pool, :kit, :value, fn a, b -> a + b end)
        assert Typhon.call(pool, :kit, :value, [1, 2]) == {:ok, 3}

        Test.stub(pool, :kit, :value, fn ->
          raise %TimeoutError{timeout: 5, module: :kit, function: :value, arity: 0}
        end)

        assert {:error, %TimeoutError{}} = Typhon.call(pool, :kit, :value, [])

        # Not an error of Python's: a bug of the stub.
        Test.stub(pool, :kit, :value, fn -> raise "bug" end)
        assert_raise RuntimeError, "bug", fn -> Typhon.call(pool, :kit, :value, []) end
      end
    end

    test "a function runs in the calling process", %{pool: pool} do
      Test.stub(pool, :kit, :who, fn -> self() end)
      assert Typhon.call(pool, :kit, :who, []) == {:ok, self()}
    end

    test "keyword arguments come in a last argument", %{pool: pool} do
      Test.stub(pool, :kit, :f, fn a, kwargs -> {a, kwargs} end)
      assert Typhon.call(pool, :kit, :f, [1], kwargs: [b: 2]) == {:ok, {1, %{"b" => 2}}}
      assert Typhon.call(pool, :kit, :f, [1]) == {:ok, {1, %{}}}
    end

    test "a function of another arity raises, and says so", %{pool: pool} do
      Test.stub(pool, :kit, :f, fn a -> a end)

      assert_raise UnexpectedCallError,
                   ~r/the stub for kit.f takes 1 argument, but the call has 2 arguments/,
                   fn ->
                     Typhon.call(pool, :kit, :f, [1, 2])
                   end

      assert_raise UnexpectedCallError, ~r/and keyword arguments, .* so it must take 2/, fn ->
        Typhon.call(pool, :kit, :f, [1], kwargs: %{b: 2})
      end
    end

    test "what has no stub goes to Python", %{py: py} do
      Test.stub(py, :math, :sqrt, 0.5)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 0.5}
      assert Typhon.call(py, :math, :pow, [2, 3]) == {:ok, 8.0}
      assert stranger(fn -> Typhon.call(py, :math, :sqrt, [16]) end) == {:ok, 4.0}
    end

    test "holds for every way to call", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        Test.stub(pool, :kit, :twice, fn x -> 2 * x end)

        Test.stub(pool, :kit, :odd, fn x ->
          if rem(x, 2) == 1, do: x, else: Test.error("ValueError", "even")
        end)

        assert Typhon.call!(pool, :kit, :twice, [1]) == 2
        assert Typhon.cast(pool, :kit, :twice, [2]) == :ok
        assert pool |> Typhon.async(:kit, :twice, [3]) |> Typhon.await() == {:ok, 6}
        assert pool |> Typhon.map(:kit, :twice, [4, 5]) |> Enum.to_list() == [8, 10]
        assert pool |> Typhon.map(:kit, :twice, [6, 7], batch: 2) |> Enum.to_list() == [12, 14]
        assert Typhon.multi(pool, :kit, :twice, [[8]]) == [{:ok, 16}]
        assert Typhon.multi(pool, [{:kit, :twice, [9]}]) == [{:ok, 18}]

        assert [{:ok, 1}, {:error, %PythonError{}}, {:ok, 3}] =
                 Typhon.multi(pool, :kit, :odd, [[1], [2], [3]])

        assert [{:ok, 1}, {:error, _}] = Typhon.multi(pool, :kit, :odd, [[1], [2], [3]], stop_on_error: true)
        assert Enum.map(Test.calls(pool, :kit, :twice), & &1.args) |> Enum.sort() == for(i <- 1..9, do: [i])
        Test.assert_called(pool, :kit, :twice, [2], 1)
      end
    end

    test "in a batch each call goes where it belongs", %{py: py} do
      Test.stub(py, :kit, :twice, fn x -> 2 * x end)

      calls = [
        {:kit, :twice, [1]},
        {:math, :sqrt, [16]},
        {:kit, :twice, [2]},
        {:math, :sqrt, [-1]},
        {:math, :sqrt, [25]}
      ]

      assert [{:ok, 2}, {:ok, 4.0}, {:ok, 4}, {:error, %PythonError{type: "ValueError"}}, {:ok, 5.0}] =
               Typhon.multi(py, calls)

      assert [{:ok, 2}, {:ok, 4.0}, {:ok, 4}, {:error, _}] = Typhon.multi(py, calls, stop_on_error: true)
    end

    test "the methods of objects go by their class", %{pool: pool} do
      model = Test.object("kit.Model")
      Test.stub(pool, "kit.Model", :predict, fn rows -> length(rows) end)
      assert Typhon.call(pool, model, :predict, [[1, 2]]) == {:ok, 2}
      Test.assert_called(pool, model, :predict, [[1, 2]])
    end

    test "a pool that is not there, or a strange name, raises", %{pool: pool} do
      assert_raise PoolError, fn -> Test.stub(:no_such_pool, :math, :sqrt, 1) end
      assert_raise ArgumentError, ~r/named by two atoms or strings/, fn -> Test.stub(pool, 1, :sqrt, 1) end
    end
  end

  describe "whom it holds for" do
    test "tasks, also of tasks, and processes that were started", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        Test.stub(pool, :kit, :f, :stubbed)
        call = fn -> Typhon.call(pool, :kit, :f, []) end
        assert call |> Task.async() |> await() == {:ok, :stubbed}

        assert fn -> call |> Task.async() |> await() end |> Task.async() |> await() ==
                 {:ok, :stubbed}

        agent = start_supervised!({Agent, fn -> nil end}, id: make_ref())
        assert Agent.get(agent, fn _ -> call.() end) == {:ok, :stubbed}
        {:ok, agent} = Agent.start_link(fn -> nil end)
        assert Agent.get(agent, fn _ -> call.() end) == {:ok, :stubbed}
        assert {:error, _} = stranger(call)
      end
    end

    test "tests at the same time have their own", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        1..50
        |> Enum.map(fn i ->
          # Processes of no common ancestor.
          {:ok, agent} = Agent.start(fn -> nil end)

          async(fn ->
            Agent.get(agent, fn _ ->
              Process.delete(:"$callers")
              Process.delete(:"$ancestors")
              Test.stub(pool, :kit, :mine, i)
              results = for _ <- 1..20, do: Typhon.call!(pool, :kit, :mine, [])
              Test.assert_called(pool, :kit, :mine, [], 20)
              Enum.uniq(results)
            end)
          end)
        end)
        |> await_many()
        |> Enum.with_index(1)
        |> Enum.each(fn {results, i} -> assert results == [i] end)
      end
    end

    test "the nearest stub wins, function by function", %{pool: pool} do
      Test.stub(pool, :kit, :f, :outer)
      Test.stub(pool, :kit, :g, :outer)

      task =
        Task.async(fn ->
          Test.stub(pool, :kit, :f, :inner)
          {Typhon.call!(pool, :kit, :f, []), Typhon.call!(pool, :kit, :g, [])}
        end)

      assert await(task) == {:inner, :outer}
      assert Typhon.call!(pool, :kit, :f, []) == :outer
    end

    test "allow/3: other processes, by pid and by name", %{pool: pool} do
      Test.stub(pool, :kit, :f, 1)
      agent = unrelated_agent(name: :kit_allowed)
      call = fn _ -> Typhon.call(pool, :kit, :f, []) end
      assert {:error, %UnexpectedCallError{}} = Agent.get(agent, call)
      assert Test.allow(pool, self(), :kit_allowed) == :ok
      assert Agent.get(agent, call) == {:ok, 1}
      # And those it works through.
      assert Agent.get(agent, fn _ -> await(Task.async(fn -> call.(nil) end)) end) == {:ok, 1}

      assert_raise ArgumentError, ~r/there is no process :kit_nobody/, fn -> Test.allow(pool, :kit_nobody) end
      assert_raise ArgumentError, ~r/the owner must be a pid/, fn -> Test.allow(pool, :me, self()) end
    end

    test "it goes with the process that set it up", %{pool: pool} do
      agent = unrelated_agent()

      owner =
        spawn(fn ->
          Test.stub(pool, :kit, :f, 1)
          Test.allow(pool, agent)
          Process.sleep(:infinity)
        end)

      eventually(fn -> Agent.get(agent, fn _ -> Typhon.call(pool, :kit, :f, []) end) == {:ok, 1} end)
      Process.exit(owner, :kill)
      eventually(fn -> match?({:error, _}, Agent.get(agent, fn _ -> Typhon.call(pool, :kit, :f, []) end)) end)
      assert for({key, ^owner} <- :ets.tab2list(Store), do: key) == []
      refute Map.has_key?(:sys.get_state(Store), owner)
    end

    test "set_global/1 refuses in a test that runs with others" do
      assert_raise ArgumentError, ~r/async: true/, fn -> Test.set_global(%{async: true}) end
    end
  end

  describe "expect/5" do
    test "answers in order, then raises in the caller", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        Test.expect(pool, :kit, :f, 1)
        Test.expect(pool, :kit, :f, 2, fn x -> x end)
        assert for(i <- 5..7, do: Typhon.call!(pool, :kit, :f, [i])) == [1, 6, 7]
        assert Test.verify!() == :ok

        assert_raise UnexpectedCallError,
                     ~r/kit.f with 1 argument was called more often .* this time with \[8\]/,
                     fn ->
                       Typhon.call(pool, :kit, :f, [8])
                     end

        error = assert_raise VerificationError, &Test.verify!/0
        assert Exception.message(error) =~ "more often than expected:\n  * kit.f: expected 3, got 4"
        Store.forget(self())
      end
    end

    test "verify! names what did not come", %{pool: pool} do
      Test.expect(pool, :kit, :f, 2, nil)
      Test.expect(pool, :kit, :g, nil)
      Typhon.call!(pool, :kit, :f, [])
      error = assert_raise VerificationError, &Test.verify!/0

      assert Exception.message(error) =~
               "did not come:\n  * kit.f: expected 2, got 1\n  * kit.g: expected 1, got 0"
    end

    test "a stub answers beyond what is expected", %{pool: pool} do
      Test.expect(pool, :kit, :f, :expected)
      Test.stub(pool, :kit, :f, :stubbed)
      assert for(_ <- 1..3, do: Typhon.call!(pool, :kit, :f, [])) == [:expected, :stubbed, :stubbed]
      assert Test.verify!() == :ok
    end

    test "none at all", %{pool: pool} do
      Test.expect(pool, :kit, :f, 0, nil)
      assert Test.verify!() == :ok
      assert_raise UnexpectedCallError, fn -> Typhon.call(pool, :kit, :f, []) end
      assert_raise VerificationError, &Test.verify!/0
      assert_raise ArgumentError, ~r/non-negative/, fn -> Test.expect(pool, :kit, :f, -1, nil) end
    end

    test "many processes use each expectation once", %{pool: pool} do
      for i <- 1..200, do: Test.expect(pool, :kit, :next, i)
      tasks = for _ <- 1..20, do: async(fn -> for _ <- 1..10, do: Typhon.call!(pool, :kit, :next, []) end)
      assert tasks |> await_many() |> Enum.concat() |> Enum.sort() == Enum.to_list(1..200)
      assert Test.verify!() == :ok
    end

    test "verify_on_exit! fails the test, and then forgets it" do
      test = self()

      # What ExUnit does with a test, its callbacks and its process.
      runner =
        spawn(fn ->
          {:ok, pool} = Test.start_pool()
          Test.expect(pool, :kit, :f, 1)
          Store.keep(self())
          send(test, :ready)
          Process.sleep(:infinity)
        end)

      assert_receive :ready
      Process.exit(runner, :kill)
      eventually(fn -> for({_, ^runner} <- :ets.tab2list(Store), do: 1) == [] end)
      assert_raise VerificationError, fn -> Test.verify!(runner) end
      Store.forget(runner)
      assert Test.verify!(runner) == :ok
    end

    test "a stream of calls ends with the task that was not expected", %{pool: pool} do
      Process.flag(:trap_exit, true)
      Test.expect(pool, :kit, :f, 1, fn x -> x end)

      assert {{%UnexpectedCallError{}, _}, {Typhon, :map, 5}} =
               catch_exit(pool |> Typhon.map(:kit, :f, Stream.iterate(1, &(&1 + 1))) |> Enum.to_list())

      assert_mailbox_empty()
    end
  end

  describe "verify_on_exit!/1" do
    setup context, do: Test.verify_on_exit!(context)

    test "is a setup callback", %{pool: pool} do
      Test.expect(pool, :kit, :f, 1)
      assert Typhon.call(pool, :kit, :f, []) == {:ok, 1}
    end
  end

  describe "spy/3, calls/3, assert_called/5 and refute_called/4" do
    test "record what goes to Python", %{py: py} do
      Test.spy(py, :math, :pow)
      Test.refute_called(py, :math, :pow)
      assert Typhon.call(py, :math, :pow, [2, 3]) == {:ok, 8.0}
      assert Typhon.multi(py, "math", "pow", [[2, 4]]) == [{:ok, 16.0}]
      assert [%{args: [2, 3], kwargs: %{}, pid: pid}, %{args: [2, 4]}] = Test.calls(py, :math, :pow)
      assert pid == self()
      assert Test.assert_called(py, :math, :pow) == :ok
      assert Test.assert_called(py, :math, :pow, [2, :_], 2) == :ok
      assert Test.assert_called(py, :math, :pow, :_, 1..3) == :ok
      assert Test.assert_called(py, :math, :pow, fn [_, b] -> b > 3 end, 1) == :ok
      assert Test.refute_called(py, :math, :pow, [2]) == :ok
      assert Test.refute_called(py, :math, :pow, [2, 3, 4]) == :ok
    end

    test "look at keyword arguments when they are asked for", %{py: py} do
      Test.spy(py, :builtins, :int)
      assert Typhon.call(py, :builtins, :int, ["ff"], kwargs: [base: 16]) == {:ok, 255}
      Test.assert_called(py, :builtins, :int, ["ff"])
      Test.assert_called(py, :builtins, :int, {["ff"], base: 16})
      Test.refute_called(py, :builtins, :int, {["ff"], %{}})
    end

    test "fail with what was called instead", %{pool: pool} do
      Test.stub(pool, :kit, :f, 1)
      Typhon.call(pool, :kit, :f, [1])
      Typhon.call(pool, :kit, :f, [2], kwargs: %{a: 1})

      error = assert_raise VerificationError, fn -> Test.assert_called(pool, :kit, :f, [3]) end

      assert Exception.message(error) ==
               "expected kit.f with [3] to be called at least once, it was called 0 times. Its calls:\n" <>
                 ~s(  * [1]\n  * [2] and %{"a" => 1})

      assert_raise VerificationError, ~r/to be called never, it was called 2 times/, fn ->
        Test.refute_called(pool, :kit, :f)
      end

      assert_raise VerificationError, ~r/to be called once, it was called 2 times/, fn ->
        Test.assert_called(pool, :kit, :f, :_, 1)
      end
    end

    test "on a real pool say that nothing is recorded", %{py: py} do
      assert_raise ArgumentError, ~r/calls of math.cos are not recorded .* Begin with Typhon.Test.spy/, fn ->
        Test.refute_called(py, :math, :cos)
      end
    end

    test "on a pool without Python see calls that nobody stubbed", %{pool: pool} do
      assert Test.refute_called(pool, :kit, :f) == :ok
      Typhon.call(pool, :kit, :f, [1])
      fn -> Typhon.call(pool, :kit, :f, [2]) end |> Task.async() |> await()
      assert Test.assert_called(pool, :kit, :f, :_, 2) == :ok
      assert_raise VerificationError, fn -> Test.refute_called(pool, :kit, :f) end
    end

    test "check what they are given", %{pool: pool} do
      assert_raise ArgumentError, ~r/must be :_, a list/, fn -> Test.assert_called(pool, :kit, :f, 1) end

      assert_raise ArgumentError, ~r/the number of calls/, fn ->
        Test.assert_called(pool, :kit, :f, :_, -1)
      end
    end
  end

  test "a pool that no test has touched has no flag, and other pools stay so" do
    py = start_pool()
    other = start_pool()
    {_, _, before} = Typhon.Registry.lookup(py)
    refute Test.Double.on?(before)
    Test.stub(py, :kit, :f, 1)
    {_, _, flags} = Typhon.Registry.lookup(py)
    assert Test.Double.off(flags) == before
    assert Test.Double.on?(flags)
    assert {_, _, ^before} = Typhon.Registry.lookup(other)
  end
end

defmodule Typhon.TestKitGlobalTest do
  use ExUnit.Case, async: false

  alias Typhon.Test

  import Typhon.Test, only: [set_global: 1]
  setup :set_global

  test "holds for processes that nobody knows, until it is made private" do
    {:ok, pool} = Test.start_pool()
    Test.stub(pool, :kit, :f, 1)
    agent = unrelated_agent()
    call = fn _ -> Typhon.call(pool, :kit, :f, []) end
    assert Agent.get(agent, call) == {:ok, 1}

    assert_raise ArgumentError, ~r/which still runs/, fn ->
      Agent.get(agent, fn _ ->
        try do
          Test.set_global()
        rescue
          error -> error
        end
      end)
      |> raise()
    end

    # What is its own comes first.
    Agent.get(agent, fn _ -> Test.stub(pool, :kit, :f, 2) end)
    assert Agent.get(agent, call) == {:ok, 2}

    agent = unrelated_agent()
    assert Agent.get(agent, call) == {:ok, 1}
    Test.set_private()
    assert {:error, _} = Agent.get(agent, call)
  end

  defp unrelated_agent do
    test = self()
    spawn(fn -> send(test, Agent.start(fn -> nil end)) end)
    assert_receive {:ok, agent}
    on_exit(fn -> Process.exit(agent, :kill) end)
    agent
  end
end
