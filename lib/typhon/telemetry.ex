defmodule Typhon.Telemetry do
  @moduledoc """
  Events for the application `:telemetry`, where it is there; `docs/telemetry.md` lists them.

  Typhon does not depend on the package: it is looked for once, when the application starts. The one function for users is
  `measure/1`, which is made for a poller.
  """

  @key {__MODULE__, :available}
  # Whether the VM's unit of time is the nanosecond.
  @nanoseconds {__MODULE__, :nanoseconds}

  @doc """
  Emits `[:typhon, :pool, :load]` for a pool: how much it has to do at this moment; and `[:typhon, :worker, :ring]` for each of its workers. For `:telemetry_poller`, whose list of measurements takes
  `{Typhon.Telemetry, :measure, [MyApp.Python]}`. No process of the pool is asked.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.Telemetry.measure(py)
      :ok
  """
  @spec measure(Typhon.pool()) :: :ok | {:error, Typhon.PoolError.t()}
  def measure(pool) do
    with {_pid, native, _flags} when native != nil <- Typhon.Registry.lookup(pool) do
      info = Typhon.Native.pool_info(native)
      in_flight = for {_, _, in_flight, _} <- info.places, do: in_flight
      running = in_flight |> Enum.map(&min(&1, info.concurrency)) |> Enum.sum()
      calls = Enum.sum(in_flight)
      results = Typhon.Native.results()

      if available?() do
        execute(
          [:typhon, :pool, :load],
          %{
            in_flight: calls,
            queued: calls - running,
            waiting: info.waiting,
            workers: length(info.places),
            reserved: Enum.count(info.places, &elem(&1, 1)),
            held: results.held,
            cached: results.cached
          },
          %{pool: pool}
        )

        for {worker, channel, ring} <- Typhon.Native.pool_rings(native),
            do: execute([:typhon, :worker, :ring], ring, %{pool: pool, worker: worker, channel: channel})
      end

      :ok
    else
      {_pid, nil, _flags} -> :ok
      {:error, _} = error -> error
    end
  end

  @doc false
  # Looks for the package :telemetry.
  @spec detect :: :ok
  def detect do
    available = Code.ensure_loaded?(:telemetry) and function_exported?(:telemetry, :execute, 3)

    :persistent_term.put(@key, available)
    :persistent_term.put(@nanoseconds, System.convert_time_unit(1, :second, :native) == 1_000_000_000)
  end

  @spec available? :: boolean
  def available?, do: :persistent_term.get(@key, false)

  @doc false
  @spec call_start(map) :: integer
  def call_start(metadata) do
    start = System.monotonic_time()

    execute(
      [:typhon, :call, :start],
      %{monotonic_time: start, system_time: start + System.time_offset()},
      metadata
    )

    start
  end

  @doc false
  @spec call_stop(
          integer,
          map,
          {:ok, term} | {:error, Exception.t()},
          Typhon.Native.timings() | nil
        ) ::
          :ok
  def call_stop(start, metadata, result, timings) do
    stop = System.monotonic_time()
    measurements = measurements(timings, stop - start, stop)

    case result do
      {:ok, _} ->
        execute([:typhon, :call, :stop], measurements, metadata)

      {:error, error} ->
        execute(
          [:typhon, :call, :exception],
          measurements,
          Map.merge(metadata, %{kind: :error, reason: error, stacktrace: []})
        )
    end
  end

  defp measurements(nil, duration, stop), do: %{duration: duration, monotonic_time: stop}

  defp measurements({queue, decode, run, encode, transfer}, duration, stop) do
    # Each conversion takes as long as one of these calls' steps, and there is nothing to convert on most systems.
    native = if :persistent_term.get(@nanoseconds, false), do: & &1, else: &native/1

    %{
      duration: duration,
      monotonic_time: stop,
      queue: native.(queue),
      decode: native.(decode),
      run: native.(run),
      encode: native.(encode),
      transfer: native.(transfer)
    }
  end

  defp native(nanoseconds), do: System.convert_time_unit(nanoseconds, :nanosecond, :native)

  @doc false
  # A cast, or a handler of messages (`function` is nil), has raised.
  @spec cast_failed(Exception.t(), String.t(), String.t() | nil, keyword) :: :ok
  def cast_failed(error, target, function, metadata) do
    if available?() do
      execute([:typhon, :cast, :exception], %{system_time: System.system_time()}, %{
        pool: metadata[:typhon_pool],
        worker: metadata[:typhon_worker],
        module: target,
        function: function,
        kind: :error,
        reason: error,
        stacktrace: []
      })
    end

    :ok
  end

  @doc false
  # An event in the life of a worker: :start, :ready, :down, :restart, :recycle, :memory, :kill or :stop.
  @spec worker(atom, map, map) :: :ok
  def worker(event, measurements, metadata) do
    if available?(), do: execute([:typhon, :worker, event], measurements, metadata)
    :ok
  end

  @doc false
  # An event of a pool as a whole: :scale, :restart, :reload, :drain or :down.
  @spec pool(atom, map, map) :: :ok
  def pool(event, measurements, metadata) do
    if available?(), do: execute([:typhon, :pool, event], measurements, metadata)
    :ok
  end

  @doc false
  # An event of the interpreters inside the VM: :start, :quarantine, :back or :worn.
  @spec interpreter(atom, map, map) :: :ok
  def interpreter(event, measurements, metadata) do
    if available?(), do: execute([:typhon, :interpreter, event], measurements, metadata)
    :ok
  end

  @doc false
  # A call, or the wait for a session, was refused.
  @spec overload(Typhon.OverloadError.t(), map) :: :ok
  def overload(error, metadata) do
    if available?() do
      execute(
        [:typhon, :pool, :overload],
        Map.take(error, [:queued, :workers]),
        Map.merge(metadata, Map.take(error, [:pool, :concurrency, :max_queue]))
      )
    end

    :ok
  end

  @doc false
  # A session has got its worker, for which it has asked at `asked`.
  @spec session_start(integer, map) :: integer
  def session_start(asked, metadata) do
    start = System.monotonic_time()

    if available?() do
      execute(
        [:typhon, :session, :start],
        %{monotonic_time: start, system_time: System.system_time(), wait: start - asked},
        metadata
      )
    end

    start
  end

  @doc false
  @spec session_stop(integer, map) :: :ok
  def session_stop(start, metadata) do
    if available?() do
      stop = System.monotonic_time()
      execute([:typhon, :session, :stop], %{duration: stop - start, monotonic_time: stop}, metadata)
    end

    :ok
  end

  # Through apply/3: the package is not there when this is compiled.
  defp execute(event, measurements, metadata) do
    apply(:telemetry, :execute, [event, measurements, metadata])
    :ok
  end
end
