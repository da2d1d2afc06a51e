defmodule Typhon.PoolError do
  @moduledoc """
  There is no pool to take the call.

  * `pool` – what was given as the pool
  * `reason` – `:not_found` (nothing has that name), `:stopped` (it was stopped, or is no pool), `:not_a_pool`,
    `:invalid` (neither a pid nor a name), `{:remote, node}` (it lives on another node), `:not_running` (the application
    `:typhon` is not started), `:draining` (`Typhon.drain/2` was called: it takes no new calls), `{:down, error}` (its workers
    ended, or could not be started, more often than its `:max_restarts` allows; `error` is the last
    `Typhon.WorkerError` or `Typhon.StartError`), `:session_ended` (it is the session of a `Typhon.run/3` that has returned)

  Of an object whose pool lives on another node: `{:node_down, node}` (that node is not connected, or went down during the
  call: then nobody knows how far the call came), `{:not_running, node}` (Typhon is not started there), `{:other_version, node}`
  (there is no Typhon, or one that does not understand this one), `{:too_many_leases, holder, most}` (that process holds so many
  leases of objects of the pool's node that it gets no more)
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
            | {:remote | :node_down | :not_running | :other_version, node}
            | {:too_many_leases, pid, pos_integer}
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

      {:node_down, node} ->
        "the node #{inspect(node)}, where the object lives, is gone: it is not connected, or went down during the call, and then " <>
          "nobody knows how far the call came. When it is there again, its pools make their objects anew"

      {:not_running, node} ->
        "the application :typhon is not running on the node #{inspect(node)}, where the object lived. " <>
          "Start it there, and make the object anew"

      {:other_version, node} ->
        "the node #{inspect(node)}, where the object lives, has no Typhon that understands the one of #{inspect(node())}. " <>
          "Have the same version on both"

      {:too_many_leases, holder, most} ->
        "the process #{inspect(holder)} holds #{most} leases of objects of the node #{inspect(node(pool))}, and gets no " <>
          "more. Release what it does not need any more: Typhon.release/1"

      {:remote, node} ->
        "the Typhon pool #{inspect(pool)} lives on the node #{inspect(node)}. " <>
          "Call it there, for example with :erpc.call(#{inspect(node)}, Typhon, :call, […])"
    end
  end
end
