defmodule Typhon.PreloadTest do
  # Modules that workers import before they take calls.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  alias Typhon.StartError

  setup do
    dir = new_path("preload")
    File.mkdir_p!(Path.join(dir, "nest"))

    # What still waits for a gate is let go then.
    on_exit(fn -> File.rm_rf!(dir) end)

    write(dir, "slow.py", slow(dir))
    write(dir, "nest/__init__.py", "from .inner import get\n")
    write(dir, "nest/inner.py", slow(dir))
    {:ok, dir: dir}
  end

  defp write(dir, name, text), do: File.write!(Path.join(dir, name), text)

  # Its import goes on until there is a gate or no test any more, and leaves a line in a file each time that it begins.
  defp slow(dir) do
    """
    import os, time

    with open("#{dir}/begun", "a") as file:
        file.write(__name__ + "\\n")
    while os.path.exists("#{dir}") and not os.path.exists("#{dir}/gate"):
        time.sleep(0.01)

    def get():
        return 42
    """
  end

  defp begun(dir), do: dir |> Path.join("begun") |> File.read!() |> String.split()

  test "modules are there when the first call comes, and when init: runs", %{dir: dir} do
    File.touch!(Path.join(dir, "gate"))

    py =
      start_pool(
        python_path: [dir],
        preload: [:slow, "nest.inner"],
        init: "import sys\nassert 'slow' in sys.modules"
      )

    assert Enum.sort(begun(dir)) == ["nest.inner", "slow"]
    File.rm!(Path.join(dir, "gate"))
    assert Typhon.call(py, :slow, :get, []) == {:ok, 42}
    assert Typhon.call(py, :nest, :get, []) == {:ok, 42}
    assert length(begun(dir)) == 2
  end

  # What is reloaded, the worker goes on with: nothing that was preloaded is lost.
  test "modules are there after a reload of one", %{dir: dir} do
    File.touch!(Path.join(dir, "gate"))
    py = start_pool(python_path: [dir], preload: [:slow, :nest])
    assert Typhon.reload(py, :slow) == {:ok, ["slow"]}
    File.rm!(Path.join(dir, "gate"))
    assert Typhon.call(py, :slow, :get, []) == {:ok, 42}
    assert Typhon.call(py, :nest, :get, []) == {:ok, 42}
  end

  @tag :several_workers
  test "each worker does, and each that takes another's place", %{dir: dir} do
    File.touch!(Path.join(dir, "gate"))
    py = start_pool(python_path: [dir], workers: 2, preload: "slow")
    assert begun(dir) == ["slow", "slow"]
    assert Typhon.restart(py, timeout: limit()) == :ok
    assert begun(dir) == ["slow", "slow", "slow", "slow"]
  end

  test "one that is not there fails the start, and says what to do", %{dir: dir} do
    assert {:error, %StartError{reason: :preload_failed} = error} =
             Typhon.start_link(workers: 1, python_path: [dir], preload: ["no_such_module"])

    message = Exception.message(error)
    assert message =~ "preload: the module no_such_module could not be imported in a new worker"
    assert message =~ "ModuleNotFoundError: No module named 'no_such_module'"
    assert message =~ "looked for it in"
    assert message =~ dir
    assert message =~ "pip install no_such_module"
    assert_mailbox_empty()
  end

  test "one that raises fails the start, with the traceback", %{dir: dir} do
    write(dir, "raises.py", "boom = 1 / 0\n")

    assert {:error, %StartError{reason: :preload_failed} = error} =
             Typhon.start_link(workers: 1, python_path: [dir], preload: [:raises])

    message = Exception.message(error)
    assert message =~ "raises.py\", line 1"
    assert message =~ "ZeroDivisionError: division by zero"
  end

  @tag :os_process
  test "one that ends the process fails the start", %{dir: dir} do
    write(dir, "leaves.py", "import os\nos._exit(7)\n")

    assert {:error, %StartError{reason: :preload_failed} = error} =
             Typhon.start_link(workers: 1, python_path: [dir], preload: [:leaves])

    assert Exception.message(error) =~
             "exited with status 7 while it imported the module leaves, of preload:"
  end

  test "start_timeout: bounds it, and the error names the module", %{dir: dir} do
    message =
      in_time(500, fn timeout ->
        options = [workers: 1, python_path: [dir], start_timeout: timeout, preload: [:math, :slow]]
        {:error, %StartError{reason: :timeout} = error} = Typhon.start_link(options)
        message = Exception.message(error)
        if message =~ "the module slow", do: message, else: {:error, :early}
      end)

    assert message =~ "and still imported the module slow, of preload:. Give it more time with start_timeout:"
  end

  test "is checked" do
    for wrong <- [nil, "", 1, [true], [:ok, ""]] do
      assert_raise ArgumentError, ~r/preload: must be the name of a Python module/, fn ->
        Typhon.start_link(preload: wrong)
      end
    end

    assert_raise ArgumentError, ~r/preload: is for Python alone/, fn ->
      Typhon.start_link(language: :ruby, preload: ["set"])
    end
  end
end
