defmodule Typhon.Call do
  @moduledoc false
  # Calls and casts, made by the process that wants them: find the pool, aim, hand over, wait.
  #
  # In `request/5` `make_ref/0`, the request and the `receive` stand in one function body: so the compiler marks the place in
  # the mailbox where the answer can appear at the earliest, and a caller with a long mailbox does not search it.

  require Typhon.Request
  require Typhon.Test.Double
  require Typhon.Wire

  import Typhon.Remote, only: [is_remote_object: 1]

  alias Typhon.{Deadline, Error, Native, Registry, Remote, Request, Session, Structs, Telemetry, Wire}
  alias Typhon.Test.Double

  @sessions Session.key()

  @typep pool :: Request.pool()
  @type routing :: Typhon.Options.routing()

  @doc "Flags of a pool, as they stand in its row of the registry."
  @spec flags(Typhon.Options.start()) :: non_neg_integer
  def flags(%{telemetry: telemetry}),
    do: if(telemetry and Telemetry.available?(), do: Wire.timings(), else: 0)

  @doc "A call; with routing it may go to the worker of a key, or be made again when its worker ends."
  @spec call(term, Error.call(), map, routing) :: {:ok, term} | {:error, Error.t()}
  def call(key, call, kwargs, routing \\ nil)

  # The object knows its pool.
  def call(_key, {object, _, _, _} = call, kwargs, routing) when is_remote_object(object),
    do: object.pool |> Remote.call(call, kwargs, without_struct(routing)) |> shaped(routing)

  # One worker, and no other one that could have the call in its place.
  def call(%Session{} = session, call, kwargs, routing) do
    case Session.target(session) do
      {pid, native, 0, flags} ->
        routed({session.pool, pid, native}, bound(call), kwargs, flags, of_session(routing))

      {pid, native, bits, flags} ->
        watched(bits, {session.pool, pid, native}, bound(call), kwargs, flags, of_session(routing))

      error ->
        error
    end
  end

  def call(key, call, kwargs, routing) do
    case Registry.lookup(key) do
      {pid, native, 0} ->
        if routing == nil and Process.get(@sessions) == nil,
          do: request({key, pid, native}, call, kwargs, 0),
          else: routed({key, pid, native}, bound(call), kwargs, Session.aim(native, 0), routing)

      {pid, native, bits} ->
        watched(bits, {key, pid, native}, bound(call), kwargs, Session.aim(native, bits), routing)

      error ->
        error
    end
  end

  defp of_session(nil), do: nil
  defp of_session(%{stdio: nil, text: nil, as: :value}), do: nil
  defp of_session(routing), do: %{routing | worker: nil, retry: 0}

  defp bound({module, function, args, timeout}), do: {module, function, args, Session.bound(timeout)}

  defp routed(pool, call, kwargs, flags, nil), do: request(pool, call, kwargs, flags)

  defp routed({_, pid, _} = pool, {_, _, _, timeout} = call, kwargs, flags, routing) do
    flags = if routing.stdio, do: Request.mark(flags, Wire.capture()), else: flags
    flags = if routing.as == :object, do: Request.mark(flags, Wire.as_object()), else: flags
    flags = mark_text(flags, pid, routing)

    Request.with_stdio(routing.stdio, fn ->
      pool |> attempt(call, kwargs, flags, routing, Deadline.from(timeout)) |> whole_time(timeout)
    end)
    |> shaped(routing)
  end

  # Structs are of this node's modules.
  defp without_struct(%{as: as} = routing) when as not in [:value, :object], do: %{routing | as: :value}
  defp without_struct(routing), do: routing

  # As the struct that as: names.
  defp shaped(result, nil), do: result
  defp shaped({:timed, result, timings}, routing), do: {:timed, shaped(result, routing), timings}
  defp shaped(result, %{as: as}), do: Structs.result(result, as)

  defp attempt({_, _, native} = pool, call, kwargs, flags, routing, deadline) do
    case request(pool, call, kwargs, aim(native, flags, routing)) do
      # The pool has become smaller, and the key belongs to another place now. Nothing was sent.
      {:error, :moved} ->
        case Deadline.left(deadline) do
          0 -> {:error, Error.not_begun(call)}
          left -> attempt(pool, put_elem(call, 3, left), kwargs, flags, routing, deadline)
        end

      # Not in a session, whose worker no other one can stand in for.
      {:error, %Typhon.WorkerError{reason: reason}} = error when is_integer(flags) ->
        left = Deadline.left(deadline)
        again = %{routing | retry: routing.retry - 1}

        if routing.retry > 0 and left != 0 and reason != :stopped,
          do: attempt(pool, put_elem(call, 3, left), kwargs, flags, again, deadline),
          else: error

      other ->
        other
    end
  end

  # What the caller said, not what was left of it for the last attempt.
  defp whole_time({:timed, result, timings}, timeout), do: {:timed, whole_time(result, timeout), timings}

  defp whole_time({:error, %Typhon.TimeoutError{} = error}, timeout),
    do: {:error, %{error | timeout: timeout}}

  defp whole_time(result, _timeout), do: result

  # The worker that is this process' comes before that of a key.
  defp aim(native, flags, %{worker: hash}) when is_integer(flags) and is_integer(hash) do
    place = Bitwise.bsl(Native.pool_place(native, hash) + 1, Wire.place_bit())
    flags |> Bitwise.band(Bitwise.bsl(1, Wire.place_bit()) - 1) |> Bitwise.bor(place)
  end

  defp aim(_native, flags, _routing), do: flags

  @spec request(pool, Error.call(), map, Native.flags()) :: Request.result()
  defp request({_, _, native} = pool, {module, function, args, timeout} = call, kwargs, flags) do
    ref = make_ref()

    case Native.call(native, ref, Wire.call(), module, function, args, kwargs, timeout, flags) do
      {:ok, _} = ok ->
        ok

      {:wait, where, id, left} ->
        deadline = Deadline.from(left)

        receive do
          {^ref, {:ok, _} = ok} ->
            ok

          {^ref, event} ->
            pool
            |> Request.new(ref, Wire.call(), call, kwargs, deadline, flags)
            |> Request.told(event, where, id)
            |> ended()
        after
          min(left, Request.look_after()) ->
            pool
            |> Request.new(ref, Wire.call(), call, kwargs, deadline, flags)
            |> Request.nothing_came(where, id)
            |> ended()
        end

      event ->
        pool
        |> Request.new(ref, Wire.call(), call, kwargs, Deadline.from(timeout), flags)
        |> Request.step(event)
        |> ended()
    end
  end

  # What the call printed before its worker ended: the worker's process has not seen it.
  defp ended({{:error, %Typhon.WorkerError{output: output} = error}, %{printed: [_ | _] = printed}}),
    do: {:error, %{error | output: printed ++ output}}

  defp ended({result, _request}), do: result

  defp mark_text(flags, pid, %{text: {keys, values}}) do
    pool = Registry.options(pid)
    keys = if (keys || pool[:keys]) == :strings, do: Wire.keys_as_text(), else: 0
    values = if (values || pool[:values]) == :strings, do: Wire.values_as_text(), else: 0
    Request.mark(flags, Wire.own_text() + keys + values)
  end

  defp mark_text(flags, _pid, _routing), do: flags

  # --- a call that its process does not wait for at once (Typhon.Stream) ---

  @typep pending :: {:done, {:ok, term} | {:error, Error.t()}} | {:waiting, Request.t(), event :: tuple}

  @doc "Makes a call; finish/1 waits for its result, or abandon/1 gives it up, in the same process."
  @spec begin(term, Error.call(), routing) :: pending
  def begin(key, call, routing) do
    with {pid, native, bits, flags} <- target(key) do
      {_, _, _, timeout} = call = bound(call)
      flags = if Bitwise.band(bits, Wire.timings()) == 0, do: flags, else: without_timings(flags)
      flags = flags |> unmark() |> mark_text(pid, routing)

      request =
        Request.new({key, pid, native}, make_ref(), Wire.call(), call, %{}, Deadline.from(timeout), flags)

      case Request.submit(request) do
        event when elem(event, 0) in [:wait, :ask] -> {:waiting, request, event}
        event -> {:done, request |> Request.step(event) |> ended()}
      end
    else
      {:error, _} = error -> {:done, error}
    end
  end

  @spec finish(pending) :: {:ok, term} | {:error, Error.t()}
  def finish({:done, result}), do: result
  def finish({:waiting, request, event}), do: request |> Request.step(event) |> ended()

  @spec abandon(pending) :: :ok
  def abandon({:done, _}), do: :ok

  # One that is finished may be abandoned, too. What cancel/3 says was delivered lies in the mailbox already.
  def abandon({:waiting, request, {:wait, where, id, _left}}), do: abandon(request, where, id, [])
  def abandon({:waiting, request, {:ask, where, id, _left, ask}}), do: abandon(request, where, id, [ask])

  defp abandon(request, where, id, asks) do
    Request.leave(request, where, id, asks)
    drop(request.ref)
  end

  defp drop(ref) do
    receive do
      {^ref, _} -> drop(ref)
    after
      0 -> :ok
    end
  end

  defp target(%Session{} = session), do: Session.target(session)

  defp target(key) do
    with {pid, native, bits} <- Registry.lookup(key), do: {pid, native, bits, Session.aim(native, bits)}
  end

  defp without_timings({bits, where, parent}),
    do: {Bitwise.band(bits, Bitwise.bnot(Wire.timings())), where, parent}

  defp without_timings(bits), do: Bitwise.band(bits, Bitwise.bnot(Wire.timings()))

  @doc "What a stub of a test answers to this call; :through when there is none."
  @spec stubbed(term, term, term, list, map) :: :through | {:ok, term} | {:error, Exception.t()}
  def stubbed(key, module, function, args, kwargs) do
    case target(key) do
      {pid, native, bits, _} when Bitwise.band(bits, Double.doubled()) != 0 ->
        key = if is_struct(key, Session), do: key.pool, else: key
        Double.call({pid, native, bits}, key, module, function, args, kwargs)

      _ ->
        :through
    end
  end

  # A pool whose calls are measured, or in which a test has stubs.
  defp watched(bits, {key, pid, native} = pool, call, kwargs, flags, routing)
       when Bitwise.band(bits, Double.doubled()) != 0 do
    {module, function, args, _timeout} = call

    with :through <- Double.call({pid, native, bits}, key, module, function, args, kwargs) do
      flags = unmark(flags)

      if Double.off(bits) == 0,
        do: routed(pool, call, kwargs, flags, routing),
        else: observed(pool, call, kwargs, flags, routing)
    else
      stubbed -> shaped(stubbed, routing)
    end
  end

  defp watched(_bits, pool, call, kwargs, flags, routing), do: observed(pool, call, kwargs, flags, routing)

  defp unmark({bits, where, parent}), do: {Double.off(bits), where, parent}
  defp unmark(bits), do: Double.off(bits)

  defp observed({key, _, _} = pool, {module, function, args, _} = call, kwargs, flags, routing) do
    metadata = %{
      pool: key,
      module: module,
      function: function,
      arity: length(args)
    }

    start = Telemetry.call_start(metadata)

    {result, timings} =
      case routed(pool, call, kwargs, flags, routing) do
        {:timed, result, timings} -> {result, timings}
        result -> {result, nil}
      end

    Telemetry.call_stop(start, metadata, result, timings)
    result
  end

  # --- casts ---

  @spec cast(term, Error.call(), map, routing) :: :ok | {:error, Error.t()}
  def cast(key, call, kwargs, routing \\ nil)

  def cast(_key, {object, _, _, _} = call, kwargs, routing) when is_remote_object(object),
    do: Remote.cast(object.pool, call, kwargs, routing)

  def cast(key, {module, function, args, _} = call, kwargs, routing) do
    with {pid, native, bits, flags} <- target(key),
         name = pool_key(key),
         :through <- Double.cast({pid, native, bits}, name, module, function, args, kwargs) do
      {_, _, _, timeout} = call = bound(call)
      flags = flags |> no_bits() |> mark_text(pid, routing)
      send_off({name, pid, native}, call, kwargs, flags, routing, Deadline.from(timeout))
    end
  end

  defp pool_key(%Session{pool: key}), do: key
  defp pool_key(key), do: key

  defp no_bits({_bits, where, parent}), do: {0, where, parent}
  defp no_bits(_bits), do: 0

  defp send_off({_, _, native} = pool, call, kwargs, flags, routing, deadline) do
    flags_now = aim(native, flags, routing)

    {result, _request} =
      pool |> Request.new(make_ref(), Wire.cast(), call, kwargs, deadline, flags_now) |> Request.run()

    with {:error, :moved} <- result do
      if Deadline.left(deadline) == 0,
        do: {:error, Error.not_begun(call)},
        else: send_off(pool, call, kwargs, flags, routing, deadline)
    end
  end
end
