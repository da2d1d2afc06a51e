defmodule Classifier do
  @moduledoc """
  What a ticket is about: `"billing"`, `"fault"` or `"praise"`.
  """

  alias Classifier.Model

  @doc "The labels of several texts, in their order. One request: a list is much faster than a text at a time."
  @spec classify([String.t()]) :: {:ok, [String.t()]} | {:error, Typhon.error()}
  def classify(texts) do
    model = Model.current()

    # Its Python has ended, before this call or in it. A new one is trained, and asked once: a text that ends each Python that
    # reads it is an error in the end.
    with {:error, %Typhon.WorkerError{}} <- predict(model, texts),
         {:ok, model} <- Model.instead_of(model),
         do: predict(model, texts)
  end

  # Runs in the worker that has the model. It is scikit-learn's own `predict`: its array of strings is a `Typhon.Array`.
  defp predict(model, texts) do
    with {:ok, labels} <- Typhon.call(Classifier.Python, model, :predict, [texts]),
         do: {:ok, Typhon.Array.to_list(labels)}
  end
end
