defmodule Bench.Objects do
  @moduledoc """
  What handles cost beside a call: an attribute, an element, several steps in one request; a million of them, made and released; and
  the first ~PY of a pool.
  """

  import Bench.Compare, only: [rows: 4, derived: 3]
  import Bench.Fixture
  alias Bench.{Measure, Report}

  @add {:operator, :add, [1, 2]}

  def groups, do: ~w(objects handles sigil)

  def group("objects", bench) do
    Report.heading("what is done with a handle (floor: a call)")
    each = &each_of_many(bench, &1)

    with_pool(bench, 1, fn py ->
      for {name, goal, function} <- lines(py) do
        rows(each.(fn -> typhon_caller(py, @add, 3) end), each.(fn -> function end), bench.runs, [
          [name: name, metric: :time, unit: :ns, goal: {:at_most, goal}]
        ])
      end
      |> Enum.concat()
    end)
  end

  def group("handles", %{typhon: false}), do: []

  def group("handles", bench) do
    count = if bench.quick, do: 20_000, else: 1_000_000
    Report.heading("#{div(count, 1_000)} k handles, made and released (floor: a call)")

    with_pool(bench, 1, fn py ->
      call = typhon_caller(py, @add, 3)
      make(py, 20_000)

      {calls, befores, handles, afters} =
        unzip(
          for _ <- 1..bench.runs do
            floor = Measure.round_trip(fn -> again(call, 1_000) end, 1_000, 30)
            before = memory()
            took = fn -> Measure.time(fn -> make(py, count) end) end |> Task.async() |> Task.await(:infinity)
            {floor, before, System.convert_time_unit(took, :native, :nanosecond) / count, memory()}
          end
        )

      [
        derived([name: "one of them", unit: :ns], calls, handles),
        derived(
          [name: "memory of worker and VM (floor: before)", unit: :kib, goal: {:at_most, 1.1}],
          befores,
          afters
        )
      ]
    end)
  end

  def group("sigil", %{typhon: false}), do: []

  # On a pool that has run no code before. In IEx it is compiled then, too, for which a Python of its own reads it.
  def group("sigil", bench) do
    Report.heading("the first ~PY of a pool (floor: python -c pass)")
    times = if bench.quick, do: 3, else: 10
    Application.put_env(:typhon, :compile_python, bench.python)
    code = ~S|~P"[row / sum(rows) for row in rows]"r|
    {compiled, _} = Code.eval_string("import Typhon.Sigil; fn rows -> #{code} end")

    typed = fn rows ->
      "import Typhon.Sigil; #{code}" |> Code.eval_string([rows: rows], file: "iex") |> elem(0)
    end

    floor = fn ->
      %{time: Measure.median_time(fn -> fn -> run_python(bench.python, ["-c", "pass"]) end end, times)}
    end

    for {name, run} <- [{"compiled before", compiled}, {"as in IEx: compiled and run", typed}] do
      rows(floor, fn -> %{time: first_of_pool(run, bench, times)} end, bench.runs, [
        [name: name, metric: :time, unit: :ns, how: :alone, goal: {:at_most, 60_000_000}]
      ])
    end
    |> Enum.concat()
  end

  defp first_of_pool(run, bench, times) do
    start = fn ->
      {:ok, py} = Typhon.default(workers: 1, python: bench.python)
      Process.put(:pool, py)
    end

    stop = fn -> Typhon.stop(Process.delete(:pool)) end
    Measure.median_time(fn -> fn -> [0.25, 0.25, 0.5] = run.([1, 1, 2]) end end, times, stop, start)
  end

  # --- handles ---

  # What is timed, its goal, and a function that does it once.
  defp lines(nil), do: []

  defp lines(py) do
    {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2, 3], 5])
    {:ok, shop} = Typhon.eval(py, shop())
    steps = [get: "stock", item: "tea", get: "sizes", item: 1, call: {"bit_length", []}]
    5 = Typhon.get!(queue, :maxlen)
    2 = Typhon.item!(queue, 1)
    7 = Typhon.chain!(shop, steps)

    [
      {"Typhon.get(object, :maxlen)", 1.1, fn -> {:ok, _} = Typhon.get(queue, :maxlen) end},
      {"Typhon.item(object, 1)", 1.1, fn -> {:ok, _} = Typhon.item(queue, 1) end},
      {"Typhon.chain of five steps", 1.5, fn -> {:ok, _} = Typhon.chain(shop, steps) end}
    ]
  end

  defp shop do
    """
    from types import SimpleNamespace

    SimpleNamespace(stock={"tea": SimpleNamespace(sizes=[50, 100])})
    """
  end

  # The process that makes them drops them as it goes.
  defp make(_py, 0), do: :ok

  defp make(py, left) do
    {:ok, %Typhon.Object{}} = Typhon.call(py, :builtins, :object, [])
    make(py, left - 1)
  end

  # When what nobody holds any more is gone.
  defp memory do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    Process.sleep(500)
    Bench.System.memory([String.to_integer(System.pid()) | Bench.System.python_children()])
  end

  defp unzip(runs), do: for(index <- 0..3, do: Enum.map(runs, &elem(&1, index))) |> List.to_tuple()
end
