defmodule Typhon.Worker do
  @moduledoc false
  # One Python: its operating system process (a Port), its channel, its output. Calls do not come through here.
  #
  #   starting ──greeted──► ready ──ended──► starting …            (the first restart follows at once)
  #      │                                      │
  #      └────failed, or ended again soon───► down ──back-off──► starting
  #
  #   any ──the pool stops──► leaving
  #
  # The Port carries life and death: stdin is the control pipe and its end tells the worker to go, stdout brings what user code
  # prints, and the exit status says how it went. When the worker has ended, whatever still waits for it gets that as its answer.

  @behaviour :gen_statem

  require Logger

  alias Typhon.{Interpreter, Native, Registry, StartError, Telemetry, WorkerError}
  alias Typhon.Worker.{Checkout, Output}

  @sigkill 9
  @line_bytes 16_384
  # How long a worker has to go after the end of its stdin.
  @stop_grace 500
  # How long an exit status may lag behind the end of its process before something else must be holding the process' stdout,
  # and how long after that has been killed.
  @status_grace 20
  @status_last 500
  # A worker that was ready for this long is not in a crash loop.
  @settled 2_000
  # After so many failed starts in a row calls do not wait for the next one.
  @broken 2
  @backoff_first 100
  @backoff_max 10_000

  defstruct [
    :config,
    :native,
    :index,
    :output,
    :checkout,
    channel: nil,
    port: nil,
    os_pid: nil,
    # tells of the end of the process, also when its Port does not
    watch: nil,
    greeting: nil,
    ready_at: nil,
    started_at: nil,
    # why it was killed, when it was this side that did it
    killed: nil,
    # the process id, and the channel once it greeted, of a process that was told to go
    leaving: nil,
    # the exception that ended the last attempt
    last_error: nil,
    # ends in a row without a settled time between them
    failures: 0,
    # starts in a row that failed
    failed_starts: 0,
    restarts: 0
  ]

  @type config :: map

  @spec child_spec({config, Native.pool(), non_neg_integer}) :: Supervisor.child_spec()
  def child_spec({_config, _native, index} = arg) do
    %{
      id: {__MODULE__, index},
      start: {__MODULE__, :start_link, [arg]},
      # More than @stop_grace: terminate/3 sees to it that the process is gone.
      shutdown: 5_000
    }
  end

  @spec start_link({config, Native.pool(), non_neg_integer}) :: :gen_statem.start_ret()
  def start_link(arg), do: :gen_statem.start_link(__MODULE__, arg, [])

  @doc "A map for Typhon.info/1."
  @spec info(pid) :: map
  def info(worker), do: :gen_statem.call(worker, :info)

  @doc "Tells the worker to let go of its Python; its supervisor ends it."
  @spec leave(pid) :: :ok
  def leave(worker), do: :gen_statem.cast(worker, :leave)

  @doc "The session `ref` does not need the worker any more."
  @spec checkin(pid, reference) :: :ok
  def checkin(worker, ref), do: :gen_statem.call(worker, {:checkin, ref})

  @doc "The session `ref` has found another worker, or none in time."
  @spec cancel_checkout(pid, reference) :: :ok
  def cancel_checkout(worker, ref), do: :gen_statem.cast(worker, {:checkin, ref})

  @impl true
  def callback_mode, do: :handle_event_function

  @impl true
  def init({config, native, index}) do
    Process.flag(:trap_exit, true)
    # A predecessor that was killed could not do it.
    Native.pool_put(native, index, nil)

    data = %__MODULE__{
      config: config,
      native: native,
      index: index,
      checkout: Checkout.new(native, index),
      output: Output.new(config.stdio, typhon_pool: config.name, typhon_worker: index)
    }

    {:ok, :starting, data, [{:next_event, :internal, :start}]}
  end

  # --- starting ---

  @impl true
  def handle_event(:internal, :start, :starting, data) do
    data = %{
      data
      | output: Output.reset(data.output),
        greeting: nil,
        killed: nil,
        # the process id, and the channel once it greeted, of a process that was told to go
        leaving: nil,
        started_at: System.monotonic_time()
    }

    case open(data) do
      {:ok, data} ->
        event(:start, %{system_time: System.system_time()}, data)
        {:keep_state, data, [{:state_timeout, data.config.start_timeout, :start_timeout}]}

      {:error, error, data} ->
        failed(error, data)
    end
  end

  def handle_event(:state_timeout, :start_timeout, :starting, data) do
    failed(
      %StartError{
        reason: :timeout,
        python: data.config.python,
        message: "#{data.config.python} was not ready within start_timeout: #{data.config.start_timeout} ms",
        output: Output.tail(data.output)
      },
      data
    )
  end

  def handle_event(
        :info,
        {:typhon, channel, {:ready, greeting}},
        :starting,
        %{channel: channel} = data
      ) do
    now = System.monotonic_time()
    data = %{data | greeting: greeting, ready_at: now, last_error: nil, failed_starts: 0}
    Registry.watch(channel, :greeted)
    :ok = Native.pool_put(data.native, data.index, channel)
    data = %{data | checkout: Checkout.serve(data.checkout)}
    event(:ready, %{duration: now - data.started_at}, data)
    # Collects garbage: the memory of a former channel goes with the last term that names it.
    {:next_state, :ready, data, [:hibernate]}
  end

  # --- ready ---

  # A caller gave up on a request that Python may be running. First the polite way: typhon.Cancelled is raised in it.
  def handle_event(:info, {:typhon, channel, {:overdue, id}}, :ready, %{channel: channel} = data) do
    command(data.port, "C#{id}\n")
    {:keep_state_and_data, [{{:timeout, {:grace, channel, id}}, data.config.grace, nil}]}
  end

  def handle_event(
        {:timeout, {:grace, channel, id}},
        _,
        :ready,
        %{channel: channel, killed: nil} = data
      ) do
    if Native.still_runs(channel, id) do
      {:keep_state, kill(data, :overdue)}
    else
      :keep_state_and_data
    end
  end

  def handle_event({:timeout, {:grace, _, _}}, _, _state, _data), do: :keep_state_and_data

  # The other side broke the protocol: nothing that it says can be relied on.
  def handle_event(:info, {:typhon, channel, {:bad_frame, text}}, _state, %{channel: channel} = data) do
    Logger.error("the Python worker #{data.os_pid} broke the protocol: #{text}")
    {:keep_state, kill(data, :protocol)}
  end

  # --- down ---

  def handle_event(:state_timeout, :restart, :down, data), do: restart(data)

  # --- the Port, in any state ---

  def handle_event(:info, {port, {:data, line}}, _state, %{port: port} = data),
    do: {:keep_state, %{data | output: Output.data(data.output, line)}}

  def handle_event(:info, {port, {:exit_status, status}}, state, %{port: port} = data),
    do: ended(status, state, data)

  def handle_event(:info, {:EXIT, port, _reason}, state, %{port: port} = data)
      when is_port(port),
      do: ended(nil, state, data)

  # The process has ended. Its exit status comes by the Port as soon as nobody holds its stdout any more: a child that user
  # code started may. Such children go with the worker; one that left its process group is not waited for.
  def handle_event(:info, {:select, watch, _, _}, _state, %{watch: watch} = data) when is_reference(watch),
    do: {:keep_state_and_data, [{{:timeout, {:status, data.channel}}, @status_grace, :kill_group}]}

  def handle_event({:timeout, {:status, channel}}, :kill_group, _state, %{channel: channel} = data) do
    Native.kill_pid(-data.os_pid, @sigkill)
    {:keep_state_and_data, [{{:timeout, {:status, channel}}, @status_last, :give_up}]}
  end

  def handle_event({:timeout, {:status, channel}}, :give_up, state, %{channel: channel} = data),
    do: ended(nil, state, data)

  def handle_event({:timeout, {:status, _}}, _, _state, _data), do: :keep_state_and_data

  # --- the end ---

  # The pool stops. All its workers are told before the first one is waited for.
  def handle_event(:cast, :leave, :leaving, _data), do: :keep_state_and_data
  def handle_event(:cast, :leave, _state, data), do: {:next_state, :leaving, leave(data, :stopped)}

  # --- questions ---

  def handle_event({:call, from}, :await, :leaving, data),
    do: {:keep_state_and_data, [{:reply, from, {:error, stopped_pool(data)}}]}

  def handle_event({:call, from}, :await, :ready, %{killed: nil} = data) do
    if Checkout.held?(data.checkout),
      do: {:keep_state, %{data | checkout: Checkout.await(data.checkout, from)}},
      else: {:keep_state_and_data, [{:reply, from, :ok}]}
  end

  # It will not come up by itself in a moment: say why. One failure of a Python that has worked before may be an accident.
  def handle_event({:call, from}, :await, :down, %{last_error: %StartError{} = error} = data)
      when data.ready_at == nil or data.failed_starts >= @broken,
      do: {:keep_state_and_data, [{:reply, from, {:error, error}}]}

  def handle_event({:call, _from}, :await, _state, _data), do: {:keep_state_and_data, [:postpone]}

  # --- sessions ---

  def handle_event({:call, from}, {:checkout, _ref, _mode}, :leaving, data),
    do: {:keep_state_and_data, [{:reply, from, {:error, stopped_pool(data)}}]}

  def handle_event(
        {:call, from},
        {:checkout, _ref, _mode},
        :down,
        %{last_error: %StartError{} = error} = data
      )
      when data.ready_at == nil or data.failed_starts >= @broken,
      do: {:keep_state_and_data, [{:reply, from, {:error, error}}]}

  def handle_event({:call, from}, {:checkout, ref, mode}, state, data),
    do: {:keep_state, %{data | checkout: Checkout.ask(data.checkout, from, ref, mode, free?(state, data))}}

  def handle_event({:call, from}, {:checkin, ref}, state, data) do
    checkout = Checkout.checkin(data.checkout, ref, free?(state, data))
    {:keep_state, %{data | checkout: checkout}, [{:reply, from, :ok}]}
  end

  def handle_event(:cast, {:checkin, ref}, state, data),
    do: {:keep_state, %{data | checkout: Checkout.checkin(data.checkout, ref, free?(state, data))}}

  def handle_event(:info, {:DOWN, monitor, :process, _, _}, state, data) when monitor != data.output.monitor,
    do: {:keep_state, %{data | checkout: Checkout.down(data.checkout, monitor, free?(state, data))}}

  def handle_event(:info, {:typhon_moment, moment}, state, data),
    do: {:keep_state, %{data | checkout: Checkout.moment_over(data.checkout, moment, free?(state, data))}}

  def handle_event({:call, from}, :info, state, data) do
    info = %{
      index: data.index,
      pid: self(),
      state: state,
      os_pid: data.os_pid,
      python: data.greeting && data.greeting["version"],
      executable: (data.greeting && data.greeting["executable"]) || data.config.python,
      restarts: data.restarts,
      last_error: data.last_error
    }

    {:keep_state_and_data, [{:reply, from, info}]}
  end

  # --- answers of I/O devices, and what a former Port or channel still had to say ---

  def handle_event(:info, message, _state, data) do
    case Output.message(data.output, message) do
      :unknown -> :keep_state_and_data
      output -> {:keep_state, %{data | output: output}}
    end
  end

  def handle_event(_type, _content, _state, _data), do: :keep_state_and_data

  @impl true
  def terminate(reason, state, data) do
    data = if state == :leaving, do: data, else: leave(data, stopped(reason))

    with {os_pid, channel} <- data.leaving do
      see_off(os_pid, channel)
      event(:stop, %{}, %{data | os_pid: os_pid})
    end

    Registry.unwatch()
  catch
    # The application is going down, the registry before this worker.
    :exit, _ -> :ok
  end

  defp stopped(reason) when reason in [:normal, :shutdown], do: :stopped
  defp stopped({:shutdown, _}), do: :stopped
  defp stopped(reason), do: {:owner_down, reason}

  defp stopped_pool(data), do: %Typhon.PoolError{pool: data.config.pool, reason: :stopped}

  # Whether a session may have it.
  defp free?(state, data), do: state == :ready and data.killed == nil

  # --- life ---

  defp open(data) do
    config = data.config

    with {:ok, channel, region} <- open_channel(config) do
      data = %{data | channel: channel}

      case open_port(config, region) do
        {:ok, port} ->
          os_pid =
            case Port.info(port, :os_pid) do
              {:os_pid, os_pid} -> os_pid
              nil -> nil
            end

          Registry.watch(channel, os_pid)
          {:ok, %{data | port: port, os_pid: os_pid, watch: watch(os_pid)}}

        {:error, error} ->
          {:error, error, data}
      end
    else
      {:error, text} ->
        {:error,
         %StartError{
           reason: :channel_failed,
           python: config.python,
           message: "the channel to a worker could not be made: #{text}"
         }, data}
    end
  end

  # Not everywhere (Linux before 5.3, other systems): then the Port alone tells.
  defp watch(nil), do: nil

  defp watch(os_pid) do
    case Native.process_watch(os_pid) do
      {:ok, watch} -> watch
      {:error, _} -> nil
    end
  end

  defp open_channel(config) do
    {spin, worker_spin} = spin(config.spin)

    Native.channel_open(self(), %{
      ring_size: config.ring_size,
      spin_us: spin,
      worker_spin_us: worker_spin,
      atoms: config.atoms,
      # Elixir before 1.15 keeps a version in its sets.
      mapset_version: Map.has_key?(MapSet.new(), :version)
    })
  end

  # Whoever spins on the only core keeps the other side from running.
  defp spin(:auto) do
    case System.schedulers_online() do
      1 -> {0, 0}
      _ -> {20, 20}
    end
  end

  defp spin(microseconds), do: {microseconds, microseconds}

  defp open_port(config, region) do
    {:ok,
     Port.open({:spawn_executable, config.python}, [
       :binary,
       :exit_status,
       :stderr_to_stdout,
       :hide,
       {:line, @line_bytes},
       {:args, Interpreter.args(config.python_path, region, settings(config))},
       {:cd, config.cd},
       {:env, Enum.map(config.env, &variable/1)}
     ])}
  rescue
    error in ErlangError -> {:error, refused(config, error.original)}
    ArgumentError -> {:error, refused(config, :badarg)}
  end

  # What the native worker has to know before it takes the first call.
  defp settings(config), do: [concurrency: config.concurrency]

  defp variable({name, nil}), do: {String.to_charlist(name), false}
  defp variable({name, value}), do: {String.to_charlist(name), String.to_charlist(value)}

  defp refused(config, reason) do
    %StartError{
      reason: :cannot_execute,
      python: config.python,
      message: "the operating system refused to start #{config.python}: #{:file.format_error(reason)}"
    }
  end

  # --- death ---

  defp ended(status, state, data) do
    # What it started goes with it.
    if data.os_pid, do: Native.kill_pid(-data.os_pid, @sigkill)
    data = %{data | output: Output.flush(data.output)}
    {exit_status, signal} = Typhon.Signal.split(status)
    output = Output.tail(data.output)

    case state do
      :starting ->
        failed(start_error(exit_status, signal, output, data), data)

      :ready ->
        error = %WorkerError{
          reason: data.killed || if(signal, do: :signal, else: :exit),
          exit_status: exit_status,
          signal: signal,
          os_pid: data.os_pid,
          output: output
        }

        lived = System.monotonic_time() - data.ready_at
        event(:down, %{lifetime: lived}, data, %{reason: error})
        Logger.warning("a Python worker is being replaced: " <> Exception.message(error))
        data = close(data, error)

        failures =
          if lived >= System.convert_time_unit(@settled, :millisecond, :native),
            do: 0,
            else: data.failures

        data = %{data | last_error: error, failures: failures + 1}

        case backoff(failures) do
          0 -> restart(data)
          delay -> {:next_state, :down, data, [{:state_timeout, delay, :restart}]}
        end
    end
  end

  defp start_error(96, nil, output, data) do
    %StartError{
      reason: :python_too_old,
      python: data.config.python,
      output: output,
      message:
        List.last(output) ||
          "#{data.config.python} is older than Python #{Interpreter.minimum()}"
    }
  end

  defp start_error(97, nil, output, data) do
    %StartError{
      reason: :native_load_failed,
      python: data.config.python,
      output: output,
      message: "#{data.config.python} could not load Typhon's native module"
    }
  end

  defp start_error(status, nil, output, data) when status in [98, 99] do
    %StartError{
      reason: :channel_failed,
      python: data.config.python,
      output: output,
      message: "#{data.config.python} could not attach the shared memory of its channel"
    }
  end

  defp start_error(status, signal, output, data) do
    how =
      cond do
        signal -> "was ended by #{signal}"
        status -> "exited with status #{status}"
        true -> "ended"
      end

    %StartError{
      reason: :exit,
      python: data.config.python,
      output: output,
      message: "#{data.config.python} #{how} before it was ready"
    }
  end

  # An attempt to start has failed. Who waits for it is told; the next one follows after a while.
  defp failed(error, data) do
    first = data.restarts == 0 and data.last_error == nil
    os_pid = data.os_pid

    data = close(data, %WorkerError{reason: :gone, os_pid: os_pid, output: error.output})

    # Never greeted, so its pid is all there is to know it by; it is a child that has not been waited for, or gone.
    if os_pid && error.reason == :timeout, do: Native.kill_pid(os_pid, @sigkill)

    event(:down, %{}, data, %{reason: error})

    # start_link returns the first failure; the later ones have no other way to be known.
    unless first, do: Logger.error("a Python worker cannot be replaced: " <> Exception.message(error))

    data = %{
      data
      | last_error: error,
        failures: data.failures + 1,
        failed_starts: data.failed_starts + 1
    }

    broken? = data.ready_at == nil or data.failed_starts >= @broken
    data = if broken?, do: %{data | checkout: Checkout.refuse(data.checkout, error)}, else: data

    {:next_state, :down, data, [{:state_timeout, backoff(data.failures), :restart}]}
  end

  defp restart(data) do
    data = %{data | restarts: data.restarts + 1}
    event(:restart, %{count: data.restarts}, data)
    {:next_state, :starting, data, [{:next_event, :internal, :start}]}
  end

  # Doubles, up to a bound; jitter keeps the workers of a pool from starting in step.
  defp backoff(0), do: 0

  defp backoff(failures) do
    delay = min(@backoff_first * Bitwise.bsl(1, min(failures - 1, 16)), @backoff_max)
    round(delay * (0.75 + :rand.uniform() * 0.5))
  end

  # New calls go elsewhere first; then those in flight get their answer.
  defp close(data, error) do
    if data.channel do
      Native.pool_put(data.native, data.index, nil)
      Native.channel_close(data.channel, error)
    end

    if data.watch, do: Native.process_unwatch(data.watch)

    if data.port do
      try do
        Port.close(data.port)
      rescue
        ArgumentError -> :ok
      end
    end

    %{data | channel: nil, port: nil, os_pid: nil, watch: nil, checkout: Checkout.lost(data.checkout)}
  end

  defp kill(data, reason) do
    event(:kill, %{}, data, %{reason: reason})
    with {:error, _} <- Native.kill(data.channel, @sigkill), do: Native.kill_pid(data.os_pid, @sigkill)
    %{data | killed: reason}
  end

  # Tells the process to go; it is not waited for yet. One that was not ready has nothing to finish.
  defp leave(data, reason) do
    output = Output.flush(data.output)
    leaving = data.os_pid && {data.os_pid, data.greeting && data.channel}
    if data.os_pid && data.greeting == nil, do: Native.kill_pid(data.os_pid, @sigkill)
    data = close(data, %WorkerError{reason: reason, os_pid: data.os_pid, output: Output.tail(output)})
    checkout = Checkout.refuse(data.checkout, stopped_pool(data))
    %{data | output: Output.drain(output), leaving: leaving, checkout: checkout}
  end

  # Waits for a process that was told to go, and helps when it does not. Erlang's own helper process collects its status, so
  # there is no zombie.
  defp see_off(os_pid, channel) do
    with :there <- await_end(os_pid, @stop_grace) do
      if channel, do: Native.kill(channel, @sigkill), else: Native.kill_pid(os_pid, @sigkill)
      await_end(os_pid, @stop_grace)
    end
  end

  defp await_end(os_pid, left, pause \\ 1) do
    cond do
      Native.kill_pid(os_pid, 0) != :ok ->
        :gone

      left > 0 ->
        Process.sleep(pause)
        await_end(os_pid, left - pause, min(pause * 2, 20))

      true ->
        :there
    end
  end

  # The pipe holds 64 KiB and a command a dozen bytes; a worker that reads none of it is not to be waited for.
  defp command(port, text) do
    Port.command(port, text, [:nosuspend])
  rescue
    ArgumentError -> false
  end

  defp event(name, measurements, data, metadata \\ %{}) do
    Telemetry.worker(
      name,
      measurements,
      Map.merge(metadata, %{
        pool: data.config.name || data.config.pool,
        worker: data.index,
        os_pid: data.os_pid,
        python: data.config.python
      })
    )
  end
end
