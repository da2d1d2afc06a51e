defmodule Typhon.Worker.Backoff do
  @moduledoc false
  # How long to wait before the next attempt to start a Python.

  @first 100
  @max 10_000

  @doc """
  Milliseconds after so many failures in a row: none after the first, then doubling up to a bound. Jitter keeps the workers of
  a pool from starting in step.
  """
  @spec delay(non_neg_integer) :: non_neg_integer
  def delay(0), do: 0

  def delay(failures) do
    delay = min(@first * Bitwise.bsl(1, min(failures - 1, 16)), @max)
    round(delay * (0.75 + :rand.uniform() * 0.5))
  end
end
