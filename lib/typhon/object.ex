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

  The object lives in the worker that made it: calls that name it run there, and fail with a `Typhon.WorkerError` when that
  worker is gone. It is released in Python when no Elixir process holds the handle any more.

  `type` is the full name of its Python class. Everything else is private.
  """

  # `ref` is the native library's resource: its destruction releases the object in Python.
  @enforce_keys [:id, :type, :ref]
  defstruct [:id, :type, :ref]

  @type t :: %__MODULE__{id: non_neg_integer, type: String.t(), ref: reference}

  defimpl Inspect do
    def inspect(%{type: type}, _opts), do: "#Typhon.Object<#{type}>"
  end
end
