defmodule Typhon.Request do
  @moduledoc false
  # A request on its way, and the one loop in which its process waits for what becomes of it.
  #
  # What the native library says of a request is an event:
  #
  #     {:ok, _}, {:error, _}, {:segment, _}, {:timed, _, _}, {:down, _}    its end
  #     :ok                                  a cast was accepted
  #     {:wait, where, id, left}             what comes next is a message, {ref, event}
  #     {:ask, where, id, left, ask}         Python asks something first; in a message {:ask, tag, reply}
  #     {:not_started, left}                 its worker has not begun it, and another one can have it
  #     {:room, channel}                     there is no room yet; a message {ref, :room} says when there is
  #     {:encoder}                           its arguments need Typhon.Encoder
  #     {:cannot_encode, path, text}         they cannot cross
  #     :no_worker, {:held, place}           all workers, or the one it has to go to, are replaced or belong to sessions
  #     {:overload, …}                       it is one too many
  #
  # No answer may be left in the mailbox. The native library sends at most one {ref, reply} for an accepted request; after
  # `cancel` it either will not come, or it is there already.

  require Typhon.Wire

  alias Typhon.{
    Conversation,
    Deadline,
    Encoder,
    Error,
    Iter,
    Native,
    OverloadError,
    Pool,
    Registry,
    Room,
    Telemetry,
    Wire
  }

  alias Typhon.Pool.Board
  alias Typhon.Remote.Lent
  alias Typhon.Worker.Output

  # Who has waited for so many milliseconds has its worker looked at; and again after as many.
  @look_after 5_000
  @stdio :"$typhon_stdio"

  @enforce_keys [:pool, :ref, :kind, :call, :args, :kwargs, :deadline, :flags]
  defstruct @enforce_keys ++
              [
                # of the worker that is being started, whose pool is not there yet: in place of the pool's
                options: nil,
                # held while it waits in this process, not in a worker's queue
                ticket: nil,
                # the last lines that Python printed to this process
                printed: []
              ]

  @typedoc "The key by which the user knows it, its process (nil: one channel alone), its channels."
  @type pool :: {term, pid | nil, Native.pool()}

  @typedoc "`call` stays as the user wrote it, for messages; the arguments may have been prepared for the wire."
  @type t :: %__MODULE__{
          pool: pool,
          ref: reference,
          kind: 0..1,
          call: Error.call(),
          args: list,
          kwargs: map,
          deadline: Deadline.t(),
          flags: Native.flags(),
          options: map | nil,
          ticket: Native.ticket() | nil,
          printed: [String.t()]
        }

  @type result :: :ok | {:ok, term} | {:error, Error.t() | :moved} | {:timed, result, tuple}

  @doc "The time after which who waits looks after its worker."
  defmacro look_after, do: @look_after

  @spec new(pool, reference, 0..1, Error.call(), map, Deadline.t(), Native.flags()) :: t
  def new(pool, ref, kind, {_, _, args, _} = call, kwargs, deadline, flags) do
    %__MODULE__{
      pool: pool,
      ref: ref,
      kind: kind,
      call: call,
      args: args,
      kwargs: kwargs,
      deadline: deadline,
      flags: flags
    }
  end

  @doc "Hands it over."
  @spec submit(t) :: term
  def submit(%{pool: {_, _, native}, call: {module, function, _, _}} = request) do
    left = Deadline.left(request.deadline)

    Native.call(
      native,
      request.ref,
      request.kind,
      module,
      function,
      request.args,
      request.kwargs,
      left,
      request.flags
    )
  end

  @doc "Hands it over, and waits for its end."
  @spec run(t) :: {result, t}
  def run(request) do
    event = submit(request)
    step(if(waits?(event), do: request, else: leave_queue(request)), event)
  end

  @doc "From what was said of it to its end."
  @spec step(t, term) :: {result, t}
  def step(request, {:wait, where, id, _left}), do: await_message(request, where, id)

  def step(request, {:ask, where, id, left, ask}),
    do: request |> no_later(left) |> asked(ask, where, id)

  # The worker ended before it took the request: another one can have it, in the time that is left.
  def step(request, {:not_started, left}) do
    if alone?(request),
      do: {gone(), request},
      else: request |> no_later(left) |> admit() |> run()
  end

  # The worker of an object had ended before. What it printed last says nothing of this call.
  def step(request, {:gone, {:down, reason}}),
    do: {{:error, %{Error.from_down(reason) | object: true, output: []}}, request}

  def step(request, {:room, channel}), do: await_room(request, channel)

  def step(request, {:encoder}) do
    Iter.with_references(fn ->
      case Encoder.Walk.prepare(request.args, request.kwargs) do
        {:ok, args, kwargs} -> run(%{request | args: args, kwargs: kwargs})
        {:error, _} = error -> {error, request}
      end
    end)
  end

  def step(request, {:cannot_encode, path, message}) do
    error = %Typhon.EncodeError{path: path, type: nil, reason: message}
    {{:error, Lent.misplaced(request.args, request.kwargs) || error}, request}
  end

  # All workers are being replaced or belong to sessions. Wait for the first one.
  def step(%{pool: {_, pid, _}} = request, :no_worker),
    do: await_worker(request, fn -> Pool.await_any(pid, Deadline.left(request.deadline)) end)

  # The same of the one worker that it has to go to: by its key, or because an object of an argument lives there.
  def step(%{pool: {_, pid, _}} = request, {:held, place}),
    do: await_worker(request, fn -> Pool.await_worker(pid, place, Deadline.left(request.deadline)) end)

  def step(request, overload) when elem(overload, 0) == :overload, do: refused(request, overload)
  def step(request, :ok), do: {:ok, request}
  def step(request, reply), do: {result(reply, request.call), request}

  @doc "What came back from a worker, as its caller gets it."
  @spec result(term, Error.call()) :: result
  def result({:ok, _} = ok, _call), do: ok
  def result({:error, error}, call), do: {:error, Error.from_wire(error, call)}
  def result({:segment, handle}, call), do: handle |> Native.read() |> result(call)
  def result({:timed, reply, timings}, call), do: {:timed, result(reply, call), timings}
  def result({:down, reason}, _call), do: {:error, Error.from_down(reason)}

  @doc "A message has come for it: an event, or what Python asks."
  @spec told(t, term, Native.where(), Native.id()) :: {result, t}
  def told(request, {:ask, _, _} = ask, where, id), do: asked(request, ask, where, id)
  def told(request, event, _where, _id), do: step(request, event)

  @doc "Nothing has come for as long as it was waited for."
  @spec nothing_came(t, Native.where(), Native.id()) :: {result, t}
  def nothing_came(request, where, id) do
    if Deadline.left(request.deadline) == 0 do
      {give_up(request, where, id, []), request}
    else
      look(request)
      await_message(request, where, id)
    end
  end

  @doc "Nobody waits for it any more. What lies in the mailbox of it is taken out, but for its answer."
  @spec leave(t, Native.where(), Native.id(), [Conversation.ask()]) ::
          :cancelled | :not_started | :delivered | {:delivered, term}
  def leave(%{pool: {_, _, native}} = request, where, id, asks) do
    outcome = Native.cancel(native, where, id)
    Conversation.leave(request.ref, asks, fn -> context(request, where, id) end)
    outcome
  end

  # --- waiting ---

  defp await_message(%{ref: ref} = request, where, id) do
    receive do
      {^ref, event} -> told(request, event, where, id)
    after
      min(Deadline.left(request.deadline), @look_after) -> nothing_came(request, where, id)
    end
  end

  # It takes long. That is no fault; but a process that has been stopped would not answer in all eternity, and nobody hears of it.
  defp look(%{pool: {_, nil, _}}), do: :ok
  defp look(%{pool: {_, pid, _}}), do: Board.look(Registry.options(pid)[:board])

  defp await_room(request, channel) do
    with false <- alone?(request), {:ok, request} <- queue(request) do
      case Room.wait(channel, request.ref, Deadline.left(request.deadline)) do
        :room -> run(request)
        :timeout -> {{:error, Error.not_begun(request.call)}, leave_queue(request)}
      end
    else
      true ->
        Room.forget(channel, request.ref)
        {gone(), request}

      overload ->
        Room.forget(channel, request.ref)
        refused(request, overload)
    end
  end

  defp await_worker(request, wait) do
    with false <- alone?(request), {:ok, request} <- queue(request) do
      case wait.() do
        :ok -> run(request)
        :moved -> moved(request)
        :timeout -> {{:error, Error.not_begun(request.call)}, leave_queue(request)}
        other -> {other, leave_queue(request)}
      end
    else
      true -> {gone(), request}
      overload -> refused(request, overload)
    end
  end

  # The place of its key is not there any more: whoever knows the key looks for the new one.
  defp moved(%{flags: flags} = request) do
    if is_integer(flags) and Bitwise.bsr(flags, Wire.place_bit()) != 0,
      do: {{:error, :moved}, leave_queue(request)},
      else: run(request)
  end

  # Its channel is the only one that could have it: that of a worker which is being started, or looked after.
  defp alone?(%{pool: {_, pid, _}}), do: pid == nil
  defp gone, do: {:error, %Typhon.WorkerError{reason: :gone}}

  defp waits?(:no_worker), do: true
  defp waits?({kind, _}) when kind in [:room, :held], do: true
  defp waits?(_), do: false

  # The caller itself waits: it is counted, and refused when there are too many.
  defp queue(%{ticket: nil, flags: flags, pool: {_, _, native}} = request) do
    named? = is_tuple(flags) or Bitwise.band(flags, Wire.admitted()) != 0
    with {:ok, ticket} <- Native.pool_wait(native, named?), do: {:ok, admit(%{request | ticket: ticket})}
  end

  defp queue(request), do: {:ok, request}

  defp leave_queue(%{ticket: nil} = request), do: request

  defp leave_queue(request) do
    Native.pool_done(request.ticket)
    %{request | ticket: nil}
  end

  defp refused(%{pool: {key, _, _}, call: {module, function, args, _}} = request, overload) do
    error = OverloadError.new(key, overload)
    Telemetry.overload(error, %{module: module, function: function, arity: length(args)})
    {{:error, error}, request}
  end

  # What was said of the time is exact; what was reckoned here may be late.
  defp no_later(request, left), do: %{request | deadline: min(request.deadline, Deadline.from(left))}

  defp admit(request), do: %{request | flags: mark(request.flags, Wire.admitted())}

  @doc "Flags with one more bit set."
  @spec mark(Native.flags(), non_neg_integer) :: Native.flags()
  def mark({bits, where, parent}, bit), do: {Bitwise.bor(bits, bit), where, parent}
  def mark(flags, bit), do: Bitwise.bor(flags, bit)

  # --- what Python asks ---

  defp asked(request, ask, where, id), do: asked(request, ask, context(request, where, id))

  defp asked(request, ask, %{where: where, id: id} = context) do
    {printed, event} = Conversation.handle(ask, context)

    request =
      if printed == "", do: request, else: %{request | printed: Output.last_lines(request.printed, printed)}

    case event do
      {:ok, _} = ok -> {ok, request}
      # Its deadline is what it was at the first question.
      {:ask, ^where, ^id, left, ask} when left != 0 -> asked(request, ask, context)
      _ -> unless_late(request, event, where, id)
    end
  end

  defp unless_late(request, event, where, id) do
    if Deadline.left(request.deadline) == 0,
      do: {too_late(request, event, where, id), request},
      else: step(request, event)
  end

  # What Python makes of an answer that came too late for it is not the result.
  defp too_late(request, event, where, id) do
    result =
      case event do
        {:wait, _, _, _} -> give_up(request, where, id, [])
        {:ask, _, _, _, ask} -> give_up(request, where, id, [ask])
        reply -> result(reply, request.call)
      end

    case result do
      {:ok, _} = ok -> ok
      {:timed, {:ok, _}, _} = ok -> ok
      {:error, %Typhon.TimeoutError{}} = error -> error
      _ -> {:error, Error.timeout(request.call)}
    end
  end

  # The answer may have come at the very moment the time ran out: then it is there, so the caller gets it.
  defp give_up(%{pool: {_, _, native}, call: call} = request, where, id, asks) do
    importing = Native.importing(native, where, id)

    case leave(request, where, id, asks) do
      :cancelled -> {:error, Error.timeout(call, importing)}
      :not_started -> {:error, Error.not_begun(call)}
      {:delivered, reply} -> result(reply, call)
      :delivered -> delivered(request)
    end
  end

  defp delivered(request) do
    case Conversation.delivered(request.ref) do
      {:ok, {:not_started, _left}} -> {:error, Error.not_begun(request.call)}
      {:ok, reply} -> result(reply, request.call)
      :none -> {:error, Error.timeout(request.call)}
    end
  end

  defp context(%{pool: {_, pid, native}} = request, where, id) do
    options = request.options || Registry.options(pid)

    %{
      native: native,
      where: where,
      id: id,
      ref: request.ref,
      args: request.args,
      kwargs: request.kwargs,
      deadline: request.deadline,
      text: text(request.flags),
      stdio: Process.get(@stdio) || options.stdio,
      allow: options.allow,
      max_mailbox: options.max_mailbox,
      metadata: options.metadata
    }
  end

  # What Python is told in the course of the call is as its arguments are.
  defp text({bits, _where, _parent}), do: text(bits)
  defp text(bits), do: Bitwise.band(bits, Wire.text())

  @doc "Runs a function whose calls print to `stdio`."
  @spec with_stdio(term, (() -> result)) :: result when result: term
  def with_stdio(nil, fun), do: fun.()

  def with_stdio(stdio, fun) do
    before = Process.put(@stdio, if(stdio == :group_leader, do: :caller, else: stdio))

    try do
      fun.()
    after
      if before, do: Process.put(@stdio, before), else: Process.delete(@stdio)
    end
  end
end
