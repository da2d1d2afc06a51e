defmodule Typhon.RubyError do
  @moduledoc """
  Ruby raised an exception (in a pool with `language: :ruby`).

  * `type` – the name of its class: `"ZeroDivisionError"`, `"MyApp::Error"`
  * `message` – what the exception says
  * `backtrace` – where it happened, innermost first, as Ruby has it. Each entry is a map with `:file`, `:line` and `:function`
  * `cause` – the exception that was being handled when this one was raised, or nil
  * `text` – the exception as Ruby itself prints it

      iex> error = %Typhon.RubyError{type: "KeyError", message: "key not found: :a"}
      iex> Exception.message(error)
      "key not found: :a (KeyError)"
  """

  defexception type: nil, message: "", backtrace: [], cause: nil, text: nil

  @type frame :: %{file: String.t(), line: non_neg_integer, function: String.t()}
  @type t :: %__MODULE__{
          type: String.t(),
          message: String.t(),
          backtrace: [frame],
          cause: t | nil,
          text: String.t() | nil
        }

  @impl true
  def message(%{text: text}) when is_binary(text) and text != "", do: String.trim_trailing(text)
  def message(error), do: "#{error.message} (#{error.type})"
end
