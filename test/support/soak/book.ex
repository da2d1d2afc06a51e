defmodule Typhon.Soak.Book do
  @moduledoc false
  # What a soak counts, and what each of its callers is doing at this moment. One table, written by everybody.

  @table __MODULE__
  @kept 20

  def open, do: :ets.new(@table, [:named_table, :public, write_concurrency: true])

  @spec count(atom, term, integer) :: integer
  def count(group, name, by \\ 1), do: :ets.update_counter(@table, {group, name}, by, {{group, name}, 0})

  @spec counts(atom) :: [{term, integer}]
  def counts(group),
    do: @table |> :ets.match({{group, :"$1"}, :"$2"}) |> Enum.map(&List.to_tuple/1) |> Enum.sort()

  @spec total(atom) :: integer
  def total(group), do: for({_, count} <- counts(group), reduce: 0, do: (sum -> sum + count))

  @doc "Something that must not be. The first ones are kept in full."
  @spec wrong(String.t()) :: :ok
  def wrong(text) do
    number = count(:wrong, :answers)
    if number <= @kept, do: :ets.insert(@table, {{:text, number}, text})
    if number <= 5, do: IO.puts("WRONG: #{String.slice(text, 0, 2_000)}")
    :ok
  end

  @spec texts :: [String.t()]
  def texts, do: @table |> :ets.match({{:text, :"$1"}, :"$2"}) |> Enum.sort() |> Enum.map(&List.last/1)

  @doc "The calling process is in this operation from now on; nil: in none."
  @spec enter(term) :: true
  def enter(nil), do: :ets.delete(@table, {:now, self()})
  def enter(what), do: :ets.insert(@table, {{:now, self()}, {what, System.monotonic_time(:millisecond)}})

  @doc "Who has been in one operation for longer than so many milliseconds: `[{pid, what, milliseconds}]`."
  @spec stuck(non_neg_integer) :: [{pid, term, integer}]
  def stuck(limit) do
    now = System.monotonic_time(:millisecond)

    for [pid, {what, since}] <- :ets.match(@table, {{:now, :"$1"}, :"$2"}),
        now - since > limit,
        do: {pid, what, now - since}
  end
end
