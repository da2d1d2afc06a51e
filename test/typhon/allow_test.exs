defmodule Typhon.AllowTest do
  # What `allow:` with a list keeps Python from, beside calls (callback_test.exs).
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Typhon.TestHelper

  alias Typhon.{DecodeError, PythonError}

  @moduletag :capture_log

  setup do
    {:ok, py: start_pool(allow: [{Enum, :sum, 1}])}
  end

  defp python(py, expression, args \\ []), do: Typhon.call(py, :converse, :evaluate, [expression | args])

  defp refused(result) do
    assert {:error, %PythonError{type: "typhon.BeamError", message: message}} = result
    assert message =~ "send_to:"
    message
  end

  defp register do
    name = :"typhon_allow_test_#{System.unique_integer([:positive])}"
    Process.register(self(), name)
    name
  end

  # A pid that Python is not handed, and that it knows all the same.
  defp stranger do
    test = self()
    pid = spawn_link(fn -> receive(do: (message -> send(test, {:got, message}))) end)
    {pid, pid |> inspect() |> String.replace(~r/[^0-9.<>]/, "")}
  end

  # An atom that there is.
  @elsewhere :nonode@nowhere

  # A handler of Logger's that hangs at what is said of messages that were dropped.
  defmodule Hangs do
    def log(%{msg: {:string, text}}, _config) do
      if IO.chardata_to_string(text) =~ "a message from a worker was dropped", do: Process.sleep(:infinity)
    end

    def log(_event, _config), do: :ok
  end

  test "what is dropped is logged, and no Logger that hangs holds the worker's process up", %{py: py} do
    :ok = :logger.add_handler(Hangs, Hangs, %{})
    on_exit(fn -> :logger.remove_handler(Hangs) end)
    {pid, _} = stranger()
    # Not by typhon.send, which asks first.
    code = """
    from typhon import _native
    pid = _native.decode(bytes.fromhex("#{pid |> :erlang.term_to_binary() |> Base.encode16()}"))
    for _ in range(5):
        _native.send(pid, 1)
    """

    assert Typhon.call(py, :builtins, :exec, [code]) == {:ok, nil}
    assert {:error, %Typhon.TimeoutError{}} = Typhon.call(py, :time, :sleep, [600], timeout: 20)
    assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    assert {:ok, %{workers: [_]}} = Typhon.info(py)
    assert Typhon.drain(py, limit()) == :ok
    refute_received {:got, _}
  end

  describe "typhon.send" do
    test "reaches no process of the VM's", %{py: py} do
      for name <- ["rex", "init", "kernel_sup", "code_server"] do
        assert refused(python(py, "typhon.send(f, 1)", [name])) =~ ":#{name}"

        refused(
          python(py, "typhon.send((typhon.Atom('#{name}'), typhon.Atom(f)), 1)", [Atom.to_string(node())])
        )

        refused(python(py, "typhon.send((typhon.Atom('#{name}'), typhon.Atom('nonode@nowhere')), 1)", []))
      end
    end

    test "reaches no pid that Python made up", %{py: py} do
      {pid, text} = stranger()
      refused(python(py, "typhon.send(forged_pid(f), 'forged')", [text]))
      # Unless it has got it.
      assert {:ok, nil} = python(py, "typhon.send(f, 'handed')", [pid])
      assert_receive {:got, "handed"}
    end

    test "reaches the caller, and Python itself", %{py: py} do
      assert {:ok, nil} = python(py, "typhon.send(typhon.caller(), 1)")
      assert_receive 1
      assert {:ok, 2} = python(py, "typhon.send(typhon.self(), 2) or typhon.receive(60)")
    end

    test "reaches what was handed over: in arguments, messages, answers, as pid, name or alias", %{py: py} do
      {pid, text} = stranger()
      name = register()
      refused(python(py, "typhon.send(f, 1)", [Atom.to_string(name)]))
      assert {:ok, nil} = python(py, "typhon.send(f['to'][0], 1)", [%{"to" => [name]}])
      assert_receive 1
      assert {:ok, nil} = python(py, "typhon.send((f, x), 2)", [name, node()])
      assert_receive 2
      alias = :erlang.alias()
      assert {:ok, nil} = python(py, "typhon.send(f, 3)", [alias])
      assert_receive 3
      # By the answer of a callback, or a message.
      assert {:ok, nil} = python(py, "typhon.send(f(), 4)", [fn -> pid end])
      assert_receive {:got, 4}
      {other, other_text} = stranger()
      :ok = Typhon.send(py, other)
      assert {:ok, nil} = python(py, "typhon.send(typhon.receive(60), 5)")
      assert_receive {:got, 5}
      assert text != other_text
    end

    test "does not take the key of a map for a name", %{py: py} do
      name = register()
      assert {:ok, [_]} = python(py, "list(f)", [%{name => 1}])
      refused(python(py, "typhon.send(f, 1)", [Atom.to_string(name)]))
    end

    test "reaches what send_to: lists" do
      {pid, text} = stranger()
      name = register()
      py = start_pool(allow: [], send_to: [pid, name, {:somebody, @elsewhere}])
      assert {:ok, nil} = python(py, "typhon.send(forged_pid(f), 1)", [text])
      assert_receive {:got, 1}
      assert {:ok, nil} = python(py, "typhon.send(f, 2)", [Atom.to_string(name)])
      assert_receive 2
      where = "(typhon.Atom('somebody'), typhon.Atom('nonode@nowhere'))"
      assert {:ok, nil} = python(py, "typhon.send(#{where}, 3)")
      refused(python(py, "typhon.send('init', 1)"))
    end

    test "is refused from threads and coroutines, too", %{py: py} do
      refused(python(py, "in_pool(lambda _: typhon.send('init', 1), 1, 1)"))
    end

    test "is free without a list" do
      name = register()
      py = start_pool()
      assert {:ok, nil} = python(py, "typhon.send(f, 1)", [Atom.to_string(name)])
      assert_receive 1
    end

    test "is checked" do
      for bad <- [:all, [nil], ["name"], [{:name, "node"}], [1]] do
        assert_raise ArgumentError, ~r/send_to/, fn -> Typhon.start_link(allow: [], send_to: bad) end
      end

      for bad <- [0, -1, "1", nil],
          do: assert_raise(ArgumentError, ~r/max_mailbox/, fn -> Typhon.start_link(max_mailbox: bad) end)
    end
  end

  # What a process of OTP's, the emulator or this library would act upon. `r` is a reference of Python's own making.
  @control [
    "(A('system'), (A('init'), A('stop')), A('suspend'))",
    "(A('system'), (typhon.self(), r), A('get_state'))",
    "(A('$gen_cast'), A('retire'))",
    "(A('$gen_cast'), (A('leave'), None))",
    "(A('$gen_call'), (typhon.self(), r), A('info'))",
    "(A('$gen_event'), 1)",
    "(A('$gen_all_state_event'), 1)",
    "(A('EXIT'), typhon.self(), A('kill'))",
    "(A('DOWN'), r, A('process'), typhon.self(), A('normal'))",
    "(A('io_request'), typhon.self(), r, (A('put_chars'), A('unicode'), 'x'))",
    "(A('io_reply'), r, A('ok'))",
    "(A('code_call'), typhon.self(), A('get_path'))",
    "(A('nodedown'), A('nonode@nohost'))",
    "(A('typhon'), 1, A('served'))",
    "(A('typhon'), 1, (A('flood'), 'x'))",
    "(A('typhon_moment'), 1)",
    "(A('timeout'), r, A('restart'))",
    "(A('select'), r, r, A('ready_input'))",
    "(1, 2, A('stop'))",
    "(typhon.self(), (typhon.self(), r), (A('add_handler'), A('init'), []))",
    "(r, A('room'))",
    "(r, (A('ok'), 'forged'))",
    "(typhon.ImproperList([A('alias')], r), (A('ok'), 'forged'))"
  ]

  # Python makes no atoms, and some of these may not be there yet.
  @atoms [:"$gen_event", :"$gen_all_state_event", :code_call, :typhon_moment, :add_handler, :ready_input]

  defp python_control(py, code) do
    true = Enum.all?(@atoms, &is_atom/1)
    code = "(lambda A, r: #{code})(typhon.Atom, forged_reference())"
    python(py, code, [self()])
  end

  describe "messages by which processes are controlled" do
    test "come to Python when it sends them to itself, and do nothing else" do
      for allow <- [:all, []] do
        py = start_pool(allow: allow)
        owner = worker(py).pid
        name = :"typhon_allow_test_#{System.unique_integer([:positive])}"
        Process.register(owner, name)
        # Handed, as names have to be.
        {:ok, _} = python(py, "f", [[name, node()]])

        for control <- @control do
          # The pid, its name, its name on this node; and in the middle of others.
          code =
            "[typhon.send(to, m) for to in (typhon.self(), A('#{name}'), (A('#{name}'), A('#{node()}'))) " <>
              "for m in (1, #{control}, 2)] and [typhon.receive(60) for _ in range(9)].count(#{control})"

          assert {:ok, 3} = python_control(py, code)
        end

        assert worker(py).pid == owner
        assert worker(py).state == :ready
        assert worker(py).restarts == 0
      end

      refute_received _
    end

    test "go to no other process, with a list", %{py: py} do
      name = register()

      for control <- @control,
          to <- ["f", "typhon.caller()", "A('#{name}')", "(A('#{name}'), A('#{node()}'))"] do
        # The names are handed.
        {:ok, _} = python(py, "f", [[name, node()]])

        assert {:error, %PythonError{type: "typhon.BeamError", message: message}} =
                 python_control(py, "typhon.send(#{to}, #{control})")

        assert message =~ "allow:"
        assert message =~ "begins with"
      end

      refute_received _
      # What only looks like it.
      for {code, message} <- [
            {"('$gen_cast', 1)", {"$gen_cast", 1}},
            {"[A('EXIT'), 1]", [:EXIT, 1]},
            {"A('system')", :system},
            {"(1, A('system'))", {1, :system}},
            {"()", {}}
          ] do
        assert {:ok, nil} = python_control(py, "typhon.send(f, #{code})")
        assert_receive ^message
      end
    end

    test "go where they may without one" do
      py = start_pool()
      assert {:ok, nil} = python_control(py, "typhon.send(f, (A('$gen_cast'), 1))")
      assert_receive {:"$gen_cast", 1}
    end

    test "answer a call that Python was handed", %{py: py} do
      ref = make_ref()
      assert {:ok, nil} = python(py, "typhon.send(f, (x, 'answer'))", [self(), ref])
      assert_receive {^ref, "answer"}
      task = Task.async(fn -> GenServer.call(hand_over(py), :ask, limit()) end)
      assert "answered" = Task.await(task, limit())
    end

    # A process whose calls Python answers.
    defp hand_over(py) do
      spawn_link(fn ->
        receive do
          {:"$gen_call", {pid, tag}, :ask} -> python(py, "typhon.send(f, (x, 'answered'))", [pid, tag])
        end
      end)
    end
  end

  describe "frames that Python writes by itself" do
    @describetag :os_process

    for {what, dest} <- [{"a pid", :pid}, {"a name", :name}] do
      test "reach #{what} no more than typhon.send does" do
        py = start_pool(allow: [])
        {_pid, text} = stranger()
        name = register()

        log =
          capture_log(fn ->
            to = if unquote(dest) == :pid, do: text, else: Atom.to_string(name)
            :ok = Typhon.cast(py, :frames, :send_to, [to, "forged"])
            owner = worker(py).pid
            # More than the one question for its own pid.
            eventually(fn -> heard(owner) >= 256 end)
            await_logged(py)
          end)

        refute_received _
        assert log =~ "send_to:"
      end
    end

    test "control no process" do
      py = start_pool(allow: [])
      owner = worker(py).pid
      name = register()
      {:ok, _} = python(py, "f", [name])

      log =
        capture_log(fn ->
          :ok = Typhon.cast(py, :frames, :control, [[self(), name]])
          eventually(fn -> heard(owner) >= 256 end)
          await_logged(py)
        end)

      refute_received _
      assert log =~ "allow:"
      assert log =~ "control"
      assert worker(py).pid == owner
      assert worker(py).state == :ready
    end

    test "to itself control nothing" do
      py = start_pool(allow: [])
      owner = worker(py).pid
      :ok = Typhon.cast(py, :frames, :control, [[]])
      eventually(fn -> heard(owner) >= 256 end)
      assert worker(py).pid == owner
      assert worker(py).state == :ready
    end

    defp heard(owner) do
      {_state, %{channel: channel}} = :sys.get_state(owner)
      Typhon.Native.channel_info(channel).heard
    end
  end

  describe "functions" do
    test "that Python made up come in no result and no message", %{py: py} do
      # Also where the emulator's own decoder would take the whole.
      for expression <- [
            "made_up_fun('os', 'cmd', 1)",
            "[list(range(50_000)), made_up_fun('init', 'stop', 0)]"
          ] do
        assert {:error, %DecodeError{reason: reason}} = python(py, expression)
        assert reason =~ "allow:"

        assert {:error, %PythonError{type: "typhon.BeamError", message: message}} =
                 python(py, "typhon.send(f, #{expression})", [self()])

        assert message =~ "allow:"
      end

      refute_received _
    end

    test "that it was handed, or that are listed, come back", %{py: py} do
      closure = fn -> py end
      assert {:ok, [^closure, external]} = python(py, "[f, x]", [closure, &String.length/1])
      assert external == (&String.length/1)
      assert {:ok, sum} = python(py, "made_up_fun('Elixir.Enum', 'sum', 1)")
      assert sum == (&Enum.sum/1)
      assert {:ok, nil} = python(py, "typhon.send(f, x)", [self(), closure])
      assert_receive ^closure
    end
  end

  test "no module is loaded, and no atom made, for what is refused", %{py: py} do
    # Not "typhon-…": on the code path that would be a version of the application.
    directory = new_path("allow")
    File.mkdir_p!(directory)
    on_exit(fn -> File.rm_rf(directory) end)
    name = "typhon_allow_never_loaded_#{System.unique_integer([:positive])}"
    source = Path.join(directory, name <> ".erl")
    File.write!(source, "-module(#{name}).\n-export([run/0]).\nrun() -> ok.\n")
    {_, 0} = System.cmd("erlc", ["-o", directory, source])
    true = Code.append_path(directory)

    assert {:error, %PythonError{message: message}} = python(py, "typhon.call(f, 'run')", [name])
    assert message =~ "Python may not call :#{name}.run/0"
    assert {:error, _} = python(py, "made_up_fun(f, 'run', 0)()", [name])
    assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    # It could be.
    assert {:ok, :ok} = start_pool() |> python("typhon.call(f, 'run')", [name])
  end
end
