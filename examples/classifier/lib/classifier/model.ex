defmodule Classifier.Model do
  @moduledoc """
  Trains the model when the application starts, and again when the Python that has it is gone.

  This process is not on the way of those who ask the model: they find its handle in a persistent term.
  """

  use GenServer

  @type model :: Typhon.Object.t()

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The model, as it is now."
  @spec current :: model
  def current, do: :persistent_term.get(__MODULE__)

  @doc "The model that takes the place of one that is lost. Many may ask at once: it is trained once."
  @spec instead_of(model) :: {:ok, model} | {:error, Typhon.error()}
  def instead_of(lost), do: GenServer.call(__MODULE__, {:instead_of, lost}, 90_000)

  # Whoever is started after this one finds a model.
  @impl true
  def init(nil) do
    case train() do
      {:ok, model} -> {:ok, model}
      {:error, error} -> {:stop, error}
    end
  end

  @impl true
  def handle_call({:instead_of, model}, _from, model) do
    case train() do
      {:ok, trained} -> {:reply, {:ok, trained}, trained}
      error -> {:reply, error, model}
    end
  end

  # Somebody else has asked before.
  def handle_call({:instead_of, _older}, _from, model), do: {:reply, {:ok, model}, model}

  # The worker may be a new one, which still starts: the call waits for it.
  defp train do
    with {:ok, model} <- Typhon.call(Classifier.Python, :tickets, :train, [examples()], timeout: 60_000) do
      :persistent_term.put(__MODULE__, model)
      {:ok, model}
    end
  end

  defp examples do
    for line <- File.stream!(Application.app_dir(:classifier, "priv/tickets.csv")) do
      [label, text] = line |> String.trim() |> String.split(",", parts: 2)
      {label, text}
    end
  end
end
