defmodule Typhon.Pool.Watcher do
  @moduledoc false
  # `reload: true`, for development: looks every second at the Python files below python_path, and has the workers reload the
  # modules that were loaded from those that have changed.

  use GenServer

  require Logger

  alias Typhon.Pool.Reload

  @every 1_000
  @timeout 30_000

  @spec start_link(map) :: GenServer.on_start()
  def start_link(config), do: GenServer.start_link(__MODULE__, config)

  @impl true
  def init(config) do
    Process.send_after(self(), :look, @every)
    {:ok, %{config: config, seen: files(config.paths)}}
  end

  @impl true
  def handle_info(:look, %{config: config, seen: seen} = state) do
    files = files(config.paths)

    case for {path, stamp} <- files, Map.get(seen, path) not in [nil, stamp], do: path do
      [] -> :ok
      changed -> reload(config.pool, Enum.sort(changed))
    end

    Process.send_after(self(), :look, @every)
    {:noreply, %{state | seen: files}}
  end

  def handle_info(_message, state), do: {:noreply, state}

  defp reload(pool, paths) do
    case Reload.files(pool, paths, @timeout) do
      {:ok, []} -> :ok
      {:ok, modules} -> Logger.info("reloaded Python modules: " <> Enum.join(modules, ", "))
      {:error, error} -> Logger.error("Python modules were not reloaded: " <> Exception.message(error))
    end
  end

  # An editor may write twice in a second: the size is looked at, too.
  defp files(dirs) do
    for dir <- dirs,
        path <- Path.wildcard(Path.join(dir, "**/*.py")),
        {:ok, stat} <- [File.stat(path, time: :posix)],
        into: %{},
        do: {path, {stat.mtime, stat.size, stat.inode}}
  end
end
