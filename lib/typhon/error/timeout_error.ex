defmodule Typhon.TimeoutError do
  @moduledoc """
  Python had not answered when the time was up.

  The call is taken back: one that had not begun does not run any more; one that runs is interrupted with a `typhon.Cancelled`
  in Python, and its worker is killed and replaced when that does not help within the pool's `:grace`. The answer never
  reaches the mailbox of the caller. A call that imports a module is not interrupted in that.

  * `timeout` – the time allowed, in milliseconds; of a call in a callback what was left of the call that it belongs to
  * `module`, `function`, `arity` – the call; all nil when it was `Typhon.run/3` that found no worker free in time
  * `importing` – the module that Python was importing when the time was over; nil when it was not. It is not interrupted then: the
    import goes on for the pool's `:import_timeout` at most, and later calls find the module there
  * `began` – false when Python never began the call, as no worker had been free for it: it may be made again
  * `note` – nil, or what else there is to say: where the code of `Typhon.eval/4` stands
  * `operation` – nil for a call; `:drain`, `:restart` or `:reload` when it was that which took too long
  * `left` – how many calls (`:drain`) or workers (`:restart`) there were still to wait for
  """

  defexception [:timeout, :module, :function, :arity, :importing, :operation, :left, :note, began: true]

  @type t :: %__MODULE__{
          timeout: non_neg_integer,
          module: atom | String.t() | Typhon.Object.t(),
          function: atom | String.t(),
          arity: non_neg_integer | nil,
          importing: nil | String.t(),
          began: boolean,
          note: nil | String.t(),
          operation: nil | :drain | :restart | :reload,
          left: nil | non_neg_integer
        }

  @doc false
  # With one sentence more.
  @spec noted(t, String.t()) :: t
  def noted(%{note: nil} = error, sentence), do: %{error | note: sentence}
  def noted(%{note: note} = error, sentence), do: %{error | note: note <> ". " <> sentence}

  @impl true
  def message(%{operation: :drain, left: left}),
    do: "the pool was not drained in time: calls that are left: #{left}. They go on; new ones are refused"

  def message(%{operation: :restart, left: left}),
    do: "the pool was not restarted in time: workers that are left: #{left}. All of them go on taking calls"

  def message(%{operation: :reload}),
    do:
      "a worker still ran calls, was held by Typhon.run/3 or was starting when the time for Typhon.reload/3 was over. It keeps the " <>
        "module that it has"

  def message(%{arity: nil} = error) do
    "Typhon.run/3 found no worker free within #{error.timeout} ms, so its function was not run. " <>
      "Allow it more time with timeout: milliseconds | :infinity, hold workers for shorter, or start more of them"
  end

  def message(%{began: false} = error) do
    "#{call(error)} did not begin within #{error.timeout} ms: no worker was free for it in that time. It does not run any more. " <>
      "Allow it more time with timeout: milliseconds | :infinity, or start the pool with more workers" <>
      note(error)
  end

  def message(error),
    do: "#{call(error)} did not answer within #{error.timeout} ms. " <> advice(error) <> note(error)

  defp note(%{note: nil}), do: ""
  defp note(%{note: note}), do: ". " <> note

  defp call(error) do
    "#{Typhon.Error.callable(error.module, error.function)} with " <>
      "#{error.arity} #{if error.arity == 1, do: "argument", else: "arguments"}"
  end

  defp advice(%{importing: nil}),
    do: "The call has been cancelled. Allow it more time with timeout: milliseconds | :infinity"

  defp advice(%{importing: module}) do
    "Python was importing the module #{module}, which is not interrupted: the import goes on, and a later call finds the " <>
      "module there. To have it imported before the first call, start the pool with preload: [#{inspect(module)}], or import " <>
      "it in init:"
  end
end
