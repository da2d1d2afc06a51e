defmodule Typhon.Async do
  @moduledoc false
  # A call in a Task. The task is an ordinary one, so that whatever takes tasks takes it; all that is ours is what the task runs,
  # and a note of the call in the task's process, by which a TimeoutError can name it.

  alias Typhon.{Error, Remote, Session, TimeoutError}

  @call {__MODULE__, :call}

  @spec async(Typhon.pool(), Typhon.callee(), Typhon.name(), list, keyword) :: Task.t()
  def async(pool, module, function, args, options),
    do:
      Task.async(__MODULE__, :run, [
        pool,
        module,
        function,
        args,
        options,
        Session.heritage(),
        Remote.heritage()
      ])

  @doc false
  @spec run(Typhon.pool(), Typhon.callee(), Typhon.name(), list, keyword, map | nil, {pid, map}) ::
          {:ok, term} | {:error, Error.t()}
  def run(pool, module, function, args, options, heritage, remote) do
    Session.inherit(heritage)
    Remote.inherit(remote)
    Process.put(@call, {module, function, length(args)})
    Typhon.call(pool, module, function, args, options)
  end

  @spec await(Task.t(), timeout) :: {:ok, term} | {:error, Error.t()}
  def await(task, :infinity), do: Task.await(task, :infinity)

  def await(%Task{pid: pid} = task, timeout) do
    # A second look by shutdown/2: the answer may have come in this very moment.
    case Task.yield(task, timeout) || {call(pid), Task.shutdown(task, :brutal_kill)} do
      {:ok, result} -> result
      {:exit, reason} -> exit({reason, {__MODULE__, :await, [task, timeout]}})
      {_call, {:ok, result}} -> result
      {_call, {:exit, reason}} -> exit({reason, {__MODULE__, :await, [task, timeout]}})
      {call, nil} -> {:error, timeout(call, timeout)}
    end
  end

  defp call(pid) do
    with {:dictionary, dictionary} <- Process.info(pid, :dictionary),
         {_, {_, _, _} = call} <- List.keyfind(dictionary, @call, 0) do
      call
    else
      _ -> nil
    end
  end

  defp timeout({module, function, arity}, timeout),
    do: %TimeoutError{timeout: timeout, module: module, function: function, arity: arity}

  # The task had not begun.
  defp timeout(nil, timeout),
    do: %TimeoutError{timeout: timeout, module: "Typhon", function: "async", arity: 5}

  @spec yield_many([Task.t()], %{timeout: timeout, on_timeout: :nothing | :ignore | :kill_task}) ::
          [{Task.t(), {:ok, {:ok, term} | {:error, Error.t()}} | {:exit, term} | nil}]
  def yield_many(tasks, %{timeout: timeout, on_timeout: on_timeout}) do
    results = Task.yield_many(tasks, timeout)

    case on_timeout do
      :nothing ->
        results

      :ignore ->
        for {task, result} <- results, do: {task, result || Task.ignore(task)}

      :kill_task ->
        for {task, result} <- results, do: {task, result || Task.shutdown(task, :brutal_kill)}
    end
  end
end
