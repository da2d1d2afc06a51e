defmodule Typhon.LoanTest do
  # Large binaries between the VM and interpreters inside it, which cross without a copy. Not async: the VM's loans are counted.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.{Array, Native}

  @moduletag timeout: 300_000

  # Where a binary is lent rather than copied.
  @threshold 16_384
  @mib 1_048_576

  setup_all do
    {:ok, py: start_supervised!({Typhon, pool()}), numpy: numpy?()}
  end

  setup %{py: py} do
    on_exit(fn -> settle(py) end)
  end

  defp pool(options \\ []),
    do: [workers: 1, isolation: :interpreter, python_path: [py_dir()], stdio: :discard] ++ options

  defp numpy?,
    do: match?({_, 0}, System.cmd("python3", ["-c", "import numpy"], stderr_to_stdout: true))

  def reverse(binary), do: binary |> :binary.decode_unsigned(:little) |> :binary.encode_unsigned()

  defp py(py, function, args \\ [], options \\ []),
    do: Typhon.call!(py, :loans, function, args, [timeout: 60_000] ++ options)

  defp sha(binary), do: :crypto.hash(:sha256, binary) |> Base.encode16(case: :lower)
  defp random(size), do: :crypto.strong_rand_bytes(size)

  defp channel(py) do
    {_, %{channel: channel}} = :sys.get_state(worker(py).pid)
    channel
  end

  # {lent, borrowed} of the pool's only worker, in loans.
  defp loans(py) do
    %{lent: {lent, _}, borrowed: {borrowed, _}} = Native.channel_info(channel(py))
    {lent, borrowed}
  end

  defp garbage_collect, do: for(pid <- Process.list(), do: :erlang.garbage_collect(pid))

  defp settle(py) do
    eventually(fn ->
      garbage_collect()
      loans(py) == {0, 0}
    end)
  end

  # Its worker runs something until `fun` has returned.
  defp occupied(py, fun) do
    path = new_path("loans")
    task = Task.async(fn -> Typhon.call!(py, :loans, :wait_for, [path], timeout: :infinity) end)
    eventually(fn -> running(py) == 1 end)
    result = fun.()
    File.touch!(path)
    Task.await(task, :infinity)
    File.rm!(path)
    result
  end

  describe "what Elixir sends" do
    test "arrives as it is, at every size and in every form", %{py: py} do
      for size <- [0, 1, @threshold - 1, @threshold, @threshold + 1, @mib, 64 * @mib] do
        data = random(size)
        expected = sha(data)
        assert py(py, :digest, [Typhon.bytes(data)]) == expected
        assert py(py, :digest, [Typhon.buffer(data)]) == expected
        assert py(py, :describe, [Typhon.bytes(data)]) == {"bytes", nil, size}
        assert py(py, :describe, [Typhon.buffer(data)]) == {"memoryview", true, size}
        text = :binary.copy("text", div(size, 4))
        assert py(py, :digest, [text]) == sha(text)
        assert py(py, :describe, [text]) == {"str", nil, byte_size(text)}
        umlauts = :binary.copy("äß😀", div(size, 8))
        assert py(py, :digest, [umlauts]) == sha(umlauts)
      end
    end

    test "may be part of another binary, at any bit", %{py: py} do
      data = random(@mib)
      <<_::binary-size(12_345), part::binary-size(200_000), _::binary>> = data
      assert py(py, :digest, [Typhon.buffer(part)]) == sha(part)
      <<_::3, odd::binary-size(200_000), _::bitstring>> = data
      assert py(py, :digest, [Typhon.buffer(odd)]) == sha(odd)
      <<bits::bitstring-size(1_600_001), _::bitstring>> = data
      assert py(py, :echo, [bits]) == [bits]
    end

    test "may be a binary that is appended to meanwhile", %{py: py} do
      grown =
        Enum.reduce(1..200, random(@threshold), fn i, binary ->
          binary = binary <> <<i>>
          assert py(py, :digest, [Typhon.buffer(binary)]) == sha(binary)
          binary
        end)

      assert byte_size(grown) == @threshold + 200
    end

    test "may lie anywhere in a term", %{py: py} do
      [a, b, c] = for _ <- 1..3, do: random(100_000)
      text = String.duplicate("key", 30_000)

      term = %{
        "list" => [Typhon.bytes(a), {1, Typhon.bytes(b)}, [[Typhon.buffer(c)]]],
        text => text,
        {text, 1} => MapSet.new([text]),
        "date" => ~D[2026-02-28]
      }

      expected = %{term | "list" => [a, {1, b}, [[c]]]}
      assert py(py, :echo, [term]) == [expected]
      assert py(py, :echo, [1], kwargs: %{x: Typhon.bytes(a), y: [text]}) == {[1], %{"x" => a, "y" => [text]}}
      assert py(py, :echo, List.duplicate(Typhon.bytes(a), 300)) == List.duplicate(a, 300)
      assert py(py, :echo, [[Typhon.bytes(a) | Typhon.bytes(b)]]) == [[a | b]]
    end

    test "in more pieces than one frame has loans", %{py: py} do
      data = random(@threshold)
      count = 5_000
      assert py(py, :total, [List.duplicate(Typhon.buffer(data), count)]) == count * @threshold
    end

    test "cannot be written to", %{py: py} do
      data = random(@mib)
      expected = sha(data)
      assert {:error, error} = Typhon.call(py, :loans, :write, [Typhon.buffer(data)])
      assert error.type == "TypeError"
      assert sha(data) == expected
    end

    test "that is not text says so, with its place", %{py: py} do
      data = String.duplicate("a", @mib) <> <<255>>

      for {args, path} <- [
            {[data], "args[0]"},
            {[1, %{"k" => data}], "args[1][\"k\"]"},
            {[%{{1, 2} => [data]}], "args[0][(1, 2)][0]"}
          ] do
        assert {:error, error} = Typhon.call(py, :loans, :echo, args)
        assert Exception.message(error) =~ path
        assert Exception.message(error) =~ "byte 1048576 is 0xff"
      end
    end

    test "is given back when the term cannot be decoded, or nobody takes it", %{py: py} do
      data = Typhon.buffer(random(@mib))
      assert {:error, _} = Typhon.call(py, :loans, :echo, [data, <<255>>, data])
      assert {:error, _} = Typhon.call(py, :no_such_module, :echo, [data])
      assert {:error, %Typhon.TimeoutError{}} = Typhon.call(py, :loans, :sleep, [60, data], timeout: 50)
      # These wait behind another one, and are given up before they are taken.
      occupied(py, fn ->
        for _ <- 1..20,
            do: {:error, %Typhon.TimeoutError{}} = Typhon.call(py, :loans, :echo, [data], timeout: 1)
      end)

      settle(py)
    end
  end

  describe "what Python keeps" do
    test "stays what it is when Elixir has dropped it", %{py: py} do
      digests =
        for size <- [@threshold, @mib, 20 * @mib] do
          data = random(size)
          py(py, :keep, [Typhon.buffer(data)])
          sha(data)
        end

      for _ <- 1..3, do: random(30 * @mib)
      garbage_collect()
      assert loans(py) == {3, 0}
      assert %{lent: {3, bytes}} = Native.channel_info(channel(py))
      assert bytes == @threshold + 21 * @mib
      assert py(py, :kept_digests) == digests
      assert py(py, :drop) == 0
      settle(py)
    end

    test "outlives its worker and its pool, and goes with them if nothing else holds it" do
      {:ok, pool} = Typhon.start_link(pool())
      data = random(@mib)
      channel = channel(pool)
      assert py(pool, :keep, [Typhon.buffer(data)]) == 1
      assert %{lent: {1, @mib}} = Native.channel_info(channel)
      # `kept` belongs to a module that the next worker does not have any more.
      assert Typhon.stop(pool) == :ok
      eventually(fn -> match?(%{lent: {0, 0}}, Native.channel_info(channel)) end)

      {:ok, pool} = Typhon.start_link(pool())
      channel = channel(pool)
      # The standard library stays loaded.
      assert {:ok, _} =
               Typhon.call(pool, :builtins, :setattr, [
                 Typhon.call!(pool, :importlib, :import_module, ["colorsys"]),
                 "typhon_kept",
                 Typhon.buffer(data)
               ])

      assert Typhon.stop(pool) == :ok
      garbage_collect()
      assert %{lent: {1, @mib}} = Native.channel_info(channel)
      {:ok, pool} = Typhon.start_link(pool())
      assert Typhon.call(pool, :colorsys, "typhon_kept.__len__", []) == {:ok, @mib}
      assert Typhon.call(pool, :colorsys, "typhon_kept.tobytes", []) == {:ok, data}

      assert {:ok, _} =
               Typhon.call(pool, :builtins, :delattr, [
                 Typhon.call!(pool, :importlib, :import_module, ["colorsys"]),
                 "typhon_kept"
               ])

      assert Typhon.stop(pool) == :ok
      eventually(fn -> match?(%{lent: {0, 0}}, Native.channel_info(channel)) end)
    end
  end

  describe "what Python returns" do
    test "arrives as it is, at every size and in every form", %{py: py} do
      for size <- [0, 2, @threshold - 2, @threshold, @threshold + 2, @mib, 20 * @mib] do
        expected = py(py, :make, [size])
        assert byte_size(expected) == size

        for kind <- ["bytearray", "memoryview", "slice", "of a bytearray"] do
          assert py(py, :make, [size, kind]) === expected
        end

        assert py(py, :make, [size, "text"]) === String.duplicate("ab", div(size, 2))
        assert py(py, :make, [size, "umlauts"]) === String.duplicate("ä", div(size, 2))
      end

      assert py(py, :make, [@mib, "strided"]) === py(py, :make, [@mib])
    end

    test "is Python's own memory, which lives as long as the binary", %{py: py} do
      results = for _ <- 1..5, do: py(py, :make, [@mib])
      expected = hd(results)
      assert loans(py) == {0, 5}
      assert %{borrowed: {5, bytes}} = Native.channel_info(channel(py))
      assert bytes == 5 * @mib
      for _ <- 1..50, do: py(py, :make, [@mib])
      assert Enum.all?(results, &(&1 == expected))
      part = binary_part(hd(results), 1_000, 200_000)
      assert part == binary_part(expected, 1_000, 200_000)
    end

    test "is not what Python may still change", %{py: py} do
      assert result = py(py, :mutate_afterwards, [@mib])
      assert py(py, :overwrite) == nil
      assert result == String.duplicate("a", @mib)
      assert py(py, :drop) == 0
    end

    test "survives that its view is released", %{py: py} do
      assert result = py(py, :released, [@mib])
      assert py(py, :release) == nil
      for _ <- 1..20, do: py(py, :make, [@mib])
      assert result == String.duplicate("v", @mib)
    end

    test "may lie anywhere in a term", %{py: py} do
      size = 100_000
      [k, v, t, e, f] = for c <- ~w(k v t e f), do: String.duplicate(c, size)
      assert py(py, :keys, [size]) === %{k => v, {t, 1} => 1}
      assert py(py, :elements, [size]) === MapSet.new([e, f])
      assert {:error, error} = Typhon.call(py, :loans, :equal_keys, [size])
      assert %Typhon.EncodeError{} = error

      assert py(py, :many, [300, @threshold]) ===
               for(i <- 0..299, do: String.duplicate(<<rem(i, 256)>>, @threshold))
    end

    test "outlives the pool, and the interpreter's next workers" do
      {:ok, pool} = Typhon.start_link(pool())
      expected = py(pool, :make, [@mib])
      results = for kind <- ["bytes", "memoryview", "text"], do: py(pool, :make, [@mib, kind])
      channel = channel(pool)
      assert Typhon.stop(pool) == :ok
      assert %{borrowed: {4, _}} = Native.channel_info(channel)

      for _ <- 1..3 do
        {:ok, pool} = Typhon.start_link(pool())
        for _ <- 1..20, do: py(pool, :make, [2 * @mib])
        assert Typhon.stop(pool) == :ok
      end

      assert results == [expected, expected, String.duplicate("ab", div(@mib, 2))]
      before = Native.channel_info(channel).borrowed
      assert {4, _} = before
    end

    test "the very memory that it got may come back", %{py: py} do
      data = random(8 * @mib)
      assert [echoed] = py(py, :echo, [Typhon.buffer(data)])
      assert echoed == data
      # The binary holds Python's view, and that holds the VM's binary.
      assert loans(py) == {1, 1}
      assert byte_size(echoed) == 8 * @mib
    end
  end

  @tag :any_extension
  test "arrays are views of the VM's memory, and come back", %{py: py, numpy: numpy} do
    if numpy do
      count = div(@mib, 8)
      data = for i <- 0..(count - 1), into: <<>>, do: <<i * 1.0::float-little>>
      array = %Array{shape: {count}, dtype: "<f8", data: data}
      assert py(py, :array_info, [array]) == {"ndarray", false, count * (count - 1) / 2}
      assert %Array{shape: {^count}, data: ^data} = py(py, :array, [count])
      assert [%Array{shape: {^count}, data: ^data}] = py(py, :echo, [array])
    end
  end

  test "random terms come back as they went", %{py: py} do
    seed = :erlang.phash2(make_ref())
    :rand.seed(:exsss, seed)

    for _ <- 1..300 do
      {sent, expected} = random_term(4)
      assert py(py, :echo, [sent, 1]) === [expected, 1], "with the seed #{seed}"
    end
  end

  # What is sent, and what comes back.
  defp random_term(0), do: random_leaf()

  defp random_term(depth) do
    case :rand.uniform(5) do
      1 -> random_leaf()
      2 -> random_terms(depth)
      3 -> random_terms(depth) |> both(&List.to_tuple/1)
      4 -> random_terms(depth) |> both(&(&1 |> Enum.with_index() |> Map.new(fn {v, k} -> {k, v} end)))
      5 -> random_terms(depth) |> both(&Map.new(Enum.with_index(&1), fn {v, k} -> {text(20_000 + k), v} end))
    end
  end

  defp random_terms(depth),
    do: Enum.unzip(for _ <- 1..:rand.uniform(4), do: random_term(depth - 1))

  defp both({sent, expected}, fun), do: {fun.(sent), fun.(expected)}

  defp random_leaf do
    size = Enum.random([0, 1, 100, @threshold - 1, @threshold, @threshold + 1, 70_000, 300_000])

    case :rand.uniform(5) do
      1 -> random(size) |> then(&{Typhon.bytes(&1), &1})
      2 -> random(size) |> then(&{Typhon.buffer(&1), &1})
      3 -> text(size) |> then(&{&1, &1})
      4 -> "ä" |> String.duplicate(size) |> then(&{&1, &1})
      5 -> :rand.uniform(1_000_000) |> then(&{&1, &1})
    end
  end

  defp text(size), do: String.duplicate("t", size)

  test "100,000 loans, and none left", %{py: py} do
    data = random(@threshold)
    before = Native.loans()

    for _ <- 1..1_000 do
      assert py(py, :total, [List.duplicate(Typhon.buffer(data), 50)]) == 50 * @threshold
      assert length(py(py, :many, [50, @threshold])) == 50
    end

    settle(py)

    # Of the whole VM: what pools of other tests still had out at the beginning may have come back meanwhile.
    eventually(fn ->
      now = Native.loans()
      Enum.all?([:lent, :borrowed], &(elem(now[&1], 0) <= elem(before[&1], 0)))
    end)
  end

  test "many callers at once", %{py: py} do
    1..16
    |> Task.async_stream(
      fn i ->
        data = String.duplicate(<<i>>, 100_000)
        for _ <- 1..100, do: assert(py(py, :echo, [Typhon.bytes(data), i]) == [data, i])
      end,
      max_concurrency: 16,
      timeout: 120_000
    )
    |> Stream.run()
  end

  describe "also" do
    test "casts", %{py: py} do
      data = random(@mib)
      for _ <- 1..50, do: :ok = Typhon.cast(py, :loans, :keep, [Typhon.buffer(data)])
      assert py(py, :kept_digests) == List.duplicate(sha(data), 50)
      assert py(py, :drop) == 0
    end

    # A pool of its own: a worker that has run coroutines or other threads takes casts out of its ring at once.
    test "casts that a worker has not taken hold a limited amount" do
      py = start_supervised!({Typhon, pool()}, id: :untaken)
      on_exit(fn -> garbage_collect() end)
      data = Typhon.buffer(random(64 * @mib))

      casts =
        occupied(py, fn ->
          casts =
            Task.async(fn ->
              for _ <- 1..100, do: :ok = Typhon.cast(py, :loans, :total, [[data]], timeout: :infinity)
            end)

          # As many as fit into a GiB.
          %{lent: {_, bytes}} =
            eventually(fn ->
              with %{waiting: 1} = info <- Native.channel_info(channel(py)), do: info, else: (_ -> nil)
            end)

          assert bytes == 1024 * @mib
          casts
        end)

      await(casts)
    end

    test "multi, map and streams", %{py: py} do
      parts = for i <- 1..20, do: String.duplicate(<<i>>, 70_000)

      assert Typhon.multi(py, :loans, :echo, for(p <- parts, do: [Typhon.bytes(p)])) ==
               for(p <- parts, do: {:ok, [p]})

      assert py |> Typhon.map(:loans, :digest, parts) |> Enum.to_list() == Enum.map(parts, &sha/1)

      assert py |> Typhon.stream(:loans, :yields, [20, 70_000]) |> Enum.to_list() ==
               for(i <- 0..19, do: String.duplicate(<<i>>, 70_000))

      assert py(py, :total, [Typhon.iter(Enum.map(parts, &Typhon.buffer/1))]) == 20 * 70_000
    end

    test "what Python asks and is answered", %{py: py} do
      assert py(py, :call_back, [200_000]) == reverse(String.duplicate("12", 100_000))
    end

    test "messages, both ways", %{py: py} do
      assert py(py, :send, [self(), @mib]) == nil
      assert_receive {"large", large}
      assert large == String.duplicate("s", @mib)
      data = random(@mib)
      task = Task.async(fn -> py(py, :receive) end)
      eventually(fn -> running(py) == 1 end)
      assert Typhon.send(py, Typhon.bytes(data)) == :ok
      assert await(task) == sha(data)
    end

    test "timed calls", %{py: py} do
      data = random(@mib)
      :telemetry.attach_process([:typhon, :call, :stop], self())
      assert py(py, :echo, [Typhon.bytes(data)]) == [data]
      :telemetry.detach_process(self())
      assert_received {:telemetry, [:typhon, :call, :stop], %{decode: _, encode: _}, _}
    end
  end

  test "what a closed channel left in its rings comes back", %{} do
    for _ <- 1..10 do
      {:ok, pool} = Typhon.start_link(pool())
      channel = channel(pool)
      data = Typhon.buffer(random(@mib))

      callers =
        for _ <- 1..30 do
          spawn(fn -> for _ <- 1..50, do: Typhon.call(pool, :loans, :echo, [data]) end)
        end

      Process.sleep(:rand.uniform(20))
      Native.channel_close(channel, :test)
      for pid <- callers, do: Process.exit(pid, :kill)
      Typhon.stop(pool)

      eventually(fn ->
        garbage_collect()
        match?(%{lent: {0, 0}, borrowed: {0, 0}}, Native.channel_info(channel))
      end)
    end
  end

  test "info tells what is on loan", %{py: py} do
    data = random(2 * @mib)
    py(py, :keep, [Typhon.buffer(data)])
    result = py(py, :make, [@mib])
    assert worker(py).loans == %{to_python: 2 * @mib, to_elixir: @mib}
    assert byte_size(result) == @mib
    py(py, :drop)
    settle(py)
    assert worker(py).loans == %{to_python: 0, to_elixir: 0}
  end

  test "1,000 round trips of 16 MiB leave the VM's memory as it is", %{py: py} do
    round = fn ->
      data = :binary.copy(random(4096), 4096)
      assert [back] = py(py, :echo, [Typhon.bytes(data)])
      assert back == data
    end

    for _ <- 1..50, do: round.()
    settle(py)
    before = resident()

    for _ <- 1..1_000 do
      Task.async(round) |> await()
    end

    settle(py)
    assert resident() < before + 200 * @mib
  end

  defp resident do
    [_, rest] = "/proc/self/status" |> File.read!() |> String.split("VmRSS:")
    {kib, _} = rest |> String.trim_leading() |> Integer.parse()
    1024 * kib
  end
end
