defmodule Typhon.Worker.Data do
  @moduledoc false
  # What a worker's state machine (Typhon.Worker.Machine) knows, and what all of its parts say of it: errors, events, log lines.

  require Logger

  alias Typhon.{Language, PoolError, StartError, Telemetry, WorkerError}
  alias Typhon.Worker.{Host, Printer, Steps}

  # A pause between two looks at a worker that is to finish its calls grows up to this, in milliseconds.
  @idle_pause_max 20
  # After so many failed starts in a row calls do not wait for the next one.
  @broken 2

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
    # what runs its Python
    host: nil,
    greeting: nil,
    ready_at: nil,
    started_at: nil,
    # why it was killed, when it was this side that did it
    killed: nil,
    # its channel, from when it was seen stopped until its grace is over
    stopped: nil,
    # what init: came to, when it has failed and the host has not ended yet
    init_error: nil,
    # what runs before it takes calls, or between them: {reference, the step that has begun}
    steps: nil,
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

  @type t :: %__MODULE__{}

  @typedoc "What becomes of an event, as gen_statem takes it."
  @type result :: :gen_statem.event_handler_result(atom, t)

  @doc "States in which Python serves, or finishes, calls."
  defguard is_serving(state) when state in [:ready, :reloading, :retiring]

  @doc "Of a Python that is about to be started nothing is known."
  @spec fresh(t) :: t
  def fresh(data) do
    %{
      data
      | greeting: nil,
        killed: nil,
        recycling: nil,
        leaving: nil,
        init_error: nil,
        steps: nil,
        started_at: System.monotonic_time()
    }
  end

  @doc "Begins with steps, which are told of by their reference."
  @spec begin_steps(t, [Steps.step()], timeout) :: t
  def begin_steps(data, steps, timeout),
    do: %{data | steps: {Steps.start(data.channel, steps, timeout, data.config), nil}}

  @doc "What of `preload:` and `init:` runs, or ran when it ended."
  @spec step(t) :: Steps.step() | nil
  def step(%{steps: {_ref, step}}), do: step
  def step(_data), do: nil

  @doc "Whether it will not come up by itself in a moment. One failure of a Python that has worked before may be an accident."
  @spec broken?(t) :: boolean
  def broken?(data), do: data.ready_at == nil or data.failed_starts >= @broken

  @doc "What those get who wait for one that is broken; nil: it is not."
  @spec why_broken(t) :: StartError.t() | nil
  def why_broken(%{last_error: %StartError{} = error} = data), do: if(broken?(data), do: error)
  def why_broken(_data), do: nil

  @spec worker_error(t, term, [String.t()]) :: WorkerError.t()
  def worker_error(data, reason, output \\ []) do
    %WorkerError{
      reason: reason,
      os_pid: Host.os_pid(data.host),
      language: data.config.language,
      output: output
    }
  end

  @doc "Of one that gives up its place, for those who asked it for something."
  @spec replaced(t) :: WorkerError.t()
  def replaced(data), do: worker_error(data, :replaced)

  @doc "Of one whose pool stops."
  @spec stopped_pool(t) :: Exception.t()
  def stopped_pool(data), do: data.gone || %PoolError{pool: data.config.pool, reason: :stopped}

  @doc "How it is called in log lines: a Python worker."
  @spec title(t) :: String.t()
  def title(data), do: Language.title(data.config.language) <> " worker"

  @doc "Ends what runs its Python; the end itself comes as an event."
  @spec kill(t, term) :: t
  def kill(data, reason) do
    event(:kill, %{}, data, %{reason: reason})
    Host.kill(data.host)
    %{data | killed: reason}
  end

  @doc "The next pause of one that looks again and again."
  @spec longer(pos_integer) :: pos_integer
  def longer(pause), do: min(pause * 2, @idle_pause_max)

  @doc "Logger may be slow: the worker is not."
  @spec log(Logger.level(), String.t(), t) :: :ok
  def log(level, text, %{printer: printer}),
    do: Printer.log(printer, fn -> Logger.log(level, text) end, fn -> :ok end)

  @spec event(atom, map, t, map) :: :ok
  def event(name, measurements, data, metadata \\ %{}) do
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
