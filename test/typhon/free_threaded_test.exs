defmodule Typhon.FreeThreadedTest do
  # Many calls in the threads of one Python, each answer compared with what it has to be. Where there is a Python without a GIL
  # with that; always with the one that all tests have.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.{PythonError, TimeoutError}

  @moduletag timeout: 300_000

  for atom <- ~w(typhon_free_0 typhon_free_1 typhon_free_2 typhon_free_3 typhon_free_4)a, do: _ = atom

  defp storm(py) do
    1..16
    |> Enum.map(fn caller ->
      async(fn ->
        for i <- 1..60 do
          number = caller * 1000 + i

          value = %{
            "caller" => caller,
            "rows" => [[i, i * 1.5], %{"text" => String.duplicate("é", rem(i, 50))}]
          }

          assert {:ok, result} = Typhon.call(py, :free, :mix, [value, number], timeout: :infinity)
          assert %{"value" => ^value, "set" => set, "sum" => sum, "object" => object} = result
          assert result[:atom] == :"typhon_free_#{rem(number, 5)}"
          assert set == MapSet.new([number, "x"])
          assert sum == div(number * (number - 1), 2)
          assert Typhon.call(py, object, :add, [i], timeout: :infinity) == {:ok, number + i}

          case rem(i, 6) do
            0 ->
              message = "number #{number}"

              assert {:error, %PythonError{type: "sample.OwnError", message: ^message}} =
                       Typhon.call(py, :free, :fail, [number], timeout: :infinity)

            1 ->
              assert Typhon.call(py, :free, :later, [number], timeout: :infinity) == {:ok, number + 1}

            2 ->
              twice = fn x -> 2 * x end

              assert Typhon.call(py, :converse, :evaluate, ["f(x) + 1", twice, i], timeout: :infinity) ==
                       {:ok, 2 * i + 1}

            3 ->
              assert {:ok, %{"counts" => counts, "history" => history}} =
                       Typhon.call(py, :free, :shared, [], timeout: :infinity)

              assert map_size(counts) == 20

              assert Enum.all?(counts, fn {"key " <> key, last} ->
                       last == 0 or rem(last, 20) == String.to_integer(key)
                     end)

              assert Enum.all?(history, &is_integer/1)

            4 ->
              bytes = :binary.copy(<<i>>, 100_000)

              assert Typhon.call(py, :sample, :checksum, [Typhon.buffer(bytes)], timeout: :infinity) ==
                       {:ok, :erlang.crc32(bytes)}

            5 ->
              assert {:error, %TimeoutError{}} = Typhon.call(py, :sample, :spin_python, [600], timeout: 5)
          end
        end

        assert_mailbox_empty()
      end)
    end)
    |> Task.await_many(280_000)

    assert worker(py).restarts == 0
  end

  test "calls of every kind at once in four threads of a worker" do
    storm(start_pool(concurrency: 4, grace: 60_000))
  end

  for {python, version} <- [free_threaded_python() || {nil, "none here"}] do
    describe "a Python without a GIL (#{version})" do
      @describetag skip: is_nil(python)
      @python python

      test "is one for engine: :auto, which says why" do
        assert {:ok, env} = Typhon.Env.describe(@python)
        assert %{free_threaded: true, engine: :threads} = env
        assert env.why =~ "is free-threaded"
      end

      test "keeps it switched off in a worker, and serves four threads" do
        py = start_pool(isolation: :process, engine: :auto, python: @python, concurrency: 4, grace: 60_000)
        assert Typhon.call(py, :free, :gil, []) == {:ok, false}
        storm(py)
        assert Typhon.call(py, :free, :gil, []) == {:ok, false}
      end

      test "inside the VM is one worker of as many threads as were to be workers" do
        py = start_pool(isolation: :interpreter, python: @python, workers: 4, grace: 60_000)
        assert %{concurrency: 4} = worker(py)
        assert Typhon.call(py, :free, :gil, []) == {:ok, false}
        storm(py)
      end

      test "without a native module for it says what to do" do
        package = new_path("free")
        File.mkdir_p!(package)
        File.cp_r!(Path.join(Typhon.Native.priv_path("python"), "typhon"), Path.join(package, "typhon"))
        for built <- Path.wildcard(Path.join(package, "typhon/_native.cpython*")), do: File.rm!(built)
        code = "import sys; sys.path.insert(0, sys.argv[1]); import typhon"
        {text, status} = System.cmd(@python, ["-c", code, package], stderr_to_stdout: true)
        File.rm_rf!(package)
        assert status == 1
        assert text =~ "TYPHON_FREE_THREADED="
      end
    end
  end
end
