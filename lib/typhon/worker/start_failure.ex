defmodule Typhon.Worker.StartFailure do
  @moduledoc false
  # How a start that has failed is described: what a worker's StartErrors say.

  alias Typhon.{Error, Language, Native, StartError}
  alias Typhon.Worker.Steps

  @typedoc "What of `preload:` and `init:` was running; nil: it had not come to that."
  @type step :: Steps.step() | nil

  @typedoc """
  How it ended: its status, the signal that ended it, and what the launcher said when there was no program to become.
  """
  @type exit :: %{
          :status => non_neg_integer | nil,
          :signal => String.t() | nil,
          :refused => String.t() | nil,
          optional(atom) => term
        }

  @doc "There is no memory to share with it, or no pipe for what it prints."
  @spec channel(map, String.t()) :: StartError.t()
  def channel(config, text),
    do: error(:channel_failed, config, "the channel to a worker could not be made: #{text}")

  @doc "The operating system does not run the program."
  @spec refused(map, String.t() | charlist) :: StartError.t()
  def refused(config, reason),
    do: error(:cannot_execute, config, "the operating system refused to start #{config.program}: #{reason}")

  @doc "Its `start_timeout:` is over."
  @spec late(map, step, Native.channel(), [String.t()]) :: StartError.t()
  def late(config, step, channel, output) do
    text = "#{config.program} was not ready within start_timeout: #{config.start_timeout} ms"
    error(:timeout, config, text <> still_ran(step, channel), output)
  end

  defp still_ran(nil, _channel), do: ""

  defp still_ran({:preload, module}, _channel),
    do:
      ", and still imported the module #{module}, of preload:. Give it more time with start_timeout: milliseconds | :infinity"

  defp still_ran(_step, channel) do
    case Native.importing(channel) do
      nil -> ", and still ran init:"
      importing -> ", and still ran init:, which imported the module #{Error.imported(importing)}"
    end
  end

  @doc "Who greeted is not what was started."
  @spec foreign(map, pos_integer | nil, term, [String.t()]) :: StartError.t()
  def foreign(config, os_pid, claimed, output) do
    text =
      "process #{inspect(claimed)} greeted as a worker, and it is neither the one that #{config.program} was " <>
        "started as (#{os_pid}) nor a descendant of that. A script in place of an interpreter has to exec it, or to wait for it"

    error(:foreign_process, config, text, output)
  end

  @doc "What `preload:` or `init:` says came to an error."
  @spec step(map, step, Exception.t(), [String.t()]) :: StartError.t()
  def step(config, step, error, output) do
    {reason, failed} =
      case step do
        {:preload, module} -> {:preload_failed, "preload: the module #{module} could not be imported"}
        _ -> {:init_failed, "init: failed"}
      end

    error(reason, config, "#{failed} in a new worker:\n" <> Exception.message(error), output)
  end

  @doc "It ended before it could take calls. What exit codes say is in docs/internals.md, \"The worker process\"."
  @spec ended(map, exit, step, [String.t()]) :: StartError.t()
  def ended(config, %{signal: nil, refused: reason}, _step, output) when reason != nil,
    do: %{refused(config, reason) | output: output}

  def ended(config, %{signal: nil, status: 96}, _step, output) do
    language = Language.of(config.language)
    text = List.last(output) || "#{config.program} is older than #{language.title()} #{language.minimum()}"
    error(language.reasons().too_old, config, text, output)
  end

  def ended(config, %{signal: nil, status: 97}, _step, output),
    do: error(:native_load_failed, config, "#{config.program} could not load Typhon's native module", output)

  def ended(config, %{signal: nil, status: status}, _step, output) when status in [98, 99] do
    text = "#{config.program} could not attach the shared memory of its channel"
    error(:channel_failed, config, text, output)
  end

  def ended(config, exit, step, output) do
    {reason, when?} =
      case step do
        nil -> {:exit, "before it was ready"}
        {:preload, module} -> {:preload_failed, "while it imported the module #{module}, of preload:"}
        _ -> {:init_failed, "while it ran init:"}
      end

    error(reason, config, "#{config.program} #{how(exit)} #{when?}", output)
  end

  defp how(%{signal: nil, status: nil}), do: "ended"
  defp how(%{signal: nil, status: status}), do: "exited with status #{status}"
  defp how(%{signal: signal}), do: "was ended by #{signal}"

  defp error(reason, config, message, output \\ []),
    do: Language.start_error(config.language, reason, config.program, message, output)
end
