defmodule Typhon.Soak.Work do
  @moduledoc false
  # What callers do: operations that check their own answers. Each returns :ok, raises for a wrong answer, or returns the error
  # that ended it, which judge/2 decides on.

  alias Typhon.{OverloadError, PythonError, StartError, TimeoutError, WorkerError}
  alias Typhon.Soak.{Book, Payload}

  # No call takes as long by itself: one that times out here has been lost.
  @patience 120_000
  @long [timeout: @patience]

  @operations [
    echo: 30,
    kwargs: 5,
    binary: 5,
    list: 5,
    object: 4,
    callback: 5,
    nested: 4,
    ask: 4,
    stream: 4,
    async_stream: 1,
    iterator: 4,
    multi: 4,
    map: 2,
    tasks: 3,
    cancelled: 3,
    session: 3,
    sticky: 3,
    coroutines: 2,
    messages: 2,
    print: 2,
    log: 1,
    timeout: 2,
    retry: 3,
    raises: 4,
    resists: 1,
    cannot_cross: 1,
    cast: 3,
    fork: 1,
    subprocess: 1
  ]
  # Not inside the VM: it cannot be forked, and what cannot be interrupted keeps its interpreter for good.
  @processes [:fork, :resists]

  @doc "How long a single operation may take at most; beyond it is hung."
  def patience, do: 2 * @patience + 60_000

  @doc "One operation, checked and booked: any, or that of a name."
  @spec one(pid, atom) :: :ok
  def one(py, name \\ any()) do
    Book.enter({name, py})
    Book.count(:calls, name)

    result =
      try do
        run(name, py)
      rescue
        error -> {:raised, error, __STACKTRACE__}
      catch
        kind, reason -> {:raised, ErlangError.normalize({kind, reason}, []), __STACKTRACE__}
      end

    Book.enter(nil)
    judge(name, result)
    check_mailbox(name)
  end

  defp any do
    inside? = Application.get_env(:typhon, :isolation) == :interpreter

    for({name, weight} <- @operations, not (inside? and name in @processes), _ <- 1..weight, do: name)
    |> Enum.random()
  end

  defp judge(_name, :ok), do: :ok
  defp judge(name, {:error, error}), do: judge_error(name, error, [])

  defp judge(name, {:raised, %kind{} = error, stack})
       when kind in [WorkerError, StartError, OverloadError, TimeoutError],
       do: judge_error(name, error, stack)

  defp judge(name, {:raised, %PythonError{} = error, stack}), do: judge_error(name, error, stack)

  defp judge(name, {:raised, error, stack}),
    do: Book.wrong("#{name}: " <> Exception.format(:error, error, stack))

  defp judge(name, other), do: Book.wrong("#{name}: unexpected #{inspect(other, limit: 20)}")

  # Faults are injected: workers end under calls. But nothing else may happen to them.
  defp judge_error(_name, %kind{} = error, _stack) when kind in [WorkerError, OverloadError, StartError] do
    text = Exception.message(error)
    if text == "", do: Book.wrong("an error without a text: #{inspect(error)}")
    Book.count(:errors, label(error))
    :ok
  end

  defp judge_error(name, %TimeoutError{} = error, stack) do
    Book.count(:errors, label(error))
    Book.count(:hung, name)
    IO.puts("HUNG: #{name}: #{Exception.message(error)}\n#{Exception.format_stacktrace(stack)}")
    :ok
  end

  # The pool with a limit, while a fault uses it up.
  defp judge_error(_name, %PythonError{type: type, message: message}, _stack)
       when type == "MemoryError" or message == "can't start new thread" do
    Book.count(:errors, "PythonError for want of memory")
    :ok
  end

  defp judge_error(name, error, stack), do: Book.wrong("#{name}: " <> Exception.format(:error, error, stack))

  defp label(%WorkerError{reason: {what, of}}) when what in [:limit, :owner_down] and is_atom(of),
    do: "WorkerError #{what} #{of}"

  defp label(%WorkerError{reason: {what, _}}), do: "WorkerError #{what}"
  defp label(%WorkerError{reason: :signal, signal: signal}), do: "WorkerError #{signal}"
  defp label(%WorkerError{reason: :exit, exit_status: status}), do: "WorkerError exit #{inspect(status)}"
  defp label(%kind{reason: reason}) when is_atom(reason), do: "#{List.last(Module.split(kind))} #{reason}"
  defp label(%kind{}), do: List.last(Module.split(kind))

  defp check_mailbox(name) do
    {:messages, messages} = Process.info(self(), :messages)

    case messages -- [:stop] do
      [] ->
        :ok

      messages ->
        Book.wrong("#{name} left in the mailbox: #{inspect(messages, limit: 20)}")
        for message <- messages, do: receive(do: (^message -> :ok))
        :ok
    end
  end

  defp same!(is, is), do: :ok
  defp same!(is, should), do: raise("got #{inspect(is, limit: 50)} instead of #{inspect(should, limit: 50)}")

  defp expect({:ok, is}, should), do: same!(is, should)
  defp expect({:error, _} = error, _should), do: error

  # --- operations ---

  defp run(:echo, py) do
    term = Payload.term()
    py |> Typhon.call(:sample, :echo, [term], @long) |> expect(term)
  end

  defp run(:kwargs, py) do
    {a, b} = {Payload.term(1), Payload.term(2)}
    py |> Typhon.call(:sample, :echo_all, [a], [kwargs: %{"b" => b}] ++ @long) |> expect({{a}, %{"b" => b}})
  end

  defp run(:binary, py) do
    bytes = Payload.bytes()

    case :rand.uniform(3) do
      1 ->
        py |> Typhon.call(:sample, :echo, [Typhon.bytes(bytes)], @long) |> expect(bytes)

      2 ->
        py |> Typhon.call(:sample, :checksum, [Typhon.buffer(bytes)], @long) |> expect(:erlang.crc32(bytes))

      3 ->
        py
        |> Typhon.call(:sample, :blob, [byte_size(bytes)], @long)
        |> expect(:binary.copy(<<0>>, byte_size(bytes)))
    end
  end

  defp run(:list, py) do
    count = :rand.uniform(Enum.random([100, 10_000, 100_000]))
    first = :rand.uniform(100_000)

    list =
      if :rand.uniform(2) == 1, do: Enum.to_list(first..(first + count)), else: for(i <- 1..count, do: i / 3)

    py |> Typhon.call(:sample, :echo, [list], @long) |> expect(list)
  end

  defp run(:object, py) do
    start = :rand.uniform(1_000)

    with {:ok, counter} <- Typhon.call(py, :sample, :Counter, [start], @long),
         {:ok, sum} <- Typhon.call(py, counter, :add, [5], @long),
         :ok <- same!(sum, start + 5),
         {:ok, [twin, %{"same" => _}]} <- Typhon.call(py, :sample, :pair_of, [counter], @long),
         {:ok, sum} <- Typhon.call(py, twin, :add, [1], @long),
         :ok <- same!(sum, start + 6) do
      py |> Typhon.call(:sample, :value_of, [counter], @long) |> expect(start + 6)
    end
  end

  defp run(:callback, py) do
    {a, b} = {:rand.uniform(1_000), Payload.term(1)}
    fun = fn x, y -> {x * 2, y, a} end
    py |> Typhon.call(:talk, :apply, [fun, a, b], @long) |> expect({a * 2, b, a})
  end

  # Elixir → Python → Elixir → Python …, on one worker.
  defp run(:nested, py) do
    depth = :rand.uniform(5)

    deeper = fn deeper, n ->
      if n == 0, do: "bottom", else: {n, Typhon.call!(py, :talk, :nest, [&deeper.(deeper, &1), n - 1], @long)}
    end

    expected = Enum.reduce(1..depth, "bottom", fn n, inner -> {n, inner} end)

    case Typhon.call(py, :talk, :nest, [&deeper.(deeper, &1), depth], @long) do
      # What ended an inner call arrives as the error that the callback raised.
      {:error, %PythonError{type: "typhon" <> _} = error} -> nested_error(error)
      result -> expect(result, expected)
    end
  end

  defp run(:ask, py) do
    numbers = for _ <- 1..:rand.uniform(20), do: :rand.uniform(1_000)
    py |> Typhon.call(:talk, :call, ["Elixir.Enum", "sum", [numbers]], @long) |> expect(Enum.sum(numbers))
  end

  defp run(:stream, py) do
    count = :rand.uniform(Enum.random([10, 5_000, 50_000]))
    stream = Typhon.stream(py, :talk, :numbers, [count], @long)

    case :rand.uniform(3) do
      1 -> stream |> Enum.to_list() |> same!(Enum.to_list(0..(count - 1)))
      2 -> stream |> Enum.take(3) |> same!(Enum.take(0..(count - 1), 3))
      3 -> stream |> Enum.sum() |> same!(div(count * (count - 1), 2))
    end
  end

  defp run(:async_stream, py),
    do:
      py
      |> Typhon.stream(:talk, :slow_numbers, [20, 0.001], @long)
      |> Enum.to_list()
      |> same!(Enum.to_list(0..19))

  defp run(:iterator, py) do
    count = :rand.uniform(Enum.random([10, 20_000]))

    if :rand.uniform(2) == 1,
      do:
        py
        |> Typhon.call(:talk, :total, [Typhon.iter(1..count)], @long)
        |> expect(div(count * (count + 1), 2)),
      else:
        py
        |> Typhon.call(:talk, :take, [Typhon.iter(Stream.iterate(1, &(&1 + 1))), 5], @long)
        |> expect([1, 2, 3, 4, 5])
  end

  defp run(:multi, py) do
    calls =
      for _ <- 1..:rand.uniform(200) do
        if :rand.uniform(10) == 1, do: {:fail, :rand.uniform(100)}, else: {:echo, Payload.term(1)}
      end

    py
    |> Typhon.multi(
      Enum.map(calls, fn {function, arg} ->
        {:sample, function, [if(function == :fail, do: "no #{arg}", else: arg)]}
      end),
      @long
    )
    |> Enum.zip(calls)
    |> Enum.reduce_while(:ok, fn
      {{:ok, is}, {:echo, is}}, :ok ->
        {:cont, :ok}

      {{:error, %PythonError{message: "no " <> number}}, {:fail, n}}, :ok ->
        same!(number, "#{n}")
        {:cont, :ok}

      {{:error, _} = error, _}, :ok ->
        {:halt, error}

      {is, should}, :ok ->
        raise "got #{inspect(is)} instead of #{inspect(should)}"
    end)
  end

  defp run(:map, py) do
    count = :rand.uniform(500)
    options = [batch: Enum.random([1, 10]), max_concurrency: 4, ordered: Enum.random([true, false])] ++ @long
    is = py |> Typhon.map(:operator, :mul, 1..count, [args: [3]] ++ options) |> Enum.to_list()
    same!(Enum.sort(is), for(i <- 1..count, do: i * 3))
  end

  defp run(:tasks, py) do
    terms = for _ <- 1..:rand.uniform(10), do: Payload.term(2)
    tasks = for term <- terms, do: Typhon.async(py, :sample, :echo, [term], @long)

    tasks
    |> Task.await_many(2 * @patience)
    |> Enum.zip(terms)
    |> Enum.reduce(:ok, fn {result, term}, acc ->
      case expect(result, term) do
        :ok -> acc
        error -> error
      end
    end)
  end

  defp run(:cancelled, py) do
    {module, function} = Enum.random([{:sample, :sleep}, {:talk, :sleep}, {:sample, :spin_python}])
    task = Typhon.async(py, module, function, [0.5], @long)
    Process.sleep(:rand.uniform(30))
    Typhon.cancel(task)
  end

  defp run(:session, py) do
    value = Payload.term(2)

    Typhon.run(
      py,
      fn session ->
        with {:ok, nil} <- Typhon.call(session, :sample, :put, ["soak", value], @long),
             {:ok, is} <- Typhon.call(session, :sample, :get, ["soak"], @long),
             do: same!(is, value)
      end,
      @long
    )
    |> case do
      {:ok, result} -> result
      error -> error
    end
  end

  defp run(:sticky, py) do
    key = :rand.uniform(20)
    py |> Typhon.call(:sample, :echo, [key], [worker: key] ++ @long) |> expect(key)
  end

  defp run(:coroutines, py) do
    tasks =
      for i <- 1..50, do: Task.async(Typhon, :call, [py, :talk, :sleep, [:rand.uniform(20) / 1000, i], @long])

    tasks
    |> Task.await_many(2 * @patience)
    |> Enum.with_index(1)
    |> Enum.reduce(:ok, fn {result, i}, acc ->
      case expect(result, i) do
        :ok -> acc
        error -> error
      end
    end)
  end

  defp run(:messages, py) do
    messages = for _ <- 1..:rand.uniform(5), do: Payload.term(1)

    Typhon.run(
      py,
      fn session ->
        Enum.reduce_while(messages, :ok, fn message, :ok ->
          with :ok <- Typhon.send(session, message),
               {:ok, is} <- Typhon.call(session, :typhon, :receive, [], [kwargs: %{timeout: 60}] ++ @long),
               :ok <- same!(is, message) do
            {:cont, :ok}
          else
            error -> {:halt, error}
          end
        end)
      end,
      @long
    )
    |> case do
      {:ok, result} -> result
      error -> error
    end
  end

  defp run(:print, py) do
    text = for(_ <- 1..:rand.uniform(40), into: "", do: "line #{:rand.uniform(1_000)}\n")
    {:ok, device} = StringIO.open("")

    result =
      with {:ok, nil} <- Typhon.call(py, :sample, :say_partly, [text], [stdio: device] ++ @long),
           do: device |> StringIO.contents() |> elem(1) |> same!(text)

    StringIO.close(device)
    result
  end

  defp run(:log, py), do: py |> Typhon.call(:talk, :log, [40, "soak"], @long) |> expect(nil)

  defp run(:timeout, py) do
    {module, function} =
      Enum.random([{:sample, :sleep}, {:talk, :sleep}, {:sample, :spin_python}, {:talk, :block}])

    case Typhon.call(py, module, function, [30], timeout: Enum.random([0, 1, 20, 50])) do
      {:error, %TimeoutError{}} -> :ok
      other -> other
    end
  end

  defp run(:retry, py) do
    term = Payload.term(2)
    py |> Typhon.call(:sample, :echo, [term], [retry: 5] ++ @long) |> expect(term)
  end

  defp run(:raises, py) do
    text = Payload.text(:rand.uniform(100))

    case Typhon.call(py, :sample, :fail, [text], @long) do
      {:error, %PythonError{type: "sample.OwnError", message: is}} -> same!(is, text)
      other -> other
    end
  end

  defp run(:resists, py) do
    how =
      Enum.random([
        "raises",
        "raises base",
        "no str",
        "surrogate",
        "recursion",
        "nameless",
        "notes",
        "cycle",
        "chain",
        "exit"
      ])

    case Typhon.call(py, :faults, :raise_, [how], @long) do
      {:error, %PythonError{} = error} ->
        _ = Exception.message(error)
        :ok

      other ->
        other
    end
  end

  defp run(:cannot_cross, py) do
    case Typhon.call(
           py,
           :faults,
           :result,
           [Enum.random(["surrogate", "cycle", "deep", "keys", "objects then bad"])],
           @long
         ) do
      {:error, %Typhon.EncodeError{}} -> :ok
      other -> other
    end
  end

  defp run(:cast, py), do: Typhon.cast(py, :sample, :put, ["cast", Payload.term(1)], @long)

  defp run(:fork, py) do
    case :rand.uniform(4) do
      1 ->
        py |> Typhon.call(:faults, :fork_and_return, [], @long) |> expect(false)

      2 ->
        py |> Typhon.call(:faults, :fork_and_exit, [3], @long) |> expect(3)

      3 ->
        py |> Typhon.call(:faults, :process_that_prints, [], [stdio: :discard] ++ @long) |> expect(0)

      4 ->
        py
        |> Typhon.call(:faults, :fork_with_view, [Typhon.buffer(:binary.copy(<<3>>, 200_000))], @long)
        |> expect(3_000)
    end
  end

  defp run(:subprocess, py) do
    text = Payload.text(50)
    py |> Typhon.call(:faults, :subprocess_run, [text], @long) |> expect(text)
  end

  # The inner call's error, by what its text says; anything else is wrong.
  defp nested_error(error) do
    if Exception.message(error) =~ ~r/the (Python )?worker/,
      do: {:error, %WorkerError{reason: :lost}},
      else: {:error, error}
  end
end
