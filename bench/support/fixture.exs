defmodule Bench.Fixture do
  @moduledoc "What the groups are made of: pools, bare Pythons, and the functions that are timed."

  alias Bench.Measure

  @doc "Runs a function with a pool of so many workers, or with nil when only floors are wanted."
  def with_pool(bench, workers, function, options \\ [])
  def with_pool(%{typhon: false}, _workers, function, _options), do: function.(nil)

  def with_pool(bench, workers, function, options) do
    py = start_pool(bench, workers, options)
    result = function.(py)
    Typhon.stop(py)
    result
  end

  def start_pool(bench, workers, options \\ []) do
    {:ok, py} =
      Typhon.start_link(
        [workers: workers, python: bench.python, python_path: [Path.expand("bench/python")]] ++ options
      )

    py
  end

  # The functions that are timed. The first call checks the answer and warms up; the timed ones match its shape only.

  def port_caller(request) do
    port = PortEcho.open()
    ^request = PortEcho.call(port, request)
    fn -> {_, _, _} = PortEcho.call(port, request) end
  end

  def typhon_caller(py, {module, function, args}, expected) do
    {:ok, ^expected} = Typhon.call(py, module, function, args, timeout: 60_000)
    fn -> {:ok, _} = Typhon.call(py, module, function, args, timeout: 60_000) end
  end

  @doc "A function that does so many times what the other does once."
  def again(function, count), do: fn -> for _ <- 1..count, do: function.() end

  @doc "What is measured of a caller that does one thing: how long that takes, of many in a row."
  def each_of_many(bench, caller) do
    count = 1_000
    times = if bench.quick, do: 5, else: 30
    fn -> %{time: Measure.round_trip(fn -> again(caller.(), count) end, count, times)} end
  end

  @doc "The nanoseconds that a program prints, which times itself."
  def told_by(program, arguments) do
    {nanoseconds, 0} = System.cmd(Path.expand(program), Enum.map(arguments, &to_string/1))
    nanoseconds |> String.trim() |> String.to_integer()
  end

  def run_python(python, args) do
    port = Port.open({:spawn_executable, python}, [:exit_status, args: args])
    receive(do: ({^port, {:exit_status, 0}} -> :ok))
  end

  @doc "A Python that has started and waits; before, it has run the job if there is one."
  def bare_python(python, job \\ "pass") do
    code = "import sys; #{job}; sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"
    port = Port.open({:spawn_executable, python}, [:binary, args: ["-c", code]])
    receive(do: ({^port, {:data, "."}} -> port))
  end

  @doc "Python code: the job of `typhon_bench` that takes memory and frees it."
  def take_and_free,
    do:
      "sys.path.append(#{inspect(Path.expand("bench/python"))}); import typhon_bench; typhon_bench.take_and_free()"

  @doc "A worker has given back what it does not need: it does five seconds after its last call."
  def give_back, do: Process.sleep(6_000)

  def os_pid(port) do
    {:os_pid, os_pid} = Port.info(port, :os_pid)
    os_pid
  end
end
