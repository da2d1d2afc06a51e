defmodule Typhon.GuardTest do
  # What C code finds inside the VM in place of functions that would hurt it (native/embed/guard.cpp). Not async: signals are all
  # of the VM's.
  use ExUnit.Case, async: false

  import Typhon.TestHelper

  @moduletag :tmp_dir

  @source Path.expand("../support/c/guard.c", __DIR__)
  @eperm 1
  @sigterm 15

  @python """
  import ctypes, os, signal, sys

  def c(path, function, *arguments):
      return getattr(ctypes.CDLL(path), function)(*arguments)

  def program_has(symbol):
      try:
          return bool(getattr(ctypes.CDLL(None), symbol))
      except AttributeError:
          return False

  def import_globally(*names):
      before = sys.getdlopenflags()
      sys.setdlopenflags(os.RTLD_GLOBAL | os.RTLD_NOW)
      try:
          for name in names:
              sys.modules.pop(name, None)
              __import__(name)
      finally:
          sys.setdlopenflags(before)
      return True

  def load_globally(path):
      return bool(ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)._handle)

  def handled():
      caught = next(line for line in open("/proc/self/status") if line.startswith("SigCgt"))
      return [signal for signal in range(35, 56) if int(caught.split()[1], 16) >> (signal - 1) & 1]

  def child_is_ended():
      import subprocess
      return subprocess.run(["sh", "-c", "kill -TERM $$; exit 3"]).returncode
  """

  setup_all do
    {:ok, library: c_library(@source)}
  end

  setup %{tmp_dir: folder} do
    File.write!(Path.join(folder, "guarded.py"), @python)
    # Two at once: each has its own.
    {:ok, device} = StringIO.open("")

    py =
      start_pool(
        isolation: :interpreter,
        engine: :namespaces,
        workers: 2,
        python_path: [folder],
        stdio: device
      )

    {:ok, py: py, device: device}
  end

  defp each(py, function, arguments) do
    for worker <- 1..2, do: Typhon.call!(py, :guarded, function, arguments, worker: worker)
  end

  defp c(py, library, function, arguments \\ []), do: each(py, :c, [library, function | arguments])

  test "libraries that want their symbols to be everybody's", %{py: py, library: library} do
    assert each(py, :load_globally, ["libz.so.1"]) == [true, true]
    assert each(py, :import_globally, ["_bz2", "_lsprof"]) == [true, true]
    assert c(py, library, "load_globally", ["libm.so.6", "cos"] |> bytes()) == [1, 1]
  end

  test "a mode that there is not is an error", %{py: py} do
    for mode <- [16, 512, 32_768, 0xFFFF] do
      assert {:error, %Typhon.PythonError{type: "OSError", message: "invalid mode" <> _}} =
               Typhon.call(py, :ctypes, :CDLL, ["libm.so.6"], kwargs: %{mode: mode})
    end
  end

  test "the program is this Python, not the BEAM", %{py: py, library: library} do
    for {symbol, there?} <- [{"Py_IsInitialized", true}, {"printf", true}, {"enif_alloc", false}] do
      assert {symbol, each(py, :program_has, [symbol])} == {symbol, [there?, there?]}
      expected = if there?, do: 1, else: 0
      assert {symbol, c(py, library, "program_has", bytes([symbol]))} == {symbol, [expected, expected]}
    end
  end

  test "a library's own paths hold for what it loads", %{py: py, tmp_dir: folder} do
    beside = Path.join(folder, "beside")
    File.mkdir!(beside)
    File.cp!(c_library(@source), Path.join(beside, "libtyphon_beside.so"))
    library = Path.join(folder, "guard.so")
    File.cp!(c_library(@source, ["-Wl,-rpath,$ORIGIN/beside"]), library)
    assert c(py, library, "load_by_runpath", bytes(["libtyphon_beside.so"])) == [1, 1]
    assert c(py, library, "load_by_runpath", bytes(["libtyphon_nowhere.so"])) == [0, 0]
  end

  test "signals of the process are refused, and that is said", %{py: py, library: library, device: device} do
    # SIGINT, SIGUSR1, SIGTERM, SIGCHLD.
    for signal <- [2, 10, @sigterm, 17] do
      assert {signal, c(py, library, "handle", [signal])} == {signal, [@eperm, @eperm]}
      assert {signal, c(py, library, "handle_with_signal", [signal])} == {signal, [@eperm, @eperm]}
    end

    eventually(fn ->
      {_, text} = StringIO.contents(device)
      length(Regex.scan(~r/C code asked for a handler of signal 17 \(.*isolation: :process/, text)) == 4
    end)

    # One that says what a thread has done; Typhon's own; and free ones.
    assert c(py, library, "handle", [8]) == [0, 0]
    assert [_ | _] = handled = Typhon.call!(py, :guarded, :handled, [])

    for signal <- handled,
        do: assert({signal, c(py, library, "handle", [signal])} == {signal, [@eperm, @eperm]})

    for worker <- 1..2,
        do: assert(Typhon.call!(py, :guarded, :c, [library, "handle", 57 + worker], worker: worker) == 0)
  end

  test "the BEAM's signals stay blocked on Python's threads, and not in its children", %{
    py: py,
    library: library
  } do
    assert c(py, library, "still_blocked", [@sigterm]) == [1, 1]
    # A wait status, and Python's word for it.
    assert c(py, library, "child_of_its_own") == [@sigterm, @sigterm]
    assert each(py, :child_is_ended, []) == [-@sigterm, -@sigterm]
    assert c(py, library, "still_blocked", [@sigterm]) == [1, 1]
  end

  test "the BEAM does not become another program", %{py: py, library: library} do
    assert c(py, library, "become_another") == [@eperm, @eperm]
  end

  defp bytes(texts), do: Enum.map(texts, &Typhon.bytes/1)
end
