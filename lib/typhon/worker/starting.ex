defmodule Typhon.Worker.Starting do
  @moduledoc false
  # A worker's start, up to when it could take calls, and what becomes of one that fails.

  alias Typhon.{Native, Registry, WorkerError}
  alias Typhon.Pool.Board
  alias Typhon.Worker.{Backoff, Checkout, Data, Ending, Host, Place, Printer, Settings, StartFailure}

  import Data, only: [event: 3, event: 4, log: 3]

  @spec start(Data.t()) :: Data.result()
  def start(data) do
    case open(Data.fresh(data)) do
      {:ok, data} ->
        event(:start, %{system_time: System.system_time()}, data)
        {:keep_state, data, [{:state_timeout, data.config.start_timeout, :start_timeout}]}

      {:error, error, data} ->
        failed(error, data)
    end
  end

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

  @spec late(Data.t()) :: Data.result()
  def late(data) do
    data.config
    |> StartFailure.late(Data.step(data), data.channel, Printer.tail(data.printer))
    |> failed(data)
  end

  @spec greeted(map, Data.t()) :: Data.result()
  def greeted(greeting, data) do
    case Host.adopt(data.host, greeting) do
      {:ok, host} ->
        Registry.watch(data.channel, :greeted)
        run_steps(%{data | host: host, greeting: greeting})

      # It has ended: its host says how.
      {:error, :no_process} ->
        :keep_state_and_data

      {:error, :foreign} ->
        data.config
        |> StartFailure.foreign(Host.os_pid(data.host), greeting["os_pid"], Printer.tail(data.printer))
        |> failed(data)
    end
  end

  defp run_steps(%{config: config} = data) do
    case Enum.map(config.preload, &{:preload, &1}) ++ config.init do
      [] -> up(data)
      steps -> {:keep_state, Data.begin_steps(data, steps, :infinity)}
    end
  end

  @doc "`preload:` and `init:` are through."
  @spec ran({{:ok, term} | {:error, Exception.t()}, [String.t()]}, Data.t()) :: Data.result()
  def ran({{:ok, _}, _printed}, data), do: up(%{data | steps: nil})

  # The worker ended meanwhile: its host says how.
  def ran({{:error, %WorkerError{}}, _printed}, _data), do: :keep_state_and_data

  # Its last words may still be on their way: they have come when it has ended.
  def ran({{:error, error}, printed}, data) do
    error = StartFailure.step(data.config, Data.step(data), error, printed)

    case Host.abort(data.host) do
      :ends -> {:keep_state, %{data | init_error: error}, [{:state_timeout, :cancel}]}
      :goes -> failed(%{error | output: printed ++ Printer.tail(data.printer)}, data)
    end
  end

  # It could take calls.
  defp up(%{role: :successor} = data) do
    Board.tell(data.config.board, {:waiting, self()})
    {:next_state, :waiting, %{data | last_error: nil, failed_starts: 0}}
  end

  defp up(data), do: Place.take(data)

  @doc "Its host has ended before it could take calls."
  @spec ended(Host.exit(), [String.t()], Data.t()) :: Data.result()
  def ended(_exit, output, %{init_error: error} = data) when error != nil,
    do: failed(%{error | output: error.output ++ output}, data)

  def ended(exit, output, data),
    do: data.config |> StartFailure.ended(exit, Data.step(data), output) |> failed(data)

  # An attempt to start has failed. Who waits for it is told; the next one follows after a while.
  defp failed(error, data) do
    first = data.restarts == 0 and data.last_error == nil and data.role == :holder
    if data.host, do: Host.abort(data.host)
    {_host, data} = Ending.close(data, Data.worker_error(data, :gone, error.output))
    event(:down, %{}, data, %{reason: error})
    Board.tell(data.config.board, {:ended, self(), error})

    # start_link returns the first failure; the later ones have no other way to be known.
    unless first,
      do: log(:error, "a #{Data.title(data)} cannot be replaced: " <> Exception.message(error), data)

    Printer.settle(data.printer)

    data = %{
      data
      | last_error: error,
        steps: nil,
        init_error: nil,
        failures: data.failures + 1,
        failed_starts: data.failed_starts + 1
    }

    data = if Data.broken?(data), do: %{data | checkout: Checkout.refuse(data.checkout, error)}, else: data

    case data.role do
      :holder -> down(Backoff.delay(data.failures), data)
      # The one that it was to replace goes on.
      :successor -> {:stop, {:shutdown, {:failed, error}}, data}
    end
  end

  @doc "There is no Python for so long."
  @spec down(pos_integer, Data.t()) :: Data.result()
  def down(delay, data), do: go_on(:down, data, [{:state_timeout, delay, :restart}])

  @spec restart(Data.t()) :: Data.result()
  def restart(data) do
    data = %{data | restarts: data.restarts + 1}
    event(:restart, %{count: data.restarts}, data)
    go_on(:starting, data, [{:next_event, :internal, :start}])
  end

  # Its Python has ended, and its session with it.
  defp go_on(state, data, actions),
    do: {:next_state, state, %{data | pending: []}, actions ++ data.pending}
end
