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

  Nothing is interpolated, and no backslash is Elixir's: `\#{}` and `\\n` are Python's. What varies goes into
  bindings.

  ## Code that runs at once

  With the modifier `r` the code runs where it stands, on the default pool: that of `Typhon.default/1`, else the one
  that `config :typhon, default: MyApp.Python` names. The Elixir variables that the code reads are its bindings, by
  the same names. The value is that of `Typhon.eval!/4`: errors are raised.

      {:ok, default} = Typhon.default(workers: 1)
      rows = [1, 1, 2]
      ~PY"[row / sum(rows) for row in rows]"r    # => [0.25, 0.25, 0.5]
      Typhon.stop(default)

  A variable is bound when the code may read it before it has assigned it, whatever Python means by that name: a
  variable `list` stands in the place of Python's `list`. Elixir's variables stay as they are. In IEx and in cells of
  Livebook the code also binds the variables that it assigns, functions and modules included, which are
  `Typhon.Object`s: a name that no variable of Elixir can have (`DF`, `end`) is left out. The call has the usual
  timeout, and no options: `Typhon.eval/4` takes them.

  ## Syntax errors

  When the module is compiled, a syntax error is an error of its compilation, with its file and line, if there is a
  Python to ask: `python3` on the PATH, or what `config :typhon, compile_python: "…"` names (as `python:` of
  `Typhon.start_link/1`; `false` for none). It reads the code and does not run it. Name one there when the pool's
  Python is newer and knows more syntax. Without a Python, or with one older than 3.11, the code is compiled as it
  stands, and its variables are found in its tokens. One that does not answer within 20 seconds (`config :typhon,
  compile_timeout: 20_000`) is killed, with a warning, and not asked again.
  """

  alias Typhon.{Code, Default, Eval, Outline, TimeoutError}

  @doc """
  A `Typhon.Code`; with the modifier `r` the value of the code. From Elixir 1.15 on: `~PY"1 + 1"`.
  """
  defmacro sigil_PY(code, modifiers), do: expand(code, modifiers, __CALLER__)

  @doc "The same with one letter, for Elixir 1.14: `~P\"1 + 1\"`."
  defmacro sigil_P(code, modifiers), do: expand(code, modifiers, __CALLER__)

  defp expand({:<<>>, meta, [text]}, modifiers, caller) when is_binary(text) do
    line = meta[:line] || caller.line
    # The text of a heredoc begins on the line after.
    line = max(if(meta[:indentation], do: line + 1, else: line), 1)
    # What is compiled does not depend on the machine that it is compiled on.
    code = %Code{code: text, file: Path.relative_to_cwd(caller.file), line: line}
    names = Outline.names!(text, {code.file, line})

    case modifiers do
      [] ->
        Macro.escape(code)

      [?r] ->
        names = with :none <- names, do: {:ok, Outline.Names.names(text)}
        run(code, names, caller)

      _ ->
        description = "~PY has no modifier #{inspect(to_string(modifiers))}: there is r, which runs the code"
        raise CompileError, file: code.file, line: line, description: description
    end
  end

  defp run(code, {:ok, %{reads: reads, assigns: assigns}}, caller) do
    # By the form that Python gives to names.
    variables =
      for {name, nil} <- Macro.Env.vars(caller), into: %{}, do: {normal(Atom.to_string(name)), variable(name)}

    bindings = {:%{}, [], for(name <- reads, variable = variables[name], do: {name, variable})}
    code = Macro.escape(code)
    assigned = if interactive?(caller), do: Enum.filter(assigns, &assignable?/1), else: []

    if assigned == [] do
      quote do: unquote(__MODULE__).run(unquote(code), unquote(bindings))
    else
      values = for name <- assigned, do: {String.to_atom(name), Map.get(variables, name)}
      targets = for {name, _} <- values, do: variable(name)
      befores = for {_, before} <- values, do: before

      quote generated: true do
        {value, unquote(targets)} =
          unquote(__MODULE__).run(unquote(code), unquote(bindings), unquote(assigned), unquote(befores))

        value
      end
    end
  end

  # No warning of one that Python alone reads, or that begins with an underscore.
  defp variable(name), do: {name, [generated: true], nil}

  defp normal(name), do: String.normalize(name, :nfkc)

  # A cell of Livebook has the name of its notebook, and which cell it is.
  defp interactive?(%{module: nil, function: nil, file: file}),
    do: file == "iex" or String.contains?(file, "#cell:")

  defp interactive?(_caller), do: false

  defp assignable?("_" <> rest), do: rest != "" and not String.starts_with?(rest, "_")

  defp assignable?(name) do
    case Elixir.Code.string_to_quoted(name) do
      {:ok, {variable, _, nil}} -> Atom.to_string(variable) == name
      _ -> false
    end
  end

  @doc false
  @spec run(Code.t(), %{optional(String.t()) => term}) :: term
  def run(code, bindings) do
    case Typhon.eval(Default.pool!(), code, bindings) do
      {:ok, value} -> value
      {:error, error} -> raise without_options(error)
    end
  end

  @doc false
  # The value, and those of these names; what the code has not assigned is as it was before.
  @spec run(Code.t(), %{optional(String.t()) => term}, [String.t()], list) :: {term, list}
  def run(code, bindings, names, befores) do
    case Eval.assigning(Default.pool!(), code, bindings, names) do
      {:ok, {value, left}} ->
        {value, for({name, before} <- Enum.zip(names, befores), do: Map.get(left, name, before))}

      {:error, error} ->
        raise without_options(error)
    end
  end

  # Its message speaks of one.
  defp without_options(%TimeoutError{} = error) do
    note =
      "The sigil with r takes no options: Typhon.eval(py, code, bindings, timeout: 60_000) does, with the sigil as its code"

    TimeoutError.noted(error, note)
  end

  defp without_options(error), do: error
end
