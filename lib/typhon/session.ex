defmodule Typhon.Session do
  @moduledoc """
  One worker of a pool, for the time of a `Typhon.run/3`.

  It stands in the place of a pool in every function of `Typhon`, and all its calls go to the same Python. It may be sent to
  other processes and works there for as long as the run lasts.

  * `pool` – the pool it belongs to, as it was given to `Typhon.run/3`
  * `worker` – the number of its worker in the pool, from 0
  """

  # Two things lead a call to one worker:
  #
  #   * this struct in the place of the pool, and
  #   * an entry in the dictionary of a process, under the key :"$typhon_session": a map from native pools to {where, parent}.
  #     All calls of that process to that pool go to the channel `where`, as requests made for the request `parent` (0: for
  #     none). `Typhon.run/3` makes one for its process; whoever runs a callback of a Python call makes one with that call as
  #     its parent, and with the deadline of that call under :deadline. What the process does meanwhile has no more time than
  #     is left of it (bound/1), whatever pool it is for.
  #
  # The worker's process holds who has it, and sets `state` when it ends before the run does.

  alias Typhon.{
    Deadline,
    Native,
    Options,
    OverloadError,
    Pool,
    PoolError,
    Registry,
    Telemetry,
    TimeoutError,
    Wire,
    WorkerError
  }

  @key :"$typhon_session"
  # Milliseconds.
  @slack 2

  # `state`
  @open 0
  @ended 1
  @lost 2

  @enforce_keys [:pool, :worker, :pid, :native, :bits, :where, :parent, :state]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          pool: term,
          worker: non_neg_integer | nil,
          pid: pid,
          native: Native.pool(),
          bits: non_neg_integer,
          where: Native.where(),
          parent: Native.id(),
          state: :atomics.atomics_ref()
        }

  @typedoc false
  @type entry :: {Native.where(), parent :: Native.id()}

  defimpl Inspect do
    def inspect(session, _),
      do: "#Typhon.Session<#{inspect(session.pool)}, worker #{inspect(session.worker)}>"
  end

  @doc false
  @spec key :: atom
  def key, do: @key

  @doc false
  # Where the calls of this process to a pool have to go.
  @spec current(Native.pool()) :: entry | nil
  def current(native) do
    case Process.get(@key) do
      %{^native => entry} -> entry
      _ -> nil
    end
  end

  @doc false
  # Runs a function whose calls to a pool go to one worker, and end by a deadline.
  @spec with_entry(Native.pool(), entry, Deadline.t(), (() -> result)) :: result when result: term
  def with_entry(native, entry, deadline \\ :infinity, fun) do
    before = Process.get(@key)
    Process.put(@key, entries(before, native, entry, deadline))

    try do
      fun.()
    after
      if before, do: Process.put(@key, before), else: Process.delete(@key)
    end
  end

  defp entries(nil, native, entry, :infinity), do: %{native => entry}
  defp entries(nil, native, entry, deadline), do: %{native => entry, deadline: deadline}
  defp entries(before, native, entry, :infinity), do: Map.put(before, native, entry)

  # A call cannot outlive the one that it is made for.
  defp entries(before, native, entry, deadline),
    do: before |> Map.put(native, entry) |> Map.update(:deadline, deadline, &min(&1, deadline))

  @doc false
  # The timeout of what this process is about to do: no more than is left of the call whose callback it runs. That one is to be
  # over by then, also where a millisecond was rounded off: else Python would have the time to make something of it.
  @spec bound(timeout) :: timeout
  def bound(timeout) do
    case Deadline.left(deadline()) do
      0 -> 0
      left when is_integer(left) -> min(timeout, left + @slack)
      :infinity -> timeout
    end
  end

  @doc false
  @spec deadline :: Deadline.t()
  def deadline do
    case Process.get(@key) do
      %{deadline: deadline} -> deadline
      _ -> :infinity
    end
  end

  @doc false
  # For a task that works for this process: where its calls have to go, and by when they end.
  @spec heritage :: map | nil
  def heritage, do: Process.get(@key)

  @doc false
  @spec inherit(map | nil) :: :ok
  def inherit(nil), do: :ok

  def inherit(heritage) do
    Process.put(@key, heritage)
    :ok
  end

  @doc false
  # The flags of a call to a pool, for a process that has entries.
  @spec aim(Native.pool(), non_neg_integer) :: Native.flags()
  def aim(native, bits) do
    case current(native) do
      nil -> bits
      {where, parent} -> {bits, where, parent}
    end
  end

  @doc false
  # What a lookup and aim/2 give for a pool.
  @spec target(t) :: {pid, Native.pool(), non_neg_integer, Native.flags()} | {:error, Exception.t()}
  def target(%__MODULE__{native: native, where: where} = session) do
    case :atomics.get(session.state, 1) do
      @open ->
        # In a callback of a call of this session the worker waits for just that callback.
        parent =
          case current(native) do
            {^where, parent} -> parent
            _ -> session.parent
          end

        {session.pid, native, session.bits, {session.bits, where, parent}}

      @lost ->
        {:error, %WorkerError{reason: :lost}}

      @ended ->
        {:error, %PoolError{pool: session, reason: :session_ended}}
    end
  end

  @doc false
  @spec open?(t) :: boolean
  def open?(session), do: :atomics.get(session.state, 1) == @open

  @doc false
  @spec run(term, (t -> result), keyword) :: {:ok, result} | {:error, Exception.t()} when result: term
  def run(%__MODULE__{} = session, fun, _options) do
    with {_, native, _, {_, where, parent}} <- target(session),
         do: {:ok, with_entry(native, {where, parent}, fn -> fun.(session) end)}
  end

  def run(key, fun, options) do
    %{timeout: timeout} = Options.run!(options)
    timeout = bound(timeout)

    with {pid, native, bits} <- Registry.lookup(key) do
      case current(native) do
        nil ->
          # A pool of a test that has no Python has no worker either: stubs answer.
          if Typhon.Test.Double.python?({pid, native, bits}),
            do: acquire(key, pid, native, bits, timeout, fun),
            else: nested(key, pid, native, bits, 0, 0, fun)

        {where, parent} ->
          nested(key, pid, native, bits, where, parent, fun)
      end
    end
  end

  # The worker is this process' already.
  defp nested(key, pid, native, bits, where, parent, fun) do
    state = :atomics.new(1, [])

    session = %__MODULE__{
      pool: key,
      worker: if(is_integer(where), do: Wire.place(where)),
      pid: pid,
      native: native,
      bits: bits,
      where: where,
      parent: parent,
      state: state
    }

    try do
      {:ok, fun.(session)}
    after
      :atomics.put(state, 1, @ended)
    end
  end

  defp acquire(key, pid, native, bits, timeout, fun) do
    asked = System.monotonic_time()

    case checkout(key, pid, native, timeout) do
      {:ok, worker, ref, grant} ->
        session = %__MODULE__{
          pool: key,
          worker: grant.index,
          pid: pid,
          native: native,
          bits: bits,
          where: grant.where,
          parent: 0,
          state: grant.state
        }

        metadata = %{pool: key, worker: grant.index}
        start = Telemetry.session_start(asked, metadata)

        try do
          {:ok, with_entry(native, {grant.where, 0}, fn -> fun.(session) end)}
        after
          :atomics.put(grant.state, 1, @ended)
          Pool.checkin(worker, ref)
          Telemetry.session_stop(start, metadata)
        end

      {:error, _} = error ->
        error
    end
  end

  # Counted among those who wait, so that `max_queue` holds for sessions, too.
  defp checkout(key, pid, native, timeout) do
    case Native.pool_wait(native, false) do
      {:ok, ticket} ->
        result = Pool.checkout(pid, native, timeout)
        Native.pool_done(ticket)

        case result do
          :timeout -> {:error, %TimeoutError{timeout: timeout}}
          other -> other
        end

      overload ->
        error = OverloadError.new(key, overload)
        Telemetry.overload(error, %{module: nil, function: nil, arity: nil})
        {:error, error}
    end
  end

  # --- for the worker that is checked out ---

  @doc false
  @spec new_state :: :atomics.atomics_ref()
  def new_state, do: :atomics.new(1, [])

  @doc false
  @spec lose(:atomics.atomics_ref()) :: :ok
  def lose(state) do
    :atomics.compare_exchange(state, 1, @open, @lost)
    :ok
  end

  @doc false
  @spec finish(:atomics.atomics_ref()) :: :ok
  def finish(state), do: :atomics.put(state, 1, @ended)
end
