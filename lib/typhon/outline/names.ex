defmodule Typhon.Outline.Names do
  @moduledoc false
  # The names that code reads and assigns, as python/typhon/_outline.py finds them, where there is no Python: from the
  # tokens. A name is read if code may find it before it has assigned it; where that cannot be told, it is.

  alias Typhon.Outline.Tokens

  @keywords ~w(False None True and as assert async await break class continue def del elif else except finally for from
               global if import in is lambda nonlocal not or pass raise return try while with yield)
  @augmented ~w(+= -= *= /= //= %= @= &= |= ^= **= >>= <<=)
  @compound ~w(async if while elif else try finally for with except)
  @headed ~w(if while elif else try finally)

  @doc "In order."
  @spec names(String.t()) :: %{reads: [String.t()], assigns: [String.t()]}
  def names(code) do
    lines = for {indent, tokens} <- Tokens.lines(code), tokens <- split(tokens, ";"), do: {indent, tokens}
    {reads, assigns} = module(lines)
    %{reads: sorted(reads), assigns: sorted(assigns)}
  end

  defp sorted(names), do: names |> Enum.map(&String.normalize(&1, :nfkc)) |> Enum.uniq() |> Enum.sort()

  # --- the module ---

  defp module(lines) do
    blocks = blocks(lines)
    {reads, _defined} = flow(blocks, MapSet.new())
    bound = Enum.flat_map(blocks, fn block -> block |> block(MapSet.new()) |> elem(1) end)
    {reads, bound ++ declared_below(lines)}
  end

  # The statements in order: what they read before it is `defined` for sure, and what is defined when they have run.
  defp flow(blocks, defined) do
    Enum.reduce(blocks, {[], defined}, fn block, {reads, defined} ->
      {read, after_it} = step(block, defined)
      {read ++ reads, after_it}
    end)
  end

  # What is in there may not run.
  defp step({_, {:compound, _, tokens, _}, body}, defined) do
    {read, bound} = block({0, {:line, tokens}, []}, MapSet.new())
    {inside, _} = body |> blocks() |> flow(MapSet.union(defined, MapSet.new(bound -- walruses(tokens))))
    {undefined(read, defined) ++ inside, defined}
  end

  # A function finds itself.
  defp step({_, {:def, name, _, _}, _} = block, defined) do
    {read, _} = block(block, MapSet.new())
    {undefined(read, MapSet.put(defined, name)), MapSet.put(defined, name)}
  end

  defp step({_, kind, _} = block, defined) do
    {read, bound} = block(block, MapSet.new())

    after_it =
      case kind do
        {:line, [{:name, "del"} | _]} ->
          MapSet.difference(defined, MapSet.new(bound))

        {:line, [first | _] = tokens} ->
          if simple?(first, tokens), do: with_names(defined, bound), else: defined

        _ ->
          with_names(defined, bound)
      end

    {undefined(read, defined), after_it}
  end

  defp with_names(defined, names), do: MapSet.union(defined, MapSet.new(names))
  defp undefined(names, defined), do: Enum.reject(names, &MapSet.member?(defined, &1))

  # It runs whatever happens, and it assigns.
  defp simple?({:name, name}, _tokens) when name in ["import", "from"], do: true
  defp simple?({:name, name}, _tokens) when name in @keywords, do: false
  defp simple?(_first, tokens), do: length(split(tokens, "=")) > 1 or Enum.any?(tokens, &augments?/1)

  defp augments?({:op, op}), do: op in @augmented
  defp augments?(_token), do: false

  # What functions assign to the module.
  defp declared_below(lines), do: Enum.flat_map(lines, fn {_, tokens} -> declared(tokens) end)

  defp declared(tokens) do
    case after_name(tokens, "global") do
      nil -> []
      names -> plain_names(names)
    end
  end

  defp after_name(tokens, name) do
    case Enum.drop_while(tokens, &(&1 != {:name, name})) do
      [] -> nil
      [_ | rest] -> rest
    end
  end

  # --- blocks: a line; or a function, a class or another compound statement, with its lines ---

  defp blocks([]), do: []

  defp blocks([{indent, tokens} | rest]) do
    case head(tokens) do
      {:line, _} = line ->
        [{indent, line, []} | blocks(rest)]

      {_, _, _, inline} = head ->
        {body, rest} = Enum.split_while(rest, fn {column, _} -> column > indent end)
        body = if inline == [], do: body, else: [{indent + 1, inline} | body]
        [{indent, head, body} | blocks(rest)]
    end
  end

  defp head([{:name, "async"}, {:name, "def"} | rest]), do: head([{:name, "def"} | rest])

  defp head([{:name, kind}, {:name, name} | rest]) when kind in ["def", "class"] do
    {header, inline} = at_colon(rest)
    {if(kind == "def", do: :def, else: :class), name, header, inline}
  end

  defp head([{:name, word} | _] = tokens) when word in @compound do
    {header, inline} = at_colon(tokens)
    {:compound, nil, header ++ [{:op, ":"}], inline}
  end

  # These are names as well: `case = 1`, `match: int`.
  defp head([{:name, word}, next | _] = tokens)
       when word in ["match", "case"] and next not in [{:op, ":"}, {:op, "="}, {:op, "."}] do
    if :lists.member({:op, ":"}, tokens) do
      {header, inline} = at_colon(tokens)
      {:compound, nil, header ++ [{:op, ":"}], inline}
    else
      {:line, tokens}
    end
  end

  defp head(tokens), do: {:line, tokens}

  # What it reads of the module, and what it binds where it stands.
  defp block({_, {:def, name, header, _}, body}, hidden) do
    {generic, bounds, header} = type_params(header)
    hidden = MapSet.union(hidden, MapSet.new(generic))

    {parameters, outside} =
      case header do
        [{:group, ?(, inner} | returns] ->
          with {names, reads} <- parameters(inner), do: {names, reads ++ [returns]}

        other ->
          {[], [other]}
      end

    blocks = blocks(body)
    bound = Enum.flat_map(blocks, fn block -> block |> block(MapSet.new()) |> elem(1) end)
    declared = Enum.flat_map(body, fn {_, tokens} -> declared(tokens) end)
    inner = hidden |> MapSet.union(MapSet.new(parameters ++ bound)) |> MapSet.difference(MapSet.new(declared))
    inside = Enum.flat_map(blocks, fn block -> block |> block(inner) |> elem(0) end)
    {Enum.flat_map([bounds | outside], &reads(&1, hidden)) ++ inside, [name]}
  end

  defp block({_, {:class, name, header, _}, body}, hidden) do
    {generic, bounds, header} = type_params(header)
    hidden = MapSet.union(hidden, MapSet.new(generic))
    inside = body |> blocks() |> Enum.flat_map(fn block -> block |> block(hidden) |> elem(0) end)
    {reads(bounds ++ header, hidden) ++ inside, [name]}
  end

  defp block({_, {:line, [{:name, "type"}, {:name, name} | rest]}, _}, hidden) do
    {generic, bounds, value} = type_params(rest)
    {reads(bounds ++ value, MapSet.union(hidden, MapSet.new(generic))), [name]}
  end

  defp block({_, {:line, tokens}, _}, hidden) do
    {read, bound} = statement(tokens)
    {Enum.flat_map(read, &reads(&1, hidden)), bound ++ walruses(tokens)}
  end

  defp block({_, {:compound, _, tokens, _}, body}, hidden) do
    {read, bound} = block({0, {:line, tokens}, []}, hidden)
    {inside, more} = body |> blocks() |> Enum.map(&block(&1, hidden)) |> together()
    {read ++ inside, bound ++ more}
  end

  # Of `[T: B, *Ts]` the names, what is read there, and what is behind it.
  defp type_params([{:group, ?[, inner} | rest]) do
    {names, read} = parameters(inner)
    {names, Enum.concat(read), rest}
  end

  defp type_params(header), do: {[], [], header}

  # Of a function or a lambda: the names, and what is read outside, defaults and annotations.
  defp parameters(tokens) do
    parts =
      for part <- split(tokens, ","),
          part = Enum.drop_while(part, &(&1 in [{:op, "*"}, {:op, "**"}])),
          part != [] do
        case part do
          [{:name, name} | rest] -> {[name], rest}
          other -> {[], other}
        end
      end

    {Enum.flat_map(parts, &elem(&1, 0)), Enum.map(parts, &elem(&1, 1))}
  end

  # --- statements: the expressions in it, and the names it binds ---

  defp statement([{:name, "async"} | rest]), do: statement(rest)

  defp statement([{:name, "import"} | rest]), do: {[], rest |> split(",") |> Enum.flat_map(&imported/1)}

  defp statement([{:name, "from"} | rest]) do
    names =
      case after_name(rest, "import") do
        [{:group, ?(, inner} | _] -> inner
        other -> other || []
      end

    {[], names |> split(",") |> Enum.flat_map(&imported/1)}
  end

  defp statement([{:name, keyword} | _]) when keyword in ["global", "nonlocal"], do: {[], []}

  defp statement([{:name, "for"} | rest]) do
    {target, rest} = Enum.split_while(rest, &(&1 != {:name, "in"}))
    {iterable, body} = rest |> Enum.drop(1) |> at_colon()
    together([target(target), {[iterable], []}, statement(body)])
  end

  defp statement([{:name, "with"} | rest]) do
    {items, body} = at_colon(rest)

    items =
      case items do
        [{:group, ?(, inner}] -> inner
        other -> other
      end

    together(Enum.map(split(items, ","), &item/1) ++ [statement(body)])
  end

  defp statement([{:name, "except"} | rest]) do
    {caught, body} = rest |> Enum.drop_while(&(&1 == {:op, "*"})) |> at_colon()
    together([item(caught), statement(body)])
  end

  defp statement([{:name, "del"} | rest]), do: {[rest], plain_names(rest)}

  defp statement([{:name, keyword} | rest]) when keyword in @headed do
    {header, body} = at_colon(rest)
    together([{[header], []}, statement(body)])
  end

  defp statement([{:name, word}, next | rest] = tokens) when word in ["match", "case"] do
    case at_colon([next | rest]) do
      {header, body} when header != [] and next not in [{:op, "="}, {:op, "."}, {:op, ":="}] ->
        if :lists.member({:op, ":"}, [next | rest]),
          do: together([header(word, header), statement(body)]),
          else: assignment(tokens)

      _ ->
        assignment(tokens)
    end
  end

  defp statement([]), do: {[], []}
  defp statement(tokens), do: assignment(tokens)

  defp header("match", tokens), do: {[tokens], []}

  defp header("case", tokens) do
    {pattern, guard} = Enum.split_while(tokens, &(&1 != {:name, "if"}))
    {captured, read} = pattern(pattern)
    bound = Enum.map(captured, &{:name, &1})
    {[read, Enum.reject(guard, &(&1 in bound))], captured}
  end

  # A name that stands alone is bound; one that is called, or has a dot, is read.
  defp pattern(tokens), do: pattern(tokens, [], [])

  defp pattern([{:name, name}, {:group, ?(, inner} | rest], bound, read) do
    # In `Point(x=a)` x is no name of the module's.
    inner = without_keywords(inner)
    {bound, read} = pattern(inner, bound, [{:name, name} | read])
    pattern(rest, bound, read)
  end

  defp pattern([{:name, name}, {:op, "."} | rest], bound, read) do
    {trail, rest} = Enum.split_while(rest, &(match?({:name, _}, &1) or &1 == {:op, "."}))
    pattern([{:dotted, trail} | rest], bound, [{:name, name} | read])
  end

  defp pattern([{:dotted, _}, {:group, ?(, inner} | rest], bound, read) do
    {bound, read} = pattern(without_keywords(inner), bound, read)
    pattern(rest, bound, read)
  end

  defp pattern([{:name, name} | rest], bound, read) when name in @keywords or name == "_",
    do: pattern(rest, bound, read)

  defp pattern([{:name, name} | rest], bound, read), do: pattern(rest, [name | bound], read)

  defp pattern([{:group, _, inner} | rest], bound, read) do
    {bound, read} = pattern(inner, bound, read)
    pattern(rest, bound, read)
  end

  defp pattern([_ | rest], bound, read), do: pattern(rest, bound, read)
  defp pattern([], bound, read), do: {bound, read}

  # What follows is a lambda's default.
  defp without_keywords([{:name, "lambda"} | rest]) do
    {parameters, rest} = Enum.split_while(rest, &(&1 != {:op, ":"}))
    [{:name, "lambda"} | parameters] ++ without_keywords(rest)
  end

  defp without_keywords([{:name, _}, {:op, "="} | rest]), do: without_keywords(rest)
  defp without_keywords([token | rest]), do: [token | without_keywords(rest)]
  defp without_keywords([]), do: []

  # `… as target` of with and except
  defp item(tokens) do
    {value, rest} = Enum.split_while(tokens, &(&1 != {:name, "as"}))
    together([{[value], []}, rest |> Enum.drop(1) |> target()])
  end

  defp imported(tokens) do
    case {after_name(tokens, "as"), tokens} do
      {[{:name, name} | _], _} -> [name]
      {_, [{:name, name} | _]} -> [name]
      _ -> []
    end
  end

  defp assignment(tokens) do
    case split(tokens, "=") do
      [one] ->
        case Enum.split_while(one, &(not augments?(&1))) do
          {_, []} -> annotated(one)
          {left, [_ | right]} -> {[left, right], left |> target() |> elem(1)}
        end

      several ->
        {targets, [value]} = Enum.split(several, -1)
        together([{[value], []} | Enum.map(targets, &annotated_target/1)])
    end
  end

  # An expression, or `x: T`
  defp annotated(tokens) do
    case at_colon(tokens) do
      {[_ | _], [_ | _]} -> annotated_target(tokens)
      _ -> {[tokens], []}
    end
  end

  defp annotated_target(tokens) do
    {target, annotation} = at_colon(tokens)
    together([target(target), {[annotation], []}])
  end

  # `a, (b, *c), d.e, f[g]`: a, b and c are bound, d, f and g are read.
  defp target([{:name, name} | rest]) when name not in @keywords do
    {trailers, more} = Enum.split_while(rest, &(&1 != {:op, ","}))

    if trailers == [],
      do: together([{[], [name]}, target(more)]),
      else: together([{[[{:name, name} | trailers]], []}, target(more)])
  end

  defp target([{:group, open, inner} | rest]) when open in [?(, ?[] do
    {trailers, more} = Enum.split_while(rest, &(&1 != {:op, ","}))

    if trailers == [],
      do: together([target(inner), target(more)]),
      else: together([{[[{:group, open, inner} | trailers]], []}, target(more)])
  end

  defp target([{:op, op} | rest]) when op in [",", "*"], do: target(rest)
  defp target([]), do: {[], []}

  defp target(tokens) do
    {expression, more} = Enum.split_while(tokens, &(&1 != {:op, ","}))
    together([{[expression], []}, target(more)])
  end

  defp together(parts), do: {Enum.flat_map(parts, &elem(&1, 0)), Enum.flat_map(parts, &elem(&1, 1))}

  # --- expressions ---

  # The names of the module that it reads.
  defp reads(tokens, hidden), do: reads(tokens, hidden, [])

  defp reads([{:op, "."}, {:name, _} | rest], hidden, found), do: reads(rest, hidden, found)
  defp reads([{:name, _}, {:op, ":="} | rest], hidden, found), do: reads(rest, hidden, found)

  defp reads([{:name, "lambda"} | rest], hidden, found) do
    {parameters, body} = Enum.split_while(rest, &(&1 != {:op, ":"}))

    {body, rest} =
      body |> Enum.drop(1) |> Enum.split_while(&(&1 not in [{:op, ","}, {:name, "for"}, {:op, ":"}]))

    {names, outside} = parameters(parameters)
    inner = MapSet.union(hidden, MapSet.new(names ++ walruses(body)))
    reads(rest, hidden, Enum.flat_map(outside, &reads(&1, hidden)) ++ reads(body, inner) ++ found)
  end

  defp reads([{:name, name} | rest], hidden, found) do
    found = if name in @keywords or MapSet.member?(hidden, name), do: found, else: [name | found]
    reads(rest, hidden, found)
  end

  defp reads([{:group, open, inner} | rest], hidden, found) do
    inner = if open == ?(, do: without_keywords(inner), else: inner

    read =
      if :lists.member({:name, "for"}, inner),
        do: comprehension(inner, hidden),
        else: reads(inner, hidden)

    reads(rest, hidden, read ++ found)
  end

  defp reads([{:fstring, parts} | rest], hidden, found),
    do: reads(rest, hidden, Enum.flat_map(parts, &reads(&1, hidden)) ++ found)

  defp reads([_ | rest], hidden, found), do: reads(rest, hidden, found)
  defp reads([], _hidden, found), do: found

  # The first iterable is what the code around it sees.
  defp comprehension(tokens, hidden) do
    [result | loops] = split_at_for(tokens, [], [])

    {targets, iterables} =
      loops
      |> Enum.map(fn loop ->
        {target, rest} = Enum.split_while(loop, &(&1 != {:name, "in"}))
        {target, Enum.drop(rest, 1)}
      end)
      |> Enum.unzip()

    {read, bound} = together(Enum.map(targets, &target/1))
    inner = MapSet.union(hidden, MapSet.new(bound))

    {first, conditions} =
      iterables |> hd() |> Enum.split_while(&(&1 not in [{:name, "if"}, {:name, "async"}]))

    inside = [result, conditions | tl(iterables)] ++ read
    reads(first, hidden) ++ Enum.flat_map(inside, &reads(&1, inner))
  end

  defp split_at_for([{:name, "for"} | rest], part, parts),
    do: split_at_for(rest, [], [Enum.reverse(part) | parts])

  defp split_at_for([token | rest], part, parts), do: split_at_for(rest, [token | part], parts)
  defp split_at_for([], part, parts), do: Enum.reverse(parts, [Enum.reverse(part)])

  defp walruses([{:name, "lambda"} | rest]),
    do: rest |> Enum.drop_while(&(&1 not in [{:op, ","}, {:name, "for"}])) |> walruses()

  defp walruses([{:name, name}, {:op, ":="} | rest]), do: [name | walruses(rest)]
  defp walruses([{:group, _, inner} | rest]), do: walruses(inner) ++ walruses(rest)
  defp walruses([{:fstring, parts} | rest]), do: Enum.flat_map(parts, &walruses/1) ++ walruses(rest)
  defp walruses([_ | rest]), do: walruses(rest)
  defp walruses([]), do: []

  # --- tokens ---

  defp plain_names(tokens), do: tokens |> target() |> elem(1)

  defp split(tokens, op), do: split(tokens, op, [], [])

  # The commas of a lambda's parameters, and its `=`, are its own.
  defp split([{:name, "lambda"} | rest], op, part, parts) do
    {parameters, rest} = Enum.split_while(rest, &(&1 != {:op, ":"}))
    split(rest, op, Enum.reverse([{:name, "lambda"} | parameters], part), parts)
  end

  defp split([{:op, op} | rest], op, part, parts), do: split(rest, op, [], [Enum.reverse(part) | parts])
  defp split([token | rest], op, part, parts), do: split(rest, op, [token | part], parts)
  defp split([], _op, part, parts), do: Enum.reverse(parts, [Enum.reverse(part)])

  # What is before the colon of a statement, and what is after it.
  defp at_colon(tokens), do: at_colon(tokens, [])

  defp at_colon([{:name, "lambda"} | rest], before) do
    {parameters, rest} = Enum.split_while(rest, &(&1 != {:op, ":"}))
    at_colon(Enum.drop(rest, 1), Enum.reverse([{:name, "lambda"} | parameters ++ Enum.take(rest, 1)], before))
  end

  defp at_colon([{:op, ":"} | rest], before), do: {Enum.reverse(before), rest}
  defp at_colon([token | rest], before), do: at_colon(rest, [token | before])
  defp at_colon([], before), do: {Enum.reverse(before), []}
end
