defmodule Typhon.Worker do
  @moduledoc """
  A Python that [poolboy](https://github.com/devinus/poolboy) manages, for those who have such a pool:

      children = [
        :poolboy.child_spec(:python, [name: {:local, :python}, worker_module: Typhon.Worker, size: 2, max_overflow: 1],
          python: ".venv", python_path: ["priv/py"])
      ]

      {:ok, _} = Supervisor.start_link(children, strategy: :one_for_one)
      {:ok, 4.0} = :poolboy.transaction(:python, fn py -> Typhon.call(py, :math, :sqrt, [16]) end)

  The pid that poolboy hands out is a pool with one worker: every function of `Typhon` takes it. A process that has checked it
  out has the Python to itself, until it checks it in.

  `{Typhon, workers: 2}` needs no poolboy, and has no process that each call must ask.
  """

  # Here is what others ask of a worker's process; what it does is in Typhon.Worker.Machine.

  alias Typhon.{Deadline, Native, StartError}
  alias Typhon.Worker.{Machine, Steps}

  @type config :: map

  @typedoc "Which place of the pool it is for, its number among all workers of the pool, and what it is there."
  @type place :: %{
          index: non_neg_integer,
          serial: non_neg_integer,
          role: :holder | :successor
        }

  @doc false
  @spec child_spec({config, Native.pool(), place}) :: Supervisor.child_spec()
  def child_spec({config, _native, place} = arg) do
    %{
      id: {__MODULE__, place.index, place.serial},
      start: {__MODULE__, :start_link, [arg]},
      # One that gave up its place ends by itself.
      restart: :transient,
      # More than the machine itself takes: its terminate/3 sees to it that the process is gone.
      shutdown: config.shutdown + 5_000
    }
  end

  @doc """
  Starts a pool with one worker, linked to the caller: what poolboy calls. The options are those of `Typhon.start_link/1`
  without `:workers` and `:name`.

      iex> {:ok, py} = Typhon.Worker.start_link(python: "python3")
      iex> Typhon.call(py, :math, :sqrt, [16])
      {:ok, 4.0}
  """
  @spec start_link([Typhon.start_option()]) :: {:ok, pid} | {:error, StartError.t()}
  @spec start_link({config, Native.pool(), place}) :: :gen_statem.start_ret()
  def start_link(options) when is_list(options),
    do: options |> Typhon.Options.poolboy!() |> Typhon.start_link()

  def start_link(arg), do: :gen_statem.start_link(Machine, arg, [])

  # A map for Typhon.info/1.
  @doc false
  @spec info(pid) :: map
  def info(worker), do: :gen_statem.call(worker, :info)

  # Tells the worker to let go of its Python; its supervisor ends it. Who waits for it gets the error.
  @doc false
  @spec leave(pid, Exception.t() | nil) :: :ok
  def leave(worker, error \\ nil), do: :gen_statem.cast(worker, {:leave, error})

  # Tells a worker to give up its place to another one that waits for it, to finish its calls, and to end.
  @doc false
  @spec yield_to(pid, pid) :: :ok
  def yield_to(worker, successor), do: :gen_statem.cast(worker, {:yield_to, successor})

  # The place is free for this successor.
  @doc false
  @spec take_place(pid) :: :ok
  def take_place(worker), do: :gen_statem.cast(worker, :take_place)

  # Tells a worker to give up its place, to finish its calls, and to end.
  @doc false
  @spec retire(pid) :: :ok
  def retire(worker), do: :gen_statem.cast(worker, :retire)

  # The pool has another worker now: those who wait for this one are to look again.
  @doc false
  @spec stir(pid) :: :ok
  def stir(worker), do: :gen_statem.cast(worker, :stir)

  # A call takes long: if the process has been stopped, and goes on being so, it is killed.
  @doc false
  @spec look(pid) :: :ok
  def look(worker), do: :gen_statem.cast(worker, :look)

  # Runs a function of Python in the worker when it has finished its calls, and before it takes another one. One that starts
  # runs it first thing; one that has no Python has nothing to run it in: {:ok, nil}.
  @doc false
  @spec between_calls(pid, Steps.step(), timeout) :: {:ok, term} | {:error, Exception.t()}
  def between_calls(worker, step, timeout) do
    # What comes later goes nowhere: the alias of this call ends with it.
    :gen_statem.call(worker, {:between_calls, step, Deadline.from(timeout)}, timeout)
  end

  @doc "The session `ref` does not need the worker any more."
  @spec checkin(pid, reference) :: :ok
  def checkin(worker, ref), do: :gen_statem.call(worker, {:checkin, ref})

  @doc "The session `ref` has found another worker, or none in time."
  @spec cancel_checkout(pid, reference) :: :ok
  def cancel_checkout(worker, ref), do: :gen_statem.cast(worker, {:checkin, ref})
end
