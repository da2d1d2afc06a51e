defmodule Typhon.Code do
  @moduledoc """
  Python code with the place where it stands, as `~PY` of `Typhon.Sigil` makes it. `Typhon.eval/4` takes it as it takes a
  string, and then errors name that place without `file:` and `line:`.

      {:ok, py} = Typhon.start_link(workers: 1)
      code = %Typhon.Code{code: "total = 0\\ntotal / count", file: "lib/shop.ex", line: 12}
      {:error, error} = Typhon.eval(py, code, count: 0)
      {hd(error.traceback).file, hd(error.traceback).line}    # => {"lib/shop.ex", 13}

  * `code` – the text
  * `file` – the file that it stands in, below the project's folder; nil: a name is made of the code
  * `line` – the line of that file on which the code begins
  """

  @enforce_keys [:code]
  defstruct [:code, file: nil, line: 1]

  @type t :: %__MODULE__{code: String.t(), file: String.t() | nil, line: pos_integer}
end
