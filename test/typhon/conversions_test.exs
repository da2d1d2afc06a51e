defmodule Typhon.ConversionsTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.EncodeError
  alias Typhon.EncoderTest.{Named, Point}

  setup_all do
    {:ok, py: start_pool(init: "import conversions")}
  end

  describe "a struct that goes by its name" do
    test "is what the decoder makes of it", %{py: py} do
      named = %Named{id: 5, name: "Ann", secret: "s"}
      assert Typhon.call(py, :conversions, :describe, [named]) == {:ok, "User 5"}
      assert Typhon.call(py, :conversions, :describe, [], kwargs: %{thing: named}) == {:ok, "User 5"}

      for options <- [[], [keys: :strings, values: :strings]] do
        assert Typhon.call(py, :conversions, :echo, [[named, %{"k" => named}]], options) ==
                 {:ok, [%{"user" => 5, "name" => "Ann"}, %{"k" => %{"user" => 5, "name" => "Ann"}}]}
      end
    end

    test "holds whatever has a form", %{py: py} do
      named = %Named{id: %Point{x: ~D[2026-02-28], y: %Named{id: 1}}, name: [Typhon.bytes(<<255>>)]}

      assert Typhon.call(py, :conversions, :echo, [named]) ==
               {:ok,
                %{
                  "user" => %{"x" => ~D[2026-02-28], "y" => %{"user" => 1, "name" => nil}},
                  "name" => [<<255>>]
                }}
    end

    test "is a dict where no decoder is", %{py: py} do
      without = start_pool()
      named = %Named{id: 5, name: "Ann", secret: "s"}
      assert Typhon.call(without, :sample, :echo, [[named]]) == {:ok, [%{"id" => 5, "name" => "Ann"}]}
      assert Typhon.call(py, :sample, :echo, [%Point{x: 1, y: 2}]) == {:ok, %{"x" => 1, "y" => 2}}
    end

    test "is nothing to the next pool that has the interpreter" do
      for _ <- 1..3 do
        py = start_pool(init: "import conversions")
        assert {:ok, [%{"user" => 5}]} = Typhon.call(py, :conversions, :echo, [[%Named{id: 5}]])
        :ok = Typhon.stop(py)
        py = start_pool()
        assert Typhon.call(py, :sample, :echo, [[%Named{id: 5}]]) == {:ok, [%{"id" => 5, "name" => nil}]}
        :ok = Typhon.stop(py)
      end
    end

    test "with a field that cannot go is refused, with its place", %{py: py} do
      named = %Named{id: [1, %Typhon.EncoderTest.Plain{}]}

      assert {:error, %EncodeError{path: path, type: Typhon.EncoderTest.Plain}} =
               Typhon.call(py, :conversions, :echo, [[named]])

      assert path == ~s|args[0][0]["id"][1]|

      assert {:error, %EncodeError{path: ~s|args[0][0]["id"]["k"]|}} =
               Typhon.call(py, :conversions, :echo, [[%Named{id: %{"k" => <<255>>}}]])
    end

    test "whose decoder raises is refused, with its place" do
      py =
        start_pool(
          init: """
          import typhon

          @typhon.decoder("Elixir.Typhon.EncoderTest.Named")
          def refuses(fields):
              raise ValueError("not this one")
          """
        )

      assert {:error, %EncodeError{path: ~s|args[0]["u"][0]|, reason: reason}} =
               Typhon.call(py, :sample, :echo, [%{"u" => [%Named{id: 1}]}])

      assert reason ==
               "the decoder __main__.refuses of Elixir.Typhon.EncoderTest.Named raised ValueError: not this one"
    end
  end

  describe "an object with an encoder" do
    test "is what that makes of it", %{py: py} do
      assert Typhon.call(py, :conversions, :pay, [1, 2]) == {:ok, [{"money", 1}, {"money", 2}]}
    end

    test "whose encoder raises is an error with its place", %{py: py} do
      assert {:error, %EncodeError{path: "result[1]", reason: reason}} =
               Typhon.call(py, :conversions, :pay, [1, -2])

      assert reason == "the encoder conversions.money raised ValueError: a debt"
    end

    test "may ask the BEAM while a long reply is written", %{py: py} do
      assert {:ok, rows} = Typhon.call(py, :conversions, :bulk, [300])
      assert rows == for(i <- 0..299, do: [String.duplicate("x", 5000), {"money", i}])
    end

    test "goes in all results of a batch", %{py: py} do
      assert Typhon.multi(py, :conversions, :pay, [[1], [2, 3]]) ==
               [{:ok, [{"money", 1}]}, {:ok, [{"money", 2}, {"money", 3}]}]
    end

    test "stays in Python where that is asked for", %{py: py} do
      {:ok, handle} = Typhon.call(py, :conversions, :Money, [5], as: :object)
      assert Typhon.get(handle, "amount") == {:ok, 5}
    end
  end
end
