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
    load_modules()

    Supervisor.start_link([Typhon.Registry, Typhon.Leases, Typhon.Default.child_spec()],
      strategy: :one_for_one,
      name: Typhon.Application.Supervisor
    )
  end

  # A VM that loads modules as they are called would do so while the first pool starts, which takes longer than Python does. A
  # release has them already.
  defp load_modules do
    {:ok, modules} = :application.get_key(:typhon, :modules)
    spawn(fn -> :code.ensure_modules_loaded(modules) end)
  end

  @impl true
  def stop(_state), do: Typhon.Registry.forget_all()
end
