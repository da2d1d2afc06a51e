# Typhon against its floors, from Elixir: `make bench`, or `mix run bench/bench.exs [options]`.
#
#   --only hot,echo    these groups only: hot, cold, many, echo, terms, start, memory, idle,
#                      eval, callback, stream, multi, dispatch, mixed, asyncio, replace, cancel, objects, handles,
#                      sigil, inside, erlport
#   --runs 5           runs of each line; the table shows medians
#   --quick            one short run, to see that everything works
#   --floor-only       the floors without Typhon
#
# Floors and Typhon take turns within one run of this program. The port floor is a C program behind {packet, 4} that
# only echoes (bench/floor/), so Typhon's figures contain Python's work and the floor's contain none.

for file <-
      ~w(floor/port_echo support/measure support/system support/report support/compare support/fixture support/telemetry) ++
        ~w(groups/pool groups/objects groups/inside groups/erlport) do
  Code.require_file("#{file}.exs", __DIR__)
end

defmodule Bench do
  import Bench.Compare, only: [rows: 4, derived: 3]
  import Bench.Fixture
  alias Bench.{Measure, Report}

  @groups ~w(hot cold many echo terms start memory idle)
  @pool_groups Bench.Pool.groups()
  @object_groups Bench.Objects.groups()
  @inside_groups Bench.Inside.groups()
  @erlport_groups Bench.Erlport.groups()
  @add {:operator, :add, [1, 2]}

  def main(arguments) do
    {options, [], []} =
      OptionParser.parse(arguments,
        strict: [only: :string, runs: :integer, quick: :boolean, floor_only: :boolean]
      )

    # Workers are killed here on purpose.
    Logger.configure(level: :error)
    build_floor()
    {python, 0} = System.cmd(Path.expand("scripts/pythons"), ["--default"])

    bench = %{
      python: String.trim(python),
      runs: options[:runs] || if(options[:quick], do: 1, else: 5),
      quick: options[:quick] || false,
      typhon: !options[:floor_only]
    }

    machine = Bench.System.describe(bench.python)

    IO.puts(
      "#{machine.cpu}, #{machine.cores} cores · OTP #{machine.otp} · Elixir #{machine.elixir} · Python #{machine.python}"
    )

    IO.puts("medians of #{bench.runs} runs, floor and Typhon in turns · load before: #{machine.load}")

    chosen =
      if options[:only],
        do: String.split(options[:only], ","),
        else: @groups ++ @pool_groups ++ @object_groups ++ @inside_groups ++ @erlport_groups

    file =
      "calls" <>
        if(options[:only], do: "-" <> Enum.join(chosen, "-"), else: "") <>
        if(bench.quick, do: "-quick", else: "")

    rows = Enum.flat_map(chosen, fn group -> group(group, bench) end)

    Report.summary(rows)
    Report.write_json("bench/results/#{file}.json", %{machine: machine, runs: bench.runs, rows: rows})
  end

  defp build_floor do
    File.mkdir_p!("_build/bench")

    for name <- ~w(echo memcpy pingpong) do
      {_, 0} = System.cmd("cc", ["-O2", "-pthread", "-o", "_build/bench/#{name}", "bench/floor/#{name}.c"])
    end
  end

  # One caller, call after call: both sides stay awake.
  defp group("hot", bench) do
    Report.heading("operator.add(1, 2), one caller")
    calls = if bench.quick, do: 2_000, else: 20_000

    latency_rows(bench, calls, 0, p50: 0.2, p99: 0.5) ++
      against_ping_pong(bench, calls) ++ watched(bench, calls)
  end

  # A call every two milliseconds: both sides have gone to sleep.
  defp group("cold", bench) do
    Report.heading("the same, one call every 2 ms")
    calls = if bench.quick, do: 50, else: 400
    latency_rows(bench, calls, 2, p50: 1, p99: nil)
  end

  defp group("many", bench) do
    Report.heading("the same, many callers at once")
    milliseconds = if bench.quick, do: 200, else: 1_000

    Enum.flat_map([1, 2], fn workers ->
      few = many(bench, 64, workers, milliseconds)
      many = many(bench, 1_000, workers, milliseconds)
      [rate_of_few | _] = few
      [rate_of_many | _] = many
      flat = fn runs_of_many, runs_of_few -> Enum.zip_with(runs_of_many, runs_of_few, &(&1 / &2)) end

      few ++
        many ++
        [
          derived(
            [
              name: "1000 callers' rate / 64 callers', #{workers} worker(s)",
              unit: :ratio,
              how: :alone,
              goal: {:at_least, 0.9}
            ],
            flat.(rate_of_many.floor_runs, rate_of_few.floor_runs),
            rate_of_many.typhon_runs && flat.(rate_of_many.typhon_runs, rate_of_few.typhon_runs)
          )
        ]
    end)
  end

  defp group("echo", bench) do
    Report.heading("echo of one binary, one caller")
    text = fn size -> String.duplicate("Typhon and Python. ", div(size, 19) + 1) |> binary_part(0, size) end
    random = &:crypto.strong_rand_bytes/1

    with_pool(bench, 1, fn py ->
      Enum.concat([
        echo(bench, py, "1 KiB text (str)", text.(1024), :itself, 2_000, 2),
        echo(bench, py, "1 KiB bytes", random.(1024), :bytes, 2_000, 2),
        echo(bench, py, "1 MiB text (str)", text.(1_048_576), :itself, 100, nil),
        echo(bench, py, "1 MiB bytes", random.(1_048_576), :bytes, 100, 4),
        echo(bench, py, "1 MiB buffer", random.(1_048_576), :buffer, 100, 4),
        echo(bench, py, "64 MiB bytes", random.(67_108_864), :bytes, 5, 2.5),
        echo(bench, py, "64 MiB buffer", random.(67_108_864), :buffer, 5, 6),
        against_memcpy(bench, py, "64 MiB buffer against memcpy there and back", 67_108_864)
      ])
    end) ++
      first_of_all(bench, "the first 64 MiB bytes against memcpy into fresh memory", random.(67_108_864))
  end

  defp group("terms", bench) do
    Report.heading("large terms, one caller")
    ints = Enum.to_list(1..1_000_000)
    floats = for index <- 1..100_000, do: index / 7

    maps =
      for index <- 1..10_000 do
        %{
          "id" => index,
          "name" => "name of #{index}",
          "tags" => ["red", "green", "tag#{index}"],
          "score" => index / 3
        }
      end

    with_pool(bench, 1, fn py ->
      Enum.concat([
        term(bench, py, "1,000,000 ints, sum (floor: echo)", {:builtins, :sum, [ints]}, Enum.sum(ints), 1.3),
        term(bench, py, "100,000 floats, echo", {:typhon_bench, :echo, [floats]}, floats, 1.2),
        term(bench, py, "10,000 maps, echo", {:typhon_bench, :echo, [maps]}, maps, 1.5)
      ])
    end)
  end

  defp group("start", bench) do
    Report.heading("a worker that does not exist yet")
    times = if bench.quick, do: 3, else: 10

    floor = fn ->
      %{time: Measure.median_time(fn -> fn -> run_python(bench.python, ["-c", "pass"]) end end, times)}
    end

    typhon = fn ->
      %{
        time:
          Measure.median_time(
            fn -> fn -> Process.put(:pool, hd(start_and_call(bench, 1))) end end,
            times,
            fn -> Typhon.stop(Process.delete(:pool)) end
          )
      }
    end

    rows(floor, bench.typhon && typhon, bench.runs, [
      [name: "start to first result (floor: python -c pass)", metric: :time, unit: :ns, goal: {:at_most, 1.3}]
    ])
  end

  # Four more of each, so that the BEAM's own ups and downs weigh little.
  defp group("memory", bench) do
    Report.heading("one more idle worker that has had a job of 100 MiB")
    settle = fn -> for(pid <- Process.list(), do: :erlang.garbage_collect(pid)) && Process.sleep(300) end

    floor = fn ->
      first = bare_python(bench.python, take_and_free())
      before = Bench.System.memory([os_pid(first)])
      more = for _ <- 1..4, do: bare_python(bench.python, take_and_free())
      settle.()
      memory = (Bench.System.memory(Enum.map([first | more], &os_pid/1)) - before) / 4
      Enum.each([first | more], &Port.close/1)
      %{memory: memory}
    end

    typhon = fn ->
      [first] = start_and_free(bench, 1)
      settle.()
      before = Bench.System.memory([beam() | Bench.System.python_children()])
      more = start_and_free(bench, 4)
      settle.()
      memory = (Bench.System.memory([beam() | Bench.System.python_children()]) - before) / 4
      Enum.each([first | more], &Typhon.stop/1)
      %{memory: memory}
    end

    rows(floor, bench.typhon && typhon, bench.runs, [
      [name: "memory, shared pages counted once", metric: :memory, unit: :kib, goal: {:at_most, 1.3}]
    ])
  end

  # The workers, and the threads that the NIF keeps in the BEAM for them.
  defp group("idle", bench) do
    Report.heading("two idle workers")
    milliseconds = if bench.quick, do: 500, else: 3_000

    percent = fn used ->
      Process.sleep(300)
      before = used.()
      Process.sleep(milliseconds)
      %{percent: (used.() - before) / (milliseconds * 10_000)}
    end

    floor = fn ->
      ports = for _ <- 1..2, do: bare_python(bench.python)
      result = percent.(fn -> Bench.System.processor_time(Enum.map(ports, &os_pid/1)) end)
      Enum.each(ports, &Port.close/1)
      result
    end

    typhon = fn ->
      with_pool(bench, 2, fn py ->
        for _ <- 1..1_000, do: {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
        workers = Bench.System.python_children()

        percent.(fn ->
          Bench.System.processor_time(workers) + Bench.System.processor_time([beam()], "typhon")
        end)
      end)
    end

    rows(floor, bench.typhon && typhon, bench.runs, [
      [
        name: "processor, % of a core (floor: bare Pythons)",
        metric: :percent,
        unit: :percent,
        how: :alone,
        goal: {:at_most, 0.1}
      ]
    ])
  end

  defp group(name, bench) when name in @pool_groups, do: Bench.Pool.group(name, bench)
  defp group(name, bench) when name in @object_groups, do: Bench.Objects.group(name, bench)
  defp group(name, bench) when name in @inside_groups, do: Bench.Inside.group(name, bench)
  defp group(name, bench) when name in @erlport_groups, do: Bench.Erlport.group(name, bench)

  defp group(other, _bench),
    do:
      raise(
        ArgumentError,
        "no group #{other}; there are #{Enum.join(@groups ++ @pool_groups ++ @object_groups ++ @inside_groups ++ @erlport_groups, ", ")}"
      )

  defp latency_rows(bench, calls, pause, goals) do
    with_pool(bench, 1, fn py ->
      floor = fn -> Measure.latency(fn -> port_caller(@add) end, calls, pause) end
      typhon = fn -> Measure.latency(fn -> typhon_caller(py, @add, 3) end, calls, pause) end

      rows(floor, py && typhon, bench.runs, [
        [name: "p50", metric: :p50, unit: :ns, goal: goals[:p50] && {:at_most, goals[:p50]}],
        [name: "p99", metric: :p99, unit: :ns, goal: goals[:p99] && {:at_most, goals[:p99]}]
      ])
    end)
  end

  # What two cores need for a word there and back is the least that a call can take.
  defp against_ping_pong(bench, calls) do
    rounds = if bench.quick, do: 100, else: 1_000
    # It has no tail of its own to speak of.
    floor = fn -> floor_program("pingpong", [rounds]) |> then(&%{p50: &1, p99: &1}) end

    with_pool(bench, 1, fn py ->
      rows(floor, py && fn -> Measure.latency(fn -> typhon_caller(py, @add, 3) end, calls) end, bench.runs, [
        [name: "p50 against a ping-pong of two cores", metric: :p50, unit: :ns, goal: {:at_most, 3}],
        [
          name: "p99 / p50",
          metric: &(&1.p99 / &1.p50),
          unit: :ratio,
          how: :alone,
          goal: {:at_most, 5}
        ]
      ])
    end)
  end

  # The package :telemetry is there, and nobody has attached anything.
  defp watched(%{typhon: false}, _calls), do: []

  defp watched(bench, calls) do
    Bench.Telemetry.load()
    latency = fn py -> fn -> Measure.latency(fn -> typhon_caller(py, @add, 3) end, calls) end end
    plain = start_pool(bench, 1, telemetry: false)

    result =
      with_pool(bench, 1, fn watched ->
        rows(latency.(plain), latency.(watched), bench.runs, [
          [name: "p50 with :telemetry (floor: without)", metric: :p50, unit: :ns, goal: {:at_most, 1.25}]
        ])
      end)

    Typhon.stop(plain)
    Bench.Telemetry.unload()
    result
  end

  defp floor_program(name, arguments), do: told_by("_build/bench/#{name}", arguments)

  defp many(bench, callers, workers, milliseconds) do
    with_pool(bench, workers, fn py ->
      floor = fn ->
        owners = for _ <- 1..workers, {:ok, owner} <- [PortEcho.start_link([])], do: owner

        result =
          Measure.throughput(
            fn index ->
              owner = Enum.at(owners, rem(index, workers))
              fn -> @add = PortEcho.share(owner, @add) end
            end,
            callers,
            milliseconds
          )

        Enum.each(owners, &GenServer.stop/1)
        result
      end

      typhon = fn ->
        Measure.throughput(fn _index -> typhon_caller(py, @add, 3) end, callers, milliseconds)
      end

      name = "#{callers} callers, #{workers} worker(s)"

      rows(floor, py && typhon, bench.runs, [
        [name: name <> ": calls a second", metric: :rate, unit: :rate, goal: {:at_least, 1.5}],
        [
          name: name <> ": p99 / p50",
          metric: &(&1.p99 / &1.p50),
          unit: :ratio,
          how: :alone,
          goal: {:at_most, 20}
        ]
      ])
    end)
  end

  defp echo(bench, py, name, binary, as, calls, goal) do
    calls = if bench.quick, do: min(calls, 5), else: calls
    floor = fn -> Measure.rate(fn -> port_caller({:typhon_bench, :echo, [binary]}) end, calls) end

    typhon = fn ->
      Measure.rate(fn -> typhon_caller(py, {:typhon_bench, :echo, [wrap(binary, as)]}, binary) end, calls)
    end

    goal = goal && {:at_least, goal}
    rows(floor, py && typhon, bench.runs, [[name: name, metric: :rate, unit: :rate, goal: goal]])
  end

  defp wrap(binary, :itself), do: binary
  defp wrap(binary, :bytes), do: Typhon.bytes(binary)
  defp wrap(binary, :buffer), do: Typhon.buffer(binary)

  defp against_memcpy(bench, py, name, size) do
    binary = :crypto.strong_rand_bytes(size)
    calls = if bench.quick, do: 3, else: 9

    floor = fn -> %{time: floor_program("memcpy", [size, calls])} end

    typhon = fn ->
      request = {:typhon_bench, :echo, [Typhon.buffer(binary)]}
      %{time: Measure.latency(fn -> typhon_caller(py, request, binary) end, calls).p50}
    end

    rows(floor, py && typhon, bench.runs, [[name: name, metric: :time, unit: :ns, goal: {:at_most, 1.3}]])
  end

  # No page of what it takes has been touched: each time another worker.
  defp first_of_all(bench, name, binary) do
    times = if bench.quick, do: 1, else: 5
    args = [Typhon.bytes(binary)]
    floor = fn -> %{time: floor_program("memcpy", [byte_size(binary), times, "fresh"])} end

    typhon = fn ->
      time =
        Measure.median_time(
          fn ->
            fn -> {:ok, _} = Typhon.call(Process.get(:pool), :typhon_bench, :echo, args, timeout: 60_000) end
          end,
          times,
          fn -> Typhon.stop(Process.delete(:pool)) end,
          fn -> Process.put(:pool, hd(start_and_call(bench, 1))) end
        )

      %{time: time}
    end

    rows(floor, bench.typhon && typhon, bench.runs, [
      [name: name, metric: :time, unit: :ns, goal: {:at_most, 3}]
    ])
  end

  defp term(bench, py, name, {_, _, _} = request, expected, goal) do
    calls = if bench.quick, do: 2, else: 5
    floor = fn -> %{time: Measure.median_time(fn -> port_caller(request) end, calls)} end
    typhon = fn -> %{time: Measure.median_time(fn -> typhon_caller(py, request, expected) end, calls)} end
    rows(floor, py && typhon, bench.runs, [[name: name, metric: :time, unit: :ns, goal: {:at_most, goal}]])
  end

  defp start_and_call(bench, count) do
    for _ <- 1..count do
      py = start_pool(bench, 1)
      {:ok, 3} = Typhon.call(py, :operator, :add, [1, 2])
      py
    end
  end

  # One job at a time.
  defp start_and_free(bench, count) do
    pools = start_and_call(bench, count)
    for py <- pools, do: {:ok, _} = Typhon.call(py, :typhon_bench, :take_and_free, [], timeout: 60_000)
    give_back()
    pools
  end

  defp beam, do: String.to_integer(System.pid())
end

Bench.main(System.argv())
