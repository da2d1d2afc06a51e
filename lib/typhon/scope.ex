defmodule Typhon.Scope do
  @moduledoc """
  A namespace of Python's that stays: what one piece of code leaves there the next one finds.

      {:ok, py} = Typhon.start_link(workers: 2)
      {:ok, scope} = Typhon.scope(py, rows: [3, 1, 2])
      {:ok, nil} = Typhon.eval(scope, "ordered = sorted(rows)")
      {:ok, [1, 2, 3]} = Typhon.get(scope, :ordered)
      {:ok, 6} = Typhon.eval(scope, "sum(ordered)")

  `Typhon.scope/3` makes one, on one worker, and a scope of a scope is a fork. It stands in the place of the pool in
  `Typhon.eval/4` and `Typhon.scope/3`, in no other function; and there are `Typhon.get/3`, `Typhon.put/4`, `Typhon.delete/3` and `Typhon.names/2`.

  It is a Python module with a name of its own, so that what looks for the source or the module of a function or a class finds
  them: tracebacks, `inspect.getsource`, `pdb`, `dataclasses`, and `pickle` in that worker. Two scopes do not see each other's names.

  Scopes of different workers run in parallel. What is done with one scope is done one after the other, by whichever processes:
  the next code begins when the one before has its value, also when that awaits something. Code that a callback of a scope's code
  runs there does not wait for it.

  It is released in Python when no Elixir process holds it any more. When its worker ends, what it held is gone: the error of
  whoever uses it is a `Typhon.WorkerError` that says why the worker ended.

  * `name` – the name of its module, in that worker
  * `pool` – the pool that it was made in. Everything else is private
  """

  import Typhon.Remote, only: [is_remote_object: 1]

  alias Typhon.{Eval, Options, Session}
  alias Typhon.Options.Check

  @enforce_keys [:pool, :object, :name]
  defstruct @enforce_keys

  @type t :: %__MODULE__{pool: Typhon.pool(), object: Typhon.Object.t(), name: String.t()}

  defimpl Inspect do
    def inspect(%{name: name}, _opts), do: "#Typhon.Scope<#{name}>"
  end

  @doc false
  # For errors about other functions.
  @spec takes :: String.t()
  def takes,
    do:
      "what takes a scope is Typhon.eval/4, Typhon.get/3, Typhon.put/4, Typhon.delete/3, Typhon.names/2 and Typhon.scope/3"

  @doc false
  @spec given!(term, String.t()) :: :ok
  def given!(%__MODULE__{}, _function), do: :ok

  def given!(other, function) do
    raise ArgumentError,
          "#{function} takes a Typhon.Scope, got #{inspect(other)}: it is what Typhon.scope/3 has returned. " <>
            "An object has Typhon.set/4 and Typhon.dir/2"
  end

  @doc false
  # It outlives the session that it was made in.
  @spec pool(t) :: Typhon.pool()
  def pool(%{object: object}) when is_remote_object(object), do: object.pool
  def pool(%{pool: %Session{} = session}), do: if(Session.open?(session), do: session, else: session.pool)

  def pool(%{pool: nil, name: name}) do
    raise ArgumentError,
          "the scope #{name} of Typhon.Test.scope/0 is of no pool: no stub has returned it. " <>
            "Typhon.Test.scope(pool) makes one that is of a pool at once"
  end

  def pool(%{pool: pool}), do: pool

  @doc false
  @spec get(t, Typhon.name(), keyword) :: Eval.result()
  def get(scope, name, options) do
    %{timeout: timeout, routing: routing, as: as} = Options.scope!(options, :get)
    Eval.in_scope(scope, "get", [name!(name), as == :object], timeout, routing, "get")
  end

  @doc false
  @spec put(t, Typhon.name(), term, keyword) :: :ok | {:error, Typhon.Error.t()}
  def put(scope, name, value, options) do
    given!(scope, "Typhon.put/4")
    %{timeout: timeout, routing: routing} = Options.scope!(options, :put)
    done(Eval.in_scope(scope, "put", [%{name!(name) => value}], timeout, routing, "put"))
  end

  @doc false
  @spec delete(t, Typhon.name(), keyword) :: :ok | {:error, Typhon.Error.t()}
  def delete(scope, name, options) do
    %{timeout: timeout, routing: routing} = Options.scope!(options, :delete)
    done(Eval.in_scope(scope, "delete", [name!(name)], timeout, routing, "delete"))
  end

  @doc false
  @spec names(t, keyword) :: {:ok, [String.t()]} | {:error, Typhon.Error.t()}
  def names(scope, options) do
    given!(scope, "Typhon.names/2")
    %{timeout: timeout, routing: routing} = Options.scope!(options, :names)
    Eval.in_scope(scope, "names", [], timeout, routing, "names")
  end

  defp name!(name), do: Check.variable!("the name", name)

  defp done({:ok, _}), do: :ok
  defp done(error), do: error
end
