defmodule Typhon.Conversation do
  @moduledoc false
  # What Python asks before it answers a call: to call a function of the BEAM, to print, to log … docs/internals.md ("Asking the
  # BEAM") lists the questions.
  #
  # A question reaches the process that made the call, while it waits for the answer, and is dealt with there: callbacks see its
  # dictionary, its group leader, its database connection. Questions that no call brings with it reach the worker's process,
  # which has each answered in a process of its own.
  #
  # While a question is being answered, calls to the same pool go to the worker that waits for the answer, which runs them on
  # top of the call that asked (Typhon.Session): so calls nest on one worker, as deep as its recursion limit lets them. None of them, to whatever pool,
  # outlives the call that asked.

  require Logger

  require Typhon.Wire

  alias Typhon.{Apart, Deadline, Error, Iter, Message, Native, Options, Remote, Session, Telemetry, Wire}
  alias Typhon.Worker.{Backlog, MailboxLimit, Printer}

  @max_text 65_536
  @indescribable "it failed in a way that cannot be described: its message, or its stacktrace, raises an error itself"
  @device_timeout 5_000
  # In the dictionary of who prints: the device that took nothing for so long.
  @hangs {__MODULE__, :hangs}
  # Of an enumerable, in one go. Python asks for fewer.
  @most_pulled 65_536

  @typedoc """
  `native` and `where` name the channel, `id` and `ref` the call when the process that made it answers. `args`: of the call, to tell the
  functions that were passed from made-up ones. `deadline`: milliseconds of monotonic time. `text`: what becomes of atoms. `stdio`, `allow` and `max_mailbox` as
  in the options.
  """
  @type context :: %{
          optional(:owner) => pid | nil,
          optional(:id) => Native.id(),
          optional(:ref) => reference,
          required(:native) => Native.pool() | nil,
          required(:where) => Native.where(),
          required(:args) => list,
          required(:kwargs) => map,
          required(:deadline) => integer | :infinity,
          optional(:text) => non_neg_integer,
          required(:stdio) => :caller | :logger | :discard | pid,
          required(:allow) => :all | [{module, atom, arity | :_}],
          required(:max_mailbox) => pos_integer | :infinity,
          required(:metadata) => keyword
        }

  @type ask :: {:ask, tag :: non_neg_integer, Native.reply()}

  @doc """
  Deals with a question; the answer, if one is wanted, is on its way on return. Gives what was printed, and what comes next in the
  call: an event of `Typhon.Request`.
  """
  @spec handle(ask, context) :: {printed :: String.t(), event :: term}
  def handle({:ask, tag, {:segment, handle}}, context),
    do: handle({:ask, tag, Native.read(handle)}, context)

  def handle({:ask, 0, {:ok, statement}}, context) do
    told(statement, context)
    {printed(statement), next(context)}
  end

  def handle({:ask, tag, {:ok, question}}, context),
    do: {printed(question), reply(tag, asked(question, tag, context), context)}

  def handle({:ask, 0, {:error, reason}}, context) do
    Printer.warning("a message from a worker was dropped: #{unreadable(reason)}", context.metadata)
    {"", next(context)}
  end

  def handle({:ask, tag, {:error, reason}}, context) do
    failure = failure(:error, ArgumentError.exception(unreadable(reason)), [])
    {"", reply(tag, {:failed, failure}, context)}
  end

  # Whoever answers in nobody's name waits for nothing.
  defp next(%{id: id, ref: ref} = context), do: Native.next(context.native, context.where, id, ref)
  defp next(_context), do: :ok

  defp printed({:print, text}) when is_binary(text), do: text
  defp printed(_), do: ""

  @doc "For a question that nobody answers: whoever asked is told why."
  @spec refuse(tag :: pos_integer, String.t(), context) :: term
  def refuse(tag, why, context), do: reply(tag, {:failed, {"exit", "", why, "", nil}}, context)

  @doc """
  Takes out of the mailbox what is left of a call that was given up, after what was taken out before. What Python had said by then
  is dealt with all the same, in order, by a process of its own, as the caller waits no longer; what it had asked is not.
  """
  @spec leave(reference, [ask], (() -> context)) :: :ok
  def leave(ref, asks, context) do
    with [_ | _] = asks <- asks ++ left(ref) do
      context = Map.drop(%{context.() | args: [], kwargs: %{}, deadline: :infinity}, [:id, :ref])
      spawn(Apart.like_caller([@hangs], fn -> Enum.each(asks, &late(&1, context)) end))
    end

    :ok
  end

  defp left(ref) do
    receive do
      {^ref, {:ask, _, _} = ask} -> [ask | left(ref)]
    after
      0 -> []
    end
  end

  defp late({:ask, tag, {:segment, handle}}, context), do: late({:ask, tag, Native.read(handle)}, context)
  defp late({:ask, 0, _} = ask, context), do: handle(ask, context)

  # Python only wanted to know when it was printed, or logged.
  defp late({:ask, _, {:ok, statement}}, context)
       when is_tuple(statement) and elem(statement, 0) in [:print, :log],
       do: handle({:ask, 0, {:ok, statement}}, context)

  defp late(_question, _context), do: :ok

  # What cancel/3 calls delivered lies in the mailbox already.
  @delivered 5_000

  @doc "The answer that came at the very moment its caller gave up. No wait is without an end, this one neither."
  @spec delivered(reference) :: {:ok, term} | :none
  def delivered(ref) do
    receive do
      {^ref, answer} -> {:ok, answer}
    after
      @delivered -> :none
    end
  end

  # --- questions ---

  defp asked({:call, module, function, args}, tag, context)
       when is_binary(module) and is_binary(function) and is_list(args) do
    run(tag, context, fn ->
      # Before anything is loaded: a module may do something when it is.
      allowed!(module, function, length(args), context.allow)
      module = module!(module)
      apply(module, function!(module, function, length(args)), args)
    end)
  end

  defp asked({:apply, fun, args}, tag, context) when is_function(fun) and is_list(args) do
    run(tag, context, fn ->
      allowed_function!(fun, context)
      unless is_function(fun, length(args)), do: raise(BadArityError, function: fun, args: args)
      apply(fun, args)
    end)
  end

  defp asked({:pull, key, count}, tag, context) when is_reference(key) and count in 0..@most_pulled,
    do: run(tag, context, fn -> Iter.pull(key, count) end)

  defp asked({:caller}, _tag, _context), do: {:ok, Remote.caller()}
  defp asked({:self}, _tag, %{owner: owner}), do: {:ok, owner}

  # Python waits until it is printed, or logged.
  defp asked(statement, _tag, context)
       when is_tuple(statement) and elem(statement, 0) in [:print, :log],
       do: {:ok, told(statement, context)}

  # With an allow list Python waits for consent.
  defp asked({:send, dest, message}, tag, context) do
    run(tag, context, fn ->
      reachable!(dest, context)
      sendable!(dest, message, context)
      room!(dest, message, context)
      deliver(dest, message, context)
    end)
  end

  defp asked(other, _tag, _context),
    do:
      {:failed,
       failure(:error, ArgumentError.exception("Python asked what nobody understands: #{inspect(other)}"), [])}

  defp run(tag, context, fun) do
    {:ok, Session.with_entry(context.native, {context.where, tag}, context.deadline, fun)}
  catch
    kind, reason -> {:failed, described(kind, reason, users(__STACKTRACE__))}
  end

  # Down to the function that Python called: what is below is Typhon's, and then whoever called Python.
  defp users(stack) do
    stack
    |> Enum.take_while(&(not match?({__MODULE__, :run, 3, _}, &1)))
    |> Enum.reverse()
    |> Enum.drop_while(&(elem(&1, 0) in [__MODULE__, Session, Iter]))
    |> Enum.reverse()
  end

  @typedoc "What Python makes a `typhon.BeamError` of: kind, type, message, reason, stacktrace."
  @type failure :: {String.t(), String.t(), String.t(), term, String.t()}

  # An exception's message, and the inspection of what is in its stacktrace, are code like any other.
  @doc "What failed, for Python."
  @spec described(:error | :exit | :throw, term, Exception.stacktrace()) :: failure
  def described(kind, reason, stack) do
    failure(kind, reason, stack)
  catch
    _, _ -> {Atom.to_string(kind), "", @indescribable, @indescribable, ""}
  end

  # --- statements ---

  defp told({:print, text}, context) when is_binary(text), do: print(context.stdio, text, context)

  defp told({:log, level, text, metadata}, context) when is_binary(text) and is_map(metadata),
    do: log(level, text, metadata, context)

  defp told({:cast_failed, target, function, term}, context)
       when is_binary(target) and (is_binary(function) or function == nil) do
    error = Error.from_wire(term, {target, function, [], :infinity})

    what =
      if function,
        do: "a cast of #{target}.#{function} failed",
        else: "the handler of messages #{target} failed"

    Logger.error("#{what}:\n#{Exception.message(error)}", [crash_reason: {error, []}] ++ context.metadata)
    Telemetry.cast_failed(error, target, function, context.metadata)
  end

  defp told({:send, dest, message}, context) do
    reachable!(dest, context)
    sendable!(dest, message, context)

    if told_room!(dest, message, context) == :ok, do: deliver(dest, message, context)
    :ok
  rescue
    error in ArgumentError ->
      Printer.warning("a message from a worker was dropped: " <> Exception.message(error), context.metadata)
  end

  defp told(other, context) do
    Printer.warning("Python said what nobody understands: #{inspect(other)}", context.metadata)
  end

  defp deliver(dest, message, context) do
    unless own?(dest, message, context), do: send(dest, message)
    :ok
  rescue
    # A name that is not registered.
    ArgumentError -> :ok
  end

  # What Python sends to itself, by whatever name, is for its mailbox and for nothing else: the worker's process, which has that
  # pid, is not to act upon it.
  defp own?(dest, message, context) do
    pid = local(dest)

    cond do
      pid == nil -> false
      # Before what it was sent meanwhile.
      pid == self() and context[:owner] == pid -> Backlog.forward(context.where, message) == :ok
      # Of a worker that is gone: its mailbox has gone with it.
      true -> Native.post(context.native, context.where, pid, message) != :none
    end
  end

  defp local(pid) when is_pid(pid), do: pid
  defp local(name) when is_atom(name), do: with(port when is_port(port) <- Process.whereis(name), do: nil)
  defp local({name, node}) when is_atom(name) and node == node(), do: local(name)
  defp local(_), do: nil

  @spec print(:caller | :logger | :discard | pid, String.t(), map) :: :ok
  defp print(:discard, _text, _context), do: :ok

  defp print(:logger, text, context) do
    for line <- String.split(text, "\n"), line != "", do: Logger.info(line, context.metadata)
    :ok
  end

  defp print(:caller, text, context), do: print(Process.group_leader(), text, context)

  # A device may be slow: then Python is, too. One that hangs is not waited for twice. The writer has a patience of its own: when
  # the call's time is up before, that says nothing of the device, which still gets the text.
  defp print(device, text, context) do
    if Process.get(@hangs) == device do
      print(:logger, text, context)
    else
      metadata = context.metadata
      {_writer, monitor} = spawn_monitor(Apart.like_caller([], fn -> write(device, text, metadata) end))

      receive do
        {:DOWN, ^monitor, :process, _, @hangs} -> Process.put(@hangs, device)
        {:DOWN, ^monitor, :process, _, _} -> :ok
      after
        Deadline.left(context.deadline) -> Process.demonitor(monitor, [:flush])
      end

      :ok
    end
  end

  # What the device does not take is Logger's.
  defp write(device, text, metadata) do
    monitor = Process.monitor(device)
    send(device, {:io_request, self(), monitor, {:put_chars, :unicode, text}})

    receive do
      {:io_reply, ^monitor, :ok} -> :ok
      {:io_reply, ^monitor, _} -> print(:logger, text, %{metadata: metadata})
      {:DOWN, ^monitor, :process, _, _} -> print(:logger, text, %{metadata: metadata})
    after
      @device_timeout ->
        print(:logger, text, %{metadata: metadata})
        exit(@hangs)
    end
  end

  @doc "A record of Python's logging becomes one of Logger."
  @spec log(String.t(), String.t(), map, %{metadata: keyword}) :: :ok
  def log(level, text, metadata, context) do
    level = Options.log_level(level)

    names = [
      {"file", :file},
      {"line", :line},
      {"logger", :python_logger},
      {"module", :python_module},
      {"function", :python_function},
      {"thread", :python_thread},
      {"extra", :python_extra}
    ]

    fields =
      for {name, key} <- names, %{^name => value} <- [metadata] do
        # Logger's own file names are charlists.
        {key, if(key == :file and is_binary(value), do: to_charlist(text(value)), else: value)}
      end

    Logger.bare_log(level, text(text), fields ++ context.metadata)
    :ok
  end

  # --- what may be called ---

  # Only atoms that exist, or that name a module which could be loaded: Python cannot fill the atom table.
  defp module!(name) when is_binary(name) do
    module =
      try do
        String.to_existing_atom(name)
      rescue
        ArgumentError ->
          if :code.where_is_file(String.to_charlist(name <> ".beam")) == :non_existing,
            do: raise(UndefinedFunctionError, message: "there is no module #{name}"),
            else: String.to_atom(name)
      end

    case Code.ensure_loaded(module) do
      {:module, module} -> module
      {:error, _} -> raise(UndefinedFunctionError, message: "there is no module #{inspect(module)}")
    end
  end

  defp function!(module, name, arity) when is_binary(name) do
    function = String.to_existing_atom(name)
    if function_exported?(module, function, arity), do: function, else: raise(ArgumentError)
  rescue
    ArgumentError ->
      if module == :erlang and builtin?(name, arity) do
        String.to_existing_atom(name)
      else
        reraise UndefinedFunctionError,
                [message: "there is no function #{inspect(module)}.#{name}/#{arity}"],
                __STACKTRACE__
      end
  end

  # function_exported?/3 knows nothing of functions that are built into the emulator.
  defp builtin?(name, arity), do: :erlang.is_builtin(:erlang, String.to_existing_atom(name), arity)

  # Names are compared as they came: nothing is made of one that is not in the list.
  defp allowed!(_module, _function, _arity, :all), do: :ok

  defp allowed!(module, function, arity, allow) do
    allowed? =
      Enum.any?(allow, fn {m, f, a} -> named?(m, module) and named?(f, function) and a in [arity, :_] end)

    unless allowed? do
      raise ArgumentError,
            "Python may not call #{readable(module)}.#{function}/#{arity}: the option allow: of the pool does not list it"
    end
  end

  defp named?(:_, _name), do: true
  defp named?(atom, name), do: Atom.to_string(atom) == name

  defp readable("Elixir." <> module), do: module
  defp readable(module), do: ":" <> module

  # Where a message may go.
  defp reachable!(_dest, %{allow: :all}), do: :ok

  defp reachable!(dest, context) do
    here =
      if is_tuple(dest) and tuple_size(dest) == 2 and elem(dest, 1) == node(), do: elem(dest, 0), else: dest

    unless Native.handed?(context.native, context.where, dest) or
             Native.handed?(context.native, context.where, here) do
      raise ArgumentError,
            "Python may not send to #{inspect(dest)}: with the option allow: of its pool it reaches what it was handed " <>
              "(arguments, messages, answers) and what the option send_to: lists"
    end
  end

  # With an allow list it says nothing by which OTP, the emulator and this library control processes; to itself it may say anything.
  defp sendable!(_dest, _message, %{allow: :all}), do: :ok

  defp sendable!(dest, message, context) do
    if Native.control?(context.native, context.where, local(dest), message) do
      raise ArgumentError,
            "Python may not send #{first(message)} to #{inspect(dest)}: with the option allow: of its pool it sends nothing by which " <>
              "OTP, the emulator or Typhon control processes, and no references that it was not handed in front"
    end
  end

  defp first(message) when is_tuple(message) and tuple_size(message) > 0,
    do: "a tuple that begins with #{inspect(elem(message, 0))}"

  defp first(_), do: "this message"

  # Nobody's mailbox is to grow without end by what Python sends.
  defp room!(dest, message, %{max_mailbox: most}) do
    if MailboxLimit.await_for(dest, most, message) == :full,
      do: raise(ArgumentError, "the process #{inspect(dest)} #{MailboxLimit.too_much(most)} and reads none"),
      else: :ok
  end

  # The owner waits for nobody: it counts what it passes on, and has it looked at (Typhon.Worker.OutsideCalls).
  defp told_room!(_dest, _message, %{owner: owner}) when owner == self(), do: :ok

  # In its name, but in a process for this message alone: it was too large for the owner.
  defp told_room!(dest, message, %{owner: owner, max_mailbox: most} = context) when owner != nil do
    room = MailboxLimit.await_for(dest, most, message)
    if room == :full, do: send(owner, {:typhon, context.where, {:flood, MailboxLimit.flooded(dest, most)}})
    room
  end

  # What says that it is a call's does not come from `typhon.send`.
  defp told_room!(dest, message, context), do: room!(dest, message, context)

  # A function that was an argument of this call may be called. Python can make up others: a name, or bytes of its own.
  defp allowed_function!(_fun, %{allow: :all}), do: :ok

  defp allowed_function!(fun, context) do
    unless holds?(context.args, fun) or holds?(context.kwargs, fun) do
      case Function.info(fun, :type) do
        {:type, :external} ->
          # By its name: an external function loads its module when it is called, not before.
          {:module, module} = Function.info(fun, :module)
          {:name, name} = Function.info(fun, :name)
          {:arity, arity} = Function.info(fun, :arity)
          allowed!(Atom.to_string(module), Atom.to_string(name), arity, context.allow)

        _ ->
          raise ArgumentError,
                "Python may only call functions that are arguments of the call it serves: the option allow: is set"
      end
    end
  end

  defp holds?(term, term), do: true
  defp holds?([head | tail], fun), do: holds?(head, fun) or holds?(tail, fun)
  defp holds?(tuple, fun) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> holds?(fun)
  defp holds?(%_{} = struct, fun), do: struct |> Map.from_struct() |> holds?(fun)

  defp holds?(map, fun) when is_map(map),
    do: Enum.any?(map, fn {k, v} -> holds?(k, fun) or holds?(v, fun) end)

  defp holds?(_, _), do: false

  # --- answers ---

  defp reply(tag, {:ok, value}, context) do
    with {:error, %Typhon.EncodeError{} = error} <- answer(Wire.answer(), tag, value, context) do
      text = "the result cannot cross to Python: " <> Exception.message(error)
      answer(Wire.failure(), tag, {"error", inspect(error.__struct__), text, nil, ""}, context)
    end
  end

  defp reply(tag, {:failed, failure}, context), do: answer(Wire.failure(), tag, failure, context)

  defp answer(kind, tag, term, context) do
    to = %{
      native: context.native,
      where: context.where,
      kind: kind + Map.get(context, :text, 0),
      tag: tag,
      call: call(context)
    }

    case Message.deliver(to, term, context.deadline) do
      {:error, %Typhon.EncodeError{}} = error -> error
      nobody_looks when nobody_looks in [:ok, :timeout] -> next(context)
      # The worker has ended: the call has, too. What Python raises is no exception yet, and an event.
      {:error, error} when is_exception(error) -> next(context)
      event -> event
    end
  end

  # None of a process that answers in nobody's name.
  defp call(%{id: id}), do: id
  defp call(_context), do: 0

  # The reason may be any term, also one that Python cannot hold: it travels by itself.
  defp failure(:error, reason, stack) do
    exception = Exception.normalize(:error, reason, stack)
    message = text(Exception.message(exception))
    {"error", inspect(exception.__struct__), message, message, text(Exception.format_stacktrace(stack))}
  end

  defp failure(kind, reason, stack) do
    message = text(Exception.format_banner(kind, reason, stack))
    term = %Typhon.Bytes{data: :erlang.term_to_binary(reason)}
    {Atom.to_string(kind), "", message, term, text(Exception.format_stacktrace(stack))}
  end

  # What Python gets as a str, whatever it was made of.
  defp text(text) do
    text = if byte_size(text) > @max_text, do: String.slice(text, 0, @max_text) <> " …", else: text

    if String.valid?(text),
      do: text,
      else: text |> inspect(binaries: :as_strings, printable_limit: :infinity) |> String.slice(1..-2//1)
  end

  defp unreadable({:cannot_decode_result, path, message}), do: "#{message} (#{path})"
  defp unreadable(other), do: inspect(other)
end
