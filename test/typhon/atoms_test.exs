defmodule Typhon.AtomsTest do
  # Atoms as keys and as values in what goes to Python: objects of a class of their own, or strings.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{DecodeError, EncodeError, PythonError}

  @mixed %{name: "x", list: [%{a: :b}], tuple: {%{c: 1}}, nil: nil, true: true}

  defp repr(py, term, options \\ []), do: Typhon.call!(py, :builtins, :repr, [term], options)

  setup_all do
    {:ok,
     plain: start_pool(workers: 1),
     keys: start_pool(workers: 1, keys: :strings),
     both: start_pool(workers: 1, keys: :strings, values: :strings)}
  end

  # As Python sorts them, for maps have no order of their own.
  defp sorted(py, map, options \\ []),
    do:
      Typhon.call!(py, :builtins, :eval, ["lambda map: sorted(map.items(), key=repr)"])
      |> then(&called(py, &1, map, options))

  defp called(py, object, term, options), do: Typhon.call!(py, object, :__call__, [term], options)

  describe "keys: :strings" do
    test "makes str of atoms that are keys, at any depth", %{keys: py} do
      assert Typhon.call!(py, :json, :dumps, [%{name: %{a: [%{b: 1}]}}]) == ~s|{"name": {"a": [{"b": 1}]}}|
      assert Typhon.call(py, :operator, :getitem, [%{größe: 1, 日本: 2}, "größe"]) == {:ok, 1}
      assert Typhon.call(py, :operator, :getitem, [%{größe: 1, 日本: 2}, "日本"]) == {:ok, 2}
      assert Typhon.call!(py, :builtins, :dict, [], kwargs: %{x: %{y: :z}}) == %{"x" => %{"y" => :z}}
      assert repr(py, Map.new(1..100, &{:"key#{&1}", 1})) =~ "'key77': 1"
    end

    test "leaves nil, true and false what they are, and other atoms, too", %{keys: py} do
      assert sorted(py, @mixed) == [
               {"list", [%{"a" => :b}]},
               {"name", "x"},
               {"tuple", {%{"c" => 1}}},
               {nil, nil},
               {true, true}
             ]

      assert repr(py, :ok) == "Atom('ok')"
      assert repr(py, %{{:a, 1} => 1}) == "{(Atom('a'), 1): 1}"
    end

    test "leaves structs and sets as they are", %{keys: py} do
      for term <- [~D[2026-01-02], ~U[2026-01-02 03:04:05Z], 1..3, MapSet.new([:a, {:b, "c"}])] do
        assert Typhon.call!(py, :sample, :echo, [term]) == term
      end

      assert repr(py, MapSet.new([:a])) == "{Atom('a')}"
      assert repr(py, [~D[2026-01-02], %{a: ~D[2026-01-02]}]) =~ "{'a': datetime.date(2026, 1, 2)}"
      assert repr(py, %Typhon.EncoderTest.Point{x: %{z: 1}, y: 2}) =~ "{'z': 1}"
    end

    test "refuses a map that has the atom and the string", %{keys: py} do
      assert {:error, error} = Typhon.call(py, :builtins, :repr, [[%{:a => 1, "a" => 2}]])
      assert error.__struct__ in [EncodeError, DecodeError]
      assert Exception.message(error) =~ "args[0][0]"
      assert Exception.message(error) =~ ~s(the keys "a" and "a", which are equal in Python: one was an atom)
    end
  end

  describe "values: :strings" do
    test "makes str of all other atoms", %{both: py} do
      assert Typhon.call!(py, :json, :dumps, [[:active, {:a, nil}, %{ok: true}]]) ==
               ~s|["active", ["a", null], {"ok": true}]|

      assert Typhon.call(py, :operator, :eq, [:active, "active"]) == {:ok, true}
      assert repr(py, [:"", :ünï, :日本, Typhon]) == "['', 'ünï', '日本', 'Elixir.Typhon']"
      assert repr(py, MapSet.new([:a])) == "{'a'}"
      assert repr(py, MapSet.new([nil])) == "{None}"
      assert repr(py, %{{:a, 1} => [:b | :c]}) =~ "{('a', 1): "
    end

    test "leaves keys to keys:", %{plain: py} do
      assert repr(py, %{a: :b}, values: :strings) == "{Atom('a'): 'b'}"
    end

    test "leaves structs as they are", %{both: py} do
      for term <- [~D[2026-01-02], ~U[2026-01-02 03:04:05Z], ~T[01:02:03], ~N[2026-01-02 03:04:05], 1..3] do
        assert Typhon.call!(py, :sample, :echo, [term]) == term
      end

      assert repr(py, Typhon.bytes(<<255>>)) == "b'\\xff'"
    end
  end

  describe "for a call" do
    test "comes before what the pool says, each by itself", %{plain: plain, both: both} do
      assert repr(plain, %{a: :b}) == "{Atom('a'): Atom('b')}"
      assert repr(plain, %{a: :b}, keys: :strings) == "{'a': Atom('b')}"
      assert repr(plain, %{a: :b}, keys: :strings, values: :strings) == "{'a': 'b'}"
      assert repr(both, %{a: :b}, keys: :atoms) == "{Atom('a'): 'b'}"
      assert repr(both, %{a: :b}, values: :atoms, keys: :atoms) == "{Atom('a'): Atom('b')}"
      assert repr(plain, %{a: :b}) == "{Atom('a'): Atom('b')}"
    end

    test "holds for every kind of call", %{plain: py} do
      strings = [keys: :strings, values: :strings]
      term = %{a: :b}
      text = "{'a': 'b'}"
      assert Typhon.multi(py, :builtins, :repr, [[term], [term]], strings) == [{:ok, text}, {:ok, text}]
      assert Typhon.multi(py, [{:builtins, :repr, [term]}], strings) == [{:ok, text}]
      assert py |> Typhon.map(:builtins, :repr, [term], strings) |> Enum.to_list() == [text]
      assert py |> Typhon.map(:builtins, :repr, [term], [batch: 2] ++ strings) |> Enum.to_list() == [text]
      assert py |> Typhon.async(:builtins, :repr, [term], strings) |> Task.await() == {:ok, text}

      assert py |> Typhon.stream(:builtins, :map, [&inspect/1, [term]], strings) |> Enum.to_list() == [
               ~s|%{"a" => "b"}|
             ]

      assert repr(py, term, [worker: 1] ++ strings) == text
      assert repr(py, term, [stdio: :discard] ++ strings) == text

      assert {:ok, ^text} =
               Typhon.run(py, fn session ->
                 :ok = Typhon.cast(session, :sample, :put, ["atoms", term], strings)
                 assert Typhon.call!(session, :sample, :get, ["atoms"]) |> inspect() == ~s|%{"a" => "b"}|
                 repr(session, term, strings)
               end)

      :ok = Typhon.cast(py, :sample, :put, ["atoms", term], strings)
      assert Typhon.call!(py, :sample, :get, ["atoms"]) == %{"a" => "b"}
      list = Typhon.call!(py, :collections, :deque, [])
      assert Typhon.call!(py, list, :append, [term], strings) == nil
      assert Typhon.call!(py, list, :pop, []) == %{"a" => "b"}
    end

    test "holds for what Python is told meanwhile, and no longer", %{plain: py, both: both} do
      strings = [keys: :strings, values: :strings]
      f = fn _ -> %{a: :b} end
      {:ok, ask} = Typhon.call(py, :builtins, :eval, ["lambda f: repr([x for x in f(0).items()])"])
      assert called(py, ask, f, []) == "[(Atom('a'), Atom('b'))]"
      assert called(py, ask, f, strings) == "[('a', 'b')]"
      assert called(py, ask, f, []) == "[(Atom('a'), Atom('b'))]"
      assert repr(py, 1, strings) == "1"
      {:ok, list} = Typhon.call(py, :builtins, :eval, ["lambda iter: repr(list(iter))"])
      assert called(py, list, Typhon.iter([%{a: :b}]), strings) == "[{'a': 'b'}]"
      {:ok, ask} = Typhon.call(both, :builtins, :eval, ["lambda f: repr(f(0))"])
      assert called(both, ask, f, []) == "{'a': 'b'}"
    end

    test "and for messages, by the pool", %{both: py} do
      :ok = Typhon.send(py, {:hello, %{a: nil}})

      assert Typhon.call!(py, :builtins, :eval, ["repr(__import__('typhon').receive(timeout=60))"]) ==
               "('hello', {'a': None})"
    end

    test "is checked" do
      for name <- [:keys, :values] do
        text = "#{name}: must be :atoms or :strings, got :atom"
        assert_raise ArgumentError, text, fn -> Typhon.start_link([{name, :atom}]) end
        assert_raise ArgumentError, text, fn -> Typhon.call(self(), :math, :sqrt, [1], [{name, :atom}]) end
        assert_raise ArgumentError, text, fn -> Typhon.cast(self(), :math, :sqrt, [1], [{name, :atom}]) end
        assert_raise ArgumentError, text, fn -> Typhon.stream(self(), :math, :sqrt, [1], [{name, :atom}]) end
      end
    end
  end

  describe "a note explains" do
    defp note(result) do
      assert {:error, %PythonError{notes: notes} = error} = result
      for note <- notes, do: assert(Exception.message(error) =~ note)
      notes
    end

    @key_note "There is a key :name here, an atom: in Python that is typhon.Atom('name'), and not the str 'name'. Send a " <>
                "string as the key, or use the option keys: :strings of the call or of its pool."
    @keys_note "Atoms that are keys of a map in Elixir are of the class typhon.Atom in Python, and not str. Send strings as " <>
                 "the keys, or use the option keys: :strings of the call or of its pool."
    @value_note "Atoms of Elixir are of the class typhon.Atom in Python, and not str; name is their text. Send a string, or " <>
                  "use the option values: :strings of the call or of its pool."

    test "a KeyError of a str where the atom is a key", %{plain: py} do
      assert note(Typhon.call(py, :operator, :getitem, [%{name: 1}, "name"])) == [@key_note]
      assert note(Typhon.call(py, :atoms, :deep_key, [[%{users: [{%{name: 1}}]}]])) == [@key_note]
      assert note(Typhon.call(py, :atoms, :async_key, [%{name: 1}])) == [@key_note]

      assert [{:ok, 1}, {:error, %PythonError{notes: [@key_note]}}] =
               Typhon.multi(py, :operator, :getitem, [[%{"name" => 1}, "name"], [%{name: 1}, "name"]])

      assert [{:error, %PythonError{notes: [@key_note]}}] =
               Typhon.multi(py, [{:operator, :getitem, [%{name: 1}, "name"]}])
    end

    test "also in a cause", %{plain: py} do
      assert {:error, %PythonError{type: "ValueError", notes: [], cause_kind: :cause, cause: cause}} =
               Typhon.call(py, :atoms, :wrapped_key, [%{name: 1}])

      assert cause.notes == [@key_note]
    end

    test "also what a cast raised, where it is logged" do
      log =
        ExUnit.CaptureLog.capture_log(fn ->
          py = start_pool(workers: 1)
          :ok = Typhon.cast(py, :atoms, :async_key, [%{name: 1}])
          :ok = Typhon.cast(py, :atoms, :deep_key, [[%{users: [{%{name: 1}}]}]])
          assert Typhon.drain(py) == :ok
          await_logged(py)
        end)

      assert length(String.split(log, @key_note)) == 3
    end

    test "no other KeyError", %{plain: py} do
      assert note(Typhon.call(py, :operator, :getitem, [%{other: 1}, "name"])) == []
      assert note(Typhon.call(py, :operator, :getitem, [%{name: 1}, 1])) == []
      assert note(Typhon.call(py, :operator, :getitem, [%{name: 1}, "name"], keys: :strings) |> swap()) == []
    end

    defp swap({:ok, 1}), do: {:error, %PythonError{type: "", message: "", notes: []}}

    test "what takes no atoms", %{plain: py} do
      assert note(Typhon.call(py, :json, :dumps, [%{name: 1}])) == [@keys_note]
      assert note(Typhon.call(py, :json, :dumps, [:active])) == [@value_note]
      assert note(Typhon.call(py, :operator, :add, ["a", :b])) == [@value_note]
      assert note(Typhon.call(py, :operator, :lt, [:a, "b"])) == [@value_note]
      assert note(Typhon.call(py, "builtins", "str.join", [",", [:a]])) == [@value_note]
      assert note(Typhon.call(py, :atoms, :upper, [:a])) == [@value_note]
      assert note(Typhon.call(py, :atoms, :keywords, [%{a: 1}])) == [@keys_note]
      assert note(Typhon.call(py, :operator, :add, ["a", 1])) == []
    end
  end
end
