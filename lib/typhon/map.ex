defmodule Typhon.Map do
  @moduledoc false
  # A lazy stream of calls: Task.async_stream/3, which bounds what is in flight by what the consumer has taken, and ends the
  # tasks when the consumer stops. The calls bound themselves in time.

  alias Typhon.{Multi, Options}

  @spec map(Typhon.pool(), Typhon.callee(), Typhon.name(), Enumerable.t(), keyword) :: Enumerable.t()
  def map(pool, module, function, enumerable, options) do
    options = Options.map!(options)

    # A function of two arguments is an enumerable: nothing is asked of the pool before the stream runs.
    fn acc, reducer ->
      enumerable
      |> source(options)
      |> Task.async_stream(task(pool, module, function, options),
        max_concurrency: options.max_concurrency || places(pool),
        ordered: options.ordered,
        timeout: :infinity
      )
      |> outcome(options)
      |> Enumerable.reduce(acc, reducer)
    end
  end

  defp source(enumerable, %{batch: 1}), do: enumerable
  defp source(enumerable, %{batch: batch}), do: Stream.chunk_every(enumerable, batch)

  defp task(pool, module, function, %{batch: 1} = options) do
    call = [{:timeout, options.timeout}, {:kwargs, options.kwargs} | options.call]
    fn element -> [Typhon.call(pool, module, function, [element | options.args], call)] end
  end

  defp task(pool, module, function, options) do
    call = [{:timeout, options.timeout}, {:kwargs, options.kwargs} | options.call]

    fn elements ->
      Multi.multi(pool, module, function, Enum.map(elements, &[&1 | options.args]), call)
    end
  end

  defp outcome(stream, %{on_error: on_error}) do
    Stream.flat_map(stream, fn
      {:ok, results} -> results(results, on_error)
      # Only a caller that traps exits gets this far.
      {:exit, reason} -> exit({reason, {Typhon, :map, 5}})
    end)
  end

  defp results(results, :return), do: results
  defp results(results, :skip), do: for({:ok, value} <- results, do: value)

  # Lazily: what comes before an error in its batch is the consumer's.
  defp results(results, :raise) do
    Stream.map(results, fn
      {:ok, value} -> value
      {:error, error} -> raise error
    end)
  end

  # A call for each place where one can run. A pool without Python (Typhon.Test) has none; the calls say what is wrong with
  # one that cannot be asked.
  defp places(pool) do
    case Typhon.info(pool) do
      {:ok, %{workers: [_ | _] = workers}} -> workers |> Enum.map(&Map.get(&1, :concurrency, 1)) |> Enum.sum()
      _ -> System.schedulers_online()
    end
  end
end
