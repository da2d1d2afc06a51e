defmodule Typhon.Test.Double do
  @moduledoc false
  # Where a call meets the stubs of Typhon.Test. A pool without any has no flag, and its calls never come here.

  alias Typhon.Object
  alias Typhon.Test.{Store, UnexpectedCallError, Written}

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
    {owner, title, args, kwargs} = Written.call(module, function, args, kwargs)
    name = {pid, Written.module(owner), to_string(title)}
    call = %{args: args, kwargs: kwargs, pid: self()}
    chain = chain()

    case Store.take(owners(chain, name), name, call) do
      {:ok, {:result, result}} -> answered(result, module, function, key, name, call)
      {:ok, {:fun, fun}} -> fun |> run(key, name, call) |> answered(module, function, key, name, call)
      {:ok, :through} -> through(row, key, module, name, call, [])
      :exceeded -> raise unexpected(:exceeded, key, name, call)
      :none -> through(row, key, module, name, call, chain)
    end
  end

  defp answered({:ok, value}, module, function, key, {pid, _, _} = name, call) do
    with {:wrong, must_be} <- Written.answer(module, function, value, pid),
         do: raise(unexpected({:answer, value, must_be}, key, name, call))
  end

  defp answered(error, _module, _function, _key, _name, _call), do: error

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

  defp through(row, key, module, {pool, _, _} = name, call, chain) do
    cond do
      not python?(row) ->
        if chain != [], do: Store.note(candidates(chain, pool), name, call)
        {:error, unexpected(:not_stubbed, key, name, call)}

      is_struct(module, Object) and Object.made_up?(module) ->
        {:error, unexpected(:made_up, key, name, call)}

      true ->
        :through
    end
  end

  defp run(fun, key, name, %{args: args, kwargs: kwargs} = call) do
    count = length(args)

    cond do
      is_function(fun, count) and kwargs == %{} -> fun |> apply(args) |> result()
      is_function(fun, count + 1) -> fun |> apply(args ++ [kwargs]) |> result()
      true -> raise unexpected({:arity, Function.info(fun, :arity) |> elem(1), kwargs}, key, name, call)
    end
  rescue
    error in @errors -> {:error, error}
  end

  defp unexpected(reason, key, {_pool, module, function}, %{args: args, kwargs: kwargs}) do
    %UnexpectedCallError{
      pool: registered(key),
      module: module,
      function: function,
      args: args,
      kwargs: kwargs,
      reason: reason
    }
  end

  # An object knows the process of its pool; a test writes the name.
  defp registered(key) do
    case is_pid(key) and node(key) == node() and Process.info(key, :registered_name) do
      {:registered_name, name} when is_atom(name) -> name
      _ -> key
    end
  end
end
