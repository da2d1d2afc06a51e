defmodule Typhon.StandInHost do
  @moduledoc """
  A host that runs nothing, for tests of a worker's states. The process under `tester` in the pool's configuration hears what is
  asked of it, {:host, what}, and plays the other side: it greets (greet/2) and ends (ends/2).
  """

  @behaviour Typhon.Worker.Host

  alias Typhon.Worker.Host

  @enforce_keys [:ref, :tester, :channel, :answers]
  defstruct [:ref, :tester, :channel, :answers, ended?: false]

  @doc "As one that has started says that it is there."
  def greet(%{channel: channel}, worker),
    do: send(worker, {:typhon, channel, {:ready, %{"version" => "0.1"}}})

  @doc "It ends, with a status as a Port has it."
  def ends(%{ref: ref}, worker, status), do: send(worker, {ref, {:ends, status}})

  @impl true
  def prepare(config), do: {:ok, config}

  @impl true
  def in_vm?, do: false

  # `answers`: what becomes of a start, and of what is asked, where that is not what every host does.
  @impl true
  def open(%{tester: tester, answers: answers}, ends) do
    host = %__MODULE__{ref: make_ref(), tester: tester, channel: ends.channel, answers: answers}
    send(tester, {:host, {:open, host}})
    Map.get(answers, :open, {:ok, host})
  end

  @impl true
  def adopt(host, greeting) do
    send(host.tester, {:host, {:adopt, greeting}})
    Map.get(host.answers, :adopt, {:ok, host})
  end

  @impl true
  def event(%{ref: ref} = host, {ref, {:ends, status}}),
    do: {:ended, %{host | ended?: true}, Host.exit_of(status)}

  def event(_host, _message), do: :unknown

  @impl true
  def interrupt(host, id) do
    send(host.tester, {:host, {:interrupt, id}})
    true
  end

  @impl true
  def kill(host) do
    send(host.tester, {:host, :kill})
    ends(host, self(), 137)
    :ok
  end

  @impl true
  def abort(host) do
    send(host.tester, {:host, :abort})
    :goes
  end

  @impl true
  def close(host) do
    send(host.tester, {:host, :close})
    host
  end

  @impl true
  def see_off(host, _grace) do
    send(host.tester, {:host, {:see_off, host.ended?}})
    :ok
  end

  @impl true
  def os_pid(_host), do: nil

  @impl true
  def memory(_host), do: 42

  @impl true
  def stopped?(host), do: Map.get(host.answers, :stopped?, false)
end
