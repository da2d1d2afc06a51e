# A tour of Typhon on real data. `make demo` runs it with a Python that has scikit-learn.

for file <- ~w(floor/port_echo support/measure) do
  Code.require_file("../../bench/#{file}.exs", __DIR__)
end

defmodule Demo do
  alias Bench.Measure

  def main([python]) do
    model = Path.join(System.tmp_dir!(), "typhon-demo-#{System.pid()}.pickle")

    {:ok, py} =
      step("Two Pythons, each a process with an interpreter of its own", fn ->
        started = now()
        {:ok, py} = Typhon.start_link(workers: 2, python: python, python_path: [Path.join(__DIR__, "python")])
        {:ok, %{workers: workers}} = Typhon.info(py)
        for worker <- workers, do: say("process #{worker.os_pid}, Python #{worker.python}")
        say("ready after #{took(started)}")
        {:ok, py}
      end)

    trained = step("Train a scikit-learn model on the iris data, once, in Python", fn -> train(py, model) end)
    step("Ask it from 2,000 Elixir processes at the same time", fn -> predict(py, model, trained) end)
    step("A Python exception, as Elixir sees it", fn -> exception(py, model) end)
    step("Kill a worker in the middle of a call", fn -> kill(py, model, trained) end)

    step("What a call costs here and now, beside a port to a C program that only echoes", fn ->
      latencies(py)
    end)

    :ok = Typhon.stop(py)
    File.rm!(model)
    IO.puts("\nNext: README.md, and `make bench` for the whole table.\n")
  end

  defp train(py, model) do
    started = now()
    trained = Typhon.call!(py, :flowers, :train, [model], timeout: 60_000)
    say("#{length(trained["species"])} flowers kept aside, of which it knows #{percent(trained["accuracy"])}")
    say("#{took(started)}, importing scikit-learn included")
    # Rows of numpy's array, as lists of floats.
    %Typhon.Array{shape: {rows, columns}, data: data} = trained["flowers"]
    floats = for <<value::float-little-64 <- data>>, do: value
    flowers = Enum.chunk_every(floats, columns)
    ^rows = length(flowers)
    Enum.zip(flowers, trained["species"])
  end

  defp predict(py, model, flowers) do
    # Each worker imports and loads at its first call.
    for {flower, _} <- Enum.take(flowers, 8) do
      Task.async(fn -> Typhon.call!(py, :flowers, :predict, [model, flower], timeout: 60_000) end)
    end
    |> Task.await_many(60_000)

    asked = flowers |> Stream.cycle() |> Enum.take(2_000)
    started = now()

    right =
      asked
      |> Enum.map(fn {flower, species} ->
        Task.async(fn ->
          {predicted, _sure} = Typhon.call!(py, :flowers, :predict, [model, flower], timeout: 60_000)
          predicted == species
        end)
      end)
      |> Task.await_many(60_000)
      |> Enum.count(& &1)

    {flower, _} = hd(flowers)
    {species, sure} = Typhon.call!(py, :flowers, :predict, [model, flower])
    say("#{inspect(flower)} is a #{species} (#{percent(sure)} sure)")
    say("#{length(asked)} answers in #{took(started)}, #{percent(right / length(asked))} of them right")
  end

  defp exception(py, model) do
    {:error, %Typhon.PythonError{} = error} = Typhon.call(py, :flowers, :predict, [model, [5.1, 3.5]])

    say(
      "{:error, %Typhon.PythonError{type: #{inspect(error.type)}, traceback: #{length(error.traceback)} frames}}"
    )

    # The first frames and the last lines say it all.
    lines = error |> Exception.message() |> String.trim() |> String.split("\n")
    shown = if length(lines) > 12, do: Enum.take(lines, 7) ++ ["  …"] ++ Enum.take(lines, -3), else: lines
    for line <- shown, do: say(IO.ANSI.format([:faint, line]))
  end

  defp kill(py, model, [{flower, _} | _]) do
    {:ok, %{workers: [worker, _]}} = Typhon.info(py)
    before = os_pids(py)

    calls = for _ <- 1..2, do: Task.async(fn -> Typhon.call(py, :time, :sleep, [1.5]) end)
    Process.sleep(100)
    started = now()
    {_, 0} = System.cmd("kill", ["-9", "#{worker.os_pid}"])

    results = Task.await_many(calls)
    [%Typhon.WorkerError{} = error] = for {:error, error} <- results, do: error
    say("its call: #{Exception.message(error) |> String.split("\n") |> hd()}")
    say("the other worker's call: #{inspect(Enum.find(results, &match?({:ok, _}, &1)))}")

    await_new_worker(py, before)
    [new] = os_pids(py) -- before
    say("#{took(started)} after the kill process #{new} stands in its place")
    {:ok, {species, _}} = Typhon.call(py, :flowers, :predict, [model, flower], timeout: 60_000)
    say("and a #{species} is a #{species} again")
  end

  defp os_pids(py) do
    {:ok, %{workers: workers}} = Typhon.info(py)
    for %{state: :ready, os_pid: os_pid} <- workers, do: os_pid
  end

  defp await_new_worker(py, before) do
    case os_pids(py) do
      [_, _] = os_pids when os_pids != before -> :ok
      _ -> Process.sleep(5) && await_new_worker(py, before)
    end
  end

  defp latencies(py) do
    mebibyte = :crypto.strong_rand_bytes(1_048_576)
    ints = Enum.to_list(1..100_000)

    line(["", "port to C", "Typhon"])

    for {name, calls, pause, floor, {module, function, args}} <- [
          {"operator.add(1, 2), call after call", 10_000, 0, {:operator, :add, [1, 2]},
           {:operator, :add, [1, 2]}},
          {"the same, a call every 2 ms", 300, 2, {:operator, :add, [1, 2]}, {:operator, :add, [1, 2]}},
          {"1 MiB through zlib.adler32 (C: echo)", 50, 0, {:zlib, :adler32, [mebibyte]},
           {:zlib, :adler32, [Typhon.buffer(mebibyte)]}},
          {"100,000 ints, sum (C: echo)", 30, 0, {:builtins, :sum, [ints]}, {:builtins, :sum, [ints]}}
        ] do
      through_port = fn ->
        port = PortEcho.open()
        fn -> PortEcho.call(port, floor) end
      end

      through_typhon = fn -> fn -> {:ok, _} = Typhon.call(py, module, function, args) end end

      line([
        name | for(way <- [through_port, through_typhon], do: time(Measure.latency(way, calls, pause).p50))
      ])
    end
  end

  defp step(title, function) do
    IO.puts(IO.ANSI.format(["\n", :bright, title]))
    function.()
  end

  defp say(text), do: IO.puts(["  ", text])

  defp line([name | figures]) do
    say([String.pad_trailing(name, 40) | Enum.map(figures, &String.pad_leading(&1, 12))])
  end

  defp now, do: System.monotonic_time()
  defp took(started), do: time(System.convert_time_unit(now() - started, :native, :nanosecond))

  defp time(ns) when ns < 1_000_000, do: "#{Float.round(ns / 1_000, 1)} µs"
  defp time(ns) when ns < 1_000_000_000, do: "#{Float.round(ns / 1_000_000, 1)} ms"
  defp time(ns), do: "#{Float.round(ns / 1_000_000_000, 1)} s"

  defp percent(share), do: "#{round(share * 100)} %"
end

Demo.main(System.argv())
