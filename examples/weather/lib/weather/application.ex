defmodule Weather.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    python = Application.get_env(:weather, :python, Typhon)
    path = Path.expand("../../python", __DIR__)

    Supervisor.start_link([{python, name: Weather.Python, workers: 2, python_path: [path]}],
      strategy: :one_for_one
    )
  end
end
