defmodule Typhon.StdioTest do
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  setup do
    {:ok, device} = StringIO.open("")
    {:ok, device: device}
  end

  defp output(device), do: device |> StringIO.contents() |> elem(1)

  defp assert_output(device, text), do: eventually(fn -> output(device) =~ text end)

  # A sub-interpreter of Python 3.12 has none.
  defp ctypes?(py) do
    found = match?({:ok, _}, Typhon.call(py, :builtins, :eval, ["__import__('ctypes').__name__"]))
    assert found or Application.fetch_env!(:typhon, :engine) == :subinterpreters
    found
  end

  describe "what user code prints" do
    test "arrives line by line, whoever prints it", %{device: device} do
      py = start_pool(stdio: device)

      for {function, args, line} <- [
            {:say, ["from print: ü"], "from print: ü\n"},
            {:complain, ["from stderr"], "from stderr\n"},
            {:shell, ["echo from a shell"], "from a shell\n"},
            {:c_printf, ["from printf"], "from printf\n"},
            {:say_from_thread, ["from a thread"], "from a thread\n"}
          ],
          function != :c_printf or ctypes?(py) do
        assert {:ok, _} = Typhon.call(py, :sample, function, args)
        assert_output(device, line)
      end
    end

    test "cannot disturb calls", %{device: device} do
      py = start_pool(stdio: device)
      bytes = for byte <- 0..255, into: <<>>, do: <<byte, 131, 104, 0>>
      assert {:ok, nil} = Typhon.call(py, :sample, :write_bytes, [Typhon.bytes(bytes)])
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    test "is complete and in order", %{device: device} do
      py = start_pool(stdio: device)
      assert {:ok, nil} = Typhon.call(py, :sample, :chatter, [2_000])
      assert_output(device, "line 1999\n")
      assert output(device) == Enum.map_join(0..1_999, &"line #{&1}\n")
    end

    test "may have very long lines", %{device: device} do
      py = start_pool(stdio: device)
      long = String.duplicate("0123456789", 10_000)
      assert {:ok, nil} = Typhon.call(py, :sample, :say, [long])
      assert_output(device, long <> "\n")
    end

    @tag :os_process
    test "without an end of line arrives when the process ends", %{device: device} do
      py = start_pool(stdio: device)
      assert {:ok, nil} = Typhon.call(py, :sample, :say_partly, ["no end"])
      assert {:error, %Typhon.WorkerError{}} = Typhon.call(py, :sample, :hard_exit, [0])
      assert_output(device, "about to leave")
    end

    @tag :os_process
    test "of C code arrives when that code crashes", %{device: device} do
      py = start_pool(stdio: device)
      assert {:error, %Typhon.WorkerError{}} = Typhon.call(py, :sample, :segfault, [])
      assert_output(device, "Fatal Python error: Segmentation fault")
    end

    test "that is not UTF-8 is escaped", %{device: device} do
      py = start_pool(stdio: device)
      assert {:ok, nil} = Typhon.call(py, :sample, :write_bytes, [Typhon.bytes(<<"x", 0xFF, "\n">>)])
      assert_output(device, "x\\xff\n")
    end
  end

  describe "stdio" do
    @tag :os_process
    test ":group_leader is that of the process that starts the pool" do
      assert ExUnit.CaptureIO.capture_io(fn ->
               {:ok, py} = Typhon.start_link(workers: 1, python_path: [py_dir()])
               assert {:ok, nil} = Typhon.call(py, :sample, :say, ["captured"])
               assert {:ok, nil} = Typhon.call(py, :sample, :say, ["as well"])

               # The pipe is read by another process than the one that answers: an end of the worker brings all of it.
               assert {:error, _} = Typhon.call(py, :sample, :hard_exit, [0])
               Typhon.stop(py)
             end) =~ "captured\nas well\n"
    end

    @tag :os_process
    test ":logger" do
      log =
        ExUnit.CaptureLog.capture_log(fn ->
          py = start_pool(stdio: :logger)
          assert {:ok, nil} = Typhon.call(py, :sample, :say, ["to the log"])
          assert {:error, _} = Typhon.call(py, :sample, :hard_exit, [0])
        end)

      assert log =~ "to the log"
    end

    test ":discard" do
      py = start_pool(stdio: :discard)
      assert {:ok, nil} = Typhon.call(py, :sample, :say, ["nowhere"])
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    @tag :os_process
    test "a device that is dead does not matter" do
      {:ok, device} = StringIO.open("")
      StringIO.close(device)
      py = start_pool(stdio: device)
      assert {:ok, nil} = Typhon.call(py, :sample, :say, ["into the void"])
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
      assert {:error, %Typhon.WorkerError{}} = Typhon.call(py, :sample, :hard_exit, [0])
    end

    @tag :os_process
    test "a device that never answers does not matter" do
      device = spawn_link(fn -> Process.sleep(:infinity) end)
      py = start_pool(stdio: device)
      assert {:ok, nil} = Typhon.call(py, :sample, :chatter, [10_000])
      os_pid = worker(py).os_pid
      kill(os_pid, "KILL")
      eventually(fn -> match?(%{state: :ready, restarts: 1}, worker(py)) end)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end
  end
end
