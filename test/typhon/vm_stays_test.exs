defmodule Typhon.VmStaysTest do
  # What a VM with Pythons inside has to survive, or to end in order from. Each in a VM of its own, as it would take this one
  # along.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  @moduletag timeout: 300_000

  # Of two workers one is in a loop of C code and one waits in a system call.
  @busy """
  Logger.configure(level: :critical)
  Process.flag(:trap_exit, true)
  {:ok, py} = Typhon.start_link(workers: 2, isolation: :interpreter, grace: 100, stdio: :discard)
  run = fn code -> Typhon.call(py, :builtins, :exec, [code, %{}], timeout: :infinity) end
  busy = for code <- ["sum(range(50_000_000))", "import time; time.sleep(600)"], do: Task.async(fn -> run.(code) end)
  until = fn until, fun -> fun.() || (Process.sleep(5) && until.(until, fun)) end

  in_flight = fn ->
    {:ok, %{workers: workers}} = Typhon.info(py)
    workers |> Enum.map(& &1.in_flight) |> Enum.sum()
  end

  until.(until, fn -> in_flight.() == 2 end)
  """

  # Not the VM's 1,000,000 processes: its crash dump takes a while.
  defp dump do
    path = new_path("dump")
    on_exit(fn -> File.rm(path) end)
    path
  end

  test "recursion in Python and in C code, in any thread, and with any limit" do
    bombs = [
      "def f(n): f(n + 1)\nf(0)",
      "x = y = []\nfor _ in range(1_000_000): x, y = [x], [y]\nx == y",
      "import json\njson.loads('[' * 10_000_000)",
      "import json\nx = []\nfor _ in range(1_000_000): x = [x]\njson.dumps(x)",
      "import pickle\nx = []\nfor _ in range(1_000_000): x = [x]\npickle.dumps(x)",
      "x = ()\nfor _ in range(1_000_000): x = (x, int)\nisinstance('', x)",
      "class A:\n  def __repr__(self): return repr(self)\nrepr(A())",
      "class A:\n  def __getattr__(self, name): return getattr(self, name + 'x')\nA().x",
      "class A:\n  def __add__(self, other): return self + other\nA() + A()",
      "def f(x): return sorted([1], key=f)\nf(1)"
    ]

    code = """
    Logger.configure(level: :critical)
    {:ok, py} = Typhon.start_link(workers: 1, isolation: :interpreter, stdio: :discard)
    run = fn code -> Typhon.call(py, :builtins, :exec, [code, %{}], timeout: :infinity) end

    in_thread = fn code ->
      "import threading\\nfailed = []\\ndef run():\\n  try: exec(" <> inspect(code, limit: :infinity, printable_limit: :infinity) <>
        ", {})\\n  except RecursionError as error: failed.append(error)\\n" <>
        "thread = threading.Thread(target=run)\\nthread.start()\\nthread.join()\\nraise failed[0]"
    end

    for limit <- ["", "import sys\\nsys.setrecursionlimit(10**5)\\n"],
        bomb <- #{inspect(bombs, limit: :infinity, printable_limit: :infinity)},
        code <- [limit <> bomb, in_thread.(limit <> bomb)] do
      {:error, error} = run.(code)
      {"RecursionError", _} = {Map.get(error, :type), {Exception.message(error), code}}
    end

    # What nests deeply comes and goes without recursion.
    {:ok, nil} = run.("x = []\\nfor _ in range(1_000_000): x = [x]\\ndel x")
    {:ok, nil} = run.("x = []\\nfor _ in range(50_000): x = [x]\\ntry: repr(x)\\nexcept RecursionError: pass")
    {:ok, nil} = run.("import re\ntry: re.compile('(' * 5_000 + ')' * 5_000)\nexcept RecursionError: pass")
    {:ok, nil} = run.("try: eval('-' * 100_000 + '1')\\nexcept (MemoryError, RecursionError): pass")
    {:ok, nil} = run.("def f(n): return n and f(n - 1)\\nimport sys\\nsys.setrecursionlimit(10_000)\\nf(9_900)")
    {:ok, %{workers: [%{restarts: 0}]}} = Typhon.info(py)
    IO.puts("alive")
    """

    assert vm(code) == {"alive\n", 0}
  end

  test "ten thousand exceptions of eight workers" do
    code = """
    {:ok, py} = Typhon.start_link(workers: 8, isolation: :interpreter, stdio: :discard)
    Logger.configure(level: :critical)
    code = "def f(n): return 1 // n if n == 0 else f(n - 1)\\ntry: f(20)\\nexcept ZeroDivisionError as e: raise KeyError(1) from e"
    call = fn _ -> {:error, %{type: "KeyError", cause: %{type: "ZeroDivisionError"}}} = Typhon.call(py, :builtins, :exec, [code, %{}], timeout: :infinity) end
    for _ <- 1..16, do: call.(0)
    before = :erlang.memory(:total)
    1..10_000 |> Task.async_stream(call, max_concurrency: 32, timeout: :infinity) |> Stream.run()
    :erlang.garbage_collect()
    true = :erlang.memory(:total) < before + 20_000_000
    {:ok, %{workers: workers}} = Typhon.info(py)
    IO.inspect(Enum.map(workers, & &1.restarts))
    """

    assert {text, 0} = vm(code)
    assert text =~ "[0, 0, 0, 0, 0, 0, 0, 0]\n"
  end

  test "calls of every kind over eight Pythons: no answer is wrong, and memory comes to rest" do
    # What scripts/soak does for minutes.
    code = """
    Logger.configure(level: :none)
    alias Typhon.Soak.{Book, Work}
    Application.put_env(:typhon, :isolation, :interpreter)
    Book.open()
    # So that it is the caller who chooses, and each is used.
    pools = for _ <- 1..8, {:ok, py} <- [Typhon.start_link(workers: 1, python_path: [#{inspect(py_dir())}], stdio: :discard)], do: py

    round = fn ->
      1..12 |> Enum.map(fn _ -> Task.async(fn -> for _ <- 1..250, do: Work.one(Enum.random(pools)) end) end) |> Task.await_many(:infinity)
      # The pages that were kept for the next call go when the workers have been idle.
      Process.sleep(7_000)
      :erlang.garbage_collect()
      Typhon.Footprint.resident("self")
    end

    [_, before, _, later] = for _ <- 1..4, do: round.()
    Enum.each(Book.texts(), &IO.puts/1)
    IO.puts("wrong: \#{Book.total(:wrong)} hung: \#{Book.total(:hung)}")
    IO.puts(if(later < before + 64 * 1024 * 1024, do: "at rest", else: "it grows: \#{before} \#{later}"))
    """

    assert {text, 0} =
             vm(code, [{"GLIBC_TUNABLES", "glibc.rtld.nns=16:glibc.rtld.optional_static_tls=65536"}])

    assert text =~ "wrong: 0 hung: 0\nat rest\n"
  end

  test "Typhon.stop with busy workers: their interpreters are set aside, and come back when they can" do
    code =
      @busy <>
        """
        :ok = Typhon.stop(py)
        # PoolError: of one that had not begun.
        for task <- busy, {:error, %type{}} = Task.await(task, :infinity), do: true = type in [Typhon.WorkerError, Typhon.PoolError]
        {:ok, other} = Typhon.start_link(workers: 2, isolation: :interpreter, stdio: :discard)
        {:ok, 4.0} = Typhon.call(other, :math, :sqrt, [16], timeout: :infinity)
        figures = fn -> Typhon.Env.capacity().namespaces end
        until.(until, fn -> match?(%{busy: 2, quarantined: 0, worn: 0}, figures.()) end)
        IO.puts("alive")
        """

    assert vm(code) == {"alive\n", 0}
  end

  test "the native library replaced, deleted and loaded again, with live interpreters" do
    code =
      @busy <>
        """
        {:ok, other} = Typhon.start_link(workers: 2, isolation: :interpreter, stdio: :discard)
        callers = for i <- 1..8, do: Task.async(fn -> for j <- 1..1_000, do: {:ok, i + j} == Typhon.call(other, :operator, :add, [i, j], timeout: :infinity) end)

        for _ <- 1..10 do
          {:module, _} = :code.load_file(Typhon.Native)
          until.(until, fn -> :code.soft_purge(Typhon.Native) end)
        end

        true = callers |> Task.await_many(:infinity) |> List.flatten() |> Enum.all?()
        :ok = Typhon.stop(py)
        # The loop in C may have come to its end by now; the sleep has not.
        [loop, {:error, _}] = Task.await_many(busy, :infinity)
        true = match?({:error, _}, loop) or loop == {:ok, nil}
        {:ok, object} = Typhon.call(other, :collections, :deque, [[1]])
        true = :code.delete(Typhon.Native)
        :code.purge(Typhon.Native)
        "#Typhon.Object<collections.deque" <> _ = inspect(object)
        {:module, _} = :code.load_file(Typhon.Native)
        {:ok, again} = Typhon.start_link(workers: 3, isolation: :interpreter, stdio: :discard)
        {:ok, 3} = Typhon.call(again, :operator, :add, [1, 2], timeout: :infinity)
        IO.puts("alive")
        """

    assert {text, 0} = vm(code)
    assert text =~ "alive\n"
  end

  test "every Elixir module loaded anew while interpreters serve calls" do
    code =
      @busy <>
        """
        {:ok, other} = Typhon.start_link(workers: 2, isolation: :interpreter, stdio: :discard)
        callers = for i <- 1..8, do: Task.async(fn -> for j <- 1..2_000, do: {:ok, i + j} == Typhon.call(other, :operator, :add, [i, j], timeout: :infinity) end)
        {:ok, modules} = :application.get_key(:typhon, :modules)
        # As a release handler does: what still runs the old code is not killed.
        for _ <- 1..3, module <- modules do
          until.(until, fn -> module in [Typhon, Typhon.Call] or :code.soft_purge(module) end)
          if :code.soft_purge(module), do: {:module, _} = :code.load_file(module)
        end

        true = callers |> Task.await_many(:infinity) |> List.flatten() |> Enum.all?()
        {:ok, %{workers: [%{restarts: 0}, %{restarts: 0}]}} = Typhon.info(other)
        :ok = Typhon.stop(py)
        {:ok, again} = Typhon.start_link(workers: 1, isolation: :interpreter, stdio: :discard)
        {:ok, 4.0} = Typhon.call(again, :math, :sqrt, [16], timeout: :infinity)
        IO.puts("alive")
        """

    assert vm(code) == {"alive\n", 0}
  end

  test "erlang:halt with a slogan, and SIGUSR1: a crash dump, and the end" do
    for {how, slogan} <- [
          {~s|:erlang.halt('too many serpents')|, "too many serpents"},
          {~s|System.cmd("kill", ["-USR1", System.pid()])|, "Received SIGUSR1"}
        ] do
      path = dump()
      {text, status} = vm(@busy <> how <> "\nProcess.sleep(:infinity)", [{"ERL_CRASH_DUMP", path}])
      assert {text, status} == {text, 1}
      assert File.read!(path) =~ slogan
    end
  end

  for how <- ["System.stop(0)", ":init.stop()", ":erlang.halt(0)", ":erlang.halt(0, flush: false)"] do
    test "#{how} with busy workers" do
      assert vm(@busy <> unquote(how) <> "\nProcess.sleep(:infinity)") == {"", 0}
    end
  end
end
