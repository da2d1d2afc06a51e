defmodule Typhon.TypesTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{EncodeError, Object}
  alias Typhon.EncoderTest.{Account, Money, Plain, Point}

  setup_all do
    {:ok, py: start_pool(workers: 1)}
  end

  defp echo(py, term), do: Typhon.call!(py, :sample, :echo, [term])
  # Where datetime is not written in C it is by another name.
  defp type(py, term),
    do: py |> Typhon.call!(:sample, :type_of, [term]) |> String.replace_prefix("_pydatetime.", "datetime.")

  defp repr(py, term), do: Typhon.call!(py, :sample, :repr_of, [term])

  describe "a round trip" do
    test "of plain terms", %{py: py} do
      for {type, terms} <- [
            {"NoneType", [nil]},
            {"bool", [true, false]},
            {"int", [0, 1, -1, 255, 256, 2 ** 31, -(2 ** 31) - 1]},
            {"int", [2 ** 63, -(2 ** 63), 2 ** 64, 2 ** 5_000, -(2 ** 5_000)]},
            {"float", [0.0, 1.5, -1.0e300, 5.0e-324, 3.141592653589793]},
            {"str", ["", "a", "ü", "😀", <<0>>, "line\nbreak"]},
            {"list", [[], [1, 2], [1, [2, [3]]], ~c"chars", [nil, 1.5, "x"]]},
            {"tuple", [{}, {1}, {1, {2, "x"}}]},
            {"dict", [%{}, %{"a" => 1, 2 => %{{1, 2} => [3]}}]},
            {"datetime.date", [~D[2026-02-28], ~D[0001-01-01]]}
          ],
          term <- terms do
        assert echo(py, term) === term
        assert type(py, term) == type
      end
    end

    test "of atoms, which are no strings", %{py: py} do
      for atom <- [:ok, :"with space", :ünïcode, Typhon, :infinity, :nan, :undefined] do
        assert echo(py, atom) === atom
        assert type(py, atom) =~ "Atom"
      end

      assert Typhon.call!(py, :operator, :eq, [:ok, "ok"]) == false
      assert Typhon.call!(py, :operator, :eq, [:ok, :ok]) == true
      assert echo(py, %{:a => 1, "a" => 2}) == %{:a => 1, "a" => 2}
    end

    test "of large and nested terms", %{py: py} do
      list = Enum.to_list(1..100_000)
      assert echo(py, list) == list
      map = Map.new(1..10_000, &{"key #{&1}", {&1, &1 / 3}})
      assert echo(py, map) == map
      deep = Enum.reduce(1..5_000, [], fn _, list -> [list] end)
      assert echo(py, deep) == deep
      text = String.duplicate("ä", 1_000_000)
      assert echo(py, text) == text
    end

    test "of what is opaque to Python", %{py: py} do
      {:ok, port} = :gen_udp.open(0)
      fun = fn x -> x + 1 end

      for term <- [self(), make_ref(), port, fun, &Enum.map/2, <<1::3>>, <<255, 1::1>>] do
        assert echo(py, term) === term
      end

      assert type(py, self()) =~ "Pid"
      assert type(py, make_ref()) =~ "Reference"
      assert type(py, <<1::3>>) =~ "BitString"
      assert Typhon.call!(py, :builtins, :len, [MapSet.new([self(), self()])]) == 1
    end

    test "of improper lists", %{py: py} do
      assert echo(py, [1 | 2]) === [1 | 2]
      assert echo(py, [[1, 2 | "x"]]) === [[1, 2 | "x"]]
      assert type(py, [1 | 2]) =~ "ImproperList"
    end

    test "of structs that Python knows", %{py: py} do
      for {term, type} <- [
            {~T[12:30:01], "datetime.time"},
            {~T[12:30:01.000250], "datetime.time"},
            {~N[2026-02-28 12:30:01], "datetime.datetime"},
            {~N[2026-02-28 12:30:01.123456], "datetime.datetime"},
            {~U[2026-02-28 12:30:01Z], "datetime.datetime"},
            {~U[2026-02-28 12:30:01.000001Z], "datetime.datetime"},
            {MapSet.new(), "set"},
            {MapSet.new([1, "a", {2}]), "set"},
            {1..10, "range"},
            {10..1//-3, "range"}
          ] do
        assert echo(py, term) == term
        assert type(py, term) == type
        assert echo(py, [%{"in" => term}]) == [%{"in" => term}]
      end
    end

    test "of bytes and buffers", %{py: py} do
      for size <- [0, 1, 100, 100_000, 5_000_000] do
        bytes = :binary.copy(<<255>>, size)
        assert echo(py, Typhon.bytes(bytes)) == bytes
        assert echo(py, Typhon.buffer(bytes)) == bytes
        assert type(py, Typhon.bytes(bytes)) == "bytes"
        assert type(py, Typhon.buffer(bytes)) == "memoryview"
      end

      assert {:error, %Typhon.PythonError{type: "TypeError"}} =
               Typhon.call(py, :operator, :setitem, [Typhon.buffer("abc"), 0, 1])
    end
  end

  describe "values of Python" do
    test "that have a counterpart", %{py: py} do
      for {function, value} <- [
            {:point, %{"x" => 1, "y" => 2}},
            {:pair, {"l", "r"}},
            {:colour, "red"},
            {:level, 1},
            {:subclasses, ["t", 7, [1], %{"a" => 1}]},
            {:ordered, %{"a" => 1, "b" => 2}},
            {:infinities, [:nan, :infinity, :neg_infinity]},
            {:frozen, MapSet.new([1, 2])},
            {:moments,
             [~D[2026-02-28], ~T[12:30:01.000250], ~N[2026-02-28 12:30:01], ~U[2026-02-28 12:30:01.000005Z]]},
            {:span, 0..9//3},
            {:texts,
             [
               "00000000-0000-0000-0000-000000000007",
               "a/b",
               %{"k" => "00000000-0000-0000-0000-000000000008"}
             ]},
            {:bytes_of_all_kinds, [<<"a", 0, 255>>, "b", "c"]}
          ] do
        assert Typhon.call(py, :shapes, function, []) == {:ok, value}
      end

      assert Typhon.call(py, :shapes, :add_days, [~D[2026-02-28], 1]) == {:ok, ~D[2026-03-01]}
      assert Enum.to_list(Typhon.call!(py, :shapes, :empty_span, [])) == []
    end

    test "that have none come as handles", %{py: py} do
      assert {:ok, %Object{type: "fractions.Fraction"} = third} = Typhon.call(py, :shapes, :fraction, [])
      assert repr(py, third) == "Fraction(1, 3)"
      assert Typhon.call(py, third, :limit_denominator, [2]) |> elem(0) == :ok
      assert {:ok, %Object{type: "function"}} = Typhon.call(py, :shapes, :lambda_, [])
      assert {:ok, %Object{type: "generator"} = generator} = Typhon.call(py, :shapes, :generator, [])
      assert Typhon.call(py, :builtins, :next, [generator]) == {:ok, 0}
      assert Typhon.call(py, :builtins, :list, [generator]) == {:ok, [1, 2]}
    end

    test "a Decimal is a struct", %{py: py} do
      assert {:ok, %{__struct__: Decimal, sign: 1, coef: 15, exp: -1}} = Typhon.call(py, :shapes, :half, [3])
      assert repr(py, %{__struct__: Decimal, sign: -1, coef: 125, exp: -2}) == "Decimal('-1.25')"
    end
  end

  describe "what cannot cross" do
    test "a binary that is not UTF-8, with its place and the way out", %{py: py} do
      for {args, options, path} <- [
            {[<<255>>], [], "args[0]"},
            {[1, %{"user" => [1, <<"abc", 255>>]}], [], ~s|args[1]["user"][1]|},
            {[{1, <<255>>}], [], "args[0][1]"},
            {[], [kwargs: %{w: [<<255>>]}], ~s|kwargs["w"][0]|}
          ] do
        assert {:error, %EncodeError{path: ^path} = error} =
                 Typhon.call(py, :sample, :echo_all, args, options)

        assert Exception.message(error) =~ path
        assert Exception.message(error) =~ "Typhon.bytes"
      end

      assert echo(py, 1) == 1
    end

    test "a struct without an implementation of Typhon.Encoder", %{py: py} do
      assert {:error, %EncodeError{path: ~s|args[0]["user"]|, type: Plain}} =
               Typhon.call(py, :sample, :echo, [%{"user" => %Plain{}}])

      assert {:error, %EncodeError{path: ~s|kwargs["value"]|}} =
               Typhon.call(py, :sample, :echo, [], kwargs: %{value: %Plain{}})
    end

    test "a result, with its place", %{py: py} do
      assert {:error, error} = Typhon.call(py, :shapes, :deep_unencodable, [])
      assert %{path: ~s|result["rows"][1]["bad"]|} = error

      assert {:error, %EncodeError{}} = Typhon.call(py, :shapes, :cyclic, [])
      assert echo(py, 1) == 1
    end
  end

  describe "structs through Typhon.Encoder" do
    test "arrive as what they are encoded to", %{py: py} do
      assert echo(py, %Point{x: 1, y: [%Money{amount: 5, currency: :eur}]}) == %{
               "x" => 1,
               "y" => [{5, "eur"}]
             }

      account = %Account{id: 1, owner: %Point{x: 0, y: 0}, secret: "s"}
      assert echo(py, [account]) == [%{"id" => 1, "owner" => %{"x" => 0, "y" => 0}}]

      assert Typhon.call!(py, :sample, :echo_all, [], kwargs: %{p: %Point{x: 1, y: 2}}) ==
               {{}, %{"p" => %{"x" => 1, "y" => 2}}}
    end
  end

  describe "arrays" do
    setup %{py: py} do
      case Typhon.call(py, :importlib, :import_module, ["numpy"]) do
        {:ok, _} -> :ok
        {:error, _} -> {:ok, without_numpy: true}
      end
    end

    test "are numpy's, or an error that says what is missing", %{py: py} = context do
      array = Typhon.Array.new([[1.0, 2.0], [3.0, 4.0]], {2, 2}, :f64)

      if context[:without_numpy] do
        assert {:error, error} = Typhon.call(py, :sample, :echo, [array])
        assert Exception.message(error) =~ "numpy"
      else
        assert echo(py, array) == array
        assert type(py, array) == "numpy.ndarray"
        assert Typhon.call!(py, :numpy, :sum, [array]) == 10.0
      end
    end

    test "with objects or a mask are lists, and what is missing is nil", %{py: py} = context do
      unless context[:without_numpy] do
        result = fn code ->
          Typhon.call(py, :builtins, :eval, ["(lambda numpy: #{code})(__import__('numpy'))"])
        end

        assert result.("numpy.array([[1, 'a'], [None, numpy.datetime64('NaT')]], dtype=object)") ==
                 {:ok, [[1, "a"], [nil, nil]]}

        assert result.("numpy.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]])") == {:ok, [[1, nil], [3, 4]]}
        assert result.("[numpy.ma.masked, {'t': numpy.timedelta64('NaT')}]") == {:ok, [nil, %{"t" => nil}]}
        assert result.("numpy.datetime64('2024-02-03')") == {:ok, ~D[2024-02-03]}

        assert result.("numpy.datetime64('2024-02-03T04:05:06.789', 'ns')") ==
                 {:ok, ~N[2024-02-03 04:05:06.789000]}

        assert {:ok, dates} = result.("numpy.array(['2024-02-03', 'NaT'], 'M8[ns]')")
        assert Typhon.Array.to_list(dates) == [~N[2024-02-03 00:00:00], nil]

        assert {:error, %EncodeError{path: "result", reason: reason}} = result.("numpy.zeros(1, 'i4,f8')")
        assert reason =~ "send array.tolist(), or its columns"
      end
    end

    test "of pandas have nil for what is missing", %{py: py} do
      case Typhon.call(py, :importlib, :import_module, ["pandas"]) do
        {:error, _} ->
          :ok

        {:ok, _} ->
          code = """
          (lambda pandas: pandas.DataFrame({
              "n": pandas.array([1, None], dtype="Int64"), "at": pandas.to_datetime(["2024-02-03", None]),
          }).to_dict("records"))(__import__("pandas"))
          """

          assert Typhon.call(py, :builtins, :eval, [code]) ==
                   {:ok, [%{"n" => 1, "at" => ~N[2024-02-03 00:00:00]}, %{"n" => nil, "at" => nil}]}
      end
    end
  end

  describe "large results" do
    test "of many small terms arrive as they are" do
      py = start_pool()

      for term <- [
            for(
              i <- 1..50_000,
              do: %{"id" => i, "name" => "name #{i}", "tags" => ["a", "b"], "score" => i / 3}
            ),
            for(i <- 1..50_000, do: {i, -i, i * 1_000_000_007, i / 7, nil, true, "text #{i}"}),
            for(i <- 1..1_000, into: %{}, do: {i, Enum.to_list(1..100)}),
            [self(), make_ref(), Integer.pow(2, 4_000), :ok | Enum.to_list(1..100_000)]
          ] do
        assert Typhon.call(py, :sample, :echo, [term], timeout: :infinity) == {:ok, term}
      end
    end

    # Too late for its caller, so that the library's own thread makes the term.
    test "that are maps of hundreds of keys arrive when nobody waits for them in the library" do
      py = start_pool()
      code = "__import__('time').sleep(0.02) or {i: str(i) for i in range(size)}"

      for size <- [33, 200, 1_000] do
        assert {:ok, map} = Typhon.call(py, :builtins, :eval, [code, %{"size" => size}], timeout: :infinity)
        assert map == Map.new(0..(size - 1), &{&1, Integer.to_string(&1)})
      end
    end

    test "may hold functions with large maps of their own, whoever makes the term" do
      py = start_pool()
      large = Map.new(1..400, &{&1, &1})
      function = fn key -> Map.fetch!(large, key) end

      late = fn code ->
        code = "[__import__('time').sleep(0.02), #{code}][1]"
        Typhon.call(py, :builtins, :eval, [code, %{"f" => function}], timeout: :infinity)
      end

      assert late.("f(7)") == {:ok, 7}
      assert {:ok, back} = late.("f")
      assert back.(7) == 7
      assert {:ok, [%Typhon.Object{} = object, back]} = late.("[object(), f]")
      assert back.(8) == 8
      assert {:ok, "object"} = Typhon.call(py, :builtins, :eval, ["type(o).__name__", %{"o" => object}])
    end

    test "are maps of thousands of keys in messages, too" do
      py = start_pool()
      large = Map.new(1..400, &{&1, &1})

      code =
        "[__import__('typhon').send(to, m) for m in (dict.fromkeys(range(20000), 'x'), dict.fromkeys(range(200)), f)]"

      function = fn key -> Map.fetch!(large, key) end

      assert {:ok, _} =
               Typhon.call(py, :builtins, :eval, [code, %{"to" => self(), "f" => function}],
                 timeout: :infinity
               )

      assert_receive %{19_999 => "x"} = map when map_size(map) == 20_000, 60_000
      assert_receive %{199 => nil}, 60_000
      assert_receive back when is_function(back), 60_000
      assert back.(9) == 9
    end

    test "hold thousands of objects, each with one handle" do
      py = start_pool()
      code = "[__import__('time').sleep(pause), [sample.Counter(i) for i in range(20000)]][1]"

      names = fn pause ->
        [code, %{"sample" => py |> Typhon.call!(:importlib, :import_module, ["sample"]), "pause" => pause}]
      end

      for pause <- [0, 0.05] do
        {:ok, objects} = Typhon.call(py, :builtins, :eval, names.(pause), timeout: :infinity)
        :erlang.garbage_collect()
        # Those of the round before are being let go of.
        eventually(fn -> Typhon.call(py, :sample, :counters_alive, []) == {:ok, 20_000} end)

        for {object, i} <- objects |> Enum.with_index() |> Enum.take_every(997),
            do: assert(Typhon.call(py, :sample, :value_of, [object]) == {:ok, i})

        assert Typhon.call(py, :sample, :counters_alive, []) == {:ok, length(objects)}
      end

      :erlang.garbage_collect()
      eventually(fn -> Typhon.call(py, :sample, :counters_alive, []) == {:ok, 0} end)
    end

    test "with objects that nobody decodes let go of them" do
      py = start_pool()
      large = Map.new(1..400, &{&1, &1})

      code =
        "[__import__('typhon').send(to, [[f, [sample.Counter(i) for i in range(n)], f], 'last']) for n in (1, 2000)]"

      sample = Typhon.call!(py, :importlib, :import_module, ["sample"])
      names = %{"to" => self(), "f" => fn key -> Map.fetch!(large, key) end, "sample" => sample}
      assert {:ok, _} = Typhon.call(py, :builtins, :eval, [code, names], timeout: :infinity)

      for n <- [1, 2000] do
        assert_receive [[f, counters, f], "last"] when length(counters) == n, 60_000
        assert Typhon.call(py, :sample, :value_of, [List.last(counters)]) == {:ok, n - 1}
      end

      dead = spawn(fn -> :ok end)
      names = %{names | "to" => dead}
      assert {:ok, _} = Typhon.call(py, :builtins, :eval, [code, names], timeout: :infinity)
      :erlang.garbage_collect()
      eventually(fn -> Typhon.call(py, :sample, :counters_alive, []) == {:ok, 0} end)
    end

    test "with large binaries among many small terms" do
      py = start_pool()
      blob = :binary.copy("0123456789abcdef", 20_000)
      term = [blob, Enum.to_list(1..50_000), %{"blob" => blob}]
      assert Typhon.call(py, :sample, :echo, [term], timeout: :infinity) == {:ok, term}
    end

    test "say where the atom is that does not exist" do
      py = start_pool()
      code = "[0] * 100_000 + [sample.atom('no_such_atom_in_a_large_result')]"

      assert {:error, %Typhon.DecodeError{path: "result[100000]", reason: reason}} =
               Typhon.call(py, :builtins, :eval, [code, %{"sample" => import_sample(py)}], timeout: :infinity)

      assert reason =~ "no_such_atom_in_a_large_result"
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end
  end

  defp import_sample(py) do
    {:ok, module} = Typhon.call(py, :importlib, :import_module, ["sample"])
    module
  end
end
