defmodule Typhon.StructsTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{DecodeError, PythonError, Structs}
  alias Typhon.Models.{Address, Item, User}

  setup_all do
    %{py: start_pool(workers: 1)}
  end

  @code """
  import collections, dataclasses, types, typing

  @dataclasses.dataclass
  class Address:
      city: str
      street: typing.Optional[str] = None

  @dataclasses.dataclass
  class User:
      id: int
      name: str
      address: typing.Optional[Address] = None
      items: list = dataclasses.field(default_factory=list)

  class Name(typing.NamedTuple):
      name: str
  """

  defp given(py, code, as), do: Typhon.eval(py, @code <> code, %{}, as: as)

  # What does not fit: the place, and the sentence.
  defp refused(py, value, as) do
    assert {:error, %DecodeError{} = error} = Typhon.call(py, :objects, :same, [value], as: as)
    {error.path, error.reason}
  end

  defp wrong(fun), do: fun |> then(&assert_raise(ArgumentError, &1)) |> Exception.message()

  describe "as: a struct" do
    test "of a dict, a TypedDict, a dataclass", %{py: py} do
      user = %User{id: 1, name: "Ann"}
      assert given(py, "dict(id=1, name='Ann')", User) == {:ok, user}
      assert given(py, "typing.TypedDict('T', {'id': int})(id=1, name='Ann')", User) == {:ok, user}
      assert given(py, "collections.OrderedDict(name='Ann', id=1)", User) == {:ok, user}

      code = "dict(id=1, name='Ann', address=None, items=[], active=False, settings={'a': 1})"
      assert given(py, code, User) == {:ok, %{user | active: false, settings: %{"a" => 1}}}

      assert given(py, "User(1, 'Ann')", User) == {:ok, user}
      assert given(py, "Name('Ann')._asdict()", Item) == {:ok, %Item{name: "Ann", count: 1}}
    end

    test "of an empty dict, when nothing is required", %{py: py} do
      assert given(py, "{}", Address) == {:ok, %Address{city: nil, street: nil, country: "NO"}}
    end

    test "of a dict with atoms, which a plain map of Elixir's has", %{py: py} do
      assert {:ok, %Item{name: "pen", count: 2}} =
               Typhon.call(py, :objects, :same, [%{name: "pen", count: 2}], as: Item)
    end

    test "in a list", %{py: py} do
      assert {:ok, [%Item{name: "a"}, %Item{name: "b", count: 2}]} =
               given(py, "[{'name': 'a'}, {'name': 'b', 'count': 2}]", [Item])

      assert given(py, "[]", [Item]) == {:ok, []}
    end

    test "in fields", %{py: py} do
      as = {User, address: Address, items: [Item]}
      code = "User(1, 'Ann', Address('Oslo'), [{'name': 'pen'}])"

      assert given(py, code, as) ==
               {:ok,
                %User{
                  id: 1,
                  name: "Ann",
                  address: %Address{city: "Oslo"},
                  items: [%Item{name: "pen", count: 1}]
                }}

      # Those that are not named stay maps.
      assert {:ok, %User{address: %{"city" => "Oslo", "street" => nil}, items: [%Item{}]}} =
               given(py, code, {User, items: [Item]})

      assert {:ok, [%User{address: nil, items: [%User{items: [%Item{}]}]}]} =
               given(py, "[User(1, 'Ann', None, [User(2, 'Bo', None, [{'name': 'a'}])])]", [
                 {User, address: Address, items: [{User, items: [Item]}]}
               ])
    end

    test "None stays nil", %{py: py} do
      assert given(py, "None", User) == {:ok, nil}
      assert given(py, "None", [User]) == {:ok, nil}
      assert given(py, "[None, {'name': 'a'}]", [Item]) == {:ok, [nil, %Item{name: "a"}]}

      assert {:ok, %User{id: nil, items: nil}} =
               given(py, "User(None, '', None, None)", {User, items: [Item]})
    end

    test "whatever was sent with Typhon.Encoder comes back", %{py: py} do
      seed = :rand.seed(:exsss)

      for _ <- 1..200 do
        user = user()

        assert {:ok, ^user} =
                 Typhon.call(py, :objects, :same, [user], as: {User, address: Address, items: [Item]}),
               "#{inspect(seed)}"
      end

      users = for _ <- 1..50, do: user()

      assert {:ok, ^users} =
               Typhon.call(py, :objects, :same, [users], as: [{User, address: Address, items: [Item]}])
    end

    defp user do
      %User{
        id: :rand.uniform(1_000_000),
        name: Enum.random(["", "Ann", "Øyvind", "名前"]),
        active: Enum.random([true, false, nil]),
        address: Enum.random([nil, %Address{city: "Oslo"}, %Address{street: "a", country: nil}]),
        items:
          for(n <- 0..Enum.random(0..4)//1, do: %Item{name: "i#{n}", count: Enum.random([n, nil, 1.5, []])}),
        settings: Map.new(0..Enum.random(0..5)//1, &{"key #{&1}", &1})
      }
    end
  end

  describe "a result that does not fit" do
    test "lacks what the struct requires", %{py: py} do
      assert refused(py, %{"name" => "Ann"}, User) ==
               {"result",
                "what came has not the key \"id\", which Typhon.Models.User requires (@enforce_keys)"}

      assert refused(py, %{}, User) ==
               {"result",
                "what came has not the keys \"id\", \"name\", which Typhon.Models.User requires (@enforce_keys)"}

      assert {"result[3]", _} = refused(py, List.duplicate(%{"name" => "a"}, 3) ++ [%{}], [Item])

      user = %{"id" => 1, "name" => "Ann", "items" => [%{"name" => "a"}, %{"count" => 1}]}
      assert {"result.items[1]", _} = refused(py, user, {User, items: [Item]})
      assert {"result[0].items[1]", _} = refused(py, [user], [{User, items: [Item]}])

      assert {:error, error} = Typhon.call(py, :objects, :same, [%{"count" => 1}], as: Item)

      assert Exception.message(error) ==
               "result cannot be decoded: what came has not the key \"name\", which Typhon.Models.Item requires (@enforce_keys)"
    end

    test "has what the struct has not", %{py: py} do
      assert refused(py, %{"city" => "Oslo", "zip" => "0150"}, Address) ==
               {"result",
                "what came has the key \"zip\", for which Typhon.Models.Address has no field. It has :city, :country, " <>
                  ":street. Leave that out in Python, or add a field to the struct"}

      assert refused(py, %{1 => 2, {"a", 2} => 3, "city" => "Oslo"}, Address) ==
               {"result",
                "what came has the keys 1, {\"a\", 2}, for which Typhon.Models.Address has no field. It has :city, :country, " <>
                  ":street. Leave those out in Python, or add a field to the struct"}

      assert refused(py, %{"nmae" => "pen"}, Item) ==
               {"result",
                "what came has the key \"nmae\", for which Typhon.Models.Item has no field. It has :count, :name. Leave that " <>
                  "out in Python, or add a field to the struct. And what came has not the key \"name\", which " <>
                  "Typhon.Models.Item requires (@enforce_keys)"}

      # No field, though every struct has it; and a field in another spelling.
      assert {"result", "what came has the key \"__struct__\"," <> _} =
               refused(py, %{"__struct__" => "Elixir.Typhon.Models.Address"}, Address)

      assert {"result", "what came has the key \"City\"," <> _} = refused(py, %{"City" => "Oslo"}, Address)
    end

    test "makes no atoms of keys", %{py: py} do
      key = "no atom yet #{System.unique_integer([:positive])}"
      assert {"result", _} = refused(py, %{key => 1}, Address)
      assert_raise ArgumentError, fn -> String.to_existing_atom(key) end
    end

    test "names a field in two ways", %{py: py} do
      assert refused(py, %{"city" => "Oslo", :city => "Bergen"}, Address) ==
               {"result", "what came has the key \"city\" twice, as a string and as an atom"}
    end

    test "is no map", %{py: py} do
      start =
        "Typhon.Models.Item is made of a map (in Python a dict, or an instance of a dataclass), and what came is "

      for {value, came} <- [
            {5, "an integer, 5"},
            {1.5, "a float, 1.5"},
            {true, "a boolean, true"},
            {:ok, "an atom, :ok"},
            {"pen", ~s(a string, "pen")},
            {Typhon.bytes(<<255>>), "a binary, <<255>>"},
            {[%{}], "a list, [%{}]. For a list of them say as: [Typhon.Models.Item]"},
            {~c"ab", "a list, [97, 98]. For a list of them say as: [Typhon.Models.Item]"},
            {{"pen", 1}, ~s|a tuple, {"pen", 1}. A namedtuple gives a dict by its _asdict()|},
            {~D[2024-02-29], "a Date, ~D[2024-02-29]"},
            {self(), "a term, #{inspect(self())}"}
          ] do
        assert refused(py, value, Item) == {"result", start <> came}
      end

      assert given(py, "types.SimpleNamespace(name='pen')", Item) ==
               {:error,
                %DecodeError{
                  path: "result",
                  reason:
                    start <>
                      "a Python object of the type types.SimpleNamespace. Let the function return a dict, such as vars(…) of it"
                }}

      assert {"result.address", _} =
               refused(py, %{"id" => 1, "name" => "", "address" => "Oslo"}, {User, address: Address})
    end

    test "is no list", %{py: py} do
      start = "a list of Typhon.Models.Item is made of a list of maps, and what came is "

      for {value, came} <- [
            {%{"name" => "a"}, ~s(a map, %{"name" => "a"}. A single one is as: Typhon.Models.Item)},
            {{}, "a tuple, {}"},
            {[1 | 2], "an improper list, [1 | 2]"},
            {"", ~s(a string, "")}
          ] do
        assert refused(py, value, [Item]) == {"result", start <> came}
      end

      assert {"result[1]", _} = refused(py, [%{"name" => "a"}, [], %{}], [Item])
    end

    test "is told in few words, however large it is", %{py: py} do
      large = Map.new(1..10_000, &{String.duplicate("k", 1_000) <> "#{&1}", &1})
      assert {"result", reason} = refused(py, large, Address)
      assert reason =~ "and 9990 more, for which"
      assert String.length(reason) < 1_500

      for value <- [Enum.to_list(1..100_000), String.duplicate("a", 100_000)] do
        assert {"result", reason} = refused(py, value, Item)
        assert String.length(reason) < 500
      end
    end

    test "is a struct that is none", %{py: py} do
      # A dict with atoms can say that it is a struct.
      broken =
        "{typhon.Atom('__struct__'): typhon.Atom('Elixir.Typhon.Models.Item'), typhon.Atom('count'): 2}"

      case Typhon.eval(py, "import typhon\n" <> broken, %{}, as: Item) do
        {:error, %DecodeError{}} -> :ok
        {:ok, item} -> flunk("it is #{inspect(item, structs: false)}")
      end
    end
  end

  describe "the option" do
    test "takes structs, and says what is none" do
      same = &Typhon.call(:no_pool, :objects, :same, [1], as: &1)

      assert wrong(fn -> same.(Enum) end) == "as: Enum is no struct: the module has no defstruct"
      assert wrong(fn -> same.([Enum]) end) == "as: Enum is no struct: the module has no defstruct"
      assert wrong(fn -> same.(:lists) end) == "as: :lists is no struct: the module has no defstruct"
      assert wrong(fn -> same.(No.Such.Module) end) == "as: there is no module No.Such.Module"

      assert wrong(fn -> same.({User, adress: Address}) end) ==
               "as: :adress is no field of Typhon.Models.User. It has :active, :address, :id, :items, :name, :settings"

      assert wrong(fn -> same.({User, address: "Address"}) end) ==
               "as: address: must be #{Structs.says()}, got \"Address\""

      assert wrong(fn -> same.({User, address: Enum}) end) =~ "as: Enum is no struct"

      for other <- [
            :map,
            nil,
            "User",
            [],
            [User, Item],
            [[User]],
            {User},
            {User, [:address]},
            {[User], []},
            %{},
            1
          ] do
        assert wrong(fn -> same.(other) end) ==
                 "as: must be :value, :object or a struct's module (User, [User], {User, address: Address}), got #{inspect(other)}"
      end

      assert wrong(fn -> Typhon.stream(:no_pool, :m, :f, [], as: :object) end) ==
               "as: must be :value or a struct's module (User, [User], {User, address: Address}), got :object"
    end

    test "knows what a struct requires, also when Elixir does not say it" do
      assert Structs.required(User, %User{id: 1, name: ""}) == [:id, :name]
      assert Structs.required(Address, %Address{}) == []
      assert Structs.required(Typhon.Models.ByHand, Typhon.Models.ByHand.__struct__()) == [:a]
    end
  end

  describe "each entry takes it:" do
    @pen %{"name" => "pen", "count" => 2}

    test "calls, sessions, tasks", %{py: py} do
      assert Typhon.call!(py, :objects, :same, [@pen], as: Item) == %Item{name: "pen", count: 2}
      assert_raise DecodeError, ~r/^result cannot/, fn -> Typhon.call!(py, :objects, :same, [1], as: Item) end
      assert {:ok, %Item{}} = py |> Typhon.async(:objects, :same, [@pen], as: Item) |> Typhon.await()
      assert {:error, %DecodeError{}} = py |> Typhon.async(:objects, :same, [1], as: Item) |> Typhon.await()
      assert_raise ArgumentError, fn -> Typhon.async(py, :objects, :same, [1], as: Enum) end
      options = [as: Item, worker: 1, retry: 2, timeout: limit(), stdio: :discard, keys: :strings]
      assert {:ok, %Item{}} = Typhon.call(py, :objects, :same, [@pen], options)

      Typhon.run!(py, fn session ->
        assert {:ok, %Item{}} = Typhon.call(session, :objects, :same, [@pen], as: Item)
        assert {:error, %DecodeError{}} = Typhon.call(py, :objects, :same, [1], as: Item)
      end)

      assert {:error, %PythonError{}} = Typhon.call(py, :math, :sqrt, [-1], as: Item)
    end

    test "code and scopes", %{py: py} do
      assert {:ok, %Item{}} = Typhon.eval(py, "pen", [pen: @pen], as: Item)
      {:ok, scope} = Typhon.scope(py, pen: @pen)
      assert {:ok, %Item{}} = Typhon.eval(scope, "pen", %{}, as: Item)
      assert {:ok, %Item{}} = Typhon.get(scope, :pen, as: Item)
      assert {:error, %DecodeError{path: "result"}} = Typhon.get(scope, :pen, as: Address)
    end

    test "objects", %{py: py} do
      {:ok, box} = Typhon.eval(py, "import types\ntypes.SimpleNamespace(a=[pen], f=dict)", pen: @pen)
      assert {:ok, [%Item{}]} = Typhon.get(box, :a, as: [Item])
      {:ok, list} = Typhon.get(box, :a, as: :object)
      assert {:ok, %Item{}} = Typhon.item(list, 0, as: Item)
      assert {:ok, [%Item{}]} = Typhon.to_term(list, as: [Item])
      assert {:ok, %Item{}} = Typhon.chain(box, [get: "a", item: 0], as: Item)
      {:ok, dict} = Typhon.get(box, :f)
      assert {:ok, %Item{}} = Typhon.call(dict, [], kwargs: @pen, as: Item)
      assert {:ok, %Item{}} = Typhon.call(py, list, :pop, [], as: Item)
      assert :ok = Typhon.set(box, :a, 1, as: Item)
      assert {:error, %DecodeError{}} = Typhon.len(list, as: Item)
    end

    test "streams, element by element", %{py: py} do
      pens = for n <- 1..5, do: %{"name" => "pen", "count" => n}

      assert [%Item{count: 1}, _, _, _, %Item{count: 5}] =
               Enum.to_list(Typhon.stream(py, :builtins, :iter, [pens], as: Item, batch: 2))

      {:ok, list} = Typhon.call(py, :objects, :same, [pens], as: :object)
      assert list |> Typhon.stream(as: Item) |> Enum.map(& &1.count) == [1, 2, 3, 4, 5]

      stream = Typhon.stream(py, :builtins, :iter, [pens ++ [%{}]], as: Item, batch: 2)
      error = assert_raise DecodeError, fn -> Enum.to_list(stream) end
      assert error.path == "result[5]"
      # Nobody takes that one.
      assert length(Enum.take(stream, 5)) == 5
    end

    test "many calls, each result by itself", %{py: py} do
      calls = [[@pen], [1], [nil]]

      assert [{:ok, %Item{}}, {:error, %DecodeError{path: "result"}}, {:ok, nil}] =
               Typhon.multi(py, :objects, :same, calls, as: Item)

      assert [{:ok, %Item{}}, {:error, %PythonError{}}] =
               Typhon.multi(py, [{:objects, :same, [@pen]}, {:math, :sqrt, [-1]}], as: Item)

      for options <- [[], [batch: 2], [ordered: false]] do
        results = py |> Typhon.map(:objects, :same, [@pen, 1, @pen], [as: Item, on_error: :return] ++ options)
        assert {[_, _], [{:error, %DecodeError{}}]} = Enum.split_with(results, &match?({:ok, %Item{}}, &1))
        assert [%Item{}] = py |> Typhon.map(:objects, :same, [@pen], [as: Item] ++ options) |> Enum.to_list()
      end
    end

    test "stubs, which may answer the struct itself" do
      {:ok, py} = Typhon.Test.start_pool()
      Typhon.Test.stub(py, :shop, :pen, @pen)
      Typhon.Test.stub(py, :shop, :struct, %Item{name: "pen"})
      Typhon.Test.stub(py, :shop, :other, %Address{})
      Typhon.Test.stub(py, :shop, :fails, Typhon.Test.error("ValueError"))
      Typhon.Test.stub(py, :shop, :user, %User{id: 1, name: "", address: %Address{}, items: [@pen]})

      assert {:ok, %Item{count: 2}} = Typhon.call(py, :shop, :pen, [], as: Item)
      assert {:ok, %Item{count: 1}} = Typhon.call(py, :shop, :struct, [], as: Item)
      assert {:error, %DecodeError{reason: reason}} = Typhon.call(py, :shop, :other, [], as: Item)
      assert reason =~ "what came is a Typhon.Models.Address, %Typhon.Models.Address{"
      assert {:error, %PythonError{}} = Typhon.call(py, :shop, :fails, [], as: Item)

      assert {:ok, %User{address: %Address{}, items: [%Item{}]}} =
               Typhon.call(py, :shop, :user, [], as: {User, address: Address, items: [Item]})

      assert [{:ok, %Item{}}] = Typhon.multi(py, :shop, :pen, [[]], as: Item)
      Typhon.Test.stub(py, :shop, :pens, [@pen])
      assert [%Item{}] = py |> Typhon.stream(:shop, :pens, [], as: Item) |> Enum.to_list()
      assert {:ok, [%{"name" => "pen"}]} = Typhon.call(py, :shop, :pens, [])
      Typhon.Test.assert_called(py, :shop, :pen, [])
    end
  end
end
