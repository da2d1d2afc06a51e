defmodule Typhon.Interpreters do
  @moduledoc false
  # The Pythons inside this VM. Each is loaded once and never goes (native/embed/namespace.h): workers take one, and it comes
  # back when its job has ended and it has been cleaned.
  #
  #   starting ──► idle ◄──ended, clean── busy ──its worker gave it up, or ended before all of its threads──► quarantined
  #                  ├──taken──────────────▲                                                                 │
  #                  └───◄───────────────────────────what went on has ended───────────────────────────────────┘
  #
  # A quarantined one still runs something that could not be interrupted; when that ends it is as good as any. A worn one, whose
  # main thread has ended or that this VM does not know any more, never has another worker.
  #
  # Sub-interpreters live in a host: a namespace whose own interpreter runs nothing (native/embed/bridge.cpp). There is one host
  # for each Python, and it stays, too.
  #
  # The first interpreter changes one thing of the VM: SIGCHLD has its default action, or Python could not see how its children
  # ended.

  use GenServer

  require Logger

  alias Typhon.{Env, Language, Native, StartError, Telemetry, Variables}

  # What glibc gives a process, the one it starts with left out.
  @namespaces 15

  @states [:idle, :busy, :quarantined, :worn]

  # Room for its libraries' thread-local variables, and for all namespaces: both have to be said before the VM starts.
  @static_tls "glibc.rtld.optional_static_tls=65536"
  @all_namespaces "glibc.rtld.nns=16"

  # An interpreter: its kind is :namespace or :sub, its key says of which Python, and as what.
  defstruct [:kind, :key, :signal, :worker, :monitor, state: :busy]

  @doc "For the life of the VM, like what it looks after: the application may be stopped and started."
  @spec ensure_started :: :ok
  def ensure_started do
    case GenServer.start(__MODULE__, nil, name: __MODULE__) do
      {:ok, _} -> :ok
      {:error, {:already_started, _}} -> :ok
    end
  end

  @doc """
  An interpreter of this Python for the calling process, which gets {:interpreter, socket, {:exit_status, code}} when its job
  has ended. The socket is its name.
  """
  @spec take(Env.t(), %{String.t() => String.t()}) ::
          {:ok, Native.descriptor(), signal :: integer} | {:error, StartError.t()}
  def take(env, environment),
    do: GenServer.call(__MODULE__, {:take, Map.put(env, :environment, environment)}, :infinity)

  @doc "Its job was never handed over."
  @spec give_back(Native.descriptor()) :: :ok
  def give_back(socket), do: GenServer.call(__MODULE__, {:give_back, socket}, :infinity)

  @doc "The caller does not wait for its job any more."
  @spec quarantine(Native.descriptor()) :: :ok
  def quarantine(socket), do: GenServer.call(__MODULE__, {:quarantine, socket}, :infinity)

  @spec figures :: %{namespaces: map, subinterpreters: map}
  def figures, do: GenServer.call(__MODULE__, :figures)

  # What would make Python take over signals, wait for a terminal, or be another Python.
  @unwanted ~w(PYTHONFAULTHANDLER PYTHONDEVMODE PYTHONINSPECT PYTHONSTARTUP PYTHONEXECUTABLE)

  @doc "Variables that a Python inside the VM does not have."
  @spec unwanted :: [String.t()]
  def unwanted, do: @unwanted

  @doc "The VM's environment as a pool's `env:` changes it, without what is unwanted."
  @spec environment([Variables.t()]) :: %{String.t() => String.t()}
  def environment(variables) do
    variables
    |> Enum.reduce(Variables.all(), fn
      {name, nil}, environment -> Map.delete(environment, name)
      {name, value}, environment -> Map.put(environment, name, value)
    end)
    |> Map.drop(@unwanted)
  end

  @doc "What Python reads when it starts and never again: one that was started with other values is another Python."
  @spec read_at_start(%{String.t() => String.t()}) :: %{String.t() => String.t()}
  def read_at_start(environment) do
    Map.filter(environment, fn {name, _} ->
      name in ~w(LANG LC_ALL LC_CTYPE) or String.starts_with?(name, "PYTHON")
    end)
  end

  @doc "What GLIBC_TUNABLES should be for as many interpreters with large libraries as there can be."
  @spec tunables :: String.t()
  def tunables, do: @all_namespaces <> ":" <> @static_tls

  @impl true
  def init(_) do
    # An application that stops kills what has its group leader.
    Process.group_leader(self(), Process.whereis(:init))
    {:ok, %{}}
  end

  # The state: interpreters by their sockets.
  @impl true
  def handle_call({:take, env}, {worker, _}, state) do
    state = look_after_all(state)

    case idle(env, state) || start(env, state) do
      {:error, error, state} ->
        {:reply, {:error, error}, state}

      {socket, interpreter, state} ->
        interpreter = %{interpreter | state: :busy, worker: worker, monitor: Process.monitor(worker)}
        {:reply, {:ok, socket, interpreter.signal}, Map.put(state, socket, interpreter)}
    end
  end

  def handle_call({:give_back, socket}, _from, state) do
    # One that has ended is none.
    now = if state[socket].state == :worn, do: :worn, else: :idle
    {:reply, :ok, leave(state, socket, now)}
  end

  def handle_call({:quarantine, socket}, {worker, _}, state) do
    # Unless it has ended meanwhile, and another worker has it.
    case state[socket] do
      %{state: :busy, worker: ^worker} -> {:reply, :ok, leave(state, socket, :quarantined)}
      _ -> {:reply, :ok, state}
    end
  end

  def handle_call(:figures, _from, state), do: {:reply, figures_of(state), state}

  @impl true
  def handle_info({:select, socket, _, _}, state), do: {:noreply, read(socket, state)}

  # The ends of its pipes went with it, so the job ends by itself if it can.
  def handle_info({:DOWN, monitor, :process, _, _}, state) do
    case Enum.find(state, fn {_, interpreter} -> interpreter.monitor == monitor end) do
      {socket, _} -> {:noreply, leave(state, socket, :quarantined)}
      nil -> {:noreply, state}
    end
  end

  def handle_info(_message, state), do: {:noreply, state}

  defp read(socket, state) do
    case received(socket) do
      :again ->
        state

      {:ok, bytes} ->
        state =
          case :erlang.binary_to_term(bytes, [:safe]) do
            {"ready", _info} -> state
            {"ended", code, clean?} -> ended(state, socket, code, if(clean?, do: :idle, else: :quarantined))
            {"clean"} -> leave(state, socket, :idle)
            {"failed", text} -> failed(state, text)
          end

        read(socket, state)

      # Its main thread has ended: Python could not be started.
      _ ->
        ended(state, socket, 1, :worn)
    end
  end

  # The end of the socket follows.
  defp failed(state, text) do
    Logger.error("an interpreter could not be started inside the VM: #{text}")
    state
  end

  # The native library was deleted and loaded again: what the one before it opened, this one does not know.
  defp received(socket) do
    Native.descriptor_read(socket)
  rescue
    ArgumentError -> :stranger
  end

  # Those that cannot be given a job are worn then. They count still: what was loaded is there.
  defp look_after_all(state) do
    for {socket, %{state: now}} <- state, now in [:idle, :host], reduce: state do
      state -> read(socket, state)
    end
  end

  defp ended(state, socket, code, now) do
    with %{worker: worker} when worker != nil <- state[socket],
         do: send(worker, {:interpreter, socket, {:exit_status, code}})

    leave(state, socket, now)
  end

  # No worker has it any more.
  defp leave(state, socket, now) do
    %{state: before} = interpreter = Map.fetch!(state, socket)
    if interpreter.monitor, do: Process.demonitor(interpreter.monitor, [:flush])
    state = Map.put(state, socket, %{interpreter | state: now, worker: nil, monitor: nil})

    case {before, now} do
      {same, same} -> :ok
      {_, :quarantined} -> event(:quarantine, interpreter, state)
      {:quarantined, :idle} -> event(:back, interpreter, state)
      {_, :worn} -> event(:worn, interpreter, state)
      _ -> :ok
    end

    state
  end

  defp event(name, %{kind: kind, key: {_, executable, _, _}}, state) do
    %{namespaces: namespaces, subinterpreters: subs} = figures_of(state)
    {limit, figures} = Map.pop(if(kind == :sub, do: subs, else: namespaces), :limit)
    Telemetry.interpreter(name, figures, %{python: executable, kind: kind, limit: limit})
  end

  defp figures_of(state) do
    {subs, namespaces} = state |> Map.values() |> Enum.split_with(&(&1.kind == :sub))

    namespaces =
      Map.merge(counts(namespaces, [:host | @states]), %{limit: @namespaces, used: length(namespaces)})

    {hosts, namespaces} = Map.pop!(namespaces, :host)
    subs = Map.put(counts(subs, @states), :used, length(subs))
    %{namespaces: Map.put(namespaces, :hosts, hosts), subinterpreters: subs}
  end

  defp counts(interpreters, states) do
    counts = Enum.frequencies_by(interpreters, & &1.state)
    Map.new(states, &{&1, Map.get(counts, &1, 0)})
  end

  defp key(kind, env), do: {kind, env.executable, env.libpython, read_at_start(env.environment)}

  defp find(state, key, what) do
    Enum.find_value(state, fn {socket, interpreter} ->
      if interpreter.key == key and interpreter.state == what, do: {socket, interpreter}
    end)
  end

  defp idle(env, state) do
    kind = if env.engine == :subinterpreters, do: :sub, else: :namespace
    with {socket, interpreter} <- find(state, key(kind, env), :idle), do: {socket, interpreter, state}
  end

  # One more: {socket, interpreter, state}, or {:error, error, state}.
  defp start(%{engine: :subinterpreters} = env, state) do
    with {host, _, state} <- host(env, state) do
      case Native.interpreter_spawn(host) do
        # No signal reaches Python there: 0.
        {:ok, socket} -> started(socket, %__MODULE__{kind: :sub, key: key(:sub, env), signal: 0}, env, state)
        {:error, text} -> {:error, refused(env, text), state}
      end
    end
  end

  defp start(env, state) do
    case load(env, false) do
      # Real-time signals that glibc leaves alone; each interpreter has its own, as a process has one handler for each.
      {:ok, socket} ->
        signal = 35 + Enum.count(state, fn {_, interpreter} -> interpreter.kind == :namespace end)
        started(socket, %__MODULE__{kind: :namespace, key: key(:namespace, env), signal: signal}, env, state)

      {:error, text} ->
        {:error, refused(env, text), state}
    end
  end

  defp host(env, state) do
    key = key(:host, env)

    case find(state, key, :host) do
      {socket, host} ->
        {socket, host, state}

      nil ->
        case load(env, true) do
          {:ok, socket} -> started(socket, %__MODULE__{kind: :namespace, key: key, state: :host}, env, state)
          {:error, text} -> {:error, refused(env, text), state}
        end
    end
  end

  # It says when it is ready; whether it has is of no interest, as its jobs wait in the socket.
  defp started(socket, interpreter, env, state) do
    unless Enum.any?(state, fn {_, other} -> other.key == interpreter.key end), do: announce(interpreter, env)
    state = read(socket, Map.put(state, socket, interpreter))
    event(:start, interpreter, state)
    {socket, state[socket], state}
  end

  defp announce(%{state: :host}, _env), do: :ok

  defp announce(_interpreter, env),
    do:
      Logger.info(
        "Python #{env.version} (#{env.executable}) runs inside the VM, engine #{env.engine}: #{env.why}"
      )

  defp load(env, host?) do
    :os.set_signal(:sigchld, :default)

    Native.interpreter_start(%{
      libpython: env.libpython,
      bridge: Native.priv_path("typhon_bridge.so"),
      guard: Native.priv_path("typhon_guard.so"),
      program: env.executable,
      package: Native.priv_path("python"),
      environment: for({name, value} <- env.environment, do: name <> "=" <> value),
      host: host?
    })
  end

  defp refused(env, text) do
    hint =
      cond do
        text =~ "no more namespaces" ->
          ". A process has #{@namespaces} namespaces at most, unless GLIBC_TUNABLES=glibc.rtld.nns=… (up to 16) says less; " <>
            "their interpreters are reused, but never go. Use fewer workers, or isolation: :process for some pools"

        text =~ "static TLS" ->
          ". Start the VM with GLIBC_TUNABLES=#{@static_tls}:#{@all_namespaces} in its environment (mix typhon.env says how)"

        true ->
          ""
      end

    Language.start_error(
      :python,
      :interpreter_failed,
      env.executable,
      "an interpreter of #{env.executable} could not be started inside the VM: #{text}#{hint}"
    )
  end
end
