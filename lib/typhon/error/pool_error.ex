defmodule Typhon.PoolError do
  @moduledoc """
  There is no pool to take the call.

  * `pool` – what was given as the pool
  * `reason` – `:not_found` (nothing has that name), `:stopped` (it was stopped, or is no pool), `:not_a_pool`,
    `:invalid` (neither a pid nor a name), `{:remote, node}` (it lives on another node), `:not_running` (the application
    `:typhon` is not started), `:draining` (`Typhon.drain/2` was called: it takes no new calls), `{:down, error}` (its workers
    ended, or could not be started, more often than its `:max_restarts` allows; `error` is the last
    `Typhon.WorkerError` or `Typhon.StartError`), `:session_ended` (it is the session of a `Typhon.run/3` that has returned)
  """

  defexception [:pool, :reason]

  @type t :: %__MODULE__{
          pool: term,
          reason:
            :not_found
            | :stopped
            | :not_a_pool
            | :invalid
            | :not_running
            | :draining
            | :session_ended
            | {:remote, node}
            | {:down, Exception.t()}
        }

  @impl true
  def message(%{pool: pool, reason: reason}) do
    case reason do
      :not_found when pool in [nil, true, false] ->
        "#{inspect(pool)} is not a Typhon pool: expected the pid from Typhon.start_link/1 or the pool's name"

      :not_found ->
        "there is no Typhon pool with the name #{inspect(pool)}. " <>
          "Is {Typhon, name: #{inspect(pool)}} among the children of a supervisor that runs?"

      :stopped ->
        "the Typhon pool #{inspect(pool)} has stopped, or the process never was a pool"

      :not_a_pool ->
        "#{inspect(pool)} is the name of a process that is not a Typhon pool, or of one that is not ready yet"

      :invalid when is_struct(pool, Typhon.Scope) ->
        "#{inspect(pool)} is a scope, and not a Typhon pool: #{Typhon.Scope.takes()}. Functions of a module are called " <>
          "with the pool"

      :invalid when is_struct(pool, Typhon.Object) ->
        "#{inspect(pool)} is an object, and not a Typhon pool: #{Typhon.Object.calls()}"

      :invalid ->
        "#{inspect(pool)} is not a Typhon pool: expected the pid from Typhon.start_link/1 or the pool's name"

      :not_running ->
        "the application :typhon is not running. Start it with Application.ensure_all_started(:typhon)"

      :session_ended ->
        "#{inspect(pool)} has ended: the Typhon.run/3 that it was made for has returned. " <>
          "Call the pool, or do the work inside of the run"

      :draining ->
        "the Typhon pool #{inspect(pool)} is draining: it finishes the calls it has, and takes no new ones"

      {:down, error} ->
        "the Typhon pool #{inspect(pool)} went down: its workers ended, or could not be started, more often than " <>
          "max_restarts: and max_seconds: allow. The last time: " <> Exception.message(error)

      {:remote, node} ->
        "the Typhon pool #{inspect(pool)} lives on the node #{inspect(node)}. " <>
          "Call it there, for example with :erpc.call(#{inspect(node)}, Typhon, :call, […])"
    end
  end
end
