defmodule Typhon.Outline.Tokens do
  @moduledoc false
  # Python code as tokens, for where there is no Python that could parse it. A bracket is one token with what stands
  # in it, an f-string one with its expressions, and other strings and comments are none. Any text has tokens: what is
  # no Python is the worker's to refuse.

  @type token ::
          {:name, String.t()}
          | {:op, String.t()}
          | {:group, ?( | ?[ | ?{, [token]}
          | {:fstring, [[token]]}
          | :literal
  @type line :: {indent :: non_neg_integer, [token]}

  @prefixes ~w(r b u f t br rb fr rf tr rt)
  @three ~w(**= //= >>= <<= ...)
  @two ~w(:= == != <= >= -> += -= *= /= %= @= &= |= ^= ** // >> <<)

  defguardp is_blank(c) when c in [?\s, ?\t, ?\f]
  defguardp is_first(c) when c in ?a..?z or c in ?A..?Z or c == ?_ or c >= 128
  defguardp is_digit(c) when c in ?0..?9
  defguardp is_quote(c) when c in [?", ?']

  @doc "The logical lines, with the column that each begins in."
  @spec lines(String.t()) :: [line]
  def lines(code) do
    code
    |> String.replace_prefix("\uFEFF", "")
    |> String.replace(["\r\n", "\r"], "\n")
    |> lines([])
  end

  defp lines(text, found) do
    {indent, text} = indent(text, 0)

    case tokens(text, :line, []) do
      {tokens, :eof} -> Enum.reverse(add(tokens, indent, found))
      {tokens, rest} -> lines(rest, add(tokens, indent, found))
    end
  end

  defp add([], _indent, found), do: found
  defp add(tokens, indent, found), do: [{indent, tokens} | found]

  defp indent(" " <> rest, column), do: indent(rest, column + 1)
  defp indent("\t" <> rest, column), do: indent(rest, (div(column, 8) + 1) * 8)
  defp indent("\f" <> rest, _column), do: indent(rest, 0)
  defp indent(rest, column), do: {column, rest}

  # `within` is :line, the bracket that closes, or :expression in an f-string. Gives what is behind, or :eof.
  defp tokens("", _within, found), do: {Enum.reverse(found), :eof}
  defp tokens("\n" <> rest, :line, found), do: {Enum.reverse(found), rest}
  defp tokens("\\\n" <> rest, within, found), do: tokens(rest, within, found)

  defp tokens(<<c, rest::binary>>, within, found) when is_blank(c) or c == ?\n,
    do: tokens(rest, within, found)

  defp tokens("#" <> rest, within, found), do: rest |> comment() |> tokens(within, found)

  defp tokens(<<c, _::binary>> = text, within, found) when is_first(c) do
    {name, rest} = word(text, 0)

    case rest do
      <<quote, after_quote::binary>> when is_quote(quote) ->
        prefix = String.downcase(name)

        if prefix in @prefixes,
          do: string(quote, after_quote, prefix =~ ~r/[ft]/, within, found),
          else: tokens(rest, within, [{:name, name} | found])

      _ ->
        tokens(rest, within, [{:name, name} | found])
    end
  end

  defp tokens(<<quote, rest::binary>>, within, found) when is_quote(quote),
    do: string(quote, rest, false, within, found)

  defp tokens(<<c, _::binary>> = text, within, found) when is_digit(c), do: number(text, within, found)

  defp tokens(<<?., c, _::binary>> = text, within, found) when is_digit(c), do: number(text, within, found)

  defp tokens(<<open, rest::binary>>, within, found) when open in [?(, ?[, ?{] do
    {inner, rest} = tokens(rest, closing(open), [])
    found = [{:group, open, inner} | found]
    if rest == :eof, do: {Enum.reverse(found), :eof}, else: tokens(rest, within, found)
  end

  defp tokens(<<close, rest::binary>>, close, found), do: {Enum.reverse(found), rest}
  defp tokens("}" <> rest, :expression, found), do: {Enum.reverse(found), rest}

  # What follows an expression of an f-string: how it is shown.
  defp tokens(<<?!, c, rest::binary>>, :expression, found) when c != ?= do
    {_, rest} = word(<<c, rest::binary>>, 0)
    tokens(rest, :expression, found)
  end

  defp tokens(":" <> rest, :expression, found) do
    {parts, rest} = shown(rest, [], :spec)
    {Enum.reverse(found, [{:fstring, parts}]), rest}
  end

  defp tokens(<<op::binary-size(3), rest::binary>>, within, found) when op in @three,
    do: tokens(rest, within, [{:op, op} | found])

  defp tokens(<<op::binary-size(2), rest::binary>>, within, found) when op in @two,
    do: tokens(rest, within, [{:op, op} | found])

  defp tokens(<<c, rest::binary>>, within, found), do: tokens(rest, within, [{:op, <<c>>} | found])

  defp closing(?(), do: ?)
  defp closing(?[), do: ?]
  defp closing(?{), do: ?}

  defp comment("\n" <> _ = text), do: text
  defp comment(""), do: ""
  defp comment(<<_, rest::binary>>), do: comment(rest)

  defp word(text, size) do
    case text do
      <<_::binary-size(size), c, _::binary>> when is_first(c) or is_digit(c) ->
        word(text, size + 1)

      <<word::binary-size(size), rest::binary>> ->
        {word, rest}
    end
  end

  # Where a number ends does not depend on what it is: `1.5e` is as good as `0xff`.
  defp number(<<c, rest::binary>>, within, found) when is_first(c) or is_digit(c) or c == ?.,
    do: number(rest, within, found)

  defp number(rest, within, found), do: tokens(rest, within, [:literal | found])

  defp string(quote, <<quote, quote, rest::binary>>, shows?, within, found),
    do: string(rest, {quote, quote, quote}, shows?, within, found, :go)

  defp string(quote, rest, shows?, within, found), do: string(rest, quote, shows?, within, found, :go)

  defp string(rest, ending, shows?, within, found, :go) do
    {token, rest} =
      if shows? do
        {parts, rest} = shown(rest, [], ending)
        {{:fstring, parts}, rest}
      else
        {:literal, plain(rest, ending)}
      end

    if rest == :eof, do: {Enum.reverse([token | found]), :eof}, else: tokens(rest, within, [token | found])
  end

  defp plain("", _ending), do: :eof
  defp plain(<<?\\, _, rest::binary>>, ending), do: plain(rest, ending)
  defp plain(<<a, b, c, rest::binary>>, {a, b, c}), do: rest
  defp plain(<<quote, rest::binary>>, quote), do: rest
  # It had to end before.
  defp plain("\n" <> _ = text, quote) when is_integer(quote), do: text
  defp plain(<<_, rest::binary>>, ending), do: plain(rest, ending)

  # The expressions of an f-string, up to what ends it; of a format specification (:spec) up to the bracket.
  defp shown("", parts, _ending), do: {Enum.reverse(parts), :eof}
  defp shown("{{" <> rest, parts, ending) when ending != :spec, do: shown(rest, parts, ending)
  defp shown("}" <> rest, parts, :spec), do: {Enum.reverse(parts), rest}

  defp shown("{" <> rest, parts, ending) do
    case tokens(rest, :expression, []) do
      {tokens, :eof} -> {Enum.reverse([tokens | parts]), :eof}
      {tokens, rest} -> shown(rest, [tokens | parts], ending)
    end
  end

  defp shown(<<?\\, c, rest::binary>>, parts, ending) when c not in [?{, ?}], do: shown(rest, parts, ending)
  defp shown(<<a, b, c, rest::binary>>, parts, {a, b, c}), do: {Enum.reverse(parts), rest}
  defp shown(<<quote, rest::binary>>, parts, quote), do: {Enum.reverse(parts), rest}
  defp shown("\n" <> _ = text, parts, quote) when is_integer(quote), do: {Enum.reverse(parts), text}
  defp shown(<<_, rest::binary>>, parts, ending), do: shown(rest, parts, ending)
end
