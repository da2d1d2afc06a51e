defmodule Bench.Erlport do
  @moduledoc "ErlPort's interface, `:python`: a small call, a long list, a large binary."

  import Bench.Compare, only: [rows: 4]
  import Bench.Fixture
  import Bench.Report, only: [heading: 1]
  alias Bench.Measure

  @add {:operator, :add, [1, 2]}

  def groups, do: ~w(erlport)

  def group("erlport", bench) do
    # What compat/erlport has compiled lies beside Typhon's own.
    Code.append_path(Path.join(Mix.Project.build_path(), "lib/erlport/ebin"))
    small(bench) ++ callback(bench) ++ list(bench) ++ binary(bench)
  end

  defp small(bench) do
    heading("ErlPort's interface: :python.call(py, :operator, :add, [1, 2]), one caller")
    calls = if bench.quick, do: 2_000, else: 20_000

    with_instance(bench, fn py ->
      floor = fn -> Measure.latency(fn -> port_caller(@add) end, calls, 0) end
      typhon = fn -> Measure.latency(fn -> caller(py, @add, 3) end, calls, 0) end

      rows(floor, py && typhon, bench.runs, [
        [name: "ErlPort: p50", metric: :p50, unit: :ns, goal: {:at_most, 0.3}]
      ])
    end)
  end

  # What the port's caller and Python's do is the same: there and back, again and again.
  defp callback(bench) do
    heading("ErlPort's interface: erlport.erlang.call(erlang, abs, [-1]) (floor: port, hot)")
    count = 1_000

    times = if bench.quick, do: 3, else: 10
    each = fn prepare -> %{time: Measure.round_trip(prepare, count, times)} end
    floor = fn -> each.(fn -> again(port_caller(@add), count) end) end

    with_instance(bench, fn py ->
      typhon = fn -> each.(fn -> fn -> :python.call(py, :erlport_bench, :call_abs, [count]) end end) end

      rows(floor, py && typhon, bench.runs, [
        [name: "ErlPort: a call of the BEAM", metric: :time, unit: :ns, goal: {:at_most, 0.25}]
      ])
    end)
  end

  defp list(bench) do
    heading("ErlPort's interface: a list of 1,000,000 ints, sum (floor: Typhon.call)")
    ints = Enum.to_list(1..1_000_000)
    request = {:builtins, :sum, [ints]}
    calls = if bench.quick, do: 2, else: 5

    with_pool(bench, 1, fn pool ->
      with_instance(bench, fn py ->
        # Without Typhon there is nothing to compare with.
        floor = fn ->
          %{time: pool && Measure.median_time(fn -> typhon_caller(pool, request, Enum.sum(ints)) end, calls)}
        end

        typhon = fn -> %{time: Measure.median_time(fn -> caller(py, request, Enum.sum(ints)) end, calls)} end

        if py,
          do:
            rows(floor, typhon, bench.runs, [
              [name: "ErlPort: 1,000,000 ints", metric: :time, unit: :ns, goal: {:at_most, 2}]
            ]),
          else: []
      end)
    end)
  end

  defp binary(bench) do
    heading("ErlPort's interface: echo of a binary of 10 MB, one caller")
    binary = :crypto.strong_rand_bytes(10_000_000)
    request = {:typhon_bench, :echo, [binary]}
    calls = if bench.quick, do: 5, else: 30

    with_instance(bench, fn py ->
      floor = fn -> Measure.rate(fn -> port_caller(request) end, calls) end
      typhon = fn -> Measure.rate(fn -> caller(py, request, binary) end, calls) end

      rows(floor, py && typhon, bench.runs, [
        [name: "ErlPort: 10 MB", metric: :rate, unit: :rate, goal: {:at_least, 4}]
      ])
    end)
  end

  defp with_instance(%{typhon: false}, function), do: function.(nil)

  defp with_instance(bench, function) do
    {:ok, py} = :python.start_link([{:python, bench.python}, {:python_path, [Path.expand("bench/python")]}])
    result = function.(py)
    :python.stop(py)
    result
  end

  # The first call checks the answer and warms up.
  defp caller(py, {module, function, args}, expected) do
    ^expected = :python.call(py, module, function, args)
    fn -> :python.call(py, module, function, args) end
  end
end
