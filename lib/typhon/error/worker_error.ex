defmodule Typhon.WorkerError do
  @moduledoc """
  The worker that had the call is gone, so nobody knows how far the call came.

  The pool replaces the worker by itself. Whether the call may be made again depends on what it does.

  * `reason` – what happened
    * `:exit` – the process ended with `exit_status`
    * `:signal` – it was ended by `signal`
    * `:overdue` – the pool killed it: a call was still running when the pool's `:grace` after its deadline was over
    * `{:import_timeout, module}` – the pool killed it: a call still imported that module when the pool's `:import_timeout` after its
      deadline was over
    * `:hung` – the pool killed it: its process had been stopped (SIGSTOP), and calls waited for it
    * `:stopped` – it was told to end, as a rule because its pool was stopped
    * `:protocol` – it sent what it must not send, and was killed
    * `:flood` – it asked, said or sent more than is taken, and was killed: more than its quota without waiting (no code of Python's
      own does that), or messages to a process that has `max_mailbox:` of them and reads none
    * `{:limit, :cpu_time}` – it used up what `limits:` of its pool allow it, and the operating system ended it;
      `{:limit, :memory}` where the limit is that of a control group
    * `:replaced` – it was replaced by another one (`Typhon.restart/2`, `:max_calls`, `:max_memory`), or the pool shrank, and the
      object whose method was called was gone with it
    * `{:owner_down, reason}` – the Elixir process in charge of it ended
    * `:lost` – the call had to go to one worker, that of a session (`Typhon.run/3`) or of the call which a callback answers,
      and that worker has ended, with all that it held in memory. It was not sent
    * `:gone` – it had been gone before the call, and no other worker can take it
  * `exit_status` – an integer, or nil
  * `signal` – a name such as `"SIGKILL"`, or nil
  * `os_pid` – the process id it had
  * `language` – `:python` or `:ruby`
  * `scope` – the name of the `Typhon.Scope` that was used, and is gone with the worker; nil for any other call
  * `object` – whether it was the worker of a `Typhon.Object`, and had ended before this call, which did not begin
  * `output` – the last lines it printed, oldest first
  """

  defexception reason: :exit,
               exit_status: nil,
               signal: nil,
               os_pid: nil,
               language: :python,
               scope: nil,
               object: false,
               output: []

  @type t :: %__MODULE__{
          reason:
            :exit
            | :signal
            | :overdue
            | :hung
            | :stopped
            | :protocol
            | :flood
            | :lost
            | :gone
            | :replaced
            | {:limit, :cpu_time | :memory}
            | {:import_timeout, String.t()}
            | {:owner_down, term},
          exit_status: non_neg_integer | nil,
          signal: String.t() | nil,
          os_pid: pos_integer | nil,
          language: :python | :ruby,
          scope: nil | String.t(),
          object: boolean,
          output: [String.t()]
        }

  @impl true
  def message(error) do
    "the #{worker(error)} #{what(error)}" <> lost(error) <> Typhon.Error.output(error.output)
  end

  defp lost(%{scope: nil, object: false}), do: ""

  defp lost(%{scope: nil}),
    do: ". The object was there, and is gone with it, so the call did not begin: make the object again"

  defp lost(%{scope: name}),
    do:
      ". The scope #{name} was there, and is gone with all that it held: make another one with Typhon.scope/3"

  defp worker(%{os_pid: nil}), do: "worker"
  defp worker(error), do: "#{Typhon.Language.title(error.language)} worker #{error.os_pid}"

  defp what(%{reason: :exit, exit_status: nil}), do: "ended"
  defp what(%{reason: :exit, exit_status: status}), do: "exited with status #{status}"
  defp what(%{reason: :signal, signal: signal}), do: "was ended by #{signal}"

  defp what(%{reason: :hung}),
    do: "was killed: its process had been stopped (SIGSTOP), and calls waited for it"

  defp what(%{reason: :overdue}),
    do: "was killed: a call still ran when the pool's grace period after its deadline was over"

  defp what(%{reason: {:import_timeout, module}}),
    do:
      "was killed: a call still imported the module #{module} when the pool's import_timeout: after its deadline was over. " <>
        "Give imports more time there, or import it before the first call: preload: [#{inspect(module)}], and start_timeout: " <>
        "for how long that takes"

  defp what(%{reason: :stopped}), do: "was stopped"

  defp what(%{reason: :replaced}),
    do: "was replaced by another one, and what lived in it is gone"

  defp what(%{reason: {:limit, :cpu_time}}),
    do:
      "used up the processor time that limits: [cpu_time: seconds] of its pool allow it, and was ended by the system"

  defp what(%{reason: {:limit, :memory}}),
    do: "needed more memory than limits: [memory: bytes] of its pool allow it, and was ended by the system"

  defp what(%{reason: :protocol}), do: "broke the protocol and was killed"
  defp what(%{reason: :flood}), do: "asked, said or sent more than is taken, and was killed"
  defp what(%{reason: :gone}), do: "is gone"

  defp what(%{reason: :lost}),
    do:
      "that this session or callback belongs to is gone, and what it held in memory with it. The call was not sent: " <>
        "run the whole again, it gets another worker"

  defp what(%{reason: {:owner_down, reason}}),
    do: "lost the Elixir process in charge of it (#{Exception.format_exit(reason)})"
end
