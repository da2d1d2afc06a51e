defmodule Typhon.Stream do
  @moduledoc false
  # A Python iterator as an Elixir stream. Python holds it behind a handle (python/typhon/_stream.py); each batch is a call of its
  # method `next`. One such call is on its way while the batch before it is used.

  import Typhon.Remote, only: [is_remote_object: 1]

  alias Typhon.{Call, Callee, DecodeError, EncodeError, Error, Native, Remote, Structs}

  @spec stream(Typhon.pool(), Typhon.callee(), Typhon.name(), list, map) :: Enumerable.t()
  def stream(_pool, object, function, args, options) when is_remote_object(object) do
    source = {:open, Callee.target(object), to_string(function), args, options.kwargs}
    object.pool |> Remote.stream(source, options) |> Structs.stream(options.as)
  end

  def stream(pool, module, function, args, options),
    do: resource(pool, options, fn -> open(pool, module, function, args, options) end)

  @doc "The same of an object that is there."
  @spec stream(Typhon.Object.t(), map) :: Enumerable.t()
  def stream(object, options) when is_remote_object(object),
    do: object.pool |> Remote.stream({:over, object}, options) |> Structs.stream(options.as)

  def stream(%Typhon.Object{pool: pool} = object, options) do
    resource(pool, options, fn ->
      with {:error, error} <- Typhon.Object.of_pool(object), do: raise(error)
      or_stub({pool, object, ".stream", [], %{}}, fn -> open(pool, "over", [object], options) end)
    end)
  end

  @doc "The batches themselves, of what a function of typhon._stream opens."
  @spec batches(pid, String.t(), list, map) :: Enumerable.t()
  def batches(pool, function, args, options) do
    next = fn state ->
      with {batch, state} when is_list(batch) <- next(state, pool, options), do: {[batch], state}
    end

    Stream.resource(fn -> open(pool, function, args, options) end, next, &close(&1, pool))
  end

  defp resource(pool, options, open),
    do: open |> Stream.resource(&next(&1, pool, options), &close(&1, pool)) |> Structs.stream(options.as)

  defp open(pool, module, function, args, options) do
    or_stub({pool, module, function, args, options.kwargs}, fn ->
      open(pool, "open", [Callee.target(module), to_string(function), args, options.kwargs], options)
    end)
  end

  defp or_stub({pool, module, function, args, kwargs}, open) do
    case Call.stubbed(pool, module, function, args, kwargs) do
      :through -> open.()
      {:ok, enumerable} -> {:stub, enumerable}
      {:error, error} -> raise error
    end
  end

  defp open(pool, function, args, options) do
    case Call.call(pool, {"typhon._stream", function, args, options.timeout}, %{}, options.routing) do
      {:ok, %Typhon.Object{} = stream} ->
        # A worker that is to be replaced waits for the end of the stream.
        Native.hold(stream.ref, true)
        {stream, fetch(stream, pool, options)}

      other ->
        fail(other)
    end
  end

  defp next({:stub, enumerable}, _pool, _options), do: {enumerable, :done}
  defp next(:done, _pool, _options), do: {:halt, :done}

  defp next({stream, pending}, pool, options) do
    case Call.finish(pending) do
      {:ok, {batch, false}} when is_list(batch) ->
        {batch, {stream, fetch(stream, pool, options)}}

      {:ok, {batch, true}} when is_list(batch) ->
        {batch, ended(stream)}

      # Stream.resource/3 calls close/2 then, with the state before this batch.
      {:error, %kind{} = error} when kind in [EncodeError, DecodeError] ->
        raise(of_batch(error, options.batch))

      other ->
        fail(other)
    end
  end

  # Python closes a batch when it is large; but it only estimates.
  defp of_batch(%{reason: reason} = error, batch) do
    if batch > 1 and to_string(reason) =~ "max_result:" do
      why = "This is a batch of the stream: with batch: 1 each element travels by itself"
      %{error | reason: "#{reason}. #{why}"}
    else
      error
    end
  end

  defp ended(stream) do
    Native.hold(stream.ref, false)
    :done
  end

  defp fetch(stream, pool, options),
    do: Call.begin(pool, {stream, "next", [options.batch], options.timeout}, options.routing)

  defp close({%Typhon.Object{} = stream, pending}, pool) do
    Call.abandon(pending)
    # Nobody waits for it; when the worker is gone there is nothing to close.
    Call.cast(pool, {stream, "close", [], 5_000}, %{})
    Native.hold(stream.ref, false)
  end

  defp close(_, _pool), do: :ok

  defp fail({:error, error}), do: raise(error)
  defp fail({:ok, answer}), do: raise(Error.nonsense(answer))
end
