defmodule Typhon.Worker do
  @moduledoc """
  A Python that [poolboy](https://github.com/devinus/poolboy) manages, for those who have such a pool:

      children = [
        :poolboy.child_spec(:python, [name: {:local, :python}, worker_module: Typhon.Worker, size: 2, max_overflow: 1],
          python: ".venv", python_path: ["priv/py"])
      ]

      {:ok, _} = Supervisor.start_link(children, strategy: :one_for_one)
      {:ok, 4.0} = :poolboy.transaction(:python, fn py -> Typhon.call(py, :math, :sqrt, [16]) end)

  The pid that poolboy hands out is a pool with one worker: every function of `Typhon` takes it. A process that has checked it
  out has the Python to itself, until it checks it in.

  `{Typhon, workers: 2}` needs no poolboy, and has no process that each call must ask.
  """

  # One Python: its operating system process (a Port), its channel, its output. Calls do not come through here.
  #
  #   starting ──greeted, init: done──► ready ──ended──► starting …       (the first restart follows at once)
  #      │                               │ ▲    │
  #      │                        reloading┘    └─its place is wanted──► retiring ──idle──► (the end)
  #      └────failed, or ended again soon───► down ──back-off──► starting
  #
  #   any ──the pool stops──► leaving
  #
  # A successor is a worker that is to replace another one which still takes calls. It waits when it could take calls (waiting)
  # until Typhon.Pool.Keeper has told the other to give up its place; when it cannot be started it ends, and nothing has changed.
  #
  # The Port carries life and death: stdin is the control pipe and its end tells the worker to go, and the exit status says how it
  # went. What user code prints has a pipe and a process of its own (Printer), so that nothing here waits behind it, or for
  # Logger. When the worker has ended, whatever still waits for it gets that as its answer.

  @behaviour :gen_statem

  require Logger

  alias Typhon.{Deadline, Error, Language, Native, Registry, StartError, Telemetry, WorkerError}
  alias Typhon.Pool.Keeper

  alias Typhon.Worker.{Asked, Backoff, Checkout, Errand, Host, Post, Printer, Settings, StartFailure}

  # A worker that takes no requests is looked at so often, in milliseconds.
  @look_again 1_000
  # So often in a row a worker may have nothing to do and take nothing.
  @ignored_looks 5
  # How long a worker has to go after the end of its stdin.
  @stop_grace 500
  # A worker that was ready for this long is not in a crash loop.
  @settled 2_000
  # After so many failed starts in a row calls do not wait for the next one.
  @broken 2
  # How often it is looked at whether an import has ended that a call's time ran out in.
  @look_at_import 100
  # Of so many modules it is told at most.
  @most_told 16
  # How often a busy worker's memory is looked at, when it has a limit.
  @memory_every 1_000
  # So often, with a millisecond between, a closed channel is asked whether its callers have been told. Else the next worker of
  # the pool lets go of it.
  @settle_looks 200
  # How often a worker is asked whether it has finished its calls, while something waits for that.
  @idle_pause_max 20
  # States in which Python serves, or finishes, calls.
  @serving [:ready, :reloading, :retiring]

  defstruct [
    :config,
    :native,
    :index,
    :serial,
    # the process that reads what is printed, and what names this worker in logs
    :printer,
    :metadata,
    # :holder of its place in the pool, or the :successor of one
    role: :holder,
    # whether its channel is in the pool
    placed: false,
    checkout: nil,
    # events that have to wait until no session has the worker
    pending: [],
    channel: nil,
    # what runs its Python: a Typhon.Worker.Host
    host: nil,
    greeting: nil,
    ready_at: nil,
    started_at: nil,
    # why it was killed, when it was this side that did it
    killed: nil,
    # its channel, from when it was seen stopped until its grace is over
    stopped: nil,
    # what init: came to, when it has failed and the process has not ended yet
    init_error: nil,
    # what runs before it takes calls, or between them: a Typhon.Worker.Errand
    errand: nil,
    # what of it runs
    step: nil,
    # of which imports it was said that a call's time ran out in them
    import_told: [],
    # who waits for a reload, and until when
    reload: nil,
    # why it is to be replaced
    recycling: nil,
    # requests it had served when its memory was last looked at
    seen: 0,
    # the error for those who wait for a worker when the pool goes down
    gone: nil,
    # the host that was told to go
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

  @typedoc "Which place of the pool it is for, its number among all workers of the pool, and what it is there."
  @type place :: %{
          index: non_neg_integer,
          serial: non_neg_integer,
          role: :holder | :successor
        }

  @doc false
  @spec child_spec({config, Native.pool(), place}) :: Supervisor.child_spec()
  def child_spec({config, _native, place} = arg) do
    %{
      id: {__MODULE__, place.index, place.serial},
      start: {__MODULE__, :start_link, [arg]},
      # One that gave up its place ends by itself.
      restart: :transient,
      # More than @stop_grace: terminate/3 sees to it that the process is gone.
      shutdown: config.shutdown + 5_000
    }
  end

  @doc """
  Starts a pool with one worker, linked to the caller: what poolboy calls. The options are those of `Typhon.start_link/1`
  without `:workers` and `:name`.

      iex> {:ok, py} = Typhon.Worker.start_link(python: "python3")
      iex> Typhon.call(py, :math, :sqrt, [16])
      {:ok, 4.0}
  """
  @spec start_link([Typhon.start_option()]) :: {:ok, pid} | {:error, StartError.t()}
  @spec start_link({config, Native.pool(), place}) :: :gen_statem.start_ret()
  def start_link(options) when is_list(options),
    do: options |> Typhon.Options.poolboy!() |> Typhon.start_link()

  def start_link(arg), do: :gen_statem.start_link(__MODULE__, arg, [])

  # A map for Typhon.info/1.
  @doc false
  @spec info(pid) :: map
  def info(worker), do: :gen_statem.call(worker, :info)

  # Tells the worker to let go of its Python; its supervisor ends it. Who waits for it gets the error.
  @doc false
  @spec leave(pid, Exception.t() | nil) :: :ok
  def leave(worker, error \\ nil), do: :gen_statem.cast(worker, {:leave, error})

  # Tells a worker to give up its place to another one that waits for it, to finish its calls, and to end.
  @doc false
  @spec yield_to(pid, pid) :: :ok
  def yield_to(worker, successor), do: :gen_statem.cast(worker, {:yield_to, successor})

  # The place is free for this successor.
  @doc false
  @spec take_place(pid) :: :ok
  def take_place(worker), do: :gen_statem.cast(worker, :take_place)

  # Tells a worker to give up its place, to finish its calls, and to end.
  @doc false
  @spec retire(pid) :: :ok
  def retire(worker), do: :gen_statem.cast(worker, :retire)

  # The pool has another worker now: those who wait for this one are to look again.
  @doc false
  @spec stir(pid) :: :ok
  def stir(worker), do: :gen_statem.cast(worker, :stir)

  # A call takes long: if the process has been stopped, and goes on being so, it is killed.
  @doc false
  @spec look(pid) :: :ok
  def look(worker), do: :gen_statem.cast(worker, :look)

  # Runs a function of Python in the worker when it has finished its calls, and before it takes another one. One that starts
  # runs it first thing; one that has no Python has nothing to run it in: {:ok, nil}.
  @doc false
  @spec between_calls(pid, Errand.step(), timeout) :: {:ok, term} | {:error, Exception.t()}
  def between_calls(worker, step, timeout) do
    # What comes later goes nowhere: the alias of this call ends with it.
    :gen_statem.call(worker, {:between_calls, step, Deadline.from(timeout)}, timeout)
  end

  @doc "The session `ref` does not need the worker any more."
  @spec checkin(pid, reference) :: :ok
  def checkin(worker, ref), do: :gen_statem.call(worker, {:checkin, ref})

  @doc "The session `ref` has found another worker, or none in time."
  @spec cancel_checkout(pid, reference) :: :ok
  def cancel_checkout(worker, ref), do: :gen_statem.cast(worker, {:checkin, ref})

  @impl true
  def init({config, native, %{index: index, serial: serial, role: role}}) do
    case Keeper.role(config.board, index, serial, role) do
      # It had given up its place before it was killed, and was started again.
      :superfluous -> :ignore
      role -> init(config, native, %{index: index, serial: serial, role: role})
    end
  end

  defp init(config, native, %{index: index, serial: serial, role: role} = place) do
    Process.flag(:trap_exit, true)
    # A predecessor that was killed could not do it.
    if role == :holder, do: Native.pool_put(native, index, nil)
    Keeper.tell(config.board, {:worker, self(), place})
    metadata = [typhon_pool: config.name, typhon_worker: index]
    {:ok, printer} = Printer.start_link(config.stdio, metadata)
    Printer.serve(printer)

    data = %__MODULE__{
      config: config,
      native: native,
      index: index,
      serial: serial,
      role: role,
      checkout: if(role == :holder, do: Checkout.new(native, index), else: Checkout.waiting(native, index)),
      printer: printer,
      metadata: metadata
    }

    {:ok, :starting, data, [{:next_event, :internal, :start}]}
  end

  @impl true
  def callback_mode, do: :handle_event_function

  # --- starting ---

  @impl true
  def handle_event(:internal, :start, :starting, data) do
    data = %{
      data
      | greeting: nil,
        killed: nil,
        recycling: nil,
        leaving: nil,
        init_error: nil,
        step: nil,
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
    data.config
    |> StartFailure.late(data.step, data.channel, Printer.tail(data.printer))
    |> failed(data)
  end

  def handle_event(
        :info,
        {:typhon, channel, {:ready, greeting}},
        :starting,
        %{channel: channel} = data
      ) do
    case Host.adopt(data.host, greeting) do
      {:ok, host} -> greeted(%{data | host: host, greeting: greeting})
      # It has ended: its host says how.
      {:error, :no_process} -> :keep_state_and_data
      {:error, :foreign} -> failed(foreign(greeting, data), data)
    end
  end

  def handle_event(:info, {:errand, ref, {:begins, step}}, _state, %{errand: ref} = data),
    do: {:keep_state, %{data | step: step}}

  def handle_event(:info, {:errand, ref, {{:ok, _}, _}}, :starting, %{errand: ref} = data),
    do: up(%{data | errand: nil, step: nil})

  # The worker ended meanwhile: its host says how.
  def handle_event(:info, {:errand, ref, {{:error, %WorkerError{}}, _}}, :starting, %{errand: ref}),
    do: :keep_state_and_data

  # Its last words may still be on their way: they have come when it has ended.
  def handle_event(:info, {:errand, ref, {{:error, error}, printed}}, :starting, %{errand: ref} = data) do
    error = StartFailure.step(data.config, data.step, error, printed)

    case Host.abort(data.host) do
      :ends -> {:keep_state, %{data | init_error: error}, [{:state_timeout, :cancel}]}
      :goes -> failed(%{error | output: printed ++ Printer.tail(data.printer)}, data)
    end
  end

  # --- its place ---

  def handle_event(:cast, :take_place, :waiting, data), do: take_place_in_pool(%{data | role: :holder})

  # Not while a session has it: its calls have to go to this very Python.
  def handle_event(type, event, :ready, %{checkout: %{holder: holder}} = data)
      when holder != nil and
             (event == :retire or (is_tuple(event) and elem(event, 0) in [:yield_to, :between_calls])),
      do:
        {:keep_state,
         %{data | pending: Enum.reject(data.pending, &late?(elem(&1, 2))) ++ [{:next_event, type, event}]}}

  def handle_event(:cast, {:yield_to, successor}, :ready, data) do
    # The channel stays in the pool until the successor's takes its place.
    take_place(successor)
    retiring(%{data | placed: false})
  end

  def handle_event(:cast, :retire, :ready, data) do
    Native.pool_put(data.native, data.index, nil)
    Native.pool_active(data.native, data.index, false)
    Keeper.give_up_place(data.config.board, data.index, data.serial)
    retiring(%{data | placed: false})
  end

  def handle_event(:cast, {:yield_to, successor}, :retiring, _data) do
    take_place(successor)
    :keep_state_and_data
  end

  def handle_event(:cast, {:yield_to, _}, :reloading, _data), do: {:keep_state_and_data, [:postpone]}
  def handle_event(:cast, :retire, :reloading, _data), do: {:keep_state_and_data, [:postpone]}

  # It has no calls to finish.
  def handle_event(:cast, {:yield_to, successor}, state, data) when state in [:starting, :down] do
    data = let_go(data, :replaced)
    take_place(successor)
    {:stop, {:shutdown, :retired}, data}
  end

  def handle_event(:cast, :retire, state, data) when state in [:starting, :waiting, :down],
    do: {:stop, {:shutdown, :retired}, let_go(data, :replaced)}

  def handle_event(:state_timeout, {:finish, pause}, :retiring, data) do
    case Native.channel_finish(data.channel, replaced(data)) do
      :ok -> {:stop, {:shutdown, :retired}, let_go(data, :replaced)}
      :busy -> {:keep_state_and_data, [{:state_timeout, pause, {:finish, longer(pause)}}]}
    end
  end

  # --- between calls ---

  def handle_event({:call, from}, {:between_calls, step, deadline} = errand, :ready, data) do
    if late?(errand) do
      :keep_state_and_data
    else
      Native.pool_put(data.native, data.index, nil)
      data = %{data | placed: false, reload: %{from: from, step: step, deadline: deadline}}
      {:next_state, :reloading, data, [{:state_timeout, 0, {:idle, 1}}]}
    end
  end

  def handle_event({:call, _from}, {:between_calls, _, _}, state, _data)
      when state in [:starting, :waiting, :reloading],
      do: {:keep_state_and_data, [:postpone]}

  def handle_event({:call, from}, {:between_calls, _, _}, _state, _data),
    do: {:keep_state_and_data, [{:reply, from, {:ok, nil}}]}

  def handle_event(:state_timeout, {:idle, pause}, :reloading, %{reload: reload} = data) do
    case {Native.channel_info(data.channel), Deadline.left(reload.deadline)} do
      {%{busy: false}, left} ->
        {:keep_state, %{data | errand: Errand.start(data.channel, [reload.step], left, data.config)}}

      {_, 0} ->
        reloaded({:error, %Typhon.TimeoutError{operation: :reload}}, data)

      _ ->
        {:keep_state_and_data, [{:state_timeout, pause, {:idle, longer(pause)}}]}
    end
  end

  def handle_event(:info, {:errand, ref, {result, _printed}}, :reloading, %{errand: ref} = data),
    do: reloaded(result, data)

  # --- use ---

  # As many requests have been served as it was to say.
  def handle_event(:info, {:typhon, channel, :served}, :ready, %{channel: channel} = data) do
    if data.config.max_calls && Native.channel_info(channel).served >= data.config.max_calls do
      {:keep_state, recycle(data, :max_calls)}
    else
      {:keep_state_and_data, watch_use(data)}
    end
  end

  def handle_event({:timeout, {:memory, channel}}, _, :ready, %{channel: channel} = data) do
    %{served: served, busy: busy} = Native.channel_info(channel)
    memory = Host.memory(data.host) || 0
    event(:memory, %{memory: memory}, data)

    cond do
      memory > data.config.max_memory ->
        {:keep_state, recycle(data, :max_memory)}

      served != data.seen or busy ->
        data = %{data | seen: served}
        {:keep_state, data, [{{:timeout, {:memory, channel}}, @memory_every, nil}]}

      # Idle: the next request wakes this up again.
      true ->
        case Native.channel_notify(channel, served + 1) do
          :ok -> :keep_state_and_data
          :reached -> {:keep_state_and_data, [{{:timeout, {:memory, channel}}, @memory_every, nil}]}
        end
    end
  end

  def handle_event({:timeout, {:memory, _}}, _, _state, _data), do: :keep_state_and_data

  # --- ready ---

  # A caller gave up on a request that Python has begun. First the polite way: typhon.Cancelled is raised in it.
  def handle_event(:info, {:typhon, channel, {:overdue, id}}, state, %{channel: channel} = data)
      when state in @serving do
    abandoned = Native.abandoned(channel, id)
    Host.interrupt(data.host, id)
    event(:cancel, %{count: 1}, data, %{importing: imported(abandoned)})
    limit = Deadline.from(data.config.import_timeout)
    {:keep_state, tell_import(abandoned, data), [grace(channel, id, data.config.grace, :runs, limit)]}
  end

  # Python interrupts no import, and is not killed for one before its own time is over: the next call would begin it again, and
  # get no further. What comes after an import is interrupted, and has its grace from then on.
  def handle_event(
        {:timeout, {:grace, channel, id}},
        {seen, limit},
        state,
        %{channel: channel, killed: nil} = data
      )
      when state in @serving do
    abandoned = Native.abandoned(channel, id)
    data = tell_import(abandoned, data)

    case {abandoned, seen, Deadline.left(limit)} do
      {{:importing, _}, _, 0} ->
        {:keep_state, kill(data, {:import_timeout, imported(abandoned)})}

      {{:importing, _}, _, left} ->
        {:keep_state, data, [grace(channel, id, min(@look_at_import, left), :imports, limit)]}

      {:running, :imports, _} ->
        {:keep_state, data, [grace(channel, id, data.config.grace, :runs, limit)]}

      {:running, :runs, _} ->
        {:keep_state, kill(data, :overdue)}

      _ ->
        {:keep_state, data}
    end
  end

  def handle_event({:timeout, {:grace, _, _}}, _, _state, _data), do: :keep_state_and_data

  # A caller gave up on a request that Python has not begun. It may be busy; or its process has been stopped (SIGSTOP), and then
  # it will never take anything; or something stands in its way that is no call: a `__del__`, a handler of messages, a thread
  # that keeps the GIL.
  def handle_event(:info, {:typhon, channel, {:untaken, id}}, state, %{channel: channel} = data)
      when state in @serving,
      do:
        {:keep_state_and_data,
         [
           {{:timeout, {:untaken, channel}}, data.config.grace,
            {id, 0, Deadline.from(data.config.import_timeout)}}
         ]}

  def handle_event(
        {:timeout, {:untaken, channel}},
        {id, ignored, limit},
        state,
        %{channel: channel, killed: nil} = data
      )
      when state in @serving do
    again = &{:keep_state_and_data, [{{:timeout, {:untaken, channel}}, @look_again, {id, &1, limit}}]}

    case Native.abandoned(channel, id) do
      untaken when untaken in [:waiting, :ignored] ->
        cond do
          Host.stopped?(data.host) -> {:keep_state, kill(data, :hung)}
          untaken == :waiting -> again.(0)
          # A handler of messages does.
          Deadline.left(limit) != 0 and Native.importing(channel) != nil -> again.(0)
          # A machine may be busy for a while.
          ignored < @ignored_looks -> again.(ignored + 1)
          true -> {:keep_state, kill(data, :hung)}
        end

      _ ->
        :keep_state_and_data
    end
  end

  def handle_event({:timeout, {:untaken, _}}, _, _state, _data), do: :keep_state_and_data

  # The same for a call that it has taken, and whose time is long. Somebody may have stopped it for a moment only.
  def handle_event(:cast, :look, state, %{channel: channel, stopped: seen} = data)
      when state in @serving and seen != channel do
    # Once until the grace is over: others who wait ask for it again and again.
    if Host.stopped?(data.host),
      do:
        {:keep_state, %{data | stopped: channel}, [{{:timeout, {:stopped, channel}}, data.config.grace, nil}]},
      else: :keep_state_and_data
  end

  def handle_event({:timeout, {:stopped, channel}}, _, state, %{channel: channel, killed: nil} = data)
      when state in @serving do
    data = %{data | stopped: nil}

    # Casts are waited for too, and room for what is not in the ring yet.
    with true <- Host.stopped?(data.host),
         %{busy: busy, waiting: waiting} when busy or waiting > 0 <- Native.channel_info(channel),
         do: {:keep_state, kill(data, :hung)},
         else: (_ -> {:keep_state, data})
  end

  def handle_event({:timeout, {:stopped, _}}, _, _state, _data), do: :keep_state_and_data

  # Python asks or says something in nobody's name.
  def handle_event(:info, {:typhon, channel, {id, {:ask, _, _}} = asked}, _state, %{channel: channel} = data)
      when is_integer(id) do
    Asked.handle(channel, asked, 1, data.config, data.printer, data.metadata, data.native)
    :keep_state_and_data
  end

  def handle_event(:info, {:typhon, channel, {:heavy, weight, asked}}, _state, %{channel: channel} = data) do
    Asked.handle(channel, asked, weight, data.config, data.printer, data.metadata, data.native)
    :keep_state_and_data
  end

  def handle_event(:info, {:typhon, channel, {:send, message, weight}}, _state, data) do
    Asked.deliver(channel, message, weight, data.config)
    :keep_state_and_data
  end

  # To itself: whatever that looks like, it is for its mailbox.
  def handle_event(:info, {:typhon, channel, {:post, message}}, _state, %{channel: channel}) do
    Post.forward(channel, message)
    :keep_state_and_data
  end

  # It sends much: whether that is taken decides when it may go on.
  def handle_event(:info, {:typhon, channel, {:sent, pid, count, weight}}, _state, %{channel: channel} = data) do
    Asked.sent(channel, pid, count, weight, data.config)
    :keep_state_and_data
  end

  # The other side broke the protocol, or does not wait until it is heard: nothing that it says can be relied on.
  def handle_event(:info, {:typhon, channel, {:bad_frame, text}}, _state, %{channel: channel} = data) do
    log(:error, "the #{language(data)} worker #{Host.os_pid(data.host)} broke the protocol: #{text}", data)
    {:keep_state, kill(data, :protocol)}
  end

  def handle_event(:info, {:typhon, channel, {:flood, text}}, _state, %{channel: channel, killed: nil} = data) do
    log(:error, "the #{language(data)} worker #{Host.os_pid(data.host)} is ended: #{text}", data)
    # Its calls get this as their reason, and not how it went.
    Native.channel_close(channel, worker_error(data, :flood, Printer.tail(data.printer)))
    Asked.abandon()
    {:keep_state, kill(data, :flood)}
  end

  # Nobody would read what Python prints.
  def handle_event(:info, {:EXIT, printer, reason}, _state, %{printer: printer} = data),
    do: {:stop, {:printer, reason}, data}

  def handle_event(:info, {:EXIT, pid, reason} = message, state, data) when is_pid(pid),
    do: if(Asked.ended(pid, reason), do: :keep_state_and_data, else: of_host(message, state, data))

  # --- down ---

  def handle_event(:state_timeout, :restart, :down, data), do: restart(data)

  # --- the end ---

  # The pool stops. All its workers are told before the first one is waited for.
  def handle_event(:cast, {:leave, _}, :leaving, _data), do: :keep_state_and_data

  def handle_event(:cast, {:leave, error}, _state, data),
    do: {:next_state, :leaving, let_go(%{data | gone: error}, :stopped)}

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

  def handle_event({:call, from}, :await, :retiring, data),
    do: {:keep_state_and_data, [{:reply, from, {:error, replaced(data)}}]}

  def handle_event({:call, _from}, :await, _state, _data), do: {:keep_state_and_data, [:postpone]}

  # --- sessions ---

  # Whoever asks has asked the others, too.
  def handle_event({:call, from}, {:checkout, _ref, _mode}, :retiring, data),
    do: {:keep_state_and_data, [{:reply, from, {:error, replaced(data)}}]}

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

  def handle_event(:cast, :stir, _state, data),
    do: {:keep_state, %{data | checkout: Checkout.move(data.checkout)}}

  def handle_event({:call, from}, {:checkin, ref}, state, data),
    do: data.checkout |> Checkout.checkin(ref, free?(state, data)) |> checked(data, [{:reply, from, :ok}])

  def handle_event(:cast, {:checkin, ref}, state, data),
    do: data.checkout |> Checkout.checkin(ref, free?(state, data)) |> checked(data)

  def handle_event(:info, {:DOWN, monitor, :process, _, _}, state, data),
    do: data.checkout |> Checkout.down(monitor, free?(state, data)) |> checked(data)

  def handle_event(:info, {:typhon_moment, moment}, state, data),
    do: {:keep_state, %{data | checkout: Checkout.moment_over(data.checkout, moment, free?(state, data))}}

  def handle_event({:call, from}, :info, state, data) do
    use =
      if data.channel,
        do: Native.channel_info(data.channel),
        else: %{
          served: 0,
          in_flight: 0,
          busy: false,
          lent: {0, 0},
          borrowed: {0, 0},
          results: {0, 0},
          shared: {0, 0}
        }

    info = %{
      index: data.index,
      serial: data.serial,
      role: data.role,
      pid: self(),
      state: state,
      calls: use.served,
      in_flight: use.in_flight,
      busy: use.busy,
      loans: %{to_python: elem(use.lent, 1), to_elixir: elem(use.borrowed, 1)},
      results: %{held: elem(use.results, 1), shared: elem(use.shared, 1)},
      reserved: Checkout.held?(data.checkout),
      memory: Host.memory(data.host),
      uptime:
        if(state in @serving,
          do: System.convert_time_unit(System.monotonic_time() - data.ready_at, :native, :millisecond)
        ),
      os_pid: Host.os_pid(data.host),
      python: data.greeting && data.greeting["version"],
      executable: (data.greeting && data.greeting["executable"]) || data.config.program,
      restarts: data.restarts,
      concurrency: data.config.concurrency,
      last_error: data.last_error
    }

    {:keep_state_and_data, [{:reply, from, info}]}
  end

  # --- messages for Python, and what a former Port or channel still had to say ---

  def handle_event(:info, message, state, data), do: of_host(message, state, data)

  def handle_event(_type, _content, _state, _data), do: :keep_state_and_data

  @impl true
  def terminate(reason, state, data) do
    data =
      if reason == :shutdown and state in @serving and data.leaving == nil,
        do: finish_calls(state, data),
        else: data

    data = if state == :leaving or data.leaving != nil, do: data, else: let_go(data, stopped(reason))

    if data.leaving do
      Host.see_off(data.leaving, @stop_grace)
      event(:stop, %{}, %{data | host: data.leaving})
    end

    # What it printed to the very last.
    Printer.finish(data.printer)
    Printer.settle(data.printer)
    Registry.unwatch()
  catch
    # The application is going down, the registry before this worker.
    :exit, _ -> :ok
  end

  # The supervisor of the pool ends it: there are no new calls, and those that there are may finish. Workers go one after the
  # other, and have the same deadline.
  defp finish_calls(state, %{config: config} = data) do
    if config.shutdown > 0 and Native.channel_info(data.channel).busy do
      Registry.drain(config.pool)
      :ets.insert_new(config.board, {:shutdown, Deadline.from(config.shutdown)})
      [{:shutdown, deadline}] = :ets.lookup(config.board, :shutdown)
      wait_for_calls(state, data, deadline, 1)
    else
      data
    end
  catch
    # What knows of pools goes down, too.
    :exit, _ -> data
  end

  # What comes meanwhile is dealt with as ever, but for its timers. Returns at once when its Python has ended.
  defp wait_for_calls(state, %{channel: channel} = data, deadline, pause) do
    receive do
      {:typhon, ^channel, _} = event ->
        case handle_event(:info, event, state, data) do
          {:keep_state, data} -> calls_left(state, data, deadline, pause)
          {:keep_state, data, _actions} -> calls_left(state, data, deadline, pause)
          _ -> calls_left(state, data, deadline, pause)
        end

      message ->
        case Host.event(data.host, message) do
          {:ended, host, _exit} -> %{data | host: host}
          {:ok, host} -> calls_left(state, %{data | host: host}, deadline, pause)
          :unknown -> calls_left(state, data, deadline, pause)
        end
    after
      min(pause, Deadline.left(deadline)) -> calls_left(state, data, deadline, longer(pause))
    end
  end

  defp calls_left(state, data, deadline, pause) do
    if Native.channel_info(data.channel).busy and Deadline.left(deadline) > 0,
      do: wait_for_calls(state, data, deadline, pause),
      else: data
  end

  defp stopped(reason) when reason in [:normal, :shutdown], do: :stopped
  defp stopped({:shutdown, _}), do: :stopped
  defp stopped(reason), do: {:owner_down, reason}

  defp stopped_pool(data),
    do: data.gone || %Typhon.PoolError{pool: data.config.pool, reason: :stopped}

  # What the host makes of a message, or of one that it still had to send when it was told to go.
  defp of_host(message, state, data) do
    case Host.event(data.host || data.leaving, message) do
      {:ended, host, _exit} when data.host == nil -> {:keep_state, %{data | leaving: host}}
      {:ended, host, exit} -> ended(exit, state, %{data | host: host})
      {:ok, host} when data.host != nil -> {:keep_state, %{data | host: host}}
      {:ok, _host} -> :keep_state_and_data
      :unknown -> forward(message, state, data)
    end
  end

  # What was sent to typhon.self() goes to Python's mailbox; but not what a former host, channel or monitor still had to say.
  defp forward({ref, :room}, _state, _data) when is_reference(ref) do
    Post.room(ref)
    :keep_state_and_data
  end

  defp forward(message, state, data) do
    stale? =
      case message do
        {:typhon, _, _} -> true
        {port, _} when is_port(port) -> true
        {:EXIT, _, _} -> true
        {:select, _, _, _} -> true
        {:interpreter, _, _} -> true
        {:errand, ref, _} when is_reference(ref) -> true
        {:DOWN, _, _, _, _} -> true
        {ref, _} when is_reference(ref) -> true
        _ -> false
      end

    if state == :ready and not stale?, do: Post.forward(data.channel, message)
    :keep_state_and_data
  end

  defp grace(channel, id, time, seen, limit), do: {{:timeout, {:grace, channel, id}}, time, {seen, limit}}

  defp imported({:importing, _} = importing), do: Error.imported(importing)
  defp imported(_abandoned), do: nil

  # Once for each module of a Python: many calls may wait for it. The worker says how many there are.
  defp tell_import({:importing, _} = importing, %{import_told: told} = data) when length(told) < @most_told,
    do: if(importing in told, do: data, else: tell_of(importing, data))

  defp tell_import(_abandoned, data), do: data

  defp tell_of(importing, data) do
    module = Error.imported(importing)

    log(
      :warning,
      "the time of a call ran out, or its caller ended, while Python was importing the module #{module}. The import goes on" <>
        "#{at_most(data.config.import_timeout)}. To have it imported before the first call, start the pool with " <>
        "preload: [#{inspect(module)}]",
      data
    )

    %{data | import_told: [importing | data.import_told]}
  end

  defp at_most(:infinity), do: ""
  defp at_most(time), do: ", for import_timeout: #{time} ms at most"

  # Whoever asked for it has given up.
  defp late?({:between_calls, _step, deadline}), do: Deadline.left(deadline) == 0
  defp late?(_event), do: false

  # Whether a session may have it.
  defp free?(state, data), do: state == :ready and data.killed == nil and data.pending == []

  defp checked(checkout, data, replies \\ []) do
    data = %{data | checkout: checkout}

    if Checkout.held?(checkout),
      do: {:keep_state, data, replies},
      else: {:keep_state, %{data | pending: []}, replies ++ data.pending}
  end

  # Its Python has ended, and its session with it.
  defp go_on(state, data, actions),
    do: {:next_state, state, %{data | pending: []}, actions ++ data.pending}

  # --- life ---

  defp open(%{config: config} = data) do
    with {:ok, output, fd} <- Printer.open(data.printer),
         {:ok, channel, region} <- Native.channel_open(self(), Settings.channel(config)) do
      data = %{data | channel: channel}

      case Host.open(config, %{channel: channel, region: region, output: output, fd: fd}) do
        {:ok, host} ->
          Registry.watch(channel, Host.os_pid(host))
          {:ok, %{data | host: host}}

        {:error, error} ->
          {:error, error, data}
      end
    else
      {:error, text} -> {:error, StartFailure.channel(config, text), data}
    end
  end

  defp foreign(greeting, data) do
    StartFailure.foreign(data.config, Host.os_pid(data.host), greeting["os_pid"], Printer.tail(data.printer))
  end

  defp greeted(data) do
    Registry.watch(data.channel, :greeted)

    case steps(data.config) do
      [] -> up(data)
      steps -> {:keep_state, %{data | errand: Errand.start(data.channel, steps, :infinity, data.config)}}
    end
  end

  defp steps(config), do: Enum.map(config.preload, &{:preload, &1}) ++ config.init

  defp language(%{config: config}), do: Language.title(config.language)

  # --- death ---

  defp ended(exit, state, data) do
    output = Printer.finish(data.printer)

    case state do
      :starting when data.init_error != nil ->
        failed(%{data.init_error | output: data.init_error.output ++ output}, data)

      :starting ->
        failed(StartFailure.ended(data.config, exit, data.step, output), data)

      :waiting ->
        failed(StartFailure.ended(data.config, exit, data.step, output), data)

      serving when serving in @serving ->
        error = %{
          worker_error(data, data.killed || exit.reason, output)
          | exit_status: exit.status,
            signal: exit.signal
        }

        lived = System.monotonic_time() - data.ready_at
        event(:down, %{lifetime: lived}, data, %{reason: error})
        log(:warning, "a #{language(data)} worker is being replaced: " <> Exception.message(error), data)
        Printer.settle(data.printer)
        Keeper.tell(data.config.board, {:ended, self(), error})
        {_host, data} = close(data, error)
        data = answer_reload(data, {:error, error})

        failures =
          if lived >= System.convert_time_unit(@settled, :millisecond, :native),
            do: 0,
            else: data.failures

        data = %{data | last_error: error, failures: failures + 1}

        case Backoff.delay(failures) do
          # Its place has another one, or none, already.
          _ when state == :retiring -> {:stop, {:shutdown, :retired}, data}
          0 -> restart(data)
          delay -> go_on(:down, data, [{:state_timeout, delay, :restart}])
        end
    end
  end

  # An attempt to start has failed. Who waits for it is told; the next one follows after a while.
  defp failed(error, data) do
    first = data.restarts == 0 and data.last_error == nil and data.role == :holder
    if data.host, do: Host.abort(data.host)
    {_host, data} = close(data, worker_error(data, :gone, error.output))
    event(:down, %{}, data, %{reason: error})
    Keeper.tell(data.config.board, {:ended, self(), error})

    # start_link returns the first failure; the later ones have no other way to be known.
    unless first,
      do: log(:error, "a #{language(data)} worker cannot be replaced: " <> Exception.message(error), data)

    Printer.settle(data.printer)

    data = %{
      data
      | last_error: error,
        errand: nil,
        step: nil,
        init_error: nil,
        failures: data.failures + 1,
        failed_starts: data.failed_starts + 1
    }

    broken? = data.ready_at == nil or data.failed_starts >= @broken
    data = if broken?, do: %{data | checkout: Checkout.refuse(data.checkout, error)}, else: data

    case data.role do
      :holder -> go_on(:down, data, [{:state_timeout, Backoff.delay(data.failures), :restart}])
      # The one that it was to replace goes on.
      :successor -> {:stop, {:shutdown, {:failed, error}}, data}
    end
  end

  defp restart(data) do
    data = %{data | restarts: data.restarts + 1}
    event(:restart, %{count: data.restarts}, data)
    go_on(:starting, data, [{:next_event, :internal, :start}])
  end

  # It could take calls.
  defp up(%{role: :successor} = data) do
    Keeper.tell(data.config.board, {:waiting, self()})
    {:next_state, :waiting, %{data | last_error: nil, failed_starts: 0}}
  end

  defp up(data), do: take_place_in_pool(data)

  defp take_place_in_pool(data) do
    now = System.monotonic_time()
    data = %{data | ready_at: now, last_error: nil, failed_starts: 0, placed: true, seen: 0}
    Keeper.take_place(data.config.board, data.index, data.serial)
    Native.pool_active(data.native, data.index, true)
    :ok = Native.pool_put(data.native, data.index, data.channel)
    data = %{data | checkout: Checkout.serve(data.checkout)}
    event(:ready, %{duration: now - data.started_at}, data)
    Keeper.tell(data.config.board, {:placed, self()})
    # Collects garbage: the memory of a former channel goes with the last term that names it.
    {:next_state, :ready, data, [:hibernate | watch_use(data)]}
  end

  defp watch_use(data) do
    notify_max_calls(data)
    if data.config.max_memory, do: [{{:timeout, {:memory, data.channel}}, @memory_every, nil}], else: []
  end

  defp notify_max_calls(%{config: %{max_calls: nil}}), do: :ok

  # One that has been reached in the meantime is told like one that is reached later.
  defp notify_max_calls(%{channel: channel, config: %{max_calls: max}}) do
    with :reached <- Native.channel_notify(channel, max), do: send(self(), {:typhon, channel, :served})
  end

  # It goes on until its successor is there.
  defp recycle(%{recycling: nil} = data, reason) do
    %{served: served} = Native.channel_info(data.channel)

    event(
      :recycle,
      %{
        calls: served,
        memory: Host.memory(data.host) || 0,
        lifetime: System.monotonic_time() - data.ready_at
      },
      data,
      %{reason: reason}
    )

    Keeper.tell(data.config.board, {:recycle, self(), reason})
    %{data | recycling: reason}
  end

  defp recycle(data, _reason), do: data

  defp retiring(data) do
    data = %{data | checkout: Checkout.move(data.checkout)}
    {:next_state, :retiring, data, [{:state_timeout, 0, {:finish, 1}}]}
  end

  defp replaced(data), do: worker_error(data, :replaced)

  defp worker_error(data, reason, output \\ []),
    do: %WorkerError{
      reason: reason,
      os_pid: Host.os_pid(data.host),
      language: data.config.language,
      output: output
    }

  defp reloaded(result, data) do
    :ok = Native.pool_put(data.native, data.index, data.channel)
    data = answer_reload(%{data | placed: true, errand: nil, step: nil}, result)
    data = %{data | checkout: Checkout.serve(data.checkout)}
    {:next_state, :ready, data, watch_use(data)}
  end

  defp answer_reload(%{reload: nil} = data, _result), do: data

  defp answer_reload(%{reload: %{from: from}} = data, result) do
    :gen_statem.reply(from, result)
    %{data | reload: nil, errand: nil, step: nil}
  end

  defp longer(pause), do: min(pause * 2, @idle_pause_max)

  # New calls go elsewhere first; then those in flight get their answer. Returns what is left of the host, too.
  defp close(data, error) do
    if data.channel do
      if data.placed, do: Native.pool_put(data.native, data.index, nil)
      Native.channel_close(data.channel, error)
      await_settled(data.channel, @settle_looks)
      Native.pool_sweep(data.native)
    end

    Asked.forget()
    host = Host.close(data.host)
    checkout = Checkout.lost(data.checkout)
    {host, %{data | channel: nil, host: nil, placed: false, checkout: checkout, import_told: []}}
  end

  # Callers that give up find the channel by its place until all have been told of its end.
  defp await_settled(channel, looks) do
    unless looks == 0 or Native.channel_info(channel).settled do
      Process.sleep(1)
      await_settled(channel, looks - 1)
    end
  end

  defp kill(data, reason) do
    event(:kill, %{}, data, %{reason: reason})
    Host.kill(data.host)
    %{data | killed: reason}
  end

  # Tells the process to go; it is not waited for yet. One that was not ready has nothing to finish.
  defp let_go(data, reason) do
    if data.host && data.greeting == nil, do: Host.abort(data.host)
    # What it has to say at the end is read as before.
    error = worker_error(data, reason, Printer.tail(data.printer))
    {host, data} = close(data, error)
    data = answer_reload(data, {:error, error})

    checkout =
      if reason == :replaced,
        do: Checkout.move(data.checkout),
        else: Checkout.refuse(data.checkout, stopped_pool(data))

    %{data | checkout: checkout, leaving: host}
  end

  # Logger may be slow: the worker is not.
  defp log(level, text, %{printer: printer}),
    do: Printer.log(printer, fn -> Logger.log(level, text) end, fn -> :ok end)

  defp event(name, measurements, data, metadata \\ %{}) do
    Telemetry.worker(
      name,
      measurements,
      Map.merge(metadata, %{
        pool: data.config.name || data.config.pool,
        worker: data.index,
        os_pid: Host.os_pid(data.host),
        python: data.config.program
      })
    )
  end
end
