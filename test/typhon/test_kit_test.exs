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

  describe "scopes" do
    test "what is done with one meets the stubs of Typhon, on both kinds of pools", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        Test.stub(pool, Typhon, :scope, fn bindings ->
          assert bindings in [%{"a" => 1}, %{"b" => 2}]
          Test.scope()
        end)

        Test.stub(pool, "Typhon", :eval, fn code, bindings -> {code, bindings} end)
        Test.stub(pool, "Typhon", :get, fn name -> {:got, name} end)
        Test.expect(pool, "Typhon", :put, fn "x", %{y: 1} -> nil end)
        Test.expect(pool, "Typhon", :delete, fn "x" -> nil end)
        Test.stub(pool, "Typhon", :names, ["x"])

        assert {:ok, %Typhon.Scope{pool: ^pool} = scope} = Typhon.scope(pool, a: 1)
        assert {:ok, %Typhon.Scope{pool: ^pool} = fork} = Typhon.scope(scope, b: 2)
        assert inspect(fork) =~ "#Typhon.Scope<typhon_scope_"

        for scope <- [scope, fork] do
          assert Typhon.eval(scope, "a + 1", a: 1) == {:ok, {"a + 1", %{"a" => 1}}}
          assert Typhon.eval(scope, %Typhon.Code{code: "a"}) == {:ok, {"a", %{}}}
          assert Typhon.get(scope, :x) == {:ok, {:got, "x"}}
          assert Typhon.get(scope, "x", as: :object) == {:ok, {:got, "x"}}
          assert Typhon.names(scope) == {:ok, ["x"]}
        end

        assert Typhon.put(scope, :x, %{y: 1}) == :ok
        assert Typhon.delete(scope, :x) == :ok
        Test.assert_called(pool, Typhon, :put, ["x", %{y: 1}], 1)
        assert Test.verify!() == :ok

        Test.stub(pool, Typhon, :get, Test.error("NameError", "no x"))
        assert {:error, %PythonError{type: "NameError"}} = Typhon.get(scope, :x)
        Test.stub(pool, Typhon, :scope, Test.error("MemoryError"))
        assert {:error, %PythonError{type: "MemoryError"}} = Typhon.scope(pool, a: 1)
      end
    end

    test "of a real Python go by the same names", %{py: py} do
      {:ok, scope} = Typhon.scope(py, x: 1)
      Test.stub(py, "Typhon", :get, 5)
      Test.spy(py, Typhon, :put)
      Test.spy(py, Typhon, :eval)
      assert Typhon.get(scope, :x) == {:ok, 5}
      assert Typhon.put(scope, :y, [2]) == :ok
      assert Typhon.eval(scope, "x + y[0]") == {:ok, 3}
      assert Typhon.names(scope) == {:ok, ["x", "y"]}
      Test.assert_called(py, Typhon, :put, ["y", [2]])
      Test.assert_called(py, Typhon, :eval, ["x + y[0]", %{}])
      assert stranger(fn -> Typhon.get(scope, :x) end) == {:ok, 1}
    end

    test "of a session have its pool when it is over", %{pool: pool} do
      Test.stub(pool, Typhon, :scope, Test.scope())
      Test.stub(pool, Typhon, :get, 1)

      {:ok, scope} =
        Typhon.run(pool, fn session ->
          {:ok, scope} = Typhon.scope(session)
          assert Typhon.get(scope, :x) == {:ok, 1}
          scope
        end)

      assert Typhon.get(scope, :x) == {:ok, 1}
    end

    test "that no stub has returned have a pool when they are given one", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        scope = Test.scope(pool)
        Test.stub(pool, Typhon, :get, 1)
        assert Typhon.get(scope, :x) == {:ok, 1}
      end

      assert_raise ArgumentError, ~r/is of no pool: no stub has returned it. Typhon.Test.scope\(pool\)/, fn ->
        Typhon.get(Test.scope(), :x)
      end
    end

    test "are the only answer to Typhon.scope/3, which says so", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        Test.stub(pool, Typhon, :scope, :fake)

        assert_raise UnexpectedCallError,
                     ~r/Typhon.scope has answered :fake.* must be a scope, Typhon.Test.scope\(\)/,
                     fn ->
                       Typhon.scope(pool)
                     end
      end
    end

    test "without a stub say how to make one", %{py: py, pool: pool} do
      assert {:error, error} = Typhon.scope(pool, a: 1)

      assert Exception.message(error) =~
               ~s|stub(#{inspect(pool)}, "Typhon", "scope", fn bindings -> Typhon.Test.scope() end)|

      for pool <- [py, pool] do
        scope = Test.scope(pool)

        for {call, line} <- [
              {&Typhon.get(&1, :x), ~s|"get", fn name -> … end)|},
              {&Typhon.put(&1, :x, 1), ~s|"put", fn name, value -> … end)|},
              {&Typhon.delete(&1, :x), ~s|"delete", fn name -> … end)|},
              {&Typhon.names/1, ~s|"names", fn -> … end)|},
              {&Typhon.eval(&1, "x"), ~s|"eval", fn code, bindings -> … end)|}
            ] do
          assert {:error, %UnexpectedCallError{module: "Typhon"} = error} = call.(scope)
          assert Exception.message(error) =~ ~s|    Typhon.Test.stub(#{inspect(pool)}, "Typhon", | <> line
        end
      end
    end
  end

  describe "code" do
    test "is named by Typhon or \"Typhon\"", %{py: py, pool: pool} do
      for pool <- [py, pool], module <- [Typhon, "Typhon", :Typhon] do
        Test.stub(pool, module, :eval, fn "n", %{"n" => n} -> {module, n} end)
        assert Typhon.eval(pool, "n", n: 1) == {:ok, {module, 1}}
        Test.assert_called(pool, module, :eval, ["n", :_])
      end
    end

    test "that leaves variables has an answer, too", %{pool: pool} do
      Test.stub(pool, Typhon, :eval, fn "n = 2", %{} -> nil end)
      code = %Typhon.Code{code: "n = 2"}
      assert Typhon.Eval.assigning(pool, code, %{}, ["n"]) == {:ok, {nil, %{}}}
    end

    test "is shown by its first line and the names of its bindings", %{pool: pool} do
      message = fn code, bindings ->
        assert {:error, %UnexpectedCallError{} = error} = Typhon.eval(pool, code, bindings)
        Exception.message(error)
      end

      assert message.("\n  total = sum(rows)\n  total * tax", rows: [1, 2], tax: 3) =~
               ~s|Typhon.eval of the code "total = sum(rows)…" with the bindings rows, tax was called on|

      assert message.("1 + 1\n", []) =~ ~s|Typhon.eval of the code "1 + 1" without bindings was called on|
      many = for i <- 10..30, do: {"v#{i}", i}
      long = message.(String.duplicate("x", 100_000), many)
      assert long =~ ~s|"#{String.duplicate("x", 60)}…" with the bindings v10, v11,|
      assert long =~ "v19 and 11 more was called"
      assert byte_size(long) < 1_000

      Test.expect(pool, Typhon, :eval, 0, nil)
      code = "f(x)" <> String.duplicate("\n", 10_000) <> "y"
      error = assert_raise UnexpectedCallError, fn -> Typhon.eval(pool, code, x: "long") end
      assert Exception.message(error) =~ ~s|code "f(x)…" with the bindings x was called more often|
      refute Exception.message(error) =~ "long"
      Store.forget(self())

      Test.stub(pool, Typhon, :eval, fn _code -> nil end)

      assert_raise UnexpectedCallError, ~r/2 arguments: the code "f\(x\)…" without bindings$/, fn ->
        Typhon.eval(pool, code)
      end
    end

    test "what Typhon does not have is a mistake", %{pool: pool} do
      assert_raise ArgumentError, ~r/of Typhon a test gives answers for delete, eval, .*not for "gett"/, fn ->
        Test.stub(pool, Typhon, :gett, 5)
      end

      assert_raise ArgumentError, ~r/named by Typhon: Typhon, :get, and not #Typhon.Scope</, fn ->
        Test.stub(pool, Test.scope(), :get, 5)
      end

      assert_raise ArgumentError, ~r/called "\.gett": there are \.call, \.chain/, fn ->
        Test.stub(pool, "kit.Model", ".gett", 5)
      end
    end
  end

  describe "objects" do
    # One that a stub has returned.
    defp model(pool) do
      Test.stub(pool, :kit, :model, Test.object("kit.Model"))
      {:ok, model} = Typhon.call(pool, :kit, :model, [])
      model
    end

    test "what Typhon does with one is named with a dot, on both kinds of pools", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        model = model(pool)
        answer = fn function, answer -> Test.stub(pool, "kit.Model", function, answer) end

        # A method of the same name is another thing.
        answer.(:get, fn key -> {:method, key} end)
        answer.(".get", fn path -> {:attribute, path} end)
        assert Typhon.call(pool, model, :get, ["a"]) == {:ok, {:method, "a"}}
        assert Typhon.get(model, :kernel) == {:ok, {:attribute, "kernel"}}
        assert Typhon.get(model, "a.ü") == {:ok, {:attribute, "a.ü"}}

        answer.(".set", fn "a", [1] -> nil end)
        assert Typhon.set(model, :a, [1]) == :ok
        answer.(".delete", fn "a" -> nil end)
        assert Typhon.delete(model, :a) == :ok
        answer.(".item", fn key -> key end)
        assert Typhon.item(model, {1, :a}) == {:ok, {1, :a}}
        answer.(".put_item", fn :k, 1 -> Test.error("KeyError", "k") end)
        assert {:error, %PythonError{type: "KeyError"}} = Typhon.put_item(model, :k, 1)
        answer.(".len", 3)
        assert Typhon.len(model) == {:ok, 3}
        answer.(".len", %TimeoutError{timeout: 5})
        assert Typhon.len(model) == {:error, %TimeoutError{timeout: 5}}
        answer.(".call", fn a, kwargs -> {a, kwargs} end)
        assert Typhon.call(model, [1], kwargs: [b: 2]) == {:ok, {1, %{"b" => 2}}}
        answer.(".repr", "Model()")
        assert Typhon.repr(model) == {:ok, "Model()"}
        answer.(".dir", ["a"])
        assert Typhon.dir(model) == {:ok, ["a"]}
        answer.(".doc", nil)
        assert Typhon.doc(model) == {:ok, nil}
        answer.(".to_term", %{"a" => 1})
        assert Typhon.to_term(model) == {:ok, %{"a" => 1}}
        answer.(".stream", [1, 2, 3])
        assert model |> Typhon.stream() |> Enum.to_list() == [1, 2, 3]
        answer.(".enter", :entered)
        assert Typhon.enter(model, &{&1, 1}) == {:ok, {:entered, 1}}
        assert_raise RuntimeError, "mine", fn -> Typhon.enter(model, fn _ -> raise "mine" end) end

        Test.assert_called(pool, model, ".item", [{1, :a}], 1)
        Test.refute_called(pool, model, ".get", ["b"])
        assert Typhon.type(model) == "kit.Model"
        assert inspect(model) == "#Typhon.Object<kit.Model>"
      end
    end

    test "a chain has its steps as they were written", %{py: py, pool: pool} do
      steps = [
        get: "a.b",
        item: {1, 2},
        call: [],
        call: ["x"],
        call: {["x"], %{"k" => 1}},
        call: {"m", []},
        call: {"m", Enum.to_list(1..12)},
        call: {"m", [1], %{"k" => 1}},
        item: nil
      ]

      for pool <- [py, pool] do
        model = model(pool)
        Test.stub(pool, "kit.Model", ".chain", fn steps -> steps end)
        assert Typhon.chain(model, steps) == {:ok, steps}
        assert Typhon.chain(model, []) == {:ok, []}

        assert Typhon.chain(model, get: :a, call: {:m, [], k: 1}) ==
                 {:ok, [get: "a", call: {"m", [], %{"k" => 1}}]}

        assert model |> Typhon.chain() |> Typhon.Chain.item(1) |> Typhon.Chain.run() == {:ok, [item: 1]}
      end
    end

    @tag :tmp_dir
    test "what one looks like", %{py: py, pool: pool, tmp_dir: folder} do
      for pool <- [py, pool] do
        model = model(pool)
        rendered = %Typhon.Rendered{type: "kit.Model", data: %{"text/html" => "<b>1</b>"}}

        for answer <- [rendered, rendered.data] do
          Test.stub(pool, "kit.Model", ".render", answer)
          assert Typhon.render(model) == {:ok, rendered}
        end

        for answer <- [%{}, "text", %{1 => "a"}, nil] do
          Test.stub(pool, "kit.Model", ".render", answer)

          assert_raise UnexpectedCallError,
                       ~r/stub for Typhon.render of kit.Model has answered .* a map of MIME types/,
                       fn ->
                         Typhon.render(model)
                       end
        end

        path = Path.join(folder, "a.html")
        Test.stub(pool, "kit.Model", ".save", fn "text/html" -> "<i>2</i>" end)
        assert Typhon.save(model, path) == :ok
        assert File.read!(path) == "<i>2</i>"
        Test.stub(pool, "kit.Model", ".save", nil)
        assert_raise UnexpectedCallError, ~r/It must be a binary/, fn -> Typhon.save(model, path) end
      end
    end

    test "are of the pool that returns them, wherever they are in its answer", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        one = Test.object("kit.One")
        two = Test.object("kit.Two")
        Test.stub(pool, :kit, :all, [{one, 1}, %{"two" => two, range: 1..2}, [one | two]])
        Test.stub(pool, "kit.One", ".len", 1)
        Test.stub(pool, "kit.Two", ".len", 2)
        assert {:ok, [{a, 1}, %{"two" => b, range: 1..2}, [c | d]]} = Typhon.call(pool, :kit, :all, [])
        assert Enum.map([a, b, c, d], &Typhon.len!/1) == [1, 2, 1, 2]
        assert {Typhon.same?(a, c), Typhon.same?(a, b)} == {true, false}
        Test.stub(pool, "kit.One", ".get", Test.object("kit.Two"))
        assert a |> Typhon.get!("two") |> Typhon.len!() == 2
        assert [{:ok, [{e, 1} | _]}] = Typhon.multi(pool, [{:kit, :all, []}])
        assert Typhon.len(e) == {:ok, 1}
      end
    end

    test "that no stub has returned have a pool when they are given one", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        model = Test.object(pool, "kit.Model")
        assert {:error, %UnexpectedCallError{}} = Typhon.len(model)
        Test.stub(pool, model, ".len", 3)
        assert Typhon.len(model) == {:ok, 3}
      end

      assert {:error, error} = Typhon.len(Test.object("kit.Model"))

      assert Exception.message(error) =~
               ~s|no stub has returned it. Typhon.Test.object(pool, "kit.Model") makes one|
    end

    test "of a real Python go by the same names", %{py: py} do
      {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2]])
      Test.stub(py, "collections.deque", ".len", 7)
      Test.spy(py, queue, ".item")
      Test.spy(py, queue, ".stream")
      Test.spy(py, queue, ".chain")
      Test.spy(py, queue, ".render")
      assert Typhon.len(queue) == {:ok, 7}
      assert Typhon.item(queue, 1) == {:ok, 2}
      assert queue |> Typhon.stream() |> Enum.to_list() == [1, 2]
      assert Typhon.chain(queue, item: 0) == {:ok, 1}
      assert {:ok, %{data: %{"text/plain" => "deque([1, 2])"}}} = Typhon.render(queue)
      Test.assert_called(py, queue, ".item", [1], 1)
      Test.assert_called(py, queue, ".stream", [], 1)
      Test.assert_called(py, queue, ".chain", [[item: 0]], 1)
      Test.assert_called(py, queue, ".render", [], 1)
      assert stranger(fn -> Typhon.len(queue) end) == {:ok, 2}
    end

    test "without a stub say how to make one", %{py: py, pool: pool} do
      for pool <- [py, pool] do
        model = model(pool)

        for {call, line} <- [
              {&Typhon.get(&1, :a), ~s|".get", fn path -> … end)|},
              {&Typhon.get(&1, "a.b"), ~s|".get", fn path -> … end)|},
              {&Typhon.set(&1, :a, 1), ~s|".set", fn path, value -> … end)|},
              {&Typhon.delete(&1, :a), ~s|".delete", fn path -> … end)|},
              {&Typhon.item(&1, 1), ~s|".item", fn key -> … end)|},
              {&Typhon.put_item(&1, 1, 2), ~s|".put_item", fn key, value -> … end)|},
              {&Typhon.len/1, ~s|".len", fn -> … end)|},
              {&Typhon.call(&1, [1, 2]), ~s|".call", fn arg1, arg2 -> … end)|},
              {&Typhon.call(&1, [1], kwargs: [a: 2]), ~s|".call", fn arg1, kwargs -> … end)|},
              {&Typhon.chain(&1, get: "a"), ~s|".chain", fn steps -> … end)|},
              {&Typhon.enter(&1, fn _ -> nil end), ~s|".enter", fn -> … end)|},
              {&Typhon.render/1, ~s|".render", fn -> … end)|},
              {&Typhon.save(&1, "a.png"), ~s|".save", fn mime_type -> … end)|},
              {&Typhon.repr/1, ~s|".repr", fn -> … end)|},
              {&Typhon.to_term/1, ~s|".to_term", fn -> … end)|},
              {&Typhon.call(pool, &1, :fit, [1]), ~s|"fit", fn arg1 -> … end)|}
            ] do
          assert {:error, %UnexpectedCallError{} = error} = call.(model)
          assert Exception.message(error) =~ ~s|    Typhon.Test.stub(#{inspect(pool)}, "kit.Model", | <> line
        end

        assert_raise UnexpectedCallError,
                     ~r/Typhon.stream of kit.Model .* "kit.Model", "\.stream", fn -> … end/s,
                     fn ->
                       model |> Typhon.stream() |> Enum.to_list()
                     end
      end

      start_supervised!({Test, name: :kit_of_objects}, id: :kit_of_objects)
      assert {:error, error} = Typhon.len(Test.object(:kit_of_objects, "kit.Model"))

      assert Exception.message(error) =~
               "Typhon.len of kit.Model with 0 arguments was called on :kit_of_objects, a test pool"

      assert Exception.message(error) =~ ~s|stub(:kit_of_objects, "kit.Model", ".len"|
    end

    test "a constant of a module goes by its module", %{py: py, pool: pool} do
      assert {:error, error} = Typhon.get(pool, :math, :pi)
      assert Exception.message(error) =~ "Typhon.get of math with 1 argument was called"
      assert Exception.message(error) =~ ~s|stub(#{inspect(pool)}, "math", ".get", fn path -> … end)|

      for pool <- [py, pool] do
        Test.stub(pool, :math, ".get", fn "pi" -> 3.0 end)
        assert Typhon.get(pool, :math, :pi, []) == {:ok, 3.0}
        Test.assert_called(pool, :math, ".get", ["pi"])
      end
    end

    test "what does not come is named as it is called", %{pool: pool} do
      Test.expect(pool, "kit.Model", ".len", 3)
      error = assert_raise VerificationError, &Test.verify!/0
      assert Exception.message(error) =~ "* Typhon.len of kit.Model: expected 1, got 0"
      Store.forget(self())
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
