defmodule Pythonx.Project do
  @moduledoc false
  # The environment that a pyproject.toml asks for: made by uv, or the configured interpreter when it has what is asked for.

  alias Pythonx.Python

  @variable "PYTHONX_INIT_STATE"
  @state {__MODULE__, :state}
  @options [force: false, python: nil, native_tls: false, uv_version: nil]
  @most 30 * 60_000
  # What would lead uv to another project, environment or configuration than this one.
  @not_ours ~w(VIRTUAL_ENV CONDA_PREFIX UV_CONFIG_FILE UV_PROJECT UV_PROJECT_ENVIRONMENT UV_PYTHON UV_WORKING_DIRECTORY
               UV_NO_SYNC)

  @spec init!(String.t(), keyword) :: :ok
  def init!(text, options) do
    options = Keyword.validate!(options, @options)

    paths =
      case System.find_executable("uv") do
        nil -> use_configured!(text, options[:python])
        uv -> use_synced!(uv, text, options)
      end

    :persistent_term.put(@state, %{text: text, options: Keyword.drop(options, [:force]), paths: paths})
  end

  @doc "What the configuration says, or the environment variable of `install_env/0`."
  @spec init_at_start! :: :ok
  def init_at_start! do
    configured = Application.get_env(:pythonx, :uv_init, [])

    case {configured[:pyproject_toml], System.get_env(@variable)} do
      {nil, nil} ->
        :ok

      {nil, state} ->
        {text, options} = state |> Base.decode64!() |> :erlang.binary_to_term([:safe])
        init!(text, options)

      {text, _} ->
        init!(text, Keyword.take(configured, Keyword.keys(@options)))
    end
  end

  @spec install_env :: %{String.t() => String.t()}
  def install_env do
    %{text: text, options: options} = state!("install_env/0")
    %{@variable => Base.encode64(:erlang.term_to_binary({text, options}))}
  end

  @spec install_paths :: [String.t()]
  def install_paths, do: state!("install_paths/0").paths

  defp state!(function) do
    :persistent_term.get(@state, nil) ||
      raise "Pythonx.#{function} tells how this node was initialized, and it was not: call Pythonx.uv_init/2 first, " <>
              "or configure :uv_init"
  end

  # --- without uv ---

  defp use_configured!(text, version) do
    Python.use!(nil)

    case Python.call!("lacks", [text, version]) do
      {_interpreter, []} ->
        []

      {interpreter, lacks} ->
        Python.stop!()

        raise """
        #{interpreter} does not have what the project asks for:

        #{Enum.map_join(lacks, "\n", &"  * #{&1}")}

        Either put uv on the PATH (https://docs.astral.sh/uv), which installs it. Or install it yourself into a virtualenv, and \
        name that one: config :pythonx, python: "/path/of/.venv"\
        """
    end
  end

  # --- with uv ---

  defp use_synced!(uv, text, options) do
    folder = folder(text, options)
    done = Path.join(folder, ".synced")
    if options[:force], do: File.rm_rf!(folder)

    unless File.exists?(done) do
      File.mkdir_p!(folder)
      File.write!(Path.join(folder, "pyproject.toml"), text)
      sync!(uv, folder, options)
      File.touch!(done)
    end

    environment = Path.join(folder, ".venv")
    Python.use!(environment)
    [folder | home(environment)]
  end

  defp folder(text, options) do
    name = Base.encode16(:erlang.md5([text, 0, options[:python] || ""]), case: :lower)
    cache = System.get_env("PYTHONX_CACHE_DIR") || :filename.basedir(:user_cache, "pythonx")
    Path.join([Path.expand(cache), "typhon", name])
  end

  defp sync!(uv, folder, options) do
    arguments = ["sync", "--no-config"] ++ if(options[:python], do: ["--python", options[:python]], else: [])
    # Of the flag newer versions of uv have another name; a variable that one does not know is nothing to it.
    tls = if options[:native_tls], do: [{"UV_NATIVE_TLS", "1"}, {"UV_SYSTEM_CERTS", "1"}], else: []
    env = tls ++ for name <- @not_ours, do: {name, nil}
    # What it says goes where the caller prints.
    command = [into: IO.stream(), stderr_to_stdout: true, cd: folder, env: env]
    task = Task.async(fn -> System.cmd(uv, arguments, command) end)

    case Task.yield(task, @most) || Task.shutdown(task, :brutal_kill) do
      {:ok, {_, 0}} ->
        :ok

      {:ok, {_, status}} ->
        raise "uv could not make the environment: it ended with the status #{status}, and printed the reason. " <>
                "The project is in #{folder}, where `uv sync` can be run by hand"

      nil ->
        raise "uv had not made the environment in #{folder} after #{div(@most, 60_000)} minutes. " <>
                "Does it reach the index of packages? Run `uv sync` there by hand"
    end
  end

  # The Python that the environment stands on.
  defp home(environment) do
    with {:ok, text} <- File.read(Path.join(environment, "pyvenv.cfg")),
         [_, bin] <- Regex.run(~r/^home\s*=\s*(.+)$/m, text) do
      [bin |> String.trim() |> Path.dirname()]
    else
      _ -> []
    end
  end
end
