defmodule Typhon.Options.Calls do
  @moduledoc false
  # The options of the functions that work with a pool. Errors and documentation have those of a function in this order.

  use Typhon.Options.Option

  alias Typhon.Options.Check
  alias Typhon.Structs

  @default_timeout Application.compile_env(:typhon, :timeout, 5_000)

  @spec default_timeout :: timeout
  def default_timeout, do: @default_timeout

  @kwargs [
    check: [
      {:value, "a map or a keyword list", &Check.kwargs/1,
       quote(do: %{optional(name) => term} | [{name, term}])}
    ],
    result: quote(do: %{optional(String.t()) => term}),
    default: %{},
    default_doc: "none"
  ]

  @timeout [
    # What `receive … after` accepts.
    check: [integer(0, 0xFFFF_FFFF, "milliseconds"), :infinity],
    type: quote(do: timeout),
    default: @default_timeout
  ]

  option(
    :kwargs,
    @kwargs ++
      [
        scope: [:call, :cast, :stream],
        as_of: [:call_object],
        doc: "keyword arguments, a map or a keyword list"
      ]
  )

  option(
    :kwargs,
    @kwargs ++ [scope: [:multi, :map], doc: "keyword arguments of every call, a map or a keyword list"]
  )

  option(:to,
    scope: [:send],
    check: [:one, :all, {:value, "{:worker, key}", &Check.worker/1, quote(do: {:worker, term})}],
    result: quote(do: :one | :all | {:worker, non_neg_integer}),
    default: :one,
    doc: "`:one`, the least loaded worker; `:all` workers; or `{:worker, key}`, that of a key (see `call/5`)"
  )

  for fields <- [
        [
          scope: [:call],
          as_of: [:eval, :exec_file, :scope, :put, :names, :object, :call_object, :render, :save],
          default_doc:
            "`5_000`, unless `config :typhon, timeout: 10_000` says otherwise when Typhon is compiled",
          doc: """
          milliseconds for the whole call, or `:infinity`. In a callback no more than is left of the call that it
          belongs to. When it is over, the caller gets a `Typhon.TimeoutError`, and the call is interrupted in Python
          (see `:grace` of `start_link/1`). The time that it waits for a worker counts; a call whose time is up while
          it waits is not run
          """
        ],
        [
          scope: [:cast],
          doc: """
          milliseconds in which the request must be taken by a worker, when all have more waiting than they can hold,
          and in which Python must have begun with it
          """
        ],
        [
          scope: [:run],
          doc: """
          milliseconds to wait for a worker, and for the end of what runs there, or `:infinity`. The function itself may
          take any time
          """
        ],
        [scope: [:yield_many], doc: "milliseconds, or `:infinity`"],
        [scope: [:multi, :multi_each], doc: "milliseconds for all calls together, or `:infinity`"],
        [scope: [:map], doc: "milliseconds for each request, or `:infinity`"],
        [
          scope: [:stream],
          as_of: [:stream_object],
          doc: "milliseconds for the call of the function and for each batch, or `:infinity`"
        ],
        [
          scope: [:enter],
          doc:
            "milliseconds for entering, and as many for leaving; or `:infinity`. The function itself may take any time"
        ],
        [scope: [:send], doc: "milliseconds to wait while the worker has more waiting than it can hold"],
        [
          scope: [:restart],
          default: 60_000,
          doc: """
          milliseconds for the whole of it, or `:infinity`. When it is over, the workers that are left stay as they
          are
          """
        ],
        [scope: [:reload], default: 30_000, doc: "milliseconds for the whole of it, or `:infinity`"]
      ],
      do: option(:timeout, @timeout ++ fields)

  option(:batch,
    scope: [:stream],
    as_of: [:stream_object],
    check: [positive("elements in a request")],
    default: 1_024,
    doc: "elements in a batch at most. It is sent sooner when it is large (about 1 MiB) or took long"
  )

  option(:worker,
    scope: [:call],
    as_of: [:cast, :multi, :multi_each, :map, :eval, :exec_file, :scope],
    check: [:any],
    default_doc: "nil, the least loaded worker",
    doc: """
    any term: all calls with the same key go to the same worker, as long as the pool has the same size; when it grows
    or shrinks, few keys move. While that worker is being replaced or belongs to a `run/3`, the call waits for it.
    What Python kept in memory goes with a worker that ends: take this for caches. In a `run/3` it means nothing
    """
  )

  option(:retry,
    scope: [:call],
    as_of: [:multi, :multi_each, :map, :eval, :exec_file, :scope],
    check: [non_negative()],
    default: 0,
    doc: """
    how often the call is made again, within the same timeout, when its worker ends before it has answered: for what
    may run twice. Python exceptions and timeouts are not tried again, nor is a call in a `run/3`
    """
  )

  option(:stdio,
    scope: [:call],
    as_of:
      [:multi, :multi_each, :map, :eval, :exec_file, :scope, :object, :call_object, :enter] ++
        [:render, :save],
    check: [
      :group_leader,
      :logger,
      :discard,
      {:value, "the pid of an I/O device", &Check.pid/1, quote(do: pid)}
    ],
    default_doc: "as the pool's `:stdio` says",
    doc: """
    where goes what the call prints: the `:group_leader` of the calling process, `:logger`, `:discard`, or the pid of
    an I/O device
    """
  )

  @text [
    scope: [:call],
    as_of:
      [:cast, :stream, :multi, :multi_each, :map, :eval, :exec_file, :scope, :put] ++
        [:object, :call_object, :stream_object],
    check: [:atoms, :strings]
  ]

  option(
    :keys,
    @text ++
      [
        default_doc: "as the pool's `:keys` says",
        doc: """
        `:strings`: atoms that are keys of maps are `str` in Python, see `start_link/1`; in the arguments, and in what
        Python is told while the call runs. `:atoms`: they are `typhon.Atom`
        """
      ]
  )

  option(
    :values,
    @text ++ [default_doc: "as the pool's `:values` says", doc: "the same for all other atoms"]
  )

  @struct {:value, Structs.says(), &Structs.shape/1, quote(do: Typhon.Structs.form())}

  option(:as,
    scope: [:call],
    as_of: [:eval, :object, :call_object],
    check: [:value, :object, @struct],
    result: quote(do: :value | :object | Structs.shape()),
    default: :value,
    doc: """
    `:object`: the result stays in Python, and its `Typhon.Object` is returned, also when it has a counterpart in Elixir.
    `Typhon.to_term/2` gives that. `MyApp.User`, `[MyApp.User]`, `{MyApp.User, address: MyApp.Address}`: a map that the result
    is becomes that struct, see `Typhon.Structs`
    """
  )

  option(:as,
    scope: [:stream],
    as_of: [:stream_object, :multi, :multi_each, :map],
    check: [:value, @struct],
    result: quote(do: :value | Structs.shape()),
    default: :value,
    doc: """
    `MyApp.User`, `{MyApp.User, address: MyApp.Address}`: a map that an element, or the result of a call, is becomes that
    struct, see `Typhon.Structs`
    """
  )

  option(:stop_on_error,
    scope: [:multi, :multi_each],
    check: [true, false],
    default: false,
    doc: "true: no call is made after one that failed, whose error is then the last of the results"
  )

  option(:args,
    scope: [:map],
    check: [{:value, "a list of further arguments", &Check.list/1, quote(do: list)}],
    default: [],
    doc: "further arguments, after the element"
  )

  option(:max_concurrency,
    scope: [:map],
    check: [positive()],
    default_doc: "as many calls as the pool's workers run at the same time",
    doc: "requests in flight"
  )

  option(:ordered,
    scope: [:map],
    check: [true, false],
    default: true,
    doc: "false: results come as they are there, not in the order of the elements"
  )

  option(:batch,
    scope: [:map],
    check: [positive("elements in a request")],
    default: 1,
    doc: "elements in a request (see `multi/5`), for small calls: a batch is filled before it goes"
  )

  option(:on_error,
    scope: [:map],
    check: [:raise, :return, :skip],
    default: :raise,
    doc: """
    `:raise` the exception; `:return` `{:ok, value}` and `{:error, exception}` in the place of values; or `:skip` what
    failed
    """
  )

  option(:on_timeout,
    scope: [:yield_many],
    check: [:nothing, :ignore, :kill_task],
    default: :nothing,
    doc: """
    what becomes of a task without a result: `:nothing` (it can be waited for again), `:kill_task` (its call is given
    up) or `:ignore` (it goes on, and its result is dropped)
    """
  )

  option(:file,
    scope: [:eval],
    check: [{:value, "the name of a file", &Check.file/1, quote(do: String.t())}],
    default_doc: "a name that is made of the code",
    doc: "where the code stands, for tracebacks: `file: __ENV__.file`"
  )

  option(:line,
    scope: [:eval],
    check: [integer(1, 1_000_000, "the line of the code's first one")],
    default: 1,
    doc: "the line of that file on which the code begins"
  )

  option(:argv,
    scope: [:exec_file],
    check: [{:value, "a list of strings", &Check.strings/1, quote(do: [String.t()])}],
    default: [],
    doc: "the arguments, `sys.argv[1:]`"
  )

  option(:bindings,
    scope: [:exec_file],
    check: [
      {:value, "a map or a keyword list", &Check.bindings/1,
       quote(do: %{optional(name) => term} | [{name, term}])}
    ],
    result: quote(do: %{optional(String.t()) => term}),
    default: %{},
    default_doc: "none",
    doc: "variables that are there when the file begins, as those of `eval/4`"
  )
end
