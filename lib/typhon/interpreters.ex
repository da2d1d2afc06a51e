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

  # Room for its libraries' thread-local variables, and for all namespaces: both have to be said before the VM starts.
  @static_tls "glibc.rtld.optional_static_tls=65536"
  @all_namespaces "glibc.rtld.nns=16"

  defstruct [:key, :signal, :worker, :monitor, state: :busy]

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
  @spec borrow(Env.t()) :: {:ok, Native.descriptor(), signal :: integer} | {:error, StartError.t()}
  def borrow(env), do: GenServer.call(__MODULE__, {:borrow, env}, :infinity)

  @doc "Its job was never handed over."
  @spec give_back(Native.descriptor()) :: :ok
  def give_back(socket), do: GenServer.call(__MODULE__, {:give_back, socket}, :infinity)

  @doc "The caller does not wait for its job any more."
  @spec quarantine(Native.descriptor()) :: :ok
  def quarantine(socket), do: GenServer.call(__MODULE__, {:quarantine, socket}, :infinity)

  @spec figures :: %{
          limit: pos_integer,
          used: non_neg_integer,
          idle: non_neg_integer,
          busy: non_neg_integer,
          quarantined: non_neg_integer,
          worn: non_neg_integer
        }
  def figures, do: GenServer.call(__MODULE__, :figures)

  @doc "The VM's environment, without what would make Python take over signals, wait for a terminal, or be another Python."
  @spec environment :: %{String.t() => String.t()}
  def environment do
    Map.drop(
      System.get_env(),
      ~w(PYTHONFAULTHANDLER PYTHONDEVMODE PYTHONINSPECT PYTHONSTARTUP PYTHONEXECUTABLE)
    )
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
  def handle_call({:borrow, env}, {worker, _}, state) do
    key = {env.executable, env.libpython}
    idle = Enum.find(state, fn {_, interpreter} -> interpreter.state == :idle and interpreter.key == key end)

    case idle || start(env, key, map_size(state)) do
      {:error, error} ->
        {:reply, {:error, error}, state}

      {socket, interpreter} ->
        interpreter = %{interpreter | state: :busy, worker: worker, monitor: Process.monitor(worker)}
        state = Map.put(state, socket, interpreter)
        # A new one says when it is ready; whether it has is of no interest, as its jobs wait in the socket.
        state = if idle, do: state, else: read(socket, state)
        {:reply, {:ok, socket, interpreter.signal}, state}
    end
  end

  def handle_call({:give_back, socket}, _from, state), do: {:reply, :ok, leave(state, socket, :idle)}

  def handle_call({:quarantine, socket}, {worker, _}, state) do
    # Unless it has ended meanwhile, and another worker has it.
    case state[socket] do
      %{state: :busy, worker: ^worker} -> {:reply, :ok, leave(state, socket, :quarantined)}
      _ -> {:reply, :ok, state}
    end
  end

  def handle_call(:figures, _from, state) do
    counts = Enum.frequencies_by(Map.values(state), & &1.state)

    figures =
      Map.new([:idle, :busy, :quarantined, :worn], &{&1, Map.get(counts, &1, 0)})
      |> Map.merge(%{limit: @namespaces, used: map_size(state)})

    {:reply, figures, state}
  end

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
    case Native.descriptor_read(socket) do
      :again ->
        state

      {:ok, bytes} ->
        state =
          case :erlang.binary_to_term(bytes, [:safe]) do
            {"ready", _info} -> state
            {"ended", code, clean?} -> ended(state, socket, code, if(clean?, do: :idle, else: :worn))
          end

        read(socket, state)

      # Its main thread has ended: Python could not be started.
      _ ->
        ended(state, socket, 1, :worn)
    end
  end

  defp ended(state, socket, code, now) do
    with %{worker: worker} when worker != nil <- state[socket],
         do: send(worker, {:interpreter, socket, {:exit_status, code}})

    leave(state, socket, now)
  end

  # No worker has it any more.
  defp leave(state, socket, now) do
    Map.update!(state, socket, fn interpreter ->
      if interpreter.monitor, do: Process.demonitor(interpreter.monitor, [:flush])
      %{interpreter | state: now, worker: nil, monitor: nil}
    end)
  end

  defp start(env, key, count) do
    :os.set_signal(:sigchld, :default)

    spec = %{
      libpython: env.libpython,
      bridge: Native.priv_path("typhon_bridge.so"),
      program: env.executable,
      package: Native.priv_path("python"),
      environment: for({name, value} <- environment(), do: name <> "=" <> value)
    }

    case Native.interpreter_start(spec) do
      # Real-time signals that glibc leaves alone; each interpreter has its own, as a process has one handler for each.
      {:ok, socket} ->
        if count == 0,
          do:
            Logger.info(
              "Python #{env.version} (#{env.executable}) runs inside the VM, engine #{env.engine}: #{env.why}"
            )

        {socket, %__MODULE__{key: key, signal: 35 + count}}

      {:error, text} ->
        {:error, refused(env, text)}
    end
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

    %StartError{
      reason: :interpreter_failed,
      python: env.executable,
      message: "an interpreter of #{env.executable} could not be started inside the VM: #{text}#{hint}"
    }
  end
end
