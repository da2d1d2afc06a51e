defmodule Typhon.IdleMemoryTest do
  # What an idle worker keeps of what its jobs have freed. Not inside the VM: its memory is that of all tests that run and have run.
  use ExUnit.Case, async: true

  import Typhon.TestHelper

  @moduletag :os_process

  @mib 1024 * 1024
  # Of 4 KiB: too large for Python's own allocator.
  @count 80_000
  @size 4_096
  @job div(@count * @size, @mib)

  # In MiB.
  defp resident(py) do
    [_, pages | _] = "/proc/#{worker(py).os_pid}/statm" |> File.read!() |> String.split()
    div(String.to_integer(pages) * 4_096, @mib)
  end

  defp call!(py, function, args), do: Typhon.call!(py, :memory, function, args, timeout: :infinity)

  # The job takes its memory, and what is left of it a while later is not much.
  defp assert_gives_back(py, job) do
    # Modules are imported, threads started.
    job.(1)
    before = resident(py)
    forget_peak(py)
    job.(@count)
    highest = peak(py)
    assert highest - before > div(@job, 2), "the job has not taken what it should: #{highest - before} MiB"
    eventually(fn -> resident(py) - before < div(@job, 8) end)
  end

  # The kernel's own count, which misses nothing.
  defp forget_peak(py), do: File.write!("/proc/#{worker(py).os_pid}/clear_refs", "5")

  defp peak(py) do
    [_, kib] = Regex.run(~r/^VmHWM:\s+(\d+)/m, File.read!("/proc/#{worker(py).os_pid}/status"))
    div(String.to_integer(kib), 1_024)
  end

  for function <- [:make_bytes, :make_bytes_under_a_small_one] do
    describe "after #{function}" do
      test "a worker with one thread gives it back" do
        py = start_pool()
        assert_gives_back(py, &call!(py, unquote(function), [&1, @size]))
        # Again: it was not for once.
        assert_gives_back(py, &call!(py, unquote(function), [&1, @size]))
      end

      test "one whose requests a thread reads" do
        py = start_pool()
        Typhon.call!(py, :talk, :sleep, [0])
        assert_gives_back(py, &call!(py, unquote(function), [&1, @size]))
      end

      test "one with threads, all of which have had such a job" do
        py = start_pool(concurrency: 3)

        assert_gives_back(py, fn count ->
          1..6
          |> Enum.map(fn _ ->
            Task.async(fn -> call!(py, unquote(function), [div(count, 3) + 1, @size]) end)
          end)
          |> await_many()
        end)
      end
    end
  end

  test "small objects" do
    py = start_pool()
    assert_gives_back(py, &call!(py, :make_small_objects, [20 * &1]))
  end

  test "a coroutine's, in the event loop" do
    py = start_pool()
    assert_gives_back(py, &call!(py, :make_bytes_async, [&1, @size]))
  end

  test "an object's whose handle was dropped" do
    py = start_pool()

    assert_gives_back(py, fn count ->
      # It goes with its process.
      Task.await(Task.async(fn -> call!(py, :Holder, [count, @size]) && :dropped end), limit())
    end)
  end

  test "a large result's" do
    py = start_pool()

    assert_gives_back(py, fn count ->
      Task.await(Task.async(fn -> py |> call!(:large, [count * @size]) |> byte_size() end), limit())
    end)
  end

  test "a large result's that was in use while the worker gave back the rest" do
    py = start_pool(results: :shared)

    assert_gives_back(py, fn count ->
      holder =
        Task.async(fn ->
          result = call!(py, :large, [count * @size])
          # Twice the time after which it looks.
          Process.sleep(if(count == 1, do: 0, else: 11_000))
          byte_size(result)
        end)

      Task.await(holder, limit())
    end)
  end

  test "a job's that is there for its messages, all its life" do
    py = start_pool()
    :ok = Typhon.cast(py, :memory, :receive_forever, [@size])

    assert_gives_back(py, fn count ->
      :ok = Typhon.send(py, {self(), count})
      assert_receive "made"
    end)
  end

  @tag :os_process
  test "a worker that has given it back sleeps on" do
    py = start_pool()
    call!(py, :make_bytes, [1, @size])
    %{os_pid: os_pid} = worker(py)
    # It wakes once, to give back what there is.
    woken = fn ->
      [_, count] = Regex.run(~r/^voluntary_ctxt_switches:\s+(\d+)/m, File.read!("/proc/#{os_pid}/status"))
      String.to_integer(count)
    end

    before = woken.()
    eventually(fn -> woken.() > before end)
    before = woken.()
    # Twice the time after which it would look again.
    Process.sleep(11_000)
    assert woken.() <= before + 1
  end
end
