defmodule Typhon.Test do
  @moduledoc """
  Stubs and expectations for Python functions, for tests. `docs/testing.md` shows them in a project.

      defmodule MyApp.Weather do
        def tomorrow(city), do: "\#{round(Typhon.call!(MyApp.Python, :forecast, :temperature, [city]))} °C"
      end

      defmodule MyApp.WeatherTest do
        use ExUnit.Case, async: true

        import Typhon.Test

        setup_all do: {:ok, pool: start_supervised!({Typhon.Test, name: MyApp.Python})}
        setup :verify_on_exit!

        test "a forecast is rounded" do
          expect(MyApp.Python, :forecast, :temperature, fn city ->
            assert city == "Oslo"
            -3.6
          end)

          assert MyApp.Weather.tomorrow("Oslo") == "-4 °C"
        end
      end

  What a test sets up holds for the process that does so and for those that this one starts: tasks (by `$callers`) and processes
  under it (by `$ancestors`). So tests may run with `async: true`, each with stubs of its own. For other processes there are
  `allow/3` and `set_global/1`. It is gone when the process that set it up ends.

  It works for `Typhon.call/5`, `call!/5`, `cast/5`, `async/5`, `multi/5`, `map/5` and `stream/5`, for code, scopes and objects,
  on two kinds of pools:

  * a pool of Pythons: what has no stub goes to Python, and `spy/3` records calls that do. A pool that no test has touched does
    not pay for it.
  * a pool without any Python, from `start_pool/1`: what has no stub is an error, a `Typhon.Test.UnexpectedCallError` that
    says how to stub it.

  ## Answers

  Where `stub/4` and `expect/5` take an answer, this may be

  * a function. It runs in the calling process and gets the arguments as the caller gave them. Keyword arguments come as a last,
    further argument, a map with strings as keys: `fn data, %{"weights" => weights} -> … end`. A function with that argument gets
    `%{}` when there are none. What it returns is treated as the values below; `Typhon.PythonError` and the other errors of Typhon
    that it raises are what the call returns
  * an exception, or `{:error, exception}`: the call returns `{:error, exception}`. `error/3` makes Python's
  * `{:ok, value}` or any other value: the call returns `{:ok, value}`

  Modules and functions are named as in calls, by atoms or strings, which mean the same.

  ## Objects, scopes and code

  * The methods of a `Typhon.Object` are named by its class: `stub(py, "sklearn.svm._classes.SVC", :predict, [0])`.
  * What else Typhon does with an object has the name of its function here, with a dot in front, so that it is no method of
    Python's. `stub(py, "pandas.DataFrame", ".get", fn path -> … end)` is for `Typhon.get/3`, and likewise there are `.set` (path,
    value), `.delete` (path), `.item` (key), `.put_item` (key, value), `.len`, `.call` (the arguments), `.chain` (the list of
    steps), `.stream`, `.enter` (the answer is what the function gets), `.repr`, `.dir`, `.doc`, `.to_term`, `.render` (the answer
    is a map: `%{"text/html" => "<b>1</b>"}`) and `.save` (the MIME type; the answer is what the file is to hold).
  * A constant of a module is the same of the module: `stub(py, :math, ".get", fn "pi" -> 3.14 end)`.
  * Code and scopes are named by Typhon: `stub(py, Typhon, :eval, fn code, %{"rows" => rows} -> length(rows) end)`. So are
    `:scope` (the bindings), and of scopes `:get` (name), `:put` (name, value), `:delete` (name) and `:names`. `:exec_file` has
    the path and the arguments.

  Names and paths come as strings, bindings as maps with strings as keys, also where the caller wrote atoms. `object/1` and
  `scope/0` make what a stub can answer; it is of the pool whose call returns it.

  The functions of a module of Elixir's with `use Typhon.Module` are those of its module in Python, `stub(py, "statistics", :fmean, 1.5)`;
  where they are a block of code, its own: `stub(py, Shop.Prices, :total, 3)`.

  ## An application without Python

  Let the module that starts the pool be configurable; `Typhon.Test` takes all options of `Typhon`. In `application.ex`:

      children = [{Application.get_env(:my_app, :python, Typhon), name: MyApp.Python, workers: 4}]

  And in `config/test.exs`: `config :my_app, python: Typhon.Test`.
  """

  alias Typhon.{Object, Options, PythonError, Registry, Scope}
  alias Typhon.Test.{Double, Store, UnexpectedCallError, VerificationError, Written}

  @typedoc "What a stubbed function answers; see \"Answers\" above."
  @type answer :: function | Exception.t() | {:error, Exception.t()} | {:ok, term} | term

  @typedoc "A recorded call. `kwargs` has strings as keys; `pid` is the process that called."
  @type call :: %{args: list, kwargs: map, pid: pid}

  @typedoc """
  Arguments to look for: `:_` for any; a list, in which `:_` stands for any argument; `{list, kwargs}` with keyword arguments;
  or a function that gets the list.
  """
  @type pattern :: :_ | list | {list, map | keyword} | (list -> as_boolean(term))

  # --- pools without Python ---

  @doc """
  Starts a pool that has no Python, linked to the caller. Every call of a function without a stub returns an error.

  ## Options

  Those of `Typhon.start_link/1`, so that it can stand in its place. Only `:name` matters.

  ## Examples

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.stub(py, :math, :sqrt, 4.0)
      iex> Typhon.call(py, :math, :sqrt, [16])
      {:ok, 4.0}
      iex> {:error, error} = Typhon.call(py, :math, :cos, [0])
      iex> {error.__struct__, error.reason}
      {Typhon.Test.UnexpectedCallError, :not_stubbed}
  """
  @spec start_pool([Typhon.start_option()]) ::
          {:ok, pid} | {:error, Typhon.StartError.t() | {:already_started, pid}}
  def start_pool(options \\ []) do
    %{name: name} = Options.start!(options)

    if Registry.running?() do
      :ok = Store.ensure_started()
      options = if name, do: [name: name], else: []

      with {:ok, pool} <- Supervisor.start_link([], [strategy: :one_for_one] ++ options) do
        Registry.register(pool, name, native(), Double.flags(:no_python))
        {:ok, pool}
      end
    else
      {:error,
       %Typhon.StartError{
         reason: :not_running,
         message:
           "the application :typhon is not running. Start it with Application.ensure_all_started(:typhon)"
       }}
    end
  end

  # A real one, with a place that stays empty: what looks into it need not know of test pools. No call gets as far, so that
  # without the native library it does as well.
  defp native do
    Code.ensure_loaded(Typhon.Native)
    if Typhon.Native.load_error() == nil, do: Typhon.Native.pool_new(1)
  end

  @doc """
  A pool without Python as the child of a supervisor, in the place of `{Typhon, options}`.

      iex> Typhon.Test.child_spec(name: MyApp.Python)
      %{id: MyApp.Python, start: {Typhon.Test, :start_pool, [[name: MyApp.Python]]}, type: :supervisor}
  """
  @spec child_spec([Typhon.start_option()]) :: Supervisor.child_spec()
  def child_spec(options) do
    %{
      id: Keyword.get(options, :name) || __MODULE__,
      start: {__MODULE__, :start_pool, [options]},
      type: :supervisor
    }
  end

  # --- stubs and expectations ---

  @doc """
  Gives a function an answer for any number of calls. A later stub replaces an earlier one.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.stub(py, :math, :sqrt, fn x -> x / 4 end)
      iex> Typhon.Test.stub(py, :math, :log, Typhon.Test.error("ValueError", "math domain error"))
      iex> Typhon.call(py, :math, :sqrt, [16])
      {:ok, 4.0}
      iex> {:error, error} = Typhon.call(py, :math, :log, [0])
      iex> {error.type, error.message}
      {"ValueError", "math domain error"}
  """
  @spec stub(Typhon.pool(), Typhon.callee(), Typhon.name(), answer) :: :ok
  def stub(pool, module, function, answer),
    do: Store.stub(self(), watched!(pool, module, function), action(answer))

  @doc """
  Expects `count` calls of a function, 1 unless given, and gives them this answer.

  Expectations of a function are used up in the order in which they were set up. One call more than expected raises a
  `Typhon.Test.UnexpectedCallError` in the process that calls, unless there is a `stub/4`, which then answers. `verify!/0` and
  `verify_on_exit!/1` fail when calls are missing. `count` 0 says that the function is not to be called.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.expect(py, :random, :random, 0.25)
      iex> Typhon.Test.expect(py, :random, :random, 2, 0.5)
      iex> for _ <- 1..3, do: Typhon.call!(py, :random, :random, [])
      [0.25, 0.5, 0.5]
      iex> Typhon.Test.verify!()
      :ok
  """
  @spec expect(Typhon.pool(), Typhon.callee(), Typhon.name(), non_neg_integer, answer) :: :ok
  def expect(pool, module, function, count \\ 1, answer)

  def expect(pool, module, function, count, answer) when is_integer(count) and count >= 0,
    do: Store.expect(self(), watched!(pool, module, function), count, action(answer))

  def expect(_pool, _module, _function, count, _answer) do
    raise ArgumentError, "the number of calls must be a non-negative integer, got #{inspect(count)}"
  end

  @doc """
  Records the calls of a function that go on to Python, for `assert_called/5`, `refute_called/4` and `calls/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.Test.spy(py, :math, :sqrt)
      iex> Typhon.call(py, :math, :sqrt, [16])
      {:ok, 4.0}
      iex> Typhon.Test.assert_called(py, :math, :sqrt, [16])
      :ok
  """
  @spec spy(Typhon.pool(), Typhon.callee(), Typhon.name()) :: :ok
  def spy(pool, module, function), do: Store.stub(self(), watched!(pool, module, function), :through)

  @doc """
  An exception as Python would have raised it, for `stub/4` and `expect/5`.

  `type` is the name of its class, with the module unless it is a builtin. `fields` are other fields of `Typhon.PythonError`.

      iex> error = Typhon.Test.error("ValueError", "math domain error")
      iex> Exception.message(error)
      "ValueError: math domain error"
  """
  @spec error(String.t(), String.t(), keyword) :: PythonError.t()
  def error(type, message \\ "", fields \\ []),
    do: struct!(%PythonError{type: type, message: message}, fields)

  @doc """
  An object as a call would have returned it, whose methods can be stubbed under the name of its class, and what Typhon does with
  it, too. No Python knows it. It is of the pool whose stub returns it.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.stub(py, "sklearn.svm", :SVC, Typhon.Test.object("sklearn.svm._classes.SVC"))
      iex> Typhon.Test.stub(py, "sklearn.svm._classes.SVC", :predict, fn rows -> Enum.map(rows, fn _ -> 1 end) end)
      iex> {:ok, model} = Typhon.call(py, "sklearn.svm", :SVC, [])
      iex> Typhon.call(py, model, :predict, [[[0.5], [0.7]]])
      {:ok, [1, 1]}
  """
  @spec object(String.t()) :: Object.t()
  def object(type) when is_binary(type), do: Object.make_up(type, nil)

  @doc """
  The same, and the object is of this pool although no call has returned it: for code that is given one.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> model = Typhon.Test.object(py, "sklearn.svm._classes.SVC")
      iex> Typhon.Test.stub(py, model, ".get", fn "kernel" -> "rbf" end)
      iex> Typhon.get(model, :kernel)
      {:ok, "rbf"}
  """
  @spec object(Typhon.pool(), String.t()) :: Object.t()
  def object(pool, type) when is_binary(type), do: Object.make_up(type, watch!(pool))

  @doc """
  A scope for a stub to answer `Typhon.scope/3` with. What is done with it meets the stubs of its pool. No Python knows it.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.stub(py, Typhon, :scope, Typhon.Test.scope())
      iex> Typhon.Test.stub(py, Typhon, :eval, fn "n + 1", %{"n" => n} -> n + 1 end)
      iex> Typhon.Test.stub(py, Typhon, :get, fn "total" -> 7 end)
      iex> {:ok, scope} = Typhon.scope(py)
      iex> {Typhon.eval(scope, "n + 1", n: 2), Typhon.get(scope, :total)}
      {{:ok, 3}, {:ok, 7}}
  """
  @spec scope :: Scope.t()
  def scope, do: new_scope(nil)

  @doc "The same, and the scope is of this pool although no call has returned it: for code that is given one."
  @spec scope(Typhon.pool()) :: Scope.t()
  def scope(pool) do
    watch!(pool)
    new_scope(pool)
  end

  defp new_scope(pool) do
    name = "typhon_scope_#{System.unique_integer([:positive])}"
    %Scope{pool: pool, object: Object.make_up("typhon.Scope", nil), name: name}
  end

  # --- who they hold for ---

  @doc """
  What `owner` has set up for a pool holds for another process, a pid or a name, too. `allow/2` is for the calling process.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.stub(py, :math, :sqrt, 4.0)
      iex> test = self()
      iex> pid = spawn(fn -> receive do: (:go -> send(test, Typhon.call(py, :math, :sqrt, [16]))) end)
      iex> Typhon.Test.allow(py, pid)
      iex> send(pid, :go)
      iex> receive do: (answer -> answer)
      {:ok, 4.0}
  """
  @spec allow(Typhon.pool(), pid, GenServer.server()) :: :ok
  def allow(pool, owner \\ self(), process) do
    {pool_pid, _, _} = pool!(pool)

    case is_pid(owner) && GenServer.whereis(process) do
      pid when is_pid(pid) -> Store.allow(pool_pid, owner, pid)
      false -> raise ArgumentError, "the owner must be a pid, got #{inspect(owner)}"
      _ -> raise ArgumentError, "there is no process #{inspect(process)} to allow"
    end
  end

  @doc """
  What the calling process sets up holds for every process that has nothing of its own, until this one ends or `set_private/1`.

  For code that calls from processes which a test cannot know. Only one process at a time can do so, so such tests must not run
  with `async: true`: `setup :set_global` refuses in one that does.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.set_global()
      iex> Typhon.Test.stub(py, :math, :sqrt, 4.0)
      iex> test = self()
      iex> spawn(fn -> send(test, Typhon.call(py, :math, :sqrt, [16])) end)
      iex> receive do: (answer -> answer)
      {:ok, 4.0}
      iex> Typhon.Test.set_private()
      :ok
  """
  @spec set_global(map) :: :ok
  def set_global(context \\ %{}) do
    if Map.get(context, :async) do
      raise ArgumentError,
            "Typhon.Test.set_global/1 cannot be used with async: true: stubs of one test would answer the calls of another"
    end

    running!()

    case Store.set_global(self()) do
      :ok ->
        :ok

      {:taken, pid} ->
        raise ArgumentError,
              "Typhon.Test.set_global/1 was called by #{inspect(pid)}, which still runs. Only one process at a time can do so"
    end
  end

  @doc """
  Ends `set_global/1`: what a process sets up holds for itself and those it starts, which is the default.

      iex> Typhon.Test.set_private()
      :ok
  """
  @spec set_private(map) :: :ok
  def set_private(_context \\ %{}) do
    running!()
    Store.set_private()
  end

  # --- verification ---

  @doc """
  Raises a `Typhon.Test.VerificationError` unless the calls that the process, the calling one unless given, expects have come.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.expect(py, :math, :sqrt, 4.0)
      iex> try do
      ...>   Typhon.Test.verify!()
      ...> rescue
      ...>   error in Typhon.Test.VerificationError -> Exception.message(error)
      ...> end
      "expected calls of Python functions that did not come:\\n  * math.sqrt: expected 1, got 0"
  """
  @spec verify!(pid) :: :ok
  def verify!(owner \\ self()) do
    running!()

    case Store.unmet(owner) do
      [] ->
        :ok

      unmet ->
        {over, under} = Enum.split_with(unmet, fn {_, expected, came} -> came > expected end)

        sentences =
          for {sentence, [_ | _] = list} <- [
                {"expected calls of Python functions that did not come:", under},
                {"Python functions that were called more often than expected:", over}
              ] do
            Enum.join([sentence | Enum.map(list, &unmet/1)], "\n  * ")
          end

        raise VerificationError, message: Enum.join(sentences, "\n")
    end
  end

  defp unmet({{_pool, module, function}, expected, came}),
    do: "#{Written.title(module, function)}: expected #{expected}, got #{came}"

  @doc """
  `verify!/0` when the test has ended: `setup :verify_on_exit!`, with `import Typhon.Test`.
  """
  @spec verify_on_exit!(map) :: :ok
  def verify_on_exit!(_context \\ %{}) do
    running!()
    owner = self()
    Store.keep(owner)

    # Through apply/3: ExUnit is no dependency, and there in tests only.
    apply(ExUnit.Callbacks, :on_exit, [
      {__MODULE__, owner},
      fn ->
        try do
          verify!(owner)
        after
          Store.forget(owner)
        end
      end
    ])

    :ok
  end

  @doc """
  The calls of a function that were made so far, oldest first, by processes for which the calling one's stubs hold.

  The function must be stubbed, expected or spied on; on a pool without Python every call is recorded.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.stub(py, :statistics, :fmean, 1.75)
      iex> Typhon.call(py, :statistics, :fmean, [[1, 2]], kwargs: %{weights: [1, 3]})
      iex> [call] = Typhon.Test.calls(py, :statistics, :fmean)
      iex> {call.args, call.kwargs, call.pid == self()}
      {[[1, 2]], %{"weights" => [1, 3]}, true}
  """
  @spec calls(Typhon.pool(), Typhon.callee(), Typhon.name()) :: [call]
  def calls(pool, module, function) do
    row = pool!(pool)
    name = name(row, module, function)

    case Double.owners(name) do
      [owner | _] ->
        Store.calls(owner, name)

      [] ->
        if Double.python?(row) do
          raise ArgumentError,
                "calls of #{title(name)} are not recorded for this process. " <>
                  "Begin with Typhon.Test.spy(#{inspect(pool)}, #{inspect(module)}, #{inspect(function)}), a stub or an expectation"
        end

        running!()
        Store.calls(self(), name)
    end
  end

  @doc """
  Asserts that a function was called: with arguments like `args`, and `times` times (an integer or a range), once or more unless
  given. Raises a `Typhon.Test.VerificationError` that lists the calls which there were.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.stub(py, :math, :pow, 8.0)
      iex> Typhon.call(py, :math, :pow, [2, 3])
      iex> Typhon.Test.assert_called(py, :math, :pow)
      :ok
      iex> Typhon.Test.assert_called(py, :math, :pow, [2, :_], 1)
      :ok
      iex> Typhon.Test.assert_called(py, :math, :pow, fn [base, _] -> base < 3 end, 1..2)
      :ok
  """
  @spec assert_called(
          Typhon.pool(),
          Typhon.callee(),
          Typhon.name(),
          pattern,
          non_neg_integer | Range.t() | :at_least_once
        ) :: :ok
  def assert_called(pool, module, function, args \\ :_, times \\ :at_least_once) do
    matcher = matcher!(args)
    demand = times!(times)
    calls = calls(pool, module, function)
    count = Enum.count(calls, matcher)
    title = title(name(pool!(pool), module, function))

    if demanded?(demand, count) do
      :ok
    else
      raise VerificationError,
        message:
          "expected #{title}#{with_args(args)} to be called #{demand_text(demand)}, it was called " <>
            times_text(count) <> list(calls)
    end
  end

  @doc """
  Asserts that a function was not called, or not with arguments like `args`.

      iex> {:ok, py} = Typhon.Test.start_pool()
      iex> Typhon.Test.stub(py, :math, :sqrt, 4.0)
      iex> Typhon.call(py, :math, :sqrt, [16])
      iex> Typhon.Test.refute_called(py, :math, :sqrt, [-1])
      :ok
  """
  @spec refute_called(Typhon.pool(), Typhon.callee(), Typhon.name(), pattern) :: :ok
  def refute_called(pool, module, function, args \\ :_), do: assert_called(pool, module, function, args, 0)

  # --- what the above have in common ---

  defp action(fun) when is_function(fun), do: {:fun, fun}
  defp action(answer), do: {:result, Double.result(answer)}

  defp watched!(pool, module, function) do
    name = name(pool!(pool), module, function)
    watch!(pool)
    name
  end

  # From here on the calls of this pool look for stubs.
  defp watch!(pool) do
    {pid, _, flags} = pool!(pool)
    running!()
    unless Double.on?(flags), do: Registry.flag(pid, Double.flags(:python))
    pid
  end

  defp pool!(pool) do
    case Registry.lookup(pool) do
      {_, _, _} = row -> row
      {:error, error} -> raise error
    end
  end

  defp name({pid, _, _}, module, function)
       when (is_atom(module) or is_binary(module) or is_struct(module, Typhon.Object)) and
              (is_atom(function) or is_binary(function)),
       do: Tuple.insert_at(Written.name!(module, function), 0, pid)

  defp name(_row, %Scope{} = scope, function) do
    raise ArgumentError,
          "what is done with a scope is named by Typhon: Typhon, #{inspect(function)}, and not #{inspect(scope)}"
  end

  defp name(_row, module, function) do
    raise ArgumentError,
          "a Python function is named by two atoms or strings, got #{inspect(module)} and #{inspect(function)}"
  end

  defp title({_pool, module, function}), do: Written.title(module, function)

  defp running! do
    unless Registry.running?() do
      raise ArgumentError,
            "the application :typhon is not running. Start it with Application.ensure_all_started(:typhon)"
    end

    Store.ensure_started()
  end

  defp matcher!(:_), do: fn _ -> true end
  defp matcher!(fun) when is_function(fun, 1), do: &fun.(&1.args)
  defp matcher!(args) when is_list(args), do: &same?(&1.args, args)

  defp matcher!({args, kwargs}) when is_list(args) do
    kwargs = Options.kwargs!(kwargs)
    &(same?(&1.args, args) and &1.kwargs == kwargs)
  end

  defp matcher!(other) do
    raise ArgumentError,
          "the arguments to look for must be :_, a list, {list, kwargs} or a function of one argument, got #{inspect(other)}"
  end

  defp same?([_ | rest], [:_ | expected]), do: same?(rest, expected)
  defp same?([arg | rest], [arg | expected]), do: same?(rest, expected)
  defp same?([], []), do: true
  defp same?(_, _), do: false

  defp times!(:at_least_once), do: :at_least_once
  defp times!(count) when is_integer(count) and count >= 0, do: count
  defp times!(%Range{} = range), do: range

  defp times!(other) do
    raise ArgumentError,
          "the number of calls must be a non-negative integer, a range or :at_least_once, got #{inspect(other)}"
  end

  defp demanded?(:at_least_once, count), do: count > 0
  defp demanded?(%Range{} = range, count), do: count in range
  defp demanded?(times, count), do: count == times

  defp demand_text(:at_least_once), do: "at least once"
  defp demand_text(%Range{first: first, last: last}), do: "#{first} to #{last} times"
  defp demand_text(0), do: "never"
  defp demand_text(times), do: times_text(times)

  defp times_text(1), do: "once"
  defp times_text(count), do: "#{count} times"

  defp with_args(:_), do: ""
  defp with_args(fun) when is_function(fun), do: " with such arguments"
  defp with_args({args, kwargs}), do: " with #{UnexpectedCallError.list(args)} and #{inspect(kwargs)}"
  defp with_args(args), do: " with #{UnexpectedCallError.list(args)}"

  defp list([]), do: ""

  defp list(calls) do
    ". Its calls:" <>
      Enum.map_join(calls, fn
        %{args: args, kwargs: kwargs} when kwargs == %{} -> "\n  * #{UnexpectedCallError.list(args)}"
        %{args: args, kwargs: kwargs} -> "\n  * #{UnexpectedCallError.list(args)} and #{inspect(kwargs)}"
      end)
  end
end
