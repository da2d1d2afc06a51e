defmodule Typhon.ImportTest do
  # Modules whose import takes longer than a call has.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Typhon.TestHelper

  alias Typhon.{StartError, TimeoutError}

  # More than the grace by far, and some looks at the import.
  @beyond_grace 1_500

  setup do
    dir = new_path("import")
    File.mkdir_p!(dir)

    # What still waits for a gate is let go then.
    on_exit(fn -> File.rm_rf!(dir) end)

    write(dir, "slow.py", slow("time.sleep(0.01)"))
    write(dir, "spinning.py", slow("sum(range(10_000_000))"))

    write(
      dir,
      "nest/__init__.py",
      "names = ['a']\nfrom . import inner\nfrom .inner import value, get\nnames.append('b')\n"
    )

    write(dir, "nest/inner.py", slow("time.sleep(0.01)"))

    write(dir, "user.py", """
    import os, time

    def call(module):
        return __import__(module).get()

    def from_statement():
        from nest import inner
        return inner.get()

    async def in_loop(module):
        return __import__(module).get()

    async def ready():
        return True

    def imports_at_message():
        import typhon
        typhon.on_message(lambda message: __import__(message))

    def goes_on(module, path):
        __import__(module)
        try:
            while True:
                time.sleep(0.01)
        except BaseException as error:
            with open(path, "w") as file:
                file.write(type(error).__name__)
            raise

    def swallows(module):
        __import__(module)
        while True:
            try:
                if not os.path.exists(__file__):  # Its test is over.
                    return
                time.sleep(0.01)
            except BaseException:
                pass

    def reloads(module):
        import importlib
        return importlib.reload(__import__(module)).get()
    """)

    {:ok, dir: dir}
  end

  defp write(dir, name, text) do
    path = Path.join(dir, name)
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
  end

  # Its import goes on until there is a gate or no test any more, and leaves a line in a file each time that it begins.
  defp slow(step) do
    """
    import os, time

    _dir = __file__[: __file__.rindex("typhon-import-")] + __file__[__file__.rindex("typhon-import-") :].split("/")[0]
    with open(_dir + "/begun", "a") as _file:
        _file.write(__name__ + "\\n")
    while os.path.exists(_dir) and not os.path.exists(_dir + "/gate"):
        #{step}
    value = 42

    def get():
        return value
    """
  end

  defp pool(dir, options \\ []),
    do: start_pool(Keyword.merge([python_path: [dir], grace: 500], options))

  defp begun(dir), do: dir |> Path.join("begun") |> File.read!() |> String.split()

  # A call whose time is over while it imports. On a busy machine it may be over before.
  defp run_out(py, module, function, args) do
    in_time(200, fn timeout ->
      case Typhon.call(py, module, function, args, timeout: timeout) do
        {:error, %TimeoutError{importing: nil}} -> {:error, :early}
        {:error, %TimeoutError{timeout: ^timeout} = error} -> error
      end
    end)
  end

  # The import does, beyond its call's grace, and in the same worker.
  defp goes_on(py, dir, module, function, args) do
    Process.sleep(@beyond_grace)
    File.touch!(Path.join(dir, "gate"))
    assert Typhon.call(py, module, function, args, timeout: limit()) == {:ok, 42}
    assert worker(py).restarts == 0
  end

  describe "a call that runs out of time while it imports" do
    for {name, module, function, args, imported} <- [
          {"its own module", :slow, :get, [], "slow"},
          {"its own module, which keeps the GIL", :spinning, :get, [], "spinning"},
          {"a module of a package", "nest.inner", :get, [], "nest.inner"},
          {"by a statement in a function", :user, :from_statement, [], "nest"},
          {"by a function of Python's", :user, :call, ["slow"], "slow"}
        ] do
      test "#{name} says so, and the import goes on beyond its grace", %{dir: dir} do
        py = pool(dir)
        Typhon.call!(py, :math, :sqrt, [16])

        log =
          capture_log(fn ->
            error = run_out(py, unquote(module), unquote(function), unquote(args))
            assert error.importing == unquote(imported)
            message = Exception.message(error)
            assert message =~ "Python was importing the module #{unquote(imported)}"
            assert message =~ ~s|preload: ["#{unquote(imported)}"]|
            assert message =~ "init:"
            Process.sleep(@beyond_grace)
            await_logged(py)
          end)

        assert log =~ "while Python was importing the module #{unquote(imported)}."
        assert log =~ ~s|preload: ["#{unquote(imported)}"]|
        assert length(String.split(log, "importing the module #{unquote(imported)}.")) == 2
        File.touch!(Path.join(dir, "gate"))

        assert Typhon.call(py, unquote(module), unquote(function), unquote(args), timeout: limit()) ==
                 {:ok, 42}

        assert worker(py).restarts == 0
        assert length(begun(dir)) == 1
        assert_mailbox_empty()
      end
    end

    test "on one of several threads, another of which waits for the same module", %{dir: dir} do
      py = pool(dir, concurrency: 3)

      for task <- for(_ <- 1..3, do: async(fn -> run_out(py, :slow, :get, []) end)),
          do: assert(%TimeoutError{importing: "slow"} = await(task))

      goes_on(py, dir, :slow, :get, [])
      assert begun(dir) == ["slow"]
    end

    test "in the event loop, and so do calls that wait behind it there", %{dir: dir} do
      py = pool(dir)
      assert Typhon.call(py, :user, :ready, []) == {:ok, true}
      assert %TimeoutError{importing: "slow"} = run_out(py, :user, :in_loop, ["slow"])
      goes_on(py, dir, :user, :in_loop, ["slow"])
      assert begun(dir) == ["slow"]
    end

    # The thread of the call that asked is the one that imports.
    test "in a call that its callback makes", %{dir: dir} do
      py = pool(dir)
      nested = fn _, _ -> Typhon.call(py, :slow, :get, [], timeout: :infinity) end
      assert %TimeoutError{importing: "slow"} = run_out(py, :functools, :reduce, [nested, [1, 2]])
      goes_on(py, dir, :slow, :get, [])
      assert begun(dir) == ["slow"]
    end

    test "in a batch", %{dir: dir} do
      py = pool(dir)

      assert [{:error, %TimeoutError{importing: "spinning", module: "spinning"}}] =
               in_time(200, fn timeout ->
                 case Typhon.multi(py, [{:spinning, :get, []}], timeout: timeout) do
                   [{:error, %TimeoutError{importing: nil}}] -> {:error, :early}
                   other -> other
                 end
               end)

      File.touch!(Path.join(dir, "gate"))
      assert Typhon.call(py, :spinning, :get, [], timeout: limit()) == {:ok, 42}
      assert worker(py).restarts == 0
    end

    test "and goes on with something else is interrupted then", %{dir: dir} do
      py = pool(dir, grace: 30_000)
      note = Path.join(dir, "note")
      assert %TimeoutError{importing: "slow"} = run_out(py, :user, :goes_on, ["slow", note])
      refute File.exists?(note)
      File.touch!(Path.join(dir, "gate"))
      eventually(fn -> File.read(note) == {:ok, "Cancelled"} end)
      assert Typhon.call(py, :slow, :get, [], timeout: limit()) == {:ok, 42}
      assert worker(py).restarts == 0
    end

    test "and goes on with something that is not interrupted has its grace then", %{dir: dir} do
      py = pool(dir)

      log =
        capture_log(fn ->
          assert %TimeoutError{importing: "slow"} = run_out(py, :user, :swallows, ["slow"])
          Process.sleep(@beyond_grace)
          assert worker(py).restarts == 0
          File.touch!(Path.join(dir, "gate"))
          eventually(fn -> worker(py).restarts == 1 end)
          await_logged(py)
        end)

      assert log =~ "was killed: a call still ran when the pool's grace period after its deadline was over"
    end

    # It is no call; but without it the call that waits would have no worker that gets any further.
    test "in a handler of messages, while a call waits for its turn", %{dir: dir} do
      py = pool(dir)
      assert Typhon.call(py, :user, :imports_at_message, []) == {:ok, nil}
      :ok = Typhon.send(py, "slow")
      eventually(fn -> File.exists?(Path.join(dir, "begun")) end)
      assert {:error, %TimeoutError{importing: nil}} = Typhon.call(py, :math, :sqrt, [16], timeout: 50)
      # One that takes nothing is ended after five looks, a second apart.
      Process.sleep(7_500)
      assert worker(py).restarts == 0
      File.touch!(Path.join(dir, "gate"))
      assert Typhon.call(py, :slow, :get, [], timeout: limit()) == {:ok, 42}
      assert worker(py).restarts == 0
      assert begun(dir) == ["slow"]
    end

    test "once more (importlib.reload) is not interrupted either", %{dir: dir} do
      py = pool(dir)
      File.touch!(Path.join(dir, "gate"))
      assert Typhon.call(py, :slow, :get, [], timeout: limit()) == {:ok, 42}
      File.rm!(Path.join(dir, "gate"))
      assert %TimeoutError{importing: "slow"} = run_out(py, :user, :reloads, ["slow"])
      goes_on(py, dir, :slow, :get, [])
      assert begun(dir) == ["slow", "slow"]
    end

    test "is ended with its worker when import_timeout: is over", %{dir: dir} do
      py = pool(dir, import_timeout: 300)
      %{os_pid: os_pid} = worker(py)

      log =
        capture_log(fn ->
          assert %TimeoutError{importing: "slow"} = run_out(py, :slow, :get, [])
          eventually(fn -> worker(py).restarts > 0 end)
          await_logged(py)
        end)

      # There is none inside the VM.
      if os_pid, do: eventually(fn -> not os_process?(os_pid) end)

      assert log =~
               "a call still imported the module slow when the pool's import_timeout: after its deadline was over"

      assert log =~ ~s|preload: ["slow"]|
      File.touch!(Path.join(dir, "gate"))
      eventually(fn -> Typhon.call(py, :slow, :get, []) == {:ok, 42} end)
    end

    test "is ended after its grace with import_timeout: 0", %{dir: dir} do
      py = pool(dir, import_timeout: 0)
      assert %TimeoutError{importing: "slow"} = run_out(py, :slow, :get, [])
      eventually(fn -> worker(py).restarts > 0 end)
    end
  end

  test "a start that runs out of time in init: says which module it imported", %{dir: dir} do
    message =
      in_time(500, fn timeout ->
        options = [workers: 1, python_path: [dir], start_timeout: timeout, init: "import slow"]
        {:error, %StartError{reason: :timeout} = error} = Typhon.start_link(options)
        message = Exception.message(error)
        if message =~ "the module slow", do: message, else: {:error, :early}
      end)

    assert message =~ "and still ran init:, which imported the module slow"
  end

  test "import_timeout: is checked" do
    for wrong <- [-1, 1.5, nil] do
      assert_raise ArgumentError, ~r/import_timeout: must be a non-negative integer/, fn ->
        Typhon.start_link(import_timeout: wrong)
      end
    end

    assert_raise ArgumentError, ~r/import_timeout: is for Python alone/, fn ->
      Typhon.start_link(language: :ruby, import_timeout: 1)
    end
  end
end
