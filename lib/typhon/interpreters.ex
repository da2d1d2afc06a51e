defmodule Typhon.Interpreters do
  @moduledoc false
  # The Pythons inside this VM. Each is loaded once and never goes (native/embed/namespace.h): workers borrow one, and it comes
  # back when its job has ended and it has been cleaned.
  #
  #   starting ──► idle ◄──ended, clean── busy ──its worker gave it up──► quarantined
  #                  └──borrowed───────────▲ └──ended, not clean──► worn ◄──┘
  #
  # A quarantined one still runs something that could not be interrupted; when that ends it is as good as any. A worn one cannot
  # have another worker (threads of user code go on in it).
  #
  # The first interpreter changes one thing of the VM: SIGCHLD has its default action, or Python could not see how its children
  # ended.

  use GenServer

  require Logger

  alias Typhon.{Env, Native, StartError}

  # What glibc gives a process, the one it starts with left out.
  @namespaces 15

  defstruct [:ref, :socket, :key, :signal, :worker, :monitor, state: :busy]

  @doc "For the life of the VM, like what it looks after: the application may be stopped and started."
  @spec ensure_started :: :ok
  def ensure_started do
    case GenServer.start(__MODULE__, nil, name: __MODULE__) do
      {:ok, _} -> :ok
      {:error, {:already_started, _}} -> :ok
    end
  end

  @doc """
  An interpreter of this Python for the calling process, which gets {:interpreter, ref, {:exit_status, code}} when its job has
  ended.
  """
  @spec borrow(Env.t()) ::
          {:ok, %{ref: reference, socket: Native.descriptor(), signal: integer}} | {:error, StartError.t()}
  def borrow(env), do: GenServer.call(__MODULE__, {:borrow, env}, :infinity)

  @doc "Its job was never handed over."
  @spec give_back(reference) :: :ok
  def give_back(ref), do: GenServer.call(__MODULE__, {:give_back, ref}, :infinity)

  @doc "The caller does not wait for its job any more."
  @spec quarantine(reference) :: :ok
  def quarantine(ref), do: GenServer.call(__MODULE__, {:quarantine, ref}, :infinity)

  @spec figures :: %{
          limit: pos_integer,
          used: non_neg_integer,
          idle: non_neg_integer,
          busy: non_neg_integer,
          quarantined: non_neg_integer,
          worn: non_neg_integer
        }
  def figures, do: GenServer.call(__MODULE__, :figures)

  @impl true
  def init(_) do
    # An application that stops kills what has its group leader.
    Process.group_leader(self(), Process.whereis(:init))
    {:ok, %{interpreters: %{}, sockets: %{}}}
  end

  @impl true
  def handle_call({:borrow, env}, {worker, _}, state) do
    key = {env.executable, env.libpython}

    found =
      Enum.find_value(state.interpreters, fn {_, interpreter} ->
        if interpreter.state == :idle and interpreter.key == key, do: interpreter
      end)

    case found || start(env, key, map_size(state.interpreters)) do
      {:error, error} ->
        {:reply, {:error, error}, state}

      interpreter ->
        interpreter = %{interpreter | state: :busy, worker: worker, monitor: Process.monitor(worker)}
        state = put_in(state.interpreters[interpreter.ref], interpreter)
        state = put_in(state.sockets[interpreter.socket], interpreter.ref)
        # A new one says when it is ready; whether it has is of no interest, as its jobs wait in the socket.
        state = if found, do: state, else: read(interpreter.socket, state)
        {:reply, {:ok, Map.take(interpreter, [:ref, :socket, :signal])}, state}
    end
  end

  def handle_call({:give_back, ref}, _from, state),
    do: {:reply, :ok, update(state, ref, &%{let_go(&1) | state: :idle})}

  def handle_call({:quarantine, ref}, {worker, _}, state) do
    # Unless it has ended meanwhile, and another worker has it.
    case state.interpreters[ref] do
      %{state: :busy, worker: ^worker} ->
        {:reply, :ok, update(state, ref, &%{let_go(&1) | state: :quarantined})}

      _ ->
        {:reply, :ok, state}
    end
  end

  def handle_call(:figures, _from, state) do
    counts = Enum.frequencies_by(Map.values(state.interpreters), & &1.state)

    figures =
      Map.new([:idle, :busy, :quarantined, :worn], &{&1, Map.get(counts, &1, 0)})
      |> Map.merge(%{limit: @namespaces, used: map_size(state.interpreters)})

    {:reply, figures, state}
  end

  @impl true
  def handle_info({:select, socket, _, _}, state), do: {:noreply, read(socket, state)}

  # The ends of its pipes went with it, so the job ends by itself if it can.
  def handle_info({:DOWN, monitor, :process, _, _}, state) do
    case Enum.find(state.interpreters, fn {_, interpreter} -> interpreter.monitor == monitor end) do
      {ref, _} -> {:noreply, update(state, ref, &%{let_go(&1) | state: :quarantined})}
      nil -> {:noreply, state}
    end
  end

  def handle_info(_message, state), do: {:noreply, state}

  defp read(socket, state) do
    ref = state.sockets[socket]

    case Native.descriptor_read(socket) do
      :again ->
        state

      {:ok, bytes} ->
        state = bytes |> :erlang.binary_to_term([:safe]) |> told(ref, state)
        read(socket, state)

      # Its main thread has ended: Python could not be started.
      _ ->
        interpreter = state.interpreters[ref]
        if interpreter.worker, do: send(interpreter.worker, {:interpreter, ref, {:exit_status, 1}})
        update(state, ref, &%{let_go(&1) | state: :worn})
    end
  end

  defp told({"ready", _info}, _ref, state), do: state

  defp told({"ended", code, clean?}, ref, state) do
    interpreter = state.interpreters[ref]
    if interpreter.worker, do: send(interpreter.worker, {:interpreter, ref, {:exit_status, code}})
    update(state, ref, &%{let_go(&1) | state: if(clean?, do: :idle, else: :worn)})
  end

  defp update(state, ref, fun), do: %{state | interpreters: Map.update!(state.interpreters, ref, fun)}

  defp let_go(interpreter) do
    if interpreter.monitor, do: Process.demonitor(interpreter.monitor, [:flush])
    %{interpreter | worker: nil, monitor: nil}
  end

  defp start(env, key, count) do
    :os.set_signal(:sigchld, :default)
    priv = Native.priv_dir() |> List.to_string() |> Path.expand()

    spec = %{
      libpython: env.libpython,
      bridge: Path.join(priv, "typhon_bridge.so"),
      program: env.executable,
      package: Path.join(priv, "python"),
      environment: for({name, value} <- System.get_env(), name not in unwanted(), do: name <> "=" <> value)
    }

    case Native.interpreter_start(spec) do
      # Real-time signals that glibc leaves alone; each interpreter has its own, as a process has one handler for each.
      {:ok, socket} ->
        if count == 0,
          do:
            Logger.info(
              "Python #{env.version} (#{env.executable}) runs inside the VM, engine #{env.engine}: #{env.why}"
            )

        %__MODULE__{ref: make_ref(), socket: socket, key: key, signal: 35 + count}

      {:error, text} ->
        {:error, refused(env, text)}
    end
  end

  @doc "Variables that would make Python take over signals, wait for a terminal, or be another Python."
  @spec unwanted :: [String.t()]
  def unwanted, do: ~w(PYTHONFAULTHANDLER PYTHONDEVMODE PYTHONINSPECT PYTHONSTARTUP PYTHONEXECUTABLE)

  defp refused(env, text) do
    hint =
      cond do
        text =~ "no more namespaces" ->
          ". A process has #{@namespaces} namespaces at most, unless GLIBC_TUNABLES=glibc.rtld.nns=… (up to 16) says less; " <>
            "their interpreters are reused, but never go. Use fewer workers, or isolation: :process for some pools"

        text =~ "static TLS" ->
          ". Start the VM with GLIBC_TUNABLES=glibc.rtld.optional_static_tls=16384:glibc.rtld.nns=16 in its environment"

        true ->
          ""
      end

    %StartError{
      reason: :interpreter_failed,
      python: env.executable,
      message: "an interpreter of #{env.executable} could not be started inside the VM: #{text}#{hint}"
    }
  end
end
