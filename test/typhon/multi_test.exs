defmodule Typhon.MultiTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{EncodeError, PoolError, PythonError, TimeoutError, WorkerError}

  setup_all do
    {:ok, py: start_pool(workers: 1)}
  end

  # Lists of arguments reach Python by different ways: one list for each argument, or one for each call.
  @extra [1, 2, 3, 4]

  describe "multi/5" do
    test "returns the results in order", %{py: py} do
      assert Typhon.multi(py, :math, :sqrt, [[16], [25], [36]]) == [{:ok, 4.0}, {:ok, 5.0}, {:ok, 6.0}]
      assert Typhon.multi(py, "operator", "add", [[1, 2], [3, 4]]) == [{:ok, 3}, {:ok, 7}]
      assert Typhon.multi(py, :builtins, "str.upper", [["a"], ["b"]]) == [{:ok, "A"}, {:ok, "B"}]
      assert Typhon.multi(py, :math, :sqrt, []) == []
    end

    test "takes any number of arguments, also a different one in each call", %{py: py} do
      for count <- 0..6 do
        calls = for i <- 1..10, do: List.duplicate(i, count)
        expected = for args <- calls, do: {:ok, {List.to_tuple(args), %{}}}
        assert Typhon.multi(py, :bulk, :many, calls) == expected
      end

      for calls <- [
            [[1], [1, 2]],
            [[1, 2], [1]],
            [[1, 2, 3], []],
            [[], [1]],
            [[1, 2], [3, 4], [5, 6, 7]],
            [@extra, [1]]
          ] do
        expected = for args <- calls, do: {:ok, {List.to_tuple(args), %{}}}
        assert Typhon.multi(py, :bulk, :many, calls) == expected
      end
    end

    test "passes keyword arguments to each call", %{py: py} do
      assert Typhon.multi(py, :bulk, :pair, [[1, 2], [3, 4]], kwargs: [c: 5]) == [
               {:ok, {1, 2, 5}},
               {:ok, {3, 4, 5}}
             ]
    end

    test "an exception in one call does not stop the others, and looks as if it had come alone", %{py: py} do
      for calls <- [[[1, 2], [2, 2], [3, 2], [2, 2]], [[1, 2], [2, 2], [3, 2], [2, 2], [1, 2, 3]]] do
        results = Typhon.multi(py, :bulk, :fail_on, calls)
        assert [{:ok, 1}, {:error, first}, {:ok, 3}, {:error, second} | rest] = results
        {:error, alone} = Typhon.call(py, :bulk, :fail_on, [2, 2])
        assert first == alone
        assert second == alone
        assert %PythonError{type: "ValueError", message: "bad 2", cause: nil} = first

        if length(calls) == 5, do: assert([{:error, %PythonError{type: "TypeError"}}] = rest)
      end

      # A function in C has no frame of its own.
      assert [{:error, error}] = Typhon.multi(py, :math, :sqrt, [[-1]])
      assert {:error, ^error} = Typhon.call(py, :math, :sqrt, [-1])
    end

    test "all calls may fail", %{py: py} do
      results = Typhon.multi(py, :math, :sqrt, List.duplicate([-1], 1_000))
      assert length(results) == 1_000
      assert Enum.all?(results, &match?({:error, %PythonError{type: "ValueError"}}, &1))
    end

    test "a StopIteration is an exception, not the end of the batch", %{py: py} do
      assert [{:ok, 1}, {:error, %PythonError{type: "StopIteration"}}, {:ok, 3}, {:error, _}, {:ok, 5}] =
               Typhon.multi(py, :bulk, :stop_iteration, Enum.map(1..5, &[&1]))
    end

    test "a function or module that is not there fails each call", %{py: py} do
      assert [{:error, error}, {:error, error}] = Typhon.multi(py, :math, :nothing, [[1], [2]])
      assert {:error, ^error} = Typhon.call(py, :math, :nothing, [1])

      assert [{:error, %PythonError{type: "ModuleNotFoundError"}}] =
               Typhon.multi(py, :no_such_module, :f, [[1]])
    end

    test "stop_on_error: true ends with the first error", %{py: py} do
      Typhon.call!(py, :bulk, :noted, [])
      calls = for i <- 1..5, do: [i, 3]

      assert [{:ok, 1}, {:ok, 2}, {:error, %PythonError{}}] =
               Typhon.multi(py, :bulk, :fail_on, calls, stop_on_error: true)

      assert [{:ok, 1}] = Typhon.multi(py, :bulk, :fail_on, [[1, 3]], stop_on_error: true)

      # Also before the next request.
      calls = [[1, 1] | for(i <- 2..20_000, do: [i, 1])]
      assert [{:error, _}] = Typhon.multi(py, :bulk, :fail_on, calls, stop_on_error: true)

      assert [{:error, %PythonError{type: "AttributeError"}}] =
               Typhon.multi(py, :math, :nothing, [[1], [2]], stop_on_error: true)
    end

    test "a result that cannot cross does not spoil the others", %{py: py} do
      assert [{:ok, %{"text" => "1"}}, {:error, %EncodeError{} = error}, {:ok, %{"text" => "3"}}] =
               Typhon.multi(py, :bulk, :surrogate, [[1], [2], [3]])

      assert {:error, ^error} = Typhon.call(py, :bulk, :surrogate, [2])
      assert error.path =~ ~s(result["text"])
    end

    test "objects come as handles", %{py: py} do
      assert [{:ok, 1}, {:ok, %Typhon.Object{type: "bulk.Thing"} = thing}, {:ok, 3}] =
               Typhon.multi(py, :bulk, :thing, [[1], [2], [3]])

      assert Typhon.call(py, thing, :get, []) == {:ok, 2}
      assert Typhon.multi(py, thing, :get, [[], [10]]) == [{:ok, 2}, {:ok, 20}]
      assert Typhon.multi(py, [{thing, :get, [5]}, {:math, :sqrt, [4]}]) == [{:ok, 10}, {:ok, 2.0}]
    end

    test "an argument that cannot cross is the error of its call alone, and the call is made once", %{py: py} do
      Typhon.call!(py, :bulk, :noted, [])
      calls = [[1], [<<255>>], [3], ["a" <> <<254>>], [5]]

      assert [{:ok, 1}, {:error, first}, {:ok, 3}, {:error, second}, {:ok, 5}] =
               Typhon.multi(py, :bulk, :note, calls)

      assert {:error, ^first} = Typhon.call(py, :bulk, :note, [<<255>>])
      assert {:error, ^second} = Typhon.call(py, :bulk, :note, ["a" <> <<254>>])
      assert Typhon.call!(py, :bulk, :noted, []) == [1, 3, 5]

      nested = [[1, %{"x" => [<<255>>]}, 3], [4, 5, 6]]
      assert [{:error, error}, {:ok, _}] = Typhon.multi(py, :bulk, :pair, nested)
      assert {:error, ^error} = Typhon.call(py, :bulk, :pair, hd(nested))
      # One list for each call.
      assert [{:error, ^error}, {:ok, _}] = Typhon.multi(py, :bulk, :pair, [hd(nested), [4, 5]])

      assert [{:ok, 1}, {:error, ^first}] =
               Typhon.multi(py, :bulk, :note, [[1], [<<255>>], [3]], stop_on_error: true)

      assert [{:error, %EncodeError{path: path}}, {:error, _}] =
               Typhon.multi(py, :bulk, :pair, [[1, 2], [3, 4]], kwargs: %{c: <<255>>})

      assert path =~ "kwargs"
    end

    test "a batch of many requests is in order and complete", %{py: py} do
      Typhon.call!(py, :bulk, :noted, [])
      calls = for i <- 1..100_000, do: [i]
      results = Typhon.multi(py, :bulk, :note, calls, timeout: :infinity)
      assert results == for(i <- 1..100_000, do: {:ok, i})
      assert Typhon.call!(py, :bulk, :noted, [], timeout: :infinity) == Enum.to_list(1..100_000)
    end

    test "the timeout is for all together, and names the call", %{py: py} do
      calls = for i <- 1..100, do: [i]
      results = Typhon.multi(py, :bulk, :slow, calls, timeout: 120)
      assert length(results) == 100

      assert {:error, %TimeoutError{timeout: 120, module: "bulk", function: "slow", arity: 1}} = hd(results)
      assert Typhon.call(py, :sample, :echo, [1]) == {:ok, 1}
      assert_mailbox_empty()
    end

    @tag :os_process
    test "a worker that dies is the error of each call" do
      py = start_pool()
      results = Typhon.multi(py, :bulk, :die, for(i <- 1..5, do: [i]))
      assert length(results) == 5
      assert Enum.all?(results, &match?({:error, %WorkerError{exit_status: 3}}, &1))
    end

    test "a pool that is not there is the error of each call" do
      assert [{:error, %PoolError{reason: :not_found}}, {:error, %PoolError{}}] =
               Typhon.multi(:no_such_pool, :math, :sqrt, [[1], [2]])
    end

    test "says what is wrong with the calls and the options", %{py: py} do
      assert_raise ArgumentError, ~r/number 1 is 2. A single argument is \[2\]/, fn ->
        Typhon.multi(py, :math, :sqrt, [[1], 2])
      end

      assert_raise ArgumentError, ~r/must be a list of lists/, fn -> Typhon.multi(py, :math, :sqrt, 5) end
      assert_raise ArgumentError, ~r/the module must be/, fn -> Typhon.multi(py, 1, :sqrt, []) end

      assert_raise ArgumentError,
                   ~r/Typhon.multi\/5 has no option :stop_on_eror, did you mean :stop_on_error/,
                   fn ->
                     Typhon.multi(py, :math, :sqrt, [[1]], stop_on_eror: true)
                   end

      assert_raise ArgumentError, ~r/stop_on_error: must be/, fn ->
        Typhon.multi(py, :math, :sqrt, [[1]], stop_on_error: 1)
      end
    end
  end

  describe "coroutine functions" do
    setup %{py: py} do
      Typhon.call!(py, :bulk, :noted, [])
      :ok
    end

    test "run at the same time, and give their results in order", %{py: py} do
      assert Typhon.multi(py, :bulk, :later, for(i <- 1..6, do: [i])) == for(i <- 1..6, do: {:ok, i})
      assert {:ok, noted} = Typhon.call(py, :bulk, :noted, [])
      assert noted |> Enum.take(6) |> Enum.sort() == for(i <- 1..6, do: {"began", i})

      name = "met#{System.unique_integer()}"

      assert Typhon.multi(py, :bulk, :together, List.duplicate([name, 500], 500)) ==
               List.duplicate({:ok, name}, 500)
    end

    test "among others; errors are those of their own calls", %{py: py} do
      calls = [
        {:math, :sqrt, [16]},
        {:bulk, :later, [2, 2]},
        {:bulk, :fail_on, [3, 3]},
        {:bulk, :later, [4], %{bad: 5}},
        {:bulk, :surrogate, [2]}
      ]

      assert [
               {:ok, 4.0},
               {:error, %PythonError{type: "ValueError", message: "bad 2"} = late},
               {:error, %PythonError{message: "bad 3"}},
               {:ok, 4},
               {:error, %EncodeError{}}
             ] = Typhon.multi(py, calls)

      assert Enum.map(late.traceback, & &1.function) == ["later", "fail_on"]
      Typhon.call!(py, :bulk, :noted, [])
    end

    test "stop_on_error: true runs them one after the other, up to the first error", %{py: py} do
      calls = for i <- 1..5, do: [i, 3]

      assert [{:ok, 1}, {:ok, 2}, {:error, %PythonError{message: "bad 3"}}] =
               Typhon.multi(py, :bulk, :later, calls, stop_on_error: true)

      assert Typhon.call!(py, :bulk, :noted, []) ==
               for(i <- 1..3, what <- ["began", "ended"], do: {what, i})
    end

    test "are cancelled at the deadline, and when their caller ends", %{py: py} do
      assert [{:error, %TimeoutError{}}, {:error, %TimeoutError{}}] =
               Typhon.multi(py, :bulk, :given_up, [[1], [2]], timeout: 50)

      assert [{:error, %TimeoutError{}}] =
               Typhon.multi(py, :bulk, :given_up, [[1], [2]], timeout: 50, stop_on_error: true)

      for stop <- [false, true] do
        # What the last ones note comes when they end.
        eventually(fn -> in_flight(py) == 0 end)
        Typhon.call!(py, :bulk, :noted, [])
        options = [timeout: 60_000, stop_on_error: stop]
        task = Task.async(Typhon, :multi, [py, :bulk, :given_up, [[1], [2]], options])
        began = for i <- if(stop, do: [1], else: [1, 2]), do: {"began", i}
        eventually(fn -> Typhon.call!(py, :bulk, :made_so_far, []) == began end)
        Task.shutdown(task, :brutal_kill)
        eventually(fn -> length(Typhon.call!(py, :bulk, :made_so_far, [])) == 2 * length(began) end)
      end

      Typhon.call!(py, :bulk, :noted, [])
    end

    test "a coroutine that one returns is an object, as in a call of its own", %{py: py} do
      assert [{:ok, %Typhon.Object{}}] = Typhon.multi(py, :bulk, :coroutine_of, [[1]])
      assert {:ok, %Typhon.Object{}} = Typhon.call(py, :bulk, :coroutine_of, [1])
    end
  end

  describe "multi/3" do
    test "calls functions of all sorts", %{py: py} do
      assert Typhon.multi(py, [
               {:math, :sqrt, [16]},
               {"builtins", "int", ["ff"], %{base: 16}},
               {:builtins, "str.join", [",", ["a", "b"]]},
               {:bulk, :pair, [1, 2], [c: 3]},
               {:math, :sqrt, [-1]},
               {:math, :nothing, []},
               {:nowhere, :nothing, []},
               {:bulk, :surrogate, [2]},
               {:bulk, :stop_iteration, [2]},
               {:math, :sqrt, [25]}
             ])
             |> Enum.map(fn
               {:ok, value} -> value
               {:error, %PythonError{type: type}} -> type
               {:error, %EncodeError{}} -> :encode
             end) ==
               [
                 4.0,
                 255,
                 "a,b",
                 {1, 2, 3},
                 "ValueError",
                 "AttributeError",
                 "ModuleNotFoundError",
                 :encode,
                 "StopIteration",
                 5.0
               ]
    end

    test "an argument that cannot cross is the error of its call alone", %{py: py} do
      calls = [{:bulk, :note, [1]}, {:bulk, :note, [["x", <<255>>]]}, {:bulk, :pair, [1, 2], %{c: <<255>>}}]
      assert [{:ok, 1}, {:error, first}, {:error, second}] = Typhon.multi(py, calls)
      assert {:error, ^first} = Typhon.call(py, :bulk, :note, [["x", <<255>>]])
      assert {:error, ^second} = Typhon.call(py, :bulk, :pair, [1, 2], kwargs: %{c: <<255>>})
    end

    test "stops at an error when told to", %{py: py} do
      Typhon.call!(py, :bulk, :noted, [])
      calls = [{:bulk, :note, [1]}, {:math, :sqrt, [-1]}, {:bulk, :note, [2]}]
      assert [{:ok, 1}, {:error, _}] = Typhon.multi(py, calls, stop_on_error: true)
      assert Typhon.call!(py, :bulk, :noted, []) == [1]
    end

    test "says what is wrong with the calls and the options", %{py: py} do
      assert_raise ArgumentError, ~r/number 1 is {:math, :sqrt}/, fn ->
        Typhon.multi(py, [{:math, :sqrt, [1]}, {:math, :sqrt}])
      end

      assert_raise ArgumentError, ~r/number 0 is {:math, :sqrt, 1, %{}}/, fn ->
        Typhon.multi(py, [{:math, :sqrt, 1}])
      end

      assert_raise ArgumentError, ~r/Typhon.multi\/3 has no option :kwargs/, fn ->
        Typhon.multi(py, [], kwargs: %{})
      end

      assert Typhon.multi(py, []) == []
    end
  end
end
