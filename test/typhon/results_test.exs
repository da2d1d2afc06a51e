defmodule Typhon.ResultsTest do
  # Large results: whose memory they lie in, and how much of it. Not async: what the whole VM holds is counted.
  use ExUnit.Case, async: false

  @moduletag :os_process
  @moduletag timeout: 600_000
  @moduletag :capture_log

  import Typhon.TestHelper

  alias Typhon.{DecodeError, EncodeError, Native, PythonError, RubyError, WorkerError}

  @kib 1_024
  @mib 1_048_576
  @gib 1_073_741_824

  # A function of results.py that answers behind the native module's back does not return: such a pool is not waited for.
  defp hostile_pool(options \\ []), do: start_pool(options ++ [grace: 0])

  defp call(py, function, args), do: Typhon.call(py, :results, function, args, timeout: limit())
  defp call!(py, function, args \\ []), do: Typhon.call!(py, :results, function, args, timeout: limit())

  defp held(py), do: worker(py).results.held

  defp collect, do: for(pid <- Process.list(), do: :erlang.garbage_collect(pid))

  defp start_ruby(options) do
    defaults = [
      language: :ruby,
      workers: 1,
      require: "sample",
      ruby_path: [Path.expand("../support/rb", __DIR__)],
      stdio: :discard,
      start_timeout: limit()
    ]

    start_supervised!({Typhon, defaults ++ options})
  end

  # What this VM takes at most from now on, in bytes beyond what it takes now.
  defp peak(fun) do
    File.write!("/proc/self/clear_refs", "5")
    before = status("VmRSS:")
    result = fun.()
    {result, status("VmHWM:") - before}
  end

  defp status(name) do
    [_, rest] = "/proc/self/status" |> File.read!() |> String.split(name)
    {kib, _} = rest |> String.trim_leading() |> Integer.parse()
    kib * @kib
  end

  describe "a result" do
    test "does not change, whatever the worker writes to its memory" do
      py = start_pool()
      size = 256 * @kib
      first = call!(py, :encoding, [size])
      term = :erlang.binary_to_term(first, [:safe])
      hash = :erlang.phash2(first)
      call!(py, :scribble, [size])
      eventually(fn -> call!(py, :rounds) > 100 end)

      for _ <- 1..300 do
        # Whatever it has become on its way: from here on it is what it is.
        with {:ok, other} when is_binary(other) <- call(py, :encoding, [size]) do
          hash = :erlang.phash2(other)
          assert :erlang.phash2(other) == hash
          assert decoded(other) == decoded(other)
          assert :unicode.characters_to_list(other) == :unicode.characters_to_list(other)
          assert :erlang.phash2(other) == hash
        end

        assert :erlang.phash2(first) == hash
        assert :erlang.binary_to_term(first, [:safe]) == term
      end

      assert call!(py, :rounds) > 100
    end

    test "of any size is what Python returned, again and again in the same memory" do
      py = start_pool()

      for size <- [0, 1, 16_383, 65_535, 65_536, 1_000_003, 9 * @mib + 1, 64 * @mib], round <- 1..3 do
        letter = <<?a + round>>
        expected = :binary.copy(letter, size)

        assert Typhon.call!(py, "typhon", "encode", [expected], timeout: limit()) ==
                 :erlang.term_to_binary(expected)

        assert Typhon.call!(py, :operator, :mul, [letter, size], timeout: limit()) == expected
      end
    end

    test "many callers at once get their own" do
      py = start_pool(workers: 2)

      results =
        for number <- 1..8 do
          Task.async(fn ->
            for round <- 1..20 do
              letter = <<?a + number>>
              size = 70_000 + 10_000 * number + round

              assert Typhon.call!(py, :operator, :mul, [letter, size], timeout: limit()) ==
                       :binary.copy(letter, size)
            end
          end)
        end

      Task.await_many(results, :infinity)
    end
  end

  describe "a claim" do
    test "over memory that was never written is not copied, and the worker is ended" do
      py = hostile_pool(max_result: :infinity, max_held: :infinity)
      os_pid = worker(py).os_pid
      {result, peak} = peak(fn -> call(py, :claim_unwritten, [3 * @gib]) end)
      assert {:error, error} = result
      assert error.__struct__ in [DecodeError, WorkerError]
      if is_struct(error, DecodeError), do: assert(error.reason =~ "never written")
      assert peak < 512 * @mib

      eventually(fn ->
        worker(py).os_pid != os_pid and match?({:ok, 4.0}, Typhon.call(py, :math, :sqrt, [16]))
      end)
    end

    test "beyond max_result: is refused by its size" do
      py = hostile_pool()
      {result, peak} = peak(fn -> call(py, :claim_unwritten, [3 * @gib]) end)
      assert {:error, %DecodeError{path: "result", reason: reason}} = result
      assert reason =~ "#{3 * @gib} bytes" and reason =~ "max_result:"
      assert peak < 512 * @mib
    end

    test "over a little memory that was never written is none, either" do
      py = hostile_pool()
      os_pid = worker(py).os_pid
      assert {:error, _} = call(py, :claim_unwritten, [4 * @kib])

      eventually(fn ->
        worker(py).os_pid != os_pid and match?({:ok, 4.0}, Typhon.call(py, :math, :sqrt, [16]))
      end)
    end

    test "of a thousand frames takes no more memory than one" do
      py = hostile_pool(max_result: :infinity, max_held: :infinity)
      {result, peak} = peak(fn -> call(py, :claim_many, [3 * @gib, 1_000]) end)
      assert {:error, _} = result
      assert peak < 512 * @mib
      eventually(fn -> match?({:ok, 4.0}, Typhon.call(py, :math, :sqrt, [16])) end)
    end

    test "that would expand beyond max_result: is not decoded" do
      py = hostile_pool(max_result: 256 * @mib)
      {result, peak} = peak(fn -> call(py, :claim_compressed, [200_000_000]) end)
      assert {:error, %DecodeError{reason: reason}} = result
      assert reason =~ "max_result:"
      assert peak < 600 * @mib
    end

    test "that expands is bounded in the ring, too" do
      py = hostile_pool(max_result: @mib)
      assert {:error, %DecodeError{reason: reason}} = call(py, :answer_compressed, [2_000_000])
      assert reason =~ "max_result:"
      py = hostile_pool()
      assert {:ok, list} = call(py, :answer_compressed, [2_000_000])
      assert length(list) == 2_000_000
    end

    test "is taken for what its bytes say" do
      body = :erlang.term_to_binary(%{a: [1, 2, 3]})
      py = hostile_pool()
      assert call(py, :claim_written, [Typhon.bytes(body), byte_size(body)]) == {:ok, %{a: [1, 2, 3]}}
      py = hostile_pool()
      assert {:error, %DecodeError{}} = call(py, :claim_written, [Typhon.bytes(body), byte_size(body) + @mib])
    end
  end

  describe "max_result:" do
    test "Python refuses what is larger, and the worker goes on" do
      py = start_pool(max_result: @mib)
      os_pid = call!(py, :pid)

      for _ <- 1..3 do
        assert {:error, %EncodeError{path: "result", reason: reason} = error} = call(py, :blank, [2 * @mib])
        assert reason =~ "#{@mib} bytes" and reason =~ "max_result:"
        assert Exception.message(error) =~ "max_result:"
      end

      assert {:error, %EncodeError{path: "result[1]"}} = call(py, :parts, [2 * @mib])
      assert byte_size(call!(py, :blank, [@mib - 100])) == @mib - 100
      assert call!(py, :pid) == os_pid
    end

    test "counts what a result takes as a term" do
      py = start_pool(max_result: @mib)
      os_pid = call!(py, :pid)
      assert length(call!(py, :zeros, [60_000])) == 60_000
      assert {:error, %DecodeError{reason: reason}} = call(py, :zeros, [300_000])
      assert reason =~ "max_result:"
      assert call!(py, :pid) == os_pid
    end

    test "holds for questions and messages of Python's, too" do
      py = start_pool(max_result: @mib)
      assert call!(py, :ask_large, [&byte_size/1, 500_000]) == 500_000
      assert call!(py, :ask_refused, [&byte_size/1, 2 * @mib]) =~ "max_result:"
      assert {:error, %PythonError{type: "typhon.EncodeError"}} = call(py, :send_large, [self(), 2 * @mib, 1])
      refute_received {_, _}
    end

    test "is there by default, and may be switched off" do
      assert {:error, %EncodeError{reason: reason}} = call(start_pool(), :blank, [@gib + 1])
      assert reason =~ "#{@gib} bytes"
      py = start_pool(max_result: :infinity)
      assert byte_size(call!(py, :blank, [10 * @mib])) == 10 * @mib
    end

    test "of a Ruby" do
      rb = start_ruby(max_result: @mib)
      os_pid = Typhon.call!(rb, "Sample", "pid", [], timeout: limit())
      large = String.duplicate("x", 2 * @mib)

      assert {:error, %EncodeError{reason: reason}} =
               Typhon.call(rb, "Sample", "echo", [large], timeout: limit())

      assert reason =~ "max_result:"
      some = String.duplicate("x", 500_000)
      assert Typhon.call!(rb, "Sample", "echo", [some], timeout: limit()) == some
      assert Typhon.call!(rb, "Sample", "pid", [], timeout: limit()) == os_pid
    end
  end

  describe "max_held:" do
    test "bounds what Elixir holds of one worker's results" do
      py = start_pool(max_held: 10 * @mib)
      os_pid = call!(py, :pid)
      kept = for _ <- 1..3, do: call!(py, :blank, [3 * @mib])
      assert {:error, %DecodeError{reason: reason}} = call(py, :blank, [3 * @mib])
      assert reason =~ "max_held:" and reason =~ "#{10 * @mib} bytes"
      assert held(py) in (9 * @mib)..(10 * @mib)
      assert Enum.all?(kept, &(byte_size(&1) == 3 * @mib))

      eventually(fn ->
        collect()
        held(py) == 0
      end)

      assert byte_size(call!(py, :blank, [3 * @mib])) == 3 * @mib
      assert call!(py, :pid) == os_pid
    end

    test "does not count garbage of the caller" do
      py = start_pool(max_held: 10 * @mib)
      for _ <- 1..40, do: assert(byte_size(call!(py, :blank, [6 * @mib])) == 6 * @mib)
    end

    test "bounds messages that nobody lets go of" do
      py = start_pool(max_held: 10 * @mib)
      call!(py, :send_large, [self(), 3 * @mib, 20])
      assert call(py, :blank, [10]) == {:ok, <<0::80>>}
      assert held(py) <= 10 * @mib
      assert_received {0, <<0, _::binary>>}
      assert_received {1, _}
      refute_received {10, _}
    end
  end

  describe "an exception beyond max_result:" do
    test "keeps its type, its traceback and what fits of its message" do
      py = start_pool(max_result: @mib)

      for function <- [:fail_with, :fail_with_later] do
        assert {:error, %PythonError{type: "KeyError"} = error} = call(py, function, [2 * @mib])
        assert String.starts_with?(error.message, "('k', 'xxx")
        assert byte_size(error.message) in 100_000..@mib
        assert %{function: "fail_with", line: line} = List.last(error.traceback)
        assert is_integer(line)

        assert ["This exception takes more than 1048576 bytes, which is max_result: of the pool." <> _] =
                 error.notes

        assert {:error, %PythonError{notes: [], message: short}} = call(py, function, [1_000])
        assert byte_size(short) == 1_000 + byte_size("('k', '')")
      end
    end

    test "whatever is large in it" do
      for most <- [65_536, @mib] do
        py = start_pool(max_result: most)
        assert {:error, %PythonError{} = error} = call(py, :fail_with_all, [2 * @mib])
        assert error.type =~ ~r/EEE/
        assert error.message =~ "ééé"
        assert [note] = error.notes
        assert note =~ "max_result:"
        assert %PythonError{type: "KeyError"} = error.cause
        assert Enum.any?(error.traceback, &(&1.function == "fail_with_all"))
      end
    end
  end

  describe "a batch beyond max_result:" do
    setup do
      %{py: start_pool(max_result: @mib)}
    end

    test "loses what is too large, and nothing else", %{py: py} do
      for function <- [:sized, :sized_later], large <- [2 * @mib, 2 * @mib + 1] do
        assert [{:ok, <<0::80>>}, {:error, %EncodeError{} = error}, {:ok, ["xxx"]}] =
                 multi(py, function, [10, large, 3])

        assert Exception.message(error) =~ "max_result:"
        assert [{:ok, _}, {:error, ^error}] = multi(py, function, [1, large])
        assert [{:error, ^error}, {:ok, _}] = multi(py, function, [large, 10])
        assert [{:ok, _}, {:error, %PythonError{type: "KeyError"}}] = multi(py, function, [1, -2 * @mib])
      end
    end

    test "says so when it is all of them together", %{py: py} do
      for size <- [400_000, 400_001] do
        assert [{:ok, _}, {:ok, _}, {:error, %EncodeError{} = error}, {:ok, <<0::80>>}] =
                 multi(py, :sized, [size, size, size, 10])

        assert Exception.message(error) =~ "batch"
        assert Exception.message(error) =~ "max_result:"
      end
    end

    defp multi(py, function, sizes),
      do: Typhon.multi(py, :results, function, Enum.map(sizes, &[&1]), timeout: limit())
  end

  describe "a stream" do
    test "has large elements travel by themselves" do
      py = start_pool(max_result: @mib)

      for function <- [:blobs, :blobs_later], size <- [100_000, 600_000, 1_000_000] do
        blobs = py |> Typhon.stream(:results, function, [6, size], timeout: limit()) |> Enum.to_list()
        assert Enum.map(blobs, &binary_part(&1, 0, 1)) == for(i <- 0..5, do: "#{i}")
        assert Enum.all?(blobs, &(byte_size(&1) == size))
      end
    end

    test "also when they come behind many small ones, or lie in others" do
      py = start_pool(max_result: @mib)

      for function <- [:growing, :growing_later] do
        sizes =
          py
          |> Typhon.stream(:results, function, [500], timeout: limit(), batch: 10_000)
          |> Enum.map(&weight/1)

        assert sizes == List.duplicate(1, 500) ++ List.duplicate(1_040_000, 12)
      end
    end

    test "says that it is a batch when that is too large all the same" do
      py = start_pool(max_result: @mib)
      stream = &Typhon.stream(py, :results, :hidden, [200, 400_000], timeout: limit(), batch: &1)

      assert_raise EncodeError, ~r/max_result: .*batch: 1/s, fn -> Enum.to_list(stream.(20)) end
      assert length(Enum.to_list(stream.(1))) == 200
    end

    defp weight(element) when is_integer(element), do: 1
    defp weight(element) when is_binary(element), do: byte_size(element)
    defp weight([element]), do: weight(element)
    defp weight(%{"in" => element}), do: weight(element)
    defp weight(%Typhon.Array{data: data}), do: byte_size(data)
  end

  describe "what is held" do
    test "is the whole while a part of it is, and shows" do
      py = start_pool()
      kept = for _ <- 1..8, do: py |> call!(:blank, [4 * @mib]) |> binary_part(1_000, 100)

      assert held(py) in (32 * @mib)..(33 * @mib)
      {:ok, info} = Typhon.info(py)
      assert info.results.held >= 32 * @mib and info.results.limit > 64 * @mib
      copies = Enum.map(kept, &:binary.copy/1)
      assert Enum.all?(kept, &(&1 == <<0::800>>))

      eventually(fn ->
        collect()
        held(py) == 0
      end)

      assert Enum.all?(copies, &(&1 == <<0::800>>))
    end

    test "is not the whole for small parts that a result consists of" do
      py = start_pool()

      kept =
        for _ <- 1..8 do
          [parts, large] = call!(py, :parts, [4 * @mib])
          assert byte_size(large) == 4 * @mib
          parts
        end

      eventually(fn ->
        collect()
        held(py) == 0
      end)

      for parts <- kept, do: assert(Enum.map(parts, &:binary.first/1) == Enum.to_list(0..7))
    end

    test "is nothing for results without large binaries" do
      py = start_pool()
      kept = call!(py, :zeros, [300_000])
      assert held(py) == 0
      assert length(kept) == 300_000
    end

    test "is independent of the worker and of its memory" do
      py = start_pool()
      kept = call!(py, :text, [4 * @mib])
      assert worker(py).results == %{held: held(py), shared: 0}
      Typhon.stop(py)
      assert kept == String.duplicate("x", 4 * @mib)
      eventually(fn -> memfds() == 0 end)
      assert kept == String.duplicate("x", 4 * @mib)
    end

    test "what is cached is bounded and given back when it is idle" do
      py = start_pool()
      for _ <- 1..20, do: call!(py, :blank, [32 * @mib])
      collect()
      assert Native.results().cached <= 256 * @mib
      eventually(fn -> Native.results().cached > 0 or Native.results().held > 0 end)

      eventually(fn ->
        collect()
        Native.results().cached == 0
      end)
    end
  end

  describe "results: :shared" do
    test "lends the worker's memory, and counts it" do
      py = start_pool(results: :shared)
      kept = call!(py, :text, [4 * @mib])
      assert %{held: 0, shared: shared} = worker(py).results
      assert shared >= 4 * @mib
      assert kept == String.duplicate("x", 4 * @mib)

      eventually(fn ->
        collect()
        worker(py).results.shared == 0
      end)
    end

    test "is an option of worker processes" do
      assert_raise ArgumentError, ~r/results: must be :private or :shared/, fn ->
        Typhon.start_link(results: :lent)
      end

      assert_raise ArgumentError, ~r/isolation: :process/, fn ->
        Typhon.start_link(results: :shared, isolation: :interpreter)
      end
    end
  end

  describe "limits: [memory:]" do
    test "what a result takes on its way counts" do
      py = start_pool(limits: [memory: 200_000_000])
      os_pid = call!(py, :pid)

      for _ <- 1..3 do
        assert {:error, %PythonError{type: "MemoryError", notes: [note]}} = call(py, :blank, [130_000_000])
        assert note == "This worker's limit is memory: 200000000 bytes (limits: of its pool)."
      end

      for _ <- 1..10, do: assert(byte_size(call!(py, :blank, [60_000_000])) == 60_000_000)
      assert call!(py, :pid) == os_pid
    end
  end

  describe "limits: [memory:] of a Ruby" do
    test "what a result takes on its way counts" do
      rb = start_ruby(limits: [memory: 200_000_000])
      os_pid = Typhon.call!(rb, "Sample", "pid", [], timeout: limit())
      blank = fn size -> Typhon.call(rb, "Sample", "blank", [size], timeout: limit()) end
      assert {:error, %RubyError{type: "NoMemoryError", message: message}} = blank.(130_000_000)
      assert message =~ "limits: [memory:]"
      for _ <- 1..5, do: assert({:ok, <<"xxx", _::binary>>} = blank.(50_000_000))
      assert Typhon.call!(rb, "Sample", "pid", [], timeout: limit()) == os_pid
    end
  end

  defp decoded(binary) do
    :erlang.binary_to_term(binary, [:safe])
  rescue
    ArgumentError -> :no_term
  end
end
