defmodule Login.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    Login.Key.make()

    # What each Python runs first, also one that takes the place of another. The key is fetched, rather than given as an argument:
    # a supervisor logs the options of a child that does not start.
    init = "import tokens, typhon; tokens.use_key(typhon.Elixir.Login.Key.pem())"

    children = [
      # Typhon.Test takes the place of Typhon in unit tests (config/config.exs).
      {Application.get_env(:login, :pool, Typhon),
       name: Login.Python,
       workers: 2,
       python: System.get_env("EXAMPLE_PYTHON", ".venv"),
       python_path: [Application.app_dir(:login, "priv/py")],
       init: [init]}
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Login.Supervisor)
  end
end
