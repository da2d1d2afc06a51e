defmodule Typhon.Worker.Ending do
  @moduledoc false
  # The end of a worker's Python: by itself, because it is told to, or with the worker's own process.

  alias Typhon.{Deadline, Native, Registry}
  alias Typhon.Pool.Board
  alias Typhon.Worker.{Backoff, Checkout, Data, Host, Machine, OutsideCalls, Place, Printer, Starting}

  import Data, only: [event: 3, event: 4, is_serving: 1, log: 3]

  # How long a worker has to go after the end of its stdin.
  @stop_grace 500
  # A worker that was ready for this long is not in a crash loop.
  @settled 2_000
  # So often, with a millisecond between, a closed channel is asked whether its callers have been told. Else the next worker of
  # the pool lets go of it.
  @settle_looks 200

  # --- it has ended by itself ---

  @doc "Its host has ended."
  @spec ended(Host.exit(), atom, Data.t()) :: Data.result()
  def ended(exit, state, data) do
    output = Printer.finish(data.printer)
    if is_serving(state), do: lost(exit, output, state, data), else: Starting.ended(exit, output, data)
  end

  # It took calls.
  defp lost(exit, output, state, data) do
    error = Data.worker_error(data, data.killed || exit.reason, output)
    error = %{error | exit_status: exit.status, signal: exit.signal}
    lived = System.monotonic_time() - data.ready_at
    event(:down, %{lifetime: lived}, data, %{reason: error})
    log(:warning, "a #{Data.title(data)} is being replaced: " <> Exception.message(error), data)
    Printer.settle(data.printer)
    Board.tell(data.config.board, {:ended, self(), error})
    {_host, data} = close(data, error)
    data = Place.answer_reload(data, {:error, error})

    settled? = lived >= System.convert_time_unit(@settled, :millisecond, :native)
    failures = if settled?, do: 0, else: data.failures
    data = %{data | last_error: error, failures: failures + 1}

    case Backoff.delay(failures) do
      # Its place has another one, or none, already.
      _ when state == :retiring -> {:stop, {:shutdown, :retired}, data}
      0 -> Starting.restart(data)
      delay -> Starting.down(delay, data)
    end
  end

  @doc """
  New calls go elsewhere first; then those in flight get their answer. Returns what is left of the host, too.
  """
  @spec close(Data.t(), Exception.t()) :: {Host.t() | nil, Data.t()}
  def close(data, error) do
    if data.channel do
      if data.placed, do: Native.pool_put(data.native, data.index, nil)
      Native.channel_close(data.channel, error)
      await_settled(data.channel, @settle_looks)
      Native.pool_sweep(data.native)
    end

    OutsideCalls.forget()
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

  # --- it is told to go ---

  @doc """
  Tells the host to go; it is not waited for yet. One that was not ready has nothing to finish.
  """
  @spec let_go(Data.t(), term) :: Data.t()
  def let_go(data, reason) do
    if data.host && data.greeting == nil, do: Host.abort(data.host)
    # What it has to say at the end is read as before.
    error = Data.worker_error(data, reason, Printer.tail(data.printer))
    {host, data} = close(data, error)
    data = Place.answer_reload(data, {:error, error})

    checkout =
      if reason == :replaced,
        do: Checkout.move(data.checkout),
        else: Checkout.refuse(data.checkout, Data.stopped_pool(data))

    %{data | checkout: checkout, leaving: host}
  end

  # --- the worker's process ends ---

  @spec terminate(term, atom, Data.t()) :: :ok
  def terminate(reason, state, data) do
    data = if reason == :shutdown and is_serving(state), do: finish_calls(state, data), else: data
    data = if told_to_go?(state, data), do: data, else: let_go(data, why(reason))

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

  defp told_to_go?(state, data), do: state == :leaving or data.leaving != nil

  defp why(reason) when reason in [:normal, :shutdown], do: :stopped
  defp why({:shutdown, _}), do: :stopped
  defp why(reason), do: {:owner_down, reason}

  # The supervisor of the pool ends it: there are no new calls, and those that there are may finish. Workers go one after the
  # other, and have the same deadline.
  defp finish_calls(state, %{config: config} = data) do
    if data.leaving == nil and config.shutdown > 0 and Native.channel_info(data.channel).busy do
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
        result = Machine.handle_event(:info, event, state, data)
        calls_left(state, kept(result, data), deadline, pause)

      message ->
        case Host.event(data.host, message) do
          {:ended, host, _exit} -> %{data | host: host}
          {:ok, host} -> calls_left(state, %{data | host: host}, deadline, pause)
          :unknown -> calls_left(state, data, deadline, pause)
        end
    after
      min(pause, Deadline.left(deadline)) -> calls_left(state, data, deadline, Data.longer(pause))
    end
  end

  defp kept({:keep_state, data}, _before), do: data
  defp kept({:keep_state, data, _actions}, _before), do: data
  defp kept(_result, data), do: data

  defp calls_left(state, data, deadline, pause) do
    if Native.channel_info(data.channel).busy and Deadline.left(deadline) > 0,
      do: wait_for_calls(state, data, deadline, pause),
      else: data
  end
end
