defmodule Typhon.Hostile.Fuzz do
  @moduledoc false
  # `scripts/hostile`: pools whose workers store at random into the memory that they share with the BEAM, while callers of every
  # kind use them. Each call has to end by its deadline and in order; another pool, whose workers are honest, has to go on
  # undisturbed; and in the end the BEAM holds what it held before.
  #
  # One round is one pool of hostile workers, of random options and random hostility, for a second or two. Workers break, and
  # are replaced by others that turn hostile, too.

  alias Typhon.{Footprint, Hostile}
  alias Typhon.Soak.Book

  @round 1_500..3_000
  @callers 6
  @instigate 150
  @watch 500
  # What the BEAM may hold beside shared memory, more than at the beginning: at any time, and in the end.
  @memory_most 1024 * 1024 * 1024
  @memory_end 256 * 1024 * 1024
  @slack [beam_memory: @memory_end, atoms: 2_000, processes: 3, fds: 2, ports: 0, messages: 5]
  # Bits of hostile.c, and how they are combined: all of it, what the BEAM reads, what only hurts itself …
  @targets [0xFF, 0x01, 0x02, 0x04, 0x10, 0x20, 0x07, 0x37, 0x81, 0x80, 0x48, 0x33]

  def main(arguments) do
    {options, rest, []} = OptionParser.parse(arguments, strict: [seed: :integer])
    seconds = String.to_integer(List.first(rest) || "60")
    seed = options[:seed] || :rand.uniform(1_000_000)
    IO.puts("hostile: #{seconds} s, --seed #{seed} · Elixir #{System.version()}, OTP #{System.otp_release()}")
    Process.flag(:trap_exit, true)
    Book.open()
    :logger.add_primary_filter(:hostile, {&count_line/2, nil})
    library = Hostile.library()
    marker = Footprint.marker()

    {:ok, bystander} = Typhon.start_link(Hostile.pool_options(marker, workers: 1))
    {:ok, 3} = Typhon.call(bystander, :operator, :add, [1, 2], timeout: 60_000)
    # What is loaded and made when it is first used.
    :rand.seed(:exsss, {seed, 0, 0})
    round(0, library, marker)
    before = Footprint.take(marker)
    watchdog = spawn_link(fn -> watch(seed, before.beam_memory) end)
    watcher = spawn_link(fn -> use_bystander(bystander, 0) end)
    rounds = rounds(1, seed, library, marker, now() + 1_000 * seconds)

    send(watcher, {:stop, self()})
    answers = receive(do: ({^watcher, count} -> count))
    left = left_over(before, marker, 600)
    Process.unlink(watchdog)
    Process.exit(watchdog, :kill)
    Typhon.stop(bystander)
    report(rounds, answers, left, seed)
  end

  defp now, do: System.monotonic_time(:millisecond)

  # --- rounds ---

  defp rounds(number, seed, library, marker, until) do
    if now() < until and Book.total(:wrong) == 0 do
      :rand.seed(:exsss, {seed, number, 0})
      round(number, library, marker)
      rounds(number + 1, seed, library, marker, until)
    else
      number - 1
    end
  end

  defp round(number, library, marker) do
    workers = :rand.uniform(2)

    options = [
      workers: workers,
      concurrency: Enum.random([1, 1, 4]),
      ring_size: Enum.random([65_536, 1_048_576])
    ]

    {:ok, py} = marker |> Hostile.pool_options(options) |> Typhon.start_link()
    hostility = {Enum.random(@targets), Enum.random([1, 10, 100, 1_000]), Enum.random([0, 20, 500, 5_000])}
    Book.enter({:round, number, options, hostility})
    seeds = for _ <- 0..@callers, do: :rand.uniform(1_000_000_000)
    # Not a message: the callers' mailboxes have to be empty.
    over = :atomics.new(1, [])

    processes =
      for {seed, i} <- Enum.with_index(seeds) do
        spawn_monitor(fn ->
          :rand.seed(:exsss, seed)
          if i == 0, do: instigate(py, library, hostility, over), else: call(py, over)
        end)
      end

    Process.sleep(Enum.random(@round))
    :atomics.put(over, 1, 1)
    Enum.each(processes, &await/1)
    Book.enter({:stop, py})
    Typhon.stop(py)
    receive do: ({:EXIT, ^py, _} -> :ok)
    Book.enter(nil)
    Book.count(:rounds, elem(hostility, 0))
  end

  # Each worker, also one that has taken the place of another.
  defp instigate(py, library, {targets, burst, pause} = hostility, over) do
    for worker <- 1..4 do
      args = [library, :rand.uniform(1_000_000_000), targets, burst, pause]
      Book.enter({:instigate, py})

      case Typhon.call(py, :hostile, :scribble, args, timeout: 300, worker: worker) do
        {:ok, _} -> Book.count(:calls, :instigated)
        {:error, _} -> Book.count(:calls, :instigated_in_vain)
      end

      Book.enter(nil)
    end

    Process.sleep(@instigate)
    if :atomics.get(over, 1) == 0, do: instigate(py, library, hostility, over)
  end

  defp call(py, over) do
    kind = Enum.random(Hostile.more_kinds())
    timeout = Enum.random([1, 20, 100, 300])
    Book.enter({kind, timeout})

    case Hostile.call(kind, py, timeout) do
      :ok -> Book.count(:calls, kind)
      {:wrong, text} -> Book.wrong(text)
    end

    Book.enter(nil)

    if :atomics.get(over, 1) == 0, do: call(py, over)
  end

  defp await({_pid, monitor}) do
    receive do
      {:DOWN, ^monitor, :process, _, :normal} -> :ok
      {:DOWN, ^monitor, :process, _, reason} -> Book.wrong("a caller ended: #{Exception.format_exit(reason)}")
    end
  end

  defp use_bystander(py, count) do
    Book.enter({:bystander, 1_000})

    case Typhon.call(py, :sample, :echo, [[count, "bystander"]], timeout: 120_000) do
      {:ok, [^count, "bystander"]} -> :ok
      other -> Book.wrong("a pool of its own has #{inspect(other)}")
    end

    Book.enter(nil)

    receive do
      {:stop, pid} -> send(pid, {self(), count})
    after
      2 -> use_bystander(py, count + 1)
    end
  end

  # --- the watchdog: it ends the whole when somebody hangs ---

  defp watch(seed, memory) do
    Process.sleep(@watch)
    grown = Footprint.resident("self") - memory
    if grown > @memory_most, do: give_up("the BEAM has grown by #{div(grown, 1_048_576)} MiB", seed)

    for {pid, {_, timeout} = what, since} <- Book.stuck(Hostile.grace()),
        not is_integer(timeout) or since > Hostile.longest(timeout) do
      give_up("#{inspect(what)} has not ended after #{since} ms. It is here:\n#{Hostile.where_is(pid)}", seed)
    end

    watch(seed, memory)
  end

  defp give_up(text, seed) do
    IO.puts("\nHUNG: " <> text)
    for {_, {:round, _, _, _} = round, _} <- Book.stuck(0), do: IO.puts("in #{inspect(round)}")
    IO.puts("hostile FAILED: scripts/hostile --seed #{seed}")
    System.halt(1)
  end

  # --- the end ---

  defp left_over(before, marker, tries) do
    case Footprint.grown(before, Footprint.take(marker), @slack) do
      grown when grown == [] or tries == 0 ->
        grown

      _ ->
        Process.sleep(50)
        left_over(before, marker, tries - 1)
    end
  end

  defp report(rounds, answers, left, seed) do
    calls = for {kind, count} <- Book.counts(:calls), do: "#{kind} #{count}"
    IO.puts("#{rounds} rounds · #{Enum.join(calls, ", ")}")
    IO.puts("#{answers} calls of another pool · #{Book.total(:log)} lines logged")
    for {text, i} <- Enum.with_index(Book.texts(), 1), do: IO.puts("\n#{i}. #{text}")
    for {what, was, is} <- left, do: IO.puts("more #{what}: #{was} → #{is}")

    if Book.total(:wrong) == 0 and left == [] do
      IO.puts("hostile passed")
      System.halt(0)
    else
      IO.puts("hostile FAILED: scripts/hostile --seed #{seed}")
      System.halt(1)
    end
  end

  @doc false
  def count_line(%{level: level}, _) do
    Book.count(:log, level)
    :stop
  end
end
