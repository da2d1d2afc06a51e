defmodule Typhon.Leases do
  @moduledoc false
  # What keeps objects alive whose handles are held on other nodes: a reference there is a number, and nobody counts it.
  #
  # A row {{holder, ref}, pool} holds the handle's resource for as long as it stands. It goes when it is released, and when the
  # holder, its node, or the pool goes. The lease of an object whose worker has ended stays: it holds nothing in Python, and its
  # handle still says what became of that worker.
  #
  # The rows lie in a table, whose memory is given back at once; this process hibernates after whatever brought it a handle, for
  # its heap would hold that one, too.

  use GenServer

  @table __MODULE__
  # For one holder. It bounds what a loop keeps alive that never releases what it was given.
  @most 65_536

  @spec start_link(term) :: GenServer.on_start()
  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @spec most :: pos_integer
  def most, do: @most

  @doc "One lease of each object for the holder; all of them, or none."
  @spec take([Typhon.Object.t()], pid) :: :ok | :too_many | :not_running
  def take([], _holder), do: :ok
  def take(objects, holder), do: call({:take, Enum.map(objects, &{&1.ref, &1.pool}), holder})

  @spec release([Typhon.Object.t()], pid) :: :ok | :not_running
  def release(objects, holder), do: call({:release, Enum.map(objects, & &1.ref), holder})

  @doc "How many leases there are of a pool's objects."
  @spec count(pid) :: non_neg_integer
  def count(pool) do
    :ets.select_count(@table, [{{{:_, :_}, pool}, [], [true]}])
  rescue
    # Typhon is not running.
    ArgumentError -> 0
  end

  defp call(request) do
    GenServer.call(__MODULE__, request, :infinity)
  catch
    :exit, _ -> :not_running
  end

  @impl true
  def init(_) do
    :ets.new(@table, [:named_table, :ordered_set, :protected, read_concurrency: true])
    # A holder or a pool => {monitor, how many rows name it}
    {:ok, %{}}
  end

  @impl true
  def handle_call({:take, handles, holder}, _from, counts) do
    new =
      for {ref, pool} <- Enum.uniq(handles), not :ets.member(@table, {holder, ref}), do: {{holder, ref}, pool}

    if held(counts, holder) + length(new) > @most do
      {:reply, :too_many, counts, :hibernate}
    else
      :ets.insert(@table, new)
      {:reply, :ok, Enum.reduce(new, counts, &count_in/2), :hibernate}
    end
  end

  def handle_call({:release, refs, holder}, _from, counts) do
    rows = Enum.flat_map(refs, &:ets.lookup(@table, {holder, &1}))
    {:reply, :ok, drop(rows, counts), :hibernate}
  end

  @impl true
  def handle_info({:DOWN, _monitor, :process, pid, _reason}, counts) do
    rows = :ets.match_object(@table, {{pid, :_}, :_}) ++ :ets.match_object(@table, {{:_, :_}, pid})
    {:noreply, drop(rows, counts), :hibernate}
  end

  def handle_info(_message, counts), do: {:noreply, counts}

  defp held(counts, pid) do
    case counts do
      %{^pid => {_monitor, count}} -> count
      _ -> 0
    end
  end

  defp count_in({{holder, _ref}, pool}, counts), do: counts |> more(holder) |> more(pool)

  defp more(counts, pid) do
    case counts do
      %{^pid => {monitor, count}} -> %{counts | pid => {monitor, count + 1}}
      _ -> Map.put(counts, pid, {Process.monitor(pid), 1})
    end
  end

  defp drop(rows, counts) do
    Enum.reduce(rows, counts, fn {{holder, _ref} = key, pool}, counts ->
      :ets.delete(@table, key)
      counts |> fewer(holder) |> fewer(pool)
    end)
  end

  defp fewer(counts, pid) do
    case counts do
      %{^pid => {monitor, 1}} ->
        Process.demonitor(monitor, [:flush])
        Map.delete(counts, pid)

      %{^pid => {monitor, count}} ->
        %{counts | pid => {monitor, count - 1}}
    end
  end
end
