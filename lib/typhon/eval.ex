defmodule Typhon.Eval do
  @moduledoc false
  # Code beside a call, by way of python/typhon/_eval.py, _scope.py and _program.py. It is an ordinary call of their functions,
  # so that all that holds for those holds for it; errors name what the user has called.

  require Typhon.Wire

  alias Typhon.{Call, Code, EncodeError, Error, Options, RubyError, Scope, TimeoutError, Wire, WorkerError}

  @default_timeout Options.default_timeout()

  @type result :: {:ok, term} | {:error, Error.t()}

  @spec eval(Typhon.pool() | Scope.t(), String.t() | Code.t(), map | keyword, keyword) :: result
  def eval(target, %Code{code: code, file: file, line: line}, bindings, options) do
    place = if file, do: [file: file, line: line], else: [line: line]
    # Options that are none have their sentence there.
    options = if Keyword.keyword?(options), do: Keyword.merge(place, options), else: options
    eval(target, code, bindings, options)
  end

  # The usual one.
  def eval(pool, code, bindings, []) when is_binary(code) and bindings == %{} and not is_struct(pool, Scope),
    do: pool |> Call.call({"typhon._eval", "evaluate", [code], @default_timeout}, %{}) |> result("eval", nil)

  def eval(target, code, bindings, options) do
    %{timeout: timeout, routing: routing} = options = Options.eval!(options)
    args = [code!(code), Options.bindings!(bindings), options.file, options.line, options.as == :object]

    result =
      case target do
        %Scope{} = scope ->
          in_scope(scope, "evaluate", args, timeout, routing, "eval")

        pool ->
          pool |> Call.call({"typhon._eval", "evaluate", args, timeout}, %{}, routing) |> result("eval", nil)
      end

    placed(result, options.file, options.line, bindings)
  end

  @doc "As eval/4: the value, and what the code has left under these names."
  @spec assigning(Typhon.pool(), Code.t(), map | keyword, [String.t()]) ::
          {:ok, {term, %{optional(String.t()) => term}}} | {:error, Error.t()}
  def assigning(pool, %Code{code: code, file: file, line: line}, bindings, names) do
    args = [code, Options.bindings!(bindings), file, line, names]
    call = {"typhon._eval", "assigning", args, @default_timeout}

    case pool |> Call.call(call, %{}, nil) |> result("eval", nil) |> placed(file, line, %{}) do
      {:ok, {_value, left}} = ok when is_map(left) -> ok
      {:ok, nonsense} -> {:error, Error.nonsense(nonsense)}
      error -> error
    end
  end

  @spec exec_file(Typhon.pool(), String.t(), keyword) :: result
  def exec_file(pool, path, options) do
    %{timeout: timeout, routing: routing, argv: argv, bindings: bindings} = Options.exec_file!(options)

    unless is_binary(path) and path != "",
      do: raise(ArgumentError, "the path must be a string, got #{inspect(path)}")

    pool
    |> Call.call({"typhon._program", "execute", [path, argv, bindings], timeout}, %{}, routing)
    |> result("exec_file", nil)
  end

  @spec scope(Typhon.pool() | Scope.t(), map | keyword, keyword) :: {:ok, Scope.t()} | {:error, Error.t()}
  def scope(origin, bindings, options) do
    %{timeout: timeout, routing: routing} = Options.scope!(options, :scope)
    args = [Options.bindings!(bindings)]

    {pool, made} =
      case origin do
        %Scope{} = scope ->
          {Scope.pool(scope), in_scope(scope, "fork", args, timeout, routing, "scope")}

        pool ->
          call = {"typhon._scope", "scope", args, timeout}
          {pool, pool |> Call.call(call, %{}, routing) |> result("scope", nil)}
      end

    case made do
      {:ok, {%Typhon.Object{} = object, name}} -> {:ok, %Scope{pool: pool, object: object, name: name}}
      # A test's.
      {:ok, %Scope{} = scope} -> {:ok, %{scope | pool: pool}}
      {:ok, nonsense} -> {:error, Error.nonsense(nonsense)}
      error -> error
    end
  end

  @doc "A method of the scope's, which users know as `function`."
  @spec in_scope(Scope.t(), String.t(), list, timeout, Options.routing(), String.t()) :: result
  def in_scope(%Scope{object: object} = scope, method, args, timeout, routing, function) do
    scope
    |> Scope.pool()
    |> Call.call({object, method, args, timeout}, %{}, routing)
    |> result(function, scope)
  end

  defp code!(code) when is_binary(code), do: code

  defp code!(code),
    do:
      raise(ArgumentError, "the code must be a string, got #{inspect(code)}. A Typhon.Code may be given, too")

  # --- errors ---

  defp result({:ok, _} = ok, _function, _scope), do: ok
  defp result({:error, error}, function, scope), do: {:error, named(error, function, scope)}

  # What a user who wonders about the time has to know.
  defp placed({:error, %TimeoutError{} = error}, file, line, bindings) do
    error = if file, do: TimeoutError.noted(error, "The code stands in #{file}:#{line}"), else: error
    taken? = Enum.any?(bindings, &match?({:timeout, _}, &1))

    taken =
      "timeout: stands among the bindings, so it is a variable of the code: options come after them, as in " <>
        "Typhon.eval(py, code, %{}, timeout: 60_000)"

    {:error, if(taken?, do: TimeoutError.noted(error, taken), else: error)}
  end

  defp placed(result, _file, _line, _bindings), do: result

  defp named(%TimeoutError{arity: arity} = error, function, _scope) when arity != nil,
    do: %{error | module: "Typhon", function: function, arity: 2}

  # Its handle was written down (:erlang.term_to_binary/1), which does not hold it.
  defp named(%EncodeError{path: "args", reason: Wire.unknown_object() <> _} = error, _function, %Scope{
         name: name
       }) do
    reason =
      "the scope #{name} is not there any more: no process held it, so Python has released it. " <>
        "Make another one with Typhon.scope/3"

    %{error | path: nil, reason: reason}
  end

  defp named(%EncodeError{path: path} = error, function, _scope) when is_binary(path),
    do: %{error | path: place(path, function)}

  defp named(%WorkerError{} = error, _function, %Scope{name: name}), do: %{error | scope: name}

  defp named(%RubyError{}, function, _scope) do
    raise ArgumentError,
          "Typhon.#{function} is Python's: this pool has Rubies, which run no Python code. Call functions of Ruby's with Typhon.call/5"
  end

  defp named(error, _function, _scope), do: error

  # From the place in the arguments to what the user has given.
  defp place("args", _function), do: "bindings"
  defp place("args[0]" <> rest, "eval"), do: "code" <> rest
  defp place("args[1]" <> rest, "eval"), do: "bindings" <> rest
  defp place("args[0]" <> rest, function) when function in ["scope", "put"], do: "bindings" <> rest
  defp place("args[0]" <> rest, "exec_file"), do: "path" <> rest
  defp place("args[1]" <> rest, "exec_file"), do: "argv" <> rest
  defp place("args[2]" <> rest, "exec_file"), do: "bindings" <> rest
  defp place(path, _function), do: path
end
