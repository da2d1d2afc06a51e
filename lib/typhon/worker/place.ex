defmodule Typhon.Worker.Place do
  @moduledoc false
  # A worker's place in its pool: how it takes it, gives it up, and lends itself between two calls to what has to run alone.

  alias Typhon.{Deadline, Native, TimeoutError}
  alias Typhon.Pool.Board
  alias Typhon.Worker.{Checkout, Data, Ending, Usage}

  import Data, only: [event: 3]

  @doc "From here on it takes calls."
  @spec take(Data.t()) :: Data.result()
  def take(data) do
    now = System.monotonic_time()
    data = %{data | ready_at: now, last_error: nil, failed_starts: 0, placed: true, seen: 0}
    Board.take_place(data.config.board, data.index, data.serial)
    Native.pool_active(data.native, data.index, true)
    :ok = Native.pool_put(data.native, data.index, data.channel)
    data = %{data | checkout: Checkout.serve(data.checkout, data.channel)}
    event(:ready, %{duration: now - data.started_at}, data)
    Board.tell(data.config.board, {:placed, self()})
    # Collects garbage: the memory of a former channel goes with the last term that names it.
    {:next_state, :ready, data, [:hibernate | Usage.watch(data)]}
  end

  # --- giving it up ---

  @doc "To nobody. Its channel leaves the pool first."
  @spec give_up(Data.t()) :: Data.result()
  def give_up(data) do
    Native.pool_put(data.native, data.index, nil)
    Native.pool_active(data.native, data.index, false)
    Board.give_up_place(data.config.board, data.index, data.serial)
    retiring(data)
  end

  @doc "To a successor. The channel stays in the pool until the successor's takes its place."
  @spec yield_to(pid, Data.t()) :: Data.result()
  def yield_to(successor, data) do
    Typhon.Worker.take_place(successor)
    retiring(data)
  end

  defp retiring(data) do
    data = %{data | placed: false, checkout: Checkout.move(data.checkout)}
    {:next_state, :retiring, data, [{:state_timeout, 0, {:finish, 1}}]}
  end

  @doc "Its calls are to end before it does."
  @spec finish(pos_integer, Data.t()) :: Data.result()
  def finish(pause, data) do
    case Native.channel_finish(data.channel, Data.replaced(data)) do
      :ok -> retire(data)
      :busy -> {:keep_state_and_data, [{:state_timeout, pause, {:finish, Data.longer(pause)}}]}
    end
  end

  @doc "It has no calls to finish."
  @spec retire(Data.t()) :: Data.result()
  def retire(data), do: {:stop, {:shutdown, :retired}, Ending.let_go(data, :replaced)}

  @doc "The same, for a successor."
  @spec retire_for(pid, Data.t()) :: Data.result()
  def retire_for(successor, data) do
    data = Ending.let_go(data, :replaced)
    Typhon.Worker.take_place(successor)
    {:stop, {:shutdown, :retired}, data}
  end

  # --- between calls ---

  @doc "Takes no calls until a step has run in it."
  @spec reload(:gen_statem.from(), tuple, Data.t()) :: Data.result()
  def reload(from, {:between_calls, step, deadline} = request, data) do
    if late?(request) do
      :keep_state_and_data
    else
      Native.pool_put(data.native, data.index, nil)
      data = %{data | placed: false, reload: %{from: from, step: step, deadline: deadline}}
      {:next_state, :reloading, data, [{:state_timeout, 0, {:idle, 1}}]}
    end
  end

  @doc "Whoever asked for it has given up."
  @spec late?(term) :: boolean
  def late?({:between_calls, _step, deadline}), do: Deadline.left(deadline) == 0
  def late?(_event), do: false

  @doc "The step begins when nothing runs any more."
  @spec begin_when_idle(pos_integer, Data.t()) :: Data.result()
  def begin_when_idle(pause, %{reload: reload} = data) do
    case {Native.channel_info(data.channel), Deadline.left(reload.deadline)} do
      {%{busy: false}, left} -> {:keep_state, Data.begin_steps(data, [reload.step], left)}
      {_, 0} -> reloaded({:error, %TimeoutError{operation: :reload}}, data)
      _ -> {:keep_state_and_data, [{:state_timeout, pause, {:idle, Data.longer(pause)}}]}
    end
  end

  @doc "It takes calls again."
  @spec reloaded({:ok, term} | {:error, Exception.t()}, Data.t()) :: Data.result()
  def reloaded(result, data) do
    :ok = Native.pool_put(data.native, data.index, data.channel)
    data = answer_reload(%{data | placed: true}, result)
    data = %{data | checkout: Checkout.serve(data.checkout, data.channel)}
    {:next_state, :ready, data, Usage.watch(data)}
  end

  @doc "Whoever waits for a reload gets this."
  @spec answer_reload(Data.t(), {:ok, term} | {:error, Exception.t()}) :: Data.t()
  def answer_reload(%{reload: nil} = data, _result), do: data

  def answer_reload(%{reload: %{from: from}} = data, result) do
    :gen_statem.reply(from, result)
    %{data | reload: nil, steps: nil}
  end
end
