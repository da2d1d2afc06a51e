defmodule Typhon.Sigil do
  @moduledoc """
  `~PY` writes Python code in Elixir: a `Typhon.Code`, which knows the file and the line where it stands.

      import Typhon.Sigil
      {:ok, py} = Typhon.start_link(workers: 1)

      share = ~PY\"""
      total = sum(rows)
      [row / total for row in rows]
      \"""

      Typhon.eval(py, share, rows: [1, 1, 2])    # => {:ok, [0.25, 0.25, 0.5]}

  Elixir reads sigils of several letters from 1.15 on. On 1.14 the same is `~P`, which newer ones have, too.

  Nothing is interpolated, and no backslash is Elixir's: `\#{}` and `\\n` are Python's. What varies goes into bindings.

  When the module is compiled, a syntax error is an error of its compilation, with its file and line, if there is a Python to ask: `python3`
  on the PATH, or what `config :typhon, compile_python: "…"` names (as `python:` of `Typhon.start_link/1`; `false` for none). It
  reads the code and does not run it. Name one there when the pool's Python is newer and knows more syntax. Without a Python, or with one older
  than 3.11, the code is compiled as it stands. One that does not answer within
  20 seconds (`config :typhon, compile_timeout: 20_000`) is killed, with a warning, and not asked again.
  """

  alias Typhon.{Code, Outline}

  @doc """
  A `Typhon.Code`. From Elixir 1.15 on: `~PY"1 + 1"`.
  """
  defmacro sigil_PY(code, modifiers), do: expand(code, modifiers, __CALLER__)

  @doc "The same with one letter, for Elixir 1.14: `~P\"1 + 1\"`."
  defmacro sigil_P(code, modifiers), do: expand(code, modifiers, __CALLER__)

  defp expand({:<<>>, meta, [text]}, modifiers, caller) when is_binary(text) do
    line = meta[:line] || caller.line
    # The text of a heredoc begins on the line after.
    line = max(if(meta[:indentation], do: line + 1, else: line), 1)
    code = %Code{code: text, file: file(caller.file), line: line}
    place = {code.file, line}

    case modifiers do
      [] -> check(code, place)
      _ -> raise(CompileError, file: code.file, line: line, description: unknown(modifiers))
    end
  end

  defp check(code, place) do
    Outline.names!(code.code, place)
    Macro.escape(code)
  end

  # What is compiled does not depend on the machine that it is compiled on.
  defp file(path), do: Path.relative_to_cwd(path)

  defp unknown(modifiers), do: "~PY has no modifier #{inspect(to_string(modifiers))}"
end
