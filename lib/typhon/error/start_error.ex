defmodule Typhon.StartError do
  @moduledoc """
  A pool or a worker could not be started.

  * `reason`
    * `:not_running` – the application `:typhon` is not started
    * `:nif_not_loaded` – Typhon's native library could not be loaded into the BEAM
    * `:no_proc` – there is no /proc, through which workers open the memory that they share with the BEAM
    * `:python_not_found` – there is no such interpreter; the message lists where it was looked for
    * `:ruby_not_found` – with `language: :ruby`, there is no such Ruby
    * `:bad_cd` – the directory of `:cd` does not exist
    * `:bad_path` – what `:python_path` or `:ruby_path` names does not exist, or is a file with source
    * `:not_python`, `:not_ruby` – the program is no such interpreter; the message says what it says of itself
    * `:cannot_execute` – the operating system refused to start it
    * `:python_too_old`, `:ruby_too_old` – Typhon needs Python 3.11, or Ruby 3.1, or newer
    * `:native_load_failed` – Python (or Ruby) could not load Typhon's native module
    * `:channel_failed` – the shared memory could not be made, or the worker could not attach it
    * `:exit` – Python ended, by itself or by a signal, before it was ready
    * `:preload_failed` – a module of `:preload` could not be imported; the message has Python's traceback
    * `:init_failed` – what `:init` says failed; the message has Python's traceback
    * `:no_engine` – `isolation: :interpreter` cannot run this Python; the message says why
    * `:interpreter_failed` – it could not be loaded into the VM; the message says which limit stands in the way
    * `:foreign_process` – who greeted as the worker is neither the process that was started nor a descendant of it
    * `:timeout` – it was not ready within `:start_timeout`
  * `message` – a sentence
  * `program` – the interpreter
  * `python` – the same where that is a Python, and nil with `language: :ruby`
  * `output` – what Python printed, a list of lines
  """

  defexception reason: nil, message: "", program: nil, python: nil, output: []

  @type reason ::
          :not_running
          | :nif_not_loaded
          | :no_proc
          | :python_not_found
          | :ruby_not_found
          | :bad_cd
          | :bad_path
          | :not_python
          | :not_ruby
          | :cannot_execute
          | :python_too_old
          | :ruby_too_old
          | :native_load_failed
          | :channel_failed
          | :exit
          | :preload_failed
          | :init_failed
          | :no_engine
          | :interpreter_failed
          | :foreign_process
          | :timeout

  @type t :: %__MODULE__{
          reason: reason,
          message: String.t(),
          program: String.t() | nil,
          python: String.t() | nil,
          output: [String.t()]
        }

  @impl true
  # Python's own sentence may be the message already.
  def message(%{message: message, output: output}),
    do: message <> Typhon.Error.output(Enum.reject(output, &(&1 == message)))
end
