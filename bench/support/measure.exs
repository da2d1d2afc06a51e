defmodule Bench.Measure do
  @moduledoc """
  Ways to time a function. Each returns numbers for one run; `Bench.Compare` repeats and interleaves them.
  All times are nanoseconds.
  """

  @doc """
  Latencies of `calls` calls in a row, or of one call each `pause` milliseconds: `%{p50: _, p99: _}`.
  `prepare.()` runs first and returns the function to call.
  """
  def latency(prepare, calls, pause \\ 0) do
    alone(fn ->
      function = prepare.()
      for _ <- 1..div(calls, 10), pause == 0, do: function.()
      function |> timed(calls, pause, []) |> percentiles()
    end)
  end

  defp timed(_function, 0, _pause, times), do: times

  defp timed(function, left, pause, times) do
    if pause > 0, do: Process.sleep(pause)
    start = System.monotonic_time()
    function.()
    stop = System.monotonic_time()
    timed(function, left - 1, pause, [stop - start | times])
  end

  @doc "Latencies of two functions that take turns, call by call: what one of them costs more than the other."
  def in_turns(prepare, prepare_other, calls) do
    alone(fn ->
      {function, other} = {prepare.(), prepare_other.()}
      for _ <- 1..div(calls, 10), do: {function.(), other.()}
      {times, others} = Enum.unzip(for _ <- 1..calls, do: {time(function), time(other)})
      {percentiles(times), percentiles(others)}
    end)
  end

  @doc "How long one call takes."
  def time(function) do
    start = System.monotonic_time()
    function.()
    System.monotonic_time() - start
  end

  @doc "What one of `count` round trips takes, that a function makes one after the other: the median of `times`."
  def round_trip(prepare, count, times) do
    alone(fn ->
      function = prepare.()
      function.()
      for(_ <- 1..times, do: time(function)) |> percentiles() |> Map.fetch!(:p50)
    end) / count
  end

  @doc """
  The median time of `calls` calls with large terms: before each `set_up.()`, after each `clean_up.()` and a collection, none of
  it timed.
  """
  def median_time(prepare, calls, clean_up \\ fn -> :ok end, set_up \\ fn -> :ok end) do
    alone(fn ->
      function = prepare.()

      for _ <- 1..calls do
        set_up.()
        start = System.monotonic_time()
        function.()
        stop = System.monotonic_time()
        clean_up.()
        :erlang.garbage_collect()
        stop - start
      end
      |> percentiles()
      |> Map.fetch!(:p50)
    end)
  end

  @doc "Calls a second of one caller: `%{rate: _}`."
  def rate(prepare, calls) do
    alone(fn ->
      function = prepare.()
      start = System.monotonic_time()
      for _ <- 1..calls, do: function.()
      took = System.monotonic_time() - start
      %{rate: calls / System.convert_time_unit(took, :native, :nanosecond) * 1.0e9}
    end)
  end

  @doc """
  `callers` processes call at once, for `milliseconds`: calls a second of all, p50 and p99 of their latencies.
  `prepare.(index)` runs in each caller first and returns the function that it calls. Between its calls a caller pauses for so
  many milliseconds.
  """
  def throughput(prepare, callers, milliseconds, pause \\ 0) do
    parent = self()

    pids =
      for index <- 1..callers do
        spawn_link(fn ->
          function = prepare.(index)
          send(parent, {:prepared, self()})

          receive do
            {:go, until} -> send(parent, {:times, self(), until_then(function, until, pause, [])})
          end
        end)
      end

    for pid <- pids, do: receive(do: ({:prepared, ^pid} -> :ok))
    start = System.monotonic_time()
    until = start + System.convert_time_unit(milliseconds, :millisecond, :native)
    for pid <- pids, do: send(pid, {:go, until})
    times = Enum.flat_map(pids, fn pid -> receive(do: ({:times, ^pid, times} -> times)) end)
    Map.put(percentiles(times), :rate, length(times) * 1000 / milliseconds)
  end

  # A call that ends after the end does not count.
  defp until_then(function, until, pause, times) do
    if pause > 0, do: Process.sleep(pause)
    start = System.monotonic_time()
    function.()
    stop = System.monotonic_time()
    if stop < until, do: until_then(function, until, pause, [stop - start | times]), else: times
  end

  defp percentiles(times) do
    sorted = times |> Enum.sort() |> List.to_tuple()
    %{p50: at(sorted, 0.50), p99: at(sorted, 0.99)}
  end

  defp at(sorted, fraction) do
    index = min(tuple_size(sorted) - 1, trunc(tuple_size(sorted) * fraction))
    sorted |> elem(index) |> System.convert_time_unit(:native, :nanosecond)
  end

  # In a process of its own, which starts with an empty heap and takes its garbage with it.
  defp alone(function), do: function |> Task.async() |> Task.await(:infinity)
end
