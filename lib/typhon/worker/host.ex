defmodule Typhon.Worker.Host do
  @moduledoc false
  # What runs a worker's Python, at the other end of its channel: a process of the operating system (Host.OsProcess), or an
  # interpreter in this VM (Host.Embedded). A worker knows of it what is here and nothing else, so that one of another kind, on
  # another node or behind a URL, is a module of its own, and a value of `isolation:` in of/1.
  #
  #                    kill ──────────────────────────────────┐ (it has to end)
  #                     │                                     ▼
  #   open ──greets──► adopt ──► interrupt, memory, … ──► event: {:ended, …} ──► close
  #    │                                                                          ▲
  #    └──greets not, or not well──► abort ───────────────────────────────────────┤
  #                                                        (it is to go) ─────────┘──► see_off
  #
  # A host is a struct of its module, and belongs to the worker's process. What it sends there is a tuple of two that begins with a
  # reference: the last ones may come when it has been closed, and are not for Python then.

  alias Typhon.{Language, Native, Signal, StartError}

  @type t :: struct

  @typedoc "Of the other end: the channel, its memory, the pipe for what is printed as the BEAM reads it, and that for writing."
  @type ends :: %{
          channel: Native.channel(),
          region: Language.region(),
          output: Native.descriptor(),
          fd: integer
        }

  @typedoc """
  How it ended. `reason`: that of the WorkerError, when the pool has not killed it; `refused`: what the system said when there was
  no program to start.
  """
  @type exit :: %{
          status: non_neg_integer | nil,
          signal: String.t() | nil,
          reason: :exit | :signal | {:limit, :cpu_time | :memory},
          refused: String.t() | nil
        }

  @doc "Once for a pool, before its workers: whether there can be any, and what they have to know."
  @callback prepare(config :: map) :: {:ok, map} | {:error, StartError.t()}

  @doc "Whether it is in this VM: then binaries are lent to it, and not copied."
  @callback in_vm? :: boolean

  @doc "Starts one. It greets by the channel when it is there."
  @callback open(config :: map, ends) :: {:ok, t} | {:error, StartError.t()}

  @doc "It has greeted, as who it says. `:no_process`: it has ended, and event/2 is about to say so."
  @callback adopt(t, greeting :: map) :: {:ok, t} | {:error, :foreign | :no_process}

  @doc "A message to the worker's process, of which the host makes what it knows."
  @callback event(t, message :: term) :: {:ok, t} | {:ended, t, exit} | :unknown

  @doc "A request is to be given up in Python, politely."
  @callback interrupt(t, Native.id()) :: boolean

  @doc "It has to end now: event/2 tells of it."
  @callback kill(t) :: :ok

  @doc """
  Its start has failed, or is not wanted any more. `:ends`: event/2 tells of its end, and of the last that it printed; `:goes`: it
  goes when it is closed.
  """
  @callback abort(t) :: :ends | :goes

  @doc "Tells it to go, if it has not, and hears of it no more. Returns what see_off/2 needs; nil: nothing."
  @callback close(t) :: t | nil

  @doc "Waits until one that was closed has gone, and helps when it does not: after so many milliseconds, and as many again."
  @callback see_off(t, grace :: non_neg_integer) :: :ok

  @doc "The number that it has in the operating system, if it has one of its own."
  @callback os_pid(t) :: pos_integer | nil

  @doc "What it holds in memory, in bytes, as far as that can be told."
  @callback memory(t) :: non_neg_integer | nil

  @doc "Whether nothing of it runs, not even what would say so."
  @callback stopped?(t) :: boolean

  @spec of(:process | :interpreter) :: module
  def of(:process), do: Typhon.Worker.Host.OsProcess
  def of(:interpreter), do: Typhon.Worker.Host.Embedded

  @spec open(map, ends) :: {:ok, t} | {:error, StartError.t()}
  def open(config, ends), do: config.host.open(config, ends)

  @spec adopt(t, map) :: {:ok, t} | {:error, :foreign | :no_process}
  def adopt(%module{} = host, greeting), do: module.adopt(host, greeting)

  @spec event(t | nil, term) :: {:ok, t} | {:ended, t, exit} | :unknown
  def event(nil, _message), do: :unknown
  def event(%module{} = host, message), do: module.event(host, message)

  @spec interrupt(t, Native.id()) :: boolean
  def interrupt(%module{} = host, id), do: module.interrupt(host, id)

  @spec kill(t) :: :ok
  def kill(%module{} = host), do: module.kill(host)

  @spec abort(t) :: :ends | :goes
  def abort(%module{} = host), do: module.abort(host)

  @spec close(t | nil) :: t | nil
  def close(nil), do: nil
  def close(%module{} = host), do: module.close(host)

  @spec see_off(t, non_neg_integer) :: :ok
  def see_off(%module{} = host, grace), do: module.see_off(host, grace)

  @spec os_pid(t | nil) :: pos_integer | nil
  def os_pid(nil), do: nil
  def os_pid(%module{} = host), do: module.os_pid(host)

  @spec memory(t | nil) :: non_neg_integer | nil
  def memory(nil), do: nil
  def memory(%module{} = host), do: module.memory(host)

  @spec stopped?(t) :: boolean
  def stopped?(%module{} = host), do: module.stopped?(host)

  @doc "An exit status as a Port has it: that of the process, or 128 and the number of a signal; nil when it is not known."
  @spec exit_of(non_neg_integer | nil) :: exit
  def exit_of(status) do
    {status, signal} = Signal.split(status)
    %{status: status, signal: signal, reason: if(signal, do: :signal, else: :exit), refused: nil}
  end

  @doc "What the control pipe says to give up a request (docs/internals.md, \"The worker process\")."
  @spec cancel(Native.id()) :: String.t()
  def cancel(id), do: "C#{id}\n"
end
