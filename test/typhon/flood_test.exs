defmodule Typhon.FloodTest do
  # Output without end: the VM's memory is looked at, so nothing else may run.
  use ExUnit.Case, async: false

  import Typhon.{TestFlood, TestHelper}

  alias Typhon.{StartError, TimeoutError, WorkerError}

  # What floods. Collected in the VM each would take gigabytes.
  @flood 300_000_000

  # What Typhon logs of workers is counted, and goes no further. While the gate is shut, whoever logs waits, as for a handler
  # that hangs.
  setup_all do
    {count, shut} = {:counters.new(1, []), :atomics.new(1, [])}
    :ok = :logger.add_primary_filter(__MODULE__, {fn event, nil -> take(event, count, shut) end, nil})
    on_exit(fn -> :logger.remove_primary_filter(__MODULE__) end)
    {:ok, logged: count, shut: shut}
  end

  setup %{shut: shut} do
    on_exit(fn -> :atomics.put(shut, 1, 0) end)
    collect()
  end

  defp hung_device, do: spawn_link(fn -> Process.sleep(:infinity) end)

  defp take(%{meta: meta}, count, shut) do
    if meta[:typhon_worker] != nil or match?({Typhon.Worker.Data, _, _}, meta[:mfa]) do
      :counters.add(count, 1, 1)
      wait_while_shut(shut)
      :stop
    else
      :ignore
    end
  end

  defp wait_while_shut(shut) do
    if :atomics.get(shut, 1) == 1 do
      Process.sleep(10)
      wait_while_shut(shut)
    end
  end

  defp flood(py, how, size \\ @flood),
    do: assert_flat(fn -> Typhon.call(py, :flood, how, [size], timeout: :infinity) end)

  # A pool that has begun to print without end, to somebody who takes none of it.
  defp start_hung_flood(target, shut, options \\ []) do
    if target == :logger, do: :atomics.put(shut, 1, 1)
    stdio = if target == :logger, do: :logger, else: hung_device()
    py = start_pool([stdio: stdio] ++ options)
    assert {:ok, nil} = Typhon.call(py, :flood, :without_end, [], timeout: :infinity)
    py
  end

  describe "a flood leaves the VM's memory as it is" do
    for how <- [:by_child, :by_descriptors] do
      test "#{how}, when it is discarded" do
        py = start_pool(stdio: :discard)
        assert {:ok, _} = flood(py, unquote(how))
      end

      test "#{how}, when a device takes it: all of it arrives" do
        {device, count} = sink()
        py = start_pool(stdio: device)
        assert {:ok, _} = flood(py, unquote(how))
        # In whole pieces.
        size = if unquote(how) == :by_child, do: @flood, else: div(@flood, 32_768) * 32_768
        eventually(fn -> count.() >= size end)
        assert count.() == size
      end

      # It would take hours to log it all.
      for stdio <- [:logger, :caller] do
        test "#{how}, when #{stdio} has it logged", %{logged: logged} do
          before = :counters.get(logged, 1)
          py = start_pool(stdio: unquote(stdio))
          task = async(fn -> Typhon.call(py, :flood, unquote(how), [@flood], timeout: :infinity) end)
          assert_flat(fn -> eventually(fn -> :counters.get(logged, 1) - before > 20_000 end) end)
          assert :ok = assert_flat(fn -> Typhon.stop(py) end)
          assert {:error, _} = await(task)
        end
      end
    end

    test "when the device never answers: whoever prints does not wait for it for ever" do
      py = start_pool(stdio: hung_device())
      assert {:ok, _} = flood(py, :by_descriptors)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    test "when Logger hangs", %{shut: shut} do
      :atomics.put(shut, 1, 1)
      py = start_pool(stdio: :logger)
      assert {:ok, _} = flood(py, :by_descriptors)
      assert Typhon.call(py, :math, :sqrt, [16]) == {:ok, 4.0}
    end

    test "when it has no lines" do
      {device, count} = sink()
      py = start_pool(stdio: device)
      assert {:ok, 0} = flood(py, :of_zeros)
      eventually(fn -> count.() > @flood - 1_200_000 end)
    end

    test "when it is no text" do
      {device, count} = sink()
      py = start_pool(stdio: device)
      assert {:ok, 0} = flood(py, :of_noise, 20_000_000)
      eventually(fn -> count.() > 20_000_000 end)
    end

    @tag :os_process
    test "before there is a worker" do
      path = new_path("flood")
      File.write!(path, "#!/bin/sh\nexec yes\n")
      File.chmod!(path, 0o755)
      on_exit(fn -> File.rm(path) end)

      assert {:error, %StartError{reason: :timeout, output: output}} =
               assert_flat(fn ->
                 Typhon.start_link(python: path, workers: 1, start_timeout: 2_000, stdio: :discard)
               end)

      assert output == List.duplicate("y", 20)
    end

    @tag :os_process
    test "of Ruby's" do
      {device, count} = sink()

      py =
        start_supervised!({Typhon, language: :ruby, workers: 1, stdio: device, start_timeout: limit()},
          restart: :temporary
        )

      command = "yes 2>/dev/null | head -c #{@flood}"

      assert {:ok, true} =
               assert_flat(fn -> Typhon.call(py, :Kernel, :system, [command], timeout: :infinity) end)

      eventually(fn -> count.() == @flood end)
    end
  end

  describe "life and death do not wait behind a flood" do
    # Neither for a device nor for Logger that hangs: whoever deals with them is not who keeps deadlines.
    for target <- [:device, :logger] do
      test "a deadline (#{target})", %{shut: shut} do
        py = start_hung_flood(unquote(target), shut)
        %{restarts: restarts} = worker(py)

        result =
          overrun(py, fn timeout, mark ->
            Typhon.call(py, :sample, :sleep_and_note, [600, "slept", mark], timeout: timeout)
          end)

        assert {:error, %TimeoutError{}} = result
        assert Typhon.call(py, :math, :sqrt, [16], timeout: limit()) == {:ok, 4.0}
        assert worker(py).restarts == restarts
      end

      @tag :os_process
      test "a deadline that is overrun, and the kill after the grace (#{target})", %{shut: shut} do
        py = start_hung_flood(unquote(target), shut, grace: 100)

        restarts =
          overrun(py, fn timeout, mark ->
            eventually(fn -> worker(py).state == :ready end)
            %{restarts: restarts} = worker(py)

            assert {:error, %TimeoutError{}} =
                     Typhon.call(py, :sample, :ignore_cancel, [600, mark], timeout: timeout)

            restarts
          end)

        eventually(fn -> worker(py).restarts == restarts + 1 end)
        assert Typhon.call(py, :math, :sqrt, [16], timeout: limit()) == {:ok, 4.0}
      end

      test "stop (#{target})", %{shut: shut} do
        :telemetry.attach_process([:typhon, :worker, :stop], self())
        on_exit(fn -> :telemetry.detach_process(self()) end)
        py = start_hung_flood(unquote(target), shut)
        %{pid: pid, os_pid: os_pid} = worker(py)
        monitor = Process.monitor(pid)
        assert :ok = Typhon.stop(py)
        # It was not killed because it did not stop.
        assert_receive {:DOWN, ^monitor, :process, _, reason}
        assert reason == :shutdown
        assert_receive {:telemetry, [:typhon, :worker, :stop], _, _}
        if os_pid, do: eventually(fn -> not os_process?(os_pid) end)
      end

      test "the replacement of a worker (#{target})", %{shut: shut} do
        py = start_hung_flood(unquote(target), shut)
        %{serial: serial} = worker(py)
        assert :ok = Typhon.restart(py, timeout: limit())
        assert worker(py).serial != serial
        assert Typhon.call(py, :math, :sqrt, [16], timeout: limit()) == {:ok, 4.0}
      end
    end
  end

  describe "the last words of a worker" do
    @tag :os_process
    test "are there, in order, whatever there was before" do
      {device, _} = sink()

      for stdio <- [:discard, device] do
        py = start_pool(stdio: stdio)

        assert {:error, %WorkerError{reason: :exit, exit_status: 3, output: output}} =
                 Typhon.call(py, :flood, :last_words, [3], timeout: :infinity)

        assert output == Enum.map(11..29, &"word #{&1}") ++ ["no end"]
      end
    end

    @tag :os_process
    test "do not keep its end from being noticed, when a child goes on printing" do
      for stdio <- [:discard, hung_device()] do
        py = start_pool(stdio: stdio)
        {:ok, child} = Typhon.call(py, :flood, :by_daemon, [])

        assert {:error, %WorkerError{exit_status: 3}} =
                 Typhon.call(py, :sample, :hard_exit, [3], timeout: limit())

        assert Typhon.call(py, :math, :sqrt, [16], timeout: limit()) == {:ok, 4.0}
        # Nobody reads what it prints any more.
        eventually(fn -> not os_process?(child) or zombie?(child) end)
      end
    end
  end
end
