defmodule Typhon.Object do
  @moduledoc """
  A Python object that stays in Python.

  A result that has no counterpart in Elixir (a model, a file, a connection) comes back as a handle. It can be passed as an
  argument, and `Typhon.call/4` takes it in the place of the module to call one of its methods:

      {:ok, py} = Typhon.start_link(workers: 2, python: ".venv")
      rows = [[5.1, 3.5], [4.9, 3.0], [6.7, 3.1], [5.9, 3.0]]

      {:ok, model} = Typhon.call(py, "sklearn.svm", :SVC, [])
      {:ok, _} = Typhon.call(py, model, :fit, [rows, ["a", "a", "b", "b"]])
      {:ok, labels} = Typhon.call(py, model, :predict, [[[5.0, 3.4]]])
      ["a"] = Typhon.Array.to_list(labels)

  What else Python does with an object needs no pool, because a handle knows its own:

      {:ok, "rbf"} = Typhon.get(model, :kernel)
      :ok = Typhon.set(model, :kernel, "linear")
      {:ok, text} = Typhon.repr(model)                  # => {:ok, "SVC(kernel='linear')"}

      {:ok, queue} = Typhon.call(py, :collections, :deque, [["a", "b", "c"]])
      {:ok, "c"} = Typhon.item(queue, -1)
      :ok = Typhon.put_item(queue, 0, "A")
      {:ok, 3} = Typhon.len(queue)
      ["A", "b", "c"] = queue |> Typhon.stream() |> Enum.to_list()

  What has a counterpart in Elixir stays in Python, too, when a call has the option `as: :object`.

  | Elixir | Python |
  |---|---|
  | `Typhon.get(object, "a.b")`, `Typhon.set(object, :a, value)`, `Typhon.delete(object, :a)` | `object.a.b`, `object.a = value`, `del object.a` |
  | `Typhon.item(object, key)`, `Typhon.put_item(object, key, value)`, `Typhon.len(object)` | `object[key]`, `object[key] = value`, `len(object)` |
  | `Typhon.call(object, args, kwargs: …)`, `Typhon.call(py, object, :method, args)` | `object(*args, **kwargs)`, `object.method(*args)` |
  | `Typhon.repr(object)`, `Typhon.type(object)`, `Typhon.dir(object)`, `Typhon.doc(object)` | `repr(object)`, the name of its class, `dir(object)`, its docstring |
  | `Typhon.same?(a, b)` | `a is b` |
  | `Typhon.to_term(object)` | the value itself, in Elixir |
  | `Typhon.render(object)`, `Typhon.save(object, "chart.png")` | what a notebook shows of it: a picture, HTML, text |
  | `Typhon.enter(object, fn value -> … end)` | `with object as value: …`, or `async with` |
  | `Typhon.stream(object)` | `for element in object: …` |
  | `Typhon.chain(object, get: "a", item: key, call: {"b", args})` | `object.a[key].b(*args)`, in one request (`Typhon.Chain`) |

  The object lives in the worker that made it: calls that name it run there, and fail with a `Typhon.WorkerError` when that
  worker is gone. Objects of one call have to live in the same worker. It is released in Python when no Elixir process of this
  node holds the handle any more.

  ## On other nodes

  A handle may be sent to another node of the BEAM. All that is listed above works there, and is done on the object's own node,
  with the same results and errors. Functions among the arguments run in the calling process, and there are the elements of
  `Typhon.iter/1` made. `inspect/1` and `Typhon.type/1` ask nobody. What cannot be done from there: functions of more than sixteen
  arguments, functions in a cast, and `Typhon.multi/3`. What Python calls by its name is called on its own node; `typhon.caller()`
  is the calling process.

  A handle that lies on another node does not keep the object alive: nobody counts it. A lease does, from the moment in which it is
  taken until `Typhon.release/2`, or until its process, the connection to that process' node, or the pool ends:

      receiver = spawn(fn -> receive do: ({:model, model} -> Typhon.get!(model, :kernel)) end)

      {:ok, model} = Typhon.lease(model, receiver)      # it is held here still
      send(receiver, {:model, model})

  The other node may take it as well, with `Typhon.lease(model)`, as long as somebody holds the object where it lives. What a call from
  another node returns would be held by nobody: such a handle is leased to the calling process (of `Typhon.async/5` the one that
  made the task), and that process releases it when it does not need it any more. A call with a handle whose object has been
  released says so. An object of a worker that has ended is gone, as on one node, lease or not; when the node is, the error is a
  `Typhon.PoolError` with the reason `{:node_down, node}`.

  ## Fields

  * `type` – the full name of its class
  * `repr` – how Python showed it when the handle was made, for `inspect/1`: the first 200 characters of its `repr()`, of
    containers a part. nil when it shows nothing but its class, when its `__repr__` raised, or took longer than fifty
    milliseconds (all objects of one result together). `Typhon.repr/2` asks for the whole, as it is now

  Everything else is private.
  """

  import Typhon.Remote, only: [is_remote_object: 1]

  alias Typhon.{Call, Callee, Conversation, EncodeError, Error, Native, Options, Remote, Scope, TimeoutError}

  # `ref` is the native library's resource: its destruction releases the object in Python. `pool` is the pid of the pool; nil in
  # ErlPort's dialect, and of one that Typhon.Test.object/1 has made until a stub returns it.
  @enforce_keys [:id, :type, :ref]
  defstruct [:id, :type, :ref, :pool, :repr]

  @type t :: %__MODULE__{
          id: integer,
          type: String.t(),
          ref: reference,
          pool: pid | nil,
          repr: String.t() | nil
        }

  @typep result :: {:ok, term} | {:error, Error.t()}

  # In the place of the number that Python gives.
  @made_up -1

  # The arguments of operations, as errors name them.
  @parts %{
    ".get" => ["path"],
    ".get_path" => ["path"],
    ".set" => ["path", "value"],
    ".delete" => ["path"],
    ".item" => ["key"],
    ".put_item" => ["key", "value"]
  }

  defimpl Inspect do
    alias Typhon.Text

    def inspect(%{type: type, repr: nil}, _opts), do: "#Typhon.Object<#{Text.visible(type)}>"

    # On one line.
    def inspect(%{type: type, repr: repr}, _opts),
      do: Text.visible("#Typhon.Object<#{type}: #{repr |> String.split() |> Enum.join(" ")}>")
  end

  @doc false
  @spec get(t, Typhon.name(), keyword) :: result
  def get(object, path, options) do
    path = name!(path)
    ask(object, if(plain?(path), do: ".get", else: ".get_path"), [path], options)
  end

  # Python's own getattr does with it; else it is to be taken apart, or may be there in another form.
  defp plain?(<<character, rest::binary>>), do: character != ?. and character < 128 and plain?(rest)
  defp plain?(<<>>), do: true

  @doc false
  @spec not_one!(term, term) :: no_return
  def not_one!(target, path) do
    raise ArgumentError,
          "get takes a Typhon.Object or a Typhon.Scope, got #{inspect(target)}. What a module has is " <>
            "Typhon.get(pool, module, #{inspect(path)})"
  end

  @doc false
  # A constant of a module, which any worker has.
  @spec constant(Typhon.pool(), Typhon.callee(), Typhon.name(), keyword) :: result
  def constant(_pool, %__MODULE__{} = object, path, options), do: get(object, path, options)

  def constant(pool, module, path, options) do
    %{timeout: timeout, routing: routing} = Options.object!(options)
    call = {"typhon._objects", "get_of_module", [name!(module), name!(path)], timeout}
    with {:error, error} <- Call.call(pool, call, %{}, routing), do: {:error, told(error, ".get")}
  end

  @doc false
  @spec set(t, Typhon.name(), term, keyword) :: :ok | {:error, Error.t()}
  def set(object, path, value, options),
    do: object |> ask(".set", [name!(path), value], options) |> done()

  @doc false
  @spec delete(t, Typhon.name(), keyword) :: :ok | {:error, Error.t()}
  def delete(object, path, options), do: object |> ask(".delete", [name!(path)], options) |> done()

  @doc false
  @spec item(t, term, keyword) :: result
  def item(object, key, options), do: ask(object, ".item", [key], options)

  @doc false
  @spec put_item(t, term, term, keyword) :: :ok | {:error, Error.t()}
  def put_item(object, key, value, options),
    do: object |> ask(".put_item", [key, value], options) |> done()

  @doc false
  @spec call(t, list, keyword) :: result
  def call(object, args, options) do
    if not is_struct(object, __MODULE__),
      do:
        no_object!(
          object,
          "Typhon.call/3",
          if(is_struct(args, __MODULE__),
            do: "#{calls()}",
            else: "a function of a module is Typhon.call(pool, module, function, args)"
          )
        )

    unless is_list(args) and not List.improper?(args) do
      raise ArgumentError,
            "the arguments must be a list, got #{inspect(args)}. A single argument is [#{inspect(args)}]" <>
              if(Callee.name?(args),
                do:
                  ". A method of the object is Typhon.call(py, object, #{inspect(args)}, args), where py is the pool",
                else: ""
              )
    end

    options = Options.object!(options, :call_object)
    of_object(object, ".call", args, options.kwargs, options)
  end

  @doc false
  # For errors about an object in a wrong place.
  @spec calls :: String.t()
  def calls,
    do:
      "an object is called by Typhon.call(object, args), and its method by Typhon.call(py, object, :method, args)"

  @doc false
  # What needs nothing but the object.
  @spec ask(t, String.t(), keyword) :: result
  def ask(object, function, options), do: ask(object, function, [], options)

  @doc false
  @spec same?(t, t) :: boolean
  def same?(%__MODULE__{ref: ref}, %__MODULE__{ref: ref}), do: true

  def same?(%__MODULE__{pool: pool} = one, %__MODULE__{pool: pool} = other) when is_remote_object(one),
    do: Remote.same?(one, other)

  def same?(%__MODULE__{pool: pool, id: id} = one, %__MODULE__{pool: pool, id: other_id} = other)
      when pool != nil and id != @made_up and other_id != @made_up do
    if Native.same_worker?(one.ref, other.ref) do
      case ask(one, ".same", [other], []) do
        {:ok, same} -> same
        {:error, error} -> raise error
      end
    else
      false
    end
  end

  def same?(%__MODULE__{}, %__MODULE__{}), do: false

  @doc false
  @spec to_term(t, keyword) :: result
  def to_term(object, options) do
    case ask(object, ".to_term", [], options) do
      {:ok, %__MODULE__{type: type}} ->
        {:error, %EncodeError{path: "the object", type: type, reason: no_counterpart(type)}}

      other ->
        other
    end
  end

  defp no_counterpart(type) do
    "a value of type #{Typhon.Text.visible(type)} has no counterpart in Elixir. Typhon.get/3, Typhon.item/3 and Typhon.call/4 reach what is in it"
  end

  @doc false
  # For Typhon.Chain.
  @spec chain(t, String.t(), list, keyword) :: result
  def chain(object, shape, args, options), do: ask(object, ".chain", [shape, args], options)

  # --- leases ---

  @doc false
  @spec lease(leased, pid) :: {:ok, leased} | {:error, Error.t()} when leased: t | Typhon.Scope.t()
  def lease(target, holder) do
    object = bare(target, "lease")

    with :ok <- of_pool(object),
         :ok <- Remote.lease([object], holder),
         do: {:ok, target}
  end

  @doc false
  @spec release(t | Typhon.Scope.t(), pid) :: :ok | {:error, Error.t()}
  def release(target, holder) do
    object = bare(target, "release")
    with :ok <- of_pool(object), do: Remote.release([object], holder)
  end

  defp bare(%__MODULE__{} = object, _function), do: object
  defp bare(%Typhon.Scope{object: object}, _function), do: object
  defp bare(other, function), do: no_object!(other, "Typhon.#{function}/2", "it is what a call has returned")

  # --- context managers ---

  @doc false
  @spec enter(t, (term -> result), keyword) :: {:ok, result} | {:error, Error.t()} when result: term
  def enter(object, fun, options) do
    given!(object, "Typhon.enter/3")
    Callee.fun!(fun, "Typhon.enter/3", "what Python binds")
    options = Options.object!(options, :enter)

    case of_object(object, ".enter", [], %{}, options) do
      {:ok, {%__MODULE__{} = entered, value}} -> within(entered, value, fun, options)
      # A test's.
      {:ok, {:stubbed, value}} -> {:ok, fun.(value)}
      {:ok, nonsense} -> {:error, Error.nonsense(nonsense)}
      error -> error
    end
  end

  # A worker that is to be replaced waits for the end.
  defp within(entered, value, fun, options) do
    hold(entered, true)

    case attempt(fun, value) do
      {:ok, result} ->
        with {:ok, _} <- leave(entered, nil, options), do: {:ok, result}

      {kind, reason, stack} ->
        case leave(entered, Conversation.described(kind, reason, stack), options) do
          {:ok, true} -> {:ok, nil}
          _ -> :erlang.raise(kind, reason, stack)
        end
    end
  after
    hold(entered, false)
  end

  defp hold(entered, hold?) when is_remote_object(entered), do: Remote.hold(entered, hold?)

  defp hold(entered, hold?), do: Native.hold(entered.ref, hold?)

  defp attempt(fun, value) do
    {:ok, fun.(value)}
  catch
    kind, reason -> {kind, reason, __STACKTRACE__}
  end

  defp leave(entered, failure, %{timeout: timeout, routing: routing}) do
    with {:error, error} <- Call.call(entered.pool, {entered, "exit", [failure], timeout}, %{}, routing),
         do: {:error, told(error, ".enter")}
  end

  # --- one request ---

  @doc false
  @spec ask(t, String.t(), list, keyword, atom) :: result
  def ask(object, function, args, options, scope \\ :object) do
    given!(object, "Typhon#{called(function)}/#{length(args) + 2}")
    of_object(object, function, args, %{}, Options.object!(options, scope))
  end

  @doc false
  # For Typhon.Test: an object that no Python has.
  @spec make_up(String.t(), pid | nil) :: t
  def make_up(type, pool), do: %__MODULE__{id: @made_up, type: type, ref: make_ref(), pool: pool}

  @doc false
  @spec made_up?(t) :: boolean
  def made_up?(%__MODULE__{id: id}), do: id == @made_up

  @doc false
  @spec of_pool(t) :: :ok | {:error, EncodeError.t()}
  def of_pool(%{pool: nil} = object) do
    why =
      if made_up?(object),
        do:
          "no stub has returned it. Typhon.Test.object(pool, #{inspect(object.type)}) makes one that is of a pool at once",
        else: "no Python call has returned it"

    {:error, %EncodeError{path: "the object", type: __MODULE__, reason: "it is of no pool: #{why}"}}
  end

  def of_pool(_object), do: :ok

  # Python finds it by the dot, with which no attribute's name begins.
  defp of_object(object, function, args, kwargs, %{timeout: timeout, routing: routing}) do
    with :ok <- of_pool(object),
         {:error, error} <-
           Call.call(object.pool, {object, function, args, timeout}, kwargs, routing),
         do: {:error, told(error, function)}
  end

  # As it was called in Elixir.
  defp told(%TimeoutError{arity: arity} = error, function) when arity != nil,
    do: %{
      error
      | module: "Typhon",
        function: function |> called() |> String.trim_leading("."),
        arity: arity + 1
    }

  defp told(%EncodeError{path: "args[" <> _ = path} = error, function) when is_map_key(@parts, function) do
    [index, rest] = Regex.run(~r/\Aargs\[(\d+)\](.*)\z/s, path, capture: :all_but_first)
    %{error | path: Enum.at(@parts[function], String.to_integer(index)) <> rest}
  end

  defp told(error, _function), do: error

  defp called(function), do: String.replace_suffix(function, "_path", "")

  defp done({:ok, _}), do: :ok
  defp done(error), do: error

  @doc false
  @spec given!(term, String.t()) :: :ok
  def given!(%__MODULE__{}, _function), do: :ok

  def given!(other, function),
    do: no_object!(other, function, "it is what a call has returned")

  @spec no_object!(term, String.t(), String.t()) :: no_return
  defp no_object!(%Scope{} = scope, function, _hint) do
    raise ArgumentError,
          "#{function} takes a Typhon.Object, got the scope #{inspect(scope)}: #{Scope.takes()}"
  end

  defp no_object!(other, function, hint),
    do: raise(ArgumentError, "#{function} takes a Typhon.Object, got #{inspect(other)}: #{hint}")

  @doc false
  @spec name!(Typhon.name()) :: String.t()
  def name!(name) when is_binary(name), do: name
  def name!(name) when is_atom(name) and name not in [nil, true, false], do: Atom.to_string(name)

  def name!(other),
    do:
      raise(
        ArgumentError,
        "the name must be an atom or a string, got #{inspect(other)}" <> Callee.as_name(other)
      )
end
