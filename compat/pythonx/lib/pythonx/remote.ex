defmodule Pythonx.Remote do
  @moduledoc false
  # Objects of other nodes. A handle lives on the node of its Python, and is released when no process there holds it. So this
  # process holds it there while the other node does: the struct there has a note in it (Typhon.Native.notifier/2), whose end that
  # node's process hears of.

  use GenServer

  alias Pythonx.{Error, Evaluation, Object, Python}

  # --- evaluating elsewhere ---

  @spec eval(node, String.t(), map, pid, pid) :: Pythonx.result()
  def eval(node, code, globals, stdout, stderr) do
    {:ok, _} = Application.ensure_all_started(:pythonx)
    ref = make_ref()

    {server, monitor} =
      Node.spawn_monitor(node, __MODULE__, :serve, [self(), ref, code, globals, stdout, stderr])

    receive do
      {^ref, answer} ->
        answer = hold(answer)
        send(server, {ref, :held})
        Process.demonitor(monitor, [:flush])
        with {:error, error} <- answer, do: raise(error), else: ({:ok, result} -> result)

      {:DOWN, ^monitor, :process, _, reason} ->
        exit({reason, {Pythonx, :remote_eval, [node, code, globals]}})
    end
  end

  @doc false
  def serve(caller, ref, code, globals, stdout, stderr) do
    end_with(caller)

    answer =
      try do
        {:ok, Evaluation.run(code, globals, stdout, stderr, &encode/2)}
      rescue
        error -> {:error, error}
      end

    send(caller, {ref, answer})

    receive do
      # Its handles are held until here.
      {^ref, :held} -> answer
    end
  end

  defp end_with(caller) do
    server = self()

    spawn(fn ->
      Process.monitor(caller)
      Process.monitor(server)

      receive do
        {:DOWN, _, :process, _, _} -> Process.exit(server, :kill)
      end
    end)
  end

  defp encode(%Object{} = object, _encoder), do: copy(object)
  defp encode(term, encoder), do: Pythonx.Encoder.encode(term, encoder)

  # --- copies ---

  @spec copy(Object.t()) :: Object.t()
  def copy(object) do
    node = Object.node_of(object)

    if node == node() do
      object
    else
      case :erpc.call(node, __MODULE__, :dump, [object]) do
        {:ok, pickle} -> Object.new(Python.call!("load", [%Typhon.Bytes{data: pickle}]))
        {:error, message} -> raise ArgumentError, message
      end
    end
  end

  @doc false
  @spec dump(Object.t()) :: {:ok, binary} | {:error, String.t()}
  def dump(object) do
    {_module, pickle} = Python.call!("dump", [object.resource])
    {:ok, pickle}
  rescue
    error in Error ->
      {:error,
       "the object cannot be copied to another node, as pickle refuses it. With the package cloudpickle among the project's " <>
         "dependencies more can be copied, such as lambdas and functions of the code.\n\n" <>
         Exception.message(error)}
  end

  # --- holding ---

  @doc "The same, with its objects held on their node while this one holds them."
  @spec hold(term) :: term
  def hold({:ok, {value, globals}}),
    do: {:ok, {value && hold(value), Map.new(globals, fn {name, object} -> {name, hold(object)} end)}}

  def hold({:error, %Error{} = error}),
    do:
      {:error, %{error | type: hold(error.type), value: hold(error.value), traceback: hold(error.traceback)}}

  def hold(%Object{remote_info: nil, resource: resource} = object) do
    owner = Object.node_of(object)

    if owner == node() do
      object
    else
      here = Process.whereis(__MODULE__)
      there = GenServer.call({__MODULE__, owner}, {:hold, resource, here}, :infinity)
      %{object | remote_info: Typhon.Native.notifier(here, {:let_go, there, resource.ref})}
    end
  end

  def hold(other), do: other

  @spec start_link(term) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  # By the process of the other node: its monitor, and how often it holds each handle.
  @impl true
  def init(_), do: {:ok, %{}}

  @impl true
  def handle_call({:hold, object, holder}, _from, holders) do
    {monitor, held} = Map.get_lazy(holders, holder, fn -> {Process.monitor(holder), %{}} end)
    held = Map.update(held, object.ref, 1, &(&1 + 1))
    {:reply, self(), Map.put(holders, holder, {monitor, held})}
  end

  @impl true
  # On the node that held it: it is garbage there.
  def handle_info({:let_go, owner, ref}, holders) do
    send(owner, {:released, ref, self()})
    {:noreply, holders}
  end

  def handle_info({:released, ref, holder}, holders) do
    case holders do
      %{^holder => {monitor, %{^ref => 1} = held}} ->
        {:noreply, Map.put(holders, holder, {monitor, Map.delete(held, ref)}), {:continue, :collect}}

      %{^holder => {monitor, %{^ref => count} = held}} ->
        {:noreply, Map.put(holders, holder, {monitor, %{held | ref => count - 1}})}

      _ ->
        {:noreply, holders}
    end
  end

  def handle_info({:DOWN, _, :process, holder, _}, holders),
    do: {:noreply, Map.delete(holders, holder), {:continue, :collect}}

  # What nothing here holds any more is released.
  @impl true
  def handle_continue(:collect, holders) do
    :erlang.garbage_collect()
    {:noreply, holders}
  end
end
