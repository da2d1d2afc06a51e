defmodule Typhon.Pool.Board do
  @moduledoc false
  # What a pool's keeper and its workers know of each other without waiting for each other: an ETS table that belongs to the
  # pool's supervisor, and so outlives the keeper. There is the pid of the keeper, whether it is active, the last serial
  # number, and for each place the serial number of the worker that has it.

  @spec new :: :ets.tid()
  def new do
    board = :ets.new(__MODULE__, [:set, :public, read_concurrency: true])
    :ets.insert(board, {:serial, 0})
    board
  end

  @spec next_serial(:ets.tid()) :: pos_integer
  def next_serial(board), do: :ets.update_counter(board, :serial, 1)

  @doc "What a worker is that starts, perhaps not for the first time: others may have taken its place meanwhile."
  @spec role(:ets.tid(), non_neg_integer, pos_integer, :holder | :successor) ::
          :holder | :successor | :superfluous
  def role(board, index, serial, role) do
    case {:ets.lookup(board, {:place, index}), role} do
      {[{_, ^serial}], _} -> :holder
      {_, :successor} -> :successor
      {[], :holder} -> :holder
      {_, :holder} -> :superfluous
    end
  end

  @spec take_place(:ets.tid(), non_neg_integer, pos_integer) :: true
  def take_place(board, index, serial), do: :ets.insert(board, {{:place, index}, serial})

  @spec give_up_place(:ets.tid(), non_neg_integer, pos_integer) :: true
  def give_up_place(board, index, serial), do: :ets.delete_object(board, {{:place, index}, serial})

  @doc "The calling process is the pool's keeper."
  @spec enter(:ets.tid()) :: true
  def enter(board), do: :ets.insert(board, {:keeper, self()})

  @doc "The pool's workers have been started: its keeper may change how many there are."
  @spec activate(:ets.tid()) :: true
  def activate(board), do: :ets.insert(board, {:active, true})

  @spec active?(:ets.tid()) :: boolean
  def active?(board), do: :ets.member(board, :active)

  @doc "A message of a worker, which does not wait. A keeper that is being restarted asks the workers itself."
  @spec tell(:ets.tid(), term) :: :ok
  def tell(board, message) do
    case :ets.lookup(board, :keeper) do
      [{_, keeper}] -> GenServer.cast(keeper, message)
      [] -> :ok
    end
  rescue
    # The pool's supervisor has been killed, and this worker will be next.
    ArgumentError -> :ok
  end

  @doc "A call has waited for long: do all workers of the pool run? They look for themselves. A pool of a test has none."
  @spec look(:ets.tid() | nil) :: :ok
  def look(nil), do: :ok
  def look(board), do: tell(board, :look)
end
