defmodule Typhon.Worker.Errand do
  @moduledoc false
  # Calls on one worker that takes no others at the time: its `preload:` and `init:`, and hot reload. They run in a process of
  # their own, so that the worker's Elixir process goes on answering; it gets {:errand, ref, {:begins, step}} before each of
  # them, and {:errand, ref, result}.

  alias Typhon.{Call, Conversation, Deadline, Encoder, Error, Native}
  alias Typhon.Worker.Output

  @type step :: {:call, term, term, list} | {:code, String.t()} | {:preload, String.t()}

  @doc """
  Runs the steps one after the other, up to the first error. The channel's end, which comes with the worker's, ends it. What
  Python asks meanwhile, and prints, is dealt with as the pool's options say.
  """
  @spec start(Native.channel(), [step], timeout, map) :: reference
  def start(channel, steps, timeout, config) do
    parent = self()
    ref = make_ref()

    spawn(fn ->
      # A pool of one place, which calls find the channel by.
      pool = Native.pool_new(1)
      :ok = Native.pool_put(pool, 0, channel)

      context = %{
        native: pool,
        where: channel,
        stdio: config.stdio,
        allow: config.allow,
        max_mailbox: config.max_mailbox,
        metadata: []
      }

      begins = &send(parent, {:errand, ref, {:begins, &1}})
      send(parent, {:errand, ref, run(steps, pool, timeout, context, begins, {:ok, nil}, [])})
    end)

    ref
  end

  # The result of the last step, and the last lines that were printed.
  defp run([], _pool, _timeout, _context, _begins, result, printed), do: {result, printed}

  defp run([step | rest], pool, timeout, context, begins, _result, printed) do
    begins.(step)

    case step(step, pool, timeout, context, printed) do
      {{:ok, _} = ok, printed} -> run(rest, pool, timeout, context, begins, ok, printed)
      failed -> failed
    end
  end

  defp step({:preload, module}, pool, timeout, context, printed),
    do: step({:call, "typhon._life", "preload", [module]}, pool, timeout, context, printed)

  defp step({:code, code}, pool, timeout, context, printed),
    do: step({:call, "typhon._life", "execute", [code, "init"]}, pool, timeout, context, printed)

  defp step({:call, module, function, args} = step, pool, timeout, context, printed) do
    ref = make_ref()
    call = {module, function, args, timeout}

    case Native.call(pool, ref, 0, module, function, args, %{}, timeout, 0) do
      {:wait, where, id, left} ->
        deadline = Deadline.from(left)
        context = Map.merge(context, %{where: where, id: id, args: args, kwargs: %{}, deadline: deadline})
        wait(pool, where, id, ref, call, context, printed)

      {:encoder} ->
        case Encoder.Walk.prepare(args, %{}) do
          {:ok, args, _kwargs} -> step(put_elem(step, 3, args), pool, timeout, context, printed)
          {:error, _} = error -> {error, printed}
        end

      {:cannot_encode, path, message} ->
        {{:error, %Typhon.EncodeError{path: path, type: nil, reason: message}}, printed}

      reply ->
        {finish(reply, call), printed}
    end
  end

  defp wait(pool, where, id, ref, call, context, printed) do
    receive do
      {^ref, {:ask, _, _} = ask} ->
        text = Conversation.handle(ask, context)
        printed = if text == "", do: printed, else: Output.last_lines(printed, text)
        wait(pool, where, id, ref, call, context, printed)

      {^ref, reply} ->
        {finish(reply, call), printed}
    after
      Deadline.left(context.deadline) ->
        importing = Native.importing(pool, where, id)
        Native.cancel(pool, where, id)
        Conversation.leave(ref, fn -> context end)
        {{:error, Error.timeout(call, importing)}, printed}
    end
  end

  # The channel was closed before the request lay in it, or it is too large for the worker's memory.
  defp finish({kind, _}, _call) when kind in [:not_started, :room, :held],
    do: {:error, %Typhon.WorkerError{reason: :gone}}

  defp finish(:no_worker, _call), do: {:error, %Typhon.WorkerError{reason: :gone}}
  defp finish(reply, call), do: Call.result(reply, call)
end
