defmodule Pythonx.RemoteTest do
  @moduledoc "With another node, which has a Python of its own."
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Typhon.TestHelper, only: [eventually: 1]

  setup_all do
    {_, 0} = System.cmd("epmd", ["-daemon"])
    # Not `primary`: other tests may run beside these.
    unless Node.alive?(), do: {:ok, _} = Node.start(:"pythonx_#{System.pid()}@127.0.0.1", :longnames)
    name = :"pythonx_peer_#{System.pid()}"
    {:ok, peer, node} = :peer.start_link(%{name: name, host: ~c"127.0.0.1", longnames: true})
    on_exit(fn -> catch_exit(:peer.stop(peer)) end)
    :ok = :erpc.call(node, :code, :add_paths, [:code.get_path()])

    for {key, value} <- Application.get_all_env(:pythonx),
        do: :ok = :erpc.call(node, Application, :put_env, [:pythonx, key, value])

    {:ok, _} = :erpc.call(node, Application, :ensure_all_started, [:pythonx])
    {:ok, node: node}
  end

  test "what is evaluated there stays there", %{node: node} do
    {result, globals} = Pythonx.remote_eval(node, "x = 1\nx", %{})
    assert inspect(result) == "#Pythonx.Object<\n  [node: #{node}]\n  1\n>"
    assert inspect(globals["x"]) == inspect(result)
    assert {nil, %{}} = Pythonx.remote_eval(node, "pass", %{})

    # It goes into evaluations there as it is.
    {same, _} = Pythonx.remote_eval(node, "x is y", %{"x" => result, "y" => globals["x"]})
    assert Pythonx.decode(Pythonx.copy_remote_object(same)) == true
  end

  test "and is released there when nobody here holds it any more", %{node: node} do
    {_, globals} =
      Pythonx.remote_eval(node, "import weakref\nclass Thing: pass\nthings = weakref.WeakSet()", %{})

    globals = Map.take(globals, ["Thing", "things"])
    # What another evaluation has is of no matter: this process holds it alone.
    {thing, _} = Pythonx.remote_eval(node, "thing = Thing()\nthings.add(thing)\nthing", globals)

    count = fn ->
      {count, _} = Pythonx.remote_eval(node, "import gc\ngc.collect()\nlen(things)", globals)
      :erpc.call(node, Pythonx, :decode, [count])
    end

    :erpc.call(node, :erlang, :garbage_collect, [])
    assert count.() == 1
    assert inspect(thing) =~ "Thing object"
    # From here on nothing holds it.
    assert hd(List.flatten([thing])) == thing

    eventually(fn ->
      :erlang.garbage_collect()
      count.() == 0
    end)
  end

  test "what it prints comes here", %{node: node} do
    assert capture_io(fn -> Pythonx.remote_eval(node, "print('from there')", %{}) end) == "from there\n"
  end

  test "objects in the globals are copied, at any depth", %{node: node} do
    {one, _} = Pythonx.eval("[1]", %{})
    {result, globals} = Pythonx.remote_eval(node, "one + more[0]", %{"one" => one, "more" => [one]})
    assert inspect(result) =~ "[1, 1]"
    assert inspect(globals["one"]) == "#Pythonx.Object<\n  [node: #{node}]\n  [1]\n>"
  end

  test "an error comes with its objects and lines", %{node: node} do
    error =
      assert_raise(Pythonx.Error, ~r/ZeroDivisionError/, fn -> Pythonx.remote_eval(node, "1 / 0", %{}) end)

    assert inspect(error.value) =~ "[node: #{node}]\n  ZeroDivisionError"

    assert_raise ArgumentError, ~r/names of globals/, fn -> Pythonx.remote_eval(node, "1", %{a: 1}) end
  end

  test "a copy is an object of this node", %{node: node} do
    {result, _} = Pythonx.remote_eval(node, "{'a': (1, b'b')}", %{})
    copy = Pythonx.copy_remote_object(result)
    assert Pythonx.decode(copy) == %{"a" => {1, "b"}}
    assert Pythonx.copy_remote_object(copy) == copy

    {lock, _} = Pythonx.remote_eval(node, "import threading\nthreading.Lock()", %{})
    error = assert_raise(ArgumentError, fn -> Pythonx.copy_remote_object(lock) end)
    assert Exception.message(error) =~ "cloudpickle"
    assert Exception.message(error) =~ "cannot pickle '_thread.lock' object"
  end

  test "an object of another node is not taken for one of this", %{node: node} do
    {result, _} = Pythonx.remote_eval(node, "1", %{})
    advice = ~r/Pythonx.copy_remote_object/
    assert_raise Protocol.UndefinedError, advice, fn -> Pythonx.encode!(result) end
    assert_raise Protocol.UndefinedError, advice, fn -> Pythonx.eval("x", %{"x" => [result]}) end
    assert_raise ArgumentError, advice, fn -> Pythonx.decode(result) end
  end

  test "a node that is not there is an exit, as of any process", _context do
    assert catch_exit(Pythonx.remote_eval(:"nobody@127.0.0.1", "1", %{})) |> inspect() =~ "noconnection"
  end

  test "a group leader on another node gets what is printed, of threads as well", %{node: node} do
    {:ok, holder} = :erpc.call(node, Agent, :start, [StringIO, :open, [""]])
    {:ok, device} = :sys.get_state(holder)

    code =
      "import threading\nprint('here')\nthread = threading.Thread(target=print, args=['thread'])\nthread.start()\nthread.join()"

    Task.async(fn ->
      Process.group_leader(self(), device)
      Pythonx.eval(code, %{})
    end)
    |> Task.await(:infinity)

    assert StringIO.contents(device) == {"", "here\nthread\n"}
  end

  test "a process of another node is a receiver, and comes back as it is", %{node: node} do
    pid = :erpc.call(node, Process, :whereis, [:init])
    {same, _} = Pythonx.eval("pid", %{"pid" => pid})
    assert Pythonx.decode(same) == pid

    test = self()

    {_, _} =
      Pythonx.remote_eval(node, "import pythonx\npythonx.send_tagged_object(pid, 'far', 1)", %{"pid" => test})

    assert_receive {:far, object}
    assert inspect(object) =~ "[node: #{node}]"
  end
end
