defmodule Typhon.OverloadError do
  @moduledoc """
  The pool has as many calls waiting as its `:max_queue` allows, so it refused this one at once. Python has not seen it.

  * `pool` – as the caller gave it
  * `queued` – calls that waited at that moment
  * `workers` – workers that were there to take calls, without those that are being replaced or belong to a `Typhon.run/3`
  * `concurrency` – calls that a worker runs at the same time
  * `max_queue` – the limit
  """

  defexception [:pool, :queued, :workers, :concurrency, :max_queue]

  @type t :: %__MODULE__{
          pool: term,
          queued: non_neg_integer,
          workers: non_neg_integer,
          concurrency: pos_integer,
          max_queue: non_neg_integer
        }

  @impl true
  def message(error) do
    "the Typhon pool #{inspect(error.pool)} is overloaded: #{count(error.queued, "call")} waiting " <>
      "(max_queue: #{error.max_queue}), #{running(error)}. The call was refused and has not run. " <>
      "Try again later, shed load, or start the pool with more workers or a higher max_queue"
  end

  defp running(%{workers: 0}), do: "and no worker is free to take calls at this moment"
  defp running(%{workers: 1, concurrency: 1}), do: "1 worker busy"
  defp running(%{workers: workers, concurrency: 1}), do: "#{workers} workers busy"

  defp running(%{workers: workers, concurrency: concurrency}),
    do: "#{count(workers, "worker")} busy with #{concurrency} calls each"

  defp count(1, noun), do: "1 " <> noun
  defp count(number, noun), do: "#{number} #{noun}s"

  @doc false
  @spec new(term, Typhon.Native.overload()) :: t
  def new(pool, {:overload, queued, workers, concurrency, max_queue}) do
    %__MODULE__{
      pool: pool,
      queued: queued,
      workers: workers,
      concurrency: concurrency,
      max_queue: max_queue
    }
  end
end
