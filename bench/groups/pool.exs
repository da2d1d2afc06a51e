defmodule Bench.Pool do
  @moduledoc """
  What a production system asks of a pool: callbacks, streams, calls in bulk, what dispatch costs, coroutines, and how fast
  it is itself again after a worker was killed or a call was given up.
  """

  import Bench.Compare, only: [rows: 4]
  import Bench.Fixture
  alias Bench.Measure
  alias Typhon.Native

  @add {:operator, :add, [1, 2]}
  # Ahead of what is measured from a deadline.
  @deadline 100

  def groups, do: ~w(eval callback stream multi dispatch mixed asyncio replace cancel)

  def group("eval", bench) do
    heading("Python code beside a call (floor: a call)")
    each = &each_of_many(bench, &1)

    with_pool(bench, 1, fn py ->
      lines = [
        {~s|eval("1 + 1"), compiled before|, 1.5, fn -> fn -> {:ok, 2} = Typhon.eval(py, "1 + 1") end end},
        {"the same with a binding", nil, fn -> fn -> {:ok, 2} = Typhon.eval(py, "x + 1", x: 1) end end},
        {"the same in a scope", nil,
         fn ->
           {:ok, scope} = Typhon.scope(py)
           fn -> {:ok, 2} = Typhon.eval(scope, "1 + 1") end
         end},
        {"a scope, made and dropped", 20, fn -> fn -> {:ok, _} = Typhon.scope(py) end end}
      ]

      for {name, goal, caller} <- lines, py != nil do
        specification =
          [name: name, metric: :time, unit: :ns] ++ if(goal, do: [goal: {:at_most, goal}], else: [])

        rows(each.(fn -> typhon_caller(py, @add, 3) end), each.(caller), bench.runs, [specification])
      end
      |> Enum.concat()
    end)
  end

  def group("callback", bench) do
    heading("Python calls the BEAM, a round trip (floor: port, hot)")
    count = 1_000
    times = if bench.quick, do: 5, else: 30

    # What the port's caller and Python's do is the same: there and back, again and again.
    each = fn prepare -> %{time: Measure.round_trip(prepare, count, times)} end
    calls = fn caller -> fn -> each.(fn -> again(caller.(), count) end) end end
    floor = calls.(fn -> port_caller(@add) end)

    with_pool(bench, 1, fn py ->
      back = fn function ->
        fn -> {:ok, nil} = Typhon.call(py, :typhon_bench, :call_back, [function, count]) end
      end

      nested = fn number ->
        {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
        number
      end

      typhon = fn function -> fn -> each.(fn -> back.(function) end) end end

      number = fn number -> number end

      rows(floor, py && typhon.(number), bench.runs, [
        [name: "f(1)", metric: :time, unit: :ns, goal: {:at_most, 1}]
      ]) ++
        rows(py && calls.(fn -> typhon_caller(py, @add, 3) end), py && typhon.(number), bench.runs, [
          [name: "f(1) (floor: a call)", metric: :time, unit: :ns, goal: {:at_most, 2}]
        ]) ++
        rows(floor, py && typhon.(nested), bench.runs, [
          [name: "f(1), which calls Python in turn", metric: :time, unit: :ns]
        ])
    end)
  end

  def group("stream", bench) do
    heading("a stream of ints (floor: the port echoes batches of 1,024)")
    count = if bench.quick, do: 500_000, else: 2_000_000
    sum = div(count * (count - 1), 2)

    floor = fn ->
      Measure.rate(
        fn ->
          port = PortEcho.open()

          fn ->
            ^sum =
              0..(count - 1)
              |> Stream.chunk_every(1_024)
              |> Stream.flat_map(&PortEcho.call(port, &1))
              |> Enum.sum()
          end
        end,
        1
      )
      |> per_element(count)
    end

    with_pool(bench, 1, fn py ->
      out = fn ->
        Measure.rate(
          fn ->
            stream = Typhon.stream(py, :builtins, :range, [0, count])
            [0] = Enum.take(stream, 1)
            fn -> ^sum = Enum.sum(stream) end
          end,
          1
        )
        |> per_element(count)
      end

      into = fn ->
        Measure.rate(
          fn -> fn -> {:ok, ^sum} = Typhon.call(py, :builtins, :sum, [Typhon.iter(0..(count - 1))]) end end,
          1
        )
        |> per_element(count)
      end

      rows(floor, py && out, bench.runs, [
        [
          name: "Typhon.stream into Enum.sum: ints a second",
          metric: :rate,
          unit: :rate,
          how: :alone,
          goal: {:at_least, 2_000_000}
        ]
      ]) ++
        rows(floor, py && into, bench.runs, [
          [name: "Typhon.iter into Python's sum: ints a second", metric: :rate, unit: :rate, how: :alone]
        ])
    end)
  end

  def group(name, %{typhon: false}) when name in ~w(multi dispatch mixed cancel), do: []

  def group("multi", bench) do
    heading("many small calls in one request (floor: one hot call)")
    calls = if bench.quick, do: 500, else: 5_000
    {module, function, args} = @add

    with_pool(bench, 1, fn py ->
      one = fn -> Measure.latency(fn -> typhon_caller(py, @add, 3) end, calls) end

      many = fn ->
        list = for _ <- 1..100, do: args
        Measure.latency(fn -> fn -> [{:ok, 3} | _] = Typhon.multi(py, module, function, list) end end, calls)
      end

      rows(one, many, bench.runs, [
        [
          name: "Typhon.multi of 100 times operator.add(1, 2), p50",
          metric: :p50,
          unit: :ns,
          goal: {:at_most, 10}
        ]
      ])
    end)
  end

  # Both go to the very same worker, the bare one by a native pool of a single place. Nothing but what leads there differs.
  def group("dispatch", bench) do
    heading("what a pool adds to a call (floor: its worker, bare)")
    calls = if bench.quick, do: 5_000, else: 50_000

    Enum.flat_map([1, 4], fn workers ->
      with_pool(bench, workers, fn py ->
        {bare, pool} =
          Enum.unzip(
            for _ <- 1..bench.runs,
                do: Measure.in_turns(fn -> bare_caller(py) end, fn -> pool_caller(py) end, calls)
          )

        [
          Bench.Compare.derived(
            [
              name: "a call through a pool of #{workers}, p50",
              unit: :ns,
              how: :added,
              goal: {:at_most, 500}
            ],
            Enum.map(bare, & &1.p50),
            Enum.map(pool, & &1.p50)
          )
        ]
      end)
    end)
  end

  # Four callers that pause between their small calls, on two workers. Beside them one makes long calls, so one worker is left,
  # and is free most of the time: a small call must not wait behind a long one.
  def group("mixed", bench) do
    heading("small calls beside long ones, two workers (floor: the small ones alone)")
    milliseconds = if bench.quick, do: 500, else: 3_000

    with_pool(bench, 2, fn py ->
      small = fn ->
        Measure.throughput(
          fn _ -> typhon_caller(py, @add, 3) end,
          4,
          milliseconds,
          1
        )
      end

      beside = fn ->
        long = spawn_link(fn -> long_calls(py) end)
        result = small.()
        Process.unlink(long)
        Process.exit(long, :kill)
        # What it has left goes to nobody.
        {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
        result
      end

      rows(small, beside, bench.runs, [
        [name: "small calls, p50", metric: :p50, unit: :ns],
        [name: "small calls, p99", metric: :p99, unit: :ns, goal: {:at_most, 2}]
      ])
    end)
  end

  def group("asyncio", bench) do
    heading("10,000 times asyncio.sleep(0.1) (floor: gather)")
    count = 10_000

    floor = fn -> %{time: told_by(bench.python, [Path.expand("bench/python/gather.py"), count, 0.1])} end

    with_pool(bench, 1, fn py ->
      typhon = fn ->
        %{
          time:
            Measure.median_time(
              fn ->
                # The worker has its event loop.
                {:ok, nil} = Typhon.call(py, :asyncio, :sleep, [0])

                fn ->
                  for(_ <- 1..count, do: Typhon.async(py, :asyncio, :sleep, [0.1]))
                  |> Task.await_many(60_000)
                end
              end,
              if(bench.quick, do: 1, else: 3)
            )
        }
      end

      rows(floor, py && typhon, bench.runs, [
        [
          name: "from the first call to the last result",
          metric: :time,
          unit: :ns,
          how: :alone,
          goal: {:at_most, 500_000_000}
        ]
      ]) ++ mixed(bench, py)
    end)
  end

  def group("replace", bench) do
    heading("a worker is killed (floor: python -c pass)")
    times = if bench.quick, do: 3, else: 10

    floor = fn ->
      %{time: Measure.median_time(fn -> fn -> run_python(bench.python, ["-c", "pass"]) end end, times)}
    end

    typhon = fn ->
      %{time: median(for _ <- 1..times, do: with_pool(bench, 1, &replaced_after/1))}
    end

    rows(floor, bench.typhon && typhon, bench.runs, [
      [
        name: "kill -9 to the next good call",
        metric: :time,
        unit: :ns,
        how: :alone,
        goal: {:at_most, 150_000_000}
      ]
    ])
  end

  def group("cancel", bench) do
    heading("a deadline passes")
    times = if bench.quick, do: 3, else: 10

    calls = [
      {"a loop in Python", {:typhon_bench, :python_loop, []}, []},
      {"time.sleep", {:time, :sleep, [60]}, []},
      {"asyncio.sleep", {:asyncio, :sleep, [60]}, []},
      {"a loop in C, grace: 0", {:typhon_bench, :c_loop, []}, [grace: 0]}
    ]

    for {name, call, options} <- calls do
      # A worker that is killed anew would be held back: each time another pool.
      given_up = fn -> with_pool(bench, 1, &given_up_after(&1, call), options) end

      typhon = fn ->
        {errors, frees} = Enum.unzip(for _ <- 1..times, do: given_up.())
        %{error: median(errors), free: median(frees)}
      end

      rows(fn -> %{} end, typhon, bench.runs, [
        [name: name <> ": to the caller's error", metric: :error, unit: :ns, how: :alone],
        [name: name <> ": to the next result", metric: :free, unit: :ns, how: :alone]
      ])
    end
    |> Enum.concat()
  end

  # --- coroutines beside ordinary calls ---

  # A worker with an event loop has a second thread in Python: what that costs ordinary calls.
  defp mixed(bench, py) do
    calls = if bench.quick, do: 500, else: 5_000
    floor = fn -> Measure.latency(fn -> port_caller(@add) end, calls) end

    typhon = fn request, expected ->
      fn -> Measure.latency(fn -> typhon_caller(py, request, expected) end, calls) end
    end

    rows(floor, py && typhon.(@add, 3), bench.runs, [
      [name: "a call beside an idle event loop, p50 (floor: port)", metric: :p50, unit: :ns]
    ]) ++
      rows(floor, py && typhon.({:asyncio, :sleep, [0]}, nil), bench.runs, [
        [name: "asyncio.sleep(0), one at a time, p50", metric: :p50, unit: :ns]
      ])
  end

  # --- bare workers ---

  defp pool_caller(py) do
    {module, function, args} = @add
    {:ok, 3} = Typhon.call(py, module, function, args)
    fn -> {:ok, _} = Typhon.call(py, module, function, args) end
  end

  defp bare_caller(py) do
    {:ok, %{workers: [%{pid: worker} | _]}} = Typhon.info(py)
    {:ready, %{channel: channel}} = :sys.get_state(worker)
    native = Native.pool_new(1)
    :ok = Native.pool_put(native, 0, channel)
    fn -> {:ok, _} = bare_call(native) end
  end

  defp bare_call(native) do
    {module, function, args} = @add
    ref = make_ref()

    case Native.call(native, ref, 0, module, function, args, %{}, 60_000, 0) do
      {:ok, _} = ok -> ok
      {:wait, _where, _id, _left} -> receive(do: ({^ref, reply} -> reply))
    end
  end

  # --- faults ---

  defp replaced_after(py) do
    {:ok, os_pid} = Typhon.call(py, :os, :getpid, [])

    time(fn ->
      :ok = Native.kill_pid(os_pid, 9)
      until_good(py)
    end)
  end

  defp until_good(py) do
    case Typhon.call(py, :operator, :add, [1, 2]) do
      {:ok, 3} -> :ok
      {:error, %Typhon.WorkerError{}} -> until_good(py)
    end
  end

  # From the deadline until the caller knows, and until Python answers again.
  defp given_up_after(py, {module, function, args}) do
    {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
    {:ok, nil} = Typhon.call(py, :typhon_bench, :echo, [nil])
    start = System.monotonic_time()
    {:error, %Typhon.TimeoutError{}} = Typhon.call(py, module, function, args, timeout: @deadline)
    error = System.monotonic_time()
    :ok = until_good(py)
    free = System.monotonic_time()
    deadline = start + System.convert_time_unit(@deadline, :millisecond, :native)
    {nanoseconds(error - deadline), nanoseconds(free - deadline)}
  end

  # --- figures ---

  defp heading(text), do: Bench.Report.heading(text)

  defp per_element(%{rate: rate}, count), do: %{rate: rate * count}

  defp time(function), do: function |> Measure.time() |> nanoseconds()

  defp nanoseconds(native), do: System.convert_time_unit(native, :native, :nanosecond)

  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))

  defp long_calls(py) do
    {:ok, nil} = Typhon.call(py, :time, :sleep, [0.1], timeout: :infinity)
    Process.sleep(5)
    long_calls(py)
  end
end
