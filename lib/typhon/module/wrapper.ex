defmodule Typhon.Module.Wrapper do
  @moduledoc false
  # From functions as Typhon.Outline describes them to the quoted code of Elixir's, and to its text.

  @own ~w(module_info behaviour_info __info__)
  @reserved Enum.map(
              Kernel.SpecialForms.__info__(:macros) ++ Kernel.__info__(:macros),
              &to_string(elem(&1, 0))
            )

  # An atom has so many characters, a function of the BEAM's a name of so many bytes, and so many arguments.
  @most 255

  @doc "The functions that Elixir can have, and why not, of each that it cannot."
  @spec possible([map]) :: {[map], [{map, String.t()}]}
  def possible(functions) do
    judged = for {name, each} <- named(functions), do: {each, problem(name, each)}
    {possible, others} = Enum.split_with(judged, &match?({_, nil}, &1))
    {Enum.map(possible, &elem(&1, 0)), others}
  end

  defp problem(name, function) do
    {required, optional} = parameters(function)
    arity = length(required) + length(List.wrap(function["several"])) + 1
    # `f!` is one more.
    longest = if function["kind"] == "stream", do: @most, else: @most - 1
    option = Enum.find(optional, &(String.length(option(&1["name"])) > @most))

    cond do
      byte_size(name) > longest ->
        "its name has more than #{longest} bytes"

      option ->
        "its argument #{String.slice(option["name"], 0, 20)}… has more than #{@most} characters"

      arity > @most ->
        "it has #{arity} arguments with its options, and a function of Elixir's has #{@most} at most"

      true ->
        nil
    end
  end

  @doc "Of each Elixir function: its `@doc`, `@spec`s and definition."
  @spec functions([map]) :: [%{doc: String.t(), specs: [Macro.t()], definition: Macro.t()}]
  def functions(functions) do
    functions
    |> named()
    |> Enum.flat_map(fn {name, function} -> wrappers(String.to_atom(name), function) end)
  end

  @doc "Defines them in the module that is being compiled there."
  @spec define([map], Macro.Env.t()) :: :ok
  def define(functions, env) do
    # One by one: a body with all of them is a function that takes the compiler the square of their number.
    for %{doc: doc, specs: specs, definition: definition} <- functions(functions) do
      quoted =
        quote do
          @doc unquote(doc)
          unquote_splicing(for spec <- specs, do: quote(do: @spec(unquote(spec))))
          unquote(definition)
        end

      Code.eval_quoted(quoted, [], env)
    end

    :ok
  end

  @doc "The source of a module that has them, with `python` as `use Typhon.Module` would have it."
  @spec source(String.t(), String.t(), keyword, [map]) :: String.t()
  def source(module, moduledoc, python, functions) do
    parts =
      for %{doc: doc, specs: specs, definition: definition} <- functions(functions) do
        specs = for spec <- specs, do: ["@spec ", Macro.to_string(spec), "\n"]
        ["@doc ", text(doc), specs, Macro.to_string(definition), "\n\n"]
      end

    attribute = if functions == [], do: "", else: "@typhon_python #{inspect(python)}\n\n"
    source = ["defmodule #{module} do\n@moduledoc ", text(moduledoc), "\n", attribute, parts, "end\n"]
    IO.iodata_to_binary([source |> IO.iodata_to_binary() |> Code.format_string!(), "\n"])
  end

  # A text that has characters which no source should have as they are is one line.
  defp text(text) do
    if String.printable?(text) do
      escaped =
        text
        |> String.replace("\\", "\\\\")
        |> String.replace(~s("""), ~S(\"""))
        |> String.replace("\#{", "\\\#{")

      [~s("""\n), directed(escaped), ~s(\n"""\n)]
    else
      [text |> inspect(binaries: :as_strings, printable_limit: :infinity) |> directed(), "\n"]
    end
  end

  # Elixir refuses characters that change the direction of a line.
  defp directed(text) do
    Regex.replace(~r/[\x{202A}-\x{202E}\x{2066}-\x{2069}]/u, text, fn <<character::utf8>> ->
      "\\u" <> Integer.to_string(character, 16)
    end)
  end

  defp wrappers(name, function) do
    {required, optional} = parameters(function)
    arguments = required ++ List.wrap(function["several"])
    variables = variables(arguments)
    options = {unused("options", variables), [], nil}
    must = for %{"required" => true, "name" => name} <- optional, do: String.to_atom(option(name))
    # `options` has no default where there is something to be given.
    head = variables ++ [if(must == [], do: quote(do: unquote(options) \\ []), else: options)]
    {given, several} = Enum.split(variables, length(required))
    shape = shape(optional, must, several, function["any"])
    python = quote(do: @typhon_python)
    call = [python, function["name"], given, options, shape]

    types =
      Enum.map(required, &type(&1["type"], :in)) ++
        for(%{"type" => of} <- List.wrap(function["several"]), do: [type(of, :in)])

    lists =
      if must == [],
        do: [types, types ++ [options_type(optional, function["any"])]],
        else: [types ++ [options_type(optional, function["any"])]]

    returns = type(function["returns"], :out)

    doc = doc(name, function, optional)
    again = "As `#{name}/#{length(head)}`, and returns the value itself or raises the exception."

    wrappers =
      if function["kind"] == "stream",
        do: [{name, doc, :stream, quote(do: Enumerable.t())}],
        else: [
          {name, doc, :call, quote(do: {:ok, unquote(returns)} | {:error, Typhon.error()})},
          {:"#{name}!", again, :call!, returns}
        ]

    for {name, doc, runs, returns} <- wrappers do
      %{
        doc: doc,
        specs: for(types <- lists, do: {:"::", [], [{called(name), [], types}, returns]}),
        definition:
          quote do
            def unquote({called(name), [], head}), do: Typhon.Module.unquote(runs)(unquote_splicing(call))
          end
      }
    end
  end

  # Those that are Elixir's arguments, and those of its options.
  defp parameters(function),
    do: Enum.split_with(function["parameters"], &(&1["required"] and &1["kind"] != "named"))

  # The name where it is defined. What is no identifier in Elixir is `unquote(:"…")` there.
  defp called(name) do
    if name |> to_string() |> String.trim_trailing("!") |> usable?(), do: name, else: {:unquote, [], [name]}
  end

  # `typhon:` has the options of the call, and so Python's `typhon` is `typhon_:`. Typhon.Module takes the underscore off.
  defp option(name), do: if(name =~ ~r/\Atyphon_*\z/, do: name <> "_", else: name)

  # What there is besides the required ones; what is not there is not said.
  defp shape(optional, must, several, any?) do
    kinds =
      for kind <- ["alone", "plain", "named"],
          names = of_kind(optional, kind),
          names != [],
          do: {String.to_atom(kind), names}

    kinds ++
      for({key, value} <- [required: must, several: several], value != [], do: {key, one(key, value)}) ++
      if(any?, do: [any: true], else: [])
  end

  defp one(:several, [variable]), do: variable
  defp one(_key, names), do: names

  defp of_kind(parameters, kind),
    do: for(%{"kind" => ^kind, "name" => name} <- parameters, do: String.to_atom(option(name)))

  # --- names ---

  # Those that are Elixir's as they are keep their names, whatever the others become.
  defp named(functions) do
    taken = for %{"name" => name} <- functions, usable?(name), into: MapSet.new(), do: name

    {named, _} =
      Enum.map_reduce(functions, taken, fn %{"name" => name} = function, taken ->
        if usable?(name) do
          {{name, function}, taken}
        else
          name = name |> candidate() |> free(taken)
          {{name, function}, MapSet.put(taken, name)}
        end
      end)

    named
  end

  defp free(name, taken), do: if(MapSet.member?(taken, name), do: free(name <> "_", taken), else: name)

  # `Fraction` is fraction, `end` is end_. What no identifier of Elixir's comes of can be called as Module."name"().
  defp candidate(name) do
    lower = Macro.underscore(name)
    Enum.find([lower, name <> "_", lower <> "_"], name, &usable?/1)
  end

  defp usable?(name) do
    name not in @own and name not in @reserved and
      match?({:ok, {atom, _, []}} when is_atom(atom), Code.string_to_quoted(name <> "()"))
  end

  defp variables(parameters) do
    {variables, _} =
      Enum.map_reduce(parameters, [], fn %{"name" => name}, taken ->
        variable = name |> String.trim_leading("_") |> variable() |> unused(taken)
        {{variable, [], nil}, [{variable, [], nil} | taken]}
      end)

    variables
  end

  defp variable(name), do: Enum.find([name, Macro.underscore(name), name <> "_"], "argument", &variable?/1)

  # `_` is no variable.
  defp variable?(name) do
    not String.starts_with?(name, "_") and
      match?({:ok, {atom, _, nil}} when is_atom(atom), Code.string_to_quoted(name)) and name not in @reserved
  end

  defp unused(name, variables) do
    atom = String.to_atom(name)
    if Enum.any?(variables, &(elem(&1, 0) == atom)), do: unused(name <> "_", variables), else: atom
  end

  # --- documentation ---

  defp doc(name, function, optional) do
    what =
      if function["kind"] == "stream",
        do: "A stream of what Python's `#{function["name"]}` yields.",
        else: "Calls Python's `#{function["name"]}`."

    options =
      if optional != [] or function["any"],
        do: [
          "Options are Python's arguments by name, and `typhon:` with those of `Typhon.#{sort(function)}/5`."
        ],
        else: []

    renamed =
      for %{"name" => each} <- optional, option(each) != each, do: "`#{option(each)}:` is Python's `#{each}`."

    [function["doc"] || what, "In Python: `#{function["signature"]}`" | options ++ renamed]
    |> Enum.concat(
      if to_string(name) == function["name"], do: [], else: ["It is `#{function["name"]}` there."]
    )
    |> Enum.join("\n\n")
  end

  defp sort(%{"kind" => kind}), do: kind

  # --- types ---

  defp options_type(optional, any?) do
    if any? do
      quote(do: keyword)
    else
      pairs =
        for %{"name" => name, "type" => type} <- optional, do: {String.to_atom(option(name)), type(type, :in)}

      pairs ++ [typhon: quote(do: keyword)]
    end
  end

  # The usual annotations; of any other nothing is known in Elixir.
  defp type(nil, _way), do: quote(do: term)
  defp type(["None"], _way), do: nil
  defp type(["bool"], _way), do: quote(do: boolean)
  defp type(["int"], _way), do: quote(do: integer)
  defp type(["float"], :in), do: quote(do: number)
  defp type(["float"], :out), do: quote(do: float)
  defp type(["str"], _way), do: quote(do: String.t())
  defp type(["bytes"], :in), do: quote(do: Typhon.Bytes.t())
  defp type(["bytes"], :out), do: quote(do: binary)
  defp type(["date"], _way), do: quote(do: Date.t())
  defp type(["time"], _way), do: quote(do: Time.t())
  defp type(["datetime"], _way), do: quote(do: NaiveDateTime.t() | DateTime.t())
  defp type(["Optional", of], way), do: {:|, [], [type(of, way), nil]}

  defp type(["Union" | of], way) when of != [],
    do:
      of
      |> Enum.map(&type(&1, way))
      |> Enum.reverse()
      |> Enum.reduce(fn type, all -> {:|, [], [type, all]} end)

  defp type(["Annotated", of | _], way), do: type(of, way)
  defp type([name, _, _, of], :out) when name == "Coroutine", do: type(of, :out)
  defp type(["Awaitable", of], :out), do: type(of, :out)
  defp type([name], _way) when name in ["list", "List"], do: quote(do: list)
  defp type([name, of], way) when name in ["list", "List"], do: [type(of, way)]
  defp type([name, of], :in) when name in ["Sequence", "Iterable", "Collection"], do: [type(of, :in)]
  defp type([name], _way) when name in ["dict", "Dict"], do: quote(do: map)

  defp type([name, key, value], way) when name in ["dict", "Dict", "Mapping"],
    do: quote(do: %{optional(unquote(type(key, way))) => unquote(type(value, way))})

  defp type([name, _, ["..."]], _way) when name in ["tuple", "Tuple"], do: quote(do: tuple)
  defp type([name], _way) when name in ["tuple", "Tuple"], do: quote(do: tuple)
  defp type([name | of], way) when name in ["tuple", "Tuple"], do: {:{}, [], Enum.map(of, &type(&1, way))}
  defp type([name], _way) when name in ["set", "frozenset", "Set"], do: quote(do: MapSet.t())

  defp type([name, of], way) when name in ["set", "frozenset", "Set"],
    do: quote(do: MapSet.t(unquote(type(of, way))))

  defp type(_other, _way), do: quote(do: term)
end
