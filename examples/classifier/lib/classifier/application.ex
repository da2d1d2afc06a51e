defmodule Classifier.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    children = [
      {Typhon,
       name: Classifier.Python,
       workers: 1,
       python: System.get_env("EXAMPLE_PYTHON", ".venv"),
       python_path: [Application.app_dir(:classifier, "priv/py")],
       preload: [:tickets]},
      Classifier.Model
    ]

    # The model is in the pool's Python: a pool that was started anew has none.
    Supervisor.start_link(children, strategy: :rest_for_one, name: Classifier.Supervisor)
  end
end
