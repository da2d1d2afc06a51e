defmodule Typhon.ReloadTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Typhon.TestHelper

  alias Typhon.{PoolError, PythonError, TestLoad, TimeoutError}

  setup do
    dir = new_path("reload")
    File.mkdir_p!(Path.join(dir, "shop"))
    on_exit(fn -> File.rm_rf!(dir) end)

    write(dir, "rates.py", "RATE = 1\ndef rate():\n    return 1\n")
    write(dir, "shop/__init__.py", "starts = []\nstarts.append(1)\n")
    write(dir, "shop/tax.py", "TAX = 19\ndef tax(x):\n    return x * TAX\n")
    write(dir, "shop/cart.py", "from shop.tax import TAX, tax\ndef total(x):\n    return x + tax(x) + TAX\n")
    {:ok, dir: dir}
  end

  defp write(dir, name, code), do: File.write!(Path.join(dir, name), code)

  defp all(py, workers, fun) do
    # A session on each of them at the same time: its process' calls to the pool go to its worker.
    test = self()

    tasks =
      for _ <- 1..workers do
        Task.async(fn ->
          Typhon.run(py, fn _ ->
            send(test, :there)
            receive(do: (:go -> fun.()))
          end)
        end)
      end

    for _ <- tasks, do: assert_receive(:there)
    for task <- tasks, do: send(task.pid, :go)
    for result <- await_many(tasks), do: assert({:ok, _} = result)
    {:ok, %{workers: list}} = Typhon.info(py)
    assert length(list) == workers
  end

  @tag :os_process
  test "a changed module is reloaded in every worker, without a restart", %{dir: dir} do
    py = start_pool(workers: 2, python_path: [dir, py_dir()])
    all(py, 2, fn -> assert Typhon.call(py, :rates, :rate, []) == {:ok, 1} end)
    pids = os_pids(py)
    # The same size, within the same second: bytecode would be taken for good.
    write(dir, "rates.py", "RATE = 2\ndef rate():\n    return 2\n")
    assert Typhon.reload(py, :rates) == {:ok, ["rates"]}
    all(py, 2, fn -> assert Typhon.call(py, :rates, :rate, []) == {:ok, 2} end)
    assert os_pids(py) == pids
  end

  test "modules of the package that took names from it are reloaded, too", %{dir: dir} do
    py = start_pool(python_path: [dir])
    assert Typhon.call(py, "shop.cart", :total, [1]) == {:ok, 39}
    write(dir, "shop/tax.py", "TAX = 7\ndef tax(x):\n    return x * TAX\n")
    assert Typhon.reload(py, "shop.tax") == {:ok, ["shop.tax", "shop.cart"]}
    assert Typhon.call(py, "shop.cart", :total, [1]) == {:ok, 15}
  end

  test "one that fails leaves the old module in place, with a traceback", %{dir: dir} do
    py = start_pool(workers: 2, python_path: [dir])
    all(py, 2, fn -> assert Typhon.call(py, :rates, :rate, []) == {:ok, 1} end)
    write(dir, "rates.py", "def rate(:\n")
    assert {:error, %PythonError{type: "SyntaxError"} = error} = Typhon.reload(py, :rates)
    assert Exception.message(error) =~ "rates.py"
    all(py, 2, fn -> assert Typhon.call(py, :rates, :rate, []) == {:ok, 1} end)

    # Half of it has run already.
    write(dir, "rates.py", "def rate():\n    return 3\nraise RuntimeError('half')\n")
    assert {:error, %PythonError{type: "RuntimeError"}} = Typhon.reload(py, :rates)
    all(py, 2, fn -> assert Typhon.call(py, :rates, :rate, []) == {:ok, 1} end)

    write(dir, "rates.py", "def rate():\n    return 4\n")
    assert Typhon.reload(py, :rates) == {:ok, ["rates"]}
    all(py, 2, fn -> assert Typhon.call(py, :rates, :rate, []) == {:ok, 4} end)
  end

  test "no call is lost, and none sees a half of it", %{dir: dir} do
    for workers <- [1, 2] do
      py = start_pool(workers: workers, python_path: [dir, py_dir()])
      load = TestLoad.start(py, 4)

      for n <- 1..10 do
        write(dir, "rates.py", "def rate():\n    return #{n}\n")
        assert {:ok, _} = Typhon.reload(py, :rates)
        assert Typhon.call(py, :rates, :rate, []) == {:ok, n}
      end

      assert TestLoad.stop(load) > 0
      assert_mailbox_empty()
      Typhon.stop(py)
    end
  end

  test "waits for calls that run, as long as it may", %{dir: dir} do
    py = start_pool(python_path: [dir, py_dir()])
    assert Typhon.call(py, :rates, :rate, []) == {:ok, 1}
    free = keep_busy(py)
    assert {:error, %TimeoutError{operation: :reload} = error} = Typhon.reload(py, :rates, timeout: 50)
    assert Exception.message(error) =~ "It keeps the module that it has"
    reload = Task.async(fn -> Typhon.reload(py, :rates) end)
    eventually(fn -> match?(%{state: :reloading}, worker(py)) end)
    free.()
    assert await(reload) == {:ok, ["rates"]}
  end

  test "waits no longer than it may for a worker that a session holds, or that starts", %{dir: dir} do
    py = start_pool(python_path: [dir])
    assert Typhon.call(py, :rates, :rate, []) == {:ok, 1}
    late = {:error, %Typhon.TimeoutError{operation: :reload}}
    pid = worker(py).pid

    assert {:ok, :held} =
             Typhon.run(py, fn _session ->
               reloads = for _ <- 1..20, do: Task.async(fn -> Typhon.reload(py, :rates, timeout: 20) end)
               assert Enum.uniq(await_many(reloads)) == [late]
               # Those that have given up are forgotten when the next one comes.
               assert Typhon.reload(py, :rates, timeout: 20) == late
               {:ready, data} = :sys.get_state(pid)
               assert length(data.pending) == 1
               :held
             end)

    # It takes its time for whatever else.
    :sys.suspend(pid)
    assert Typhon.reload(py, :rates, timeout: 20) == late
    :sys.resume(pid)
    assert Typhon.reload(py, :rates) == {:ok, ["rates"]}
  end

  @tag :capture_log
  @tag :os_process
  test "a worker that dies of it is replaced", %{dir: dir} do
    py = start_pool(python_path: [dir])
    assert Typhon.call(py, :rates, :rate, []) == {:ok, 1}
    write(dir, "rates.py", "import os\nos._exit(9)\n")
    assert {:error, %Typhon.WorkerError{exit_status: 9}} = Typhon.reload(py, :rates)
    assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
  end

  test "of a module that nobody has imported, of a pool that is not there" do
    py = start_pool()
    assert Typhon.reload(py, :wave) == {:ok, []}
    assert {:error, %PoolError{reason: :not_found}} = Typhon.reload(:no_such_pool, :rates)
    assert_raise ArgumentError, fn -> Typhon.reload(py, :rates, time: 1) end
  end

  test "reload: true watches the files", %{dir: dir} do
    py = start_pool(python_path: [dir], reload: true)
    assert Typhon.call(py, :rates, :rate, []) == {:ok, 1}

    watcher = List.keyfind(Supervisor.which_children(py), Typhon.Pool.Watcher, 0) |> elem(1)

    # When it answers, it has dealt with what it has seen.
    logged = fn code ->
      capture_log(fn ->
        write(dir, "rates.py", code)
        stat = File.stat!(Path.join(dir, "rates.py"), time: :posix)
        seen = {stat.mtime, stat.size, stat.inode}
        eventually(fn -> :sys.get_state(watcher).seen[Path.join(dir, "rates.py")] == seen end)
      end)
    end

    log = logged.("def rate():\n    return 22\n")
    assert Typhon.call(py, :rates, :rate, []) == {:ok, 22}
    log = log <> logged.("def rate(:\n")
    assert Typhon.call(py, :rates, :rate, []) == {:ok, 22}
    assert log =~ "reloaded Python modules: rates"
    assert log =~ "Python modules were not reloaded"
    assert log =~ "SyntaxError"
  end
end
