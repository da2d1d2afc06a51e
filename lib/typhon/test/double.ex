defmodule Typhon.Test.Double do
  @moduledoc false
  # Where a call meets the stubs of Typhon.Test. A pool without any has no flag, and its calls never come here.

  alias Typhon.Test.{Store, UnexpectedCallError}

  # Bits of a pool's flags, below those that name a place (docs/internals.md).
  @no_python 64
  @doubled 32

  @typep row :: {pid, Typhon.Native.pool() | nil, non_neg_integer}
  @type result :: {:ok, term} | {:error, Exception.t()}

  # A Typhon error that a stub raises is what the call would have returned.
  @errors [
    Typhon.PythonError,
    Typhon.TimeoutError,
    Typhon.WorkerError,
    Typhon.EncodeError,
    Typhon.DecodeError,
    Typhon.PoolError,
    Typhon.OverloadError
  ]

  @doc "The flag of a pool that may have stubs, as a literal for guards."
  defmacro doubled, do: @doubled

  @spec flags(:python | :no_python) :: non_neg_integer
  def flags(:python), do: @doubled
  def flags(:no_python), do: @doubled + @no_python

  @spec on?(non_neg_integer) :: boolean
  def on?(flags), do: Bitwise.band(flags, @doubled) != 0

  @spec off(non_neg_integer) :: non_neg_integer
  def off(flags), do: Bitwise.band(flags, Bitwise.bnot(@doubled + @no_python))

  @spec python?(row) :: boolean
  def python?({_pid, _native, flags}), do: Bitwise.band(flags, @no_python) == 0

  @doc "What the calling process gets for this call; `:through` when it is Python's."
  @spec call(row, Typhon.pool(), term, term, list, map) :: :through | result
  def call({pid, _native, _flags} = row, key, module, function, args, kwargs) do
    {module, function, args, kwargs} = as_written(module, function, args, kwargs)
    name = {pid, name(module), to_string(function)}
    call = %{args: args, kwargs: kwargs, pid: self()}
    chain = chain()

    case Store.take(owners(chain, name), name, call) do
      {:ok, {:result, result}} -> result
      {:ok, {:fun, fun}} -> run(fun, args, kwargs, key, name)
      {:ok, :through} -> through(row, key, name, call, [])
      :exceeded -> raise unexpected(:exceeded, key, name, args)
      :none -> through(row, key, name, call, chain)
    end
  end

  # What Typhon.Module makes a call of when its functions are a block of code.
  defp as_written("typhon._block", "call", [owner, _code, _file, _line, function, args, kwargs], _),
    do: {"Elixir." <> owner, function, args, kwargs}

  defp as_written(module, function, args, kwargs) do
    {module, function, args} = as_written(module, function, args)
    {module, function, args, kwargs}
  end

  # What Typhon.Eval makes calls of.
  defp as_written("typhon._eval", "evaluate", [code | rest]), do: eval(code, rest)
  defp as_written(%Typhon.Object{type: "typhon.Scope"}, "evaluate", [code | rest]), do: eval(code, rest)
  defp as_written("typhon._scope", "scope", args), do: {"Typhon", "scope", args}
  defp as_written("typhon._program", "execute", [path, argv, _]), do: {"Typhon", "exec_file", [path, argv]}
  defp as_written(module, function, args), do: {module, function, args}

  defp eval(code, []), do: {"Typhon", "eval", [code, %{}]}
  defp eval(code, [bindings | _]), do: {"Typhon", "eval", [code, bindings]}

  @spec cast(row, Typhon.pool(), term, term, list, map) :: :through | :ok | {:error, Exception.t()}
  def cast({_pid, _native, flags} = row, key, module, function, args, kwargs) do
    if on?(flags) do
      case call(row, key, module, function, args, kwargs) do
        :through -> :through
        {:error, %UnexpectedCallError{}} = error -> error
        # Nobody learns what came of a cast.
        _ -> :ok
      end
    else
      :through
    end
  end

  @doc "How stubs name what is called: an object's methods by its class."
  @spec name(term) :: String.t()
  def name(%Typhon.Object{type: type}), do: type
  def name(module), do: to_string(module)

  @doc "What a stub was given, as what the call returns."
  @spec result(term) :: result
  def result({:ok, _} = ok), do: ok
  def result({:error, error} = result) when is_exception(error), do: result
  def result(error) when is_exception(error), do: {:error, error}
  def result(value), do: {:ok, value}

  @doc "The owners of rules for `name` that hold for the calling process, nearest first."
  @spec owners(Store.name()) :: [pid]
  def owners(name), do: owners(chain(), name)

  defp owners(chain, {pool, _, _} = name) do
    for pid <- candidates(chain, pool), Store.rule?(pid, name), uniq: true, do: pid
  end

  defp candidates(chain, pool) do
    for(pid <- chain, owner <- [pid | Store.allowed(pool, pid)], uniq: true, do: owner) ++ Store.global()
  end

  # This process, those that it works for (Task sets $callers), and those that started it.
  defp chain do
    ancestors = for ancestor <- Process.get(:"$ancestors", []), pid = pid(ancestor), do: pid

    Enum.uniq([self() | Process.get(:"$callers", [])] ++ ancestors)
  end

  defp pid(pid) when is_pid(pid), do: pid
  defp pid(name) when is_atom(name), do: Process.whereis(name)
  defp pid(_), do: nil

  defp through(row, key, {pool, _, _} = name, call, chain) do
    if python?(row) do
      :through
    else
      if chain != [], do: Store.note(candidates(chain, pool), name, call)
      {:error, unexpected(:not_stubbed, key, name, call.args)}
    end
  end

  defp run(fun, args, kwargs, key, name) do
    count = length(args)

    cond do
      is_function(fun, count) and kwargs == %{} -> fun |> apply(args) |> result()
      is_function(fun, count + 1) -> fun |> apply(args ++ [kwargs]) |> result()
      true -> raise unexpected({:arity, Function.info(fun, :arity) |> elem(1), kwargs}, key, name, args)
    end
  rescue
    error in @errors -> {:error, error}
  end

  defp unexpected(reason, key, {_pool, module, function}, args) do
    %UnexpectedCallError{
      pool: key,
      module: module,
      function: function,
      args: args,
      reason: reason
    }
  end
end
