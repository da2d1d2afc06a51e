defmodule Typhon.Options do
  @moduledoc false
  # The one place where options are checked. A wrong option is a mistake in the program, so it raises ArgumentError with a
  # sentence that says what was given, what is allowed, and for an unknown name which one was probably meant.

  @type env :: [{String.t(), String.t() | nil}]

  @type start :: %{
          # what isolation: :interpreter loads; known when the pool starts
          optional(:interpreter) => nil | Typhon.Env.t(),
          name: nil | atom | {:global, term} | {:via, module, term},
          language: :python | :ruby,
          isolation: :process | :interpreter,
          engine: :auto | :namespaces | :subinterpreters | :threads,
          workers: pos_integer,
          python: String.t(),
          python_path: [String.t()],
          env: env,
          cd: String.t(),
          start_timeout: pos_integer | :infinity,
          grace: non_neg_integer,
          shutdown: non_neg_integer,
          stdio: :caller | :group_leader | :logger | :discard | pid,
          log_level: :debug | :info | :warning | :error | :critical,
          atoms: :existing | :create,
          surrogates: :error | :bytes | :replace,
          keys: :atoms | :strings,
          values: :atoms | :strings,
          spin: :auto | non_neg_integer,
          ring_size: pos_integer,
          telemetry: boolean,
          concurrency: pos_integer,
          allow: :all | [{module, atom, arity | :_}],
          send_to: [pid | atom | {atom, node}],
          max_mailbox: pos_integer | :infinity,
          max_queue: non_neg_integer | :infinity,
          min_workers: pos_integer,
          idle_timeout: pos_integer,
          preload: [String.t()],
          import_timeout: non_neg_integer | :infinity,
          init: [Typhon.Worker.Errand.step()],
          max_calls: nil | pos_integer,
          max_memory: nil | pos_integer,
          max_restarts: non_neg_integer | :infinity,
          max_seconds: pos_integer,
          limits: %{optional(atom) => integer},
          reload: boolean,
          results: :private | :shared,
          max_result: pos_integer | :infinity,
          max_held: :auto | pos_integer | :infinity
        }

  @type call :: %{kwargs: %{optional(String.t()) => term}, timeout: timeout, routing: routing}

  @typedoc """
  Where a call goes and how often, where it prints, and what becomes of its atoms; nil: to the least loaded worker, once, to the caller,
  and what the pool says. `worker` is the hash of the key.
  """
  @type routing ::
          nil
          | %{
              worker: nil | non_neg_integer,
              retry: non_neg_integer,
              stdio: nil | :group_leader | :logger | :discard | pid,
              text: text
            }

  @typedoc "What a call says of `keys:` and `values:`; nil: what its pool says."
  @type text :: nil | {nil | :atoms | :strings, nil | :atoms | :strings}

  @default_timeout Application.compile_env(:typhon, :timeout, 5_000)
  @min_ring 65_536
  @max_ring 67_108_864
  # What `receive … after` accepts.
  @max_timeout 0xFFFF_FFFF

  @start_options [
    :name,
    :language,
    :isolation,
    :engine,
    :workers,
    :python,
    :python_path,
    :env,
    :cd,
    :start_timeout,
    :grace,
    :shutdown,
    :stdio,
    :log_level,
    :atoms,
    :surrogates,
    :keys,
    :values,
    :spin,
    :ring_size,
    :telemetry,
    :concurrency,
    :allow,
    :send_to,
    :max_mailbox,
    :max_queue,
    :idle_timeout,
    :preload,
    :import_timeout,
    :init,
    :max_calls,
    :max_memory,
    :max_restarts,
    :max_seconds,
    :limits,
    :reload,
    :results,
    :max_result,
    :max_held
  ]
  # Of a pool of Rubies alone, and what such a pool does not have.
  @ruby_options [:ruby, :ruby_path, :require]
  @python_options [
    :python,
    :python_path,
    :engine,
    :concurrency,
    :preload,
    :import_timeout,
    :reload,
    :log_level,
    :surrogates
  ]
  @limits [:memory, :cpu_time, :open_files, :nice]
  # Fewer do not let Python start.
  @min_files 32
  @min_memory 1_048_576
  # Error terms must get through in any case.
  @min_result 65_536
  # Replacements in max_seconds, for each worker, that no crash loop gets along with.
  @restarts_each 10
  @call_options [:kwargs, :timeout, :worker, :retry, :stdio, :keys, :values]
  @cast_options [:kwargs, :timeout, :worker, :keys, :values]
  @run_options [:timeout]
  @multi_options [:stop_on_error]
  @map_options [:args, :max_concurrency, :ordered, :batch, :on_error]
  @yield_options [:timeout, :on_timeout]

  @spec default_timeout :: timeout
  def default_timeout, do: @default_timeout

  @spec start!(keyword) :: start
  def start!(options) do
    known!(options, @start_options ++ @ruby_options, "Typhon.start_link/1")
    options = language!(options)
    # Relative paths in other options are relative to the directory the worker runs in.
    cd = options |> Keyword.get(:cd, ".") |> path!(:cd, "a directory") |> Path.expand()

    Map.new(@start_options, fn
      :cd -> {:cd, cd}
      :python_path -> {:python_path, python_path!(Keyword.get(options, :python_path, []), cd)}
      name -> {name, check!(name, Keyword.get(options, name, default(name)))}
    end)
    |> inside!()
    |> elastic()
  end

  # A pool of Rubies is started as one of Pythons, by the Ruby's name and with its paths; what is to be loaded is the first part
  # of its init:.
  defp language!(options) do
    case Keyword.get(options, :language, :python) do
      :python ->
        with [{name, _} | _] <- Keyword.take(options, @ruby_options),
             do: raise(ArgumentError, "#{name}: is for language: :ruby alone")

        options

      :ruby ->
        ruby!(options)

      other ->
        wrong!(:language, ":python or :ruby", other)
    end
  end

  defp ruby!(options) do
    with [{name, _} | _] <- Keyword.take(options, @python_options) do
      raise ArgumentError,
            "#{name}: is for Python alone. With language: :ruby there are ruby:, ruby_path: and require:, and a worker runs " <>
              "one call at a time"
    end

    if Keyword.get(options, :isolation, :process) != :process do
      raise ArgumentError,
            "isolation: #{inspect(options[:isolation])} is for Python alone: a Ruby runs in a process of its own, " <>
              "isolation: :process"
    end

    {ruby, options} = Keyword.pop(options, :ruby, "ruby")
    {paths, options} = Keyword.pop(options, :ruby_path, [])
    {required, options} = Keyword.pop(options, :require, [])
    ruby = path!(ruby, :ruby, "the name of a command, or the path of an interpreter")
    unless is_list(paths), do: wrong!(:ruby_path, "a list of directories", paths)

    required =
      for name <- List.wrap(required) do
        unless is_binary(name) and name != "", do: wrong!(:require, "a string or a list of strings", name)
        {"typhon._life", "require", [name]}
      end

    init = required ++ List.wrap(Keyword.get(options, :init, []))
    options |> Keyword.merge(python: ruby, python_path: paths, isolation: :process, init: init)
  end

  # What the operating system does for a process it cannot do for a part of one. Memory is counted by Python's allocators.
  defp inside!(%{isolation: :interpreter} = options) do
    with [_ | _] = others <- options.limits |> Map.delete(:memory) |> Map.to_list() do
      raise ArgumentError,
            "limits: of #{Enum.map_join(others, " and ", &elem(&1, 0))} need isolation: :process, as the operating system " <>
              "sets them for whole processes or for good, and this process is the VM's. memory: works with isolation: :interpreter"
    end

    if options.limits != %{} and options.engine == :subinterpreters do
      raise ArgumentError,
            "limits: [memory:] needs engine: :namespaces or :threads, or isolation: :process: sub-interpreters share the " <>
              "allocators of one Python"
    end

    if options.results == :shared do
      raise ArgumentError,
            "results: :shared is for isolation: :process. Inside the VM large binaries are shared in any case"
    end

    if options.max_memory do
      raise ArgumentError,
            "max_memory: needs isolation: :process: what one interpreter holds of the VM's memory cannot be told. " <>
              "max_calls: works with isolation: :interpreter"
    end

    for {name, value} <- options.env, value != nil, name in Typhon.Interpreters.unwanted() do
      raise ArgumentError,
            "env: #{name} needs isolation: :process: inside the VM it would make Python take over signals, wait for a " <>
              "terminal or be another Python"
    end

    threads(options)
  end

  defp inside!(%{engine: :auto} = options), do: options

  defp inside!(%{engine: engine}) do
    raise ArgumentError,
          "engine: #{inspect(engine)} is for isolation: :interpreter; a worker process is run by the Python of python: alone"
  end

  # One interpreter, in which as many threads take calls.
  defp threads(%{engine: :threads, workers: workers} = options) do
    count = with {_min, max} <- workers, do: max
    %{options | workers: 1, concurrency: count * options.concurrency}
  end

  defp threads(options), do: options

  # From here on `workers` is the number of places: the most that there may be.
  defp elastic(%{workers: {min, max}} = options),
    do: default_restarts(%{options | workers: max}, min)

  defp elastic(%{workers: count} = options), do: default_restarts(options, count)

  defp default_restarts(%{max_restarts: nil} = options, min),
    do: default_restarts(%{options | max_restarts: @restarts_each * options.workers}, min)

  defp default_restarts(options, min), do: Map.put(options, :min_workers, min)

  @spec restart!(keyword) :: %{timeout: timeout}
  def restart!(options), do: timeout_alone!(options, 60_000, "Typhon.restart/2")

  @spec reload!(keyword) :: %{timeout: timeout}
  def reload!(options), do: timeout_alone!(options, 30_000, "Typhon.reload/3")

  defp timeout_alone!(options, default, where) do
    known!(options, [:timeout], where)
    %{timeout: check!(:timeout, Keyword.get(options, :timeout, default))}
  end

  # Without a look at each option where there is but the common one.
  @spec call!(keyword) :: call
  def call!([{:timeout, timeout}]), do: %{kwargs: %{}, timeout: check!(:timeout, timeout), routing: nil}

  def call!(options) do
    known!(options, @call_options, "Typhon.call/5")

    %{
      kwargs: check!(:kwargs, Keyword.get(options, :kwargs, %{})),
      timeout: check!(:timeout, Keyword.get(options, :timeout, @default_timeout)),
      routing:
        routing(
          Keyword.get(options, :worker),
          check!(:retry, Keyword.get(options, :retry, default(:retry))),
          options |> Keyword.get(:stdio) |> call_stdio!(),
          text!(options)
        )
    }
  end

  @spec cast!(keyword) :: call
  def cast!(options) do
    known!(options, @cast_options, "Typhon.cast/5")
    call!(options)
  end

  @spec run!(keyword) :: %{timeout: timeout}
  def run!(options) do
    known!(options, @run_options, "Typhon.run/3")
    %{timeout: check!(:timeout, Keyword.get(options, :timeout, @default_timeout))}
  end

  defp call_stdio!(stdio) when stdio in [nil, :group_leader, :logger, :discard] or is_pid(stdio), do: stdio

  defp call_stdio!(other),
    do: wrong!(:stdio, ":group_leader, :logger, :discard or the pid of an I/O device", other)

  # What the call itself says.
  defp text!(options) do
    case Keyword.take(options, [:keys, :values]) do
      [] ->
        nil

      own ->
        for {name, what} <- own, what != nil, do: check!(name, what)
        {own[:keys], own[:values]}
    end
  end

  defp routing(nil, 0, nil, nil), do: nil
  defp routing(nil, retry, stdio, text), do: %{worker: nil, retry: retry, stdio: stdio, text: text}
  # The whole range of the hash: the native library spreads it over the workers.
  defp routing(key, retry, stdio, text),
    do: %{worker: :erlang.phash2(key, 4_294_967_296), retry: retry, stdio: stdio, text: text}

  @doc "`call`: what is left for the call that carries the batch, without kwargs and timeout."
  @spec multi!(keyword, String.t()) :: %{
          stop_on_error: boolean,
          kwargs: map,
          timeout: timeout,
          call: keyword
        }
  def multi!([], _where), do: %{stop_on_error: false, kwargs: %{}, timeout: @default_timeout, call: []}

  def multi!(options, where) do
    # Calls of all sorts have keyword arguments of their own.
    known = if where == "Typhon.multi/3", do: @call_options -- [:kwargs], else: @call_options
    known!(options, known ++ @multi_options, where)
    {own, call} = Keyword.split(options, @multi_options)
    %{kwargs: kwargs, timeout: timeout} = call!(call)

    %{
      stop_on_error: check!(:stop_on_error, Keyword.get(own, :stop_on_error, false)),
      kwargs: kwargs,
      timeout: timeout,
      call: Keyword.drop(call, [:kwargs, :timeout])
    }
  end

  @spec stream!(keyword) :: %{kwargs: map, timeout: timeout, batch: pos_integer, routing: routing}
  def stream!(options) do
    known!(options, [:kwargs, :timeout, :batch, :keys, :values], "Typhon.stream/5")

    %{
      kwargs: check!(:kwargs, Keyword.get(options, :kwargs, %{})),
      timeout: check!(:timeout, Keyword.get(options, :timeout, @default_timeout)),
      batch: check!(:batch, Keyword.get(options, :batch, 1_024)),
      routing: routing(nil, 0, nil, text!(options))
    }
  end

  @spec send!(keyword) :: %{to: :one | :all | {:worker, non_neg_integer}, timeout: timeout}
  def send!(options) do
    known!(options, [:to, :timeout], "Typhon.send/3")

    to =
      case Keyword.get(options, :to, :one) do
        to when to in [:one, :all] -> to
        {:worker, key} -> {:worker, :erlang.phash2(key, 4_294_967_296)}
        other -> wrong!(:to, ":one, :all or {:worker, key}", other)
      end

    %{to: to, timeout: check!(:timeout, Keyword.get(options, :timeout, @default_timeout))}
  end

  @doc "`call` as for multi!/2."
  @spec map!(keyword) :: %{
          args: list,
          max_concurrency: pos_integer | nil,
          ordered: boolean,
          batch: pos_integer,
          on_error: :raise | :return | :skip,
          kwargs: map,
          timeout: timeout,
          call: keyword
        }
  def map!(options) do
    known!(options, @call_options ++ @map_options, "Typhon.map/5")
    {own, call} = Keyword.split(options, @map_options)
    %{kwargs: kwargs, timeout: timeout} = call!(call)

    %{
      args: check!(:args, Keyword.get(own, :args, [])),
      max_concurrency: check!(:max_concurrency, Keyword.get(own, :max_concurrency)),
      ordered: check!(:ordered, Keyword.get(own, :ordered, true)),
      batch: check!(:batch, Keyword.get(own, :batch, 1)),
      on_error: check!(:on_error, Keyword.get(own, :on_error, :raise)),
      kwargs: kwargs,
      timeout: timeout,
      call: Keyword.drop(call, [:kwargs, :timeout])
    }
  end

  @spec yield_many!(timeout | keyword) :: %{timeout: timeout, on_timeout: :nothing | :ignore | :kill_task}
  def yield_many!(options) when is_list(options) do
    known!(options, @yield_options, "Typhon.yield_many/2")

    %{
      timeout: check!(:timeout, Keyword.get(options, :timeout, @default_timeout)),
      on_timeout: check!(:on_timeout, Keyword.get(options, :on_timeout, :nothing))
    }
  end

  def yield_many!(timeout), do: %{timeout: check!(:timeout, timeout), on_timeout: :nothing}

  @spec timeout!(term) :: timeout
  def timeout!(timeout), do: check!(:timeout, timeout)

  @spec kwargs!(term) :: %{optional(String.t()) => term}
  def kwargs!(kwargs), do: check!(:kwargs, kwargs)

  @doc "Options of a pool that poolboy manages: one worker, found by its pid."
  @spec poolboy!(keyword) :: keyword
  def poolboy!(options) do
    known!(options, @start_options, "Typhon.Worker.start_link/1")

    if Keyword.get(options, :workers, 1) != 1 do
      raise ArgumentError,
            "workers: must be 1 for a worker of poolboy, got #{inspect(options[:workers])}. " <>
              "How many there are is poolboy's size: and max_overflow:"
    end

    if options[:name] != nil do
      raise ArgumentError,
            "name: is not for a worker of poolboy, got #{inspect(options[:name])}. " <>
              "The pool's name is poolboy's name:, and a worker is the pid that poolboy hands out"
    end

    Keyword.put(options, :workers, 1)
  end

  defp default(:name), do: nil
  defp default(:language), do: :python
  defp default(:isolation), do: Application.get_env(:typhon, :isolation, :process)
  defp default(:engine), do: Application.get_env(:typhon, :engine, :auto)
  defp default(:workers), do: System.schedulers_online()
  defp default(:python), do: "python3"
  defp default(:env), do: []
  defp default(:start_timeout), do: 30_000
  defp default(:grace), do: 1_000
  defp default(:shutdown), do: Application.get_env(:typhon, :shutdown, 5_000)
  defp default(:stdio), do: :caller
  defp default(:log_level), do: :warning
  defp default(:atoms), do: :existing
  defp default(:surrogates), do: :error
  defp default(name) when name in [:keys, :values], do: :atoms
  defp default(:spin), do: :auto
  defp default(:ring_size), do: 1_048_576
  defp default(:telemetry), do: true
  defp default(:concurrency), do: 1
  defp default(:idle_timeout), do: 60_000
  defp default(:preload), do: []
  defp default(:import_timeout), do: 120_000
  defp default(:init), do: []
  defp default(:max_calls), do: nil
  defp default(:max_memory), do: nil
  defp default(:max_restarts), do: nil
  defp default(:max_seconds), do: 60
  defp default(:limits), do: []
  defp default(:reload), do: false
  defp default(:results), do: :private
  defp default(:max_result), do: Application.get_env(:typhon, :max_result, 1_073_741_824)
  defp default(:max_held), do: :auto
  defp default(:allow), do: :all
  defp default(:send_to), do: []
  defp default(:max_mailbox), do: 100_000
  defp default(:max_queue), do: :infinity
  defp default(:retry), do: 0

  defp check!(:name, nil), do: nil
  defp check!(:name, name) when is_atom(name) and not is_boolean(name), do: name
  defp check!(:name, {:global, _} = name), do: name
  defp check!(:name, {:via, module, _} = name) when is_atom(module), do: name

  defp check!(:name, other),
    do: wrong!(:name, "an atom, {:global, term} or {:via, module, term}", other)

  defp check!(:language, language), do: language

  defp check!(:isolation, isolation) when isolation in [:process, :interpreter], do: isolation

  defp check!(:isolation, :node) do
    raise ArgumentError,
          "isolation: :node does not exist yet. isolation: :process (the default) and :interpreter do"
  end

  defp check!(:isolation, other), do: wrong!(:isolation, ":process or :interpreter", other)

  defp check!(:engine, engine) when engine in [:auto, :namespaces, :subinterpreters, :threads], do: engine
  defp check!(:engine, other), do: wrong!(:engine, ":auto, :namespaces, :subinterpreters or :threads", other)

  defp check!(:workers, count) when is_integer(count) and count > 0, do: count
  defp check!(:workers, %Range{first: min, last: max, step: 1}) when min > 0 and min <= max, do: {min, max}

  # As Erlang writes it.
  defp check!(:workers, {min, max}) when is_integer(min) and is_integer(max) and min > 0 and min <= max,
    do: {min, max}

  defp check!(:workers, other), do: wrong!(:workers, "a positive integer or a range such as 2..8", other)

  defp check!(:idle_timeout, timeout) when is_integer(timeout) and timeout > 0, do: timeout

  defp check!(:idle_timeout, other),
    do: wrong!(:idle_timeout, "a positive integer (milliseconds)", other)

  defp check!(:preload, modules) when is_list(modules), do: Enum.map(modules, &preload!/1)
  defp check!(:preload, module), do: [preload!(module)]

  defp check!(:import_timeout, :infinity), do: :infinity
  defp check!(:import_timeout, time) when is_integer(time) and time >= 0, do: time

  defp check!(:import_timeout, other),
    do: wrong!(:import_timeout, "a non-negative integer (milliseconds) or :infinity", other)

  defp check!(:init, steps) when is_list(steps), do: Enum.map(steps, &init_step!/1)
  defp check!(:init, step), do: [init_step!(step)]

  defp check!(name, nil) when name in [:max_calls, :max_memory, :max_restarts], do: nil
  defp check!(:max_calls, count) when is_integer(count) and count > 0, do: count
  defp check!(:max_calls, other), do: wrong!(:max_calls, "a positive integer", other)
  defp check!(:max_memory, bytes) when is_integer(bytes) and bytes > 0, do: bytes
  defp check!(:max_memory, other), do: wrong!(:max_memory, "a positive integer (bytes)", other)
  defp check!(:max_restarts, :infinity), do: :infinity
  defp check!(:max_restarts, count) when is_integer(count) and count >= 0, do: count

  defp check!(:max_restarts, other),
    do: wrong!(:max_restarts, "a non-negative integer or :infinity", other)

  defp check!(:max_seconds, seconds) when is_integer(seconds) and seconds > 0, do: seconds
  defp check!(:max_seconds, other), do: wrong!(:max_seconds, "a positive integer (seconds)", other)

  defp check!(:limits, limits) do
    limits = if is_map(limits), do: Map.to_list(limits), else: limits
    known!(limits, @limits, "limits:")
    Map.new(limits, fn {name, value} -> {name, limit!(name, value)} end)
  end

  defp check!(:reload, flag) when is_boolean(flag), do: flag
  defp check!(:reload, other), do: wrong!(:reload, "true or false", other)

  defp check!(:results, results) when results in [:private, :shared], do: results
  defp check!(:results, other), do: wrong!(:results, ":private or :shared", other)

  defp check!(name, :infinity) when name in [:max_result, :max_held], do: :infinity
  defp check!(:max_held, :auto), do: :auto

  defp check!(name, bytes)
       when name in [:max_result, :max_held] and is_integer(bytes) and bytes >= @min_result,
       do: bytes

  defp check!(:max_result, other),
    do: wrong!(:max_result, "an integer from #{@min_result} (bytes) or :infinity", other)

  defp check!(:max_held, other),
    do: wrong!(:max_held, ":auto, an integer from #{@min_result} (bytes) or :infinity", other)

  defp check!(:python, path),
    do: path!(path, :python, "the name of a command, or the path of an interpreter or a virtualenv")

  defp check!(:env, env) when is_map(env) or is_list(env), do: Enum.map(env, &variable!/1)

  defp check!(:env, other),
    do: wrong!(:env, "a map or a list of {name, value}", other)

  defp check!(:start_timeout, timeout) when is_integer(timeout) and timeout > 0, do: timeout
  defp check!(:start_timeout, :infinity), do: :infinity

  defp check!(:start_timeout, other),
    do: wrong!(:start_timeout, "a positive integer (milliseconds) or :infinity", other)

  defp check!(name, time) when name in [:grace, :shutdown] and is_integer(time) and time >= 0, do: time

  defp check!(name, other) when name in [:grace, :shutdown],
    do: wrong!(name, "a non-negative integer (milliseconds)", other)

  defp check!(:log_level, level) when level in [:debug, :info, :warning, :error, :critical], do: level

  defp check!(:log_level, other),
    do: wrong!(:log_level, ":debug, :info, :warning, :error or :critical", other)

  defp check!(:stdio, stdio) when stdio in [:caller, :group_leader, :logger, :discard], do: stdio
  defp check!(:stdio, pid) when is_pid(pid), do: pid

  defp check!(:stdio, other),
    do: wrong!(:stdio, ":caller, :group_leader, :logger, :discard or the pid of an I/O device", other)

  defp check!(:atoms, atoms) when atoms in [:existing, :create], do: atoms
  defp check!(:atoms, other), do: wrong!(:atoms, ":existing or :create", other)

  defp check!(name, what) when name in [:keys, :values] and what in [:atoms, :strings], do: what
  defp check!(name, other) when name in [:keys, :values], do: wrong!(name, ":atoms or :strings", other)

  defp check!(:surrogates, what) when what in [:error, :bytes, :replace], do: what
  defp check!(:surrogates, other), do: wrong!(:surrogates, ":error, :bytes or :replace", other)

  defp check!(:spin, :auto), do: :auto
  defp check!(:spin, spin) when is_integer(spin) and spin >= 0, do: spin

  defp check!(:spin, other),
    do: wrong!(:spin, ":auto or a non-negative integer (microseconds)", other)

  defp check!(:ring_size, size)
       when is_integer(size) and size >= @min_ring and size <= @max_ring and
              Bitwise.band(size, size - 1) == 0,
       do: size

  defp check!(:ring_size, other),
    do: wrong!(:ring_size, "a power of two from #{@min_ring} to #{@max_ring} (bytes)", other)

  defp check!(:telemetry, flag) when is_boolean(flag), do: flag
  defp check!(:telemetry, other), do: wrong!(:telemetry, "true or false", other)

  defp check!(:allow, :all), do: :all

  defp check!(:allow, list) when is_list(list) do
    for entry <- list do
      case entry do
        {module, function, arity}
        when is_atom(module) and is_atom(function) and
               (arity == :_ or (is_integer(arity) and arity in 0..255)) ->
          entry

        other ->
          wrong!(:allow, "a list of {module, function, arity}, each of them also :_", other)
      end
    end
  end

  defp check!(:allow, other), do: wrong!(:allow, ":all or a list of {module, function, arity}", other)

  defp check!(:send_to, list) when is_list(list) do
    for to <- list do
      case to do
        pid when is_pid(pid) -> pid
        name when is_atom(name) and name not in [nil, true, false] -> name
        {name, node} when is_atom(name) and is_atom(node) -> to
        other -> wrong!(:send_to, "a list of pids, registered names and {name, node}", other)
      end
    end
  end

  defp check!(:send_to, other),
    do: wrong!(:send_to, "a list of pids, registered names and {name, node}", other)

  defp check!(:max_mailbox, count) when count == :infinity or (is_integer(count) and count > 0), do: count
  defp check!(:max_mailbox, other), do: wrong!(:max_mailbox, "a positive integer or :infinity", other)

  defp check!(:concurrency, count) when is_integer(count) and count in 1..256, do: count
  defp check!(:concurrency, other), do: wrong!(:concurrency, "an integer from 1 to 256", other)

  defp check!(:max_queue, :infinity), do: :infinity
  defp check!(:max_queue, count) when is_integer(count) and count in 0..0xFFFF_FFFF, do: count
  defp check!(:max_queue, other), do: wrong!(:max_queue, "a non-negative integer or :infinity", other)

  defp check!(:retry, count) when is_integer(count) and count >= 0, do: count
  defp check!(:retry, other), do: wrong!(:retry, "a non-negative integer", other)

  defp check!(:timeout, :infinity), do: :infinity

  defp check!(:timeout, timeout)
       when is_integer(timeout) and timeout >= 0 and timeout <= @max_timeout,
       do: timeout

  defp check!(:timeout, other),
    do:
      wrong!(
        :timeout,
        "an integer from 0 to #{@max_timeout} (milliseconds) or :infinity",
        other
      )

  defp check!(:stop_on_error, flag) when is_boolean(flag), do: flag
  defp check!(:stop_on_error, other), do: wrong!(:stop_on_error, "true or false", other)

  defp check!(:args, args) when length(args) >= 0, do: args
  defp check!(:args, other), do: wrong!(:args, "a list of further arguments", other)

  defp check!(:max_concurrency, nil), do: nil
  defp check!(:max_concurrency, count) when is_integer(count) and count > 0, do: count
  defp check!(:max_concurrency, other), do: wrong!(:max_concurrency, "a positive integer", other)

  defp check!(:ordered, flag) when is_boolean(flag), do: flag
  defp check!(:ordered, other), do: wrong!(:ordered, "true or false", other)

  defp check!(:batch, count) when is_integer(count) and count > 0, do: count
  defp check!(:batch, other), do: wrong!(:batch, "a positive integer (elements in a request)", other)

  defp check!(:on_error, what) when what in [:raise, :return, :skip], do: what
  defp check!(:on_error, other), do: wrong!(:on_error, ":raise, :return or :skip", other)

  defp check!(:on_timeout, what) when what in [:nothing, :ignore, :kill_task], do: what
  defp check!(:on_timeout, other), do: wrong!(:on_timeout, ":nothing, :ignore or :kill_task", other)

  defp check!(:kwargs, kwargs) when kwargs == %{} or kwargs == [], do: %{}

  defp check!(:kwargs, kwargs)
       when (is_map(kwargs) and not is_struct(kwargs)) or is_list(kwargs) do
    Enum.reduce(kwargs, %{}, fn
      {key, value}, map when is_binary(key) ->
        keyword!(map, key, value)

      {key, value}, map when is_atom(key) ->
        keyword!(map, Atom.to_string(key), value)

      {key, _}, _ ->
        raise ArgumentError,
              "the names in kwargs: must be atoms or strings, got #{inspect(key)}"

      other, _ ->
        raise ArgumentError,
              "kwargs: must be a map or a keyword list, it has the element #{inspect(other)}"
    end)
  end

  defp check!(:kwargs, other), do: wrong!(:kwargs, "a map or a keyword list", other)

  defp keyword!(map, key, _) when is_map_key(map, key),
    do: raise(ArgumentError, "kwargs: names #{inspect(key)} twice")

  defp keyword!(map, key, value), do: Map.put(map, key, value)

  defp preload!(module) when is_binary(module) and module != "", do: module
  defp preload!(module) when is_atom(module) and module not in [nil, true, false], do: Atom.to_string(module)

  defp preload!(other),
    do: wrong!(:preload, "the name of a Python module, an atom or a string, or a list of those", other)

  defp init_step!(code) when is_binary(code), do: {:code, code}

  defp init_step!({module, function, args})
       when (is_atom(module) or is_binary(module)) and (is_atom(function) or is_binary(function)) and
              is_list(args),
       do: {:call, module, function, args}

  defp init_step!(other) do
    wrong!(:init, "{module, function, arguments}, a string of Python code, or a list of those", other)
  end

  defp limit!(:memory, bytes) when is_integer(bytes) and bytes >= @min_memory, do: bytes
  defp limit!(:cpu_time, seconds) when is_integer(seconds) and seconds > 0, do: seconds
  defp limit!(:open_files, count) when is_integer(count) and count >= @min_files, do: count
  defp limit!(:nice, nice) when is_integer(nice) and nice in -20..19, do: nice

  defp limit!(:memory, other), do: wrong!("limits: memory", "an integer from #{@min_memory} (bytes)", other)
  defp limit!(:cpu_time, other), do: wrong!("limits: cpu_time", "a positive integer (seconds)", other)
  defp limit!(:open_files, other), do: wrong!("limits: open_files", "an integer from #{@min_files}", other)
  defp limit!(:nice, other), do: wrong!("limits: nice", "an integer from -20 to 19", other)

  defp variable!({name, value}) when is_atom(name) and name != nil,
    do: variable!({Atom.to_string(name), value})

  defp variable!({name, value})
       when is_binary(name) and name != "" and (is_binary(value) or value in [nil, false]) do
    if String.contains?(name, ["=", "\0"]) or (is_binary(value) and String.contains?(value, "\0")) do
      raise ArgumentError,
            "env: a name must not contain = and neither name nor value a NUL, got #{inspect({name, value})}"
    end

    unless String.valid?(name) and (value in [nil, false] or String.valid?(value)) do
      raise ArgumentError, "env: names and values must be UTF-8, got #{inspect({name, value})}"
    end

    {name, value || nil}
  end

  defp variable!(other) do
    raise ArgumentError,
          "env: must hold {name, value} with a string or atom and a string (nil unsets the variable), " <>
            "got #{inspect(other)}"
  end

  defp python_path!(dirs, cd) when is_list(dirs) do
    Enum.map(dirs, fn dir ->
      dir |> path!(:python_path, "a list of directories") |> Path.expand(cd)
    end)
  end

  defp python_path!(other, _), do: wrong!(:python_path, "a list of directories", other)

  defp path!(path, _name, _allowed) when is_binary(path) and path != "", do: path

  # A charlist, as Erlang writes strings.
  defp path!([_ | _] = path, name, allowed) do
    if List.ascii_printable?(path), do: List.to_string(path), else: wrong!(name, allowed, path)
  end

  defp path!(other, name, allowed), do: wrong!(name, allowed, other)

  @spec wrong!(atom | String.t(), String.t(), term) :: no_return
  defp wrong!(name, allowed, given),
    do: raise(ArgumentError, "#{name}: must be #{allowed}, got #{inspect(given)}")

  defp known!(options, known, where) do
    unless Keyword.keyword?(options) do
      raise ArgumentError,
            "the options of #{where} must be a keyword list, got #{inspect(options)}"
    end

    case Enum.find(options, fn {name, _} -> name not in known end) do
      nil -> :ok
      {name, _} -> raise ArgumentError, unknown(name, known, where)
    end
  end

  defp unknown(name, known, where) do
    {nearest, distance} =
      known
      |> Enum.map(&{&1, String.jaro_distance(Atom.to_string(&1), Atom.to_string(name))})
      |> Enum.max_by(&elem(&1, 1))

    "#{where} has no option #{inspect(name)}" <>
      if(distance > 0.77, do: ", did you mean #{inspect(nearest)}?", else: ".") <>
      " It takes #{Enum.map_join(known, ", ", &inspect/1)}"
  end
end
