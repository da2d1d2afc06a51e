defmodule Typhon.Livebook.Rows do
  @moduledoc false
  # The rows of a table in Python, fetched when they are enumerated. A part of them costs what that part does.

  alias Typhon.{Object, RubyError}

  @enforce_keys [:object, :count]
  defstruct @enforce_keys

  @type t :: %__MODULE__{object: Object.t(), count: non_neg_integer}

  # In a request.
  @most 1_000

  @doc "The names of the columns, and the rows; nil of what is no table."
  @spec of(Object.t()) :: {[String.t()], t} | nil
  def of(object) do
    case Object.ask(object, ".shape", []) do
      {:ok, {columns, count}} -> {columns, %__MODULE__{object: object, count: count}}
      {:ok, nil} -> nil
      {:error, %RubyError{type: "NotImplementedError"}} -> nil
      {:error, error} -> raise error
    end
  end

  @doc "So many rows from one on. Fewer when the table has become shorter meanwhile."
  @spec fetch(t, non_neg_integer, non_neg_integer) :: [[term]]
  def fetch(rows, start, count) do
    start
    |> Stream.iterate(&(&1 + @most))
    |> Stream.take_while(&(&1 < start + count))
    |> Enum.flat_map(&request(rows, &1, start + count))
  end

  @doc "Those of the request that begins with the row `start`; none at the end."
  @spec request(t, non_neg_integer, non_neg_integer) :: [[term]]
  def request(rows, start, stop) do
    case Object.ask(rows.object, ".rows", [start, min(stop - start, @most)], []) do
      {:ok, found} -> found
      {:error, error} -> raise error
    end
  end

  defimpl Enumerable do
    alias Typhon.Livebook.Rows

    def count(rows), do: {:ok, rows.count}
    def member?(_rows, _row), do: {:error, __MODULE__}

    def slice(rows) do
      {:ok, rows.count,
       fn start, count, step ->
         rows |> Rows.fetch(start, (count - 1) * step + 1) |> Enum.take_every(step)
       end}
    end

    def reduce(rows, acc, fun) do
      0
      |> Stream.unfold(fn start -> if start < rows.count, do: next(rows, start) end)
      |> Stream.flat_map(& &1)
      |> Enumerable.reduce(acc, fun)
    end

    defp next(rows, start) do
      with [_ | _] = found <- Rows.request(rows, start, rows.count),
           do: {found, start + length(found)},
           else: (_ -> nil)
    end
  end
end
