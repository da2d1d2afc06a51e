defmodule Typhon.Soak do
  @moduledoc false
  # `make soak`: everything at once, for minutes. Callers make calls of every kind with random payloads against several pools and
  # check each answer, while faults of every kind are injected. In the pauses (after a warm-up, in the middle, at the end) the
  # system must be as empty as it was at the first one.
  #
  # Ends with status 1 when an answer was wrong, a call hung, or something has grown that must not.

  alias Typhon.Footprint
  alias Typhon.Soak.{Book, Faults, Work}

  @progress 10_000
  # From one pause to another. What is started once, and what allocators keep.
  @slack [
    processes: 3,
    fds: 2,
    messages: 0,
    atoms: 300,
    beam_memory: 128 * 1024 * 1024,
    heap: 24 * 1024 * 1024
  ]

  def main(arguments) do
    {options, [], []} =
      OptionParser.parse(arguments,
        strict: [minutes: :float, seed: :integer, callers: :integer, faults: :boolean, isolation: :string]
      )

    isolation = if options[:isolation] == "interpreter", do: :interpreter, else: :process
    Application.put_env(:typhon, :isolation, isolation)
    seed = options[:seed] || :rand.uniform(1_000_000)
    seconds = round(60 * (options[:minutes] || 10))
    callers = options[:callers] || 12

    IO.puts(
      "soak: #{seconds} s, #{callers} callers, --seed #{seed} · Elixir #{System.version()}, OTP #{System.otp_release()}"
    )

    :rand.seed(:exsss, seed)
    Process.flag(:trap_exit, true)
    # Each fault and each record of Python's becomes a line of Logger: they are made, counted and dropped.
    Book.open()
    :logger.add_primary_filter(:soak, {&count_line/2, nil})
    marker = Footprint.marker()

    config = %{
      marker: marker,
      seed: seed,
      callers: callers,
      faults: Keyword.get(options, :faults, isolation == :process)
    }

    pools = start_pools(marker)
    monitor = spawn_link(fn -> watch(pools, marker, System.monotonic_time(:millisecond)) end)

    warm_up = max(div(seconds, 6), 5)
    half = div(seconds - warm_up, 2)

    pauses =
      for {name, length} <- [start: warm_up, middle: half, end: half] do
        load(pools, config, name, length)
        {name, pause(pools, marker)}
      end

    Process.unlink(monitor)
    Process.exit(monitor, :kill)
    held = alive_objects(pools)
    for {_, py} <- pools, do: Typhon.stop(py)
    report(pauses, marker, held)
  end

  defp start_pools(marker) do
    all = pool_options(marker)

    for {name, options} <- [
          plain: [workers: 3],
          elastic: [
            workers: 1..4,
            idle_timeout: 1_000,
            max_calls: 3_000,
            max_memory: 400_000_000,
            max_queue: 200
          ],
          threads: [workers: 2, concurrency: 4],
          limited: [workers: 2, ring_size: 65_536, limits: [memory: 600_000_000]]
        ] do
      # Of the VM's own process two cannot be said; and a thread that sleeps keeps its interpreter until it wakes. Of 15
      # interpreters eight are used: when workers are replaced there are more for a while.
      unsaid = if inside?(), do: [:max_memory, :limits, :concurrency], else: []
      fewer = if inside?(), do: [plain: [workers: 2], elastic: [workers: 1..2]][name] || [], else: []

      {:ok, py} =
        options |> Keyword.drop(unsaid) |> Keyword.merge(fewer) |> Keyword.merge(all) |> Typhon.start_link()

      {name, py}
    end
  end

  defp pool_options(marker) do
    [
      python_path: [Typhon.TestHelper.py_dir()],
      env: Footprint.env(marker),
      stdio: :discard,
      grace: 300,
      max_restarts: :infinity
    ]
  end

  # --- load ---

  defp load(pools, config, phase, seconds) do
    pids = Keyword.values(pools)

    callers =
      for i <- 1..config.callers do
        spawn_monitor(fn ->
          :rand.seed(:exsss, {config.seed, i, :erlang.phash2(phase)})
          call(pids)
        end)
      end

    injectors =
      if config.faults do
        for i <- 1..2 do
          spawn_monitor(fn ->
            :rand.seed(:exsss, {config.seed, -i, :erlang.phash2(phase)})
            Faults.run(pids, limited: pools[:limited], pool: pool_options(config.marker), pause: 2_500)
          end)
        end
      else
        []
      end

    Process.sleep(seconds * 1_000)
    for {pid, _} <- injectors, do: send(pid, :stop)
    for {pid, _} <- callers, do: send(pid, :stop)
    Enum.each(injectors ++ callers, &await/1)
  end

  defp call(pids) do
    Work.one(Enum.random(pids))

    receive do
      :stop -> :ok
    after
      0 -> call(pids)
    end
  end

  defp await({pid, monitor}) do
    receive do
      {:DOWN, ^monitor, :process, _, :normal} -> :ok
      {:DOWN, ^monitor, :process, _, reason} -> Book.wrong("a caller ended: #{Exception.format_exit(reason)}")
    after
      Work.patience() ->
        hung(pid)
        Process.exit(pid, :kill)
        Process.demonitor(monitor, [:flush])
    end
  end

  defp hung(pid) do
    Book.count(:hung, :caller)

    IO.puts(
      "HUNG: #{inspect(Process.info(pid, [:current_stacktrace, :messages, :dictionary]), limit: 100, pretty: true)}"
    )
  end

  # --- pauses ---

  # Until the workers are all there and idle, and the elastic pool has shrunk; then what is left is there to stay.
  defp pause(pools, marker) do
    settle(pools, marker, 1_000)

    workers =
      for {_, py} <- pools,
          {:ok, %{workers: workers}} <- [Typhon.info(py)],
          %{os_pid: os_pid} when os_pid != nil <- workers,
          do: Footprint.resident(os_pid)

    marker
    |> Footprint.take()
    |> Map.from_struct()
    |> Map.merge(%{
      heap: :erlang.memory(:total) - :erlang.memory(:atom) - :erlang.memory(:code),
      workers: length(workers),
      interpreters: if(inside?(), do: Typhon.Env.capacity().namespaces.used, else: 0),
      worker_memory: Enum.sum(workers),
      worker_most: Enum.max(workers, fn -> 0 end)
    })
  end

  defp inside?, do: Application.fetch_env!(:typhon, :isolation) == :interpreter

  defp settle(pools, marker, tries) do
    infos = for {name, py} <- pools, do: {name, Typhon.info(py)}
    busy = Enum.reject(infos, fn {_, info} -> at_rest?(info) end)
    workers = if inside?(), do: 0, else: infos |> Enum.map(fn {name, _} -> minimum(name) end) |> Enum.sum()
    there = length(Footprint.os_processes(marker))

    cond do
      busy == [] and there == workers ->
        # malloc gives back what it holds when a worker has been idle for some seconds.
        Process.sleep(6_000)

      tries == 0 ->
        Book.wrong(
          "the pools do not come to rest: #{there} processes where there should be #{workers}, " <>
            inspect(busy, limit: 200, pretty: true)
        )

      true ->
        Process.sleep(20)
        settle(pools, marker, tries - 1)
    end
  end

  defp at_rest?({:ok, info}),
    do: info.in_flight == 0 and info.size == info.min and Enum.all?(info.workers, &(&1.state == :ready))

  defp at_rest?(_), do: false

  # Counted in processes, of which there are none inside the VM.
  defp minimum(:plain), do: 3
  defp minimum(:elastic), do: 1
  defp minimum(_), do: 2

  # Objects whose handles are gone must be, too.
  defp alive_objects(pools) do
    for {_, py} <- pools, key <- 1..20, reduce: 0 do
      sum ->
        {:ok, alive} = Typhon.call(py, :sample, :counters_alive, [], worker: key, timeout: 60_000)
        max(sum, alive)
    end
  end

  # --- progress ---

  defp watch(pools, marker, begun) do
    Process.sleep(@progress)
    workers = length(Footprint.os_processes(marker))
    memory = marker |> Footprint.os_processes() |> Enum.map(&Footprint.resident/1) |> Enum.sum()

    IO.puts(
      "[#{pad(div(System.monotonic_time(:millisecond) - begun, 1_000), 5)} s] #{Book.total(:calls)} calls · " <>
        "#{Book.total(:faults)} faults · #{Book.total(:errors)} errors · wrong #{Book.total(:wrong)} · " <>
        "hung #{Book.total(:hung)} · BEAM #{mib(Footprint.resident("self"))} · #{workers} workers #{mib(memory)} · " <>
        "fds #{length(File.ls!("/proc/self/fd"))} · processes #{length(Process.list())}"
    )

    for {pid, what, for_so_long} <- Book.stuck(30_000) do
      where =
        case Process.info(pid, :current_stacktrace) do
          {_, stack} -> Exception.format_stacktrace(stack)
          nil -> "it is gone"
        end

      IO.puts("  #{inspect(pid)} has been in #{inspect(what)} for #{div(for_so_long, 1_000)} s:\n#{where}")
    end

    for {_name, py} <- pools,
        Enum.any?(Book.stuck(30_000), &match?({_, {_, ^py}, _}, &1)),
        do: IO.puts(state_of(py))

    watch(pools, marker, begun)
  end

  # Of a pool that does not answer: where its calls are.
  defp state_of(py) do
    {:ok, %{workers: workers}} = Typhon.info(py)

    for worker <- workers do
      {_state, %{channel: channel}} = :sys.get_state(worker.pid)
      stat = File.read("/proc/#{worker.os_pid}/stat")

      "    worker #{worker.os_pid} #{worker.state}, of the system " <>
        inspect(with {:ok, text} <- stat, do: text |> String.split(") ") |> List.last() |> String.slice(0, 1)) <>
        ": #{inspect(channel && Typhon.Native.channel_info(channel))}\n"
    end
  end

  # --- the end ---

  defp report(pauses, marker, held) do
    IO.puts("\ncalls: #{Book.total(:calls)}")
    list(:calls)
    IO.puts("faults injected: #{Book.total(:faults)}")
    list(:faults)
    IO.puts("errors that calls ended with: #{Book.total(:errors)}")
    list(:errors)
    IO.puts("lines logged: #{Book.total(:log)}")

    IO.puts("\n#{String.pad_trailing("", 22)}#{for {name, _} <- pauses, do: pad(name, 12)}")

    for {key, title} <- [
          beam_memory: "BEAM, RSS without shared",
          heap: "BEAM, erlang:memory",
          worker_memory: "workers, together",
          worker_most: "workers, the largest",
          workers: "workers",
          interpreters: "interpreters in the VM",
          os_processes: "processes of the system",
          fds: "file descriptors",
          memfds: "shared memories",
          maps: "maps of them",
          processes: "Elixir processes",
          ports: "ports",
          messages: "messages in mailboxes",
          atoms: "atoms"
        ] do
      values = for {_, gauge} <- pauses, do: pad(show(key, Map.fetch!(gauge, key)), 12)
      IO.puts("#{String.pad_trailing(title, 26)}#{values}")
    end

    # Each interpreter that was started has a memory of its own, and stays.
    [{_, first}, {_, middle}, {_, last}] = pauses
    # Memory and atoms from the middle on: what is loaded and filled once has been by then.
    grown =
      grown(
        first,
        last,
        Map.keys(last) -- [:atoms, :beam_memory, :heap, :worker_memory, :worker_most, :interpreters]
      ) ++
        grown(middle, last, [:atoms, :beam_memory, :heap])

    left = wait_for_none(marker, 500)

    problems =
      [
        {Book.total(:wrong), "wrong answers"},
        {Book.total(:hung), "hung calls"},
        {held, "objects alive in Python that nobody holds"},
        {left, "processes of the system left after the pools were stopped"}
      ] ++ for({key, was, is} <- grown, do: {is - was, "more: #{key} (#{was} → #{is})"})

    IO.puts(
      "\nwrong answers: #{Book.total(:wrong)} · hung calls: #{Book.total(:hung)} · leaks: #{length(grown)}"
    )

    for {text, i} <- Enum.with_index(Book.texts(), 1), do: IO.puts("\n#{i}. #{text}")
    bad = for {count, what} <- problems, count > 0, do: "#{count} #{what}"
    IO.puts(if bad == [], do: "soak passed", else: "soak FAILED: " <> Enum.join(bad, "; "))
    System.halt(if bad == [], do: 0, else: 1)
  end

  defp grown(before, now, keys) do
    for key <- keys,
        is = Map.fetch!(now, key),
        was = Map.fetch!(before, key),
        is > was + Keyword.get(@slack, key, 0),
        do: {key, was, is}
  end

  defp wait_for_none(marker, tries) do
    case length(Footprint.os_processes(marker)) do
      count when count > 0 and tries > 0 ->
        Process.sleep(10)
        wait_for_none(marker, tries - 1)

      count ->
        count
    end
  end

  defp list(group) do
    for {name, count} <- Book.counts(group),
        do: IO.puts("  #{String.pad_trailing(to_string(name), 30)}#{pad(count, 10)}")
  end

  @doc false
  def count_line(%{level: level}, _) do
    Book.count(:log, level)
    :stop
  end

  defp show(key, value) when key in [:beam_memory, :heap, :worker_memory, :worker_most], do: mib(value)
  defp show(_key, value), do: value

  defp mib(bytes), do: "#{Float.round(bytes / 1_048_576, 1)} MiB"
  defp pad(value, width), do: String.pad_leading(to_string(value), width)
end
