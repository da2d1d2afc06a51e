defmodule Typhon.Error do
  @moduledoc false
  # Turns the error forms of the wire (docs/internals.md, `wire_error`) into exception structs, in this one place.

  alias Typhon.{DecodeError, EncodeError, Language, PythonError, RubyError, TimeoutError, WorkerError}

  @typedoc "What a message needs to know about the call."
  @type call :: {module :: term, function :: term, args :: list, timeout :: timeout}

  @type t ::
          PythonError.t()
          | RubyError.t()
          | TimeoutError.t()
          | EncodeError.t()
          | DecodeError.t()
          | WorkerError.t()
          | Typhon.PoolError.t()
          | Typhon.OverloadError.t()
          | Typhon.Test.UnexpectedCallError.t()

  @spec from_wire(Typhon.Native.wire_error() | term, call) :: t
  def from_wire(error, call) do
    known(error, call)
  rescue
    # A worker can send anything, and its caller is not to pay for that.
    _ -> unknown(error)
  end

  defp known({:exception, _, _, _, _, _, _} = exception, _call), do: Language.Python.raised(exception)
  defp known({:ruby_exception, _, _, _, _, _} = exception, _call), do: Language.Ruby.raised(exception)

  # It was Python that found out, but it is the argument that cannot be sent.
  defp known({:cannot_decode, path, message}, _call),
    do: %EncodeError{path: path, type: nil, reason: message}

  # The native library could not build the result: an atom that does not exist, a term beyond its limits.
  defp known({:cannot_decode_result, path, message}, _call), do: %DecodeError{path: path, reason: message}

  defp known({:cannot_encode, path, type, message}, _call),
    do: %EncodeError{path: path, type: type, reason: message}

  defp known(:expired, call), do: timeout(call)

  # A caller whose time is up does not wait for this: who gets it still had time, and the worker was told to go.
  defp known(:cancelled, _call), do: %WorkerError{reason: :stopped}

  defp known({:bad_frame, message}, _call),
    do: %DecodeError{path: nil, reason: "the worker's answer breaks the protocol: #{message}"}

  defp known(other, _call), do: unknown(other)

  defp unknown(error),
    do: %DecodeError{path: nil, reason: "the worker sent an unknown error: #{inspect(error)}"}

  @doc "For an answer to a call of the library's own that is none."
  @spec nonsense(term) :: DecodeError.t()
  def nonsense(answer),
    do: %DecodeError{path: nil, reason: "the worker's answer breaks the protocol: #{inspect(answer)}"}

  @doc "The reason a channel was closed with."
  @spec from_down(term) :: WorkerError.t()
  def from_down(%WorkerError{} = error), do: error
  def from_down({:bad_frame, _}), do: %WorkerError{reason: :protocol}
  def from_down({:flood, _}), do: %WorkerError{reason: :flood}
  # The native library saw the owner's end before anyone could say why.
  def from_down(:owner_down), do: %WorkerError{reason: {:owner_down, :killed}}
  # The call named a worker, and that one has ended.
  def from_down(:gone), do: %WorkerError{reason: :lost}
  def from_down(_reason), do: %WorkerError{reason: :gone}

  @doc "Of a call whose time is over. `importing`: what its worker imported for it then (Typhon.Native.importing/3)."
  @spec timeout(call, Typhon.Native.importing() | nil) :: TimeoutError.t()
  def timeout({module, function, args, timeout}, importing \\ nil),
    do: %TimeoutError{
      timeout: timeout,
      module: module,
      function: function,
      arity: length(args),
      importing: importing && named(importing)
    }

  @doc "The same of a call that waited for a worker all the time, and runs no more."
  @spec not_begun(call) :: TimeoutError.t()
  def not_begun(call), do: %{timeout(call) | began: false}

  # Typhon's own modules come with what is called: nobody can have them imported before.
  defp named(importing) do
    name = imported(importing)
    if String.starts_with?(name, "typhon._"), do: nil, else: name
  end

  @doc "The name of a module that is imported, for messages. The worker has written it."
  @spec imported(Typhon.Native.importing()) :: String.t()
  def imported({:importing, name}),
    do: if(name != "" and String.printable?(name), do: name, else: "(unknown)")

  @doc "How a call is written in a message: math.sqrt, or a method of an object."
  @spec callable(term, term) :: String.t()
  def callable(%Typhon.Object{type: type}, method),
    do: "#Typhon.Object<#{Typhon.Text.visible(type)}>.#{method}"

  def callable(module, function), do: "#{module}.#{function}"

  @doc "The last lines of a worker, to be put behind a sentence."
  @spec output([String.t()]) :: String.t()
  def output([]), do: ""
  def output(lines), do: ". Its last output:\n" <> Enum.map_join(lines, "\n", &("    " <> &1))
end
