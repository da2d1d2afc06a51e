defmodule Typhon.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    Typhon.Telemetry.detect()
    # It words the error of one who has no descriptors left, and then it could not be loaded.
    Code.ensure_loaded(:erl_posix_msg)
    # This process lives as long as the application.
    Typhon.Registry.create_tables()
    Typhon.Interpreters.ensure_started()

    Supervisor.start_link([Typhon.Registry],
      strategy: :one_for_one,
      name: Typhon.Application.Supervisor
    )
  end

  @impl true
  def stop(_state), do: Typhon.Registry.forget_all()
end
