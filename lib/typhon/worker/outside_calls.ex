defmodule Typhon.Worker.OutsideCalls do
  @moduledoc false
  # Questions and statements of Python that no waiting caller is there for: of casts, of threads and handlers of its own, of a call
  # that was given up. They reach the worker's process. It must not be held up, so each question is answered by a process of
  # its own, which ends with the worker's.
  #
  # All of it is counted: the native library bounds what it has brought here and what has not been dealt with. A statement has
  # been when it was passed on, a question when its process has ended, a message when its receiver takes what it gets.

  require Typhon.Wire

  alias Typhon.{Conversation, Native, Wire}
  alias Typhon.Worker.{Backlog, MailboxLimit, Output, Printer}

  # What one that has answered exits with.
  @answered {__MODULE__, :answered}
  # In the dictionary of the worker's process.
  @refuser {__MODULE__, :refuser}
  @sent {__MODULE__, :sent}
  # So much weight of messages to names is passed on before it is looked whether they are taken; the native library's own number
  # for pids.
  @sent_at_once 256

  @doc """
  What the native library brought. `weight`: what it counts for, if it is a statement; `printer`: of the worker; `metadata`: of
  what is logged in its name.
  """
  @spec handle(
          Native.channel(),
          {non_neg_integer, Conversation.ask()},
          pos_integer,
          map,
          pid,
          keyword,
          Native.pool()
        ) :: :ok
  def handle(channel, {_id, {:ask, 0, {:ok, {:print, text}}}}, weight, _config, printer, _metadata, _native)
      when is_binary(text),
      do: Printer.print(printer, text, fn -> Native.channel_heard(channel, Wire.statement(), weight) end)

  # The caller has given up, so nobody wants to know.
  def handle(channel, {id, {:ask, tag, _}}, _weight, config, _printer, metadata, native)
      when id != 0 and tag != 0 do
    send(refuser(channel, context(channel, config, metadata, native, nil)), {:refuse, tag})
    :ok
  end

  def handle(
        channel,
        {_id, {:ask, 0, {:ok, {:send, dest, _}}} = ask},
        weight,
        config,
        _printer,
        metadata,
        native
      ) do
    told(ask, context(channel, config, metadata, native, self()))
    count_sent(channel, dest, weight, config)
  end

  # Everything else is for Logger, which may be slow. A large one (a segment) takes its time.
  def handle(channel, {_id, {:ask, 0, {kind, _}} = ask}, weight, config, printer, metadata, native)
      when kind in [:ok, :error] do
    context = context(channel, config, metadata, native, self())

    heard = fn -> Native.channel_heard(channel, Wire.statement(), weight) end
    Printer.log(printer, fn -> told(ask, context) end, heard)
  end

  def handle(channel, {_id, {:ask, tag, _} = ask}, weight, config, _printer, metadata, native) do
    owner = self()

    # Its end says that it is done; a crash in here does not end the owner, who traps exits. What it runs may end it as if all
    # was well, or take its link away.
    {pid, _monitor} =
      :erlang.spawn_opt(
        fn ->
          collect(owner)
          Conversation.handle(ask, context(channel, config, metadata, native, owner))
          exit(@answered)
        end,
        [:link, :monitor]
      )

    Process.put({__MODULE__, pid}, {channel, tag, weight, context(channel, config, metadata, native, nil)})
    :ok
  end

  @doc "A process that answered has ended; `true` when it was one of these. Who waits for its answer is told when there is none."
  @spec ended(pid, term) :: boolean
  def ended(pid, reason) do
    case Process.delete({__MODULE__, pid}) do
      nil ->
        false

      {channel, 0, weight, _context} ->
        Native.channel_heard(channel, Wire.statement(), weight)
        true

      {channel, tag, _weight, context} ->
        Native.channel_heard(channel, Wire.question(), 1)
        if reason != @answered, do: send(refuser(channel, context), {:lost, tag, reason})
        true
    end
  end

  @doc "The channel has been closed: nobody is to be told anything there."
  @spec forget() :: :ok
  def forget do
    with {_channel, pid} <- Process.delete(@refuser) do
      Process.unlink(pid)
      Process.exit(pid, :kill)
    end

    :ok
  end

  @doc "The worker is ended for what it did: nothing more is done for it."
  @spec abandon() :: :ok
  def abandon do
    for {{__MODULE__, pid}, _} when is_pid(pid) <- Process.get() do
      Process.delete({__MODULE__, pid})
      Process.exit(pid, :kill)
    end

    :ok
  end

  @doc "A message of Python to a process that the native library did not deliver: for another node."
  @spec deliver(Native.channel(), Native.reply() | {:error, :not_allowed | :control}, pos_integer, map) :: :ok
  def deliver(channel, {:ok, {pid, message}}, weight, config) when is_pid(pid) do
    cond do
      config.allow != :all and not Native.handed?(nil, channel, pid) ->
        deliver(channel, {:error, :not_allowed}, weight, config)

      pid == self() ->
        Backlog.forward(channel, message)
        count_sent(channel, pid, weight, config)

      config.allow != :all and Native.control?(nil, channel, pid, message) ->
        deliver(channel, {:error, :control}, weight, config)

      true ->
        send(pid, message)
        count_sent(channel, pid, weight, config)
    end
  end

  # A thread of the native library's could not make it.
  def deliver(channel, {:segment, handle}, weight, config) do
    deliver(channel, Native.read(handle), weight, config)
    owner = self()
    spawn(fn -> collect(owner) end)
    :ok
  end

  def deliver(channel, undelivered, weight, _config),
    do:
      Printer.warning(why(undelivered), [], fn -> Native.channel_heard(channel, Wire.statement(), weight) end)

  defp why({:error, :not_allowed}) do
    "a message from a worker was dropped: it went to a process that its pool's allow: and send_to: do not let it reach"
  end

  defp why({:error, :control}) do
    "a message from a worker was dropped: with the allow: of its pool it sends nothing by which OTP, the emulator or Typhon " <>
      "control processes"
  end

  defp why(other), do: "a message from a worker could not be delivered: #{inspect(other)}"

  @doc """
  So many messages of that weight together have been sent to that process, or to it among others: more may be when it takes
  them.
  """
  @spec sent(Native.channel(), pid, pos_integer, pos_integer, map) :: :ok
  # They go on to Python itself.
  def sent(channel, pid, _count, weight, _config) when pid == self(),
    do: Backlog.when_short(fn -> Native.channel_heard(channel, Wire.statement(), weight) end)

  def sent(channel, _dest, _count, weight, %{max_mailbox: :infinity}),
    do: Native.channel_heard(channel, Wire.statement(), weight)

  # It may not answer at once how many messages it has.
  def sent(channel, dest, count, weight, %{max_mailbox: most}) do
    owner = self()

    spawn_link(fn ->
      case MailboxLimit.await(dest, most, {count, weight - count}) do
        :ok ->
          Native.channel_heard(channel, Wire.statement(), weight)

        :full ->
          send(owner, {:typhon, channel, {:flood, MailboxLimit.flooded(dest, most)}})
      end
    end)

    :ok
  end

  defp count_sent(channel, dest, weight, config) do
    {count, sum} = Process.get(@sent, {0, 0})
    {count, sum} = {count + 1, sum + weight}

    if sum >= @sent_at_once do
      Process.put(@sent, {0, 0})
      sent(channel, dest, count, sum, config)
    else
      Process.put(@sent, {count, sum})
      :ok
    end
  end

  # What a worker says is no reason for this process to end.
  defp told(ask, context) do
    Conversation.handle(ask, context)
  catch
    kind, reason ->
      Printer.warning(
        "what a worker said could not be dealt with: " <>
          Exception.format_banner(kind, reason, __STACKTRACE__)
      )
  end

  # One process for all of them, as each may have to wait for room.
  defp refuser(channel, context) do
    with {^channel, pid} <- Process.get(@refuser), true <- Process.alive?(pid) do
      pid
    else
      _ ->
        pid = spawn_link(fn -> refuse(channel, context) end)
        Process.put(@refuser, {channel, pid})
        pid
    end
  end

  defp refuse(channel, context) do
    receive do
      {:refuse, tag} ->
        Conversation.refuse(tag, "the caller has given up on this call", context)
        Native.channel_heard(channel, Wire.refusal(), 1)

      {:lost, tag, reason} ->
        why = "the process that was to answer has ended: " <> Exception.format_exit(reason)
        Conversation.refuse(tag, why, context)
    end

    refuse(channel, context)
  end

  # An idle process keeps its garbage: here handles of Python's objects, and shared memory.
  defp collect(owner), do: :erlang.garbage_collect(owner, async: make_ref(), type: :minor)

  defp context(channel, config, metadata, native, owner) do
    %{
      native: native,
      where: channel,
      owner: owner,
      args: [],
      kwargs: %{},
      deadline: :infinity,
      stdio: Output.target(config.stdio),
      allow: config.allow,
      max_mailbox: config.max_mailbox,
      metadata: metadata
    }
  end
end
