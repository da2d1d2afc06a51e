defmodule Report.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    # pandas and matplotlib are imported when the worker starts, not in the first report's time.
    pool =
      {Typhon,
       name: Report.Python,
       workers: 1,
       python: System.get_env("EXAMPLE_PYTHON", ".venv"),
       python_path: [Application.app_dir(:report, "priv/py")],
       preload: [:sales]}

    Supervisor.start_link([pool], strategy: :one_for_one, name: Report.Supervisor)
  end
end
