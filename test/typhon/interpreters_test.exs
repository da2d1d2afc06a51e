defmodule Typhon.InterpretersTest do
  # Not async: what the VM's interpreters are, and how many.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  alias Typhon.{PythonError, StartError, TimeoutError, WorkerError}

  defp inside(options \\ []), do: start_pool([isolation: :interpreter] ++ options)

  defp engine, do: Application.fetch_env!(:typhon, :engine)

  defp python(py, expression, options \\ []),
    do: Typhon.call(py, :builtins, :eval, [expression], options)

  test "every Python of this machine that has a shared library" do
    for {path, _} <- supported_pythons(),
        {:ok, %{engine: :namespaces} = env} <- [Typhon.Env.describe(path)] do
      py = inside(python: path)
      {:ok, executable} = python(py, "__import__('sys').executable")
      assert {:ok, %{executable: ^executable}} = Typhon.Env.describe(path)
      assert python(py, "__import__('os').getpid()") == {:ok, String.to_integer(System.pid())}
      # Extension modules of the standard library are those of this Python.
      for module <- ~w(json ssl sqlite3 decimal datetime asyncio) do
        assert {:ok, _} = python(py, "__import__('#{module}').__name__")
      end

      # And ctypes, which sub-interpreters have since Python 3.13, reaches this one, not another that was loaded before.
      version =
        "(lambda f: (setattr(f, 'restype', ctypes.c_char_p), f())[1].decode())(ctypes.pythonapi.Py_GetVersion)"

      if engine() != :subinterpreters or env.version >= "3.13" do
        same = "eval(#{inspect(version)}, {'ctypes': __import__('ctypes')}) == __import__('sys').version"
        assert python(py, same) == {:ok, true}
      end

      assert Typhon.stop(py) == :ok
    end
  end

  test "a Python that cannot be loaded says what to do" do
    for {path, version} <- old_pythons() |> Enum.take(2) do
      assert {:error, %StartError{reason: :python_too_old} = error} =
               Typhon.start_link(isolation: :interpreter, python: path)

      assert Exception.message(error) =~ "newer, and"
      assert Exception.message(error) =~ to_string(version)
    end
  end

  describe "the VM survives" do
    setup do
      {:ok, py: inside(grace: 200)}
    end

    test "threads that ask on and on, whatever they hear, while their pool is stopped", %{py: py} do
      for _ <- 1..8 do
        pool = inside()
        assert Typhon.call(pool, :talk, :ask_on_and_on, [3]) == {:ok, nil}
        assert Typhon.stop(pool) == :ok
      end

      assert python(py, "2 + 2") == {:ok, 4}
    end

    test "what would end, fork or confuse it", %{py: py} do
      pid = System.pid()

      for code <- [
            "os.fork()",
            "os.forkpty()",
            "os._exit(3)",
            "os.abort()",
            "os.execv('/bin/true', ['true'])",
            "os.execlp('true', 'true')",
            "os.kill(#{pid}, 9)",
            "os.kill(threading.get_native_id(), 12)",
            "os.kill(int(os.listdir('/proc/self/task')[-1]), 12)",
            "os.kill(0, 9)",
            "os.kill(-1, 9)",
            "os.killpg(os.getpgrp(), 9)",
            "os.setsid()",
            "os.setpgrp()",
            "os.wait()",
            "os.wait3(0)",
            "os.wait4(-1, 0)",
            "os.waitpid(-1, 0)",
            "os.waitpid(0, 0)",
            "os.waitid(os.P_ALL, 0, os.WEXITED)",
            "os.setuid(1)",
            "signal.alarm(1)",
            "signal.setitimer(0, 1)",
            "signal.raise_signal(11)",
            "signal.pthread_kill(threading.main_thread().ident, 11)",
            "signal.siginterrupt(2, True)",
            "signal.pause()",
            "signal.sigwait({15})",
            "signal.sigwaitinfo({15})",
            "signal.sigtimedwait({15}, 0)",
            "signal.pidfd_send_signal(os.pidfd_open(os.getpid()), 15)",
            "signal.pidfd_send_signal(-1, 15)",
            "_thread.interrupt_main()",
            "faulthandler.register(10)",
            "faulthandler.dump_traceback_later(1, exit=True)",
            "resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))"
          ],
          [name | _] = String.split(code, "."),
          # A sub-interpreter cannot even import it.
          not (name == "faulthandler" and engine() == :subinterpreters) do
        names = Enum.uniq([name, "os", "threading"])
        imports = Enum.map_join(names, ", ", &"'#{&1}': __import__('#{&1}')")
        assert {:error, %PythonError{} = error} = python(py, "eval(#{inspect(code)}, {#{imports}})")
        assert {code, error.type} == {code, "RuntimeError"}
        assert error.message =~ "isolation: :process"
      end

      # One process may be asked whether it is there.
      assert python(py, "__import__('os').kill(#{pid}, 0)") == {:ok, nil}
      assert {:error, %PythonError{type: "SystemExit"}} = python(py, "__import__('sys').exit(3)")
    end

    # asyncio, trio and test runners expect that, and do without.
    test "what CPython refuses off the main thread raises what it raises there", %{py: py} do
      assert {:error, %PythonError{type: "ValueError"} = error} =
               python(py, "eval('signal.signal(15, print)', {'signal': __import__('signal')})")

      assert error.message =~ "isolation: :process"

      add = """
      import asyncio, signal
      async def add():
          try:
              asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)
          except RuntimeError as error:
              return str(error)
      answer = asyncio.run(add())
      """

      assert run(py, add) =~ "signals are the BEAM's"
    end

    test "an event loop may ask to be woken by signals, of which none comes", %{py: py} do
      code = """
      import os, signal
      reads, writes = os.pipe()
      answer = [signal.set_wakeup_fd(writes, warn_on_full_buffer=False) == -1, signal.set_wakeup_fd(-1) == writes]
      """

      assert run(py, code) == [true, true]
    end

    test "a thread blocks signals for itself and its children; those of the BEAM stay blocked", %{py: py} do
      code = """
      import os, subprocess, threading
      from signal import SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, pthread_sigmask

      def bits(path, name):
          line = next(line for line in open(path) if line.startswith(name))
          return {i + 1 for i in range(64) if int(line.split()[1], 16) >> i & 1}

      # What is blocked in them, and what the BEAM and Typhon ignore and they do. A shell would block nothing.
      def children():
          path = "/tmp/typhon-child-%d" % threading.get_native_id()
          copy = ["/bin/cp", "/proc/self/status", path]
          for run in (subprocess.call, lambda copy: os.waitpid(os.posix_spawn(copy[0], copy, os.environ), 0)):
              run(copy)
              yield sorted(bits(path, "SigBlk")), sorted(bits(path, "SigIgn") & {8, *range(34, 65)})
          os.unlink(path)

      before = pthread_sigmask(SIG_BLOCK, {SIGUSR2, SIGINT})
      chosen = pthread_sigmask(SIG_UNBLOCK, {SIGINT})
      there = list(children())
      pthread_sigmask(SIG_UNBLOCK, range(1, 32))
      open_to_all = pthread_sigmask(SIG_BLOCK, ())
      pthread_sigmask(SIG_SETMASK, before)
      beams = {SIGTERM, SIGUSR1, SIGUSR2, SIGINT} <= bits("/proc/thread-self/status", "SigBlk")
      answer = [before == set(), chosen == {SIGUSR2, SIGINT}, open_to_all == set(), beams, there]
      """

      # SIGUSR2 is 12.
      assert run(py, code) == [true, true, true, true, [{[12], []}, {[12], []}]]
    end

    test "what stands in the place of a builtin is used like one", %{py: py} do
      code = """
      import os, pickle, signal, sys
      class Holder:
          kill, spawn, fork = os.kill, os.posix_spawn, os.fork
      holder = Holder()
      holder.kill(os.getpid(), 0)
      ended = os.waitpid(holder.spawn("/bin/true", ["true"], os.environ), 0)[1]
      replaced = [os.kill, os.fork, os.posix_spawn, signal.signal, signal.sigwait]
      same = all(pickle.loads(pickle.dumps(function)) is function for function in replaced)
      answer = [ended, same, os.kill.__name__, signal.sigwait.__module__, bool(os.kill.__doc__)]
      """

      assert run(py, code) == [0, true, "kill", "signal", true]
    end

    test "processes that multiprocessing starts, and what they share", %{py: py} do
      code = """
      import math, multiprocessing
      from concurrent.futures import ProcessPoolExecutor
      from multiprocessing import shared_memory
      memory = shared_memory.SharedMemory(create=True, size=8)
      memory.buf[0] = 7
      with ProcessPoolExecutor(2) as pool, multiprocessing.RLock():
          answer = [list(pool.map(math.sqrt, [4, 9])), memory.buf[0]]
      memory.close()
      memory.unlink()
      """

      assert run(py, code) == [[2.0, 3.0], 7]
    end

    test "crash handlers are asked for in vain, and tracebacks later are written", %{py: py} do
      unless engine() == :subinterpreters do
        code = """
        import faulthandler, tempfile, time
        faulthandler.enable()
        with tempfile.NamedTemporaryFile() as file:
            faulthandler.dump_traceback_later(0.01, file=file)
            while b"most recent call first" not in open(file.name, "rb").read():
                time.sleep(0.01)
        answer = faulthandler.is_enabled()
        faulthandler.cancel_dump_traceback_later()
        """

        assert run(py, code) == false
      end
    end

    # What a piece of code leaves in `answer`.
    defp run(py, code) do
      eval = "(lambda names: (exec(#{inspect(code)}, names), names['answer'])[1])({})"
      assert {:ok, answer} = python(py, eval, timeout: 60_000)
      answer
    end

    test "deep recursion, and ten thousand exceptions", %{py: py} do
      assert {:error, %PythonError{type: "RecursionError"}} = python(py, "(lambda f: f(f))(lambda f: f(f))")

      for _ <- 1..10_000 do
        {:error, %PythonError{}} = Typhon.call(py, :math, :sqrt, [-1])
      end
    end

    test "what closes descriptors it does not know, or prints to them", %{py: py} do
      {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
      assert python(py, "__import__('os').closerange(10, 10_000)") == {:ok, nil}
      assert {:ok, _} = :inet.port(socket)
      :gen_tcp.close(socket)
      assert python(py, "__import__('os').write(1, b'to the descriptor\\n')") == {:ok, 18}
      assert python(py, "__import__('os').close(0)") == {:ok, nil}
      assert python(py, "2 + 2") == {:ok, 4}
    end

    test "another directory, another environment", %{py: py} do
      before = {File.cwd!(), System.get_env("TYPHON_TEST_ENV")}
      assert {:ok, _} = python(py, "__import__('os').chdir('/')")
      assert python(py, "__import__('os').getcwd()") == {:ok, "/"}
      assert {:ok, _} = python(py, "__import__('os').environ.update(TYPHON_TEST_ENV='1')")
      assert {File.cwd!(), System.get_env("TYPHON_TEST_ENV")} == before
      # A child sees both.
      shell = "__import__('subprocess').check_output(['sh', '-c', 'pwd; echo $TYPHON_TEST_ENV'], text=True)"
      assert python(py, shell) == {:ok, "/\n1\n"}
    end

    test "children have true exit codes, and signals end them", %{py: py} do
      assert python(py, "__import__('subprocess').call(['sh', '-c', 'exit 7'])") == {:ok, 7}
      assert python(py, "__import__('os').system('exit 3')") == {:ok, 3 * 256}

      popen = "__import__('subprocess').Popen(['sleep', '100'])"
      assert python(py, "(lambda p: (p.terminate(), p.wait())[1])(#{popen})") == {:ok, -15}
      # And those of the VM itself.
      assert {"", 5} = System.cmd("sh", ["-c", "exit 5"])
    end

    test "a call that is interrupted in a system call", %{py: py} do
      assert {:error, %TimeoutError{}} = Typhon.call(py, :time, :sleep, [60], timeout: 50)
      assert python(py, "2 + 2") == {:ok, 4}
      assert worker(py).restarts == 0
    end

    test "a C loop: its interpreter is set aside, the pool goes on, and it comes back when the loop ends" do
      py = inside(grace: 100)
      before = interpreters()
      :telemetry.attach_process([:typhon, :interpreter], self())
      me = self()
      on_exit(fn -> :telemetry.detach_process(me) end)

      restarts =
        overrun(py, fn timeout, mark ->
          eventually(fn -> worker(py).state == :ready end)
          %{restarts: restarts} = worker(py)

          assert {:error, %TimeoutError{}} =
                   Typhon.call(py, :sample, :busy_c_loop, [mark, 150_000_000], timeout: timeout)

          restarts
        end)

      assert python(py, "2 + 2", timeout: 30_000) == {:ok, 4}
      assert worker(py).restarts == restarts + 1
      assert_receive {:telemetry, [:typhon, :interpreter, :quarantine], figures, metadata}
      assert figures.quarantined > 0
      assert %{python: "/" <> _, kind: _, limit: _} = metadata
      assert_receive {:telemetry, [:typhon, :interpreter, :back], _, ^metadata}
      eventually(fn -> interpreters().quarantined <= before.quarantined end)
    end
  end

  test "engine: :threads is one interpreter, whose threads share what it has" do
    py = inside(engine: :threads, workers: 3)
    assert {:ok, %{workers: [%{concurrency: 3}]}} = Typhon.info(py)
    # Each waits for the others: they can only go on together.
    meet =
      "__import__('__main__').__dict__.setdefault('barrier', __import__('threading').Barrier(3)).wait(30)"

    results = 1..3 |> Enum.map(fn _ -> Task.async(fn -> python(py, meet) end) end) |> await_many()
    assert Enum.sort(results) == [{:ok, 0}, {:ok, 1}, {:ok, 2}]
    assert Typhon.stop(py) == :ok
    eventually(fn -> interpreters().busy == 0 end)
  end

  @tag :any_extension
  @tag :several_workers
  test "numpy and pandas in four at once, and again in those that come back" do
    for _ <- 1..2 do
      py = inside(workers: 4)

      results =
        1..200
        |> Task.async_stream(&Typhon.call!(py, :science, :regress, [&1], timeout: 120_000),
          max_concurrency: 8,
          timeout: :infinity
        )
        |> Enum.map(fn {:ok, result} -> result end)

      for [_, fit, sum] <- results, do: assert(fit < 1.0e-9 and sum < 1.0e-9)
      assert results |> Enum.map(&hd/1) |> Enum.uniq() |> length() == 4
      assert Typhon.stop(py) == :ok
    end
  end

  test "mix typhon.env makes room, once" do
    dir = new_path("env")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    on_exit(fn -> Mix.shell(shell) end)

    File.cd!(dir, fn ->
      Mix.Tasks.Typhon.Env.run([])
      assert_received {:mix_shell, :info, ["export GLIBC_TUNABLES=" <> _ = line]}
      for _ <- 1..2, do: Mix.Tasks.Typhon.Env.run(["--release"])
      text = File.read!("rel/env.sh.eex")
      assert text =~ "#!/bin/sh\n" and text =~ line
      assert length(String.split(text, "GLIBC_TUNABLES=")) == 2

      assert {"glibc.rtld.nns=16:" <> _, 0} =
               System.cmd("sh", ["-c", ". ./rel/env.sh.eex; echo $GLIBC_TUNABLES"],
                 env: [{"GLIBC_TUNABLES", nil}]
               )
    end)
  end

  test "two pools at the same time, each with state of its own" do
    [a, b] = [inside(), inside()]
    assert Typhon.call(a, :builtins, :setattr, [python_module(a), "typhon_test", 1]) == {:ok, nil}
    assert {:ok, 1} = python(a, "__import__('math').typhon_test")
    assert {:error, %PythonError{type: "AttributeError"}} = python(b, "__import__('math').typhon_test")
  end

  defp python_module(py) do
    {:ok, module} = python(py, "__import__('math')")
    module
  end

  test "an interpreter that comes back has forgotten the modules, the environment and the directory of its last worker" do
    py = inside(env: [{"TYPHON_TEST_ENV", "first"}])
    assert Typhon.call(py, :bulk, :note, [1]) == {:ok, 1}
    assert {:ok, _} = python(py, "__import__('os').chdir('/')")
    assert {:ok, _} = python(py, "__import__('sys').path.append('/nowhere')")
    assert {:ok, _} = python(py, "exec('import __main__; __main__.left = 1')")
    # What stays as it was tells that it is the same one.
    assert {:ok, _} = python(py, "setattr(__import__('sys'), 'typhon_test', 1)")
    assert Typhon.stop(py) == :ok

    same = fn _ ->
      python(py = inside(), "hasattr(__import__('sys'), 'typhon_test')") == {:ok, true} and py
    end

    assert py = Enum.find_value(1..max(interpreters().idle, 1), same)
    assert_forgotten(py)
  end

  defp assert_forgotten(py) do
    assert python(py, "__import__('os').environ.get('TYPHON_TEST_ENV')") == {:ok, nil}
    assert python(py, "__import__('os').getcwd()") == {:ok, File.cwd!()}
    assert python(py, "'/nowhere' in __import__('sys').path") == {:ok, false}
    assert python(py, "hasattr(__import__('__main__'), 'left')") == {:ok, false}
    assert Typhon.call(py, :bulk, :noted, []) == {:ok, []}
  end

  test "Typhon's own classes are the same for each worker of an interpreter" do
    for _ <- 1..3 do
      py = inside()
      fails = Stream.map(1..100, &if(&1 == 70, do: raise("at 70"), else: &1))
      expression = "(attempt(sum, f), list(f))"

      assert {:ok, {{"raised", %{"message" => "at 70"}}, []}} =
               Typhon.call(py, :converse, :evaluate, [expression, Typhon.iter(fails)])

      assert Typhon.stop(py) == :ok
    end
  end

  test "what an executor's threads, or views of large arguments, would keep does not keep the interpreter" do
    before = interpreters()

    for _ <- 1..5 do
      py = inside()
      pool = "__import__('concurrent.futures', fromlist=['x']).ThreadPoolExecutor(2)"
      code = "import __main__; __main__.pool = #{pool}; __main__.pool.submit(print).result()"
      assert python(py, "exec(#{inspect(code)})") == {:ok, nil}
      large = Typhon.buffer(:binary.copy("x", 1_000_000))
      assert {:ok, _} = Typhon.call(py, :bulk, :note, [large])
      assert {:ok, %Typhon.Object{}} = Typhon.call(py, :bulk, :Thing, [large])
      assert Typhon.stop(py) == :ok
      eventually(fn -> interpreters().busy == 0 and interpreters().quarantined <= before.quarantined end)
    end

    assert interpreters().used <= before.used + 1
  end

  test "one that threads go on in has no other worker until they have ended" do
    path = gate()
    before = interpreters()
    py = inside()

    code = """
    import json, sys, threading
    json.had_a_thread = True
    sys.modules["left_behind"] = json
    def wait():
        import json, os, sys, time
        while not os.path.exists(#{inspect(path)}):
            time.sleep(0.01)
        sys.modules["left_behind_later"] = json
    threading.Thread(target=wait, daemon=True).start()
    """

    assert Typhon.call(py, :builtins, :exec, [code]) == {:ok, nil}
    %{key: key} = Enum.find(all(), &(&1.worker == worker(py).pid))
    assert Typhon.stop(py) == :ok
    eventually(fn -> interpreters().quarantined == before.quarantined + 1 end)
    File.write!(path, "")
    eventually(fn -> interpreters().quarantined == before.quarantined end)
    %{used: used} = interpreters()
    # All that are idle have a worker now, that one too; and it is like new.
    pools = for %{state: :idle, key: ^key} <- all(), do: inside()

    modules = "[name in __import__('sys').modules for name in ('left_behind', 'left_behind_later')]"
    state = "[hasattr(__import__('json'), 'had_a_thread'), *#{modules}]"
    states = for py <- pools, do: python(py, state)
    assert Enum.uniq(Enum.sort(states)) -- [{:ok, [false, false, false]}] == [{:ok, [true, false, false]}]
    assert interpreters().used == used
    for py <- pools, do: assert(Typhon.stop(py) == :ok)
  end

  defp all, do: Map.values(:sys.get_state(Typhon.Interpreters))

  test "pools come and go: nothing is left, and no more interpreters than were needed at a time" do
    for _ <- 1..3, do: 2 |> inside_many() |> Enum.each(&Typhon.stop/1)
    eventually(fn -> interpreters().busy == 0 end)
    before = left()

    for _ <- 1..20 do
      [a, b] = inside_many(2)
      assert Typhon.call(a, :talk, :sleep, [0, 1]) == {:ok, 1}
      assert Typhon.call(b, :sample, :echo, [Typhon.bytes(:binary.copy("x", 1_000_000))]) |> elem(0) == :ok
      for pool <- [a, b], do: assert(Typhon.stop(pool) == :ok)
    end

    # Not eventually/1: that does not say what is left. Something of the tests before may have gone meanwhile.
    more = fn -> for {name, count} <- left(), count > before[name], do: {name, count, before[name]} end
    Enum.find(1..200, fn _ -> more.() == [] or Process.sleep(50) == nil end)
    assert more.() == []
  end

  defp left do
    %{
      interpreters: interpreters().used,
      lost: interpreters().worn + interpreters().quarantined,
      memories: memfds(),
      processes: length(Process.list()),
      threads: threads(),
      descriptors: descriptors()
    }
  end

  defp inside_many(count), do: for(_ <- 1..count, do: inside())
  defp threads, do: "/proc/self/task" |> File.ls!() |> length()
  defp descriptors, do: "/proc/self/fd" |> File.ls!() |> length()

  test "the process in charge is killed: the interpreter comes back" do
    before = interpreters()
    py = inside()
    %{pid: pid} = worker(py)
    sleeping = Task.async(fn -> Typhon.call(py, :time, :sleep, [600], timeout: :infinity) end)
    eventually(fn -> running(py) == 1 end)
    Process.exit(pid, :kill)
    assert {:error, %WorkerError{}} = await(sleeping)
    assert python(py, "2 + 2", timeout: 30_000) == {:ok, 4}
    eventually(fn -> interpreters().quarantined <= before.quarantined end)
  end

  @tag :namespaces
  test "beyond the limit the error names it, and the workers that there are go on" do
    code = """
    Logger.configure(level: :error)
    {:ok, first} = Typhon.start_link(workers: 1, isolation: :interpreter)
    {:error, %Typhon.StartError{reason: :interpreter_failed} = error} = Typhon.start_link(workers: 16, isolation: :interpreter)
    IO.puts(Exception.message(error))
    {:ok, 4.0} = Typhon.call(first, :math, :sqrt, [16])
    # The others came back.
    {:ok, _} = Typhon.start_link(workers: 3, isolation: :interpreter)
    IO.inspect(Typhon.Env.capacity())
    """

    for {tunables, expected} <- [
          {"", "GLIBC_TUNABLES=glibc.rtld.optional_static_tls="},
          {"glibc.rtld.nns=16:glibc.rtld.optional_static_tls=65536", "15 namespaces at most"}
        ] do
      {text, status} = vm(code, [{"GLIBC_TUNABLES", tunables}])
      assert {text, status} == {text, 0}
      assert text =~ expected
    end
  end

  for {how, code} <- [
        {"System.stop with a busy worker", "System.stop(0); Process.sleep(:infinity)"},
        {"System.halt", "System.halt(0)"},
        {"the application's stop and start, twenty times",
         "for _ <- 1..20 do Application.stop(:typhon); Application.ensure_all_started(:typhon); " <>
           "{:ok, py} = Typhon.start_link(isolation: :interpreter, workers: 1); " <>
           "{:ok, 4.0} = Typhon.call(py, :math, :sqrt, [16]); :ok = Typhon.stop(py) end; " <>
           "%{namespaces: %{used: used}} = Typhon.Env.capacity(); true = used <= 5; System.halt(0)"}
      ] do
    test "the end of the VM by #{how}" do
      code = """
      Logger.configure(level: :critical)
      Process.flag(:trap_exit, true)
      {:ok, py} = Typhon.start_link(workers: 2, isolation: :interpreter, grace: 100)
      spawn(fn -> Typhon.call(py, :builtins, :eval, ["sum(range(10**13))"], timeout: :infinity) end)
      Process.sleep(100)
      """

      {text, status} = vm(code <> unquote(code), [])
      assert {text, status} == {text, 0}
    end
  end
end
