defmodule Typhon.Remote.Server do
  @moduledoc false
  # The owner's side of Typhon.Remote: a process for each request of another node, which does there what the caller's own process
  # would do here. It exits with the result. A second one ends it when the caller, or the caller's node, goes.

  require Typhon.Wire

  alias Typhon.{Call, Deadline, EncodeError, Iter, Leases, Native, Object, Remote, Session, Stream, Wire}
  alias Typhon.Remote.Lent

  # What two nodes have to agree on: this function's arguments, the requests, and what is sent meanwhile.
  @protocol 1
  @functions {__MODULE__, :functions}
  @held {__MODULE__, :held}

  @spec protocol :: pos_integer
  def protocol, do: @protocol

  @doc "Never returns."
  @spec serve(term, pid, reference, term) :: no_return
  def serve(@protocol, caller, channel, request) do
    owner = self()
    spawn(fn -> guard(owner, caller) end)
    Remote.work_for(caller)

    outcome =
      try do
        {:result, perform(request, channel)}
      catch
        kind, reason -> {:raised, kind, reason, __STACKTRACE__}
      end

    exit({:typhon, outcome})
  end

  def serve(_other, _caller, _channel, _request), do: exit({:typhon, :other_version})

  defp guard(owner, caller) do
    owners = Process.monitor(owner)
    callers = Process.monitor(caller)

    receive do
      {:DOWN, ^owners, _, _, _} -> :ok
      {:DOWN, ^callers, _, _, _} -> Process.exit(owner, :kill)
    end
  end

  defp perform({:call, pool, {module, function, args, timeout}, kwargs, routing, inherited}, channel) do
    begin(inherited, channel)
    call = {module, function, restored(args, inherited), timeout}
    pool |> Call.call(call, restored(kwargs, inherited), routing) |> which(module) |> leased(inherited)
  end

  defp perform({:cast, pool, call, kwargs, routing, inherited}, channel) do
    begin(inherited, channel)
    Call.cast(pool, call, kwargs, routing)
  end

  defp perform({:stream, pool, source, options, inherited}, channel) do
    begin(inherited, channel)

    batches =
      case restored(source, inherited) do
        {:over, object} ->
          Stream.batches(pool, "over", [object], options)

        {:open, target, function, args, kwargs} ->
          Stream.batches(pool, "open", [target, function, args, kwargs], options)
      end

    feed(&Enumerable.reduce(batches, &1, fn batch, _ -> {:suspend, batch} end), channel, inherited)
  rescue
    error -> {:error, error}
  end

  defp perform({:same?, one, other}, _channel),
    do: if(live?(one) and live?(other), do: {:ok, Object.same?(one, other)}, else: released())

  defp perform({:lease, objects, holder}, _channel), do: lease(objects, holder)
  defp perform({:release, objects, holder}, _channel), do: release(objects, holder)

  defp perform({:hold, object, hold?}, _channel),
    do: if(live?(object), do: Native.hold(object.ref, hold?), else: released())

  @doc "A lease of each object, also for a holder of this node."
  @spec lease([Object.t()], pid) :: :ok | {:error, Typhon.Error.t()}
  def lease(objects, holder) do
    if Enum.all?(objects, &live?/1),
      do: taken(Leases.take(objects, holder), objects, holder),
      else: released()
  end

  @spec release([Object.t()], pid) :: :ok | {:error, Typhon.Error.t()}
  def release(objects, holder), do: taken(Leases.release(objects, holder), objects, holder)

  defp taken(:ok, _objects, _holder), do: :ok

  defp taken(:not_running, [object | _], _holder),
    do: {:error, %Typhon.PoolError{pool: object.pool, reason: :not_running}}

  defp taken(:too_many, [object | _], holder),
    do: {:error, %Typhon.PoolError{pool: object.pool, reason: {:too_many_leases, holder, Leases.most()}}}

  # Typhon.Remote says what that means.
  defp released, do: {:error, {:released, :object}}

  defp which({:error, %EncodeError{reason: Wire.unknown_object() <> _}}, object),
    do: {:error, {:released, if(live?(object), do: :argument, else: :object)}}

  defp which(result, _object), do: result

  # Whether its reference is the native library's resource, not the mere number of one that is gone.
  defp live?(%Object{ref: ref}) do
    Native.same_worker?(ref, ref)
  rescue
    ArgumentError -> false
  end

  # Nobody on this node would hold them.
  defp leased({:ok, result}, %{holder: holder}) do
    objects = Lent.objects(result)
    with :ok <- taken(Leases.take(objects, holder), objects, holder), do: {:ok, given_back(result)}
  end

  defp leased(error, _inherited), do: error

  # --- streams ---

  defp feed(continue, channel, inherited) do
    case continue.({:cont, nil}) do
      {:suspended, batch, continue} ->
        with {:ok, batch} <- leased({:ok, Enum.to_list(batch)}, inherited) do
          send(channel, {channel, {:batch, self(), batch}})

          receive do
            {^channel, :next} ->
              feed(continue, channel, inherited)

            {^channel, :halt} ->
              continue.({:halt, nil})
              {:ok, :done}
          end
        end

      {ended, _} when ended in [:done, :halted] ->
        {:ok, :done}
    end
  end

  # --- functions of the caller ---

  # `heritage`: where the calls of this process have to go, when the caller makes this one in a callback of another.
  defp begin(%{heritage: heritage}, channel) do
    Session.inherit(heritage)
    Process.put(@functions, {channel, %{}})
  end

  defp restored(term, %{lent?: false}), do: term
  defp restored(term, _inherited), do: restored(term)

  defp restored(term) do
    Lent.map(term, fn
      %Lent{} = lent -> {:ok, function(lent)}
      %Object{} = object -> {:ok, object}
      _ -> :descend
    end)
  end

  defp function(%Lent{index: index, arity: :iter}) do
    {channel, _functions} = Process.get(@functions)
    owner = self()
    Iter.lent(fn count -> ask(owner, channel, index, [count]) end)
  end

  defp function(%Lent{index: index, arity: arity}) do
    {channel, functions} = Process.get(@functions)
    owner = self()
    function = function(arity, fn args -> ask(owner, channel, index, args) end)
    Process.put(@functions, {channel, Map.put(functions, function, index)})
    function
  end

  for arity <- 0..16 do
    args = Macro.generate_arguments(arity, __MODULE__)
    defp function(unquote(arity), ask), do: fn unquote_splicing(args) -> ask.(unquote(args)) end
  end

  # The function is another one on the way back.
  defp given_back(result) do
    {_channel, functions} = Process.get(@functions)

    if functions == %{} do
      result
    else
      Lent.map(result, fn
        function when is_function(function) and is_map_key(functions, function) ->
          {:arity, arity} = Function.info(function, :arity)
          {:ok, %Lent{index: functions[function], arity: arity}}

        _ ->
          :descend
      end)
    end
  end

  defp ask(owner, channel, index, args) do
    if self() != owner,
      do: raise(ArgumentError, "this function is of another node, which has lent it for the time of one call")

    # Handles among them live until the caller has answered.
    Process.put(@held, args)
    tag = make_ref()
    send(channel, {channel, {:apply, self(), tag, index, given_back(args), Session.heritage()}})

    receive do
      {^tag, {:ok, value}} -> restored(value)
      {^tag, {kind, reason, stack}} -> :erlang.raise(kind, reason, stack)
    after
      Deadline.left(Session.deadline()) -> exit(:timeout)
    end
  after
    Process.delete(@held)
  end
end
