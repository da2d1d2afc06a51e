defmodule Typhon.HostileTest do
  # A worker that attacks the BEAM through the memory that they share. docs/protocol.md ("What a hostile worker can do") has a
  # line for each test here. Calls on such a worker may fail; but each ends by its deadline and in order, other pools notice
  # nothing, and nothing stays behind when the pool is stopped.
  # Not async: it counts what the whole BEAM holds. `scripts/hostile` does the same at random.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.{DecodeError, Footprint, Hostile, WorkerError}

  @moduletag :os_process
  @moduletag :capture_log

  @timeout 250
  # So many attacks of one test at a time.
  @at_once 3
  # What allocators keep.
  @memory 96 * 1024 * 1024
  @garbage [0xDEADBEEF]
  @far 0x1000_0000_0000_0000

  setup do
    marker = Footprint.marker()
    bystander = start_pool(env: Footprint.env(marker))
    {:ok, 3} = Typhon.call(bystander, :operator, :add, [1, 2], timeout: limit())
    on_exit(fn -> eventually(fn -> Footprint.os_processes(marker) == [] end) end)
    %{marker: marker, bystander: bystander}
  end

  # --- what every attack has to leave as it was ---

  # Each attack has a pool of its own: `attack.(py, value)` starts it, calls of every kind are made, the pool is stopped.
  defp withstand(context, values, attack, options \\ []) do
    watched(context, fn ->
      values
      |> Task.async_stream(&withstand_one(context.marker, &1, attack, options),
        max_concurrency: @at_once,
        timeout: :infinity
      )
      |> Enum.each(fn {:ok, problems} -> assert problems == [] end)
    end)
  end

  defp withstand_one(marker, value, attack, options) do
    {:ok, py} = start(marker, Keyword.take(options, [:concurrency]))
    attack.(py, value)
    problems = hostile_calls(py)

    recovery = if Keyword.get(options, :recovers, true), do: [fn -> recovers(py) end], else: []
    problems = problems ++ problems(Hostile.outcomes(recovery, 2 * limit()))
    problems = problems ++ problems(Hostile.outcomes([fn -> Typhon.stop(py) end], Hostile.grace()))
    for problem <- problems, do: "with #{inspect(value)}: #{problem}"
  end

  # The worker goes on, or another one has taken its place.
  defp recovers(py, tries \\ 20)
  defp recovers(_py, 0), do: {:wrong, "the pool never answers again"}

  defp recovers(py, tries) do
    case Typhon.call(py, :operator, :add, [1, 2], timeout: 5_000) do
      {:ok, 3} -> :ok
      _ -> recovers(py, tries - 1)
    end
  end

  defp start(marker, options \\ []) do
    {:ok, py} = marker |> Hostile.pool_options(options) |> Typhon.start_link()
    {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2], timeout: limit())
    {:ok, py}
  end

  # One caller alone, then a crowd: they wait for their answers in different ways.
  defp hostile_calls(py) do
    kinds = Hostile.kinds()
    alone = fn -> each(kinds, &Hostile.call(&1, py, @timeout)) end
    crowd = for i <- 1..8, do: fn -> each(Enum.take(rotate(kinds, i), 4), &Hostile.call(&1, py, @timeout)) end
    allowed = length(kinds) * @timeout + Hostile.grace()
    problems(Hostile.outcomes([alone], allowed)) ++ problems(Hostile.outcomes(crowd, allowed))
  end

  defp rotate(list, by), do: Enum.drop(list, by) ++ Enum.take(list, by)

  defp each(list, fun),
    do: Enum.find_value(list, :ok, fn item -> with(:ok <- fun.(item), do: nil) end)

  defp problems(outcomes) do
    Enum.flat_map(outcomes, fn
      {:ended, :ok} -> []
      {:ended, {:wrong, text}} -> [text]
      {:ended, other} -> [inspect(other)]
      {:crashed, reason} -> ["a caller crashed: " <> reason]
      {:hung, where} -> ["it hangs: " <> where]
    end)
  end

  # Somebody who calls a pool of his own has every answer, and the right one; afterwards the BEAM holds what it held before.
  defp watched(%{marker: marker, bystander: bystander}, fun) do
    before = Footprint.take(marker)
    watcher = async(fn -> watch(bystander, 0) end)
    result = fun.()
    send(watcher.pid, :stop)
    assert await(watcher) > 0
    unchanged(before, marker)
    result
  end

  defp watch(py, n) do
    assert {:ok, [^n, "bystander"]} = Typhon.call(py, :sample, :echo, [[n, "bystander"]], timeout: limit())

    receive do
      :stop ->
        assert_mailbox_empty()
        n + 1
    after
      5 -> watch(py, n + 1)
    end
  end

  defp unchanged(before, marker, tries \\ 400) do
    # Logger, and what is loaded when it is first used.
    slack = [beam_memory: @memory, atoms: 1_000, processes: 2, messages: 5]

    case Footprint.grown(before, Footprint.take(marker), slack) do
      [] ->
        :ok

      grown when tries == 0 ->
        assert grown == []

      _ ->
        Process.sleep(50)
        unchanged(before, marker, tries - 1)
    end
  end

  test "the table in docs/protocol.md names the tests" do
    page = File.read!(Path.expand("../../docs/protocol.md", __DIR__))
    [_, section] = String.split(page, "## What a hostile worker can do\n")
    table = section |> String.split("\n## ") |> hd()

    for %{name: name, tags: %{describe: describe}} when describe != nil <- __ex_unit__().tests do
      name = name |> Atom.to_string() |> String.replace_prefix("test #{describe} ", "")
      assert table =~ "*#{name}*"
    end
  end

  # --- attacks beside an honest worker ---

  # The answer may not come any more, or the worker may have ended over it.
  defp attack(py, function, args) do
    case Typhon.call(py, :hostile, function, [Hostile.library() | args], timeout: 5_000) do
      {:ok, true} -> :ok
      {:error, %kind{}} when kind in [WorkerError, Typhon.TimeoutError] -> :ok
    end
  end

  defp hold(py, word, values, pause \\ 20), do: attack(py, :hold, [word, List.wrap(values), pause])

  # When the call has been answered and all is quiet.
  defp store_idle(py, stores) do
    mark = new_path()
    {:ok, true} = Typhon.call(py, :hostile, :store_later, [Hostile.library(), stores, mark], timeout: limit())
    eventually(fn -> File.exists?(mark) end)
    File.rm(mark)
  end

  describe "the doorbells" do
    test "the reader's word: any value, stored all the time", context do
      withstand(context, [0, 1, 2, 3, 4 | @garbage], &hold(&1, "reader_word", &2))
    end

    test "the reader's word: any value, stored while nobody calls", context do
      withstand(context, [0, 1, 2, 3, 4, 5 | @garbage], &store_idle(&1, [["reader_word", &2]]))
    end

    test "the reader's word: two values in turn, as fast as can be", context do
      pairs = [[0, 2], [1, 2], [1, 3], [2, 3], [3, 4]]
      withstand(context, pairs, &hold(&1, "reader_word", &2, 0))
    end

    # It may take no request any more, and looks busy to the BEAM: then it is not replaced.
    test "the worker's word", context do
      withstand(context, [0, 2 | @garbage], &hold(&1, "worker_word", &2), recovers: false)
    end

    test "who sleeps is woken all the time, or moved to another word", context do
      attacks = [
        ["reader_word"],
        ["reader_word", "suspended"],
        ["reader_word", "reply_room"],
        ["worker_word"]
      ]

      withstand(context, attacks, &attack(&1, :wake, &2))
    end

    test "waiting for room: words that say that somebody waits, or that nobody does", context do
      attacks = for word <- ["request_room", "reply_room"], value <- [0, 1], do: {word, value}
      withstand(context, attacks, fn py, {word, value} -> hold(py, word, value) end)
    end
  end

  describe "the counts" do
    for word <- ["request_tail", "request_head", "reply_tail", "reply_head"] do
      test "#{word}, stored once or all the time", context do
        once = for value <- [0, ["+", 8], ["+", -8], @far], do: {:once, value}
        always = for value <- [64, @far + 1], do: {:always, value}

        withstand(context, once ++ always, fn
          py, {:once, value} -> store_idle(py, [[unquote(word), value]])
          py, {:always, value} -> hold(py, unquote(word), value)
        end)
      end
    end
  end

  describe "tables and flags" do
    test "slots of segments: all free, used, released, or something else", context do
      attacks = for word <- ["request_slots", "reply_slots"], value <- [0, 2, 77], do: {word, value}
      withstand(context, attacks, fn py, {word, value} -> hold(py, word, value, 100) end)
    end

    test "claims: open, taken, withdrawn, or of another generation", context do
      attacks = [0, 1, 2, 3, 0x100, 0x101, 0x102, 0x103, -1]
      withstand(context, attacks, fn py, value -> hold(py, "claims", value, 100) end)
    end

    test "closing", context do
      withstand(context, [1, 5], &hold(&1, "closing", &2))
    end

    test "what the worker says of its load and its casts", context do
      attacks = for word <- ["suspended", "casts_done"], value <- [0, 1, -1], do: {word, value}
      withstand(context, attacks, fn py, {word, value} -> hold(py, word, value) end)
    end

    test "what has been heard of the worker's words", context do
      attacks = for word <- ["heard", "heard_room"], value <- [0, -1], do: {word, value}
      withstand(context, attacks, fn py, {word, value} -> hold(py, word, value) end)
    end

    test "marks of imports", context do
      withstand(context, [0, 1, -1], fn py, value -> hold(py, "imports", value, 256) end)
    end

    test "leavings, where there are no loans", context do
      words = ["request_leavings", "request_swept", "reply_leavings", "reply_swept"]
      withstand(context, [1, @far], fn py, value -> for word <- words, do: hold(py, word, value) end)
    end

    test "the region cannot be made smaller, or larger, or be sealed", context do
      watched(context, fn ->
        {:ok, py} = start(context.marker)
        refused = %{"shrink" => "EPERM", "grow" => "EPERM", "seal" => "EPERM"}
        assert {:ok, ^refused} = Typhon.call(py, :hostile, :resize, [Hostile.library()], timeout: limit())
        assert :ok = Typhon.stop(py)
      end)
    end
  end

  # --- frames: the worker does what each call says (Puppet in hostile.py) ---

  defp puppet(py) do
    :ok = Typhon.cast(py, :hostile, :puppet, [Hostile.library()], timeout: :infinity)
    assert {:ok, "there"} = Typhon.call(py, :puppet, :echo, ["there"], timeout: limit())
  end

  defp frames(py, frames, timeout) do
    frames = Enum.map(frames, fn frame -> Map.new(frame, &wire/1) end)
    Typhon.call(py, :puppet, :frames, [frames], timeout: timeout)
  end

  defp wire({:body, body}), do: {"body", Typhon.bytes(body)}
  defp wire({:times, times}), do: {"times", times}
  defp wire({key, value}), do: {Atom.to_string(key), value}

  @reply 5
  @error 6
  @ask 7
  @send 8
  @in_segment 1

  defp term(term), do: :erlang.term_to_binary(term)
  defp reply(term, rest \\ %{}), do: Map.merge(%{kind: @reply, flags: 0, body: term(term)}, rest)

  # Each value is sent as frames to a worker of its own; what the call came to is handed to `check`.
  defp with_puppets(context, values, fun) do
    watched(context, fn ->
      values
      |> Task.async_stream(
        fn value ->
          {:ok, py} = start(context.marker)
          puppet(py)
          outcomes = Hostile.outcomes([fn -> fun.(py, value) end], limit())
          outcomes ++ Hostile.outcomes([fn -> Typhon.stop(py) end], Hostile.grace())
        end,
        max_concurrency: @at_once,
        timeout: :infinity
      )
      |> Enum.zip(values)
      |> Enum.each(fn {{:ok, outcomes}, value} ->
        assert {^value, [ended: _, ended: :ok]} = {value, outcomes}
      end)
    end)
  end

  # The same with one worker for all values, as none of them ends it.
  defp with_puppet(context, values, fun) do
    with_puppets(context, [values], fn py, values ->
      for value <- values do
        try do
          fun.(py, value)
        rescue
          error -> reraise "with #{inspect(value)}: #{Exception.message(error)}", __STACKTRACE__
        end
      end
    end)
  end

  describe "frames" do
    test "of impossible sizes end the channel", context do
      frames = [
        %{size: 0, taken: 64},
        %{size: 55, taken: 64},
        %{size: 0xFFFFFFFF, taken: 64},
        %{size: 65, taken: 64},
        %{size: 64, taken: 56},
        %{size: 64, taken: 8},
        %{size: 64, taken: 60},
        %{size: 64, taken: 1_048_576 + 8},
        %{size: 64, taken: 0x7FFF_FFFF_FFFF_FFF8}
      ]

      with_puppets(context, frames, fn py, frame ->
        assert {:error, %WorkerError{reason: :protocol}} = frames(py, [reply(1, frame)], limit())
        assert recovers(py) == :ok
      end)
    end

    test "of kinds that no worker sends end the channel", context do
      with_puppets(context, [0, 2, 3, 4, 9, 10, 11, 255], fn py, kind ->
        assert {:error, %WorkerError{reason: :protocol}} = frames(py, [reply(1, %{kind: kind})], limit())
      end)
    end

    test "flags that mean nothing here", context do
      with_puppet(context, [2, 4, 8, 16, 32, 64, 128, 254], fn py, flags ->
        assert {:ok, 1} = frames(py, [reply(1, %{flags: flags})], limit())
        assert {:ok, 2} = Typhon.call(py, :puppet, :echo, [2], timeout: limit())
      end)
    end

    test "answers to no call, to calls of the past and twice: each caller has its own", context do
      with_puppets(context, [:alone, :crowd], fn py, how ->
        ids = [
          0,
          1,
          2,
          0xFFFFFFFF,
          0x1_0000_0000,
          -1,
          [0x1_0000_0000],
          [-0x1_0000_0000],
          [0x100_0000_0000_0000]
        ]

        strange = for id <- ids, do: reply("strange", %{id: id})

        own = fn i ->
          mine = reply(i)
          assert {:ok, ^i} = frames(py, strange ++ [mine, reply("again"), reply("again")], limit())
          assert_mailbox_empty()
        end

        if how == :alone do
          for i <- 1..50, do: own.(i)
        else
          for(i <- 1..8, do: async(fn -> for j <- 1..20, do: own.({i, j}) end)) |> await_many()
        end
      end)
    end

    test "bodies that are no terms", context do
      bodies = [
        <<>>,
        <<131>>,
        <<0>>,
        <<131, 255>>,
        <<131, 104, 255>>,
        <<131, 108, 0xFFFFFFFF::32, 106>>,
        <<131, 116, 0xFFFFFFFF::32>>,
        <<131, 109, 0xFFFFFFFF::32, 1>>,
        <<131, 110, 255, 0>>,
        <<131, 111, 0xFFFFFFFF::32, 0>>,
        <<131, 80, 0xFFFFFFFF::32, 120, 156>>,
        <<131, 112, 0::32>>,
        <<131, 200, 0::32>>,
        term(:ok) <> "more",
        <<131>> <> :binary.copy(<<104, 1>>, 100_000) <> <<106>>,
        <<131>> <> :binary.copy(<<108, 1::32>>, 10_000) <> <<106>>,
        term([1 | 2]) |> binary_part(0, 6)
      ]

      with_puppet(context, bodies, fn py, body ->
        assert {:error, %DecodeError{} = error} = frames(py, [reply(1, %{body: body})], limit())
        assert is_binary(Exception.message(error))
        assert {:error, _} = frames(py, [reply(1, %{body: body, kind: @error})], limit())

        # In nobody's name, and in that of the call.
        asks = for id <- [0, [0]], tag <- [0, 7], do: %{kind: @ask, id: id, times: [tag, 0, 0, 0, 0]}
        asks = for ask <- [%{kind: @send, id: 0} | asks], do: Map.merge(%{flags: 0, body: body}, ask)
        assert {:ok, :asked} = frames(py, asks ++ [reply(:asked)], limit())
        assert_mailbox_empty()
        assert {:ok, 2} = Typhon.call(py, :puppet, :echo, [2], timeout: limit())
      end)
    end

    test "error terms that make no sense", context do
      errors = [
        1,
        {:exception},
        {:exception, 1, 2, 3, 4, 5, 6},
        {:exception, "E", "m", [1], [], nil, "t"},
        {:exception, "E", "m", [{1, 2, 3, 4} | 5], [], nil, "t"},
        {:exception, "E", "m", [], [], {:cause, 5}, "t"},
        {:exception, "E", "m", [], [], {:cause, {:exception, 1, 2, 3, 4, 5, 6}}, "t"},
        {:exception, {1}, %{}, [], 7, nil, self()},
        {:ruby_exception, 1, 2, 3, 4, 5},
        {:ruby_exception, "E", "m", [{1, 2}], {:ruby_exception, 1, 2, 3, 4, 5}, "t"},
        {:cannot_decode, 1, self()},
        {:cannot_encode, %{}, 1, {2}},
        {:bad_frame, {1}},
        {:cannot_decode_result, 5, 6},
        :expired,
        :cancelled
      ]

      with_puppet(context, errors, fn py, error ->
        frame = %{kind: @error, flags: 0, body: term(error)}
        assert {:error, %_{} = exception} = frames(py, [frame], limit())
        assert is_binary(Exception.message(exception))
        assert inspect(exception) =~ "Typhon."
      end)
    end

    test "answers that make no sense to the library's own calls", context do
      with_puppets(context, [:stream, :multi, :map, :session], fn py, kind ->
        assert Hostile.call(kind, py, limit()) == :ok
        assert {:ok, 2} = Typhon.call(py, :puppet, :echo, [2], timeout: limit())
      end)
    end

    test "references to segments: outside, overlapping, twice", context do
      body = term(String.duplicate("a", 100_000))
      size = byte_size(body)

      outside = [
        <<4096::64-native, 0::64, size::64-native>>,
        <<-1::64-native, 0::64, size::64-native>>,
        <<0::64, -8::64-native, 16::64-native>>,
        <<0::64, 8::64-native, -8::64-native>>,
        <<0::64, 0x1000_0000_0000::64-native, size::64-native>>,
        <<0::64, 4096::64-native, 0x1000_0000_0000::64-native>>,
        <<0::64, 0::64>>,
        <<0::192, 0>>
      ]

      inside = [
        [<<0::64, 0::64, size::64-native>>],
        List.duplicate(<<0::64, 0::64, size::64-native>>, 5),
        [<<0::64, 0::64, size::64-native>>, <<1::64-native, 0::64, size::64-native>>],
        [<<4095::64-native, 0::64, size::64-native>>, <<7::64-native, 0::64, size::64-native>>]
      ]

      with_puppets(context, Enum.map(outside, &[&1]) ++ inside, fn py, references ->
        {:ok, ^size} = Typhon.call(py, :puppet, :fill, [0, Typhon.bytes(body)], timeout: limit())
        answers = for reference <- references, do: frames(py, [segment(reference)], limit())

        if references in inside do
          for answer <- answers, do: assert({:ok, <<"aaaa", _::binary>>} = answer)
        else
          assert [error: %DecodeError{}] = answers
        end

        # Those that nobody waits for.
        strange = for reference <- references, do: Map.put(segment(reference), :id, 0)
        assert {:ok, 5} = frames(py, strange ++ [reply(5)], limit())
        # An empty one holds no term.
        assert {:error, %DecodeError{}} = frames(py, [segment(<<0::192>>)], limit())
      end)
    end

    test "questions and statements: strange ones, in the name of other calls, of none", context do
      strange = [
        1,
        {},
        {:call, 1, 2, 3},
        {:call, "Elixir.Enum", "sum", [1 | 2]},
        {:apply, 1, []},
        {:apply, &Enum.sum/1, [1 | 2]},
        {:pull, 1, 2},
        {:pull, make_ref(), -5},
        {:print, 7},
        {:print, <<255, 254>>},
        {:log, 1, "text", %{}},
        {:log, "error", <<255>>, %{"file" => {1}, "line" => "x", "extra" => [1 | 2], "module" => self()}},
        {:send, 7, 8},
        {:send, :no_such_name, 8},
        {:send, {:a, :b, :c}, 8}
      ]

      with_puppet(context, strange, fn py, question ->
        asks =
          for id <- [0, [0], [0x1_0000_0000], -1, 0xFFFFFFFF],
              tag <- [0, 7, -1],
              do: %{kind: @ask, flags: 0, id: id, body: term(question), times: [tag, 0, 0, 0, 0]}

        assert {:ok, :asked} = frames(py, asks ++ [reply(:asked)], limit())
        assert_mailbox_empty()
        assert {:ok, 2} = Typhon.call(py, :puppet, :echo, [2], timeout: limit())
        {:ok, %{workers: [%{restarts: 0}]}} = Typhon.info(py)
      end)
    end

    test "messages: to what is no process, in a form that is none", context do
      messages = [1, {}, {1, 2}, {self()}, {self(), 1, 2}, {:no_such_name, 1}, {make_ref(), 1}]

      with_puppet(context, messages, fn py, message ->
        frame = %{kind: @send, flags: 0, id: 0, body: term(message)}
        assert {:ok, :sent} = frames(py, [frame, reply(:sent)], limit())
        assert {:ok, 2} = Typhon.call(py, :puppet, :echo, [2], timeout: limit())
        {:ok, %{workers: [%{restarts: 0}]}} = Typhon.info(py)
      end)
    end
  end

  describe "time" do
    test "no call is answered, or none any more",
         context do
      with_puppets(context, [:silence, :stop, :answer_and_stop], fn py, how ->
        {:ok, %{workers: [%{os_pid: os_pid}]}} = Typhon.info(py)

        if how == :answer_and_stop,
          do: {:ok, 1} = Typhon.call(py, :puppet, :answer_and_stop, [1], timeout: limit()),
          else: {:error, %Typhon.TimeoutError{}} = Typhon.call(py, :puppet, how, [], timeout: @timeout)

        # On a busy machine it may not have taken the first one in time.
        eventually(fn ->
          {:error, _} = Typhon.call(py, :puppet, how, [], timeout: @timeout)
          not os_process?(os_pid)
        end)

        assert hostile_calls(py) == []
        assert recovers(py) == :ok
      end)
    end

    test "the answer comes, and with it stores to all that says so", context do
      stores = [
        [["reply_tail", ["+", 8]]],
        [["reply_head", ["+", -8]]],
        [["reply_head", ["+", 64]], ["reader_word", 2]],
        [["reader_word", 2], ["closing", 1]],
        [["request_head", 0], ["worker_word", 0]],
        [["reply_tail", 0], ["reply_head", 0], ["reader_word", 0]]
      ]

      with_puppets(context, stores, fn py, stores ->
        Typhon.call(py, :puppet, :answer_and_store, [1, stores], timeout: @timeout)
        assert hostile_calls(py) == []
      end)
    end

    test "a body that changes while it is read", context do
      # Another element each time: one that fits, one of another size, one that is none.
      first = <<131, 108, 1::32, 97, 1>>
      rest = <<106>>

      others = [
        <<131, 108, 1::32, 97, 2>>,
        <<131, 108, 1::32, 98, 0>>,
        <<131, 108, 0xFFFFFFFF::32, 97, 2>>,
        <<131, 104, 255, 97, 1, 97, 1, 97>>,
        <<131, 109, 2::32, 97, 97>>,
        <<131, 111, 0xFFFFFFFF::32, 0, 1>>
      ]

      with_puppets(context, others, fn py, other ->
        body = first <> rest <> :binary.copy(<<97, 1>>, 10_000)
        {:ok, _} = Typhon.call(py, :puppet, :fill, [0, Typhon.bytes(body)], timeout: limit())

        {:ok, true} =
          Typhon.call(py, :puppet, :alternate, [0, Typhon.bytes(first), Typhon.bytes(other)], timeout: limit())

        for _ <- 1..500 do
          case frames(py, [segment(<<0::64, 0::64, 9::64-native>>)], limit()) do
            {:ok, _} -> :ok
            {:error, %DecodeError{}} -> :ok
          end
        end
      end)
    end

    test "a binary of a result that the worker goes on writing", context do
      with_puppets(context, [65_536, 1_000_000, 10_000_000], fn py, size ->
        body = <<131, 109, size::32>> <> :binary.copy(<<1>>, size)
        {:ok, _} = Typhon.call(py, :puppet, :fill, [0, Typhon.bytes(body)], timeout: limit())
        ones = :binary.copy(<<1>>, 8)
        zeros = <<0::64>>
        args = [32_768, Typhon.bytes(ones), Typhon.bytes(zeros)]
        {:ok, true} = Typhon.call(py, :puppet, :alternate, args, timeout: limit())
        {:ok, binary} = frames(py, [segment(<<0::64, 0::64, byte_size(body)::64-native>>)], limit())
        assert byte_size(binary) == size
        assert [_] = for(_ <- 1..200, do: :erlang.phash2(binary), uniq: true)
      end)
    end
  end

  defp segment(reference), do: %{kind: @reply, flags: @in_segment, body: reference}
end
