defmodule Typhon.Worker.Host.Embedded do
  @moduledoc false
  # An interpreter in this VM, which Typhon.Interpreters gives out. Its end comes as {:interpreter, socket, {:exit_status, code}}.

  @behaviour Typhon.Worker.Host

  alias Typhon.{Env, Interpreters, Language, Native}
  alias Typhon.Worker.{Host, Settings}

  @enforce_keys [:socket, :control]
  defstruct [:socket, :control, ended?: false]

  @type t :: %__MODULE__{
          socket: Native.descriptor(),
          control: Native.descriptor(),
          ended?: boolean
        }

  # What is loaded into the VM.
  @impl true
  def prepare(config) do
    with {:ok, env} <- Env.describe(config.program, cd: config.cd, env: config.env) do
      engine = if config.engine == :auto, do: env.engine, else: config.engine

      case env.engines[engine] do
        {:ok, why} -> {:ok, threads(Map.put(config, :interpreter, %{env | engine: engine, why: why}))}
        refused -> {:error, no_engine(engine, refused, env)}
      end
    end
  end

  # engine: :auto, and it is one interpreter with as many threads as there were to be workers.
  defp threads(%{engine: :auto, interpreter: %{engine: :threads}} = config),
    do: %{config | workers: 1, min_workers: 1, concurrency: config.workers * config.concurrency}

  defp threads(config), do: config

  defp no_engine(engine, refused, env) do
    reason = if Language.Python.too_old?(env.version), do: :python_too_old, else: :no_engine
    text = "isolation: :interpreter cannot run #{env.executable}" <> refused(engine, refused, env)
    Language.start_error(:python, reason, env.executable, text)
  end

  defp refused(nil, nil, env), do: ": " <> env.why
  defp refused(engine, {:error, why}, _env), do: " with engine: #{inspect(engine)}: #{why}"

  @impl true
  def in_vm?, do: true

  # Gives an interpreter a channel to serve, that of the region, and a pipe to print to.
  @impl true
  def open(config, %{region: region, output: output}) do
    environment = Interpreters.environment(config.env)

    with {:ok, socket, signal} <- Interpreters.take(config.interpreter, environment) do
      case Native.interpreter_job(socket, job(config, environment, signal), region.fd, output) do
        {:ok, control} ->
          {:ok, %__MODULE__{socket: socket, control: control}}

        {:error, text} ->
          Interpreters.give_back(socket)
          text = "an interpreter inside the VM did not take its job: #{text}"
          {:error, Language.start_error(config.language, :interpreter_failed, config.program, text)}
      end
    end
  end

  defp job(config, environment, signal) do
    settings = [{:signal, signal} | Settings.worker(config)]

    :erlang.term_to_binary(%{
      # A name that is no UTF-8 is one that no program looks for.
      "environment" =>
        for({name, value} <- environment, String.valid?(name), into: %{}, do: {name, text(value)}),
      "cd" => text(config.cd),
      "python_path" => Enum.map(config.paths, &text/1),
      "settings" => Map.new(settings, fn {name, value} -> {Atom.to_string(name), value} end)
    })
  end

  # A binary is text there; what is none goes as a list of bytes.
  defp text(bytes), do: if(String.valid?(bytes), do: bytes, else: :binary.bin_to_list(bytes))

  @impl true
  def adopt(host, _greeting), do: {:ok, host}

  @impl true
  def event(%{socket: socket} = host, {:interpreter, socket, {:exit_status, status}}),
    do: {:ended, %{host | ended?: true}, Host.exit_of(status)}

  def event(_host, _message), do: :unknown

  @impl true
  def interrupt(host, id), do: Native.descriptor_write(host.control, Host.cancel(id)) == :ok

  # It cannot be killed: it is set aside, for as long as what it runs does not end.
  @impl true
  def kill(host) do
    :ok = Interpreters.quarantine(host.socket)
    send(self(), {:interpreter, host.socket, {:exit_status, nil}})
    :ok
  end

  @impl true
  def abort(_host), do: :goes

  # Interpreters hears when it has ended.
  @impl true
  def close(host) do
    Native.descriptor_close(host.control)
    host
  end

  # It is set aside when that takes too long.
  @impl true
  def see_off(%{ended?: true}, _grace), do: :ok

  def see_off(%{socket: socket}, grace) do
    receive do
      {:interpreter, ^socket, _} -> :ok
    after
      2 * grace -> Interpreters.quarantine(socket)
    end
  end

  @impl true
  def os_pid(_host), do: nil

  @impl true
  def memory(_host), do: nil

  @impl true
  def stopped?(_host), do: false
end
