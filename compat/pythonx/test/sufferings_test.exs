defmodule Pythonx.SufferingsTest do
  @moduledoc "What users of Pythonx have reported: none of it happens here."
  # Some of them end the worker, which all evaluations share.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  import Pythonx.TestHelper

  test "two processes that evaluate at once have a `__main__` each, and stdout, too" do
    # Each begins before the other has ended, and prints and pickles when the other has begun.
    {barrier, _} = Pythonx.eval("import threading\nthreading.Barrier(2)", %{})

    code = """
    import pickle

    class Mine:
        owner = me

    barrier.wait()
    print(me)
    found = pickle.loads(pickle.dumps(Mine())).owner
    import __main__
    seen = (__main__.me, __main__.Mine is Mine)
    barrier.wait()
    (found, *seen)
    """

    run = fn me ->
      Task.async(fn ->
        with_io(fn -> decoded(code, %{"me" => me, "barrier" => barrier}) end)
      end)
    end

    tasks = Enum.map([1, 2], run)
    assert Task.await_many(tasks, :infinity) == [{{1, 1, true}, "1\n"}, {{2, 2, true}, "2\n"}]
  end

  test "the sigil stands in a module of a project: names are found at its compilation" do
    sigil = {:sigil_PY, [], [{:<<>>, [], ["y = x * 2\ny + 1"]}, []]}

    {:module, module, _, _} =
      Code.eval_quoted(
        quote do
          defmodule Elixir.Pythonx.SufferingsTest.Sigil do
            import Pythonx
            def run(unquote({:x, [], nil})), do: unquote(sigil)
          end
        end
      )
      |> elem(0)

    assert Pythonx.decode(module.run(20)) == 41
  end

  @tag :os_process
  test "a Python that crashes ends its evaluation, and the next one has a new Python" do
    {object, globals} = Pythonx.eval("kept = [1]\nkept", %{})

    error =
      assert_raise(Typhon.WorkerError, fn ->
        Pythonx.eval("import ctypes\nctypes.string_at(0)", %{})
      end)

    assert Exception.message(error) =~ "SIGSEGV"
    assert decoded("1 + 1", %{}) == 2

    # What was there is gone, and says so.
    gone = assert_raise(Typhon.WorkerError, fn -> Pythonx.decode(object) end)
    assert Exception.message(gone) =~ "SIGSEGV"
    assert_raise Typhon.WorkerError, fn -> Pythonx.eval("kept", globals) end
    assert inspect(object) =~ "#Pythonx.Object<\n  (Python says nothing of it: "
  end

  test "subprocess returns, with the exit code" do
    code = """
    import os, subprocess, sys

    program = "print('from', 'the child'); raise SystemExit(7)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    waited = subprocess.Popen(["sh", "-c", "exit 3"]).wait()
    status = os.waitstatus_to_exitcode(os.system("exit 4"))
    (done.returncode, done.stdout, waited, status)
    """

    assert decoded(code, %{}) == {7, "from the child\n", 3, 4}
  end

  test "sys.executable is Python, of the version that runs" do
    code = """
    import os, subprocess, sys
    other = subprocess.run([sys.executable, "-c", "import sys; print(sys.version)"], capture_output=True, text=True)
    (os.path.basename(sys.executable), other.stdout.strip() == sys.version)
    """

    assert {"python" <> _, true} = decoded(code, %{})
  end

  test "a figure of pyplot's is there in the next evaluation, too" do
    code = """
    import sys
    sys.path.insert(0, "#{Path.expand("../../../test/support/py", __DIR__)}")
    import drawing
    drawing.figure()
    """

    {_, globals} = Pythonx.eval(code, %{})
    open = decoded("drawing.number_of_figures()", globals)
    assert open >= 1
    Pythonx.eval("import asyncio\nawait asyncio.sleep(0)\ndrawing.figure()", globals)
    assert decoded("drawing.number_of_figures()", globals) == open + 1
  end

  test "code that is evaluated without end is not kept without end" do
    kept = "from typhon import _eval\nlen(_eval._programs)"
    before = decoded(kept, %{})
    for number <- 1..600, do: Pythonx.eval("x = #{number}", %{})
    assert decoded(kept, %{}) <= 512
    assert before <= 512
  end

  test "what a caller holds no longer is released, the globals among it" do
    {_, globals} = Pythonx.eval("import weakref\nclass Thing: pass\nthings = weakref.WeakSet()", %{})

    globals = Map.take(globals, ["Thing", "things"])

    # In a process of its own, which holds the last of it.
    fn -> Pythonx.eval("thing = Thing()\nthings.add(thing)\nlen(things)", globals) end
    |> Task.async()
    |> Task.await(:infinity)

    Typhon.TestHelper.eventually(fn ->
      decoded("import gc\ngc.collect()\nlen(things)", globals) == 0
    end)
  end

  test "an evaluation whose caller is gone does not go on" do
    {flag, _} = Pythonx.eval("import threading\nthreading.Event()", %{})
    test = self()

    code = """
    import pythonx, time
    try:
        pythonx.send_tagged_object(test, "begun", None)
        while True:
            time.sleep(0.01)
    finally:
        flag.set()
    """

    pid = spawn(fn -> Pythonx.eval(code, %{"flag" => flag, "test" => test}) end)
    assert_receive {:begun, _}
    Process.exit(pid, :kill)
    assert decoded("flag.wait()", %{"flag" => flag})
  end

  test "one that cannot be interrupted takes no other's objects with it" do
    {socket, globals} = Pythonx.eval("import socket\nnear, far = socket.socketpair()\nnear", %{})
    test = self()
    code = "import pythonx\npythonx.send_tagged_object(test, 'begun', None)\nnear.recv(1)"
    pid = spawn(fn -> Pythonx.eval(code, %{"near" => socket, "test" => test}) end)
    assert_receive {:begun, _}
    Process.exit(pid, :kill)
    # The default grace of a pool is over by then.
    Process.sleep(1_500)
    assert decoded("far.send(b'x')", globals) == 1
  end
end
