defmodule Typhon.NodesHelper do
  @moduledoc "Other nodes of the BEAM, on this machine, and what tests have done there."

  import ExUnit.Assertions
  import ExUnit.Callbacks

  @host "127.0.0.1"

  @doc "This node gets a name, until the tests of the module are over."
  def distribute do
    # Starts what knows the ports of nodes, where it does not run yet.
    {_, 0} = System.cmd("epmd", ["-daemon"], env: [{"ERL_EPMD_ADDRESS", @host}])
    Application.put_env(:kernel, :inet_dist_use_interface, {127, 0, 0, 1})
    name = :"typhon-tests-#{System.pid()}@#{@host}"
    {:ok, _} = :net_kernel.start([name, :longnames])
    on_exit(fn -> :net_kernel.stop() end)
    :ok
  end

  @doc """
  Starts a node that knows all modules and runs Typhon, unless the options say otherwise: `typhon: false`, `paths:`, `name:`. It
  is a hidden one, for `global` parts nodes that do not all see each other.
  """
  def start_node(options \\ []) do
    paths = Keyword.get(options, :paths, :code.get_path())
    name = Keyword.get_lazy(options, :name, fn -> :peer.random_name(~c"typhon") end)
    interface = ~w(-hidden -kernel inet_dist_use_interface {127,0,0,1})c
    cookie = [~c"-setcookie", Atom.to_charlist(Node.get_cookie())]

    {:ok, peer, node} =
      :peer.start(%{
        name: name,
        host: to_charlist(@host),
        longnames: true,
        args: interface ++ cookie ++ Enum.flat_map(paths, &[~c"-pa", &1]),
        wait_boot: Typhon.TestHelper.limit()
      })

    on_exit(fn -> stop_node(peer) end)

    if Keyword.get(options, :typhon, true) do
      for key <- [:isolation, :engine, :shutdown],
          do: :erpc.call(node, Application, :put_env, [:typhon, key, Application.get_env(:typhon, key)])

      {:ok, _} = :erpc.call(node, Application, :ensure_all_started, [:typhon])
    end

    %{node: node, name: name}
  end

  def stop_node(peer) do
    :peer.stop(peer)
  catch
    :exit, _ -> :ok
  end

  @doc "As a machine that fails: nothing is said any more."
  def kill_node(node) do
    {_, 0} = System.cmd("kill", ["-9", :erpc.call(node, System, :pid, [])])
    :ok
  end

  @doc """
  A process of that node that calls a function and holds its result, which is sent to this process; until drop/1, or the end of
  this process. It is the only one there that holds it.
  """
  def hold(node, module, function, args) do
    pid = Node.spawn(node, __MODULE__, :holder, [self(), module, function, args])
    assert_receive {^pid, result}, Typhon.TestHelper.limit()
    {pid, result}
  end

  def drop(pid) do
    monitor = Process.monitor(pid)
    send(pid, :drop)
    assert_receive {:DOWN, ^monitor, _, _, _}, Typhon.TestHelper.limit()
    :ok
  end

  def holder(parent, module, function, args) do
    Process.monitor(parent)
    result = apply(module, function, args)
    send(parent, {self(), result})
    serve(result)
  end

  # Whoever holds something there can be asked to do more.
  defp serve(held) do
    receive do
      {:run, from, module, function, args} ->
        send(from, {self(), apply(module, function, args)})
        serve(held)

      :drop ->
        held

      {:DOWN, _, _, _, _} ->
        held
    end
  end

  @doc "Has the holder call a function."
  def run(pid, module, function, args) do
    send(pid, {:run, self(), module, function, args})
    assert_receive {^pid, result}, Typhon.TestHelper.limit()
    result
  end

  @doc "A pool of that node; the process is linked to one there that lives as long as the node does."
  def start_pool(node, options \\ []) do
    options =
      Keyword.merge(
        [
          workers: 1,
          python_path: [Typhon.TestHelper.py_dir()],
          stdio: :discard,
          start_timeout: Typhon.TestHelper.limit()
        ],
        options
      )

    {_holder, {:ok, py}} = hold(node, Typhon, :start_link, [options])
    py
  end

  @doc "For hold/4: a scope that is made in a session, which ends then."
  def scope_of_session(py), do: Typhon.run!(py, &Typhon.scope(&1, x: 1))

  @doc "A handle that one process of the node holds: it, and the handle."
  def object(node, py, function \\ "Counted", args \\ []) do
    {holder, {:ok, object}} = hold(node, Typhon, :call, [py, :nodes, function, args])
    {object, holder}
  end
end
