defmodule Typhon.TestLoad do
  @moduledoc false
  # Callers that call a pool without a pause until they are stopped, and check every answer.

  import ExUnit.Assertions

  @spec start(term, pos_integer, keyword) :: [Task.t()]
  def start(py, callers, options \\ []) do
    stop = :atomics.new(1, [])
    pause = Keyword.get(options, :sleep, 0)
    tasks = for i <- 1..callers, do: Task.async(fn -> loop(py, stop, i, 0, pause) end)
    Process.put({__MODULE__, tasks}, stop)
    tasks
  end

  @doc "How many calls were answered, all of them rightly."
  @spec stop([Task.t()]) :: non_neg_integer
  def stop(tasks) do
    :atomics.put(Process.delete({__MODULE__, tasks}), 1, 1)
    tasks |> Task.await_many(60_000) |> Enum.sum()
  end

  defp loop(py, stop, i, n, pause) do
    if :atomics.get(stop, 1) == 1 do
      assert {:messages, []} = Process.info(self(), :messages)
      n
    else
      assert Typhon.call(py, :sample, :echo_slowly, [[i, n], pause], timeout: 60_000) == {:ok, [i, n]}
      loop(py, stop, i, n + 1, pause)
    end
  end
end
