defmodule Typhon.PrintTest do
  # What Python prints and logs in a call goes to whoever made the call. Not async: it looks at what is logged.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import ExUnit.CaptureLog
  import Typhon.TestHelper

  defmodule Catcher do
    def log(event, %{config: %{pid: pid} = config}) do
      Process.sleep(Map.get(config, :pause, 0))
      send(pid, {:logged, event})
    end
  end

  setup do
    path = new_path("print")
    on_exit(fn -> File.rm(path) end)
    {:ok, path: path}
  end

  defp device do
    {:ok, device} = StringIO.open("")
    device
  end

  defp written(device), do: device |> StringIO.contents() |> elem(1)

  defp logged(name) do
    assert_receive {:logged, %{meta: %{python_logger: ^name}} = event}, limit()
    event
  end

  defp lines(device), do: device |> written() |> String.split("\n")

  defp flush_logged do
    receive do
      {:logged, _} -> flush_logged()
    after
      0 -> :ok
    end
  end

  # Counts what it is told to write, and lets everybody wait for each answer.
  defp slow_device(pause) do
    spawn_link(fn -> slow_device(pause, 0) end)
  end

  defp slow_device(pause, count) do
    receive do
      {:io_request, from, ref, {:put_chars, _, chars}} ->
        Process.sleep(pause)
        send(from, {:io_reply, ref, :ok})
        slow_device(pause, count + (chars |> IO.iodata_to_binary() |> byte_size()))

      {:count, from} ->
        send(from, {:count, count})
        slow_device(pause, count)
    end
  end

  describe "print in a call" do
    test "goes to the caller's group leader, and is there when the call returns" do
      py = start_pool(stdio: :caller)
      assert capture_io(fn -> assert {:ok, nil} = Typhon.call(py, :sample, :say, ["hällo"]) end) == "hällo\n"
      assert capture_io(fn -> assert {:ok, nil} = Typhon.call(py, :sample, :complain, ["oh"]) end) == "oh\n"
      assert capture_io(fn -> assert {:ok, nil} = Typhon.call(py, :talk, :printing, ["co"]) end) == "co\nco"

      assert capture_io(fn ->
               assert {:error, _} = Typhon.call(py, :converse, :evaluate, ["(print('before'), 1 / 0)"])
             end) == "before\n"
    end

    test "the end of a line may be missing, or come later" do
      py = start_pool(stdio: :caller)
      assert capture_io(fn -> Typhon.call!(py, :sample, :say_partly, ["no end"]) end) == "no end"

      assert capture_io(fn -> Typhon.call!(py, :converse, :say_all, [["a", "b\nc", "", "\n\n", "d"]]) end) ==
               "ab\nc\n\nd"

      assert capture_io(fn -> Typhon.call!(py, :converse, :say_all, [List.duplicate("x", 10_000)]) end) ==
               String.duplicate("x", 10_000)

      long = String.duplicate("0123456789", 100_000)
      assert capture_io(fn -> Typhon.call!(py, :converse, :say_all, [[long, "\n"]]) end) == long <> "\n"
    end

    test "flush sends what there is", %{path: path} do
      py = start_pool(stdio: :caller)
      device = device()

      task =
        Task.async(fn ->
          Typhon.call(py, :converse, :say_and_flush, ["half a line", path], stdio: device, timeout: 30_000)
        end)

      eventually(fn -> written(device) == "half a line" end)
      File.touch!(path)
      assert await(task) == {:ok, nil}
      assert written(device) == "half a line"
    end

    test "of many callers at once goes each to its own" do
      py = start_pool(stdio: :caller, workers: 2)

      tasks =
        for i <- 1..50 do
          Task.async(fn ->
            device = device()
            Process.group_leader(self(), device)
            for n <- 1..20, do: Typhon.call!(py, :sample, :say, ["#{i} #{n}"], timeout: 30_000)
            {written(device), for(n <- 1..20, into: "", do: "#{i} #{n}\n")}
          end)
        end

      for {text, expected} <- await_many(tasks), do: assert(text == expected)
    end

    test "of coroutines at once goes each to its own" do
      py = start_pool(stdio: :caller)

      tasks =
        for i <- 1..50 do
          Task.async(fn ->
            device = device()
            Process.group_leader(self(), device)
            Typhon.call!(py, :talk, :printing, ["co #{i}"], timeout: 30_000)
            {written(device), "co #{i}\nco #{i}"}
          end)
        end

      for {text, expected} <- await_many(tasks), do: assert(text == expected)
    end

    test "with calls on top of each other: each has its own lines" do
      py = start_pool(stdio: :caller)
      inner = fn -> Typhon.call!(py, :sample, :say_partly, ["inner"]) end
      expression = "(print('outer', end=' '), f(), print('goes on', end=''))"

      assert capture_io(fn -> Typhon.call!(py, :converse, :evaluate, [expression, inner]) end) ==
               "innerouter goes on"
    end

    test "may be any text" do
      py = start_pool(stdio: :caller)
      assert capture_io(fn -> Typhon.call!(py, :sample, :say, ["日本 😀 \e[1m"]) end) == "日本 😀 \e[1m\n"
      assert capture_io(fn -> Typhon.call!(py, :converse, :say_surrogate, []) end) == "a\\ud800b\n"
    end

    @tag :os_process
    test "is the last words of a worker that dies, too" do
      py = start_pool(stdio: :caller)

      capture_io(fn ->
        assert {:error, %Typhon.WorkerError{output: output}} = Typhon.call(py, :sample, :hard_exit, [3])
        assert "about to leave" in output
      end)
    end
  end

  describe "stdio: of a call" do
    for pool <- [:group_leader, :caller, :logger, :discard] do
      test "comes before that of the pool: #{pool}" do
        capture_log(fn ->
          capture_io(fn ->
            py = start_pool(stdio: unquote(pool))
            device = device()
            assert {:ok, nil} = Typhon.call(py, :sample, :say, ["to the device"], stdio: device)
            assert written(device) == "to the device\n"

            assert capture_io(fn -> Typhon.call!(py, :sample, :say, ["to me"], stdio: :group_leader) end) ==
                     "to me\n"

            assert capture_log(fn -> Typhon.call!(py, :sample, :say, ["to the log"], stdio: :logger) end) =~
                     "to the log"

            assert capture_log(fn ->
                     assert capture_io(fn -> Typhon.call!(py, :sample, :say, ["nowhere"], stdio: :discard) end) ==
                              ""
                   end) == ""

            # Coroutines as well.
            assert {:ok, nil} = Typhon.call(py, :talk, :printing, ["x"], stdio: device)
            assert written(device) == "to the device\nx\nx"
          end)
        end)
      end
    end

    test "is for that call alone" do
      py = start_pool(stdio: :caller)
      device = device()

      assert capture_io(fn ->
               Typhon.call!(py, :sample, :say, ["one"], stdio: device)
               Typhon.call!(py, :sample, :say, ["two"])
             end) == "two\n"

      assert written(device) == "one\n"
    end
  end

  describe "a device" do
    test "that is slow makes Python wait: nothing is lost, and memory does not grow" do
      py = start_pool(stdio: :caller)
      Typhon.call!(py, :converse, :evaluate, ["1"])
      before = Typhon.call!(py, :converse, :peak_memory, [])
      device = slow_device(1)
      count = 2_000
      large = String.duplicate("x", 1_000)

      task =
        Task.async(fn ->
          Typhon.call(py, :converse, :flood, [count, large], stdio: device, timeout: :infinity)
        end)

      largest =
        Stream.repeatedly(fn ->
          Process.sleep(5)

          {:message_queue_len, waiting} =
            Process.info(task.pid, :message_queue_len) || {:message_queue_len, :done}

          waiting
        end)
        |> Enum.take_while(&(&1 != :done))
        |> Enum.max(fn -> 0 end)

      assert await(task) == {:ok, nil}
      send(device, {:count, self()})
      assert_receive {:count, bytes}
      assert bytes == Enum.sum(for i <- 0..(count - 1), do: byte_size("line #{i} #{large}\n"))
      # Python waits for the caller after each 256 KiB.
      assert largest < 600
      assert Typhon.call!(py, :converse, :peak_memory, []) - before < 20_000
    end

    test "that hangs does not hold a call for ever" do
      py = start_pool(stdio: :caller)
      device = spawn_link(fn -> Process.sleep(:infinity) end)

      log =
        capture_log(fn ->
          overrun(py, fn timeout, mark ->
            expression = "(print('x'), pathlib.Path(f).touch(), time.sleep(600))"

            assert {:error, %Typhon.TimeoutError{}} =
                     Typhon.call(py, :converse, :evaluate, [expression, mark], stdio: device, timeout: timeout)
          end)

          # What comes when the caller has given up is the worker's to write; what came before waits for the device a while longer.
          worker(py)
          eventually(fn -> Process.info(device, :monitored_by) == {:monitored_by, []} end)
        end)

      assert log =~ "x"
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert_mailbox_empty()
    end

    test "a call's time that is up says nothing of the device" do
      py = start_pool(stdio: :caller)
      device = device()
      before = Process.group_leader()
      Process.group_leader(self(), device)

      capture_log(fn ->
        for _ <- 1..50 do
          endless = "while True:\n  print('x' * 10)\n"

          assert {:error, %Typhon.TimeoutError{}} =
                   Typhon.call(py, :builtins, :exec, [endless, %{}], timeout: 20)

          assert Process.get({Typhon.Conversation, :hangs}) == nil
        end

        Typhon.call!(py, :sample, :say, ["important"], timeout: limit())
      end)

      Process.group_leader(self(), before)
      assert written(device) =~ "important\n"
      assert_mailbox_empty()
    end

    test "that hangs is waited for once" do
      py = start_pool(stdio: :caller)
      device = spawn_link(fn -> Process.sleep(:infinity) end)

      log =
        capture_log(fn ->
          for text <- ["first", "second"],
              do: assert({:ok, nil} = Typhon.call(py, :sample, :say, [text], stdio: device, timeout: limit()))
        end)

      assert Process.get({Typhon.Conversation, :hangs}) == device
      assert log =~ "first"
      assert log =~ "second"
      assert {:message_queue_len, 1} = Process.info(device, :message_queue_len)
    end

    test "that is dead: the text goes to Logger" do
      py = start_pool(stdio: :caller)
      device = device()
      StringIO.close(device)

      assert capture_log(fn ->
               assert {:ok, nil} = Typhon.call(py, :sample, :say, ["into the void"], stdio: device)
             end) =~
               "into the void"
    end

    test "300,000 lines" do
      py = start_pool(stdio: :caller)
      device = slow_device(0)
      assert {:ok, nil} = Typhon.call(py, :converse, :flood, [300_000], stdio: device, timeout: 120_000)
      send(device, {:count, self()})
      assert_receive {:count, bytes}
      assert bytes == Enum.sum(for i <- 0..299_999, do: byte_size("line #{i}\n"))
    end
  end

  describe "print outside of any call" do
    @tag :os_process
    test "goes to Logger: casts, threads, handlers of messages" do
      log =
        capture_log(fn ->
          py = start_pool(stdio: :caller)
          :ok = Typhon.cast(py, :sample, :say, ["by a cast"])
          Typhon.call!(py, :sample, :say_from_thread, ["in a thread"])

          Typhon.call!(py, :converse, :evaluate, ["typhon.on_message(lambda m: print('message', m)) and None"])

          {:ok, pid} = Typhon.call(py, :converse, :evaluate, ["typhon.self()"])
          send(pid, 5)
          Typhon.call!(py, :converse, :evaluate, ["os.write(1, b'by its descriptor\\n')"])
          # Not after the message: it takes its own way.
          eventually(fn ->
            Typhon.call!(py, :converse, :evaluate, ["typhon._native.message_now() is None"])
          end)

          capture_io(fn -> assert {:error, _} = Typhon.call(py, :sample, :hard_exit, [0]) end)
        end)

      assert log =~ "by a cast"
      assert log =~ "in a thread"
      assert log =~ "by its descriptor"
    end
  end

  describe "the exception of a cast" do
    @tag :os_process
    test "goes to Logger with its traceback, also a CancelledError of the coroutine's own" do
      log =
        capture_log(fn ->
          py = start_pool(stdio: :caller)
          :ok = Typhon.cast(py, :talk, :fail, ["by a cast"])
          :ok = Typhon.cast(py, :cancelling, :raises, ["by itself"])
          assert Typhon.drain(py, limit()) == :ok
          await_logged(py)
        end)

      assert log =~ "ValueError: by a cast"
      assert log =~ "CancelledError: by itself"
    end

    @tag :os_process
    test "is one record of the level error, with the struct for whoever collects crashes" do
      py = start_pool(stdio: :caller)
      :ok = :logger.add_handler(__MODULE__, Catcher, %{config: %{pid: self()}})
      on_exit(fn -> :logger.remove_handler(__MODULE__) end)

      capture_log(fn ->
        assert {:ok, thing} = Typhon.call(py, :bulk, :Thing, [1])

        for {target, function, args, name} <- [
              {:talk, :fail, ["by a cast"], "talk.fail"},
              {:no_such_module, :fail, [], "no_such_module.fail"},
              {thing, :no_such_method, [], "bulk.Thing.no_such_method"},
              {"math", "sqrt", ["four"], "math.sqrt"}
            ] do
          assert Typhon.cast(py, target, function, args) == :ok
          assert_crash("a cast of #{name} failed:\nTraceback")
        end

        code = "def fail(message): raise ValueError(message)\nimport typhon; typhon.on_message(fail)"
        assert {:ok, nil} = Typhon.call(py, :builtins, :exec, [code])
        {:ok, pid} = Typhon.call(py, :typhon, :self, [])
        send(pid, "hello")
        assert_crash("the handler of messages fail failed:\nTraceback")
        refute_received {:logged, _}
      end)
    end

    defp assert_crash(beginning) do
      assert_receive {:logged, %{level: :error, meta: %{crash_reason: {error, []}} = meta} = event}, limit()
      assert %Typhon.PythonError{text: text} = error
      assert meta.typhon_worker == 0
      assert logged_text(event) =~ beginning
      assert logged_text(event) =~ String.trim(text)
    end

    defp logged_text(%{msg: {:string, text}}), do: IO.chardata_to_string(text)
  end

  describe "logging" do
    @tag :os_process
    test "has levels, and what it was given" do
      level = Logger.level()
      Logger.configure(level: :debug)
      on_exit(fn -> Logger.configure(level: level) end)
      py = start_pool(log_level: :debug)
      metadata = [:python_logger, :python_module, :python_function, :python_extra, :file, :line]

      log =
        capture_log([format: "$level|$message|$metadata\n", metadata: metadata], fn ->
          assert {:ok, nil} = Typhon.call(py, :converse, :log_all, [])
        end)

      for text <- ["debug|at debug|", "info|at info|", "error|at error|", "at critical|"],
          do: assert(log =~ text)

      assert log =~ ~r/warn(ing)?\|at warning\|/
      assert log =~ "python_logger=converse.log"
      assert log =~ "python_function=log_all"
      assert log =~ "converse.py"
      # A map has no place in a line of text.
      :ok = :logger.add_handler(__MODULE__, Catcher, %{config: %{pid: self()}})
      on_exit(fn -> :logger.remove_handler(__MODULE__) end)
      capture_log(fn -> assert {:ok, nil} = Typhon.call(py, :converse, :log_all, []) end)
      me = self()
      assert_received {:logged, %{level: :warning, meta: %{python_extra: extra, pid: ^me}}}
      assert extra == %{"user" => "jane", "thing" => "[1]"}
    end

    # In a new process each: logging is one for all workers of an interpreter.
    @tag :os_process
    test "begins at a warning, or at the level that the pool says, also of libraries with a handler that does nothing" do
      level = Logger.level()
      Logger.configure(level: :debug)
      on_exit(fn -> Logger.configure(level: level) end)

      code = """
      import logging
      logging.getLogger("library").addHandler(logging.NullHandler())
      silent = logging.getLogger("silent")
      silent.addHandler(logging.NullHandler())
      silent.propagate = False
      for name in ("library", "mine", "silent"):
          logging.getLogger(name).info("info of %s", name)
          logging.getLogger(name).warning("warning of %s", name)
      """

      all = ["info of library", "info of mine"]

      for {options, configure, infos} <- [
            {[], "", []},
            {[log_level: :info], "", all},
            {[], "logging.basicConfig(level=logging.INFO)", all},
            {[log_level: :info], "logging.warning('this configures logging, too')", all}
          ] do
        py = start_pool(options)
        code = String.replace(code, "import logging", "import logging\n" <> configure)
        log = capture_log(fn -> assert Typhon.call(py, :builtins, :exec, [code]) == {:ok, nil} end)

        assert Regex.scan(~r/(?:info|warning) of \w+/, log) |> List.flatten() |> Enum.sort() ==
                 infos ++ ["warning of library", "warning of mine"]
      end
    end

    @tag :os_process
    test "is as user code configures it, where it does" do
      file = gate()

      for {configure, read} <- [
            {"logging.basicConfig(filename=#{inspect(file)}, level='INFO')", "open(#{inspect(file)}).read()"},
            {"err = sys.stderr = io.StringIO()", "err.getvalue()"},
            {"logging.lastResort = logging.StreamHandler(err := io.StringIO())", "err.getvalue()"}
          ] do
        py = start_pool()

        code = """
        import io, logging, sys, __main__
        #{configure}
        logging.getLogger("mine").warning("to %s", "where they say")
        __main__.said = #{read}
        """

        log = capture_log(fn -> assert Typhon.call(py, :builtins, :exec, [code]) == {:ok, nil} end)
        refute log =~ "where they say"
        assert {:ok, said} = Typhon.call(py, :builtins, :eval, ["__import__('__main__').said"])
        assert said =~ "to where they say\n"
      end
    end

    @tag :os_process
    test "of nobody's comes whole, though Logger is slower than Python" do
      py = start_pool()
      :ok = :logger.add_handler(__MODULE__, Catcher, %{config: %{pid: self(), pause: 1}})
      on_exit(fn -> :logger.remove_handler(__MODULE__) end)
      code = "import logging\nfor i in range(2_500): logging.getLogger('many').warning('record %s', i)"
      assert Typhon.cast(py, :builtins, :exec, [code]) == :ok

      for i <- 0..2_499 do
        assert_receive {:logged, %{meta: %{python_logger: "many"}} = event}, limit()
        assert logged_text(event) == "record #{i}"
      end
    end

    test "comes whole, though Logger is slower than the call may last" do
      py = start_pool(stdio: :caller)
      :ok = :logger.add_handler(__MODULE__, Catcher, %{config: %{pid: self(), pause: 100}})
      on_exit(fn -> :logger.remove_handler(__MODULE__) end)
      device = device()
      Logger.metadata(request: 7)

      me = self()

      # One that has returned, and one that has not: its time is up while the first record is dealt with, or later.
      for last <- ["None", "time.sleep(600)"] do
        said = "[(logging.getLogger(x).warning(str(i)), print(x, i)) for i in range(10)]"
        expression = "(#{said}, pathlib.Path(f).touch(), #{last})"

        {name, caught} =
          overrun(py, fn timeout, mark ->
            name = "late #{timeout} #{last}"
            args = [expression, mark, name]
            result = Typhon.call(py, :converse, :evaluate, args, stdio: device, timeout: timeout)
            assert match?({:ok, _}, result) or match?({:error, %Typhon.TimeoutError{}}, result)
            caught = if File.exists?(mark), do: for(_ <- 1..10, do: logged(name)), else: []
            # What Python says after its time is up is the worker's to log.
            late? = caught == [] or Enum.any?(caught, &is_map_key(&1.meta, :typhon_worker))
            if late?, do: :again, else: {name, caught}
          end)

        assert for(%{msg: {:string, text}} <- caught, do: to_string(text)) == for(i <- 0..9, do: "#{i}")
        assert Enum.all?(caught, &match?(%{meta: %{request: 7, pid: ^me}}, &1))

        eventually(fn ->
          for(line <- lines(device), line =~ name, do: line) == for(i <- 0..9, do: "#{name} #{i}")
        end)
      end

      flush_logged()
      assert_mailbox_empty()
    end

    test "of exceptions, in threads, coroutines and casts" do
      py = start_pool()

      assert capture_log(fn -> Typhon.call!(py, :converse, :log_exception, []) end) =~
               ~r/it failed.*ZeroDivisionError/s

      assert capture_log(fn ->
               Typhon.call!(py, :converse, :log_in_thread, ["threaded"])
               settle(py)
             end) =~ "threaded"

      log = capture_log(fn -> Typhon.call!(py, :converse, :log_text_async, ["awaited"]) end)
      assert log =~ "awaited"
      assert log =~ "awaited in a thread"

      assert capture_log(fn ->
               :ok = Typhon.cast(py, :converse, :log_text, ["cast away"])
               settle(py)
             end) =~ "cast away"
    end

    @tag :os_process
    test "is in the caller's process: its metadata is there" do
      py = start_pool()
      Logger.metadata(request: "r-1")
      on_exit(fn -> Logger.reset_metadata() end)

      log =
        capture_log([metadata: [:request, :typhon_pool, :typhon_worker]], fn ->
          Typhon.call!(py, :converse, :log_text, ["with metadata"])
        end)

      assert log =~ "request=r-1"
    end

    test "of odd texts" do
      py = start_pool()

      assert capture_log(fn -> Typhon.call!(py, :converse, :evaluate, ["log_text('a\\ud800b')"]) end) =~
               "a\\ud800b"

      assert capture_log(fn -> Typhon.call!(py, :converse, :log_text, ["100% {} %s"]) end) =~ "100% {} %s"
      large = String.duplicate("x", 100_000)
      assert {:ok, nil} = Typhon.call(py, :converse, :log_text, [large])
    end

    test "warnings" do
      py = start_pool()

      log =
        capture_log([metadata: [:file, :line, :python_logger]], fn ->
          Typhon.call!(py, :converse, :warn_user, ["mind the gap"])
        end)

      assert log =~ "UserWarning: mind the gap"
      assert log =~ "converse.py"
    end

    # What went by way of the worker's process is with its printer when that has answered, and Logger takes it from there.
    defp settle(py) do
      Typhon.call!(py, :converse, :evaluate, ["typhon.self() and None"])
      await_logged(py)
    end
  end
end
