defmodule Typhon.Worker.Steps do
  @moduledoc false
  # Calls on one worker that takes no others at the time: its `preload:` and `init:`, and hot reload. They run in a process of
  # their own, so that the worker's Elixir process goes on answering; it gets {:steps, ref, {:begins, step}} before each of
  # them, and {:steps, ref, result}.

  require Typhon.Wire

  alias Typhon.{Deadline, Native, Request, Wire}

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
      options = config |> Map.take([:stdio, :allow, :max_mailbox]) |> Map.put(:metadata, [])
      begins = &send(parent, {:steps, ref, {:begins, &1}})
      send(parent, {:steps, ref, run(steps, {pool, timeout, options, begins}, {:ok, nil}, [])})
    end)

    ref
  end

  # The result of the last step, and the last lines that were printed.
  defp run([], _how, result, printed), do: {result, printed}

  defp run([step | rest], {pool, timeout, options, begins} = how, _result, printed) do
    begins.(step)
    {module, function, args} = call(step)
    call = {module, function, args, timeout}

    request = Request.new({nil, nil, pool}, make_ref(), Wire.call(), call, %{}, Deadline.from(timeout), 0)

    case Request.run(%{request | options: options, printed: printed}) do
      {{:ok, _} = ok, %{printed: printed}} -> run(rest, how, ok, printed)
      {error, %{printed: printed}} -> {error, printed}
    end
  end

  defp call({:preload, module}), do: {"typhon._life", "preload", [module]}
  defp call({:code, code}), do: {"typhon._life", "execute", [code, "init"]}
  defp call({:call, module, function, args}), do: {module, function, args}
end
