defmodule Bench.Inside do
  @moduledoc """
  Interpreters inside the VM, against processes: what a call costs, what one more costs, and whether two of them compute at the
  same time.
  """

  import Bench.Compare, only: [rows: 4]
  import Bench.Fixture
  alias Bench.Measure

  @add {:operator, :add, [1, 2]}
  # One thread for each job.
  @inside [isolation: :interpreter, env: [OPENBLAS_NUM_THREADS: "1"]]
  @loop {"a loop in Python", :spin, 1.85}
  # numpy lets go of the GIL, so that there two threads of one interpreter gain, too.
  @jobs [@loop, {"numpy", :multiply, 1.8}]

  def groups, do: ~w(inside)

  def group("inside", bench) do
    bench = %{bench | python: clean(bench.python)}

    call(bench) ++
      large(bench) ++
      one_more(bench, @inside, []) ++
      parallel(bench, @inside, @jobs) ++
      sub(bench) ++
      free_threaded(bench)
  end

  # With numpy, and without what the machine's own Python may import when it starts (.pth files).
  defp clean(python) do
    version = python |> System.cmd(["-V"]) |> elem(0) |> String.split() |> List.last()
    {venv, 0} = System.cmd(Path.expand("scripts/venv"), ["--python", python, "bench-#{version}", "numpy"])
    String.trim(venv)
  end

  # The same for sub-interpreters, with the first Python that has them.
  defp sub(bench) do
    engine = @inside ++ [engine: :subinterpreters]

    case newer_python() do
      nil ->
        heading("sub-interpreters: not measured, there is no Python 3.12 or newer")
        []

      python ->
        bench = %{bench | python: clean(python)}
        one_more(bench, engine, time: 40_000_000, memory: 6_000_000) ++ parallel(bench, engine, [@loop])
    end
  end

  defp newer_python do
    {text, 0} = System.cmd(Path.expand("scripts/pythons"), [])

    text
    |> String.split("\n", trim: true)
    |> Enum.map(&String.split/1)
    |> Enum.find_value(fn [version, path] ->
      if version != "3.11" and not String.ends_with?(version, "t"), do: path
    end)
  end

  defp call(bench) do
    heading("operator.add(1, 2) in an interpreter inside the VM, p50")
    calls = if bench.quick, do: 2_000, else: 20_000
    floor = fn -> Measure.latency(fn -> port_caller(@add) end, calls) end
    inside = fn py -> fn -> Measure.latency(fn -> typhon_caller(py, @add, 3) end, calls) end end

    with_pool(bench, 1, fn process ->
      with_pool(
        bench,
        1,
        fn py ->
          rows(floor, py && inside.(py), bench.runs, [
            [name: "against the port floor", metric: :p50, unit: :ns, goal: {:at_most, 0.2}]
          ]) ++
            rows(process && inside.(process), py && inside.(py), bench.runs, [
              [name: "against a worker process", metric: :p50, unit: :ns, goal: {:at_most, 1}]
            ])
        end,
        @inside
      )
    end)
  end

  # What a large binary costs beside Python's own time: that of doing the same with what it already has.
  defp large(bench) do
    binary = :crypto.strong_rand_bytes(67_108_864)
    bytes = Typhon.bytes(binary)
    buffer = Typhon.buffer(binary)

    with_pool(bench, 1, fn process ->
      with_pool(
        bench,
        1,
        fn py ->
          heading("64 MiB to and from an interpreter, beyond Python's own time (floor: that)")

          beyond =
            for {name, own, call} <- [
                  {"Typhon.buffer, len()", :view, {:builtins, :len, [buffer]}},
                  {"Typhon.bytes, len()", :copy, {:builtins, :len, [bytes]}},
                  {"bytes as a result", :nothing, {:typhon_bench, :large, []}}
                ],
                row <-
                  rows(py && fn -> own(py, own, buffer) end, py && fn -> call(py, call) end, bench.runs, [
                    [name: name, metric: :time, unit: :ns, how: :added, goal: {:at_most, 50_000}]
                  ]),
                do: row

          heading("the same against a worker process (floor)")

          against =
            for {name, call} <- [
                  {"Typhon.buffer, len()", {:builtins, :len, [buffer]}},
                  {"Typhon.bytes, len()", {:builtins, :len, [bytes]}},
                  {"bytes as a result", {:typhon_bench, :large, []}}
                ],
                row <-
                  rows(process && fn -> call(process, call) end, py && fn -> call(py, call) end, bench.runs, [
                    [name: name, metric: :time, unit: :ns]
                  ]),
                do: row

          beyond ++ against
        end,
        @inside
      )
    end)
  end

  @large_calls 9

  # The least of some: what the machine does otherwise is more than what is measured.
  defp call(py, {module, function, args}) do
    call = fn -> {:ok, _} = Typhon.call(py, module, function, args) end
    call.()

    times =
      for _ <- 1..@large_calls do
        start = System.monotonic_time()
        call.()
        stop = System.monotonic_time()
        :erlang.garbage_collect()
        System.convert_time_unit(stop - start, :native, :nanosecond)
      end

    %{time: Enum.min(times)}
  end

  defp own(py, what, buffer) do
    {:ok, nanoseconds} = Typhon.call(py, :typhon_bench, :own_time, [to_string(what), buffer, @large_calls])
    %{time: nanoseconds}
  end

  # Interpreters are never unloaded: each run has one more than the one before.
  defp one_more(bench, inside, goals) do
    heading("one more worker#{engine(inside)} (floor: a worker process)")
    runs = min(bench.runs, 4)
    agent = start_supervised_pools()

    measure = fn options ->
      fn ->
        before = resident()
        began = System.monotonic_time()
        py = start_pool(bench, 1, options)
        {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
        time = System.convert_time_unit(System.monotonic_time() - began, :native, :nanosecond)
        Agent.update(agent, &[py | &1])
        {:ok, _} = Typhon.call(py, :typhon_bench, :take_and_free, [], timeout: 60_000)
        give_back()
        {:ok, %{memory: memory}} = Typhon.health(py)
        %{time: time, memory: max(memory, resident() - before) / 1024}
      end
    end

    result =
      rows(bench.typhon && measure.([]), bench.typhon && measure.(inside), runs, [
        [name: "start to first result", metric: :time, unit: :ns, how: :alone] ++
          if(goals[:time], do: [goal: {:at_most, goals[:time]}], else: []),
        [
          name: "memory of the idle worker, after a job of 100 MiB",
          metric: :memory,
          unit: :kib,
          how: :alone,
          goal: {:at_most, Keyword.get(goals, :memory, 15_000_000) / 1024}
        ]
      ])

    Enum.each(Agent.get(agent, & &1), &Typhon.stop/1)
    result
  end

  defp start_supervised_pools do
    {:ok, agent} = Agent.start_link(fn -> [] end)
    agent
  end

  # The floor is one interpreter with two threads: there the jobs take turns.
  defp parallel(bench, inside, jobs) do
    heading(
      "two jobs at once#{engine(inside)}: how many times one job's rate (floor: one interpreter, two threads)"
    )

    Enum.flat_map(jobs, fn {name, function, goal} ->
      with_pool(
        bench,
        1,
        fn threads ->
          with_pool(
            bench,
            2,
            fn py ->
              for _ <- 1..4, py, do: warm_both(py, function)

              alone =
                rows(threads && speed_up(threads, function), py && speed_up(py, function), bench.runs, [
                  [name: name, metric: :speed_up, unit: :ratio, how: :alone, goal: {:at_least, goal}]
                ])

              alone ++ beside_processes(bench, inside, py, name, function)
            end,
            inside
          )
        end,
        inside ++ [concurrency: 2]
      )
    end)
  end

  # What the machine gives to two processes is all that it has.
  defp beside_processes(bench, inside, py, name, function) do
    with_pool(
      bench,
      2,
      fn processes ->
        for _ <- 1..4, processes, do: warm_both(processes, function)

        rows(processes && speed_up(processes, function), py && speed_up(py, function), bench.runs, [
          [name: "#{name}, against two worker processes", metric: :speed_up, unit: :ratio]
        ])
      end,
      Keyword.take(inside, [:env])
    )
  end

  defp speed_up(py, function) do
    job = fn -> {:ok, _} = Typhon.call(py, :typhon_bench, function, [], timeout: :infinity) end
    for _ <- 1..2, do: job.()
    two = fn -> [job, job] |> Enum.map(&Task.async/1) |> Task.await_many(:infinity) end
    # One before and one after: what the machine does otherwise weighs on both.
    fn -> %{speed_up: Enum.sum(for _ <- 1..2, do: paired(job, two)) / 2} end
  end

  # Where there is a Python without a GIL. The floor is the other Python, with two threads of one interpreter.
  defp free_threaded(bench) do
    with {text, 0} <- System.cmd(Path.expand("scripts/pythons"), []),
         [_, version, python] <- Regex.run(~r/^(\S+t) (.+)$/m, text),
         {:ok, %{engine: :threads}} <- Typhon.Env.describe(python) do
      heading("two jobs at once in two threads of one Python #{version} (floor: of one with a GIL)")
      threads = @inside ++ [engine: :threads]
      free = %{bench | python: python}

      with_pool(
        bench,
        2,
        fn gil ->
          with_pool(
            free,
            2,
            fn py ->
              for pool <- [gil, py], pool, _ <- 1..4, do: warm_both(pool, :spin)

              rows(gil && speed_up(gil, :spin), py && speed_up(py, :spin), bench.runs, [
                [
                  name: "a loop in Python",
                  metric: :speed_up,
                  unit: :ratio,
                  how: :alone,
                  goal: {:at_least, 1.85}
                ]
              ])
            end,
            threads
          )
        end,
        threads
      )
    else
      _ -> []
    end
  end

  defp engine(inside), do: if(inside[:engine], do: ", engine: #{inspect(inside[:engine])}", else: "")

  defp warm_both(py, function) do
    for(_ <- 1..2, do: Task.async(fn -> Typhon.call(py, :typhon_bench, function, [], timeout: :infinity) end))
    |> Task.await_many(:infinity)
  end

  defp paired(job, two) do
    {before, both} = {time(job), time(two)}
    (before + time(job)) / both
  end

  defp time(function), do: function |> :timer.tc() |> elem(0)

  defp resident do
    [_, rest] = "/proc/self/status" |> File.read!() |> String.split("VmRSS:")
    {kib, _} = rest |> String.trim_leading() |> Integer.parse()
    1024 * kib
  end

  defp heading(text), do: Bench.Report.heading(text)
end
