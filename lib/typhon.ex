defmodule Typhon do
  @external_resource Path.join(__DIR__, "typhon.md")
  @moduledoc File.read!(Path.join(__DIR__, "typhon.md"))

  import Kernel, except: [send: 2]

  import Typhon.Callee, only: [is_name: 1]

  alias Typhon.{
    Async,
    Call,
    Callee,
    Chain,
    Default,
    Eval,
    Health,
    Multi,
    Object,
    Options,
    Pool,
    PoolError,
    Registry,
    Rendered,
    Scope,
    Session
  }

  @default_timeout Options.default_timeout()

  @typedoc "A pool: the pid from `start_link/1`, or its name; or the session of a `run/3`."
  @type pool :: pid | atom | {:global, term} | {:via, module, term} | Typhon.Session.t()

  @typedoc "A Python module, `:math` or `\"os.path\"`; or an object whose method is called."
  @type callee :: atom | String.t() | Typhon.Object.t()

  @typedoc "A function of the module; dotted names go into attributes: `\"str.join\"`."
  @type name :: atom | String.t()

  @type error :: Typhon.Error.t()

  @typedoc "What a new worker runs first: a function with its arguments, or Python code."
  @type init_step :: {atom | String.t(), name, list} | String.t()

  @typedoc "A call of `multi/3`."
  @type one_of_many :: {callee, name, list} | {callee, name, list, map | keyword}

  @type start_option :: unquote(Options.type(:pool))
  @type call_option :: unquote(Options.type(:call))
  @type cast_option :: unquote(Options.type(:cast))
  @type run_option :: unquote(Options.type(:run))
  @type yield_option :: unquote(Options.type(:yield_many))
  @type multi_each_option :: unquote(Options.type(:multi_each))
  @type multi_option :: unquote(Options.type(:multi))
  @type map_option :: unquote(Options.type(:map))
  @type restart_option :: unquote(Options.type(:restart))
  @type reload_option :: unquote(Options.type(:reload))
  @type stream_option :: unquote(Options.type(:stream))
  @type send_option :: unquote(Options.type(:send))
  @type eval_option :: unquote(Options.type(:eval))
  @type exec_file_option :: unquote(Options.type(:exec_file))
  @type scope_option :: unquote(Options.type(:scope))
  @type put_option :: unquote(Options.type(:put))
  @type names_option :: unquote(Options.type(:names))

  @typedoc "Variables of Python code. A name is an identifier of Python's, and no keyword."
  @type bindings :: %{optional(name) => term} | [{name, term}]
  @type object_option :: unquote(Options.type(:object))
  @type call_object_option :: unquote(Options.type(:call_object))
  @type stream_object_option :: unquote(Options.type(:stream_object))
  @type enter_option :: unquote(Options.type(:enter))
  @type render_option :: unquote(Options.type(:render))
  @type save_option :: unquote(Options.type(:save))

  @doc """
  Starts a pool of Pythons, linked to the caller, and returns when all of them are ready.

  A start that fails returns `{:error, %Typhon.StartError{}}` with a sentence and Python's own output, and leaves nothing
  behind. It sends no exit signal.

  ## Options

  #{Options.docs(:pool)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.call(py, :math, :sqrt, [16])
      {:ok, 4.0}

      iex> {:error, error} = Typhon.start_link(python: "no-such-python")
      iex> error.reason
      :python_not_found
  """
  @spec start_link([start_option]) ::
          {:ok, pid} | {:error, Typhon.StartError.t() | {:already_started, pid}}
  def start_link(options \\ []), do: options |> Options.start!() |> Pool.start_link()

  @doc """
  A pool as the child of a supervisor: `{Typhon, name: MyApp.Python, workers: 4}`. The options are those of `start_link/1`.

      iex> Typhon.child_spec(name: MyApp.Python)
      %{id: MyApp.Python, start: {Typhon, :start_link, [[name: MyApp.Python]]}, type: :supervisor}
  """
  @spec child_spec([start_option]) :: Supervisor.child_spec()
  def child_spec(options) do
    %{
      id: Keyword.get(options, :name) || __MODULE__,
      start: {__MODULE__, :start_link, [options]},
      type: :supervisor
    }
  end

  @doc """
  Starts a pool that is the default one, for `~PY"…"r` of `Typhon.Sigil` and functions of `Typhon.Module`.

  It is for IEx, Livebook and scripts; an application has a pool in its supervision tree and names it: `config :typhon, default:
  MyApp.Python`. This one comes before that. It belongs to no process: it is there until it is stopped (`stop/1`), or Typhon is. Called
  again with the same options it gives the same pool; with others that one is stopped, and a new one started.

  The options, and the errors, are those of `start_link/1`.

      iex> {:ok, py} = Typhon.default(workers: 1)
      iex> Typhon.default(workers: 1) == {:ok, py}
      true
      iex> Typhon.stop(py)
      :ok
  """
  @spec default([start_option]) :: {:ok, pid} | {:error, Typhon.StartError.t() | {:already_started, pid}}
  def default(options), do: Default.start(options)

  @doc """
  Calls a Python function and waits for its result.

  `module` is imported by the worker when it is first used. In its place may stand a `Typhon.Object`, whose method is called.
  Names are atoms or strings, of any letters: `:größe`, `"名前"`. One that Python does not have as it stands is looked for in the
  form that Python gives to identifiers (NFKC).

  ## Options

  #{Options.docs(:call)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.call(py, :operator, :add, [1, 2])
      {:ok, 3}
      iex> {:error, error} = Typhon.call(py, :operator, :truediv, [1, 0])
      iex> {error.type, error.message}
      {"ZeroDivisionError", "division by zero"}
      iex> Typhon.call(py, :operator, :getitem, [%{name: "Ann"}, "name"], keys: :strings)
      {:ok, "Ann"}
      iex> Typhon.call(py, :statistics, :fmean, [[1, 2]], kwargs: %{weights: [1, 3]})
      {:ok, 1.75}
      iex> {:error, %Typhon.TimeoutError{}} = Typhon.call(py, :time, :sleep, [5], timeout: 20)
      iex> Typhon.call(py, "builtins", "str.join", [",", ["a", "b"]])
      {:ok, "a,b"}

      iex> {:ok, py} = Typhon.start_link(workers: 2)
      iex> {:ok, pid} = Typhon.call(py, :os, :getpid, [], worker: "user 42")
      iex> Typhon.call(py, :os, :getpid, [], worker: "user 42")
      {:ok, pid}
      iex> Typhon.call(py, :os, :cpu_count, [], retry: 2) == {:ok, nil}
      false
  """
  @spec call(pool, callee, name, list, [call_option]) :: {:ok, term} | {:error, error}
  def call(pool, module, function, args, options \\ [])

  def call(pool, module, function, args, [])
      when length(args) >= 0 and is_name(module) and is_name(function) do
    Call.call(pool, {module, function, args, @default_timeout}, %{})
  end

  def call(pool, module, function, args, options) do
    Callee.check!(pool, module, function, args)
    %{kwargs: kwargs, timeout: timeout, routing: routing} = Options.call!(options)
    Call.call(pool, {module, function, args, timeout}, kwargs, routing)
  end

  @doc """
  As `call/5`, and returns the value itself or raises the exception.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.call!(py, :math, :sqrt, [16])
      4.0
      iex> try do
      ...>   Typhon.call!(py, :math, :sqrt, [-1])
      ...> rescue
      ...>   error in Typhon.PythonError -> error.type
      ...> end
      "ValueError"
  """
  @spec call!(pool, callee, name, list, [call_option]) :: term
  def call!(pool, module, function, args, options \\ []),
    do: value!(call(pool, module, function, args, options))

  @doc """
  Calls a Python function and does not wait for it. Its result is dropped.

  `:ok` says that a worker has the request; it is lost when that worker ends. A Python exception is printed to where Python
  prints.

  ## Options

  #{Options.docs(:cast)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.cast(py, :time, :sleep, [0])
      :ok
  """
  @spec cast(pool, callee, name, list, [cast_option]) :: :ok | {:error, error}
  def cast(pool, module, function, args, options \\ []) do
    Callee.check!(pool, module, function, args)
    %{kwargs: kwargs, timeout: timeout, routing: routing} = Options.cast!(options)
    Call.cast(pool, {module, function, args, timeout}, kwargs, routing)
  end

  @doc """
  Runs a function that has one worker of the pool for itself.

  The function gets a `Typhon.Session`, which stands in the place of the pool in every function of this module. All its calls
  go to the same Python, and nobody else's go there until the function returns: what one call leaves in that Python's memory
  the next one finds. Calls of the same process to the pool itself go there, too, as do those of code that knows nothing of
  the session; other processes can use the session while the run lasts, and have the rest of the pool.

  The function begins when nothing runs there any more: no call, coroutines that wait among them, and no cast. A worker that
  has nothing to do is taken first. When there is none, one of them gets no further calls, and the first that has ended what it
  had is the session's. That is part of the time to wait for a worker (`:timeout`).

  The worker is given back when the function returns, raises or throws, and when its process ends. When the worker's Python
  ends, its memory is gone: further calls get a `Typhon.WorkerError` with the reason `:lost`, and the pool goes on with a new
  one. A run within a run of the same pool has the same worker. So has one in a callback: that of the call which calls back,
  beside what else runs there unless the call is a session's.

  Returns `{:ok, result}` with what the function returned, or `{:error, exception}` when there was no worker for it: a
  `Typhon.TimeoutError` or `Typhon.OverloadError` (see `:max_queue` of `start_link/1`).

  ## Options

  #{Options.docs(:run)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 2)
      iex> Typhon.run(py, fn session ->
      ...>   Typhon.call!(session, :random, :seed, [42])
      ...>   first = Typhon.call!(session, :random, :random, [])
      ...>   Typhon.call!(session, :random, :seed, [42])
      ...>   first == Typhon.call!(session, :random, :random, [])
      ...> end)
      {:ok, true}
  """
  @spec run(pool, (Typhon.Session.t() -> result), [run_option]) :: {:ok, result} | {:error, error}
        when result: term
  def run(pool, fun, options \\ []) do
    Callee.fun!(fun, "Typhon.run/3", "the session")
    Session.run(pool, fun, options)
  end

  @doc """
  As `run/3`, and returns what the function returned, or raises the exception.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.run!(py, fn session -> Typhon.call!(session, :math, :sqrt, [16]) end)
      4.0
  """
  @spec run!(pool, (Typhon.Session.t() -> result), [run_option]) :: result when result: term
  def run!(pool, fun, options \\ []), do: value!(run(pool, fun, options))

  @doc """
  Calls a Python function in a `Task`, linked to the caller. The task's result is what `call/5` returns.

  It is a task like any other: `Task.await/2`, `Task.await_many/2`, `Task.yield_many/2` and `Task.shutdown/2` take it. A task that is
  ended gives its call up. The options are those of `call/5`; its `:timeout` begins now.

      iex> {:ok, py} = Typhon.start_link(workers: 2)
      iex> tasks = for x <- [4, 9], do: Typhon.async(py, :math, :sqrt, [x])
      iex> Task.await_many(tasks)
      [{:ok, 2.0}, {:ok, 3.0}]
  """
  @spec async(pool, callee, name, list, [call_option]) :: Task.t()
  def async(pool, module, function, args, options \\ []) do
    Callee.check!(pool, module, function, args)
    # A wrong option is the caller's mistake, not the task's.
    Options.call!(options)
    Async.async(pool, module, function, args, options)
  end

  @doc """
  Waits for a task of `async/5` and returns the result of its call.

  The call ends by its own `:timeout`, so there is no other unless `timeout`, in milliseconds, is given. When that is over, the
  call is given up, and the result is a `Typhon.TimeoutError` (`Task.await/2` exits the caller instead).

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> py |> Typhon.async(:math, :sqrt, [16]) |> Typhon.await()
      {:ok, 4.0}
      iex> {:error, %Typhon.TimeoutError{}} = py |> Typhon.async(:time, :sleep, [5]) |> Typhon.await(20)
  """
  @spec await(Task.t(), timeout) :: {:ok, term} | {:error, error}
  def await(task, timeout \\ :infinity)
  def await(%Task{} = task, timeout), do: Async.await(task, Options.timeout!(timeout))

  def await(other, _timeout),
    do:
      raise(ArgumentError, "Typhon.await/2 takes a task, which Typhon.async/5 returns, got #{inspect(other)}")

  @doc """
  Waits for several tasks of `async/5` for as long as is given, and returns what each has come to, as `Task.yield_many/2`: a list of
  `{task, {:ok, result} | {:exit, reason} | nil}`, where `result` is that of `call/5`.

  ## Options

  Instead of options a timeout may be given.

  #{Options.docs(:yield_many)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 2)
      iex> tasks = [Typhon.async(py, :math, :sqrt, [16]), Typhon.async(py, :time, :sleep, [5])]
      iex> [{_, fast}, {_, slow}] = Typhon.yield_many(tasks, timeout: 1_000, on_timeout: :kill_task)
      iex> {fast, slow}
      {{:ok, {:ok, 4.0}}, nil}
  """
  @spec yield_many([Task.t()], timeout | [yield_option]) ::
          [{Task.t(), {:ok, {:ok, term} | {:error, error}} | {:exit, term} | nil}]
  def yield_many(tasks, options \\ []) when is_list(tasks),
    do: Async.yield_many(tasks, Options.yield_many!(options))

  @doc """
  Makes many calls in one request, and returns their results in order.

  For many small calls: in one request a call of a small function costs a tenth of one by itself, or less. They run one after
  another on one worker. `calls` are `{module, function, args}`, or `{module, function, args, kwargs}`. When all calls are of one
  function, `multi/5` is faster.

  An exception in one call does not stop the others. What ends the request as a whole (the time is up, the worker ended) is the
  result of each call in it; some of them may have run. More than 8,192 calls go in several requests, one after another.

  Calls of coroutine functions (`async def`) of one request are awaited at the same time, when the others have been made; with
  `stop_on_error: true` one after another.

  ## Options

  #{Options.docs(:multi_each)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.multi(py, [{:math, :sqrt, [16]}, {:builtins, :int, ["ff"], %{base: 16}}])
      [{:ok, 4.0}, {:ok, 255}]
      iex> [{:ok, 4.0}, {:error, error}, {:ok, 5}] =
      ...>   Typhon.multi(py, [{:math, :sqrt, [16]}, {:math, :sqrt, [-1]}, {:builtins, :len, ["hello"]}])
      iex> error.type
      "ValueError"
      iex> calls = [{:math, :sqrt, [-1]}, {:math, :sqrt, [16]}]
      iex> [{:error, %Typhon.PythonError{}}] = Typhon.multi(py, calls, stop_on_error: true)
  """
  @spec multi(pool, [one_of_many], [multi_each_option]) :: [{:ok, term} | {:error, error}]
  def multi(pool, calls, options \\ []), do: Multi.multi(pool, calls, options)

  @doc """
  Calls one function with many lists of arguments, in one request, and returns the results in order. See `multi/3`.

  ## Options

  #{Options.docs(:multi)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.multi(py, :math, :sqrt, [[16], [25]])
      [{:ok, 4.0}, {:ok, 5.0}]
      iex> Typhon.multi(py, :builtins, :int, [["ff"], ["10"]], kwargs: %{base: 16})
      [{:ok, 255}, {:ok, 16}]
  """
  @spec multi(pool, callee, name, [list], [multi_option]) :: [{:ok, term} | {:error, error}]
  def multi(pool, module, function, calls, options \\ []) do
    Callee.check!(pool, module, function, [])
    Multi.multi(pool, module, function, calls, options)
  end

  @doc """
  Calls a function with each element of an enumerable, several at a time: a lazy stream of the results.

  No more than `:max_concurrency` requests run or wait for the consumer to take their results, and one element beyond those is
  taken: an endless enumerable, or a slow consumer, is fine. When the consumer stops, what is in flight is given up. The calls are
  made by tasks linked to the process that runs the stream.

  ## Options

  #{Options.docs(:map)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 2)
      iex> py |> Typhon.map(:math, :sqrt, [4, 9, 16]) |> Enum.to_list()
      [2.0, 3.0, 4.0]
      iex> py |> Typhon.map(:math, :pow, Stream.iterate(1, & &1 + 1), args: [2], batch: 100) |> Enum.take(3)
      [1.0, 4.0, 9.0]
      iex> py |> Typhon.map(:math, :sqrt, [-1, 4], on_error: :skip) |> Enum.to_list()
      [2.0]
  """
  @spec map(pool, callee, name, Enumerable.t(), [map_option]) :: Enumerable.t()
  def map(pool, module, function, enumerable, options \\ []) do
    Callee.check!(pool, module, function, [])
    Typhon.Map.map(pool, module, function, enumerable, options)
  end

  @doc """
  Stops a pool. On return the Python processes are gone. Calls that were running get a `Typhon.WorkerError`, those that had not
  begun a `Typhon.PoolError`.

  `timeout` bounds the wait; when it is over the caller exits.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.stop(py)
      :ok
      iex> {:error, %Typhon.PoolError{reason: :stopped}} = Typhon.call(py, :math, :sqrt, [16])
      iex> {:error, %Typhon.PoolError{reason: :stopped}} = Typhon.stop(py)
  """
  @spec stop(pool, timeout) :: :ok | {:error, PoolError.t()}
  def stop(pool, timeout \\ :infinity) do
    with {pid, _native, _flags} <- Registry.find(pool), do: Pool.stop(pid, timeout)
  end

  @doc """
  Lets a pool finish before it is stopped: new calls get a `Typhon.PoolError` with the reason `:draining`, and on return those
  that there were have their answers.

  When they have not after `timeout` milliseconds, the error says how many are left, and they go on. There is no way back: a
  pool that has been drained is there to be stopped.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.drain(py, 5_000)
      :ok
      iex> {:error, %Typhon.PoolError{reason: :draining}} = Typhon.call(py, :math, :sqrt, [16])
      iex> Typhon.stop(py)
      :ok
  """
  @spec drain(pool, timeout) :: :ok | {:error, Typhon.TimeoutError.t() | PoolError.t()}
  def drain(pool, timeout \\ 30_000) do
    timeout = timeout |> Options.timeout!() |> Session.bound()

    with {pid, native, _flags} <- Registry.find(pool), do: Pool.Drain.drain(pid, native, timeout)
  end

  @doc """
  Replaces all workers of a pool by new ones, one after the other, while the pool goes on taking calls. No call is lost: each
  new worker is ready before it takes the place of the old one, and the old one ends when its calls have.

  Objects that live in the old workers, and what their modules had in memory, are gone. When a new worker cannot be started,
  the error says why, and the remaining workers stay as they are.

  ## Options

  #{Options.docs(:restart)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, before} = Typhon.call(py, :os, :getpid, [])
      iex> Typhon.restart(py)
      :ok
      iex> {:ok, now} = Typhon.call(py, :os, :getpid, [])
      iex> now == before
      false
  """
  @spec restart(pool, [restart_option]) :: :ok | {:error, error | Typhon.StartError.t()}
  def restart(pool, options \\ []) do
    %{timeout: timeout} = Options.restart!(options)
    with {pid, _native, _flags} <- Registry.find(pool), do: Pool.restart(pid, Session.bound(timeout))
  end

  @doc """
  Reloads a changed Python module in all workers of a pool, in each of them between two of its calls. No call is lost.

  Modules that lie in the same package, or in the same directory, and have imported names from it are reloaded, too. Returns
  the names of what was reloaded: none where no worker had imported the module.

  As with Python's `importlib.reload`, the module's code runs again, so its global variables start afresh, and objects that
  exist keep the classes that they were made of. When the code raises (a `SyntaxError` among others), the error has Python's
  traceback, and the worker keeps what it had.

  ## Options

  #{Options.docs(:reload)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, _} = Typhon.call(py, :colorsys, :rgb_to_hsv, [0, 0, 0])
      iex> Typhon.reload(py, :colorsys)
      {:ok, ["colorsys"]}
      iex> Typhon.reload(py, :never_imported)
      {:ok, []}
  """
  @spec reload(pool, atom | String.t(), [reload_option]) :: {:ok, [String.t()]} | {:error, error}
  def reload(pool, module, options \\ []) do
    Callee.module!(module)
    %{timeout: timeout} = Options.reload!(options)

    with {pid, _native, _flags} <- Registry.find(pool),
         do: Pool.Reload.module(pid, module, Session.bound(timeout))
  end

  @doc """
  How a pool fares.

  `:status` is

  * `:ok` – as many workers as there should be take calls
  * `:degraded` – some are being replaced, or the pool is draining
  * `:down` – none takes calls; also of a pool that stopped because of its `:max_restarts`, until one of that name is started

  The other figures: `:ready` workers of `:size`, which lies between `:min` and `:max`; calls `:in_flight`; workers
  `:reserved` for sessions; `:draining`; `:uptime` in milliseconds; `:memory` of all workers in bytes; `:restarts`, how
  often a worker has ended by accident, whoever ended it, and `:recent_restarts`, those that count for `:max_restarts`
  (not those that the pool ended for a call's sake) in the last `:max_seconds`; both limits; `:last_error`, why a worker
  ended the last time.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, health} = Typhon.health(py)
      iex> {health.status, health.ready, health.in_flight, health.last_error}
      {:ok, 1, 0, nil}
  """
  @spec health(pool) :: {:ok, map} | {:error, PoolError.t()}
  def health(pool), do: Health.check(pool)

  @doc """
  What a pool is made of: its process (`:pid`), its `:isolation`, its `:size` between `:min` and `:max`, `:uptime` in
  milliseconds, calls `:in_flight`, `:restarts` as in `health/1`, how many workers are `:reserved` for sessions, whether it is
  `:draining`; and its `:workers`. While one is being replaced there are two of one `:index`.

  A worker has its number in the pool (`:index`; `worker` in events) and one of its own (`:serial`), its `:role` (`:holder` of
  its number, or the `:successor` of the one that is), its `:state` (`:starting`, `:ready`, `:down`; `:waiting`, `:retiring`
  and `:reloading` while workers are replaced or a module is reloaded), the Elixir process that looks after it (`:pid`), that
  of the operating system (`:os_pid`; nil inside the VM), `:language` and `:version` (that of a Python is `:python`, too; nil
  with another language), `:executable`, which the worker says is its program, its `:concurrency`, `:calls` served by the
  present process, those `:in_flight`, whether it is `:busy` or `:reserved`, `:memory` in bytes (nil inside the VM) and
  `:uptime`, `:restarts`, how often its process has ended by accident since it has its number, and `:last_error`, why, until
  it is ready again.

  `:leases` are those of its objects that processes hold, as a rule of other nodes (`lease/2`).

  `:loans` counts the bytes of large binaries that a worker inside the VM shares with it: the VM's that Python reads
  (`:to_python`), Python's that binaries lie in (`:to_elixir`). `:ring` has the counters of the memory that the worker shares
  with the VM (`docs/telemetry.md`, `[:typhon, :worker, :ring]`). `:results` counts those of the worker's large results that
  binaries of Elixir lie in: `:held` in private memory, and `:shared` with the worker (inside the VM, and with `results:
  :shared`). A part of a large binary keeps the whole; `:binary.copy/1` makes it independent. `:results` of the pool is the
  same for the VM as a whole: bytes `:held`, bytes `:cached` for results to come (they go back to the system when they have
  not been used for five seconds), and the `:limit` of those that may be held.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, %{isolation: :process, workers: [worker]}} = Typhon.info(py)
      iex> {worker.state, worker.restarts}
      {:ready, 0}
  """
  @spec info(pool) :: {:ok, map} | {:error, PoolError.t()}
  def info(pool) do
    with {pid, _native, _flags} <- Registry.find(pool), do: Pool.info(pid)
  end

  @doc """
  Runs Python code, and returns its value when it ends in an expression, else `nil`.

  The names of `bindings` are variables of the code. `return` ends it with a value, and `await`, `async for` and `async with` may
  stand anywhere in it. Code of a pool finds nothing of what other code has left; that of a `Typhon.Scope` finds what is
  there, and leaves there what it assigns.

  The code's common indentation is taken off. What has been compiled is kept, so that the same code is compiled once in a worker:
  give what varies by `bindings`, not in the text. Code may be a `Typhon.Code`, as `~PY` of `Typhon.Sigil` makes it, which knows
  its file and line. `docs/eval.md` says more.

  ## Options

  #{Options.docs(:eval)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.eval(py, "1 + 1")
      {:ok, 2}
      iex> code = "  import statistics\\n  if not rows:\\n      return 0\\n  statistics.mean(rows)"
      iex> {Typhon.eval(py, code, rows: [1, 2, 6]), Typhon.eval(py, code, rows: [])}
      {{:ok, 3}, {:ok, 0}}
      iex> Typhon.eval(py, "import asyncio; await asyncio.sleep(0, x)", x: 5)
      {:ok, 5}
      iex> {:error, error} = Typhon.eval(py, "1 +", %{}, file: "shop.ex", line: 12)
      iex> {error.type, hd(error.traceback).file, hd(error.traceback).line}
      {"SyntaxError", "shop.ex", 12}
  """
  @spec eval(pool | Scope.t(), String.t() | Typhon.Code.t(), bindings, [eval_option]) ::
          {:ok, term} | {:error, error}
  def eval(target, code, bindings \\ %{}, options \\ []), do: Eval.eval(target, code, bindings, options)

  @doc """
  As `eval/4`, and returns the value itself or raises the exception.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.eval!(py, "x ** 2", x: 3)
      9
  """
  @spec eval!(pool | Scope.t(), String.t() | Typhon.Code.t(), bindings, [eval_option]) :: term
  def eval!(target, code, bindings \\ %{}, options \\ []), do: value!(eval(target, code, bindings, options))

  @doc """
  Runs a file of Python as `python path argv…` does, and returns the status it would exit with: 0, or that of `sys.exit`.

  It is the module `__main__` while it runs, its folder is the first of `sys.path`, and `sys.argv` has the arguments: these are
  one for the whole worker, so files run there one after the other, and other code of the worker finds them, too. What it raises
  is the error, but for `SystemExit`. A relative path starts at the worker's directory (`:cd` of `start_link/1`).

  ## Options

  #{Options.docs(:exec_file)}

  ## Examples

      iex> path = Path.join(System.tmp_dir!(), "typhon-exec-file.py")
      iex> File.write!(path, "import sys; sys.exit(len(sys.argv[1:]))")
      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.exec_file(py, path, argv: ["--all", "-v"])
      {:ok, 2}
  """
  @spec exec_file(pool, String.t(), [exec_file_option]) :: {:ok, non_neg_integer} | {:error, error}
  def exec_file(pool, path, options \\ []), do: Eval.exec_file(pool, path, options)

  @doc """
  As `exec_file/3`, and returns the status itself or raises the exception.
  """
  @spec exec_file!(pool, String.t(), [exec_file_option]) :: non_neg_integer
  def exec_file!(pool, path, options \\ []), do: value!(exec_file(pool, path, options))

  @doc """
  Makes a `Typhon.Scope`: a namespace that stays, on one worker of the pool. A scope of a scope is a fork of it: the same objects
  under names of its own. A function still finds the names of the scope that it was written in.

  ## Options

  #{Options.docs(:scope)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 2)
      iex> {:ok, scope} = Typhon.scope(py, x: 1)
      iex> Typhon.eval(scope, "x += 1")
      {:ok, nil}
      iex> {:ok, fork} = Typhon.scope(scope)
      iex> Typhon.put(fork, :x, 10)
      :ok
      iex> {Typhon.eval!(fork, "x"), Typhon.eval!(scope, "x")}
      {10, 2}
  """
  @spec scope(pool | Scope.t(), bindings, [scope_option]) :: {:ok, Scope.t()} | {:error, error}
  def scope(origin, bindings \\ %{}, options \\ []), do: Eval.scope(origin, bindings, options)

  @doc """
  As `scope/3`, and returns the scope itself or raises the exception.
  """
  @spec scope!(pool | Scope.t(), bindings, [scope_option]) :: Scope.t()
  def scope!(origin, bindings \\ %{}, options \\ []), do: value!(scope(origin, bindings, options))

  @doc """
  Gives a name of a scope a value.

  ## Options

  #{Options.docs(:put)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, scope} = Typhon.scope(py)
      iex> Typhon.put(scope, :x, 2)
      :ok
      iex> Typhon.eval(scope, "x * 21")
      {:ok, 42}
  """
  @spec put(Scope.t(), name, term, [put_option]) :: :ok | {:error, error}
  def put(scope, name, value, options \\ []), do: Scope.put(scope, name, value, options)

  @doc """
  The names of a scope, in order, without those that every module has (`__name__`).

  ## Options

  #{Options.docs(:names)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, scope} = Typhon.scope(py, b: 1)
      iex> Typhon.eval!(scope, "import math; a = 2")
      iex> Typhon.names(scope)
      {:ok, ["a", "b", "math"]}
  """
  @spec names(Scope.t(), [names_option]) :: {:ok, [String.t()]} | {:error, error}
  def names(scope, options \\ []), do: Scope.names(scope, options)

  @doc """
  As `names/2`, and returns the names themselves or raises the exception.
  """
  @spec names!(Scope.t(), [names_option]) :: [String.t()]
  def names!(scope, options \\ []), do: value!(names(scope, options))

  @doc """
  A binary that Python is to see as `bytes`, not as `str`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.call(py, :zlib, :crc32, [Typhon.bytes(<<0, 255>>)])
      {:ok, 1_826_356_594}
  """
  @spec bytes(binary) :: Typhon.Bytes.t()
  def bytes(binary) when is_binary(binary), do: %Typhon.Bytes{data: binary}
  def bytes(other), do: Typhon.Bytes.refuse!("Typhon.bytes/1", other)

  @doc """
  A binary that Python is to see as a read-only `memoryview`: for large data, which is then not copied in Python.

  It holds memory shared with the BEAM as long as Python holds it.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.call(py, :builtins, :sum, [Typhon.buffer(<<1, 2, 3>>)])
      {:ok, 6}
  """
  @spec buffer(binary) :: Typhon.Buffer.t()
  def buffer(binary) when is_binary(binary), do: %Typhon.Buffer{data: binary}
  def buffer(other), do: Typhon.Bytes.refuse!("Typhon.buffer/1", other)

  @doc """
  What a Python function yields, as a lazy stream.

  The function returns an iterator, a generator, any iterable, or an asynchronous one of these. It is called when the stream is
  first asked for an element. Elements come in batches: one is fetched while the elements of the one before are used, and
  then Python waits. A batch is sent at the latest when two milliseconds have gone into it, so a slow generator's elements do not
  wait for each other.

  When Elixir stops early, or its process dies, the generator is closed: its `finally` runs. What Python raises is raised here as a
  `Typhon.PythonError`, after the elements that came before it; other errors of `call/5` likewise. All batches come from one
  worker; between them it serves other calls. The stream is to be used in the process that runs it: while it runs, answers
  arrive in the mailbox of that process.

  ## Options

  #{Options.docs(:stream)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> py |> Typhon.stream(:itertools, :count, [10]) |> Enum.take(3)
      [10, 11, 12]
      iex> py |> Typhon.stream(:builtins, :range, [0, 1_000_000]) |> Stream.map(& &1 * 2) |> Enum.take(3)
      [0, 2, 4]
      iex> py |> Typhon.stream(:builtins, :enumerate, [["a", "b"]], kwargs: %{start: 1}) |> Enum.to_list()
      [{1, "a"}, {2, "b"}]
  """
  @spec stream(pool, callee, name, list, [stream_option]) :: Enumerable.t()
  def stream(pool, module, function, args, options \\ []) do
    Callee.check!(pool, module, function, args)
    Typhon.Stream.stream(pool, module, function, args, Options.stream!(options))
  end

  @doc """
  Sends a message to a worker's mailbox. There Python takes it out by `typhon.receive(timeout=…)`, in a coroutine by
  `await typhon.mailbox.get()`, or is called with it: `typhon.on_message(handler)`.

  Each worker has a mailbox of its own. In a `run/3` the message goes to the session's worker. `:ok` says that it lies in the
  worker's memory; it is lost when that worker ends. A message that Python cannot hold is reported there (see `:stdio`).
  As that of any process the mailbox has no bound: what Python does not take stays in its memory, for which there are `:max_memory` and
  `:limits` (see `start_link/1`).

  ## Options

  #{Options.docs(:send)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> :ok = Typhon.send(py, {:job, 1})
      iex> Typhon.call(py, :typhon, :receive, [])
      {:ok, {:job, 1}}
      iex> Typhon.send(py, {:reload, "config"}, to: :all)
      :ok
  """
  @spec send(pool, term, [send_option]) :: :ok | {:error, error}
  def send(pool, message, options \\ []), do: Typhon.Message.send_to(pool, message, Options.send!(options))

  @doc """
  Gives up the call of a task of `async/5`: Python is interrupted as at a deadline (see `:grace` of `start_link/1`), and the task ends
  without a result. Nothing happens when it has one already.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> task = Typhon.async(py, :time, :sleep, [60], timeout: :infinity)
      iex> Typhon.cancel(task)
      :ok
      iex> Typhon.call(py, :math, :sqrt, [16])
      {:ok, 4.0}
  """
  @spec cancel(Task.t()) :: :ok
  def cancel(%Task{} = task) do
    Task.shutdown(task, :brutal_kill)
    :ok
  end

  @doc """
  An enumerable that Python is to see as an iterator.

  It is lent for the time of one call. Python pulls from it in batches, and the elements are made in the calling process, no more
  than are asked for: it may be a stream without an end. What Python does not finish is halted at the end of the call.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> squares = Stream.map(1..1_000, &(&1 * &1))
      iex> Typhon.call(py, :builtins, :sum, [Typhon.iter(squares)])
      {:ok, 333_833_500}
  """
  @spec iter(Enumerable.t()) :: Typhon.Iter.t()
  def iter(enumerable), do: %Typhon.Iter{enumerable: enumerable}

  # --- objects ---

  @doc """
  An attribute of an object: `Typhon.get(object, :name)`. With dots attributes of attributes: `"index.name"`.

  `get(scope, name)` is what a name of a scope stands for. `get(pool, module, name)` is an attribute of a module, for its
  constants; options follow then.

  ## Options

  #{Options.docs(:object)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.get(py, :math, :pi)
      {:ok, 3.141592653589793}
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2], 5])
      iex> Typhon.get(queue, :maxlen)
      {:ok, 5}
      iex> Typhon.get(queue, "__class__.__name__")
      {:ok, "deque"}
      iex> {:error, %Typhon.PythonError{type: "AttributeError"}} = Typhon.get(queue, :size)
      iex> {:ok, scope} = Typhon.scope(py, rows: [1, 2])
      iex> Typhon.get(scope, :rows)
      {:ok, [1, 2]}
      iex> {:error, %Typhon.PythonError{type: "NameError"}} = Typhon.get(scope, :columns)
  """
  @spec get(Object.t() | Scope.t(), name, [object_option]) :: {:ok, term} | {:error, error}
  @spec get(pool, callee, name) :: {:ok, term} | {:error, error}
  def get(target, path, options \\ [])
  def get(%Object{} = object, path, options) when is_list(options), do: Object.get(object, path, options)
  def get(%Scope{} = scope, name, options), do: Scope.get(scope, name, options)
  def get(target, path, options) when is_list(options), do: Object.not_one!(target, path)
  def get(pool, module, name), do: get(pool, module, name, [])

  @doc "An attribute of a module: its constants. See `get/3`."
  @spec get(pool, callee, name, [object_option]) :: {:ok, term} | {:error, error}
  def get(pool, module, name, options), do: Object.constant(pool, module, name, options)

  @doc """
  As `get/3`, and returns the value itself or raises the exception.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> Typhon.get!(py, :sys, :byteorder)
      "little"
  """
  @spec get!(Object.t() | Scope.t(), name, [object_option]) :: term
  @spec get!(pool, callee, name) :: term
  def get!(target, path, options \\ []), do: value!(get(target, path, options))

  @doc "As `get/4`, and returns the value itself or raises the exception."
  @spec get!(pool, callee, name, [object_option]) :: term
  def get!(pool, module, name, options), do: value!(get(pool, module, name, options))

  @doc """
  Sets an attribute of an object: in Python `object.path = value`. The options are those of `get/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, space} = Typhon.call(py, :types, :SimpleNamespace, [], kwargs: [x: 1])
      iex> Typhon.set(space, :x, [2])
      :ok
      iex> Typhon.get(space, :x)
      {:ok, [2]}
  """
  @spec set(Object.t(), name, term, [object_option]) :: :ok | {:error, error}
  def set(object, path, value, options \\ []), do: Object.set(object, path, value, options)

  @doc """
  Deletes an attribute of an object: in Python `del object.path`. Or a name of a scope. The options are those of `get/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, space} = Typhon.call(py, :types, :SimpleNamespace, [], kwargs: [x: 1])
      iex> Typhon.delete(space, :x)
      :ok
      iex> {:ok, scope} = Typhon.scope(py, x: 1)
      iex> Typhon.delete(scope, :x)
      :ok
      iex> Typhon.names(scope)
      {:ok, []}
  """
  @spec delete(Object.t() | Scope.t(), name, [object_option]) :: :ok | {:error, error}
  def delete(target, path, options \\ [])
  def delete(%Scope{} = scope, name, options), do: Scope.delete(scope, name, options)
  def delete(object, path, options), do: Object.delete(object, path, options)

  @doc """
  An element of an object by its key, any term: in Python `object[key]`. The options are those of `get/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [["a", "b"]])
      iex> Typhon.item(queue, -1)
      {:ok, "b"}
  """
  @spec item(Object.t(), term, [object_option]) :: {:ok, term} | {:error, error}
  def item(object, key, options \\ []), do: Object.item(object, key, options)

  @doc "As `item/3`, and returns the value itself or raises the exception."
  @spec item!(Object.t(), term, [object_option]) :: term
  def item!(object, key, options \\ []), do: value!(item(object, key, options))

  @doc """
  Sets an element of an object: in Python `object[key] = value`. The options are those of `get/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2]])
      iex> Typhon.put_item(queue, 0, "first")
      :ok
      iex> Typhon.item(queue, 0)
      {:ok, "first"}
  """
  @spec put_item(Object.t(), term, term, [object_option]) :: :ok | {:error, error}
  def put_item(object, key, value, options \\ []), do: Object.put_item(object, key, value, options)

  @doc """
  The length of an object: in Python `len(object)`. The options are those of `get/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2]])
      iex> Typhon.len(queue)
      {:ok, 2}
  """
  @spec len(Object.t(), [object_option]) :: {:ok, non_neg_integer} | {:error, error}
  def len(object, options \\ []), do: Object.ask(object, ".len", options)

  @doc "As `len/2`, and returns the value itself or raises the exception."
  @spec len!(Object.t(), [object_option]) :: non_neg_integer
  def len!(object, options \\ []), do: value!(len(object, options))

  @doc """
  Calls an object itself: a function, a class, whatever Python can call. A method of an object is called by `call/5`.

  ## Options

  #{Options.docs(:call_object)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, second} = Typhon.call(py, :operator, :itemgetter, [1])
      iex> Typhon.call(second, [["a", "b"]])
      {:ok, "b"}
  """
  @spec call(Object.t(), list, [call_object_option]) :: {:ok, term} | {:error, error}
  def call(object, args, options \\ []), do: Object.call(object, args, options)

  @doc "As `call/3`, and returns the value itself or raises the exception."
  @spec call!(Object.t(), list, [call_object_option]) :: term
  def call!(object, args, options \\ []), do: value!(call(object, args, options))

  @doc """
  How Python shows an object: `repr(object)`. The options are those of `get/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2]])
      iex> Typhon.repr(queue)
      {:ok, "deque([1, 2])"}
  """
  @spec repr(Object.t(), [object_option]) :: {:ok, String.t()} | {:error, error}
  def repr(object, options \\ []), do: Object.ask(object, ".repr", options)

  @doc "As `repr/2`, and returns the value itself or raises the exception."
  @spec repr!(Object.t(), [object_option]) :: String.t()
  def repr!(object, options \\ []), do: value!(repr(object, options))

  @doc """
  The full name of an object's class. The handle has it: nobody is asked.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [])
      iex> Typhon.type(queue)
      "collections.deque"
  """
  @spec type(Object.t()) :: String.t()
  def type(%Object{type: type}), do: type
  def type(other), do: Object.given!(other, "Typhon.type/1")

  @doc """
  The names of an object's attributes: in Python `dir(object)`. The options are those of `get/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [])
      iex> {:ok, names} = Typhon.dir(queue)
      iex> "appendleft" in names
      true
  """
  @spec dir(Object.t(), [object_option]) :: {:ok, [String.t()]} | {:error, error}
  def dir(object, options \\ []), do: Object.ask(object, ".dir", options)

  @doc """
  The docstring of an object, or of its class, without its indentation; nil when there is none. The options are those of `get/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [])
      iex> {:ok, text} = Typhon.doc(queue)
      iex> text =~ "list-like sequence"
      true
  """
  @spec doc(Object.t(), [object_option]) :: {:ok, String.t() | nil} | {:error, error}
  def doc(object, options \\ []), do: Object.ask(object, ".doc", options)

  @doc """
  Whether two handles are of one object: in Python `a is b`. Raises when Python cannot be asked.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, one} = Typhon.call(py, :collections, :deque, [])
      iex> {:ok, other} = Typhon.call(py, :collections, :deque, [])
      iex> {:ok, again} = Typhon.call(py, :copy, :copy, [one])
      iex> {Typhon.same?(one, one), Typhon.same?(one, other), Typhon.same?(one, again)}
      {true, false, false}
  """
  @spec same?(Object.t(), Object.t()) :: boolean
  def same?(one, other) do
    Enum.each([one, other], &Object.given!(&1, "Typhon.same?/2"))
    Object.same?(one, other)
  end

  @doc """
  The value of an object, in Elixir. One that has no counterpart there is a `Typhon.EncodeError`; one that is in a list or
  another container is a `Typhon.Object` there. The options are those of `get/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, numbers} = Typhon.call(py, :builtins, :list, ["ab"], as: :object)
      iex> Typhon.call(py, numbers, :append, ["c"])
      {:ok, nil}
      iex> Typhon.to_term(numbers)
      {:ok, ["a", "b", "c"]}
      iex> {:ok, space} = Typhon.call(py, :types, :SimpleNamespace, [])
      iex> {:error, %Typhon.EncodeError{type: "types.SimpleNamespace"}} = Typhon.to_term(space)
  """
  @spec to_term(Object.t(), [object_option]) :: {:ok, term} | {:error, error}
  def to_term(object, options \\ []), do: Object.to_term(object, options)

  @doc "As `to_term/2`, and returns the value itself or raises the exception."
  @spec to_term!(Object.t(), [object_option]) :: term
  def to_term!(object, options \\ []), do: value!(to_term(object, options))

  @doc """
  Enters a context manager for the time of a function: Python's `with object as value:`, or `async with` where an object has
  that alone.

  The function gets what Python binds, and returns what `enter/3` returns in `{:ok, result}`. The context manager is left when the
  function returns, raises, throws or exits, and when its process ends. What the function raised is there a `typhon.BeamError`,
  and goes on in Elixir, unless `__exit__` says that it is to be ignored: then the result is `{:ok, nil}`. An error of entering
  or leaving is `{:error, exception}`.

  The worker takes other calls meanwhile; in a `run/3` it takes none but those of the session.

  ## Options

  #{Options.docs(:enter)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, folder} = Typhon.call(py, :tempfile, :TemporaryDirectory, [])
      iex> {:ok, path} = Typhon.enter(folder, fn path -> if File.dir?(path), do: path end)
      iex> File.dir?(path)
      false
  """
  @spec enter(Object.t(), (term -> result), [enter_option]) :: {:ok, result | nil} | {:error, error}
        when result: term
  def enter(object, fun, options \\ []), do: Object.enter(object, fun, options)

  @doc """
  Several steps from one object to the next, in one request: attributes, elements and calls.

  `Typhon.Chain` has the list of steps. With an object alone this is the beginning of a chain, to which the functions of
  `Typhon.Chain` add steps, and which `Typhon.Chain.run/2` runs. The options are those of `get/3`.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, space} = Typhon.call(py, :types, :SimpleNamespace, [], kwargs: [rows: [%{"x" => "a-b"}]])
      iex> Typhon.chain(space, get: "rows", item: 0, item: "x", call: {"split", ["-"]}, item: -1)
      {:ok, "b"}
      iex> {:error, error} = Typhon.chain(space, get: "rows", item: 0, item: "y", call: {"split", ["-"]})
      iex> {error.type, error.notes}
      {"KeyError", ["In a chain: step 3 of 4, item: 'y'"]}
      iex> space |> Typhon.chain() |> Typhon.Chain.get("rows") |> Typhon.Chain.item(0) |> Typhon.Chain.run()
      {:ok, %{"x" => "a-b"}}
  """
  @spec chain(Object.t(), [Chain.step()], [object_option]) :: {:ok, term} | {:error, error}
  def chain(object, steps, options \\ []), do: object |> Chain.new(steps) |> Chain.run(options)

  @doc "The beginning of a chain. See `chain/3`."
  @spec chain(Object.t()) :: Chain.t()
  def chain(object), do: Chain.new(object)

  @doc "As `chain/3`, and returns the value itself or raises the exception."
  @spec chain!(Object.t(), [Chain.step()], [object_option]) :: term
  def chain!(object, steps, options \\ []), do: value!(chain(object, steps, options))

  @doc """
  Keeps an object alive for a process, on whichever node that process runs. Returns the object, or the scope, that was given.

  A handle may be sent to another node, and what is called with it there is done where the object lives. But Typhon counts no
  references of other nodes: it releases the object when nobody on its own node holds the handle. The lease holds it there until
  `release/2`, the end of the process, or of the connection to its node, whichever comes first; or until the pool is stopped. Take
  it while the object is held: `Typhon.lease(model, pid)` before `send(pid, model)`. `Typhon.Object` says more.

  What a call from another node returns is leased already, to the process that made the call.

  A process has one lease of an object, also when it takes it twice, and at most #{Typhon.Leases.most()} of objects of one node.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2]])
      iex> {:ok, ^queue} = Typhon.lease(queue)
      iex> {:ok, %{leases: 1}} = Typhon.info(py)
      iex> Typhon.release(queue)
      :ok
  """
  @spec lease(leased, pid) :: {:ok, leased} | {:error, error} when leased: Object.t() | Scope.t()
  def lease(target, holder \\ self()) when is_pid(holder), do: Object.lease(target, holder)

  @doc "As `lease/2`, and returns the object itself or raises the exception."
  @spec lease!(leased, pid) :: leased when leased: Object.t() | Scope.t()
  def lease!(target, holder \\ self()), do: value!(lease(target, holder))

  @doc """
  Ends a lease that a process has of an object: that of `lease/2`, or of what a call from another node has returned. Nothing happens
  when there is none any more.

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [])
      iex> Typhon.lease!(queue)
      iex> {Typhon.release(queue), Typhon.release(queue)}
      {:ok, :ok}
  """
  @spec release(Object.t() | Scope.t(), pid) :: :ok | {:error, error}
  def release(target, holder \\ self()) when is_pid(holder), do: Object.release(target, holder)

  @doc """
  What an object looks like, as notebooks show it: pictures, HTML, text. `Typhon.Rendered` says what is asked for.

  ## Options

  #{Options.docs(:render)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2]])
      iex> {:ok, rendered} = Typhon.render(queue)
      iex> rendered.data
      %{"text/plain" => "deque([1, 2])"}
  """
  @spec render(Object.t(), [render_option]) :: {:ok, Rendered.t()} | {:error, error}
  def render(object, options \\ []), do: Rendered.render(object, options)

  @doc "As `render/2`, and returns the value itself or raises the exception."
  @spec render!(Object.t(), [render_option]) :: Rendered.t()
  def render!(object, options \\ []), do: value!(render(object, options))

  @doc """
  Writes what an object looks like into a file: `Typhon.save(figure, "chart.png")`. It is written by Elixir, where Elixir runs.

  The extension says what is written: #{Rendered.extensions()}. An object that has no such representation is a
  `Typhon.EncodeError` that names those it has. A figure of matplotlib's and an image of Pillow's are drawn in the format that is
  asked for. In the place of the object may stand a `Typhon.Rendered`.

  ## Options

  #{Options.docs(:save)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2]])
      iex> path = Path.join(System.tmp_dir!(), "typhon-queue.txt")
      iex> Typhon.save(queue, path)
      :ok
      iex> File.read!(path)
      "deque([1, 2])"
      iex> {:error, error} = Typhon.save(queue, "queue.png")
      iex> Exception.message(error)
      "a value of type collections.deque has no image/png. What there is of it: text/plain"
  """
  @spec save(Object.t() | Rendered.t(), Path.t(), [save_option]) :: :ok | {:error, error | File.Error.t()}
  def save(target, path, options \\ []), do: Rendered.save(target, path, options)

  @doc """
  The elements of an object, as a lazy stream: whatever Python can iterate over, or iterate over asynchronously. See `stream/5`.

  A generator is not closed when Elixir stops early, because its handle is there still; but elements that were fetched ahead are
  gone, and one that makes an element just then is interrupted.

  ## Options

  #{Options.docs(:stream_object)}

  ## Examples

      iex> {:ok, py} = Typhon.start_link(workers: 1)
      iex> {:ok, queue} = Typhon.call(py, :collections, :deque, [[1, 2]])
      iex> queue |> Typhon.stream() |> Enum.to_list()
      [1, 2]
  """
  @spec stream(Object.t(), [stream_object_option]) :: Enumerable.t()
  def stream(object, options \\ []) do
    Object.given!(object, "Typhon.stream/2")
    Typhon.Stream.stream(object, Options.stream_object!(options))
  end

  defp value!({:ok, value}), do: value
  defp value!({:error, error}), do: raise(error)
end
