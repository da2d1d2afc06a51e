defmodule Typhon.Call do
  @moduledoc false
  # One call, run wholly in the process that makes it: find the pool, hand the request to the native library, wait.
  #
  # `make_ref/0`, the request and the `receive` stand in one function body: so the compiler marks the place in the mailbox
  # where the answer can appear at the earliest, and a caller with a long mailbox does not search it.
  #
  # No answer may be left in the mailbox. The native library sends at most one {ref, reply} for an accepted request; after
  # `cancel` it either will not send it (:cancelled) or has sent it already (:delivered).

  require Typhon.Test.Double

  alias Typhon.{
    Conversation,
    Deadline,
    Encoder,
    Error,
    Iter,
    Native,
    OverloadError,
    Pool,
    Registry,
    Room,
    Session,
    Telemetry
  }

  alias Typhon.Pool.Keeper
  alias Typhon.Test.Double
  alias Typhon.Worker.Output

  @call 0
  @cast 1
  @timings 1
  # What Python prints goes to the caller, whatever the pool does with its output.
  @capture 2
  # Which atoms are strings in Python, in place of what the pool says: whether this call says so itself, and what.
  @own_text 16
  @text_keys 4
  @text_values 8
  @text_bits @own_text + @text_keys + @text_values
  @stdio :"$typhon_stdio"
  # The call was accepted before: it is not refused for being one too many.
  @admitted 128
  # The flags' bits from here on name a place.
  @place_bit 8
  @sessions Session.key()
  # Who has waited for so many milliseconds has its worker looked at; and again after as many.
  @look_after 5_000

  @doc "Flags of a pool, as they stand in its row of the registry."
  @spec flags(Typhon.Options.start()) :: non_neg_integer
  def flags(%{telemetry: telemetry}),
    do: if(telemetry and Telemetry.available?(), do: @timings, else: 0)

  @spec call(term, term, term, list, map, timeout) :: {:ok, term} | {:error, Error.t()}
  def call(%Session{} = session, module, function, args, kwargs, timeout) do
    case Session.target(session) do
      {pid, native, 0, flags} ->
        timeout = Session.bound(timeout)
        request(session.pool, native, pid, module, function, args, kwargs, timeout, flags)

      {pid, native, bits, flags} ->
        timeout = Session.bound(timeout)
        special(bits, session.pool, pid, native, module, function, args, kwargs, timeout, flags, nil)

      error ->
        error
    end
  end

  def call(key, module, function, args, kwargs, timeout) do
    case Registry.lookup(key) do
      {pid, native, 0} ->
        case Process.get(@sessions) do
          nil ->
            request(key, native, pid, module, function, args, kwargs, timeout, 0)

          _ ->
            timeout = Session.bound(timeout)
            request(key, native, pid, module, function, args, kwargs, timeout, Session.aim(native, 0))
        end

      {pid, native, bits} ->
        flags = Session.aim(native, bits)
        timeout = Session.bound(timeout)
        special(bits, key, pid, native, module, function, args, kwargs, timeout, flags, nil)

      error ->
        error
    end
  end

  @doc "A call that is to go to the worker of a key, or to be made again when its worker ends."
  @spec call(term, term, term, list, map, timeout, Typhon.Options.routing()) ::
          {:ok, term} | {:error, Error.t()}
  def call(key, module, function, args, kwargs, timeout, nil),
    do: call(key, module, function, args, kwargs, timeout)

  # One worker, and no other one that could have the call in its place.
  def call(%Session{} = session, module, function, args, kwargs, timeout, %{stdio: nil, text: nil}),
    do: call(session, module, function, args, kwargs, timeout)

  def call(%Session{} = session, module, function, args, kwargs, timeout, routing) do
    with {pid, native, bits, flags} <- Session.target(session) do
      routing = %{routing | worker: nil, retry: 0}
      timeout = Session.bound(timeout)

      if bits == 0,
        do: routed(session.pool, native, pid, module, function, args, kwargs, timeout, flags, routing),
        else:
          special(bits, session.pool, pid, native, module, function, args, kwargs, timeout, flags, routing)
    end
  end

  def call(key, module, function, args, kwargs, timeout, routing) do
    timeout = Session.bound(timeout)

    case Registry.lookup(key) do
      {pid, native, 0} ->
        routed(key, native, pid, module, function, args, kwargs, timeout, Session.aim(native, 0), routing)

      {pid, native, bits} ->
        flags = Session.aim(native, bits)
        special(bits, key, pid, native, module, function, args, kwargs, timeout, flags, routing)

      error ->
        error
    end
  end

  defp routed(key, native, pid, module, function, args, kwargs, timeout, flags, nil),
    do: request(key, native, pid, module, function, args, kwargs, timeout, flags)

  defp routed(key, native, pid, module, function, args, kwargs, timeout, flags, routing) do
    call = {key, native, pid, module, function, args, kwargs}
    flags = if routing.stdio, do: mark(flags, @capture), else: flags
    flags = mark_text(flags, pid, routing)

    with_stdio(routing.stdio, fn ->
      attempt(call, timeout, flags, routing, {timeout, Deadline.from(timeout)})
    end)
  end

  defp attempt({key, native, pid, module, function, args, kwargs} = call, left, flags, routing, time) do
    {timeout, deadline} = time

    case request(key, native, pid, module, function, args, kwargs, left, aim(native, flags, routing)) do
      # The pool has become smaller, and the key belongs to another place now. Nothing was sent.
      {:error, :moved} ->
        case Deadline.left(deadline) do
          0 -> {:error, Error.timeout({module, function, args, timeout})}
          left -> attempt(call, left, flags, routing, time)
        end

      # Not in a session, whose worker no other one can stand in for.
      {:error, %Typhon.WorkerError{reason: reason}} = error when is_integer(flags) ->
        left = Deadline.left(deadline)

        if routing.retry > 0 and left != 0 and reason != :stopped,
          do: attempt(call, left, flags, %{routing | retry: routing.retry - 1}, time),
          else: error

      other ->
        whole_time(other, timeout)
    end
  end

  # What the caller said, not what was left of it for the last attempt.
  defp whole_time({:timed, result, timings}, timeout), do: {:timed, whole_time(result, timeout), timings}

  defp whole_time({:error, %Typhon.TimeoutError{} = error}, timeout),
    do: {:error, %{error | timeout: timeout}}

  defp whole_time(result, _timeout), do: result

  # The worker that is this process' comes before that of a key.
  defp aim(native, flags, %{worker: hash}) when is_integer(flags) and is_integer(hash) do
    place = Native.pool_place(native, hash)
    flags |> Bitwise.band(Bitwise.bsl(1, @place_bit) - 1) |> Bitwise.bor(Bitwise.bsl(place + 1, @place_bit))
  end

  defp aim(_native, flags, _routing), do: flags

  defp request(key, native, pid, module, function, args, kwargs, timeout, flags) do
    ref = make_ref()

    case Native.call(native, ref, @call, module, function, args, kwargs, timeout, flags) do
      {:ok, _} = ok ->
        ok

      {:wait, where, id, left} ->
        deadline = Deadline.from(left)

        receive do
          {^ref, {:ok, _} = ok} ->
            ok

          # The worker ended before it took the request: another one can have it, in the time that is left.
          {^ref, {:not_started, left}} ->
            key
            |> slow(native, pid, ref, @call, args, kwargs, left, admit(flags))
            |> submit({module, function, args, timeout})

          # Python asks something first.
          {^ref, {:ask, _, _} = ask} ->
            key
            |> slow(native, pid, ref, @call, args, kwargs, Deadline.left(deadline), flags)
            |> asked(ask, where, id, {module, function, args, timeout})

          {^ref, reply} ->
            result(reply, {module, function, args, timeout})
        after
          min(left, @look_after) ->
            request = slow(key, native, pid, ref, @call, args, kwargs, less(left, @look_after), flags)

            if left <= @look_after do
              give_up(request, where, id, {module, function, args, timeout})
            else
              look(request)
              step({:wait, where, id, nil}, request, {module, function, args, timeout})
            end
        end

      other ->
        request = slow(key, native, pid, ref, @call, args, kwargs, timeout, flags)
        step(other, request, {module, function, args, timeout})
    end
  end

  defp slow(key, native, pid, ref, kind, args, kwargs, timeout, flags) do
    %{
      key: key,
      native: native,
      pid: pid,
      ref: ref,
      kind: kind,
      args: args,
      kwargs: kwargs,
      deadline: Deadline.from(timeout),
      flags: flags,
      # held while it waits in this process, not in a worker's queue
      ticket: nil,
      # the last lines that Python printed to this process
      printed: []
    }
  end

  # It takes long. That is no fault; but a process that has been stopped would not answer in all eternity, and nobody hears of it.
  defp look(request), do: Keeper.look(Registry.options(request.pid)[:board])

  defp less(:infinity, _), do: :infinity
  defp less(left, time), do: left - time

  defp admit(flags), do: mark(flags, @admitted)

  defp mark_text(flags, pid, %{text: {keys, values}}) do
    pool = Registry.options(pid)
    keys = if (keys || pool[:keys]) == :strings, do: @text_keys, else: 0
    values = if (values || pool[:values]) == :strings, do: @text_values, else: 0
    mark(flags, @own_text + keys + values)
  end

  defp mark_text(flags, _pid, _routing), do: flags

  # What Python is told in the course of the call is as its arguments are, in the bits of `Typhon.Native.tell/6`.
  defp text({bits, _where, _parent}), do: text(bits)
  defp text(bits), do: bits |> Bitwise.band(@text_bits) |> Bitwise.bsl(1)

  defp mark({bits, where, parent}, bit), do: {Bitwise.bor(bits, bit), where, parent}
  defp mark(flags, bit), do: Bitwise.bor(flags, bit)

  # Every road that is not the short one. `call` stays as the user wrote it, for messages; the request's arguments may have
  # been prepared for the wire.
  defp step({:wait, where, id, _left}, %{ref: ref} = request, call) do
    receive do
      {^ref, {:not_started, _left}} -> submit(%{request | flags: admit(request.flags)}, call)
      {^ref, {:ask, _, _} = ask} -> asked(request, ask, where, id, call)
      {^ref, reply} -> reply |> result(call) |> last_words(request)
    after
      min(Deadline.left(request.deadline), @look_after) ->
        if Deadline.left(request.deadline) == 0 do
          give_up(request, where, id, call)
        else
          look(request)
          step({:wait, where, id, nil}, request, call)
        end
    end
  end

  defp step({:not_started, left}, request, call),
    do: submit(%{request | deadline: Deadline.from(left), flags: admit(request.flags)}, call)

  defp step({:room, channel}, %{ref: ref} = request, call) do
    case queue(request) do
      {:ok, request} ->
        case Room.wait(channel, ref, Deadline.left(request.deadline)) do
          :room ->
            submit(request, call)

          :timeout ->
            leave_queue(request)
            {:error, Error.timeout(call)}
        end

      overload ->
        Room.forget(channel, ref)
        refused(overload, request, call)
    end
  end

  defp step({:encoder}, request, call) do
    Iter.with_loans(fn ->
      case Encoder.Walk.prepare(request.args, request.kwargs) do
        {:ok, args, kwargs} -> submit(%{request | args: args, kwargs: kwargs}, call)
        {:error, _} = error -> error
      end
    end)
  end

  defp step({:cannot_encode, path, message}, _request, _call),
    do: {:error, %Typhon.EncodeError{path: path, type: nil, reason: message}}

  # All workers are being replaced or belong to sessions. Wait for the first one.
  defp step(:no_worker, request, call) do
    await(request, call, fn -> Pool.await_any(request.pid, Deadline.left(request.deadline)) end)
  end

  # The same of the one worker that it has to go to: by its key, or because an object of an argument lives there.
  defp step({:held, place}, request, call) do
    await(request, call, fn -> Pool.await_worker(request.pid, place, Deadline.left(request.deadline)) end)
  end

  defp step(overload, request, call) when elem(overload, 0) == :overload,
    do: refused(overload, request, call)

  # A cast was accepted.
  defp step(:ok, _request, _call), do: :ok

  defp step(reply, _request, call), do: result(reply, call)

  defp submit(request, {module, function, _, _} = call) do
    result =
      Native.call(
        request.native,
        request.ref,
        request.kind,
        module,
        function,
        request.args,
        request.kwargs,
        Deadline.left(request.deadline),
        request.flags
      )

    step(result, if(waits?(result), do: request, else: leave_queue(request)), call)
  end

  defp waits?(:no_worker), do: true
  defp waits?({kind, _}) when kind in [:room, :held], do: true
  defp waits?(_), do: false

  # The caller itself waits: it is counted, and refused when there are too many.
  defp queue(%{ticket: nil, flags: flags} = request) do
    named? = is_tuple(flags) or Bitwise.band(flags, @admitted) != 0

    with {:ok, ticket} <- Native.pool_wait(request.native, named?),
         do: {:ok, %{request | ticket: ticket, flags: admit(flags)}}
  end

  defp queue(request), do: {:ok, request}

  defp leave_queue(%{ticket: nil} = request), do: request

  defp leave_queue(request) do
    Native.pool_done(request.ticket)
    %{request | ticket: nil}
  end

  defp await(request, call, wait) do
    with {:ok, request} <- queue(request) do
      case wait.() do
        :ok ->
          submit(request, call)

        # The place of its key is not there any more: call/7 looks for the new one.
        :moved when is_integer(request.flags) and request.flags >= Bitwise.bsl(1, @place_bit) ->
          leave_queue(request)
          {:error, :moved}

        :moved ->
          submit(request, call)

        other ->
          leave_queue(request)
          if other == :timeout, do: {:error, Error.timeout(call)}, else: other
      end
    else
      overload -> refused(overload, request, call)
    end
  end

  defp refused(overload, request, {module, function, args, _}) do
    error = OverloadError.new(request.key, overload)
    Telemetry.overload(error, %{module: module, function: function, arity: length(args)})
    {:error, error}
  end

  @doc "What came back from a worker, as its caller gets it."
  @spec result(term, tuple) :: {:ok, term} | {:error, Error.t()} | {:timed, term, tuple}
  def result({:ok, _} = ok, _call), do: ok
  def result({:error, error}, call), do: {:error, Error.from_wire(error, call)}
  def result({:segment, handle}, call), do: handle |> Native.read() |> result(call)
  def result({:timed, reply, timings}, call), do: {:timed, result(reply, call), timings}
  def result({:down, reason}, _call), do: {:error, Error.from_down(reason)}

  # The answer may have come at the very moment the time ran out: then it is there, so the caller gets it.
  defp give_up(request, where, id, call) do
    importing = Native.importing(request.native, where, id)

    case leave(request, where, id) do
      :cancelled ->
        {:error, Error.timeout(call, importing)}

      :delivered ->
        case Conversation.delivered(request.ref) do
          {:ok, {:not_started, _left}} -> {:error, Error.timeout(call)}
          {:ok, reply} -> result(reply, call)
          :none -> {:error, Error.timeout(call)}
        end
    end
  end

  defp leave(request, where, id) do
    outcome = Native.cancel(request.native, where, id)
    Conversation.leave(request.ref, fn -> context(request, where, id) end)
    outcome
  end

  # What Python makes of an answer that came too late for it is not the result.
  defp asked(request, ask, where, id, call) do
    request = converse(ask, where, id, request)

    if Deadline.left(request.deadline) == 0 do
      case give_up(request, where, id, call) do
        {:ok, _} = ok -> ok
        {:timed, {:ok, _}, _} = ok -> ok
        {:error, %Typhon.TimeoutError{}} = error -> error
        _ -> {:error, Error.timeout(call)}
      end
    else
      step({:wait, where, id, nil}, request, call)
    end
  end

  defp converse(ask, where, id, request) do
    printed = Conversation.handle(ask, context(request, where, id))
    if printed == "", do: request, else: %{request | printed: Output.last_lines(request.printed, printed)}
  end

  defp context(request, where, id) do
    options = Registry.options(request.pid)

    %{
      native: request.native,
      where: where,
      id: id,
      args: request.args,
      kwargs: request.kwargs,
      deadline: request.deadline,
      text: text(request.flags),
      stdio: Process.get(@stdio) || options.stdio,
      allow: options.allow,
      max_mailbox: options.max_mailbox,
      metadata: options.metadata
    }
  end

  # --- a call that its process does not wait for at once (Typhon.Stream) ---

  @typep pending ::
           {:done, {:ok, term} | {:error, Error.t()}}
           | {:waiting, Native.where(), Native.id(), request :: map, call :: tuple}

  @doc "Makes a call; finish/1 waits for its result, or abandon/1 gives it up, in the same process."
  @spec begin(term, term, term, list, timeout, Typhon.Options.routing()) :: pending
  def begin(key, module, function, args, timeout, routing) do
    with {pid, native, bits, flags} <- target(key) do
      ref = make_ref()
      timeout = Session.bound(timeout)
      flags = if Bitwise.band(bits, @timings) == 0, do: flags, else: without_timings(flags)
      flags = flags |> unmark() |> mark_text(pid, routing)
      request = slow(key, native, pid, ref, @call, args, %{}, timeout, flags)
      call = {module, function, args, timeout}

      case Native.call(native, ref, @call, module, function, args, %{}, timeout, request.flags) do
        {:wait, where, id, _left} -> {:waiting, where, id, request, call}
        other -> {:done, step(other, request, call)}
      end
    else
      {:error, _} = error -> {:done, error}
    end
  end

  @spec finish(pending) :: {:ok, term} | {:error, Error.t()}
  def finish({:done, result}), do: result
  def finish({:waiting, where, id, request, call}), do: step({:wait, where, id, nil}, request, call)

  @spec abandon(pending) :: :ok
  def abandon({:done, _}), do: :ok

  # One that is finished may be abandoned, too. What cancel/3 says was delivered lies in the mailbox already.
  def abandon({:waiting, where, id, request, _call}) do
    leave(request, where, id)
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

  defp without_timings({bits, where, parent}), do: {Bitwise.band(bits, Bitwise.bnot(@timings)), where, parent}
  defp without_timings(bits), do: Bitwise.band(bits, Bitwise.bnot(@timings))

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

  # What the call printed before its worker ended: the worker's process has not seen it.
  defp last_words({:error, %Typhon.WorkerError{output: output} = error}, %{printed: [_ | _] = printed}),
    do: {:error, %{error | output: printed ++ output}}

  defp last_words(result, _request), do: result

  # Runs a function whose calls print to `stdio`.
  defp with_stdio(nil, fun), do: fun.()

  defp with_stdio(stdio, fun) do
    before = Process.put(@stdio, if(stdio == :group_leader, do: :caller, else: stdio))

    try do
      fun.()
    after
      if before, do: Process.put(@stdio, before), else: Process.delete(@stdio)
    end
  end

  # A pool whose calls are measured, or in which a test has stubs.
  defp special(bits, key, pid, native, module, function, args, kwargs, timeout, flags, routing)
       when Bitwise.band(bits, Double.doubled()) != 0 do
    with :through <- Double.call({pid, native, bits}, key, module, function, args, kwargs) do
      flags = unmark(flags)

      if Double.off(bits) == 0,
        do: routed(key, native, pid, module, function, args, kwargs, timeout, flags, routing),
        else: observed(key, pid, native, module, function, args, kwargs, timeout, flags, routing)
    end
  end

  defp special(_bits, key, pid, native, module, function, args, kwargs, timeout, flags, routing),
    do: observed(key, pid, native, module, function, args, kwargs, timeout, flags, routing)

  defp unmark({bits, where, parent}), do: {Double.off(bits), where, parent}
  defp unmark(bits), do: Double.off(bits)

  defp observed(key, pid, native, module, function, args, kwargs, timeout, flags, routing) do
    metadata = %{
      pool: key,
      module: module,
      function: function,
      arity: length(args)
    }

    start = Telemetry.call_start(metadata)

    {result, timings} =
      case routed(key, native, pid, module, function, args, kwargs, timeout, flags, routing) do
        {:timed, result, timings} -> {result, timings}
        result -> {result, nil}
      end

    Telemetry.call_stop(start, metadata, result, timings)
    result
  end

  @spec cast(term, term, term, list, map, timeout, Typhon.Options.routing()) :: :ok | {:error, Error.t()}
  def cast(key, module, function, args, kwargs, timeout, routing \\ nil)

  def cast(%Session{} = session, module, function, args, kwargs, timeout, routing) do
    with {pid, native, bits, {_, where, parent}} <- Session.target(session),
         :through <- Double.cast({pid, native, bits}, session.pool, module, function, args, kwargs) do
      timeout = Session.bound(timeout)
      call = {module, function, args, timeout}
      flags = mark_text({0, where, parent}, pid, routing)
      cast(session.pool, native, pid, call, kwargs, Deadline.from(timeout), flags, nil)
    end
  end

  def cast(key, module, function, args, kwargs, timeout, routing) do
    with {pid, native, _flags} = row <- Registry.lookup(key),
         :through <- Double.cast(row, key, module, function, args, kwargs) do
      timeout = Session.bound(timeout)
      call = {module, function, args, timeout}
      flags = native |> Session.aim(0) |> mark_text(pid, routing)
      cast(key, native, pid, call, kwargs, Deadline.from(timeout), flags, routing)
    end
  end

  defp cast(key, native, pid, {_, _, args, _} = call, kwargs, deadline, flags, routing) do
    request =
      slow(
        key,
        native,
        pid,
        make_ref(),
        @cast,
        args,
        kwargs,
        Deadline.left(deadline),
        aim(native, flags, routing)
      )

    with {:error, :moved} <- submit(request, call) do
      if Deadline.left(deadline) == 0,
        do: {:error, Error.timeout(call)},
        else: cast(key, native, pid, call, kwargs, deadline, flags, routing)
    end
  end
end
