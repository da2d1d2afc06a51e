defmodule Typhon.Multi do
  @moduledoc false
  # Many calls in one request, by way of python/typhon/_bulk.py. A batch is an ordinary call, so that all that holds for those
  # (timeouts, routing by objects, what happens when a worker ends) holds for it.
  #
  # Every call has a result of its own. What fails a batch as a whole is the result of each call in it, except for an argument
  # that cannot cross: that is known before the first call is made, so the others go without it.

  alias Typhon.{
    Callee,
    Deadline,
    EncodeError,
    Error,
    Options,
    PoolError,
    Registry,
    Session,
    Structs,
    TimeoutError
  }

  alias Typhon.Test.Double

  @module "typhon._bulk"
  # Calls in a request. Enough that what a request costs does not count; few enough that one of numbers takes milliseconds.
  @chunk 8_192

  @type result :: {:ok, term} | {:error, Error.t()}

  # `shape`: {module, function} when all calls share them, `calls` are then lists of arguments; or :each, and `calls` are
  # {module, function, args, kwargs}.
  @typep batch :: %{
           pool: Typhon.pool(),
           shape: {term, String.t()} | :each,
           kwargs: map,
           stop: boolean,
           options: keyword,
           timeout: timeout,
           deadline: integer | :infinity
         }

  @spec multi(Typhon.pool(), Typhon.callee(), Typhon.name(), [list], keyword) :: [result]
  def multi(pool, module, function, calls, options) do
    options = Options.multi!(options, :multi)
    pool |> batch({name(module), to_string(function)}, options) |> run(calls) |> Structs.results(options.as)
  end

  @spec multi(Typhon.pool(), [tuple], keyword) :: [result]
  def multi(pool, calls, options) do
    options = Options.multi!(options, :multi_each)
    pool |> batch(:each, options) |> run(each!(pool, calls, 0)) |> Structs.results(options.as)
  end

  defp batch(pool, shape, options) do
    timeout = Session.bound(options.timeout)

    %{
      pool: pool,
      shape: shape,
      kwargs: options.kwargs,
      stop: options.stop_on_error,
      options: options.call,
      timeout: timeout,
      deadline: Deadline.from(timeout)
    }
  end

  defp name(module), do: Callee.target(module)

  # Lists of arguments as one list for each argument, when all calls have the same number, and few: an Erlang list and a Python
  # one less for every call.
  @spec columns([list]) :: [list] | :mixed
  defp columns([[_] | _] = calls), do: columns1(calls, [])
  defp columns([[_, _] | _] = calls), do: columns2(calls, [], [])
  defp columns([[_, _, _] | _] = calls), do: columns3(calls, [], [], [])
  defp columns(_calls), do: :mixed

  defp columns1([[a] | rest], as), do: columns1(rest, [a | as])
  defp columns1([], as), do: [:lists.reverse(as)]
  defp columns1(_, _), do: :mixed

  defp columns2([[a, b] | rest], as, bs), do: columns2(rest, [a | as], [b | bs])
  defp columns2([], as, bs), do: [:lists.reverse(as), :lists.reverse(bs)]
  defp columns2(_, _, _), do: :mixed

  defp columns3([[a, b, c] | rest], as, bs, cs), do: columns3(rest, [a | as], [b | bs], [c | cs])
  defp columns3([], as, bs, cs), do: [:lists.reverse(as), :lists.reverse(bs), :lists.reverse(cs)]
  defp columns3(_, _, _, _), do: :mixed

  defp args!([args | rest], index) when length(args) >= 0, do: args!(rest, index + 1)
  defp args!([], _index), do: :ok

  defp args!([args | _], index) do
    raise ArgumentError,
          "each call must be a list of arguments, number #{index} is #{inspect(args)}. " <>
            "A single argument is [#{inspect(args)}]"
  end

  defp args!(other, _index),
    do: raise(ArgumentError, "the calls must be a list of lists of arguments, got #{inspect(other)}")

  defp each!(pool, [call | rest], index), do: [one!(pool, call, index) | each!(pool, rest, index + 1)]
  defp each!(_pool, [], _index), do: []

  defp each!(_pool, other, _index),
    do: raise(ArgumentError, "the calls must be a list of {module, function, args}, got #{inspect(other)}")

  defp one!(pool, {module, function, args}, index), do: one!(pool, {module, function, args, %{}}, index)

  defp one!(pool, {module, function, args, kwargs}, _index)
       when (is_atom(module) or is_binary(module) or is_struct(module, Typhon.Object)) and
              (is_atom(function) or is_binary(function)) and length(args) >= 0 do
    Callee.check!(pool, module, function, args)
    {name(module), to_string(function), args, Options.kwargs!(kwargs)}
  end

  defp one!(_pool, call, index) do
    raise ArgumentError,
          "each call must be {module, function, args} or {module, function, args, kwargs}, " <>
            "number #{index} is #{inspect(call)}"
  end

  # --- running ---

  @spec run(batch, list) :: [result]
  defp run(batch, calls) do
    if batch.shape != :each, do: args!(calls, 0)

    case Registry.lookup(batch.pool) do
      {_pid, _native, flags} = row ->
        if Double.on?(flags), do: doubled(batch, row, calls), else: chunks(batch, calls)

      {:error, %PoolError{}} = error ->
        fail(batch, calls, error)
    end
  end

  # A test decides about each call by itself; what it leaves to Python goes there in one piece.
  defp doubled(batch, row, calls) do
    results = doubles(batch, row, calls)
    through = for {:through, call} <- results, do: call
    fill(results, if(through == [], do: [], else: chunks(batch, through)), batch.stop)
  end

  defp doubles(_batch, _row, []), do: []

  defp doubles(batch, row, [call | rest]) do
    {module, function, args, kwargs} = whole(batch, call)

    case Double.call(row, batch.pool, module, function, args, kwargs) do
      :through -> [{:through, call} | doubles(batch, row, rest)]
      {:error, _} = error when batch.stop -> [error]
      result -> [result | doubles(batch, row, rest)]
    end
  end

  defp fill([{:through, _} | rest], [result | results], stop),
    do: [result | if(stop and match?({:error, _}, result), do: [], else: fill(rest, results, stop))]

  defp fill([result | rest], results, stop), do: [result | fill(rest, results, stop)]
  defp fill([], [], _stop), do: []

  defp chunks(batch, calls) do
    case split(calls) do
      {chunk, []} ->
        chunk(batch, chunk)

      {chunk, rest} ->
        results = chunk(batch, chunk)

        if batch.stop and match?({:error, _}, List.last(results)),
          do: results,
          else: results ++ chunks(batch, rest)
    end
  end

  defp split(calls) do
    # The usual batch is not copied.
    case Enum.drop(calls, @chunk) do
      [] -> {calls, []}
      rest -> {Enum.take(calls, @chunk), rest}
    end
  end

  defp chunk(_batch, []), do: []

  defp chunk(batch, calls) do
    columns = if batch.shape == :each, do: :mixed, else: columns(calls)

    case request(batch, calls, columns) do
      {:ok, results} when is_list(results) ->
        wrap(results)

      {:ok, {results, errors}} when is_list(results) and is_list(errors) ->
        merge(results, errors, 0, batch, calls)

      {:ok, {error}} ->
        fail(batch, calls, {:error, Error.from_wire(error, described(batch, hd(calls)))})

      {:ok, nonsense} ->
        fail(batch, calls, {:error, Error.nonsense(nonsense)})

      {:error, %EncodeError{path: path} = error} ->
        refused(batch, calls, error, place(batch, columns, path))

      {:error, _} = error ->
        fail(batch, calls, error)
    end
  end

  defp request(batch, calls, columns) do
    case Deadline.left(batch.deadline) do
      0 when batch.timeout != 0 ->
        {:error, %TimeoutError{}}

      left ->
        {function, args} =
          case batch.shape do
            {module, function} when columns == :mixed ->
              {"run", [module, function, calls, batch.stop, batch.kwargs]}

            {module, function} ->
              {"run_columns", [module, function, columns, batch.stop, batch.kwargs]}

            :each ->
              {"run_each", [calls, batch.stop]}
          end

        # The timeout alone is the usual case, for which there is a short way.
        Typhon.call(batch.pool, @module, function, args, [{:timeout, left} | batch.options])
    end
  end

  defp wrap([value | rest]), do: [{:ok, value} | wrap(rest)]
  defp wrap([]), do: []

  defp merge([_ | results], [{index, error} | errors], index, batch, [call | calls]) do
    [
      {:error, Error.from_wire(error, described(batch, call))}
      | merge(results, errors, index + 1, batch, calls)
    ]
  end

  defp merge([value | results], errors, index, batch, [_ | calls]),
    do: [{:ok, value} | merge(results, errors, index + 1, batch, calls)]

  # Shorter than the calls when it was to stop at an error.
  defp merge([], [], _index, _batch, _calls), do: []

  # No call was made. The one at fault gets the error, with the path it would have by itself.
  defp refused(batch, calls, error, {index, path}) when index < length(calls) do
    {before, [_ | rest]} = Enum.split(calls, index)
    results = chunk(batch, before)
    result = {:error, %{error | path: path}}

    cond do
      batch.stop and match?({:error, _}, List.last(results)) -> results
      batch.stop -> results ++ [result]
      true -> results ++ [result | chunk(batch, rest)]
    end
  end

  defp refused(batch, calls, error, {:all, path}), do: fail(batch, calls, {:error, %{error | path: path}})
  defp refused(batch, calls, error, _unknown), do: fail(batch, calls, {:error, error})

  # From the path in the batch's arguments to the call and the path in its own.
  defp place(%{shape: :each}, _columns, path) do
    case path && Regex.run(~r/\Aargs\[0\]\[(\d+)\]\[([0-3])\](.*)\z/s, path, capture: :all_but_first) do
      [index, part, rest] ->
        {String.to_integer(index),
         elem({"module", "function", "args", "kwargs"}, String.to_integer(part)) <> rest}

      _ ->
        nil
    end
  end

  defp place(_batch, columns, path) do
    case path && Regex.run(~r/\Aargs\[(0|1|2|4)\](\[\d+\])?(\[\d+\])?(.*)\z/s, path, capture: :all_but_first) do
      ["2", outer, inner, rest] when outer != "" and columns == :mixed ->
        {index(outer), "args" <> inner <> rest}

      ["2", outer, inner, rest] when inner != "" ->
        {index(inner), "args" <> outer <> rest}

      ["0", a, b, rest] ->
        {:all, "module" <> a <> b <> rest}

      ["1", a, b, rest] ->
        {:all, "function" <> a <> b <> rest}

      ["4", a, b, rest] ->
        {:all, "kwargs" <> a <> b <> rest}

      _ ->
        nil
    end
  end

  defp index(bracketed), do: bracketed |> String.slice(1..-2//1) |> String.to_integer()

  # One and the same for all that did not get an answer; a timeout names the call instead of the batch.
  defp fail(%{stop: true} = batch, [call | _], error), do: [failure(batch, call, error)]
  defp fail(batch, calls, error), do: Enum.map(calls, &failure(batch, &1, error))

  defp failure(batch, call, {:error, %TimeoutError{importing: module}}),
    do: {:error, %{Error.timeout(described(batch, call)) | importing: module}}

  defp failure(_batch, _call, error), do: error

  defp described(batch, call) do
    {module, function, args, _kwargs} = whole(batch, call)
    {module, function, args, batch.timeout}
  end

  defp whole(%{shape: {module, function}, kwargs: kwargs}, args),
    do: {Callee.bare(module), function, args, kwargs}

  defp whole(%{shape: :each}, {module, function, args, kwargs}),
    do: {Callee.bare(module), function, args, kwargs}
end
