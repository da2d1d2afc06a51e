defmodule Typhon.PythonError do
  @moduledoc """
  Python raised an exception.

  * `type` – the name of its class: `"ZeroDivisionError"`, `"mymod.MyError"` (with the module, unless it is a builtin)
  * `message` – `str(exception)`
  * `traceback` – where it happened, outermost call first, as Python prints it, without the frames of an import. Each entry is a
    map with `:file`, `:line`, `:function` and `:source` (the line of source code, or nil where Python cannot find it)
  * `notes` – what `add_note` attached, a list of strings; of mistakes that many make Typhon adds what to do about it
  * `cause` – the exception that led to this one, or nil
  * `cause_kind` – `:cause` for `raise … from …`, `:context` for an exception raised while another was handled, nil without one
  * `text` – the traceback as Python itself formats it

  `Exception.message/1` prints like Python's own traceback:

      iex> error = %Typhon.PythonError{
      ...>   type: "ZeroDivisionError",
      ...>   message: "division by zero",
      ...>   traceback: [%{file: "shop.py", line: 3, function: "share", source: "return total / n"}]
      ...> }
      iex> Exception.message(error)
      ~s|Traceback (most recent call last):\\n  File "shop.py", line 3, in share\\n    return total / n\\nZeroDivisionError: division by zero|
  """

  defexception type: nil,
               message: "",
               traceback: [],
               notes: [],
               cause: nil,
               cause_kind: nil,
               text: nil

  @type frame :: %{
          file: String.t() | nil,
          line: non_neg_integer | nil,
          function: String.t() | nil,
          source: String.t() | nil
        }

  @type t :: %__MODULE__{
          type: String.t(),
          message: String.t(),
          traceback: [frame],
          notes: [String.t()],
          cause: t | nil,
          cause_kind: :cause | :context | nil,
          text: String.t() | nil
        }

  @impl true
  def message(%{text: text}) when is_binary(text) and text != "", do: String.trim_trailing(text)
  def message(error), do: error |> format() |> IO.iodata_to_binary()

  defp format(error) do
    [before(error), frames(error.traceback), summary(error), Enum.map(error.notes, &["\n", &1])]
  end

  defp before(%{cause: nil}), do: []

  defp before(%{cause: cause, cause_kind: kind}) do
    [
      format(cause),
      case kind do
        :cause -> "\n\nThe above exception was the direct cause of the following exception:\n\n"
        _ -> "\n\nDuring handling of the above exception, another exception occurred:\n\n"
      end
    ]
  end

  defp frames([]), do: []

  defp frames(frames) do
    [
      "Traceback (most recent call last):\n"
      | Enum.map(frames, fn frame ->
          [
            ~s|  File "#{frame.file}", line #{frame.line}, in #{frame.function}\n|,
            if(frame.source in [nil, ""],
              do: [],
              else: ["    ", String.trim_leading(frame.source), "\n"]
            )
          ]
        end)
    ]
  end

  defp summary(%{type: type, message: ""}), do: to_string(type)
  defp summary(%{type: type, message: message}), do: [to_string(type), ": ", message]
end
