defmodule Typhon.Worker.Overdue do
  @moduledoc false
  # Calls that Python does not come to an end with: when they are interrupted, and when the worker is killed for them.

  alias Typhon.{Deadline, Error, Native}
  alias Typhon.Worker.{Data, Host}

  import Data, only: [event: 4, log: 3]

  # A worker that takes no requests is looked at so often, in milliseconds.
  @look_again 1_000
  # So often in a row a worker may have nothing to do and take nothing.
  @ignored_looks 5
  # How often it is looked at whether an import has ended that a call's time ran out in.
  @look_at_import 100
  # Of so many modules it is told at most.
  @most_told 16

  @doc """
  A caller gave up on a request that Python has begun. First the polite way: typhon.Cancelled is raised in it.
  """
  @spec interrupt(Native.id(), Data.t()) :: Data.result()
  def interrupt(id, data) do
    abandoned = Native.abandoned(data.channel, id)
    Host.interrupt(data.host, id)
    event(:cancel, %{count: 1}, data, %{importing: imported(abandoned)})
    limit = Deadline.from(data.config.import_timeout)
    {:keep_state, tell_import(abandoned, data), [grace(data, id, data.config.grace, :runs, limit)]}
  end

  @doc """
  Its grace is over. Python interrupts no import, and is not killed for one before its own time is over: the next call would begin
  it again, and get no further. What comes after an import is interrupted, and has its grace from then on.
  """
  @spec grace_over(Native.id(), :runs | :imports, Deadline.t(), Data.t()) :: Data.result()
  def grace_over(id, seen, limit, data) do
    abandoned = Native.abandoned(data.channel, id)
    data = tell_import(abandoned, data)

    case {abandoned, seen, Deadline.left(limit)} do
      {{:importing, _}, _, 0} ->
        {:keep_state, Data.kill(data, {:import_timeout, imported(abandoned)})}

      {{:importing, _}, _, left} ->
        {:keep_state, data, [grace(data, id, min(@look_at_import, left), :imports, limit)]}

      {:running, :imports, _} ->
        {:keep_state, data, [grace(data, id, data.config.grace, :runs, limit)]}

      {:running, :runs, _} ->
        {:keep_state, Data.kill(data, :overdue)}

      _ ->
        {:keep_state, data}
    end
  end

  defp grace(data, id, time, seen, limit),
    do: {{:timeout, {:grace, data.channel, id}}, time, {seen, limit}}

  @doc """
  A caller gave up on a request that Python has not begun. It may be busy; or its process has been stopped (SIGSTOP), and then
  it will never take anything; or something stands in its way that is no call: a `__del__`, a handler of messages, a thread
  that keeps the GIL.
  """
  @spec untaken(Native.id(), Data.t()) :: Data.result()
  def untaken(id, %{config: config} = data),
    do: look_at_untaken(id, 0, Deadline.from(config.import_timeout), config.grace, data)

  defp look_at_untaken(id, ignored, limit, time, data),
    do: {:keep_state_and_data, [{{:timeout, {:untaken, data.channel}}, time, {id, ignored, limit}}]}

  @doc "It has been given time to take it. `ignored`: so often in a row it had nothing to do, and did not."
  @spec still_untaken(Native.id(), non_neg_integer, Deadline.t(), Data.t()) :: Data.result()
  def still_untaken(id, ignored, limit, data) do
    again = &look_at_untaken(id, &1, limit, @look_again, data)

    case Native.abandoned(data.channel, id) do
      untaken when untaken in [:waiting, :ignored] ->
        cond do
          Host.stopped?(data.host) -> {:keep_state, Data.kill(data, :hung)}
          untaken == :waiting -> again.(0)
          # A handler of messages does.
          Deadline.left(limit) != 0 and Native.importing(data.channel) != nil -> again.(0)
          # A machine may be busy for a while.
          ignored < @ignored_looks -> again.(ignored + 1)
          true -> {:keep_state, Data.kill(data, :hung)}
        end

      _ ->
        :keep_state_and_data
    end
  end

  @doc """
  The same for a call that it has taken, and whose time is long. Somebody may have stopped it for a moment only. Once until the
  grace is over: others who wait ask for it again and again.
  """
  @spec look(Data.t()) :: Data.result()
  def look(%{channel: channel} = data) do
    if Host.stopped?(data.host),
      do:
        {:keep_state, %{data | stopped: channel}, [{{:timeout, {:stopped, channel}}, data.config.grace, nil}]},
      else: :keep_state_and_data
  end

  @doc "It was seen stopped, and its grace is over."
  @spec still_stopped(Data.t()) :: Data.result()
  def still_stopped(data) do
    data = %{data | stopped: nil}

    # Casts are waited for too, and room for what is not in the ring yet.
    with true <- Host.stopped?(data.host),
         %{busy: busy, waiting: waiting} when busy or waiting > 0 <- Native.channel_info(data.channel),
         do: {:keep_state, Data.kill(data, :hung)},
         else: (_ -> {:keep_state, data})
  end

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
end
