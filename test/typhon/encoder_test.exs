defmodule Typhon.EncoderTest do
  use ExUnit.Case, async: true

  alias Typhon.Encoder.Walk
  alias Typhon.EncoderTest.{Account, Loop, Money, Plain, Point, Session}
  alias Typhon.EncodeError

  doctest Typhon.Encoder

  describe "@derive" do
    test "sends all fields, or those it names" do
      assert Typhon.Encoder.encode(%Point{x: 1, y: nil}) == %{"x" => 1, "y" => nil}
      assert Typhon.Encoder.encode(%Account{id: 1, owner: "o", secret: "s"}) == %{"id" => 1, "owner" => "o"}
      assert Typhon.Encoder.encode(%Session{user: "u", token: "t"}) == %{"user" => "u"}
    end

    test "refuses fields that do not exist, and options that it does not have" do
      assert_raise ArgumentError,
                   "@derive Typhon.Encoder names :z, which is not a field of Typhon.EncoderTest.Plain. It has :a",
                   fn -> Typhon.Encoder.Derive.options!(Plain, %Plain{}, only: [:z]) end

      assert_raise ArgumentError,
                   "@derive Typhon.Encoder takes only: [field] or except: [field], and as: :struct or as: :dict, " <>
                     "got [just: 1]",
                   fn -> Typhon.Encoder.Derive.options!(Plain, %Plain{}, just: 1) end
    end

    test "encode/1 of a struct without an implementation raises" do
      assert_raise Protocol.UndefinedError, fn -> Typhon.Encoder.encode(%Plain{}) end
    end
  end

  describe "prepare/2" do
    test "replaces structs at any depth, and what they hold" do
      args = [%{"p" => [%Point{x: %Money{amount: 5, currency: :eur}, y: {1, %Point{x: 1, y: 2}}}]}]

      assert Walk.prepare(args, %{"k" => %Money{amount: 1, currency: :usd}}) ==
               {:ok, [%{"p" => [%{"x" => {5, "eur"}, "y" => {1, %{"x" => 1, "y" => 2}}}]}],
                %{"k" => {1, "usd"}}}
    end

    test "leaves what the wire knows" do
      args = [~D[2026-01-01], 1..2, Typhon.bytes("x"), %Typhon.Array{shape: {0}, dtype: "<f8", data: ""}]
      assert Walk.prepare(args, %{}) == {:ok, args, %{}}
    end

    test "goes into sets, map keys and improper lists" do
      assert Walk.prepare([MapSet.new([%Point{x: 1, y: 2}])], %{}) ==
               {:ok, [MapSet.new([%{"x" => 1, "y" => 2}])], %{}}

      assert Walk.prepare([%{%Money{amount: 1, currency: :eur} => 1}], %{}) ==
               {:ok, [%{{1, "eur"} => 1}], %{}}

      assert Walk.prepare([[1 | %Money{amount: 1, currency: :eur}]], %{}) ==
               {:ok, [[1 | {1, "eur"}]], %{}}
    end

    test "names the place of a struct that has no implementation, and the way out" do
      assert {:error, %EncodeError{path: ~s|args[1]["user"][0]|, type: Plain, reason: reason} = error} =
               Walk.prepare([1, %{"user" => [%Plain{}]}], %{})

      assert reason =~ "@derive Typhon.Encoder"
      assert Exception.message(error) =~ ~s|args[1]["user"][0] cannot cross: Typhon.EncoderTest.Plain|
    end

    test "names places in kwargs, sets, keys and atoms" do
      assert {:error, %EncodeError{path: ~s|kwargs["w"][2]|}} = Walk.prepare([], %{"w" => {1, 2, %Plain{}}})

      assert {:error, %EncodeError{path: "args[0][:a]"}} = Walk.prepare([%{a: %Plain{}}], %{})

      assert {:error, %EncodeError{path: "args[0] (key " <> _}} = Walk.prepare([%{%Plain{} => 1}], %{})

      assert {:error, %EncodeError{path: "args[0] (element " <> _}} =
               Walk.prepare([MapSet.new([%Plain{}])], %{})
    end

    test "an implementation that returns its own kind is an error, not an endless loop" do
      assert {:error, %EncodeError{path: "args[0]", type: Loop}} = Walk.prepare([%Loop{}], %{})
    end
  end
end
