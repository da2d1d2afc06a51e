defmodule Typhon.ObjectTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{EncodeError, Object, PoolError, PythonError, TimeoutError, WorkerError}

  setup_all do
    %{py: start_pool(workers: 1)}
  end

  defp object(py, function, args \\ [], options \\ []) do
    {:ok, %Object{} = object} = Typhon.call(py, :objects, function, args, options)
    object
  end

  defp files(error), do: Enum.map(error.traceback, &Path.basename(&1.file))

  describe "get/3" do
    test "gives attributes, and attributes of those", %{py: py} do
      box = object(py, :box)
      assert {:ok, 1} = Typhon.get(box, :number)
      assert {:ok, 5} = Typhon.get(box, "box.number")
      assert {:ok, "five"} = Typhon.get(box, :"box.text")
      assert {:ok, %Object{type: "objects.Box"}} = Typhon.get(box, :box)
      assert "Box" = Typhon.get!(box, "__class__.__name__")
      assert {:ok, %{"a" => [1, 2]}} = Typhon.get(box, :nested, timeout: 10_000)
    end

    test "finds names beyond ASCII as a source of Python's would", %{py: py} do
      box = object(py, :box)
      assert {:ok, 7} = Typhon.get(box, "box.größe")
      assert {:ok, 7} = Typhon.get(box, "box.gro\u0308ße")
      assert {:error, %PythonError{type: "AttributeError"}} = Typhon.get(box, "box.länge")
    end

    test "gives constants of modules", %{py: py} do
      assert {:ok, pi} = Typhon.get(py, :math, :pi)
      assert_in_delta pi, 3.14, 0.01
      assert {:ok, 1} = Typhon.get(py, "datetime", "datetime.min.year", timeout: 10_000)
      assert "Box" = Typhon.get!(py, "objects", "Box.__name__")
      assert {:error, %PythonError{type: "ModuleNotFoundError"}} = Typhon.get(py, :not_there, :x)
      assert {:error, %PythonError{type: "AttributeError"} = error} = Typhon.get(py, :math, :tau_and_more)
      assert Exception.message(error) =~ ~s(File "<call>", line 1, in Typhon.get)
      refute Exception.message(error) =~ "_bulk"

      assert Typhon.run!(py, fn session -> Typhon.get!(session, :math, :tau) end) == 2 * pi
    end

    test "says what is wrong, without a frame of Typhon's", %{py: py} do
      assert {:error, %PythonError{type: "AttributeError"} = error} =
               Typhon.get(object(py, :box), "box.missing")

      assert error.message =~ "'Box' object has no attribute 'missing'"
      assert Exception.message(error) =~ ~s(File "<call>", line 1, in Typhon.get)
      refute Exception.message(error) =~ "_objects"

      hostile = object(py, :Hostile)
      assert {:error, %PythonError{type: "RuntimeError", message: "no x"} = error} = Typhon.get(hostile, :x)
      assert files(error) == ["objects.py"]
      refute Exception.message(error) =~ "_objects"
      assert_raise PythonError, fn -> Typhon.get!(hostile, :x) end
    end

    test "ends at its deadline", %{py: py} do
      hostile = object(py, :Hostile)

      assert {:error, %TimeoutError{module: "Typhon", function: "get", arity: 2} = error} =
               Typhon.get(hostile, :endless, timeout: 20)

      assert Exception.message(error) =~ "Typhon.get with 2 arguments did not answer within 20 ms"
      assert {:ok, 1} = Typhon.get(object(py, :box), :number)
    end

    test "refuses what is no name, and no option", %{py: py} do
      box = object(py, :box)

      assert_raise ArgumentError, ~r/the name must be an atom or a string, got 1/, fn ->
        Typhon.get(box, 1)
      end

      assert_raise ArgumentError, ~r/Typhon.get\/3 has no option :time/, fn ->
        Typhon.get(box, :a, time: 1)
      end

      assert_raise ArgumentError, ~r/Typhon.item\/3 takes a Typhon.Object, got 1/, fn ->
        Typhon.item(1, :a)
      end

      assert_raise ArgumentError, ~r/Typhon.repr\/2 takes a Typhon.Object/, fn -> Typhon.repr(nil) end
    end
  end

  describe "set/4, delete/3 and put_item/4" do
    test "change an object", %{py: py} do
      box = object(py, :box)
      assert :ok = Typhon.set(box, :number, 2)
      assert :ok = Typhon.set(box, "box.number", %{1 => [2]})
      assert {:ok, %{1 => [2]}} = Typhon.get(box, "box.number")
      assert :ok = Typhon.set(box, :itself, box)
      assert {:ok, 2} = Typhon.get(box, "itself.itself.number")
      assert :ok = Typhon.delete(box, "box.number")
      assert {:error, %PythonError{type: "AttributeError"}} = Typhon.get(box, "box.number")

      assert {:error, %PythonError{type: "AttributeError"} = error} = Typhon.delete(box, :number_of)
      assert Exception.message(error) =~ "in Typhon.delete"
      assert {:error, %PythonError{type: "AttributeError"}} = Typhon.set(box, "no.number", 1)
    end

    test "keys and values are any term", %{py: py} do
      counts = object(py, :Table)

      for key <- ["a", 1, {1, "b"}, nil, :atom, self()] do
        assert :ok = Typhon.put_item(counts, key, [key])
        assert {:ok, [^key]} = Typhon.item(counts, key)
        assert [^key] = Typhon.item!(counts, key)
      end

      assert {:ok, 6} = Typhon.len(counts)
      assert {:error, %PythonError{type: "TypeError", message: "unhashable" <> _}} = Typhon.item(counts, [1])
      assert {:error, %PythonError{type: "TypeError"}} = Typhon.put_item(counts, %{}, 1)
    end

    test "say where an argument cannot cross", %{py: py} do
      box = object(py, :box)
      assert {:error, %EncodeError{path: "value[0]"}} = Typhon.set(box, :x, [<<255>>])
      assert {:error, %EncodeError{path: "key"}} = Typhon.item(box, <<255>>)
      assert {:error, %EncodeError{path: "value"}} = Typhon.put_item(box, 1, <<255>>)
      assert {:error, %EncodeError{path: "args[1][\"a\"]"}} = Typhon.call(box, [1, %{"a" => <<255>>}])
      assert {:error, %EncodeError{path: "value", type: URI}} = Typhon.set(box, :x, URI.parse("a"))
    end
  end

  describe "item/3 and len/2" do
    test "ask the object", %{py: py} do
      box = object(py, :box)
      assert {:ok, 1} = Typhon.item(box, "number")
      assert {:error, %PythonError{type: "KeyError"} = error} = Typhon.item(box, "x")
      assert files(error) == ["objects.py"]
      assert {:error, %PythonError{type: "TypeError"}} = Typhon.len(box)
      assert {:error, %PythonError{type: "ValueError"}} = Typhon.len(object(py, :Hostile))
      {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2, 3]])
      assert 3 = Typhon.len!(queue)
    end
  end

  describe "call/3" do
    test "calls the object itself", %{py: py} do
      box = object(py, :box)
      assert {:ok, {{}, %{}}} = Typhon.call(box, [])

      assert {:ok, {{1, [2]}, %{"target" => 3}}} =
               Typhon.call(box, [1, [2]], kwargs: %{target: 3}, timeout: 10_000)

      assert {:ok, add} = Typhon.get(box, :add)
      assert 3 = Typhon.call!(add, [1, 2])
      assert {:error, %PythonError{type: "TypeError"}} = Typhon.call(add, ["a"])

      assert {:ok, class} = Typhon.get(box, :__class__)
      assert {:ok, %Object{type: "objects.Box"} = made} = Typhon.call(class, [], kwargs: [number: 8])
      assert {:ok, 8} = Typhon.get(made, :number)
    end

    test "awaits coroutines", %{py: py} do
      {:ok, later} = Typhon.get(object(py, :box), :later)
      assert {:ok, 4} = Typhon.call(later, [4])
    end

    test "builtins that look at their caller see a program's beginning", %{py: py} do
      {:ok, run} = Typhon.get(py, :builtins, :eval)
      assert {:ok, "__main__"} = Typhon.call(run, ["__name__"])
      assert {:ok, "eval"} = Typhon.get(run, "__name__")
    end

    test "refuses what is no object and no list", %{py: py} do
      assert_raise ArgumentError, ~r/Typhon.call\/3 takes a Typhon.Object, got :math/, fn ->
        Typhon.call(:math, [1])
      end

      assert_raise ArgumentError, ~r/A single argument is \[1\]/, fn -> Typhon.call(object(py, :box), 1) end
      assert_raise ArgumentError, ~r/no option :retry/, fn -> Typhon.call(object(py, :box), [], retry: 1) end
    end
  end

  describe "what an object says of itself" do
    test "its repr, type, names and docstring", %{py: py} do
      box = object(py, :box)
      {:ok, queue} = Typhon.call(py, :collections, :deque, [[1]])
      assert {:ok, "deque([1])"} = Typhon.repr(queue)
      assert "deque([1])" = Typhon.repr!(queue)
      assert "collections.deque" = Typhon.type(queue)
      assert {:ok, names} = Typhon.dir(box)
      assert "number" in names and "inner" in names
      assert {:ok, "Keeps things.\n\nOf all sorts."} = Typhon.doc(box)
      assert {:ok, nil} = Typhon.doc(object(py, :Slow))
    end

    test "errors of it are errors", %{py: py} do
      hostile = object(py, :Hostile)
      assert {:error, %PythonError{message: "no repr"} = error} = Typhon.repr(hostile)
      assert files(error) == ["objects.py"]
      assert {:error, %PythonError{message: "no dir"}} = Typhon.dir(hostile)
      assert {:error, %TimeoutError{function: "repr"}} = Typhon.repr(object(py, :Slow), timeout: 20)
    end

    @tag :os_process
    test "a repr that is larger than a result may be is refused" do
      py = start_pool(workers: 1, max_result: 1_000_000)

      assert {:error, %EncodeError{path: "result", reason: reason}} =
               Typhon.repr(object(py, :Large), timeout: 60_000)

      assert reason =~ "max_result"
      assert {:ok, 1} = Typhon.get(object(py, :box), :number)
    end
  end

  describe "same?/2" do
    test "is Python's `is`", %{py: py} do
      box = object(py, :box)
      assert Typhon.same?(box, box)
      assert Typhon.same?(box, Typhon.call!(py, :objects, :same, [box]))
      refute Typhon.same?(box, object(py, :box))
      refute Typhon.same?(object(py, :Hostile), object(py, :Hostile))
    end

    @tag :several_workers
    test "objects of two workers, or pools, are two", %{py: py} do
      other = start_pool(workers: 1)
      refute Typhon.same?(object(py, :box), object(other, :box))

      two = start_pool(workers: 2)
      [one, another] = on_both(two)
      refute Typhon.same?(one, another)
      refute Typhon.same?(Typhon.Test.object("a"), Typhon.Test.object("a"))
    end

    test "raises when Python has gone" do
      py = start_pool()
      box = object(py, :box)
      again = Typhon.call!(py, :objects, :same, [box])
      Typhon.stop(py)
      assert_raise PoolError, fn -> Typhon.same?(box, again) end
    end
  end

  # An object in each of two workers.
  defp on_both(py) do
    Typhon.run!(py, fn session ->
      other = Task.async(fn -> object(py, :box) end)
      [object(session, :box), Task.await(other, limit())]
    end)
  end

  describe "as: :object" do
    @values [1, 1.5, "text", "", nil, true, [1, [2]], %{"a" => %{}}, {1, {}}, :atom]

    test "keeps any result in Python", %{py: py} do
      for value <- @values do
        assert {:ok, %Object{} = object} = Typhon.call(py, :objects, :same, [value], as: :object)
        assert {:ok, ^value} = Typhon.to_term(object)
        assert Typhon.to_term!(object) == value
        assert {:ok, ^value} = Typhon.call(py, :objects, :same, [object])
        assert {:ok, ^value} = Typhon.call(py, :objects, :same, [value], as: :value)
      end

      assert {:ok, %Object{type: "NoneType"}} = Typhon.call(py, :objects, :same, [nil], as: :object)

      assert {:ok, %Object{type: "list"}} =
               Typhon.call(py, :objects, :same, [[]], as: :object, worker: 1, retry: 1)

      assert {:ok, %Object{type: "list"}} =
               py |> Typhon.async(:objects, :same, [[]], as: :object) |> Typhon.await()

      assert {:ok, %Object{type: "objects.Box"}} = Typhon.call(py, :objects, :box, [], as: :object)
    end

    test "of operations and chains", %{py: py} do
      box = object(py, :box)
      assert {:ok, %Object{type: "dict"} = nested} = Typhon.get(box, :nested, as: :object)
      assert {:ok, %Object{type: "list"} = list} = Typhon.item(nested, "a", as: :object)
      assert :ok = Typhon.put_item(list, 0, list)
      assert {:ok, "[[...], 2]"} = Typhon.repr(list)
      assert {:error, %EncodeError{path: path}} = Typhon.to_term(list)
      assert path =~ "result[0]"
      assert {:ok, %Object{type: "int"}} = Typhon.len(list, as: :object)
      assert {:ok, %Object{type: "tuple"}} = Typhon.call(box, [1], as: :object)
      assert {:ok, %Object{type: "float"}} = Typhon.get(py, :math, :pi, as: :object)
      assert {:ok, %Object{type: "int"} = five} = Typhon.chain(box, [get: "box.number"], as: :object)
      assert {:ok, %Object{type: "int"}} = Typhon.Chain.run(Typhon.chain(five), as: :object)
      assert {:ok, %Object{type: "str"}} = Typhon.call(py, box, :later, ["x"], as: :object)

      assert_raise ArgumentError, ~r/as: must be :value, :object or a struct.s module/, fn ->
        Typhon.get(box, :a, as: :map)
      end
    end

    test "in a session, and in a pool that is measured" do
      py = start_pool(telemetry: true)
      assert {:ok, %Object{type: "list"}} = Typhon.call(py, :objects, :same, [[]], as: :object)

      Typhon.run!(py, fn session ->
        assert {:ok, %Object{type: "list"} = list} = Typhon.call(session, :objects, :same, [[]], as: :object)
        assert {:ok, %Object{type: "int"}} = Typhon.call(py, list, :__len__, [], as: :object)
        assert {:ok, 0} = Typhon.len(list)
      end)
    end

    test "what is raised is raised", %{py: py} do
      assert {:error, %PythonError{type: "RuntimeError"}} = Typhon.get(object(py, :Hostile), :x, as: :object)
    end

    test "a str or a tuple in the place of a module is that, and no module's name", %{py: py} do
      for {value, method, args, result} <- [{"math", :upper, [], "MATH"}, {{1, 1}, :count, [1], 2}] do
        {:ok, object} = Typhon.call(py, :objects, :same, [value], as: :object)
        assert {:ok, ^result} = Typhon.call(py, object, method, args)
        assert {:ok, ^result} = Typhon.chain(object, call: {method, args})
        assert [{:ok, ^result}] = Typhon.multi(py, object, method, [args])
        assert [{:ok, ^result}] = Typhon.multi(py, [{object, method, args}])
        assert [^result] = py |> Typhon.map(:objects, :same, [result]) |> Enum.to_list()

        assert {:error, %PythonError{type: "AttributeError"}} = Typhon.call(py, object, :sqrt, [4])
        assert {:error, %PythonError{type: "AttributeError"}} = Typhon.call(py, object, :größe, [4])
        assert [{:error, %PythonError{type: "AttributeError"}}] = Typhon.multi(py, object, :sqrt, [[4]])
        assert [{:error, %PythonError{}}] = Typhon.multi(py, object, :größe, [[4]])
        assert {:error, %PythonError{} = error} = Typhon.call(py, object, method, [1, 2, 3])
        assert Exception.message(error) =~ ~s(in #{Typhon.type(object)}.#{method})
        assert {:error, %TimeoutError{}} = Typhon.call(py, object, method, args, timeout: 0)
      end

      {:ok, text} = Typhon.call(py, :objects, :same, ["a,b"], as: :object)
      assert py |> Typhon.stream(text, :split, [","]) |> Enum.to_list() == ["a", "b"]
      assert text |> Typhon.stream() |> Enum.to_list() == ["a", ",", "b"]
      assert {:ok, "math"} = Typhon.get(py, "math", "__name__")
    end
  end

  describe "the picture of a handle" do
    # On a busy machine one may come too late: another handle has another picture.
    defp pictured(fun) do
      eventually(fn ->
        case fun.() do
          {:ok, %Object{repr: nil}} -> nil
          {:ok, object} -> object
        end
      end)
    end

    test "is its repr, on one line, and asks nobody", %{py: py} do
      queue = pictured(fn -> Typhon.call(py, :collections, :deque, [["a", 1]]) end)
      assert queue.repr == "deque(['a', 1])"
      assert inspect(queue) == "#Typhon.Object<collections.deque: deque(['a', 1])>"
      assert :ok = Typhon.put_item(queue, 0, "b")
      assert queue.repr == "deque(['a', 1])"

      shown = pictured(fn -> Typhon.call(py, :objects, :Shown, ["two\n  lines"]) end)
      assert shown.repr == "two\n  lines"
      assert inspect(shown) == "#Typhon.Object<objects.Shown: two lines>"

      eventually(fn ->
        match?(
          [%Object{repr: "x"}, %{"a" => %Object{repr: "y"}}],
          Typhon.call!(py, :objects, :shown, ["x", "y"])
        )
      end)
    end

    test "is that of the class when there is no other", %{py: py} do
      assert %Object{repr: nil} = box = object(py, :box)
      assert inspect(box) == "#Typhon.Object<objects.Box>"
      assert %Object{repr: nil} = object(py, :Hostile)
      assert %Object{repr: nil} = object(py, :Shown, [1])
      assert {:ok, 1} = Typhon.get(object(py, :box), :number)
    end

    test "shows control characters, and those that turn text, as Python's repr of a str does", %{py: py} do
      code = """
      class Odd:
          def __repr__(self): return "a\\x1b[31m\\x1b]0;title\\x07\\u202e\\x00\\x9b ü 👩‍🚀"

      Odd.__qualname__ = "Od\\x1bd"
      Odd()
      """

      odd = pictured(fn -> Typhon.eval(py, code) end)
      shown = ~S"a\x1b[31m\x1b]0;title\x07\u202e\x00\x9b ü 👩‍🚀"
      assert inspect(odd) == ~S"#Typhon.Object<__main__.Od\x1bd: " <> shown <> ">"
      # As it is, for whoever wants that.
      assert {:ok, "a\e[31m\e]0;title\a" <> _} = Typhon.repr(odd)
      refute inspect(Typhon.render!(odd)) =~ "\e"
      assert {:error, error} = Typhon.to_term(odd)
      refute Exception.message(error) =~ "\e"

      assert {:error, error} = Typhon.eval(py, "raise ValueError('one\\n\\ttwo \\x1b[2J')")
      assert inspect(error) =~ "one\n\ttwo \\x1b[2J"
    end

    test "does not depend on what a metaclass answers", %{py: py} do
      code = """
      class Meta(type):
          def __getattribute__(self, name): raise KeyboardInterrupt
          def __repr__(self): raise ValueError

      class Mine(metaclass=Meta):
          def __repr__(self): return "mine"

      class Failed(Exception, metaclass=Meta):
          pass
      """

      mine = pictured(fn -> Typhon.eval(py, code <> "Mine()") end)
      assert {mine.type, mine.repr} == {"__main__.Mine", "mine"}
      assert {:ok, [1, %Object{repr: nil}]} = Typhon.eval(py, code <> "[1, Mine]")
      assert {:error, %Typhon.PythonError{type: "Failed"}} = Typhon.eval(py, code <> "raise Failed")

      code = """
      class Meta(type):
          @property
          def __dataclass_fields__(self): raise KeyboardInterrupt
          @property
          def __module__(self): raise KeyboardInterrupt

      class Mine(metaclass=Meta): pass
      Mine()
      """

      assert {:ok, %Object{type: "Mine"}} = Typhon.eval(py, code)
    end

    test "is cut", %{py: py} do
      %{repr: repr} = pictured(fn -> Typhon.call(py, :objects, :Shown, [String.duplicate("ä", 1000)]) end)
      assert repr == String.duplicate("ä", 199) <> "…"
      %{repr: repr} = pictured(fn -> Typhon.call(py, :objects, :Shown, [String.duplicate("a", 200)]) end)
      assert repr == String.duplicate("a", 200)
      %{repr: repr} = pictured(fn -> Typhon.call(py, :objects, :surrogates, []) end)
      assert repr =~ "\\udcff"
      %{repr: repr} = pictured(fn -> Typhon.call(py, :builtins, :range, [0, 5], as: :object) end)
      assert repr == "range(0, 5)"
    end

    test "of containers is a part of them, however large", %{py: py} do
      for {type, length} <- [
            {"list", 3_000_000},
            {"tuple", 3_000_000},
            {"set", 3_000_000},
            {"bytes", 30_000_000}
          ] do
        %{repr: repr} =
          pictured(fn -> Typhon.call(py, :objects, :large, [type, length], as: :object, timeout: 60_000) end)

        assert String.length(repr) in 100..200
      end

      nested = [%{"a" => [1, %{"b" => nil}]}]

      assert %{repr: "{'a': [1, {'b': None}]}"} =
               pictured(fn -> Typhon.call(py, :objects, :same, nested, as: :object) end)

      for code <- [
            "[]",
            "()",
            "(1,)",
            "{}",
            "set()",
            "{1}",
            "frozenset()",
            "frozenset({1})",
            "[[[1]]]",
            "''",
            "b'a'"
          ] do
        assert %{repr: ^code} = pictured(fn -> Typhon.call(py, :builtins, :eval, [code], as: :object) end)
      end

      assert %{repr: "'text'"} = pictured(fn -> Typhon.call(py, :objects, :same, ["text"], as: :object) end)
      assert %{repr: "[1, " <> _} = pictured(fn -> Typhon.call(py, :objects, :cyclic, [], as: :object) end)

      assert %{repr: "Counter" <> _} =
               pictured(fn -> Typhon.call(py, :collections, :Counter, ["ab"], as: :object) end)
    end

    test "does not wait for a repr that takes long, nor for many", %{py: py} do
      for kind <- [:Slow, :Busy, :Stubborn] do
        assert %Object{repr: nil, type: "objects." <> _} = slow = object(py, kind)
        assert inspect(slow) == "#Typhon.Object<#{slow.type}>"
        # It was for the picture alone.
        assert {:ok, 499_999_500_000} = Typhon.call(py, :objects, :work, [])
      end

      objects = Typhon.call!(py, :objects, :many_slow, [1_000])
      assert length(objects) == 1_000
      assert Enum.count(objects, &(&1.repr == nil)) > 900
      assert {:ok, 1} = Typhon.get(object(py, :box), :number)
    end

    test "of coroutines, and in a pool with threads" do
      py = start_pool(concurrency: 4)

      assert %{repr: "now"} = pictured(fn -> Typhon.call(py, :objects, :shown_later, ["now"]) end)
      assert {:ok, %Object{repr: nil}} = Typhon.call(py, :objects, :slow_later, [])

      results =
        1..40
        |> Enum.map(fn i ->
          Typhon.async(py, :objects, Enum.at([:Slow, :Busy, :box], rem(i, 3)), [], timeout: 60_000)
        end)
        |> Task.await_many(limit())

      for result <- results, do: assert({:ok, %Object{repr: nil}} = result)
      for _ <- 1..20, do: assert({:ok, 499_999_500_000} = Typhon.call(py, :objects, :work, []))
    end
  end

  describe "to_term/2" do
    test "says that there is no counterpart", %{py: py} do
      assert {:error, %EncodeError{type: "objects.Box"} = error} = Typhon.to_term(object(py, :box))

      assert Exception.message(error) =~
               "the object cannot cross: a value of type objects.Box has no counterpart"
    end
  end

  describe "chain/3" do
    @steps [get: "box", get: :number, call: {:__add__, [1]}, call: {"__mul__", [3]}, get: "real"]

    test "takes the steps in one request", %{py: py} do
      box = object(py, :box)
      assert {:ok, 18} = Typhon.chain(box, @steps)
      assert 18 = Typhon.chain!(box, @steps, timeout: 10_000)
      assert {:ok, 2} = Typhon.chain(box, get: "nested", item: "a", item: -1)
      assert {:ok, {{1}, %{"a" => 2}}} = Typhon.chain(box, call: {[1], [a: 2]})
      assert {:ok, {{1}, %{}}} = Typhon.chain(box, call: [1])

      for count <- [0, 9, 10, 300] do
        args = Enum.to_list(1..count//1)
        assert {:ok, {given, %{}}} = Typhon.chain(box, get: "box", call: args)
        assert Tuple.to_list(given) == args
        assert {:ok, {^given, %{}}} = Typhon.chain(box, item: "box", call: {"__call__", args})
      end

      assert {:ok, 5} =
               Typhon.chain(box, get: "box", get: :inner, get: "__self__", call: {"add", [2], %{b: 3}})

      assert {:ok, 7} = Typhon.chain(box, get: "box.größe")
      assert {:ok, %Object{type: "objects.Box"}} = Typhon.chain(box, get: "box")
      assert {:ok, %Object{} = same} = Typhon.chain(box, [])
      assert Typhon.same?(box, same)
    end

    test "has any number of steps and shapes", %{py: py} do
      box = object(py, :box)
      long = [get: "number"] ++ List.duplicate({:get, "real"}, 999)
      assert {:ok, 1} = Typhon.chain(box, long)
      for n <- 1..600, do: assert({:ok, ^n} = Typhon.chain(box, call: {:set, ["n#{n}", n]}, get: "n#{n}"))
    end

    test "names are what Python takes for a name, or anything else", %{py: py} do
      box = object(py, :box)

      {:ok, adder} = Typhon.call(py, :objects, :add_to, [])

      for name <- ["class", "None", "a b", "'", "x\nimport os", "größe", "__debug__", "x[0]", "\\"] do
        assert {:ok, 5} = Typhon.chain(box, call: {"set", [name, 5]}, get: name)
        assert {:ok, 6} = Typhon.chain(box, call: {"set", [name, adder]}, call: {name, [1]})
      end

      assert {:ok, 7} = Typhon.chain(box, get: "box.gro\u0308ße")
    end

    test "builtins that look at their caller see a program's beginning", %{py: py} do
      {:ok, builtins} = Typhon.call(py, :importlib, :import_module, ["builtins"])
      assert {:ok, "__main__"} = Typhon.chain(builtins, call: {:eval, ["__name__"]})
      assert {:ok, "__main__"} = Typhon.chain(builtins, get: "eval", call: ["__name__"])
      assert {:error, %PythonError{type: "NameError"}} = Typhon.chain(builtins, get: :eval, call: ["a"])
    end

    test "can be made step by step", %{py: py} do
      chain = py |> object(:box) |> Typhon.chain() |> Typhon.Chain.get(:nested) |> Typhon.Chain.item("a")
      assert inspect(chain) == "#Typhon.Chain<objects.Box, steps: 2>"
      assert {:ok, [1, 2]} = Typhon.Chain.run(chain)
      assert {:ok, 0} = chain |> Typhon.Chain.call("index", [1]) |> Typhon.Chain.run(timeout: 10_000)

      assert {{}, %{"a" => 1}} =
               py |> object(:box) |> Typhon.chain() |> Typhon.Chain.call([], a: 1) |> Typhon.Chain.run!()

      added = py |> object(:box) |> Typhon.chain() |> Typhon.Chain.call(:add, [1], %{b: 2})
      assert {:ok, 3} = Typhon.Chain.run(added)

      assert {:ok, "('x',)"} =
               py
               |> object(:box)
               |> Typhon.chain()
               |> Typhon.Chain.call(["x"])
               |> Typhon.Chain.item(0)
               |> Typhon.Chain.call(:__repr__, [])
               |> Typhon.Chain.run()
    end

    test "awaits coroutines on its way", %{py: py} do
      box = object(py, :box)
      assert {:ok, 3} = Typhon.chain(box, call: {:later, [3]})
      assert {:ok, 8} = Typhon.chain(box, call: {:later_box, []}, call: {:later, [7]}, call: {:__add__, [1]})

      assert {:error, %PythonError{type: "AttributeError"} = error} =
               Typhon.chain(box, call: {:later_box, []}, get: "missing")

      assert Exception.message(error) =~ "step 2 of 2, get: 'missing'"
    end

    test "says which step failed, and shows the user's frames", %{py: py} do
      box = object(py, :box)
      hostile = object(py, :Hostile)

      for {object, steps, type, note} <- [
            {box, [get: :box, get: "text", item: "x", get: "y"], "TypeError", "step 3 of 4, item: 'x'"},
            {box, [item: :number], "KeyError", "step 1 of 1, item: Atom('number')"},
            {box, [get: "nested", item: {1, 2}], "KeyError", "step 2 of 2, item: a key of the type tuple"},
            {box, [get: "nested", item: nil], "KeyError", "step 2 of 2, item: None"},
            {box, [get: "number", call: [1]], "TypeError", "step 2 of 2, call: with 1 argument"},
            {box, [call: {"no_such", []}], "AttributeError", "step 1 of 1, call: 'no_such'"},
            {box, [get: String.duplicate("a", 100)], "AttributeError",
             "step 1 of 1, get: '#{String.duplicate("a", 60)}' …"},
            {hostile, [get: "a.b"], "RuntimeError", "step 1 of 1, get: 'a.b'"}
          ] do
        assert {:error, %PythonError{type: ^type} = error} = Typhon.chain(object, steps)
        assert Exception.message(error) =~ "In a chain: " <> note <> "\n" or Exception.message(error) =~ note
        refute Exception.message(error) =~ "_objects"
      end

      assert {:error, error} = Typhon.chain(hostile, get: "x")
      assert files(error) == ["objects.py"]
      assert {:error, error} = Typhon.chain(box, get: "missing")
      assert Exception.message(error) =~ ~s(File "<call>", line 1, in Typhon.chain)
    end

    test "an exception that is raised twice has one note", %{py: py} do
      chained = object(py, :Raising)
      assert {:error, %PythonError{notes: [_]}} = Typhon.chain(chained, call: {:fail, []})
      assert {:error, %PythonError{notes: [note]}} = Typhon.chain(chained, get: "itself", call: {:fail, []})
      assert note =~ "step 2 of 2"
    end

    test "ends at its deadline", %{py: py} do
      assert {:error, %TimeoutError{function: "chain"} = error} =
               Typhon.chain(object(py, :Hostile), [get: "endless"], timeout: 20)

      assert Exception.message(error) =~ "Typhon.chain"
    end

    test "says where an argument cannot cross", %{py: py} do
      box = object(py, :box)

      for {steps, path} <- [
            {[get: "box", item: [<<255>>]], "step 2, key[0]"},
            {[call: [1, <<255>>]], "step 1, args[1]"},
            {[call: {"add", [<<255>>]}, get: "x"], "step 1, args[0]"},
            {[item: 1, call: Enum.to_list(1..9) ++ [<<255>>]], "step 2, args[9]"},
            {[item: 1, call: {[<<255>>], %{}}], "step 2, args[0]"},
            {[call: {"add", [1], b: URI.parse("a")}], ~s(step 1, kwargs["b"])},
            {[call: {"add", [URI.parse("a")]}], "step 1, args[0]"}
          ] do
        assert {:error, %EncodeError{path: ^path}} = Typhon.chain(box, steps)
      end
    end

    test "refuses what is no step", %{py: py} do
      box = object(py, :box)

      for steps <- [
            [get: 1],
            [call: 1],
            [call: {:a, 1}],
            [call: {[], 1, 2}],
            [:get],
            [set: "a"],
            [get: "a"] ++ :b
          ] do
        assert_raise ArgumentError, ~r/must be/, fn -> Typhon.chain(box, steps) end
      end

      assert_raise ArgumentError, ~r/at most 1000 steps/, fn ->
        Typhon.chain(box, List.duplicate({:get, :real}, 1_001))
      end

      assert_raise ArgumentError, ~r/step 2 of a chain must be get: path, item: key/, fn ->
        Typhon.chain(box, get: "a", items: 1)
      end
    end
  end

  describe "enter/3" do
    test "enters and leaves", %{py: py} do
      context = object(py, :Context)

      assert {:ok, "ENTERED"} =
               Typhon.enter(context, fn value ->
                 assert Typhon.call!(py, :objects, :take_log, []) == ["enter"]
                 String.upcase(value)
               end)

      assert Typhon.call!(py, :objects, :take_log, []) == [{"exit", nil, "None", nil}]

      generated = object(py, :generated)
      assert {:ok, 3} = Typhon.enter(generated, &Typhon.get!(&1, :number), timeout: 10_000)
      assert Typhon.call!(py, :objects, :take_log, []) == ["enter", "exit"]
    end

    test "tells Python what was raised, and goes on with it", %{py: py} do
      assert_raise ArgumentError, "oops", fn ->
        Typhon.enter(object(py, :Context), fn _ -> raise ArgumentError, "oops" end)
      end

      assert Typhon.call!(py, :objects, :take_log, []) == [
               "enter",
               {"exit", "BeamError", "oops", "ArgumentError"}
             ]

      assert catch_throw(Typhon.enter(object(py, :generated), fn _ -> throw(:ball) end)) == :ball
      assert ["enter", {"raised", "** (throw) :ball"}, "exit"] = Typhon.call!(py, :objects, :take_log, [])

      suppressing = object(py, :Context, [], kwargs: [suppress: true])
      assert {:ok, nil} = Typhon.enter(suppressing, fn _ -> exit(:gone) end)
      assert ["enter", {"exit", "BeamError", _, ""}] = Typhon.call!(py, :objects, :take_log, [])
    end

    test "errors of Python's are the result, and show the user's frames", %{py: py} do
      fails = object(py, :Context, [], kwargs: [fails: "enter"])

      assert {:error, %PythonError{message: "cannot enter"} = error} =
               Typhon.enter(fails, fn _ -> flunk("ran") end)

      assert files(error) == ["objects.py"]

      fails = object(py, :Context, [], kwargs: [fails: "exit"])
      assert {:error, %PythonError{message: "cannot leave"} = error} = Typhon.enter(fails, & &1)
      assert files(error) == ["objects.py"]
      assert_raise RuntimeError, "first", fn -> Typhon.enter(fails, fn _ -> raise "first" end) end

      assert {:error, %PythonError{type: "TypeError", message: message}} =
               Typhon.enter(object(py, :box), & &1)

      assert message =~ "Box is no context manager"
      Typhon.call!(py, :objects, :take_log, [])
    end

    test "leaves what was entered when its value cannot cross", %{py: py} do
      assert {:error, %EncodeError{}} = Typhon.enter(object(py, :cyclic_context), fn _ -> flunk("ran") end)

      eventually(fn ->
        match?(["enter", {"exit", "BeamError", _, _}], Typhon.call!(py, :builtins, :list, [log(py)]))
      end)

      Typhon.call!(py, :objects, :take_log, [])
    end

    test "knows async with", %{py: py} do
      assert {:ok, "async"} = Typhon.enter(object(py, :generated_async), & &1)
      assert Typhon.call!(py, :objects, :take_log, []) == ["enter", "exit"]
    end

    test "is left when its process ends", %{py: py} do
      for function <- [:generated, :generated_async] do
        context = object(py, function)
        test = self()

        {:ok, pid} =
          Task.start(fn ->
            Typhon.enter(context, fn _ ->
              send(test, :entered)
              Process.sleep(:infinity)
            end)
          end)

        assert_receive :entered, limit()
        Process.exit(pid, :kill)
        eventually(fn -> List.last(log(py)) == "exit" end)
        Typhon.call!(py, :objects, :take_log, [])
      end
    end
  end

  defp log(py), do: Typhon.get!(py, :objects, :log)

  describe "stream/2" do
    test "gives the elements", %{py: py} do
      {:ok, queue} = Typhon.call(py, :collections, :deque, [Enum.to_list(1..3000)])
      assert queue |> Typhon.stream() |> Enum.sum() == Enum.sum(1..3000)
      assert queue |> Typhon.stream(batch: 10, timeout: 10_000) |> Enum.take(2) == [1, 2]

      assert py |> object(:numbers, [5]) |> Typhon.stream() |> Enum.to_list() == [0, 1, 2, 3, 4]
      assert py |> object(:numbers_async, [5]) |> Typhon.stream() |> Enum.to_list() == [0, 1, 2, 3, 4]
    end

    test "does not close a generator of which there is a handle", %{py: py} do
      for function <- [:numbers, :numbers_async] do
        numbers = object(py, function, [10])
        # What is being fetched when the stream ends is interrupted.
        fetched =
          Stream.each(Typhon.stream(numbers, batch: 1), fn _ -> eventually(fn -> in_flight(py) == 0 end) end)

        assert Enum.take(fetched, 2) == [0, 1]
        assert List.last(numbers |> Typhon.stream() |> Enum.to_list()) == 9
      end
    end

    test "says what cannot be iterated over", %{py: py} do
      assert_raise PythonError, ~r/needs an iterator or an iterable, and this object is Group/, fn ->
        {:ok, group} = Typhon.call(py, :sample, :Group, [])
        group |> Typhon.stream() |> Enum.to_list()
      end

      assert_raise ArgumentError, ~r/Typhon.stream\/2 has no option :kwargs/, fn ->
        Typhon.stream(object(py, :box), kwargs: %{})
      end
    end
  end

  describe "an object" do
    @tag :several_workers
    test "of another worker, or pool, is refused as an argument", %{py: py} do
      other = object(start_pool(workers: 1), :box)
      [one, another] = on_both(start_pool(workers: 2))

      for {a, b} <- [{object(py, :box), other}, {one, another}] do
        assert {:error, %EncodeError{reason: reason}} = Typhon.set(a, :x, b)
        assert reason =~ "different workers"
        assert {:error, %EncodeError{}} = Typhon.item(a, [b])
        assert {:error, %EncodeError{}} = Typhon.call(a, [b])
      end
    end

    test "is what get takes, or a scope", %{py: py} do
      for target <- [nil, py, :math, "box"] do
        assert_raise ArgumentError,
                     ~r/get takes a Typhon.Object or a Typhon.Scope, got .*Typhon.get\(pool, module, :pi\)/,
                     fn ->
                       Typhon.get(target, :pi)
                     end
      end
    end

    test "of another pool takes no function there", %{py: py} do
      other = start_pool(workers: 1)
      box = object(py, :box)

      for result <- [
            Typhon.call(other, :builtins, :repr, [box]),
            Typhon.call(other, :builtins, :repr, [[%{"a" => {box}}]]),
            Typhon.eval(other, "x", x: box),
            Typhon.async(other, :builtins, :repr, [box]) |> Typhon.await()
          ] do
        assert {:error, %EncodeError{} = error} = result

        assert Exception.message(error) =~
                 "an object of another pool, which has its own Python: make the call"
      end

      assert {:ok, _} = Typhon.call(py, :builtins, :repr, [box])
      # Its own worker is gone: that is said.
      gone = object(other, :box)
      :ok = Typhon.restart(other)
      assert {:error, %WorkerError{}} = Typhon.call(other, :builtins, :repr, [gone])
    end

    @tag :several_workers
    test "goes to its worker, whichever that is" do
      two = start_pool(workers: 2)
      [one, another] = on_both(two)
      :ok = Typhon.set(one, :number, :one)
      :ok = Typhon.set(another, :number, :another)
      for _ <- 1..10, do: assert({:ok, :one} = Typhon.get(one, :number))
      for _ <- 1..10, do: assert({:ok, :another} = Typhon.get(another, :number))
    end

    @tag :os_process
    test "is of no use when its worker or pool is gone" do
      py = start_pool()
      box = object(py, :box)
      code = "import os\nprint('last words', flush=True)\nos._exit(1)"
      assert {:error, %WorkerError{object: false}} = Typhon.eval(py, code)

      for result <- [
            Typhon.get(box, :number),
            Typhon.call(box, [1]),
            Typhon.eval(py, "x", x: box),
            Typhon.call(py, :builtins, :len, [[box]]),
            Typhon.cast(py, box, :method, [])
          ] do
        assert {:error, %WorkerError{object: true, exit_status: 1} = error} = result
        assert Exception.message(error) =~ "exited with status 1. The object was there, and is gone with it"
        refute Exception.message(error) =~ "last words"
      end

      Typhon.stop(py)
      assert {:error, %PoolError{reason: :stopped}} = Typhon.get(box, :number)
    end

    test "of a test's own is of no pool" do
      object = Typhon.Test.object("shop.Cart")
      assert {:error, %EncodeError{} = error} = Typhon.get(object, :x)
      assert Exception.message(error) =~ "it is of no pool"
      assert {:error, %EncodeError{}} = Typhon.enter(object, & &1)
      assert_raise EncodeError, fn -> Enum.to_list(Typhon.stream(object)) end
      assert "shop.Cart" = Typhon.type(object)
    end

    test "is not compared with names", %{py: py} do
      hostile = object(py, :Hostile)
      assert [{:ok, -1}] = Typhon.multi(py, hostile, :__len__, [[]])
      assert [{:ok, -1}] = Typhon.multi(py, [{hostile, :__len__, []}])
    end

    test "has the pid of its pool, wherever it comes from" do
      py = start_pool(name: :"object test")
      assert %Object{pool: ^py} = object(:"object test", :box)
      assert [%Object{pool: ^py}] = Typhon.call!(py, :objects, :same, [[object(py, :box)]])

      assert %{number: 1} =
               Typhon.run!(py, fn session -> %{number: Typhon.get!(object(session, :box), :number)} end)
    end
  end
end
