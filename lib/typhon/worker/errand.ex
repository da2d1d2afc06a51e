defmodule Typhon.Worker.Errand do
  @moduledoc false
  # Calls on one worker that takes no others at the time: its `init:`, and hot reload. They run in a process of their own, so
  # that the worker's Elixir process goes on answering; it gets {:errand, ref, result}.

  alias Typhon.{Encoder, Error, Native}

  @type step :: {:call, term, term, list} | {:code, String.t()}

  @doc "Runs the steps one after the other, up to the first error. The channel's end, which comes with the worker's, ends it."
  @spec start(Native.channel(), [step], timeout) :: reference
  def start(channel, steps, timeout) do
    parent = self()
    ref = make_ref()

    spawn(fn ->
      # A pool of one place, which calls find the channel by.
      pool = Native.pool_new(1)
      :ok = Native.pool_put(pool, 0, channel)
      send(parent, {:errand, ref, run(steps, pool, timeout, {:ok, nil})})
    end)

    ref
  end

  defp run([], _pool, _timeout, result), do: result

  defp run([step | rest], pool, timeout, _result) do
    with {:ok, _} = ok <- step(step, pool, timeout), do: run(rest, pool, timeout, ok)
  end

  defp step({:code, code}, pool, timeout),
    do: step({:call, "typhon._life", "execute", [code, "init"]}, pool, timeout)

  defp step({:call, module, function, args}, pool, timeout) do
    ref = make_ref()
    call = {module, function, args, timeout}

    case Native.call(pool, ref, 0, module, function, args, %{}, timeout, 0) do
      {:wait, where, id, left} ->
        receive do
          {^ref, reply} -> finish(reply, call)
        after
          left ->
            Native.cancel(pool, where, id)
            {:error, Error.timeout(call)}
        end

      {:encoder} ->
        with {:ok, args, _kwargs} <- Encoder.Walk.prepare(args, %{}),
             do: step({:call, module, function, args}, pool, timeout)

      {:cannot_encode, path, message} ->
        {:error, %Typhon.EncodeError{path: path, type: nil, reason: message}}

      reply ->
        finish(reply, call)
    end
  end

  defp finish({:ok, _} = ok, _call), do: ok
  defp finish({:error, error}, call), do: {:error, Error.from_wire(error, call)}
  defp finish({:segment, handle}, call), do: handle |> Native.decode() |> finish(call)
  defp finish({:down, reason}, _call), do: {:error, Error.from_down(reason)}
  # The channel was closed before the request lay in it, or it is too large for the worker's memory.
  defp finish(_other, _call), do: {:error, %Typhon.WorkerError{reason: :gone}}
end
