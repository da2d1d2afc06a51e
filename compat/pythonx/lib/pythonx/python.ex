defmodule Pythonx.Python do
  @moduledoc false
  # The one Python: a pool of one worker, started when it is first needed. This process starts and replaces it; calls pass it by.

  use GenServer

  require Logger

  alias Pythonx.{Error, Object}
  alias Typhon.Options.Check

  @pool Pythonx.Python.Pool
  @module "pythonx._worker"
  @concurrency 16
  @configured [:isolation, :python, :concurrency, :uv_init]
  # Milliseconds. What cannot be interrupted goes on, as in Pythonx: its thread is less than what all others have in this Python.
  @grace 4_294_967_295

  @doc "Calls a function of pythonx._worker. Raises Pythonx.Error for what went wrong in Python's code."
  @spec call!(String.t(), list) :: term
  def call!(function, args) do
    unless ready?(), do: start!()

    case Typhon.call(@pool, @module, function, args, timeout: :infinity) do
      {:ok, {true, result}} ->
        result

      {:ok, {false, lines, type, value, traceback}} ->
        raise %Error{
          lines: lines,
          type: Object.new(type),
          value: Object.new(value),
          traceback: Object.new(traceback)
        }

      {:error, error} ->
        raise named(error, function)
    end
  end

  # From the place in the request to what the user has given, or asked for.
  defp named(%Typhon.EncodeError{path: path} = error, function) when is_binary(path),
    do: %{error | path: place(path, function)}

  defp named(error, _function), do: error

  defp place("args[1]" <> rest, "evaluate"), do: "globals" <> rest
  defp place("args[0]" <> rest, "evaluate"), do: "code" <> rest
  defp place("args[0]" <> rest, "encode"), do: "term" <> rest
  defp place("result[1][2]" <> rest, "decode"), do: "object" <> rest
  defp place(path, _function), do: path

  # Its name is there before it takes calls.
  defp ready? do
    pid = Process.whereis(@pool)
    pid != nil and pid == :persistent_term.get(@pool, nil)
  end

  @doc "Has a Python run; the configured one, or that of the last `use!/1`."
  @spec start! :: :ok
  def start!, do: request!(:start)

  @doc "Has another Python run, in the place of the one that there is. nil: the configured one."
  @spec use!(Path.t() | nil) :: :ok
  def use!(python), do: request!({:use, python})

  @doc "Ends it."
  @spec stop! :: :ok
  def stop!, do: request!(:stop)

  defp request!(request) do
    # A compiler has not started the applications whose code it runs.
    if Process.whereis(__MODULE__) == nil, do: {:ok, _} = Application.ensure_all_started(:pythonx)

    case GenServer.call(__MODULE__, request, :infinity) do
      :ok -> :ok
      {:error, error} -> raise error
    end
  end

  @spec start_link(term) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(python), do: {:ok, python}

  @impl true
  def handle_call(:start, _from, python), do: {:reply, start(python), python}
  def handle_call(:stop, _from, python), do: {:reply, stop(), python}

  def handle_call({:use, python}, _from, _before) do
    stop()
    {:reply, start(python), python}
  end

  defp start(python) do
    if ready?() do
      :ok
    else
      warn_of_unknown()
      spec = Supervisor.child_spec({Typhon, options(python)}, restart: :temporary)

      case DynamicSupervisor.start_child(Pythonx.Pools, spec) do
        {:ok, pid} ->
          :persistent_term.put(@pool, pid)

        {:error, error} when is_exception(error) ->
          {:error, error}

        # The configuration: the sentence says it all.
        {:error, {%ArgumentError{message: message}, _stack}} ->
          {:error, ArgumentError.exception("config :pythonx, " <> message)}

        {:error, reason} ->
          {:error, RuntimeError.exception("Python could not be started: #{inspect(reason)}")}
      end
    end
  end

  # Others may keep theirs there, so it is no error.
  defp warn_of_unknown do
    Check.known!(Application.get_all_env(:pythonx), @configured, "config :pythonx")
  rescue
    error in ArgumentError -> Logger.warning(error.message)
  end

  defp stop do
    with pid when is_pid(pid) <- Process.whereis(@pool),
         do: DynamicSupervisor.terminate_child(Pythonx.Pools, pid)

    :ok
  end

  defp options(python) do
    [
      name: @pool,
      workers: 1,
      python: python || Application.get_env(:pythonx, :python, "python3"),
      isolation: Application.get_env(:pythonx, :isolation, :process),
      grace: @grace,
      # However often code ends it: there is nobody else to ask.
      max_restarts: :infinity,
      concurrency: Application.get_env(:pythonx, :concurrency, @concurrency),
      python_path: [Path.join(:code.priv_dir(:pythonx), "python")],
      init: {@module, "install", []}
    ]
  end
end
