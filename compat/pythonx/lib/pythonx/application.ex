defmodule Pythonx.Application do
  @moduledoc false

  use Application

  @impl true
  def start(_type, _args) do
    children = [
      {DynamicSupervisor, name: Pythonx.Pools, strategy: :one_for_one},
      Pythonx.Python,
      Pythonx.Remote
    ]

    with {:ok, pid} <- Supervisor.start_link(children, strategy: :one_for_one, name: Pythonx.Supervisor) do
      Pythonx.Project.init_at_start!()
      {:ok, pid}
    end
  end
end
