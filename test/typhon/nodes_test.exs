defmodule Typhon.NodesTest do
  # This node gets a name meanwhile.
  use ExUnit.Case, async: false

  import Typhon.NodesHelper, except: [start_pool: 1, start_pool: 2]
  import Typhon.TestHelper, only: [eventually: 1, gate: 0]

  alias Typhon.{EncodeError, NodesHelper, PoolError, PythonError, TimeoutError, WorkerError}

  setup_all do
    distribute()
    %{node: node} = start_node()
    %{node: node, py: NodesHelper.start_pool(node)}
  end

  defp there(py), do: :erpc.call(node(py), Typhon, :call!, [py, :nodes, :there, []])
  defp leases(py), do: :erpc.call(node(py), Typhon.Leases, :count, [py])

  # Nobody holds anything any more.
  defp eventually_gone(py), do: eventually(fn -> there(py) == 0 and leases(py) == 0 end)

  defp in_process(fun) do
    test = self()
    pid = spawn(fn -> send(test, {self(), fun.()}) && Process.sleep(:infinity) end)
    assert_receive {^pid, result}, Typhon.TestHelper.limit()
    {pid, result}
  end

  describe "an object of another node" do
    test "is used where it lives", %{node: node, py: py} do
      {object, holder} = object(node, py)
      assert node(object.pool) == node

      assert {:ok, "counted"} = Typhon.get(object, :text)
      assert :ok = Typhon.set(object, :text, "other")
      assert "other" = Typhon.get!(object, "text")
      assert :ok = Typhon.delete(object, :text)
      assert {:error, %PythonError{type: "AttributeError"} = error} = Typhon.get(object, :text)
      assert Exception.message(error) =~ "in Typhon.get"

      assert {:ok, "<nodes.Counted object" <> _} = Typhon.repr(object)
      assert "nodes.Counted" = Typhon.type(object)
      assert {:ok, names} = Typhon.dir(object)
      assert "twin" in names
      assert {:ok, nil} = Typhon.doc(object)
      assert {:ok, []} = Typhon.chain(object, get: "left", call: {"copy", []})
      assert {:ok, %{data: %{"text/plain" => _}}} = Typhon.render(object)
      assert {:error, %EncodeError{type: "nodes.Counted"}} = Typhon.to_term(object)
      path = Path.join(System.tmp_dir!(), "typhon-nodes-#{System.unique_integer([:positive])}.txt")
      assert :ok = Typhon.save(object, path)
      assert "<nodes.Counted" <> _ = File.read!(path)
      File.rm!(path)
      assert inspect(object) == "#Typhon.Object<nodes.Counted>"
      assert :ok = Typhon.cast(py, object, :say, ["nothing"])
      drop(holder)
    end

    test "is a container, or a function", %{node: node, py: py} do
      {holder, {:ok, list}} = hold(node, Typhon, :call, [py, :builtins, :list, [[1, 2]], [as: :object]])
      assert {:ok, 2} = Typhon.len(list)
      assert {:ok, 2} = Typhon.item(list, -1)
      assert :ok = Typhon.put_item(list, 0, %{"a" => Date.new!(2026, 1, 2)})
      assert {:ok, [%{"a" => ~D[2026-01-02]}, 2]} = Typhon.to_term(list)
      assert [%{"a" => _}, 2] = list |> Typhon.stream() |> Enum.to_list()
      assert {:error, %EncodeError{path: "value[0]"}} = Typhon.put_item(list, 0, [<<255>>])
      assert {:error, %EncodeError{path: "value", type: URI}} = Typhon.put_item(list, 0, URI.parse("a"))
      drop(holder)

      {holder, {:ok, second}} = hold(node, Typhon, :call, [py, :operator, :itemgetter, [1]])
      assert {:ok, "b"} = Typhon.call(second, [["a", "b"]])
      assert [{:ok, "b"}] = [Typhon.async(py, second, :__call__, [["a", "b"]])] |> Task.await_many()
      drop(holder)
    end

    test "is known again at home", %{node: node, py: py} do
      {object, holder} = object(node, py)
      assert Typhon.same?(object, object)
      {:ok, again} = Typhon.get(object, "__init__.__self__")
      {:ok, twin} = Typhon.call(py, object, :twin, [])
      assert Typhon.same?(object, again)
      refute Typhon.same?(object, twin)

      # An argument goes home, too, and is the object itself there.
      assert {:ok, true} = Typhon.call(py, object, :__eq__, [again])
      assert run(holder, Typhon, :get, [object, :text]) == {:ok, "counted"}
      Enum.each([again, twin], &Typhon.release/1)
      drop(holder)
      eventually_gone(py)
    end

    test "calls functions of the calling process", %{node: node, py: py} do
      {object, holder} = object(node, py)
      Process.put(:mine, "mine")

      assert {:ok, {"mine", 3, true}} =
               Typhon.call(py, object, :apply, [
                 fn a, b -> {Process.get(:mine), a + b, node() == node(self())} end,
                 1,
                 2
               ])

      # A call in a function goes to the worker that waits for it.
      assert {:ok, "counted"} = Typhon.call(py, object, :apply, [fn -> Typhon.get!(object, :text) end])
      in_task = fn -> py |> Typhon.async(object, :give, [1]) |> Typhon.await() end
      assert {:ok, {:ok, %{"function" => 1}}} = Typhon.call(py, object, :apply, [in_task])
      assert {:ok, "COUNTED"} = Typhon.call(py, object, :apply, [&String.upcase/1, "counted"])

      # What Python does not call comes back, as it was.
      function = fn -> :same end
      assert {:ok, %{"function" => ^function}} = Typhon.call(py, object, :give, [function])

      # A function gives another one.
      assert {:ok, 5} =
               Typhon.call(py, object, :apply, [fn f -> f end, fn n -> n + 1 end])
               |> then(fn {:ok, f} -> {:ok, f.(4)} end)

      assert {:error, %PythonError{message: message}} =
               Typhon.call(py, object, :apply, [fn -> raise "mine" end])

      assert message =~ "mine"

      assert {:error, %PythonError{message: message}} =
               Typhon.call(py, object, :apply, [fn -> throw(:ball) end])

      assert message =~ "ball"
      drop(holder)
    end

    test "pulls from an enumerable of the calling process", %{node: node, py: py} do
      {object, holder} = object(node, py)
      test = self()

      numbers =
        Stream.resource(
          fn -> 1 end,
          fn n -> {[{self() == test, n}], n + 1} end,
          fn _ -> send(test, :halted) end
        )

      assert {:ok, [{true, 1}, {true, 2}, {true, 3}]} =
               Typhon.call(py, object, :first, [Typhon.iter(numbers), 3])

      assert_received :halted
      assert {:ok, [~D[2026-01-02]]} = Typhon.call(py, object, :first, [Typhon.iter([~D[2026-01-02]]), 3])

      assert {:error, %PythonError{message: message}} =
               Typhon.call(py, object, :first, [Typhon.iter(Stream.map([1], fn _ -> raise "mine" end)), 1])

      assert message =~ "mine"

      assert {:error, %PythonError{message: message}} =
               Typhon.call(py, object, :first, [Typhon.iter([URI.parse("a")]), 1])

      assert message =~ "URI is a struct without an implementation of Typhon.Encoder"
      assert [] = for({{Typhon.Iter, _}, _} <- Process.get(), do: 1)
      drop(holder)
    end

    test "is refused by a node that speaks otherwise" do
      {pid, monitor} = spawn_monitor(Typhon.Remote.Server, :serve, [0, self(), make_ref(), :anything])
      assert_receive {:DOWN, ^monitor, :process, ^pid, {:typhon, :other_version}}, Typhon.TestHelper.limit()
    end

    test "is told who calls", %{node: node, py: py} do
      {object, holder} = object(node, py)
      assert {:ok, nil} = Typhon.call(py, object, :tell, ["hello"])
      assert_receive "hello", Typhon.TestHelper.limit()
      drop(holder)
    end

    test "prints where the caller's output goes, and needs no Typhon that runs here", %{node: node, py: py} do
      {object, holder} = object(node, py)
      print = fn -> assert {:ok, nil} = Typhon.call(py, object, :say, ["hello"], stdio: :group_leader) end
      assert ExUnit.CaptureIO.capture_io(print) == "hello\n"

      %{node: idle} = start_node(typhon: false)
      assert {_there, {:ok, "counted"}} = hold(idle, Typhon, :get, [object, :text])
      drop(holder)
    end

    test "says what cannot be lent", %{node: node, py: py} do
      {object, holder} = object(node, py)
      many = Code.eval_string("fn #{Enum.map_join(1..17, ", ", &"_#{&1}")} -> 1 end") |> elem(0)
      assert {:error, %EncodeError{path: "args[0][1]"} = error} = Typhon.call(py, object, :give, [[1, many]])
      assert Exception.message(error) =~ "at most 16 arguments"

      assert {:error, %EncodeError{} = error} = Typhon.cast(py, object, :give, [fn -> 1 end])
      assert Exception.message(error) =~ "nobody waits for a cast"
      drop(holder)
    end

    test "ends at its deadline, and leaves nothing behind", %{node: node, py: py} do
      {object, holder} = object(node, py)

      assert {:error, %TimeoutError{timeout: 100} = error} =
               Typhon.call(py, object, :sleep, [gate()], timeout: 100)

      assert Exception.message(error) =~ "sleep"
      assert {:ok, "counted"} = Typhon.get(object, :text)
      assert {:messages, []} = Process.info(self(), :messages)
      drop(holder)
    end

    test "streams, and stops where it is stopped", %{node: node, py: py} do
      {object, holder} = object(node, py)
      assert Enum.to_list(0..4999) == py |> Typhon.stream(object, :count, [5_000]) |> Enum.to_list()
      assert {:ok, ["count"]} = Typhon.get(object, :left)
      assert [0, 1, 2] = py |> Typhon.stream(object, :count, [1_000_000], batch: 2) |> Enum.take(3)
      eventually(fn -> Typhon.get!(object, :left) == ["count", "count"] end)
      assert_raise PythonError, ~r/TypeError/, fn -> object |> Typhon.stream() |> Enum.to_list() end

      # A function of the caller, in two batches and more.
      Process.put(:mine, 10)
      mapped = Typhon.stream(py, object, :mapped, [fn n -> n * Process.get(:mine) end, 5], batch: 2)
      assert [0, 10, 20, 30, 40] = Enum.to_list(mapped)

      # The process of the consumer ends.
      {pid, [0]} =
        in_process(fn -> py |> Typhon.stream(object, :count, [1_000_000], batch: 1) |> Enum.take(1) end)

      Process.exit(pid, :kill)
      eventually(fn -> length(Typhon.get!(object, :left)) == 3 end)

      # What comes is leased.
      twins = py |> Typhon.stream(object, :twins, [3]) |> Enum.to_list()
      assert Enum.map(twins, &Typhon.get!(&1, :text)) == List.duplicate("counted", 3)
      Enum.each(twins, &Typhon.release/1)

      # Those of a batch that are not taken are not kept.
      assert [twin] = py |> Typhon.stream(object, :twins, [3], batch: 3) |> Enum.take(1)
      assert leases(py) == 1
      assert :ok = Typhon.release(twin)
      assert {:messages, []} = Process.info(self(), :messages)
      drop(holder)
      eventually_gone(py)
    end

    test "is entered", %{node: node, py: py} do
      {object, holder} = object(node, py)
      assert {:ok, "counted"} = Typhon.enter(object, &Typhon.get!(&1, :text))
      assert_raise RuntimeError, "mine", fn -> Typhon.enter(object, fn _ -> raise "mine" end) end
      assert {:ok, ["in", "out", "in", "BeamError"]} = Typhon.get(object, :left)

      {pid, :entered} =
        in_process(fn ->
          test = self()

          spawn_link(fn ->
            Typhon.enter(object, fn _ -> send(test, :entered) && Process.sleep(:infinity) end)
          end)

          receive do
            :entered -> :entered
          end
        end)

      Process.exit(pid, :kill)
      eventually(fn -> length(Typhon.get!(object, :left)) == 6 end)
      drop(holder)
    end

    test "is a scope", %{node: node, py: py} do
      {holder, {:ok, scope}} = hold(node, Typhon, :scope, [py, %{x: 1}])
      assert {:ok, 2} = Typhon.eval(scope, "x + 1")
      assert {:ok, 3} = Typhon.eval(scope, "f(x)", f: fn x -> x + 2 end)
      assert :ok = Typhon.put(scope, :y, [5])
      assert {:ok, [5]} = Typhon.get(scope, :y)
      assert :ok = Typhon.delete(scope, :y)
      assert "x" in Typhon.names!(scope)
      assert {:ok, fork} = Typhon.scope(scope, z: 1)
      assert {:ok, 2} = Typhon.eval(fork, "x + z")
      assert {:ok, ^fork} = Typhon.lease(fork)
      assert :ok = Typhon.release(fork)
      assert {:error, %PythonError{type: "NameError"}} = Typhon.get(scope, :nothing)
      drop(holder)

      eventually(fn ->
        match?({:error, %EncodeError{}}, Typhon.eval(scope, "x")) and
          Exception.message(elem(Typhon.eval(scope, "x"), 1)) =~ "nobody on #{node} held it"
      end)
    end

    test "of a session is used after the session, as at home", %{node: node, py: py} do
      {holder, {:ok, scope}} = hold(node, NodesHelper, :scope_of_session, [py])
      assert {:ok, 1} = Typhon.eval(scope, "x")
      drop(holder)
    end

    test "cannot be an argument of a Python here, nor one of here an argument there", %{node: node, py: py} do
      here = Typhon.TestHelper.start_pool()
      {object, holder} = object(node, py)
      {:ok, local} = Typhon.call(here, :nodes, :Counted, [])

      assert {:error, %EncodeError{path: "args[0]"} = error} = Typhon.call(py, object, :give, [local])
      assert Exception.message(error) =~ "it lives on the node #{node()}, and the call goes to #{node}"

      assert {:error, %EncodeError{path: "args[0][\"a\"]"} = error} =
               Typhon.call(here, :builtins, :id, [%{"a" => object}])

      assert Exception.message(error) =~ "it lives on the node #{node}"
      assert [{:error, %EncodeError{} = error}] = Typhon.multi(here, [{object, :twin, []}])
      assert Exception.message(error) =~ "it lives on the node #{node}"

      refute Typhon.same?(object, local)
      drop(holder)
    end
  end

  describe "lease/2" do
    test "keeps an object that nobody holds there", %{node: node, py: py} do
      {object, holder} = object(node, py)
      assert {:ok, ^object} = Typhon.lease(object)
      assert object == Typhon.lease!(object)
      drop(holder)
      assert {:ok, "counted"} = Typhon.get(object, :text)
      assert leases(py) == 1
      assert {:ok, %{leases: 1}} = :erpc.call(node, Typhon, :info, [py])

      assert :ok = Typhon.release(object)
      assert :ok = Typhon.release(object)
      eventually_gone(py)
      assert {:error, %EncodeError{} = error} = Typhon.get(object, :text)

      assert Exception.message(error) =~
               "the object has been released: nobody on #{node} held it. Take a lease while somebody does: Typhon.lease(object)"

      # Sent home it is no more than it is here.
      assert {:error, %EncodeError{} = error} = :erpc.call(node, Typhon, :get, [object, :text])
      assert Exception.message(error) =~ "or one that has been released since"
      assert {:error, %EncodeError{}} = Typhon.lease(object)

      assert_raise EncodeError, ~r/^the object has been released: nobody on/, fn ->
        object |> Typhon.stream() |> Enum.to_list()
      end

      {other, holder} = object(node, py)
      assert {:error, %EncodeError{} = error} = Typhon.call(py, other, :give, [object])

      assert Exception.message(error) =~
               "an object among the arguments has been released: nobody on #{node} held it"

      drop(holder)
      assert_raise EncodeError, ~r/released/, fn -> Typhon.same?(object, %{object | ref: make_ref()}) end
    end

    test "is taken by the sender, for the process that gets the object", %{node: node, py: py} do
      test = self()

      receiver =
        spawn(fn ->
          receive(do: ({:object, object} -> send(test, Typhon.get(object, :text)))) &&
            Process.sleep(:infinity)
        end)

      {object, holder} = object(node, py)
      assert {:ok, _} = run(holder, Typhon, :lease, [object, receiver])
      drop(holder)
      send(receiver, {:object, object})
      assert_receive {:ok, "counted"}, Typhon.TestHelper.limit()
      assert leases(py) == 1
      Process.exit(receiver, :kill)
      eventually_gone(py)
    end

    test "ends with its holder, whoever else has one", %{node: node, py: py} do
      {object, holder} = object(node, py)
      {pid, {:ok, _}} = in_process(fn -> Typhon.lease(object) end)
      assert {:ok, _} = Typhon.lease(object)
      assert leases(py) == 2
      drop(holder)
      Process.exit(pid, :kill)
      eventually(fn -> leases(py) == 1 end)
      assert {:ok, "counted"} = Typhon.get(object, :text)
      Typhon.release(object)
      eventually_gone(py)
    end

    test "is there for what a call returns", %{node: node, py: py} do
      {object, holder} = object(node, py)
      {:ok, twin} = Typhon.call(py, object, :twin, [])
      assert {:ok, %{"function" => [inner]}} = Typhon.call(py, object, :give, [[twin]])
      assert leases(py) == 2
      assert {:ok, "counted"} = Typhon.get(twin, :text)
      assert {:ok, mine} = py |> Typhon.async(object, :twin, []) |> Task.await()
      assert {:ok, "counted"} = Typhon.get(mine, :text)

      assert [%{"function" => 1}, %{"function" => mapped}] =
               py |> Typhon.map(object, :give, [1, twin]) |> Enum.to_list()

      assert {:ok, "counted"} = Typhon.get(mapped, :text)
      drop(holder)
      Enum.each([twin, inner, mine, mapped], &Typhon.release/1)
      eventually_gone(py)
    end

    test "ends with the node of its holder", %{node: node, py: py} do
      %{node: other} = start_node()
      {object, holder} = object(node, py)
      {_there, {:ok, _}} = hold(other, Typhon, :lease, [object])
      drop(holder)
      assert leases(py) == 1
      kill_node(other)
      eventually_gone(py)
    end

    test "ends with the pool, and that of a worker which was replaced says so", %{node: node} do
      py = NodesHelper.start_pool(node)
      {object, holder} = object(node, py)
      Typhon.lease!(object)
      drop(holder)
      assert :ok = :erpc.call(node, Typhon, :restart, [py])
      assert {:error, %WorkerError{reason: :replaced}} = Typhon.get(object, :text)
      assert leases(py) == 1
      assert :ok = Typhon.release(object)

      {object, holder} = object(node, py)
      Typhon.lease!(object)
      drop(holder)
      assert :ok = :erpc.call(node, Typhon, :stop, [py])
      assert {:error, %PoolError{reason: :stopped}} = Typhon.get(object, :text)
      eventually(fn -> leases(py) == 0 end)
      assert :ok = Typhon.release(object)
    end

    test "holds on this node, too" do
      py = Typhon.TestHelper.start_pool()

      {pid, bytes} =
        in_process(fn ->
          py |> Typhon.call!(:nodes, :Counted, []) |> Typhon.lease!() |> :erlang.term_to_binary()
        end)

      object = :erlang.binary_to_term(bytes)
      assert {:ok, "counted"} = Typhon.get(object, :text)
      assert {:ok, %{leases: 1}} = Typhon.info(py)
      assert :ok = Typhon.release(object, pid)
      assert {:ok, %{leases: 0}} = Typhon.info(py)
      assert {:error, %PoolError{reason: {:too_many_leases, _, _}}} = too_many(object)
      Process.exit(pid, :kill)
    end

    test "refuses what is no object" do
      assert_raise ArgumentError, ~r/Typhon.lease\/2 takes a Typhon.Object, got 1/, fn -> Typhon.lease(1) end

      assert_raise ArgumentError, ~r/Typhon.release\/2 takes a Typhon.Object, got 1/, fn ->
        Typhon.release(1)
      end

      assert {:error, %EncodeError{}} = Typhon.lease(Typhon.Test.object("a.B"))
    end
  end

  # As many as one process may have: by rows that look like handles.
  defp too_many(object) do
    handles = for _ <- 1..Typhon.Leases.most(), do: %{object | ref: make_ref()}
    :ok = Typhon.Leases.take(handles, self())
    result = Typhon.lease(object)
    Typhon.Leases.release(handles, self())
    result
  end

  defp stopped?(stat), do: File.read!(stat) =~ ~r/\) T /

  describe "a node that is gone" do
    test "is told of, in the middle of a call and later" do
      %{node: node} = start_node()
      py = NodesHelper.start_pool(node)
      {object, _holder} = object(node, py)
      path = gate()
      task = Task.async(fn -> Typhon.call(py, object, :sleep, [path], timeout: :infinity) end)
      eventually(fn -> File.exists?(path) end)
      kill_node(node)
      assert {:error, %PoolError{reason: {:node_down, ^node}} = error} = Task.await(task, :infinity)
      assert Exception.message(error) =~ "the node #{inspect(node)}, where the object lives, is gone"
      assert {:error, %PoolError{reason: {:node_down, ^node}}} = Typhon.get(object, :text)
      assert {:error, %PoolError{reason: {:node_down, ^node}}} = Typhon.lease(object)
      assert :ok = Typhon.release(object)
      assert_raise PoolError, ~r/is gone/, fn -> object |> Typhon.stream() |> Enum.to_list() end
      assert inspect(object) == "#Typhon.Object<nodes.Counted>"
    end

    test "is not taken for one that has its name later" do
      %{node: node, name: name} = start_node()
      py = NodesHelper.start_pool(node)
      {object, _holder} = object(node, py)
      kill_node(node)
      eventually(fn -> node not in Node.list(:connected) end)
      %{node: ^node} = start_node(name: name)
      assert {:error, %PoolError{reason: :stopped}} = Typhon.get(object, :text)
      assert {:error, %EncodeError{}} = Typhon.lease(object)
    end

    test "or says nothing any more, ends no call late" do
      %{node: node} = start_node()
      py = NodesHelper.start_pool(node)
      {object, _holder} = object(node, py)
      os_pid = :erpc.call(node, System, :pid, [])
      on_exit(fn -> System.cmd("kill", ["-CONT", os_pid]) end)
      {_, 0} = System.cmd("kill", ["-STOP", os_pid])
      # Each of its threads stops when it sees the signal.
      eventually(fn -> Enum.all?(Path.wildcard("/proc/#{os_pid}/task/*/stat"), &stopped?/1) end)
      assert {:error, %TimeoutError{timeout: 50, function: "get"}} = Typhon.get(object, :text, timeout: 50)
      {_, 0} = System.cmd("kill", ["-CONT", os_pid])
      assert {:ok, "counted"} = Typhon.get(object, :text)
      assert {:messages, []} = Process.info(self(), :messages)
    end

    test "or has no Typhon is told of", %{py: py, node: node} do
      {object, holder} = object(node, py)
      %{node: bare} = start_node(typhon: false, paths: [])
      # As if its pool lived there.
      object = %{object | pool: :erpc.call(bare, :erlang, :self, [])}
      assert {:error, %PoolError{reason: {:other_version, ^bare}} = error} = Typhon.get(object, :text)
      assert Exception.message(error) =~ "has no Typhon that understands the one of #{inspect(node())}"

      %{node: idle} = start_node(typhon: false)
      object = %{object | pool: :erpc.call(idle, :erlang, :self, [])}
      assert {:error, %PoolError{reason: {:not_running, ^idle}} = error} = Typhon.get(object, :text)
      assert Exception.message(error) =~ "the application :typhon is not running on the node #{inspect(idle)}"
      drop(holder)
    end

    test "and a caller that ends give up what runs there", %{node: node, py: py} do
      {object, holder} = object(node, py)
      path = gate()
      pid = spawn(fn -> Typhon.call(py, object, :sleep, [path], timeout: :infinity) end)
      eventually(fn -> File.exists?(path) end)
      Process.exit(pid, :kill)
      assert {:ok, "counted"} = Typhon.get(object, :text)
      drop(holder)
    end
  end

  describe "pools of other nodes" do
    test "are not called by their names", %{py: py, node: node} do
      assert {:error, %PoolError{reason: {:remote, ^node}}} = Typhon.call(py, :math, :sqrt, [1])
    end
  end
end
