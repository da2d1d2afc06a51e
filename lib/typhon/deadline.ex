defmodule Typhon.Deadline do
  @moduledoc false
  # A moment in the VM's monotonic milliseconds, or :infinity: what a timeout becomes when it is for several waits together.

  @type t :: integer | :infinity

  @spec from(timeout) :: t
  def from(:infinity), do: :infinity
  def from(timeout), do: System.monotonic_time(:millisecond) + timeout

  @doc "The timeout that is left."
  @spec left(t) :: timeout
  def left(:infinity), do: :infinity
  def left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 0)
end
