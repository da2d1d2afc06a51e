defmodule Typhon.ErlportInstanceTest do
  @moduledoc "What a pool promises of its workers, of an instance's: see the tests of these names in Typhon's own."
  # The VM's memory is looked at, so nothing else may run.
  use ExUnit.Case, async: false

  import Typhon.{TestFlood, TestHelper}

  @flood 300_000_000

  test "one that greets as another process ends, and that one is left alone" do
    Process.flag(:trap_exit, true)
    victim = bystander()

    # It is asked for its version first. After -u -m erlport.cli come its options.
    python =
      python_script("""
      [ "$1" = -V ] && exec python3 -V
      shift 3
      exec python3 -u -c "import os, runpy
      os.getpid = lambda: #{victim}
      runpy.run_module('erlport.cli', run_name='__main__', alter_sys=True)" "$@"
      """)

    {:ok, pid} = :python.start_link(python: String.to_charlist(python))
    assert_receive {:EXIT, ^pid, {:foreign_process, ^victim}}, limit()
    assert os_process_runs?(victim)
  end

  test "names beyond ASCII" do
    dir = Path.join(System.tmp_dir!(), "typhon-names-#{System.pid()}-#{System.os_time()}")
    on_exit(fn -> File.rm_rf!(dir) end)
    File.mkdir_p!(Path.join(dir, "paket_ü"))
    File.write!(Path.join([dir, "paket_ü", "__init__.py"]), "")

    source = """
    def größe(x): return x
    def 名前(x): return x
    def ﬁt(x): return x
    class Höhe: tiefe = "tief"
    """

    for name <- ["größe", "模块", "paket_ü/größe"], do: File.write!(Path.join(dir, name <> ".py"), source)
    {:ok, instance} = :python.start_link(python_path: String.to_charlist(dir))

    for function <- [:größe, :名前, :"ﬁt", :fit], do: assert(:python.call(instance, :größe, function, [7]) == 7)
    assert :python.call(instance, :模块, :名前, [7]) == 7
    assert :python.call(instance, :"paket_ü.größe", :größe, [7]) == 7
    assert :python.call(instance, :größe, :"Höhe.tiefe.upper", []) == 'TIEF'

    assert {:python, :"builtins.AttributeError", message, _} =
             catch_error(:python.call(instance, :größe, :fehlt_名, []))

    assert List.to_string(message) == "module 'größe' has no attribute 'fehlt_名'"
    :python.stop(instance)
  end

  test "a flood of output to a device that is slow to answer leaves the VM as it is" do
    collect()
    {device, count} = sink()
    Process.group_leader(self(), device)
    {:ok, python} = :python.start(python: ~c"python3")
    command = "yes 2>/dev/null | head -c #{@flood}"
    assert assert_flat(fn -> :python.call(python, :os, :system, [command], timeout: :infinity) end) == 0
    eventually(fn -> count.() == @flood end)
    :ok = :python.stop(python)
  end

  # The row by which callers find an instance is not left to it.
  test "one that is killed is forgotten" do
    {:ok, pid} = :python.start()
    assert :python.call(pid, :operator, :add, [1, 2]) == 3
    assert [_] = :ets.lookup(:typhon_owners, pid)
    Process.exit(pid, :kill)
    eventually(fn -> :ets.lookup(:typhon_owners, pid) == [] end)
  end
end
