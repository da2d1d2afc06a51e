defmodule Typhon.Foreign do
  @moduledoc false
  # One part of a foreign test suite in a worker. The VM is one that harness.py starts for it, as Python may end it. What comes of
  # the tests is in the record that foreign_runner.py writes; the VM prints a sentence when the call did not end well.

  @engines %{
    "process" => [isolation: :process],
    "interpreter" => [isolation: :interpreter],
    "subinterpreters" => [isolation: :interpreter, engine: :subinterpreters],
    "threads" => [isolation: :interpreter, engine: :threads]
  }

  @doc "The call's error is the last line of what is printed, behind `marker`."
  def main([isolation, python, python_path, seconds, marker, kind, part, record]) do
    {:ok, _} = Application.ensure_all_started(:typhon)
    options = [workers: 1, python: python, python_path: String.split(python_path, ":"), stdio: :group_leader]
    timeout = 1_000 * String.to_integer(seconds)

    with {:ok, py} <- Typhon.start_link(@engines[isolation] ++ options),
         {:ok, nil} <- Typhon.call(py, :foreign_runner, :run, [kind, part, record], timeout: timeout) do
      Typhon.stop(py)
    else
      {:error, error} ->
        # Not the worker's output, which has been printed.
        [sentence | _] = String.split(Exception.message(error), ["\n", " Its last output:"])
        IO.puts("\n#{marker} #{sentence}")
        # A worker that did not end by itself does not hold the VM either.
        System.halt(1)
    end
  end
end
