defmodule Typhon.DocsBlocks do
  @moduledoc false
  # The code blocks of pages and of the documentation in sources, and what their Elixir comes to. scripts/docs says how blocks are written.

  # `line` is that of the block's first line of code; `skip` the reason why it is not run; `name` the file that it is.
  defstruct [:path, :line, :language, :code, :skip, :name]

  defmodule Failed do
    @moduledoc false
    defexception [:message]
  end

  @doc "A page has one list of blocks: what one binds, the next can use. Each piece of documentation in a source is a page."
  def pages(path) do
    lines = path |> File.read!() |> String.split("\n") |> Enum.with_index(1)

    if Path.extname(path) == ".md",
      do: [blocks(lines, path, false)],
      else: for(lines <- heredocs(lines, []), do: blocks(lines, path, true))
  end

  defp heredocs([], found), do: Enum.reverse(found)

  defp heredocs([{line, _} | rest], found) do
    case Regex.run(~r/^( *)@(?:module|type)?doc( ~S)? """$/, line) do
      [_, indent | raw] ->
        {text, rest} = Enum.split_while(rest, fn {line, _} -> line != indent <> ~s(""") end)
        text = for {line, number} <- text, do: {line |> without(indent) |> unescaped(raw), number}
        heredocs(rest, [text | found])

      nil ->
        heredocs(rest, found)
    end
  end

  defp without(line, indent), do: String.replace_prefix(line, indent, "")
  defp unescaped(line, [_raw]), do: line
  defp unescaped(line, []), do: Macro.unescape_string(line)

  # In sources what is indented by four is code, too; in pages all code has a fence that says what it is.
  defp blocks(lines, path, indented?), do: blocks(lines, path, indented?, "", "", [])

  defp blocks([], _path, _indented?, _text, _last, found), do: Enum.reverse(found)

  # `text`: the last line that is not empty; `last`: the last line.
  defp blocks([{line, number} | rest] = lines, path, indented?, text, last, found) do
    cond do
      fence = Regex.run(~r/^( *)```(\S*)$/, line) ->
        [_, indent, language] = fence
        {code, rest} = Enum.split_while(rest, fn {line, _} -> line != indent <> "```" end)
        block = block(Enum.map(code, &without(elem(&1, 0), indent)), path, number + 1, language, text)
        blocks(Enum.drop(rest, 1), path, indented?, "", "", [block | found])

      indented? and last == "" and String.starts_with?(line, "    ") ->
        {code, rest} =
          Enum.split_while(lines, fn {line, _} -> line == "" or String.starts_with?(line, "    ") end)

        language = if String.starts_with?(line, "    iex>"), do: "iex", else: "elixir"
        block = block(Enum.map(code, &without(elem(&1, 0), "    ")), path, number, language, text)
        blocks(rest, path, indented?, "", "", [block | found])

      true ->
        blocks(rest, path, indented?, if(line == "", do: text, else: line), line, found)
    end
  end

  defp block(lines, path, line, language, text) do
    skip = with [_, reason] <- Regex.run(~r/^\s*<!-- not run: (.+) -->$/, text), do: reason

    name =
      with [_, name] <- Regex.run(~r/^(?:#|%%) ([\w.\/-]+\.\w+|Dockerfile)$/, List.first(lines) || ""),
           do: name

    code = lines |> Enum.join("\n") |> String.trim_trailing()
    %__MODULE__{path: path, line: line, language: language, code: code <> "\n", skip: skip, name: name}
  end

  @doc "Writes the file that a block is."
  def write(block, path) do
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, block.code)
  end

  @doc "Evaluates the blocks of a page one after the other. Raises `Failed` with the place of what is not as it says."
  def evaluate!(blocks) do
    env = Code.env_for_eval(file: "nofile")
    Enum.reduce(blocks, {[], env}, &evaluate_block/2)
    :ok
  end

  defp evaluate_block(block, state) do
    {expressions, values} = parse!(block)

    for value <- values,
        not Enum.any?(expressions, fn {line, _} -> line <= value.line end),
        do: failed(block.path, value.line, "there is nothing whose value this could be")

    expressions
    |> Enum.with_index(1)
    |> Enum.reduce(state, fn {{line, expression}, next}, state ->
      # An atom is larger than any number.
      {following, _} = Enum.at(expressions, next, {:end, nil})
      {value, state} = evaluate_expression(block, line, expression, state)

      for %{line: at, text: text} <- values,
          at >= line,
          at < following,
          do: compare(block.path, at, text, value, state)

      state
    end)
  end

  @doc "The expressions of a block with the lines that they begin in, and the values that comments name."
  def parse!(block) do
    case Code.string_to_quoted_with_comments(readable(block.code), file: block.path, line: block.line) do
      {:ok, quoted, comments} ->
        expressions = with {:__block__, _, [_ | _] = expressions} <- quoted, do: expressions
        {Enum.map(List.wrap(expressions), &{first_line(&1, block), &1}), values(comments)}

      {:error, {meta, message, token}} ->
        message = if is_tuple(message), do: Enum.join(Tuple.to_list(message)), else: message
        failed(block.path, meta[:line] || block.line, "this is not Elixir: #{message}#{token}")
    end
  end

  # Before 1.15 a sigil has one letter.
  defp readable(code) do
    if Version.match?(System.version(), "< 1.15.0-dev"), do: String.replace(code, "~PY", "~P"), else: code
  end

  # A literal has no line.
  defp first_line(expression, block) do
    {_, line} =
      Macro.prewalk(expression, nil, fn
        {_, meta, _} = node, line -> {node, min(meta[:line] || line, line)}
        node, line -> {node, line}
      end)

    line || block.line
  end

  # A value goes on in comments that are indented as it is.
  defp values(comments) do
    comments
    |> Enum.reduce([], fn
      %{line: line, text: "# => " <> text}, found ->
        [%{line: line, last: line, text: text} | found]

      %{line: line, text: "#    " <> text}, [%{last: last} = value | found] when line == last + 1 ->
        [%{value | last: line, text: value.text <> " " <> String.trim(text)} | found]

      _, found ->
        found
    end)
    |> Enum.reverse()
  end

  defp evaluate_expression(block, line, expression, {binding, env}) do
    {value, binding, env} = Code.eval_quoted_with_env(expression, binding, %{env | file: block.path})
    {value, {binding, env}}
  rescue
    error -> failed(block.path, line, Exception.format_banner(:error, error, __STACKTRACE__))
  catch
    kind, reason -> failed(block.path, line, Exception.format_banner(kind, reason, __STACKTRACE__))
  end

  # What `inspect` says, in which … stands for anything; or a pattern.
  defp compare(path, line, text, value, {binding, env}) do
    said = inspect(value, limit: :infinity, printable_limit: :infinity)
    like = text |> Regex.escape() |> String.replace("…", ".*")

    unless said =~ Regex.compile!("^#{like}$", "s") or matches?(path, line, text, value, binding, env),
      do: failed(path, line, "this is #{said}, and not #{text}")
  end

  defp matches?(path, line, text, value, binding, env) do
    with {:ok, pattern} <- Code.string_to_quoted(text, file: path, line: line) do
      call = quote(do: match?(unquote(pattern), unquote(Macro.var(:the_value, nil))))
      Code.eval_quoted_with_env(call, [{:the_value, value} | binding], env) |> elem(0)
    else
      _ -> false
    end
  rescue
    CompileError -> false
  end

  @doc "Raises `Failed`, with the place in front."
  def failed(path, line, message), do: raise(Failed, message: "#{path}:#{line}: #{String.trim(message)}")
end
