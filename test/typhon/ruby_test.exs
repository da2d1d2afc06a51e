defmodule Typhon.RubyTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO
  import Typhon.TestHelper

  alias Typhon.{EncodeError, RubyError, StartError, TimeoutError, WorkerError}

  @moduletag timeout: 240_000

  defp rb_dir, do: Path.expand("../support/rb", __DIR__)

  defp start_ruby(options \\ []) do
    defaults = [
      language: :ruby,
      workers: 1,
      ruby_path: [rb_dir()],
      require: "sample",
      stdio: :discard,
      grace: 30_000,
      start_timeout: limit()
    ]

    start_supervised!(%{
      id: make_ref(),
      start: {Typhon, :start_link, [Keyword.merge(defaults, options)]},
      type: :supervisor,
      restart: :temporary
    })
  end

  defp file(name) do
    path = new_path("ruby") <> "-#{name}"
    on_exit(fn -> File.rm(path) end)
    path
  end

  defp catch_any(fun) do
    fun.()
  catch
    kind, reason -> {kind, reason}
  end

  # Calls back, that many on top of each other.
  defp down(_rb, 0), do: 0

  defp down(rb, depth) do
    {:ok, sum} = Typhon.call(rb, "Sample", :apply, [fn x -> 1 + down(rb, x - 1) end, depth])
    sum
  end

  # A deadline that comes before Ruby has begun proves nothing: such a call is made again.
  defp outlast(rb, how, timeout \\ 500) do
    {begun, caught} = {file("begun"), file("caught")}
    on_exit(fn -> File.rm(caught <> ".ensure") end)
    result = Typhon.call(rb, "Sample", "overrun", [begun, how, caught], timeout: timeout)
    assert {:error, %TimeoutError{}} = result
    if File.exists?(begun), do: caught, else: outlast(rb, how, 2 * timeout)
  end

  describe "call/5 with language: :ruby" do
    test "calls methods of modules, of nested ones, and at top level" do
      rb = start_ruby()
      assert {:ok, 2.0} = Typhon.call(rb, "Math", "sqrt", [4])
      assert {:ok, 2.0} = Typhon.call(rb, :Math, :sqrt, [4])
      assert {:ok, "Integer"} = Typhon.call(rb, "Sample::Inner", "name_of", [1])
      assert {:ok, 3} = Typhon.call(rb, "main", "top_level", [2])
      assert {:ok, "hello you?"} = Typhon.call(rb, "Sample", "greet", ["you"], kwargs: %{punctuation: "?"})
      assert "hello you!" = Typhon.call!(rb, "Sample", "greet", ["you"])
      assert :ok = Typhon.cast(rb, "Sample", "greet", ["you"])
    end

    test "keeps what has no counterpart in Ruby, and lets go of it" do
      rb = start_ruby()

      {:ok, %Typhon.Object{type: "Sample::Counter"} = counter} =
        Typhon.call(rb, "Sample", "counter", [], kwargs: [start: 5])

      assert {:ok, 7} = Typhon.call(rb, counter, "add", [2])
      assert {:ok, 7} = Typhon.call(rb, counter, "count", [])
      assert {:ok, "Sample::Counter"} = Typhon.call(rb, "Sample", "type", [counter])
      assert {:ok, "7"} = Typhon.call(rb, counter, "count.to_s", [])
    end

    test "the functions on objects are Ruby's, where Ruby has them" do
      rb = start_ruby()
      {:ok, counter} = Typhon.call(rb, "Sample", "counter", [], kwargs: [start: 5])
      assert {:ok, 5} = Typhon.get(counter, :count)
      assert {:ok, "5"} = Typhon.get(counter, "count.to_s")
      assert :ok = Typhon.set(counter, :count, 8)
      assert {:ok, 8} = Typhon.get(counter, :count)
      assert {:ok, "#<Sample::Counter" <> _} = Typhon.repr(counter)
      assert "Sample::Counter" = Typhon.type(counter)
      assert {:ok, names} = Typhon.dir(counter)
      assert "add" in names
      assert Typhon.same?(counter, Typhon.call!(rb, "Sample", "echo", [counter]))
      refute Typhon.same?(counter, Typhon.call!(rb, "Sample", "counter", []))
      assert {:error, %EncodeError{type: "Sample::Counter"}} = Typhon.to_term(counter)

      {:ok, add} = Typhon.call(rb, counter, "method", ["add"])
      assert {:ok, 10} = Typhon.call(add, [2])

      {:ok, range} = Typhon.call(rb, "main", "eval", ["Enumerator.new { |y| y << 1 << 2 }"])
      assert range |> Typhon.stream() |> Enum.to_list() == [1, 2]

      assert_raise RubyError, ~r/and this object is Sample::Counter/, fn ->
        Enum.to_list(Typhon.stream(counter))
      end

      {:ok, set} =
        Typhon.call(rb, "main", "eval", [
          "Class.new { def [](k) = [k]; def []=(k, v); end; def length = 3 }.new"
        ])

      assert {:ok, [1]} = Typhon.item(set, 1)
      assert :ok = Typhon.put_item(set, 1, 2)
      assert {:ok, 3} = Typhon.len(set)

      assert {:ok, pi} = Typhon.get(rb, "Math", "PI")
      assert_in_delta pi, 3.14, 0.01
      assert {:ok, "Sample::Inner"} = Typhon.get(rb, "Sample", "Inner.name")
      assert {:ok, os_pid} = Typhon.get(rb, "Sample", :pid)
      assert is_integer(os_pid)

      assert {:ok, "10"} = Typhon.chain(counter, get: "count", call: {"to_s", []})
      assert {:ok, 18} = Typhon.chain(counter, call: {"method", ["add"]}, call: [8])
      assert {:ok, 18} = Typhon.chain(counter, call: {:method, ["count"]}, call: [])
      assert {:ok, 1} = Typhon.chain(set, item: 1, item: 0)

      assert {:error, %RubyError{type: "NoMethodError"} = error} =
               Typhon.chain(counter, get: "count", get: "missing")

      assert Exception.message(error) =~ ~s|In a chain: step 2 of 2, get: "missing"|
      assert {:error, %RubyError{} = error} = Typhon.chain(set, item: 1, call: [8])
      assert Exception.message(error) =~ ~r/In a chain: step 2 of 2, call$/

      for value <- [nil, 1, "Math", [1], %{"a" => 1}, {1, 2}] do
        assert {:ok, %Typhon.Object{} = object} = Typhon.call(rb, "Sample", "echo", [value], as: :object)
        assert {:ok, ^value} = Typhon.to_term(object)
        assert {:ok, class} = Typhon.call(rb, object, "class.name", [])
        assert class == Typhon.type(object)
        assert [{:ok, ^class}] = Typhon.multi(rb, object, "class.name", [[]])
      end

      for {name, result} <- [
            {"delete", Typhon.delete(counter, :count)},
            {"doc", Typhon.doc(counter)},
            {"enter", Typhon.enter(counter, & &1)},
            {"render", Typhon.render(counter)},
            {"save", Typhon.save(counter, "counter.png")}
          ] do
        assert {:error, %RubyError{type: "NotImplementedError"} = error} = result
        assert Exception.message(error) =~ "Typhon.#{name} is for objects of Python"
      end

      assert Table.Reader.init(counter) == :none
      assert %{type: :plain_text, text: text} = Kino.Render.to_livebook(counter)
      assert text =~ "Typhon.render is for objects of Python"

      assert {:error, %RubyError{type: "NoMethodError"} = error} = Typhon.get(counter, :missing)
      refute Exception.message(error) =~ "calls.rb"
    end

    test "says where an error came from, and what caused it" do
      rb = start_ruby()
      assert {:error, %RubyError{} = error} = Typhon.call(rb, "Sample", "with_cause", [])

      assert %{
               type: "ArgumentError",
               message: "second",
               cause: %RubyError{type: "Sample::Broken", message: "first"}
             } = error

      assert [%{file: file, line: line, function: function} | _] = error.backtrace
      assert Path.basename(file) == "sample.rb" and line > 0 and function =~ "with_cause"
      assert Exception.message(error) =~ "sample.rb"
      assert Exception.message(error) =~ "second (ArgumentError)"
      refute Exception.message(error) =~ "worker.rb"

      assert {:error, %RubyError{type: "NameError"}} = Typhon.call(rb, "Nowhere", "x", [])
      assert {:error, %RubyError{type: "NoMethodError"} = missing} = Typhon.call(rb, "Sample", "nothing", [])
      assert [line] = String.split(missing.message, "\n")
      assert line =~ ~r/undefined method .nothing. for/
      assert {:error, %RubyError{type: "NoMethodError"} = near} = Typhon.call(rb, "Sample", "with_caus", [])
      refute Exception.message(near) =~ "public_send"

      # Ruby 3.1 and before; later ones have it elsewhere.
      if Typhon.call!(rb, "main", "eval", ["Exception.method_defined?(:detailed_message)"]) == false,
        do: assert([_, "Did you mean?  with_cause"] = String.split(near.message, "\n"))

      assert {:error, %RubyError{type: "ArgumentError"}} = Typhon.call(rb, "Sample", "greet", [])
      assert {:error, %RubyError{type: "SystemExit"}} = Typhon.call(rb, "Sample", "leave", [3])
      assert {:error, %RubyError{type: "SystemStackError"}} = Typhon.call(rb, "Sample", "exhaust", [])
      assert_raise RubyError, fn -> Typhon.call!(rb, "Sample", "raise_broken", ["x"]) end
      assert {:ok, 2.0} = Typhon.call(rb, "Math", "sqrt", [4])
    end

    test "says where in a value that is which cannot cross" do
      rb = start_ruby()

      assert {:error, %EncodeError{path: ~s(args[0]["a"])} = error} =
               Typhon.call(rb, "Sample", "echo", [%{"a" => <<255>>}])

      assert Exception.message(error) =~ "Typhon.bytes/1"
      text = "String.new(\"\\xff\", encoding: \"UTF-8\")"
      assert {:error, %EncodeError{path: "result"}} = Typhon.call(rb, "main", "eval", [text])
      assert {:error, %EncodeError{reason: levels}} = Typhon.call(rb, "main", "eval", ["a = []; a << a"])
      assert levels =~ "10,000 levels"
    end
  end

  describe "values" do
    test "have strings in place of symbols, where the options say so" do
      rb = start_ruby(keys: :strings)
      {:ok, seen} = Typhon.call(rb, "main", "eval", ["->(x) { x.inspect }"])
      assert Typhon.call!(rb, seen, :call, [[%{a: :b}]]) =~ ~r/\A\[\{"a" ?=> ?:b\}\]\z/
      assert Typhon.call!(rb, seen, :call, [[%{a: :b}]], values: :strings) =~ ~r/\A\[\{"a" ?=> ?"b"\}\]\z/
    end

    test "come back as they went" do
      rb = start_ruby()

      values = [
        nil,
        true,
        false,
        :an_atom,
        0,
        255,
        -1,
        1 <<< 62,
        -(1 <<< 63),
        1 <<< 64,
        -(1 <<< 200),
        1.5,
        "",
        "grüße",
        [],
        [1, [2, [3]]],
        ~c"abc",
        [1 | 2],
        {},
        {1, {2}},
        %{},
        %{"a" => 1, :b => [2], 3 => {4}, {5} => nil},
        self(),
        make_ref(),
        fn -> 1 end,
        &String.length/1,
        <<5::3>>,
        <<1, 2, 3::2>>,
        ~D[2024-02-29],
        ~U[2024-02-29 12:30:15.250000Z],
        ~U[2024-02-29 12:30:15Z],
        ~N[2024-02-29 12:30:15],
        ~T[12:30:15],
        MapSet.new([1, "a", {2}]),
        1..10,
        10..1//-3,
        5..4//1,
        Enum.reduce(1..5_000, 0, fn _, inner -> [inner] end),
        Enum.to_list(1..100_000),
        String.duplicate("x", 1_000_000)
      ]

      for value <- values, do: assert({:ok, ^value} = Typhon.call(rb, "Sample", "echo", [value]))
      assert {:ok, ^values} = Typhon.call(rb, "Sample", "echo", [values])
    end

    test "are what Ruby has for them" do
      rb = start_ruby()

      for {value, type} <- [
            {nil, "NilClass"},
            {:a, "Symbol"},
            {"a", "String"},
            {{1}, "Typhon::Tuple"},
            {[1 | 2], "Typhon::ImproperList"},
            {%{}, "Hash"},
            {self(), "Typhon::Pid"},
            {~D[2024-01-01], "Date"},
            {~U[2024-01-01 00:00:00Z], "Time"},
            {MapSet.new(), "Set"},
            {1..2, "Range"},
            {%{__struct__: Decimal, sign: 1, coef: 15, exp: -1}, "BigDecimal"},
            {%Typhon.EncoderTest.Named{id: 1}, "Hash"}
          ],
          do: assert({:ok, ^type} = Typhon.call(rb, "Sample", "type", [value]))

      assert {:ok, %{"id" => 1, "name" => nil}} =
               Typhon.call(rb, "Sample", "echo", [%Typhon.EncoderTest.Named{id: 1}])

      assert {:ok, "ASCII-8BIT"} = Typhon.call(rb, "Sample", "encoding", [Typhon.bytes(<<255>>)])
      assert {:ok, "UTF-8"} = Typhon.call(rb, "Sample", "encoding", ["é"])
      assert {:ok, <<255>>} = Typhon.call(rb, "Sample", "echo", [Typhon.bytes(<<255>>)])

      assert {:ok, %{__struct__: Decimal, sign: -1, coef: 15, exp: -1}} =
               Typhon.call(rb, "main", "BigDecimal", ["-1.5"])

      assert {:ok, :nan} = Typhon.call(rb, "main", "eval", ["Float::NAN"])
      assert {:ok, %{"a" => 1}} = Typhon.call(rb, "main", "eval", ["Struct.new(:a).new(1)"])
      assert {:ok, 1..9} = Typhon.call(rb, "main", "eval", ["1...10"])
    end
  end

  describe "what Ruby asks the BEAM" do
    test "runs in the calling process" do
      rb = start_ruby()
      me = self()
      assert {:ok, ^me} = Typhon.call(rb, "Sample", "apply", [fn -> self() end])
      assert {:ok, [2, 4]} = Typhon.call(rb, "Sample", "map", [fn x -> 2 * x end, [1, 2]])

      assert {:ok, [2, 4]} =
               Typhon.call(rb, "Sample", "with_block", [[1, 2]], kwargs: %{"&" => fn x -> 2 * x end})

      assert {:ok, 6} = Typhon.call(rb, "Sample", "beam_sum", [[1, 2, 3]])
      assert {:ok, 6} = Typhon.call(rb, "Sample", "in_thread", [[1, 2, 3]])
      assert {:ok, ["error", "ArgumentError", false]} = Typhon.call(rb, "Sample", "beam_failure", [])
    end

    test "nests on one worker" do
      rb = start_ruby()

      nest = fn nest, depth ->
        if depth == 0,
          do: 0,
          else: 1 + Typhon.call!(rb, "Sample", "apply", [fn -> nest.(nest, depth - 1) end])
      end

      assert nest.(nest, 50) == 50
    end

    test "reads what was lent" do
      rb = start_ruby()
      assert {:ok, 500_500} = Typhon.call(rb, "Sample", "total", [Typhon.iter(1..1000)])
    end

    test "prints to the caller" do
      rb = start_ruby(stdio: :caller)
      text = capture_io(fn -> Typhon.call!(rb, "Sample", "print", ["one\ntwö"]) end)
      assert text == "one\ntwö"
    end

    test "sends and receives messages" do
      rb = start_ruby()
      {:ok, pid} = Typhon.call(rb, "Sample", "forward_messages", [self()])
      send(pid, {:hello, 1})
      assert_receive {:got, {:hello, 1}}, limit()
      :ok = Typhon.send(rb, "again")
      assert_receive {:got, "again"}, limit()
      Typhon.call!(rb, "Typhon", "on_message", [])
      :ok = Typhon.send(rb, "kept")
      assert {:ok, "kept"} = Typhon.call(rb, "Sample", "receive", [nil], timeout: limit())
      assert {:ok, nil} = Typhon.call(rb, "Sample", "receive", [0])
    end

    # Which of two threads that sleep is woken for a frame is the system's to say. Where it was the other one, a message came
    # a second late: all of these came after the time that a test has.
    test "reach the thread that waits for them, whichever reads them" do
      rb = start_ruby()
      Typhon.call!(rb, "Sample", "echo_on_a_thread", [self()])

      for round <- 1..200 do
        # Both sleep by then, as a rule.
        Process.sleep(5)

        for part <- 1..2 do
          :ok = Typhon.send(rb, {round, part})
          assert_receive {^round, ^part}, limit()
        end

        assert {:ok, ^round} = Typhon.call(rb, "Kernel", "Integer", [round], timeout: limit())
      end
    end
  end

  describe "what Ruby sends" do
    test "is held up while it is not taken" do
      rb = start_ruby(max_mailbox: 1_000)
      test = self()

      count = fn count, read ->
        if read == 20_000, do: send(test, :all), else: receive(do: (^read -> count.(count, read + 1)))
      end

      slow =
        spawn_link(fn ->
          receive do
            :read -> count.(count, 0)
          end
        end)

      :ok = Typhon.cast(rb, "Sample", "send_all", [slow, 20_000])
      waiting = fn -> slow |> Process.info(:message_queue_len) |> elem(1) end
      eventually(fn -> waiting.() > 1_000 end)
      assert waiting.() < 4_000
      send(slow, :read)
      assert_receive :all, limit()
    end

    test "controls no process, itself neither" do
      for allow <- [:all, []] do
        rb = start_ruby(allow: allow)
        owner = Typhon.call!(rb, "Typhon", "self_pid", [])

        for control <- [{:system, {:init, :stop}, :suspend}, {:"$gen_cast", :retire}, {:EXIT, owner, :kill}] do
          assert {:ok, _} = Typhon.call(rb, "Typhon", "send", [owner, control])
          assert {:ok, ^control} = Typhon.call(rb, "Sample", "receive", [nil], timeout: limit())
          sent = Typhon.call(rb, "Typhon", "send", [self(), control])

          if allow == :all do
            assert {:ok, _} = sent
            assert_receive ^control, limit()
          else
            assert {:error, %RubyError{type: "Typhon::BeamError", message: message}} = sent
            assert message =~ "allow:"
          end
        end
      end

      refute_received _
    end

    test "goes to what it was handed, with an allow list" do
      rb = start_ruby(allow: [])
      assert {:ok, _} = Typhon.call(rb, "Sample", "send_all", [self(), 2])
      assert_receive 0
      assert_receive 1

      for name <- ["init", "rex"] do
        assert {:error, %RubyError{type: "Typhon::BeamError", message: message}} =
                 Typhon.call(rb, "Sample", "send_all", [name, 1])

        assert message =~ "send_to:"
      end
    end
  end

  describe "deadlines" do
    # What comes too late for its call is pending when the call ends.
    test "that pass at any moment of calls on top of each other leave the worker as it is" do
      rb = start_ruby(workers: 2)

      1..2_000
      |> Task.async_stream(
        fn i ->
          catch_any(fn ->
            Typhon.call(rb, "Sample", :apply, [fn x -> down(rb, x) end, 10], timeout: 1 + rem(i, 4))
          end)
        end,
        max_concurrency: 8,
        timeout: :infinity
      )
      |> Stream.run()

      assert Typhon.call(rb, "Sample", :apply, [fn x -> x end, 1]) == {:ok, 1}
      assert {:ok, %{restarts: 0}} = Typhon.health(rb)
    end

    test "end a loop, a sleep and a wait, and ensure sees it" do
      rb = start_ruby()
      pid = Typhon.call!(rb, "Sample", "pid", [])

      for how <- ["loop", "sleep", "queue"] do
        caught = outlast(rb, how)
        eventually(fn -> File.read(caught) == {:ok, "Cancelled"} and File.exists?(caught <> ".ensure") end)
      end

      assert {:ok, ^pid} = Typhon.call(rb, "Sample", "pid", [], timeout: limit())
    end

    test "end the worker when Ruby does not obey" do
      rb = start_ruby(grace: 50)
      pid = Typhon.call!(rb, "Sample", "pid", [])
      outlast(rb, "stubborn")
      eventually(fn -> match?({:ok, other} when other != pid, Typhon.call(rb, "Sample", "pid", [])) end)
    end

    test "hit a callback's call and the one below it" do
      rb = start_ruby()

      sleep = fn ->
        {:error, %TimeoutError{}} = Typhon.call(rb, "main", "sleep", [], timeout: 100)
        :interrupted
      end

      assert {:ok, :interrupted} = Typhon.call(rb, "Sample", "apply", [sleep], timeout: limit())
      assert {:ok, 2.0} = Typhon.call(rb, "Math", "sqrt", [4])
    end
  end

  describe "many at once" do
    test "multi/5 and multi/3" do
      rb = start_ruby()
      assert [{:ok, 2.0}, {:ok, 3.0}] = Typhon.multi(rb, "Math", "sqrt", [[4], [9]])

      assert [{:ok, 2.0}, {:error, %RubyError{type: "Sample::Broken"}}, {:ok, "hello a?"}] =
               Typhon.multi(rb, [
                 {"Math", "sqrt", [4]},
                 {"Sample", "raise_broken", ["x"]},
                 {"Sample", "greet", ["a"], punctuation: "?"}
               ])

      assert [{:ok, 1}, {:error, %EncodeError{path: "result"}}, {:ok, %Typhon.Object{}}] =
               Typhon.multi(rb, [
                 {"Sample", "echo", [1]},
                 {"main", "eval", ["String.new(\"\\xff\", encoding: \"UTF-8\")"]},
                 {"Sample", "counter", []}
               ])
    end

    test "map/5 over several workers" do
      rb = start_ruby(workers: 2)
      assert [1.0, 2.0, 3.0] = rb |> Typhon.map("Math", "sqrt", [1, 4, 9]) |> Enum.to_list()
    end

    test "stream/5 is lazy, and raises what the Enumerator raises" do
      rb = start_ruby()
      made = file("made")
      assert [1, 2, 3] = rb |> Typhon.stream("Sample", "numbers", [100_000, made], batch: 2) |> Enum.take(3)
      assert File.stat!(made).size < 100

      assert Enum.to_list(1..5_000) ==
               rb |> Typhon.stream("Sample", "numbers", [5_000, made]) |> Enum.to_list()

      stream = Typhon.stream(rb, "Sample", "failing_numbers", [])
      assert_raise RubyError, ~r/no more/, fn -> Enum.each(stream, &send(self(), &1)) end
      assert_received 1
      assert_received 2
    end

    test "callers on all sides get what is theirs" do
      rb = start_ruby(workers: 2)

      1..32
      |> Task.async_stream(
        fn caller ->
          for n <- 1..50,
              do:
                assert(
                  {:ok, {^caller, ^n}} = Typhon.call(rb, "Sample", "echo", [{caller, n}], timeout: limit())
                )
        end,
        max_concurrency: 32,
        timeout: limit()
      )
      |> Stream.run()
    end
  end

  describe "life" do
    test "a worker that is killed is replaced, and its call told" do
      rb = start_ruby()
      pid = Typhon.call!(rb, "Sample", "pid", [])

      assert {:error, %WorkerError{signal: "SIGKILL"} = error} =
               Typhon.call(rb, "Sample", "kill", [], timeout: limit())

      assert Exception.message(error) =~ "the Ruby worker #{pid} was ended by SIGKILL"
      eventually(fn -> match?({:ok, other} when other != pid, Typhon.call(rb, "Sample", "pid", [])) end)
    end

    test "a worker goes with its pool" do
      {:ok, rb} = Typhon.start_link(language: :ruby, workers: 1)
      pid = Typhon.call!(rb, "Process", "pid", [])
      child = Typhon.call!(rb, "Process", "spawn", ["sleep", "600"])
      :ok = Typhon.stop(rb)
      refute File.exists?("/proc/#{pid}")
      eventually(fn -> not os_process?(child) end)
    end

    # A BEAM of its own, which prints the pid of its worker when Ruby is at it, and then waits for ever.
    for what <- ["hold_lock", "idle"] do
      @what what
      test "a worker goes with a BEAM that is killed: #{what}" do
        begun = file("begun")

        script = """
        {:ok, _} = Application.ensure_all_started(:typhon)
        {:ok, rb} = Typhon.start_link(language: :ruby, workers: 1, ruby_path: [#{inspect(rb_dir())}], require: "sample")
        pid = Typhon.call!(rb, "Process", "pid", [])
        if #{@what == "hold_lock"} do
          spawn(fn -> Typhon.call(rb, "Sample", "hold_lock", [#{inspect(begun)}], timeout: :infinity) end)
          wait = fn wait -> File.exists?(#{inspect(begun)}) || (Process.sleep(10); wait.(wait)) end
          wait.(wait)
        end
        IO.puts("worker \#{pid} beam \#{System.pid()}")
        Process.sleep(:infinity)
        """

        paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])
        elixir = System.find_executable("elixir")
        options = [:binary, :exit_status, :stderr_to_stdout, {:line, 1000}, {:args, paths ++ ["-e", script]}]
        port = Port.open({:spawn_executable, elixir}, options)
        assert_receive {^port, {:data, {:eol, "worker " <> line}}}, limit()
        [worker, "beam", beam] = String.split(line)
        assert File.exists?("/proc/#{worker}")
        System.cmd("kill", ["-KILL", beam])
        assert_receive {^port, {:exit_status, _}}, limit()

        eventually(fn ->
          case File.read("/proc/#{worker}/stat") do
            {:ok, stat} -> stat =~ ") Z "
            {:error, _} -> true
          end
        end)
      end
    end

    test "a forked child keeps its hands off the channel" do
      rb = start_ruby()
      assert {:ok, 7} = Typhon.call(rb, "Sample", "fork_and_ask", [], timeout: limit())
      assert {:ok, true} = Typhon.call(rb, "Sample", "system", ["true"], timeout: limit())
      assert {:ok, 2.0} = Typhon.call(rb, "Math", "sqrt", [4])
    end

    test "init: and require: run first, and what they raise is told" do
      rb = start_ruby(require: ["json", "sample"], init: "def from_init = 41 + 1")
      assert {:ok, 42} = Typhon.call(rb, "main", "from_init", [])
      assert {:ok, "[1]"} = Typhon.call(rb, "JSON", "generate", [[1]])

      assert {:error, %StartError{reason: :init_failed} = error} =
               Typhon.start_link(language: :ruby, require: "no_such_library")

      assert Exception.message(error) =~ "no_such_library"
    end

    test "limits: are those of the operating system" do
      rb = start_ruby(limits: [open_files: 64, memory: 200_000_000, nice: 5])
      assert {:ok, [64, 64]} = Typhon.call(rb, "Process", "getrlimit", ["NOFILE"])
      assert {:ok, 5} = Typhon.call(rb, "Process", "getpriority", [0, 0])

      assert {:error, %RubyError{type: "NoMemoryError"}} =
               Typhon.call(rb, "main", "eval", ["'x' * 400_000_000; 1"])

      assert {:ok, 2.0} = Typhon.call(rb, "Math", "sqrt", [4])
    end
  end

  describe "options" do
    test "that are for the other language are refused" do
      assert_raise ArgumentError, ~r/isolation: :interpreter is for Python alone/, fn ->
        Typhon.start_link(language: :ruby, isolation: :interpreter)
      end

      assert_raise ArgumentError, ~r/python_path: is for Python alone/, fn ->
        Typhon.start_link(language: :ruby, python_path: ["."])
      end

      assert_raise ArgumentError, ~r/concurrency: is for Python alone/, fn ->
        Typhon.start_link(language: :ruby, concurrency: 4)
      end

      assert_raise ArgumentError, ~r/require: is for language: :ruby alone/, fn ->
        Typhon.start_link(require: "json")
      end

      assert_raise ArgumentError, ~r/language: must be :python or :ruby/, fn ->
        Typhon.start_link(language: :perl)
      end

      assert {:error, %StartError{reason: :ruby_not_found, program: "no-such-ruby", python: nil}} =
               Typhon.start_link(language: :ruby, ruby: "no-such-ruby")
    end

    test "and its workers are no Pythons in what is told of them" do
      :telemetry.attach_process([:typhon, :worker], self())
      me = self()
      on_exit(fn -> :telemetry.detach_process(me) end)
      rb = start_ruby()
      assert %{language: :ruby, version: "3." <> _, python: nil, executable: "/" <> _} = worker(rb)

      assert_receive {:telemetry, [:typhon, :worker, :ready], _,
                      %{pool: ^rb, language: :ruby, program: "/" <> _, python: nil}}
    end

    test "a program that is no Ruby, and a directory that is not there" do
      assert {:error, %StartError{reason: :not_ruby} = error} =
               Typhon.start_link(language: :ruby, ruby: "/bin/ls")

      assert Exception.message(error) =~ "ruby: /bin/ls is not a Ruby. Asked for its --version it said: ls"

      assert {:error, %StartError{reason: :bad_path} = error} =
               Typhon.start_link(language: :ruby, ruby_path: ["/no/such/lib"])

      assert Exception.message(error) =~ "ruby_path: the directory /no/such/lib does not exist."
    end
  end

  defp 1 <<< bits, do: Bitwise.bsl(1, bits)
end
