defmodule Typhon.Map do
  @moduledoc false
  # A lazy stream of calls, each in a task linked to the process that runs the stream.
  #
  # Task.async_stream/3 does not do: when results are to be in order and one is late, it goes on with the elements behind that
  # one for as long as it takes. Here an element is taken when there is room for its call, and there is room again when a result
  # goes to the consumer.

  alias Typhon.{Multi, Options, Remote, Session, Structs}

  # tasks: in the order of their elements, oldest first.
  defstruct [:run, :max, :ordered, :traps_exits, tasks: :queue.new(), count: 0]

  @spec map(Typhon.pool(), Typhon.callee(), Typhon.name(), Enumerable.t(), keyword) :: Enumerable.t()
  def map(pool, module, function, enumerable, options) do
    options = Options.map!(options)
    run = run(pool, module, function, options)

    start = fn ->
      %__MODULE__{
        run: run,
        max: options.max_concurrency || places(pool),
        ordered: options.ordered,
        traps_exits: Process.info(self(), :trap_exit) == {:trap_exit, true}
      }
    end

    enumerable
    |> source(options)
    |> Stream.transform(start, &element/2, &rest/1, &stop/1)
    |> outcome(options)
  end

  defp source(enumerable, %{batch: 1}), do: enumerable
  defp source(enumerable, %{batch: batch}), do: Stream.chunk_every(enumerable, batch)

  # Whatever a task makes is a list of results.
  defp run(pool, module, function, %{batch: 1} = options) do
    call = [{:timeout, options.timeout}, {:kwargs, options.kwargs} | options.call]

    fn element ->
      Structs.results([Typhon.call(pool, module, function, [element | options.args], call)], options.as)
    end
  end

  defp run(pool, module, function, options) do
    call = [{:timeout, options.timeout}, {:kwargs, options.kwargs} | options.call]

    fn elements ->
      results = Multi.multi(pool, module, function, Enum.map(elements, &[&1 | options.args]), call)
      Structs.results(results, options.as)
    end
  end

  # A call for each place where one can run. A pool without Python (Typhon.Test) has none; the calls say what is wrong with
  # one that cannot be asked.
  defp places(pool) do
    case Typhon.info(pool) do
      {:ok, %{workers: [_ | _] = workers}} -> workers |> Enum.map(&Map.get(&1, :concurrency, 1)) |> Enum.sum()
      _ -> System.schedulers_online()
    end
  end

  # --- the stream ---

  defp element(element, state) do
    {first, state} = if state.count == state.max, do: next(state, :infinity), else: {[], state}
    run = state.run
    heritage = Session.heritage()
    remote = Remote.heritage()

    task =
      Task.async(fn ->
        Session.inherit(heritage)
        Remote.inherit(remote)
        run.(element)
      end)

    state = %{state | tasks: :queue.in(task, state.tasks), count: state.count + 1}
    {more, state} = ready(state, [])
    {first ++ more, state}
  end

  # What is there already does not wait for the next element.
  defp ready(state, results) do
    case next(state, 0) do
      {[], state} -> {results |> Enum.reverse() |> Enum.concat(), state}
      {result, state} -> ready(state, [result | results])
    end
  end

  # The enumerable has ended, its last calls have not.
  defp rest(state) do
    remaining =
      Stream.resource(
        fn -> state end,
        fn
          %{count: 0} = state -> {:halt, state}
          state -> next(state, :infinity)
        end,
        &stop/1
      )

    {remaining, %{state | tasks: :queue.new(), count: 0}}
  end

  # The results of one task, or [] when there are none in that time. Batches are never empty.
  defp next(%{count: 0} = state, 0), do: {[], state}

  defp next(%{ordered: true} = state, timeout) do
    {:value, %{ref: ref} = task} = :queue.peek(state.tasks)

    receive do
      {^ref, results} -> done(task, results, %{state | tasks: :queue.drop(state.tasks)})
      {:DOWN, ^ref, _, _, reason} -> crashed(reason, %{state | tasks: :queue.drop(state.tasks)})
    after
      timeout -> {[], state}
    end
  end

  defp next(state, timeout) do
    tasks = for task <- :queue.to_list(state.tasks), into: %{}, do: {task.ref, task}

    receive do
      {ref, results} when is_map_key(tasks, ref) -> done(tasks[ref], results, without(state, tasks[ref]))
      {:DOWN, ref, _, _, reason} when is_map_key(tasks, ref) -> crashed(reason, without(state, tasks[ref]))
    after
      timeout -> {[], state}
    end
  end

  defp without(state, task), do: %{state | tasks: :queue.filter(&(&1.ref != task.ref), state.tasks)}

  defp done(task, results, state) do
    Process.demonitor(task.ref, [:flush])
    unlink(task, state)
    {results, %{state | count: state.count - 1}}
  end

  # Only a process that traps exits lives to see it.
  defp crashed(reason, state) do
    stop(state)
    exit({reason, {Typhon, :map, 5}})
  end

  # The consumer has stopped.
  defp stop(state) do
    tasks = :queue.to_list(state.tasks)
    for task <- tasks, do: Process.unlink(task.pid)
    for task <- tasks, do: Process.exit(task.pid, :kill)

    for task <- tasks do
      Task.shutdown(task, :brutal_kill)
      unlink(task, state)
    end
  end

  # A task that has answered may still be on its way out. A process that traps exits has not asked for those of our tasks.
  defp unlink(%{pid: pid}, %{traps_exits: false}), do: Process.unlink(pid)

  defp unlink(%{pid: pid}, _state) do
    Process.unlink(pid)

    receive do
      {:EXIT, ^pid, _} -> :ok
    after
      0 -> :ok
    end
  end

  # --- what the consumer gets ---

  defp outcome(stream, %{on_error: :return}), do: stream

  defp outcome(stream, %{on_error: :skip}) do
    Stream.flat_map(stream, fn
      {:ok, value} -> [value]
      {:error, _} -> []
    end)
  end

  defp outcome(stream, %{on_error: :raise}) do
    Stream.map(stream, fn
      {:ok, value} -> value
      {:error, error} -> raise error
    end)
  end
end
