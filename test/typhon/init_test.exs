defmodule Typhon.InitTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Typhon.TestHelper

  require Typhon.Wire

  alias Typhon.{StartError, Wire}

  defp start(options) do
    Typhon.start_link(Keyword.merge([workers: 1, python_path: [py_dir()], stdio: :discard], options))
  end

  test "a function runs in each worker before it takes calls" do
    py = start_pool(workers: 2, init: {:sample, :put, ["warm", [1, ~D[2026-02-28]]]})

    for index <- 0..1 do
      assert call_on(py, index, :sample, :get, ["warm"]) == {:ok, [1, ~D[2026-02-28]]}
    end
  end

  test "code runs in __main__, and its names stay" do
    py = start_pool(init: ["import math\nanswer = math.isqrt(1764)", "def double(x):\n    return 2 * x\n"])
    assert Typhon.call(py, :builtins, :eval, ["1 + 1"]) == {:ok, 2}
    assert Typhon.call(py, :__main__, :double, [21]) == {:ok, 42}
    assert Typhon.call(py, :__main__, "answer.bit_length", []) == {:ok, 6}
  end

  @tag :os_process
  test "runs again in a worker that takes the place of one that ended" do
    py = start_pool(init: {:sample, :put, ["warm", 1]})
    kill(worker(py).os_pid, "KILL")
    eventually(fn -> match?(%{state: :ready, restarts: 1}, worker(py)) end)
    assert Typhon.call(py, :sample, :get, ["warm"]) == {:ok, 1}
  end

  test "takes structs as calls do" do
    py = start_pool(init: {:sample, :put, ["set", MapSet.new([1])]})
    assert Typhon.call(py, :sample, :get, ["set"]) == {:ok, MapSet.new([1])}
  end

  test "one that raises fails the start, with the traceback and what was printed" do
    assert {:error, %StartError{reason: :init_failed, output: ["about to"]} = error} =
             start(init: "print('about to')\nboom = 1 / 0\n")

    message = Exception.message(error)
    assert message =~ "init: failed in a new worker:\nTraceback (most recent call last):"
    assert message =~ ~s|File "<init>", line 2, in <module>|
    assert message =~ "boom = 1 / 0"
    assert message =~ "ZeroDivisionError: division by zero"
    assert_mailbox_empty()
  end

  test "a syntax error says where" do
    assert {:error, %StartError{reason: :init_failed} = error} = start(init: "def f(:\n")
    assert Exception.message(error) =~ "SyntaxError"
  end

  @tag :os_process
  test "one that ends the process fails the start" do
    assert {:error, %StartError{reason: :init_failed} = error} = start(init: {:os, :_exit, [7]})
    assert Exception.message(error) =~ "exited with status 7 while it ran init:"
  end

  @tag :os_process
  test "one that takes too long fails the start, and the process is gone" do
    dir = new_path("init")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    code = "import os, time\nopen('#{dir}/pid', 'w').write(str(os.getpid()))\ntime.sleep(600)"

    os_pid =
      in_time(3_000, fn timeout ->
        {:error, %StartError{reason: :timeout} = error} = start(init: code, start_timeout: timeout)

        with os_pid when is_binary(os_pid) <- first_line(Path.join(dir, "pid")) do
          assert Exception.message(error) =~ "#{timeout} ms, and still ran init:"
          os_pid
        end
      end)

    eventually(fn -> not os_process?(os_pid) end)
  end

  test "an argument that cannot be sent fails the start" do
    assert {:error, %StartError{reason: :init_failed} = error} = start(init: {:sample, :echo, [<<255>>]})
    assert Exception.message(error) =~ "Typhon.bytes/1"
  end

  @tag :os_process
  test "one that fails later backs off, and calls say why" do
    dir = new_path("init")
    File.mkdir_p!(dir)
    on_exit(fn -> File.rm_rf!(dir) end)
    flag = Path.join(dir, "broken")
    py = start_pool(init: "import os\nif os.path.exists('#{flag}'): raise RuntimeError('the model is gone')")
    File.write!(flag, "")

    log =
      capture_log(fn ->
        kill(worker(py).os_pid, "KILL")

        eventually(fn ->
          case Typhon.call(py, :math, :sqrt, [16]) do
            {:error, %StartError{reason: :init_failed} = error} ->
              Exception.message(error) =~ "RuntimeError: the model is gone"

            _ ->
              nil
          end
        end)
      end)

    assert log =~ "a Python worker cannot be replaced: init: failed in a new worker"
    File.rm!(flag)
    eventually(fn -> Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0} end)
  end

  # The flags of a call name a place.
  defp call_on(py, index, module, function, args) do
    {_, native, _} = Typhon.Registry.lookup(py)
    ref = make_ref()
    place = Bitwise.bsl(index + 1, Wire.place_bit())

    case Typhon.Native.call(native, ref, 0, module, function, args, %{}, 60_000, place) do
      {:wait, _, _, _} ->
        receive do
          {^ref, reply} -> reply
        end

      reply ->
        reply
    end
  end
end
