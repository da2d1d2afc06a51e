defmodule Typhon.Worker.Usage do
  @moduledoc false
  # What a worker has done and holds: for Typhon.info/1, and for a pool that replaces it after so many calls, or bytes.

  alias Typhon.{Language, Native}
  alias Typhon.Pool.Board
  alias Typhon.Worker.{Checkout, Data, Host}

  import Data, only: [event: 3, event: 4, is_serving: 1]

  # How often a busy worker's memory is looked at, when it has a limit.
  @memory_every 1_000

  @doc "What one that begins to take calls has to be looked at for."
  @spec watch(Data.t()) :: [:gen_statem.action()]
  def watch(data) do
    notify_max_calls(data)
    if data.config.max_memory, do: [look_at_memory(data)], else: []
  end

  defp notify_max_calls(%{config: %{max_calls: nil}}), do: :ok

  # One that has been reached in the meantime is told like one that is reached later.
  defp notify_max_calls(%{channel: channel, config: %{max_calls: max}}) do
    with :reached <- Native.channel_notify(channel, max), do: send(self(), {:typhon, channel, :served})
  end

  defp look_at_memory(data), do: {{:timeout, {:memory, data.channel}}, @memory_every, nil}

  @doc "As many requests have been served as it was to say."
  @spec served(Data.t()) :: Data.result()
  def served(%{config: %{max_calls: max}} = data) do
    if max && Native.channel_info(data.channel).served >= max,
      do: {:keep_state, recycle(data, :max_calls)},
      else: {:keep_state_and_data, watch(data)}
  end

  @spec memory(Data.t()) :: Data.result()
  def memory(data) do
    %{served: served, busy: busy} = Native.channel_info(data.channel)
    memory = Host.memory(data.host) || 0
    event(:memory, %{memory: memory}, data)

    cond do
      memory > data.config.max_memory ->
        {:keep_state, recycle(data, :max_memory)}

      served != data.seen or busy ->
        {:keep_state, %{data | seen: served}, [look_at_memory(data)]}

      # Idle: the next request wakes this up again.
      true ->
        case Native.channel_notify(data.channel, served + 1) do
          :ok -> :keep_state_and_data
          :reached -> {:keep_state_and_data, [look_at_memory(data)]}
        end
    end
  end

  # It goes on until its successor is there.
  defp recycle(%{recycling: nil} = data, reason) do
    %{served: served} = Native.channel_info(data.channel)
    lifetime = System.monotonic_time() - data.ready_at
    figures = %{calls: served, memory: Host.memory(data.host) || 0, lifetime: lifetime}
    event(:recycle, figures, data, %{reason: reason})
    Board.tell(data.config.board, {:recycle, self(), reason})
    %{data | recycling: reason}
  end

  defp recycle(data, _reason), do: data

  @nothing %{
    served: 0,
    in_flight: 0,
    busy: false,
    lent: {0, 0},
    borrowed: {0, 0},
    results: {0, 0},
    shared: {0, 0},
    ring: %{requests: 0, replies: 0, wakes: 0, missed_spins: 0, waits_for_room: 0, segment_bytes: 0}
  }

  @spec info(atom, Data.t()) :: map
  def info(state, %{config: config} = data) do
    version = data.greeting && data.greeting["version"]
    use = if data.channel, do: Native.channel_info(data.channel), else: @nothing

    %{
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
      ring: use.ring,
      reserved: Checkout.held?(data.checkout),
      memory: Host.memory(data.host),
      uptime: if(is_serving(state), do: uptime(data)),
      os_pid: Host.os_pid(data.host),
      language: config.language,
      version: version,
      python: Language.if_python(config.language, version),
      executable: (data.greeting && data.greeting["executable"]) || config.program,
      restarts: data.restarts,
      concurrency: config.concurrency,
      last_error: data.last_error
    }
  end

  defp uptime(data),
    do: System.convert_time_unit(System.monotonic_time() - data.ready_at, :native, :millisecond)
end
