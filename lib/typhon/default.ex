defmodule Typhon.Default do
  @moduledoc false
  # The pool that code without one goes to: that of Typhon.default/1, else the one that the configuration names.

  alias Typhon.{Options, Pool}

  @supervisor Typhon.Default.Supervisor

  @spec child_spec :: Supervisor.child_spec()
  def child_spec, do: DynamicSupervisor.child_spec(name: @supervisor, strategy: :one_for_one)

  @spec start(keyword) :: {:ok, pid} | {:error, term}
  def start(options) do
    started = Options.start!(options)
    # What its Pythons print goes to whoever has asked for it, not to Typhon's application.
    started = if started.stdio == :group_leader, do: %{started | stdio: Process.group_leader()}, else: started

    :global.trans({__MODULE__, self()}, fn -> replace(options, started) end, [node()])
  end

  defp replace(options, started) do
    case started() do
      {pool, ^options} ->
        {:ok, pool}

      _ ->
        for {_, pool, _, _} when is_pid(pool) <- DynamicSupervisor.which_children(@supervisor),
            do: Typhon.stop(pool)

        start = {__MODULE__, :start_pool, [options, started]}
        child = %{id: __MODULE__, start: start, type: :supervisor, restart: :temporary}
        DynamicSupervisor.start_child(@supervisor, child)
    end
  end

  @doc false
  # In the supervisor: whatever becomes of who has asked for it, the pool is known.
  @spec start_pool(keyword, Options.start()) :: {:ok, pid} | {:error, term}
  def start_pool(options, started) do
    with {:ok, pool} <- Pool.start_link(started) do
      :persistent_term.put(__MODULE__, {pool, options})
      {:ok, pool}
    end
  end

  @spec pool! :: Typhon.pool()
  def pool! do
    case started() do
      {pool, _options} -> pool
      nil -> configured!()
    end
  end

  defp started do
    with {pool, _options} = started <- :persistent_term.get(__MODULE__, nil),
         do: if(Process.alive?(pool), do: started)
  end

  defp configured! do
    case Application.get_env(:typhon, :default) do
      nil ->
        raise ArgumentError,
              "there is no default pool: config :typhon, default: MyApp.Python names one, and " <>
                "Typhon.default(workers: 1) starts one"

      pool ->
        pool
    end
  end
end
