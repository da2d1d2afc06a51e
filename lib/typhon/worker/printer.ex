defmodule Typhon.Worker.Printer do
  @moduledoc false
  # The process that reads what a worker prints. There is one for each Typhon.Worker, for all its Pythons one after the other.
  #
  # It reads a piece, deals with it, and reads the next one when it has answered whatever came meanwhile. When the I/O device has
  # not taken enough yet it does not read: then the pipe is full, and whoever prints waits. So output without end takes no
  # memory, and the worker's own process, which keeps deadlines, has nothing to do with it. A device, or Logger, that takes nothing
  # for @patience milliseconds hangs: Python is not held up any longer, and lines and records are dropped until it answers.

  use GenServer

  require Logger

  alias Typhon.Native
  alias Typhon.Worker.Output

  @patience 5_000
  # A pipe holds up to 1 MiB, when its user wants that. Whoever goes on writing writes in vain.
  @last_bytes 1_048_576
  # How long the end of a worker waits for Logger.
  @settle 500

  # pipe: read now; reads: what it waits for before the next piece; taken: who is to be told when there is room
  # Of :lines, for the device, and :records, for Logger: patience: which clock runs; moved: whether something was taken since it
  # does; hangs: whether nothing was for so long
  defstruct [
    :output,
    :owner,
    :pipe,
    reads: :nothing,
    hangs: [],
    patience: [],
    moved: [],
    settling: [],
    taken: []
  ]

  @doc "Linked to the worker's process, which goes when this goes."
  @spec start_link(Output.target() | :caller, keyword) :: {:ok, pid}
  def start_link(stdio, metadata), do: GenServer.start_link(__MODULE__, {self(), stdio, metadata})

  @doc "A new process is to be started: a pipe for what it prints. Earlier lines are forgotten."
  @spec open(pid) :: {:ok, Native.descriptor(), fd :: integer} | {:error, String.t()}
  def open(printer), do: GenServer.call(printer, :open)

  @doc "The last lines that were printed up to now."
  @spec tail(pid) :: [String.t()]
  def tail(printer), do: ask(printer, :tail, [])

  @doc "The process has ended: what is left in its pipe is read, within a bound. Returns its last lines."
  @spec finish(pid) :: [String.t()]
  def finish(printer), do: ask(printer, :finish, [])

  @doc "Waits until Logger has what it was given; not for long, as it may be slow."
  @spec settle(pid) :: :ok
  def settle(printer), do: ask(printer, :settle, :ok, @settle)

  @doc "What Python prints in nobody's name and not through the pipe. `taken` runs when more of it may come."
  @spec print(pid, String.t(), (() -> term)) :: :ok
  def print(printer, text, taken), do: GenServer.cast(printer, {:print, text, taken})

  @doc "The function logs something: not in this process, which does not wait for Logger. `taken` runs when it has, or was dropped."
  @spec log(pid, (() -> term), (() -> term)) :: :ok
  def log(printer, fun, taken), do: GenServer.cast(printer, {:log, fun, taken})

  @doc "This process is the worker's: what it logs goes through its printer (`warning/3`)."
  @spec serve(pid) :: :ok
  def serve(printer) do
    Process.put(__MODULE__, printer)
    :ok
  end

  @doc "A warning, for which a worker's process does not wait. `taken` runs when it was logged, or dropped."
  @spec warning(String.t(), keyword, (() -> term)) :: :ok
  def warning(text, metadata \\ [], taken \\ fn -> :ok end) do
    case Process.get(__MODULE__) do
      nil ->
        Logger.warning(text, metadata)
        taken.()

      printer ->
        log(printer, fn -> Logger.warning(text, metadata) end, taken)
    end

    :ok
  end

  # Nothing here waits for anybody else; but a worker ends in good order also when this has been killed.
  defp ask(printer, what, otherwise, timeout \\ 5_000) do
    GenServer.call(printer, what, timeout)
  catch
    :exit, _ -> otherwise
  end

  @impl true
  def init({owner, stdio, metadata}) do
    # A link does not tell of an end that is normal.
    monitor = Process.monitor(owner)
    {:ok, %__MODULE__{output: Output.new(stdio, metadata), owner: monitor}}
  end

  @impl true
  def handle_call(:open, _from, state) do
    state = close(state)

    case Native.output_open() do
      {:ok, pipe, fd} ->
        {:reply, {:ok, pipe, fd},
         read(%{state | pipe: pipe, output: state.output |> Output.flush() |> Output.reset()})}

      error ->
        {:reply, error, state}
    end
  end

  def handle_call(:tail, _from, state) do
    state = read_rest(state, @last_bytes)
    {:reply, Output.tail(state.output), state}
  end

  def handle_call(:finish, _from, state) do
    state = state |> read_rest(@last_bytes) |> close()
    output = state.output |> Output.flush() |> Output.drain()
    {:reply, Output.tail(output), %{state | output: output}}
  end

  def handle_call(:settle, from, state), do: {:noreply, settled(%{state | settling: [from | state.settling]})}

  @impl true
  def handle_cast({:print, text, taken}, state),
    do: {:noreply, took(%{state | output: Output.text(state.output, text), taken: [taken | state.taken]})}

  def handle_cast({:log, fun, taken}, state),
    do: {:noreply, took(%{state | output: Output.log(state.output, fun, taken, :records in state.hangs)})}

  # There is something to read.
  @impl true
  def handle_info({:select, pipe, _, _}, %{pipe: pipe, reads: :selected} = state), do: idle(read(state))
  def handle_info({:read, pipe}, %{pipe: pipe, reads: :next} = state), do: idle(read(state))

  def handle_info({:patience, what}, state) do
    state = %{state | patience: List.delete(state.patience, what)}
    {:noreply, took(if(what in state.moved, do: state, else: hangs(what, state)))}
  end

  def handle_info({:DOWN, owner, :process, _, _}, %{owner: owner} = state), do: {:stop, :normal, state}

  def handle_info(message, state) do
    case Output.message(state.output, message) do
      :unknown -> {:noreply, state}
      output -> {:noreply, state |> moved(output) |> took() |> settled()}
    end
  end

  # --- reading ---

  # One piece. The next one comes after what is in the mailbox.
  defp read(state) do
    case Native.descriptor_read(state.pipe) do
      {:ok, bytes} -> took(%{state | output: Output.data(state.output, bytes), reads: :room})
      :again -> %{state | reads: :selected}
      _ -> %{state | reads: :nothing}
    end
  end

  # Collects garbage: the pieces that were read.
  defp idle(%{reads: :selected} = state), do: {:noreply, state, :hibernate}
  defp idle(state), do: {:noreply, state}

  # Reads on, and lets Python print on, as soon as what came before has been taken.
  defp took(state) do
    state = if Output.full?(state.output) and :lines not in state.hangs, do: state, else: go_on(state)

    state
    |> be_patient(:lines, state.reads == :room or state.taken != [])
    |> be_patient(:records, Output.records?(state.output))
  end

  defp go_on(%{taken: taken} = state) do
    for tell <- Enum.reverse(taken), do: tell.()
    read_on(%{state | taken: []})
  end

  defp be_patient(state, what, waits) do
    if waits and what not in state.hangs and what not in state.patience do
      Process.send_after(self(), {:patience, what}, @patience)
      %{state | patience: [what | state.patience], moved: List.delete(state.moved, what)}
    else
      state
    end
  end

  defp moved(state, output) do
    what = if output.records == state.output.records, do: :lines, else: :records
    moved = if what in state.moved, do: state.moved, else: [what | state.moved]
    %{state | output: output, moved: moved, hangs: List.delete(state.hangs, what)}
  end

  defp hangs(:lines, state), do: %{state | hangs: [:lines | state.hangs]}

  defp hangs(:records, state),
    do: %{state | hangs: [:records | state.hangs], output: Output.let_go(state.output)}

  defp read_on(%{reads: :room} = state) do
    send(self(), {:read, state.pipe})
    %{state | reads: :next}
  end

  defp read_on(state), do: state

  # What is there by now, whether it is taken or not.
  defp read_rest(%{pipe: nil} = state, _left), do: state
  defp read_rest(state, left) when left <= 0, do: state

  defp read_rest(state, left) do
    case Native.descriptor_read(state.pipe) do
      {:ok, bytes} ->
        read_rest(%{state | output: Output.data(state.output, bytes)}, left - byte_size(bytes))

      _ ->
        state
    end
  end

  defp close(%{pipe: nil} = state), do: state

  defp close(state) do
    Native.descriptor_close(state.pipe)
    %{state | pipe: nil, reads: :nothing}
  end

  defp settled(%{settling: []} = state), do: state

  defp settled(state) do
    if Output.logged?(state.output) do
      for from <- state.settling, do: GenServer.reply(from, :ok)
      %{state | settling: []}
    else
      state
    end
  end
end
