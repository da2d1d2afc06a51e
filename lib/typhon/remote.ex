defmodule Typhon.Remote do
  @moduledoc false
  # What is done with an object whose pool lives on another node: it is done there, by a process that lives for this request
  # (Typhon.Remote.Server), and the calling process waits here for its end, in which the result lies. So nothing that comes too
  # late is left in the mailbox, and a node that goes down is heard of.
  #
  # Functions among the arguments run here meanwhile, in the calling process (Typhon.Remote.Lent). In one of them the calls of
  # this process to that node go to the worker that waits for it, as on one node: what the other side knows of that (`heritage`)
  # is kept under @heritage, and goes back with those calls.
  #
  # A result's handles are held by nobody there. So they are leased, to the calling process or to that one whose task it is.

  require Typhon.Wire

  alias Typhon.{Deadline, EncodeError, Error, Iter, Object, PoolError, Session, Wire}
  alias Typhon.Remote.{Lent, Server}

  # Milliseconds for the way there and back, beyond the deadline of the call itself, which is kept there.
  @margin 2_000
  # For what asks no Python.
  @short 10_000

  @caller {__MODULE__, :caller}
  @heritage {__MODULE__, :heritage}
  @holder {__MODULE__, :holder}

  @enforce_keys [:id, :channel, :pool, :functions]
  defstruct @enforce_keys ++ [pid: nil]

  @typep t :: %__MODULE__{
           id: reference,
           channel: reference,
           pool: pid,
           functions: Lent.functions(),
           pid: pid | nil
         }

  @doc "Whether it is a pool, or an object of a pool, of another node."
  defguard is_remote(pool) when is_pid(pool) and node(pool) != node()

  # Each call passes by here: what is no map, or of no pool, fails as a guard does.
  defguard is_remote_object(object)
           when :erlang.map_get(:__struct__, object) == Object and
                  node(:erlang.map_get(:pool, object)) != node()

  @doc "Who has made the calls of this process: one of another node, when it works for that one."
  @spec caller :: pid
  def caller, do: Process.get(@caller, self())

  @doc "This process works for one of another node."
  @spec work_for(pid) :: :ok
  def work_for(caller) do
    Process.put(@caller, caller)
    Process.put(:"$callers", [caller])
    :ok
  end

  @doc "For a task that works for this process: who holds the leases, and where its calls have to go."
  @spec heritage :: {pid, map}
  def heritage, do: {holder(), Process.get(@heritage, %{})}

  @spec inherit({pid, map}) :: :ok
  def inherit({holder, heritage}) do
    Process.put(@holder, holder)
    Process.put(@heritage, heritage)
    :ok
  end

  defp holder, do: Process.get(@holder, self())

  # --- requests ---

  @spec call(pid, Error.call(), map, Typhon.Options.routing()) :: {:ok, term} | {:error, Error.t()}
  def call(pool, {module, function, args, timeout}, kwargs, routing) do
    Iter.with_references(fn ->
      with {:ok, args, kwargs, functions} <- Lent.lend(args, kwargs, node(pool), %{}) do
        call = {module, function, args, Session.bound(timeout)}

        pool
        |> ask({:call, pool, call, kwargs, routing, inherited(pool, functions)}, functions, call)
        |> whole(timeout)
      end
    end)
  end

  # Not what was left of it.
  defp whole({:error, %Typhon.TimeoutError{} = error}, timeout), do: {:error, %{error | timeout: timeout}}
  defp whole(result, _timeout), do: result

  @spec cast(pid, Error.call(), map, Typhon.Options.routing()) :: :ok | {:error, Error.t()}
  def cast(pool, {module, function, args, timeout}, kwargs, routing) do
    case Iter.with_references(fn -> Lent.lend(args, kwargs, node(pool), %{}) end) do
      {:ok, args, kwargs, functions} when functions == %{} ->
        call = {module, function, args, Session.bound(timeout)}
        ask(pool, {:cast, pool, call, kwargs, routing, inherited(pool, %{})}, %{}, call)

      {:ok, _args, _kwargs, _functions} ->
        reason =
          "a function, or an enumerable, is lent to another node for the time of a call, and nobody waits for a cast"

        {:error, %EncodeError{path: "args", type: nil, reason: reason}}

      error ->
        error
    end
  end

  @spec same?(Object.t(), Object.t()) :: boolean
  def same?(one, other) do
    case ask(one.pool, {:same?, one, other}, %{}, {"Typhon", "same?", [one, other], @short}) do
      {:ok, same} -> same
      {:error, error} -> raise error
    end
  end

  @doc "Native.hold/2, of an object that the result of a call from here has leased: that ends when it is let go."
  @spec hold(Object.t(), boolean) :: :ok
  def hold(object, hold?) do
    ask(object.pool, {:hold, object, hold?}, %{}, {"Typhon", "enter", [object, hold?], @short})
    unless hold?, do: release([object], holder())
    :ok
  end

  @spec lease([Object.t()], pid) :: :ok | {:error, Error.t()}
  def lease([object | _] = objects, holder) do
    if is_remote_object(object),
      do: ask(object.pool, {:lease, objects, holder}, %{}, {"Typhon", "lease", [objects, holder], @short}),
      else: objects |> Server.lease(holder) |> told(object.pool)
  end

  @spec release([Object.t()], pid) :: :ok | {:error, Error.t()}
  def release([object | _] = objects, holder) do
    if is_remote_object(object) do
      call = {"Typhon", "release", [objects, holder], @short}

      case ask(object.pool, {:release, objects, holder}, %{}, call) do
        # The leases have gone with it.
        {:error, %PoolError{reason: {reason, _node}}} when reason in [:node_down, :not_running] -> :ok
        other -> other
      end
    else
      Server.release(objects, holder)
    end
  end

  # --- streams ---

  @doc "The batches that Typhon.Stream fetches there. `source`: what is called, as its open/5 has it."
  @spec stream(pid, {:over, Object.t()} | {:open, term, String.t(), list, map}, map) :: Enumerable.t()
  def stream(pool, source, options),
    do: Stream.resource(fn -> open_stream(pool, source, options) end, &next(&1, options), &close_stream/1)

  defp open_stream(pool, source, options) do
    with {:ok, source, functions} <- lend_source(source, node(pool)) do
      request = {:stream, pool, source, options, inherited(pool, functions)}
      {:asked, open(pool, request, functions)}
    else
      {:error, error} -> raise error
    end
  end

  defp lend_source({:over, _} = source, _node), do: {:ok, source, %{}}

  defp lend_source({:open, target, function, args, kwargs}, node) do
    # Typhon.iter/1 lends for the time of one call, and this is many.
    with {:ok, args, kwargs, functions} <- Iter.with_references(fn -> Lent.lend(args, kwargs, node, %{}) end),
         do: {:ok, {:open, target, function, args, kwargs}, functions}
  end

  defp next(:done, _options), do: {:halt, :done}

  # Handles of which the consumer is given one after the other: the others' leases go when it stops.
  defp next({:rest, [element | rest], remote}, _options), do: {[element], {:rest, rest, remote}}
  defp next({:rest, [], remote}, options), do: next({:open, remote}, options)

  defp next({:open, remote}, options) do
    send(remote.pid, {remote.channel, :next})
    next({:asked, remote}, options)
  end

  defp next({:asked, %{pool: pool} = remote}, %{timeout: timeout} = options) do
    call = {"Typhon", "stream", [], timeout}

    case await(remote, deadline(Session.bound(timeout)), call) do
      {:batch, batch, remote} ->
        if Lent.objects(batch) == [],
          do: {batch, {:open, remote}},
          else: next({:rest, batch, remote}, options)

      {:ended, result, remote} ->
        close(remote)

        case told(result, pool) do
          {:ok, :done} -> {:halt, :done}
          {:error, error} -> raise error
        end
    end
  end

  defp close_stream({:rest, rest, remote}) do
    with [_ | _] = objects <- Lent.objects(rest), do: release(objects, holder())
    close_stream({:open, remote})
  end

  defp close_stream({_, remote}) do
    if remote.pid, do: send(remote.pid, {remote.channel, :halt})
    close(remote)
  end

  defp close_stream(:done), do: :ok

  # --- one request ---

  defp inherited(pool, functions) do
    node = node(pool)

    %{
      heritage: Process.get(@heritage, %{})[node],
      holder: holder(),
      lent?: functions != %{}
    }
  end

  defp ask(pool, request, functions, {_, _, _, timeout} = call) do
    {:ended, result, remote} = pool |> open(request, functions) |> await(deadline(timeout), call)
    close(remote)
    told(result, pool)
  end

  defp deadline(:infinity), do: :infinity
  defp deadline(timeout), do: Deadline.from(timeout + @margin)

  @spec open(pid, tuple, Lent.functions()) :: t
  defp open(pool, request, functions) do
    channel = :erlang.alias()
    args = [Server.protocol(), self(), channel, request]
    id = :erlang.spawn_request(node(pool), Server, :serve, args, [:monitor])
    %__MODULE__{id: id, channel: channel, pool: pool, functions: functions}
  end

  @spec await(t, Deadline.t(), Error.call()) :: {:ended, term, t} | {:batch, list, t}
  defp await(%{id: id, channel: channel} = remote, deadline, call) do
    receive do
      {:spawn_reply, ^id, :ok, pid} -> await(%{remote | pid: pid}, deadline, call)
      {:spawn_reply, ^id, :error, _reason} -> {:ended, lost(remote, :noconnection), remote}
      {:DOWN, ^id, :process, _, {:typhon, outcome}} -> {:ended, outcome(outcome, remote), remote}
      {:DOWN, ^id, :process, _, reason} -> {:ended, lost(remote, reason), remote}
      {^channel, {:apply, _, _, _, _, _} = question} -> remote |> answer(question) |> await(deadline, call)
      {^channel, {:batch, _pid, batch}} -> {:batch, returned(batch, remote), remote}
    after
      Deadline.left(deadline) ->
        if remote.pid, do: Process.exit(remote.pid, :kill)
        {:ended, {:error, Error.timeout(call)}, remote}
    end
  end

  defp close(%{id: id, channel: channel}) do
    :erlang.spawn_request_abandon(id)
    Process.demonitor(id, [:flush])
    :erlang.unalias(channel)
    drop(id, channel)
  end

  defp drop(id, channel) do
    receive do
      {:spawn_reply, ^id, _, _} -> drop(id, channel)
      {^channel, _} -> drop(id, channel)
    after
      0 -> :ok
    end
  end

  defp outcome({:result, {:ok, value}}, remote), do: {:ok, returned(value, remote)}
  defp outcome({:result, result}, _remote), do: result
  defp outcome({:raised, _kind, _reason, _stack} = raised, _remote), do: raised
  defp outcome(:other_version, remote), do: pool_error(remote, {:other_version, node(remote.pool)})

  # Typhon is not there, or is one that has no such module.
  defp lost(remote, {:undef, _stack}), do: pool_error(remote, {:other_version, node(remote.pool)})
  defp lost(remote, :noconnection), do: pool_error(remote, {:node_down, node(remote.pool)})
  # Somebody has killed it there.
  defp lost(_remote, reason), do: {:error, %Typhon.WorkerError{reason: {:owner_down, reason}}}

  defp pool_error(%{pool: pool}, reason), do: {:error, %PoolError{pool: pool, reason: reason}}

  defp returned(value, %{functions: functions}) when functions == %{}, do: value

  defp returned(value, %{functions: functions}) do
    Lent.map(value, fn
      %Lent{index: index} when is_map_key(functions, index) -> {:ok, functions[index]}
      _ -> :descend
    end)
  end

  # --- errors that say where ---

  defp told({:error, %PoolError{reason: :not_running} = error}, pool) when is_remote(pool),
    do: {:error, %{error | reason: {:not_running, node(pool)}}}

  defp told({:error, {:released, which}}, pool), do: {:error, released(which, pool)}
  # What opens a stream.
  defp told({:error, %EncodeError{reason: Wire.unknown_object() <> _}}, pool),
    do: {:error, released(:object, pool)}

  # None of the library's errors: a mistake, or what a process there was told to end with.
  defp told({:raised, kind, reason, stack}, _pool), do: :erlang.raise(kind, reason, stack)
  defp told(result, _pool), do: result

  defp released(which, pool) do
    name = if which == :argument, do: "an object among the arguments", else: "the object"

    %EncodeError{
      path: nil,
      type: Object,
      reason:
        "#{name} has been released: nobody on #{node(pool)} held it. Take a lease while somebody does: " <>
          "Typhon.lease(object), or Typhon.lease(object, pid) before it is sent to a process of another node"
    }
  end

  # --- functions of this process ---

  defp answer(remote, {:apply, pid, tag, index, args, heritage}) do
    node = node(remote.pool)
    before = Process.get(@heritage, %{})
    Process.put(@heritage, Map.put(before, node, heritage))

    {reply, functions} =
      try do
        value = apply(Map.fetch!(remote.functions, index), returned(args, remote))

        case Lent.lend(value, node, remote.functions) do
          {:ok, value, functions} -> {{:ok, value}, functions}
          {:error, error} -> {{:error, error, []}, remote.functions}
        end
      catch
        kind, reason -> {{kind, reason, __STACKTRACE__}, remote.functions}
      after
        Process.put(@heritage, before)
      end

    send(pid, {tag, reply})
    %{remote | functions: functions}
  end
end
