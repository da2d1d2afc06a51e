defmodule Typhon.Module do
  @moduledoc """
  Functions of Python's as functions of an Elixir module.

      defmodule Shop.Statistics do
        use Typhon.Module, module: "statistics"
      end

      {:ok, py} = Typhon.default(workers: 1)
      Shop.Statistics.fmean([1, 2])                        # => {:ok, 1.5}
      Shop.Statistics.fmean!([1, 2], weights: [1, 3])      # => 1.75
      Typhon.stop(py)

  They are made when the module is compiled, of the source alone: a Python parses it (see `Typhon.Sigil` for which
  one), and nothing of it runs or is imported then. There have to be

  * `module: "statistics"` – a module, found as that Python would import it; `python_path: ["priv/py"]` are folders to
    look in first.
  * `file: "priv/py/report.py"` – a file. Workers import it as the module of its path below `priv/py`, else of its
    name, unless `module:` says another; the pool's `python_path:` has to have the folder.
  * or `code: ~PY\"""…\"""` – a block of code, with its place, or a string. It runs once in each worker, as a module
    of the name of the Elixir module, when the first of its functions is called there.

  `pool: MyApp.Python` is the pool that they call, the default one (`Typhon.default/1`) unless given. The options are
  literals. When the file changes, the module is compiled again.

  ## Which functions there are

  Those of the module's own that it defines at its top, whose names do not begin with an underscore; with a literal
  `__all__` those in it. Of several with the same name the last one counts, as in Python. Classes are left out, and so
  is what is imported from elsewhere. One that the BEAM cannot have, as its name is longer than 254 bytes or it takes
  more than 254 arguments, is left out with a warning. There may be 5,000 functions.

  The docstring is the documentation, and annotations that Elixir has a type for are the `@spec`. A name that Elixir
  has no function of gets an underscore behind it (`end_`, `quote_`), and one that begins with a capital letter a
  small one (`Fraction` is `fraction`).

  ## How they are called

  * Arguments without a default are those of the function, in Python's order; `*args` is a list after them.
  * All others come by their names in a keyword list at the end, also those that Python takes by position alone. With
    `*args` that has something in it, those before it have to be given, too.
  * `typhon:` in that list has the options of the call: `fmean(rows, typhon: [timeout: 60_000, pool: py])`. An argument
    of Python's that is called `typhon` is `typhon_:`.
  * They return `{:ok, value}` or `{:error, exception}`, and `fmean!` the value, or raises. `async def` is no
    different.
  * A generator function, also an asynchronous one, returns a stream, as `Typhon.stream/5`. One with a decorator is
    taken for a function like others.

  `mix typhon.gen.wrapper` writes the same as source, for where no Python is at hand when it is compiled.
  """

  alias Typhon.{Code, Default, EncodeError, Outline, TimeoutError}
  alias Typhon.Module.Wrapper

  @options [:module, :file, :code, :pool, :python_path]
  # The compiler's time is the square of their number. So many take it a minute.
  @most_functions 5_000

  defmacro __using__(options) do
    {options, _} = Elixir.Code.eval_quoted(options, [], __CALLER__)
    place = {Path.relative_to_cwd(__CALLER__.file), __CALLER__.line}
    {python, outline} = read!(options, inspect(__CALLER__.module), place)

    # A file of one's own may be about to get its functions.
    if outline.functions == [] and options[:file] == nil and options[:code] == nil,
      do: IO.warn("use Typhon.Module: " <> empty(python), Macro.Env.stacktrace(__CALLER__))

    quote do
      unquote_splicing(for path <- List.wrap(outline.path), do: quote(do: @external_resource(unquote(path))))

      unquote_splicing(
        if(outline.functions == [], do: [], else: [quote(do: @typhon_python(unquote(Macro.escape(python))))])
      )

      Wrapper.define(unquote(Macro.escape(outline.functions)), __ENV__)
    end
  end

  @doc false
  # What is said of a module that no function is made of.
  @spec empty(keyword) :: String.t()
  def empty(python) do
    "there is no function in #{python[:module]} that it defines itself; classes, and what it imports, are left out"
  end

  @doc false
  # Where the functions are, as call/5 takes it, and which there are.
  @spec read!(keyword, String.t(), Outline.place()) :: {keyword, Outline.functions()}
  def read!(options, owner, place) do
    unless Keyword.keyword?(options), do: refuse(place, "it takes a keyword list, got #{inspect(options)}")

    for {name, _} <- options, name not in @options do
      refuse(
        place,
        "it has no option #{inspect(name)}. It takes #{Enum.map_join(@options, ", ", &inspect/1)}"
      )
    end

    {python, source, place} = source!(Map.new(options), owner, place)
    outline = Outline.functions!(source, place)
    bounded!(outline, place)
    pool = if options[:pool], do: [pool: options[:pool]], else: []
    {possible, others} = Wrapper.possible(outline.functions)
    for {function, reason} <- others, do: left_out(function, reason, outline.path, place)
    {python ++ pool, %{outline | functions: possible}}
  end

  defp bounded!(%{functions: functions, path: path}, {file, line}) do
    count = length(functions)

    if count > @most_functions do
      description =
        "#{Path.relative_to_cwd(path || file)} has #{count} functions for others, and #{@most_functions} is the most " <>
          "for one module of Elixir's, as its compiler takes minutes for more: name those that you need in a literal __all__"

      raise CompileError, file: file, line: line, description: description
    end
  end

  defp left_out(%{"name" => name, "line" => line}, reason, path, {file, at}) do
    shown = if String.length(name) > 60, do: String.slice(name, 0, 60) <> "…", else: name
    where = "#{Path.relative_to_cwd(path || file)}:#{line}"
    # Nothing else can call what is in a block.
    other = if path, do: ". Typhon.call/5 can call it", else: ""

    IO.warn("Python's function #{shown} (#{where}) is left out: #{reason}#{other}", file: file, line: at)
  end

  defp source!(%{code: %Code{} = code}, owner, {file, _}),
    do: {[code: code, owner: owner], {:code, code.code}, {code.file || file, code.line}}

  defp source!(%{code: code}, owner, {file, line} = place) when is_binary(code),
    do: {[code: %Code{code: code, file: file, line: line}, owner: owner], {:code, code}, place}

  defp source!(%{file: file} = options, _owner, place) when is_binary(file) do
    module = Map.get_lazy(options, :module, fn -> module_of(file) end)
    {[module: to_string(module)], {:file, Path.expand(file)}, place}
  end

  defp source!(%{module: module} = options, _owner, place)
       when (is_binary(module) or is_atom(module)) and module != nil do
    folders = options |> Map.get(:python_path, []) |> List.wrap() |> Enum.map(&Path.expand/1)
    {[module: to_string(module)], {:module, to_string(module), folders}, place}
  end

  defp source!(_options, _owner, place),
    do: refuse(place, ~s(it needs one of module: "statistics", file: "priv/py/report.py" and code: ~PY"…"))

  defp refuse({file, line}, text),
    do: raise(CompileError, file: file, line: line, description: "use Typhon.Module: " <> text)

  # priv/py is where projects have them.
  defp module_of(file) do
    case file |> Path.rootname() |> Path.split() |> below() |> Enum.reverse() do
      ["__init__" | [_ | _] = package] -> package |> Enum.reverse() |> Enum.join(".")
      module -> module |> Enum.reverse() |> Enum.join(".")
    end
  end

  defp below(["priv", "py" | [_ | _] = module]), do: module
  defp below([_ | [_ | _] = rest]), do: below(rest)
  defp below(parts), do: parts

  # --- what the functions do ---

  @doc false
  @spec call(keyword, String.t(), list, keyword, keyword) :: {:ok, term} | {:error, Typhon.error()}
  def call(python, name, args, options, shape) do
    {pool, args, options} = arguments!(python, name, args, options, shape)

    case python[:code] do
      nil ->
        Typhon.call(pool, python[:module], name, args, options)

      code ->
        pool
        |> Typhon.call("typhon._block", "call", in_block(python, code, name, args, options), without(options))
        |> result()
    end
    |> timed(python, name, args)
  end

  @doc false
  @spec call!(keyword, String.t(), list, keyword, keyword) :: term
  def call!(python, name, args, options, shape) do
    case call(python, name, args, options, shape) do
      {:ok, value} -> value
      {:error, error} -> raise error
    end
  end

  @doc false
  @spec stream(keyword, String.t(), list, keyword, keyword) :: Enumerable.t()
  def stream(python, name, args, options, shape) do
    {pool, args, options} = arguments!(python, name, args, options, shape)

    case python[:code] do
      nil ->
        Typhon.stream(pool, python[:module], name, args, options)

      code ->
        Typhon.stream(
          pool,
          "typhon._block",
          "call",
          in_block(python, code, name, args, options),
          without(options)
        )
    end
  end

  defp in_block(python, %Code{code: code, file: file, line: line}, name, args, options),
    do: [python[:owner], code, file, line, name, args, Typhon.Options.kwargs!(options[:kwargs])]

  defp without(options), do: Keyword.delete(options, :kwargs)

  defp timed({:error, %TimeoutError{arity: arity} = error}, python, name, args) when arity != nil do
    known =
      if python[:code],
        do: %{error | module: python[:owner], function: name, arity: length(args)},
        else: error

    {:error, TimeoutError.noted(known, "That is typhon: [timeout: …] among the arguments of #{name}")}
  end

  defp timed(result, _python, _name, _args), do: result

  # From the place in the arguments to what the user has given.
  defp result({:error, %EncodeError{path: "args[5]" <> rest} = error}),
    do: {:error, %{error | path: "args" <> rest}}

  defp result({:error, %EncodeError{path: "args[6]" <> rest} = error}),
    do: {:error, %{error | path: "kwargs" <> rest}}

  defp result(result), do: result

  defp arguments!(python, name, args, options, shape) do
    unless Keyword.keyword?(options),
      do: raise(ArgumentError, "#{name}: options must be a keyword list, got #{inspect(options)}")

    {typhon, given} = Keyword.pop(options, :typhon, [])

    unless Keyword.keyword?(typhon),
      do:
        raise(
          ArgumentError,
          "#{name}: typhon: must be a keyword list, got #{inspect(typhon)}" <> renamed(shape)
        )

    known!(name, given, shape)
    {pool, typhon} = Keyword.pop_lazy(typhon, :pool, fn -> python[:pool] || Default.pool!() end)
    {placed, kwargs} = placed!(name, Map.new(Enum.reverse(given)), shape)

    {pool, args ++ placed,
     Keyword.put(typhon, :kwargs, Map.new(kwargs, fn {key, value} -> {pythons(key), value} end))}
  end

  defp renamed(shape) do
    if :typhon_ in known(shape), do: ". Python's argument of that name is typhon_:", else: ""
  end

  # `typhon_` is `typhon` in Python, and `typhon__` is `typhon_`.
  defp pythons(key) do
    case Atom.to_string(key) do
      "typhon_" <> more = name -> if String.trim(more, "_") == "", do: String.slice(name, 0..-2//1), else: key
      _ -> key
    end
  end

  defp known(shape), do: Enum.flat_map([:alone, :plain, :named], &Keyword.get(shape, &1, []))

  defp known!(name, given, shape) do
    known = known(shape)

    for {key, _} <- given, key not in known and shape[:any] != true do
      raise ArgumentError,
            "#{name} has no argument #{inspect(key)} that could be given by name. " <>
              "There are #{Enum.map_join(known ++ [:typhon], ", ", &inspect/1)}" <> of_call(key, given[key])
    end

    for key <- Keyword.get(shape, :required, []),
        not Keyword.has_key?(given, key),
        do: raise(ArgumentError, "#{name} needs #{key}:, which has no default in Python")
  end

  @of_call [:pool | for(%{name: name} <- Typhon.Options.Table.options(:call), name != :kwargs, do: name)]

  defp of_call(key, value) when key in @of_call,
    do: ". That option of the call is #{inspect(typhon: [{key, value}]) |> String.slice(1..-2//1)}"

  defp of_call(_key, _value), do: ""

  # What Python is given by position, behind the required ones.
  defp placed!(name, given, shape) do
    alone = Keyword.get(shape, :alone, [])
    several = Keyword.get(shape, :several, [])

    unless is_list(several),
      do: raise(ArgumentError, "#{name}: what goes to *args must be a list, got #{inspect(several)}")

    before = if several == [], do: alone, else: alone ++ Keyword.get(shape, :plain, [])
    {there, rest} = Enum.split_while(before, &is_map_key(given, &1))
    missing = List.first(rest)

    if several != [] and missing do
      raise ArgumentError, "#{name} needs #{missing}:, as Python has it before *args, which is not empty"
    end

    with key when key != nil <- Enum.find(rest, &is_map_key(given, &1)) do
      raise ArgumentError, "#{name} needs #{missing}: with #{key}:, as Python takes both by position alone"
    end

    {Enum.map(there, &given[&1]) ++ several, Map.drop(given, there)}
  end
end
