defmodule Typhon.Options.Pool do
  @moduledoc false
  # The options of a pool. Errors list them in this order; the documentation has them by groups.

  use Typhon.Options.Option, scope: [:pool]

  alias Typhon.Options.{Check, Option}

  # As Python counts them.
  @log_levels [debug: 10, info: 20, warning: 30, error: 40, critical: 50]
  # Replacements in max_seconds, for each worker, that no crash loop gets along with.
  @restarts_each 10
  # Error terms must get through in any case.
  @min_result 65_536

  @spec log_levels :: [{:debug | :info | :warning | :error | :critical, pos_integer}]
  def log_levels, do: @log_levels

  @doc "That of a record of Python's logging, which may be below all of them."
  @spec log_level(String.t()) :: :debug | :info | :warning | :error | :critical
  def log_level(name), do: Enum.find(Keyword.keys(@log_levels), :debug, &(Atom.to_string(&1) == name))

  @doc "What max_restarts: is, for each worker, where nothing is said."
  @spec restarts_each :: pos_integer
  def restarts_each, do: @restarts_each

  @doc "The headings of the documentation."
  @spec groups :: [{atom, String.t()}]
  def groups do
    [
      pool: "The pool",
      place: "Where Python runs",
      start: "How a worker starts",
      time: "Deadlines and the end",
      replace: "When a worker is replaced",
      bounds: "Limits and results",
      values: "Values",
      beam: "What Python may do on the BEAM",
      output: "What Python prints",
      speed: "Speed",
      ruby: "With `language: :ruby`"
    ]
  end

  option(:name,
    group: :pool,
    check: [
      {:value, "an atom, {:global, term} or {:via, module, term}", &Check.name/1,
       quote(do: atom | {:global, term} | {:via, module, term})}
    ],
    default_doc: "none",
    doc: "an atom, `{:global, term}` or `{:via, module, term}` under which the pool is registered"
  )

  option(:language,
    group: :place,
    check: [:python, :ruby],
    default: :python,
    doc: """
    `:ruby`: the workers are Rubies (`docs/ruby.md`), with the options `:ruby`, `:ruby_path` and `:require` instead of
    those that speak of Python
    """
  )

  option(:isolation,
    group: :place,
    check: [:process, :interpreter],
    default: {:config, :isolation, :process},
    doc: """
    `:process`: each Python is a process of the operating system. `:interpreter`: each is a whole CPython inside the
    VM, with a GIL of its own; a crash takes the VM down, and there can be 15. Needs Linux with glibc, and a Python
    with a shared library (`Typhon.Env.describe/1` tells). Without `:max_memory`, and of the `:limits` with `:memory`
    alone
    """
  )

  option(:engine,
    group: :place,
    language: :python,
    check: [:auto, :namespaces, :subinterpreters, :threads],
    default: {:config, :engine, :auto},
    doc: """
    with `isolation: :interpreter`, `:namespaces`: each worker is a CPython of its own; `:subinterpreters`: each is an
    interpreter with a GIL of its own in one CPython, light, for pure Python (3.12 or newer); `:threads`: one CPython,
    in which as many threads as `:workers` says take calls, for work that waits, or a Python without a GIL. `:auto`
    takes `:threads` for a free-threaded Python, else `:namespaces`
    """
  )

  option(:workers,
    group: :pool,
    check: [
      positive(),
      {:value, "a range such as 2..8", &Check.range/1, quote(do: Range.t() | {pos_integer, pos_integer})}
    ],
    result: quote(do: pos_integer),
    default: {:result, &System.schedulers_online/0},
    default_doc: "`System.schedulers_online()`, one for each core",
    doc: """
    how many Pythons; or a range such as `2..8`: the pool starts the least, starts more of them when calls find none
    idle, and ends those that have had no call for `:idle_timeout`
    """
  )

  option(:python,
    group: :place,
    language: :python,
    check: [
      {:value, "the name of a command, or the path of an interpreter or a virtualenv", &Check.path/1,
       quote(do: Path.t())}
    ],
    result: quote(do: String.t()),
    default: "python3",
    doc: """
    the interpreter, 3.11 or newer: a command on the `PATH`, the path of an interpreter, or the directory of a
    virtualenv
    """
  )

  option(:python_path,
    group: :place,
    language: :python,
    check: [{:value, "a list of directories", &Check.paths/1, quote(do: [Path.t()])}],
    result: quote(do: [String.t()]),
    default: [],
    doc: """
    directories that are searched for modules before Python's own, a list; each must be there. Archives (zip) may be
    among them. The current directory is one only if it is in the list
    """
  )

  option(:env,
    group: :place,
    check: [{:value, "a map or a list of {name, value}", &Check.env/1, quote(do: Enumerable.t())}],
    result: quote(do: [{String.t(), String.t() | nil}]),
    default: [],
    doc: "environment variables for the workers, a map or a list of `{name, value}`; nil unsets"
  )

  option(:cd,
    group: :place,
    check: [{:value, "a directory", &Check.path/1, quote(do: Path.t())}],
    result: quote(do: String.t()),
    default: ".",
    default_doc: "the current one",
    doc: "the directory the workers run in, to which relative paths in the other options refer"
  )

  option(:start_timeout,
    group: :start,
    check: [positive("milliseconds"), :infinity],
    default: 30_000,
    doc: "milliseconds in which a worker must be ready, or `:infinity`"
  )

  option(:grace,
    group: :time,
    check: [non_negative("milliseconds")],
    default: 1_000,
    doc: """
    milliseconds that a call may go on after its deadline, when the `typhon.Cancelled` raised in it does not end it,
    before its worker is killed and replaced. An import has the time of `:import_timeout` instead, and what follows it
    has the grace from its end on
    """
  )

  option(:shutdown,
    group: :time,
    check: [non_negative("milliseconds")],
    default: {:config, :shutdown, 5_000},
    doc: """
    milliseconds that calls and casts may go on when the pool's supervisor ends it, as on SIGTERM (`System.stop/0`).
    New ones are refused then, as by `drain/2`; those that are left get their errors. `stop/2` does not wait for them
    """
  )

  option(:stdio,
    group: :output,
    check: [
      :caller,
      :group_leader,
      :logger,
      :discard,
      {:value, "the pid of an I/O device", &Check.pid/1, quote(do: pid)}
    ],
    default: :caller,
    doc: """
    where goes what Python prints, line by line. `:caller`: what a call prints goes to the group leader of its caller,
    what is printed outside of any call, or by C code and child processes, to Logger. Else all of it goes to the
    `:group_leader` of the process that calls `start_link/1`, to `:logger`, to the pid of an I/O device, or nowhere:
    `:discard`. Python's `warnings` go to Logger in any case, and so does its `logging` where it would write to
    stderr. While an I/O device or Logger is slow, whoever prints waits; when it hangs, lines are dropped after five
    seconds
    """
  )

  option(:log_level,
    group: :output,
    language: :python,
    check: Keyword.keys(@log_levels),
    default: :warning,
    default_doc: "`:warning`, as in Python",
    doc: """
    from which level on records of Python's `logging` go to Logger: `:debug`, `:info`, `:warning`, `:error` or
    `:critical`. Python code that configures logging itself (`logging.basicConfig(…)`, handlers) has its way
    """
  )

  option(:atoms,
    group: :values,
    check: [:existing, :create],
    default: :existing,
    doc: """
    whether results may bring atoms that do not exist yet: `:existing` (others are an error) or `:create`, for Python
    that you trust: atoms are never freed, and the VM ends when it has 1,048,576. When Python has brought half as many
    as there was room for when the first pool started, new ones are an error here, too
    """
  )

  option(:surrogates,
    group: :values,
    language: :python,
    check: [:error, :bytes, :replace],
    default: :error,
    doc: """
    what becomes of a `str` with lone surrogates, which no string of Elixir can hold. Python makes them of file names,
    arguments and environment variables that are not UTF-8 (`os.listdir`). `:error`: a `Typhon.EncodeError`; `:bytes`:
    it arrives as the bytes that the name consists of, which `bytes/1` takes back to Python as `bytes`; `:replace`:
    with U+FFFD for each of them
    """
  )

  option(:tagged,
    group: :values,
    language: :python,
    check: [true, false],
    default: false,
    doc: """
    true: a `Fraction` of Python's is `{:fraction, numerator, denominator}` and a `complex` `{:complex, real, imaginary}`,
    both ways (with `:nan`, `:infinity` and `:neg_infinity` as parts of the latter). They are handles otherwise
    """
  )

  option(:keys,
    group: :values,
    check: [:atoms, :strings],
    default: :atoms,
    doc: """
    what the atoms become in Python that are keys of maps, at any depth of arguments, answers to what Python asks, and
    messages: `:atoms` (`typhon.Atom`) or `:strings` (`str`). `nil`, `true` and `false` are `None`, `True` and `False`
    in any case. A map that has an atom and the string of its name as keys is refused then. The structs of the table
    above are not touched. What Python sends back are strings. A call may say otherwise, see `call/5`
    """
  )

  option(:values,
    group: :values,
    check: [:atoms, :strings],
    default: :atoms,
    doc: """
    the same for all other atoms: elements of lists, tuples and sets, values of maps, and atoms in a key that is a
    tuple
    """
  )

  option(:spin,
    group: :speed,
    check: [:auto, non_negative("microseconds")],
    default: :auto,
    doc: """
    microseconds for which both sides watch the shared memory before they sleep, or `:auto`. `0` saves processor time
    and costs latency
    """
  )

  option(:ring_size,
    group: :speed,
    check: [power_of_two(65_536, 67_108_864, "bytes")],
    default: 1_048_576,
    doc: """
    bytes of each worker's request and reply ring, a power of two from 65,536 to 67,108,864. What is larger than the
    ring travels beside it
    """
  )

  option(:telemetry,
    group: :speed,
    check: [true, false],
    default: true,
    doc: """
    false: no events for calls of this pool, also when `:telemetry` is there, which saves a call about a microsecond
    """
  )

  option(:concurrency,
    group: :pool,
    language: :python,
    check: [integer(1, 256, nil)],
    default: 1,
    doc: """
    how many calls a worker runs at the same time, on threads that share its GIL: for functions that wait. A call in a
    thread other than the main one cannot be interrupted in a system call. Coroutine functions need no threads: their
    calls are awaited in the worker's event loop, as many as there are
    """
  )

  option(:allow,
    group: :beam,
    check: [
      :all,
      {:value, "a list of {module, function, arity}", &Check.allow/1, quote(do: [{module, atom, arity | :_}])}
    ],
    default: :all,
    doc: """
    what Python may call on the BEAM (`typhon.call`): `:all`, or a list of `{module, function, arity}`, each of which
    may be `:_`. Functions that are arguments of the call may be called in any case. With `:all` Python may do
    whatever Elixir code may: run shell commands, stop the VM, send to any process. With a list it is confined to
    that: nothing else is called, loaded or made an atom, results and messages hold no functions but those of the list
    and those that it was handed, and `typhon.send` reaches what `:send_to` says, with no message by which OTP, the
    emulator or Typhon control processes: tuples that begin with `:system`, `:EXIT`, `:DOWN`, `:io_request`,
    `:typhon`, an atom with `$` in front and the like, requests to event managers (`{_, _, :stop}`), and tuples whose
    first or second element is a reference that it was not handed. A reference that it was handed it may answer by.
    What it sends to `typhon.self()` may be anything, and goes to its mailbox only, also with `:all`. A list does not
    confine what the worker's process does by itself (files, network, `kill` of processes of the same user)
    """
  )

  option(:send_to,
    group: :beam,
    check: [
      {:value, "a list of pids, registered names and {name, node}", &Check.addresses/1,
       quote(do: [pid | atom | {atom, node}])}
    ],
    default: [],
    doc: """
    with a list as `:allow`, where messages of Python (`typhon.send`) may go beside what its worker was handed: a list
    of registered names, pids and `{name, node}`. Handed is each pid, reference and function in arguments, messages
    and answers, and each atom there that is no key of a map. Others are a `typhon.BeamError`
    """
  )

  option(:max_mailbox,
    group: :beam,
    check: [positive(), :infinity],
    default: 100_000,
    doc: """
    about how many messages may wait in a process that Python sends to; it is looked at after each 256 of them. Beyond
    them Python waits; when none is read for five seconds, its worker is ended with a `Typhon.WorkerError`, reason
    `:flood`. With an `:allow` list Python gets a `typhon.BeamError` instead. Of messages of 256 KiB and more about
    256 MiB may wait there, if that is less. Or `:infinity`
    """
  )

  option(:max_queue,
    group: :pool,
    # The native library counts them in 32 bits.
    check: [{:integer, 0, 0xFFFF_FFFF, "a non-negative integer"}, :infinity],
    default: :infinity,
    doc: """
    how many calls may wait while every worker is busy. One more is refused at once with a `Typhon.OverloadError`.
    Callers on several cores at the same moment may each get in as the last one
    """
  )

  option(:idle_timeout,
    group: :pool,
    check: [positive("milliseconds")],
    default: 60_000,
    doc: "milliseconds without a call after which a worker beyond the least is ended"
  )

  option(:preload,
    group: :start,
    language: :python,
    check: [
      {:value, "the name of a Python module, an atom or a string, or a list of those", &Check.modules/1,
       quote(do: name | [name])}
    ],
    result: quote(do: [String.t()]),
    default: [],
    default_doc: "none",
    doc: """
    modules that each new worker imports before it takes calls, and before `:init`: names as atoms or strings, a list
    or a single one, such as `["pandas", "sklearn.linear_model"]`. They count towards `:start_timeout`. When one is
    missing or raises, the worker counts as one that cannot be started
    """
  )

  option(:import_timeout,
    group: :time,
    language: :python,
    check: [non_negative("milliseconds"), :infinity],
    default: 120_000,
    doc: """
    milliseconds that an import may go on after the deadline of the call that it is made for, or `:infinity`. A call
    whose time runs out while Python imports a module gets a `Typhon.TimeoutError` that says so, in time; the import
    is not interrupted, so that later calls find the module. When it takes longer than this, its worker is killed and
    replaced
    """
  )

  option(:init,
    group: :start,
    check: [
      {:value, "{module, function, arguments}, a string of Python code, or a list of those", &Check.steps/1,
       quote(do: init_step | [init_step])}
    ],
    result: quote(do: [Typhon.Worker.Steps.step()]),
    default: [],
    default_doc: "nothing",
    doc: """
    what each new worker runs before it takes calls: `{module, function, arguments}`, a string of Python code (it runs
    in `__main__`), or a list of those. It counts towards `:start_timeout`. When it raises, the worker counts as one
    that cannot be started
    """
  )

  option(:max_calls,
    group: :replace,
    check: [positive()],
    default_doc: "never",
    doc: """
    after about so many calls a worker is replaced by a new one. No call is lost: the new one is ready before the old
    one takes no more. Objects that live in the old one are gone
    """
  )

  option(:max_memory,
    group: :replace,
    check: [positive("bytes")],
    default_doc: "no bound",
    doc: """
    the same for a worker whose process holds more than so many bytes, what it shares with the BEAM not counted. A
    busy worker is looked at every second
    """
  )

  option(:max_restarts,
    group: :replace,
    check: [non_negative(), :infinity],
    result: quote(do: non_neg_integer | :infinity),
    default_doc: "#{@restarts_each} for each worker",
    doc: """
    when Pythons end by themselves, or cannot be started, more often than that in `:max_seconds`, the pool stops with
    the reason `{:shutdown, %Typhon.PoolError{reason: {:down, error}}}`, and whoever supervises it decides. What the
    pool ends itself (a call beyond its `:grace`, a worker that is replaced) does not count. `:infinity`: it tries for
    ever. A Python that keeps ending is started again at growing intervals in any case
    """
  )

  option(:max_seconds,
    group: :replace,
    check: [positive("seconds")],
    default: 60,
    doc: "the seconds in which `:max_restarts` counts"
  )

  @limits [
    Option.new(:memory,
      scope: [:limits],
      # With less Python does not start.
      check: [integer(1_048_576, :infinity, "bytes")],
      doc: """
      bytes. Counted is the address space beyond what Python has mapped when it starts: an allocation beyond it is a
      `MemoryError` in Python. What a result takes on its way counts, too. Where a control group (cgroup v2) is
      delegated to the BEAM, the worker gets one of its own with that limit, too. With `isolation: :interpreter`
      what Python's allocators hold is counted instead, see `docs/isolation.md`
      """
    ),
    Option.new(:cpu_time,
      scope: [:limits],
      check: [positive("seconds")],
      doc: """
      seconds of processor time for the whole life of the worker's process; then it is ended, the call it had gets a
      `Typhon.WorkerError` with the reason `{:limit, :cpu_time}`, and another one takes its place
      """
    ),
    Option.new(:open_files,
      scope: [:limits],
      # With fewer Python does not start.
      check: [integer(32, :infinity, nil)],
      doc: "file descriptors, of which Python and Typhon need about a dozen"
    ),
    Option.new(:nice,
      scope: [:limits],
      check: [integer(-20, 19, nil)],
      doc: "the priority, from 19 (lowest) to -20, below 0 for a privileged user only"
    )
  ]

  option(:limits,
    group: :bounds,
    check: [{:keys, @limits}],
    result: quote(do: %{optional(atom) => integer}),
    default: [],
    default_doc: "none",
    doc: "what the operating system gives a worker at most, set before any user code runs"
  )

  option(:reload,
    group: :start,
    language: :python,
    check: [true, false],
    default: false,
    doc: """
    true: the files below `:python_path` are looked at every second, and modules that have changed are reloaded in the
    workers, see `reload/3`. For development
    """
  )

  option(:results,
    group: :bounds,
    check: [:private, :shared],
    default: :private,
    doc: """
    `:private`: the VM copies what comes from a worker before it looks at it. `:shared`, **unsafe**: large binaries
    are not copied and lie in memory that the worker can write to at any time. A bug in native code there, or an
    attacker, can then change binaries that Elixir already has, and so crash the whole VM. For workers that run
    nothing but code you would also load as a NIF. With `isolation: :process` alone
    """
  )

  option(:max_result,
    group: :bounds,
    check: [integer(@min_result, :infinity, "bytes"), :infinity],
    default: {:config, :max_result, 1_073_741_824},
    default_doc: "one GiB, or what `config :typhon, max_result: …` says",
    doc: """
    bytes that one result (of `multi/3` and of a batch: all of its results together) may take, on its way and as a
    term of Elixir, also when it comes compressed; or `:infinity`. The same holds for a message and a question of
    Python's. What is larger is an error that names this option: a `Typhon.EncodeError` when Python sees it, a
    `Typhon.DecodeError` when the VM does. An exception is cut to what fits, with a note. Calls of `multi` and `map`
    that travel together count as one: of what Python sees, that which is too large or has no room beside those before
    it is an error by itself; what only the VM sees is the error of all of them. Large binaries inside the VM do not
    count, as nothing is made of them
    """
  )

  option(:max_held,
    group: :bounds,
    check: [:auto, integer(@min_result, :infinity, "bytes"), :infinity],
    default: :auto,
    doc: """
    bytes that the large results of one worker may take at the same time, those whose binaries Elixir still refers to
    (`info/1` counts them). One more is a `Typhon.DecodeError`. Whatever it says, those of all workers take half of
    the machine's memory at most. `:auto`: a quarter of it
    """
  )

  option(:ruby,
    group: :ruby,
    language: :ruby,
    check: [
      {:value, "the name of a command, or the path of an interpreter", &Check.path/1, quote(do: Path.t())}
    ],
    default: "ruby",
    doc: "the interpreter, 3.1 or newer: a command on the `PATH`, or the path of an interpreter"
  )

  option(:ruby_path,
    group: :ruby,
    language: :ruby,
    check: [{:value, "a list of directories", &Check.paths/1, quote(do: [Path.t()])}],
    default: [],
    doc: "directories for `$LOAD_PATH`, a list"
  )

  option(:require,
    group: :ruby,
    language: :ruby,
    check: [
      {:value, "a string or a list of strings", &Check.features/1, quote(do: String.t() | [String.t()])}
    ],
    default: [],
    default_doc: "none",
    doc: """
    libraries, or files as `"./lib/app"`, that each new worker loads before `:init`: a string or a list of strings
    """
  )
end
