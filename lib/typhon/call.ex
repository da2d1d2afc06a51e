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

  alias Typhon.{Encoder, Error, Native, Pool, Registry, Telemetry}
  alias Typhon.Test.Double

  @call 0
  @cast 1
  @timings 1

  @doc "Flags of a pool, as they stand in its row of the registry."
  @spec flags(Typhon.Options.start()) :: non_neg_integer
  def flags(%{telemetry: telemetry}),
    do: if(telemetry and Telemetry.available?(), do: @timings, else: 0)

  @spec call(term, term, term, list, map, timeout) :: {:ok, term} | {:error, Error.t()}
  def call(key, module, function, args, kwargs, timeout) do
    case Registry.lookup(key) do
      {pid, native, 0} ->
        request(native, pid, module, function, args, kwargs, timeout, 0)

      {_pid, _native, flags} = row when :erlang.band(flags, Double.doubled()) != 0 ->
        doubled(row, key, module, function, args, kwargs, timeout)

      {pid, native, flags} ->
        observed(key, pid, native, module, function, args, kwargs, timeout, flags)

      error ->
        error
    end
  end

  defp request(native, pid, module, function, args, kwargs, timeout, flags) do
    ref = make_ref()

    case Native.call(native, ref, @call, module, function, args, kwargs, timeout, flags) do
      {:ok, _} = ok ->
        ok

      {:wait, where, id, left} ->
        receive do
          {^ref, {:ok, _} = ok} ->
            ok

          # The worker ended before it took the request: another one can have it, in the time that is left.
          {^ref, {:not_started, left}} ->
            native
            |> slow(pid, ref, @call, args, kwargs, left, flags)
            |> submit({module, function, args, timeout})

          {^ref, reply} ->
            finish(reply, {module, function, args, timeout})
        after
          left -> give_up(native, where, id, ref, {module, function, args, timeout})
        end

      other ->
        request = slow(native, pid, ref, @call, args, kwargs, timeout, flags)
        step(other, request, {module, function, args, timeout})
    end
  end

  defp slow(native, pid, ref, kind, args, kwargs, timeout, flags) do
    %{
      native: native,
      pid: pid,
      ref: ref,
      kind: kind,
      args: args,
      kwargs: kwargs,
      deadline: deadline(timeout),
      flags: flags
    }
  end

  # Every road that is not the short one. `call` stays as the user wrote it, for messages; the request's arguments may have
  # been prepared for the wire.
  defp step({:wait, where, id, _left}, %{ref: ref} = request, call) do
    receive do
      {^ref, {:not_started, _left}} -> submit(request, call)
      {^ref, reply} -> finish(reply, call)
    after
      remaining(request.deadline) -> give_up(request.native, where, id, ref, call)
    end
  end

  defp step({:not_started, left}, request, call),
    do: submit(%{request | deadline: deadline(left)}, call)

  defp step({:room, channel}, %{ref: ref} = request, call) do
    receive do
      {^ref, :room} -> submit(request, call)
      {^ref, reply} -> finish(reply, call)
    after
      remaining(request.deadline) ->
        Native.cancel_room(channel, ref)

        receive do
          {^ref, _} -> :ok
        after
          0 -> :ok
        end

        {:error, Error.timeout(call)}
    end
  end

  defp step({:encoder}, request, call) do
    case Encoder.Walk.prepare(request.args, request.kwargs) do
      {:ok, args, kwargs} -> submit(%{request | args: args, kwargs: kwargs}, call)
      {:error, _} = error -> error
    end
  end

  defp step({:cannot_encode, path, message}, _request, _call),
    do: {:error, %Typhon.EncodeError{path: path, type: nil, reason: message}}

  # All workers are being replaced. Wait for the first one: its first restart follows at once.
  defp step(:no_worker, request, call) do
    case Pool.await_any(request.pid, remaining(request.deadline)) do
      :ok -> submit(request, call)
      :timeout -> {:error, Error.timeout(call)}
      {:error, _} = error -> error
    end
  end

  # A cast was accepted.
  defp step(:ok, _request, _call), do: :ok

  defp step(reply, _request, call), do: finish(reply, call)

  defp submit(request, {module, function, _, _} = call) do
    request.native
    |> Native.call(
      request.ref,
      request.kind,
      module,
      function,
      request.args,
      request.kwargs,
      remaining(request.deadline),
      request.flags
    )
    |> step(request, call)
  end

  defp finish({:ok, _} = ok, _call), do: ok
  defp finish({:error, error}, call), do: {:error, Error.from_wire(error, call)}
  defp finish({:segment, handle}, call), do: handle |> Native.decode() |> finish(call)
  defp finish({:timed, reply, timings}, call), do: {:timed, finish(reply, call), timings}
  defp finish({:down, reason}, _call), do: {:error, Error.from_down(reason)}

  # The answer may have come at the very moment the time ran out: then it is there, so the caller gets it.
  defp give_up(native, where, id, ref, call) do
    case Native.cancel(native, where, id) do
      :cancelled ->
        {:error, Error.timeout(call)}

      :delivered ->
        receive do
          {^ref, {:not_started, _left}} -> {:error, Error.timeout(call)}
          {^ref, reply} -> finish(reply, call)
        end
    end
  end

  defp deadline(:infinity), do: :infinity
  defp deadline(timeout), do: System.monotonic_time(:millisecond) + timeout

  defp remaining(:infinity), do: :infinity
  defp remaining(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)

  # A test has stubs in this pool.
  defp doubled({pid, native, flags} = row, key, module, function, args, kwargs, timeout) do
    with :through <- Double.call(row, key, module, function, args, kwargs) do
      case Double.off(flags) do
        0 -> request(native, pid, module, function, args, kwargs, timeout, 0)
        flags -> observed(key, pid, native, module, function, args, kwargs, timeout, flags)
      end
    end
  end

  defp observed(key, pid, native, module, function, args, kwargs, timeout, flags) do
    metadata = %{
      pool: key,
      module: module,
      function: function,
      arity: length(args)
    }

    start = Telemetry.call_start(metadata)

    {result, timings} =
      case request(native, pid, module, function, args, kwargs, timeout, flags) do
        {:timed, result, timings} -> {result, timings}
        result -> {result, nil}
      end

    Telemetry.call_stop(start, metadata, result, timings)
    result
  end

  @spec cast(term, term, term, list, map, timeout) :: :ok | {:error, Error.t()}
  def cast(key, module, function, args, kwargs, timeout) do
    with {pid, native, _flags} = row <- Registry.lookup(key),
         :through <- Double.cast(row, key, module, function, args, kwargs) do
      native
      |> slow(pid, make_ref(), @cast, args, kwargs, timeout, 0)
      |> submit({module, function, args, timeout})
    end
  end
end
