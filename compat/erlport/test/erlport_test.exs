defmodule Typhon.ErlportTest do
  @moduledoc """
  ErlPort's interface. Most of it is tested in Erlang, in the files beside this one; here those suites are run, and what is
  Elixir's.
  """
  # Some of them change the group leader, the log level, the environment.
  use ExUnit.Case, async: false

  @moduletag timeout: 600_000

  @sources Path.expand("py", __DIR__)

  # The first channel of a VM says how many atoms Python may bring to it.
  test "an instance in a VM without a pool brings atoms that nobody has named" do
    code = """
    {:ok, pid} = :python.start()
    raised = try(do: :python.call(pid, :builtins, :int, ["x"]), catch: (:error, reason -> reason))
    {:python, :"builtins.ValueError", _, _} = raised
    source = "__import__('erlport.erlterms').erlterms.Atom(b'typhon_brought_by_the_instance')"
    atom = :python.call(pid, :builtins, :eval, [source])
    IO.puts("brought " <> Atom.to_string(atom))
    """

    assert {text, 0} = Typhon.TestHelper.vm(code, [], [:typhon, :erlport])
    assert text =~ "brought typhon_brought_by_the_instance"
  end

  test "the application of that name is ErlPort's: it can be started, and has its version and folders" do
    assert Application.spec(:erlport, :vsn) == ~c"0.11.0"
    assert File.exists?(Path.join(:code.priv_dir(:erlport), "python/erlport/erlterms.py"))
    assert File.exists?(Path.join(:code.priv_dir(:erlport), "ruby/erlport/erlterms.rb"))
    # Where its programs include them from.
    for header <- ["python.hrl", "ruby.hrl"],
        do: assert(File.exists?(Path.join([:code.lib_dir(:erlport), "src", header])))

    assert {:ok, _} = Application.ensure_all_started(:erlport)
    assert :typhon in Application.spec(:erlport, :applications)
    assert Application.stop(:erlport) == :ok
    assert {:ok, pid} = :python.start()
    assert :python.call(pid, :operator, :add, [1, 2]) == 3
    assert :python.stop(pid) == :ok
  end

  # The reports of EUnit come with the failure.
  for module <- [:python_options_tests, :python_tests, :ruby_tests] do
    test "EUnit: #{module}" do
      {result, output} = with_output(fn -> :eunit.test(unquote(module), []) end)
      assert result == :ok, output
    end
  end

  defp with_output(fun) do
    {:ok, device} = StringIO.open("")
    leader = Process.group_leader()
    Process.group_leader(self(), device)

    try do
      result = fun.()
      {_, output} = StringIO.contents(device)
      {result, output}
    after
      Process.group_leader(self(), leader)
      StringIO.close(device)
    end
  end

  defp start(options \\ []) do
    {:ok, pid} = :python.start_link([{:python, ~c"python3"}, {:python_path, [@sources]} | options])
    on_exit(fn -> :python.stop(pid) end)
    pid
  end

  test "the tutorial" do
    {:ok, pid} = :python.start([{:python, ~c"python3"}, {:python_path, ~c"#{@sources}/tutorial"}])
    assert :python.call(pid, :py, :add, [1, 2]) == 3
    version = :python.call(pid, :sys, :"version.__str__", [])
    assert version |> List.to_string() |> String.starts_with?("3.")
    assert :python.call(pid, :py, :register, [self()]) == :kablam
    assert :python.cast(pid, {:yo, ~c"Hi", %{k: ~c"v"}}) == :ok
    assert_receive {:yo, ~c"Hi", %{k: ~c"v"}}, 60_000
    assert :python.stop(pid) == :ok
  end

  # As wrappers do it: a struct's own pool of instances, started with charlists made of strings; killed by its process id.
  test "what wrappers reach into" do
    {:ok, pid} = :python.start_link([{:python, "python3"}, {:python_path, @sources}, {:cd, "/"}])
    port = pid |> :sys.get_state() |> elem(3)
    {:os_pid, os_pid} = Port.info(port, :os_pid)
    assert os_pid == :python.call(pid, :os, :getpid, [])
    Process.flag(:trap_exit, true)
    System.cmd("kill", ["-9", Integer.to_string(os_pid)])
    assert_receive {:EXIT, ^pid, {:port_closed, _}}, 60_000
  end

  test "under a supervisor" do
    children = [
      %{id: :py, start: {:python, :start_link, [{:local, :supervised_python}, [{:python, ~c"python3"}]]}}
    ]

    {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
    assert :python.call(:supervised_python, :operator, :add, [1, 2]) == 3
    before = Process.whereis(:supervised_python)
    monitor = Process.monitor(before)
    catch_error(:python.call(:supervised_python, :os, :_exit, [1]))
    assert_receive {:DOWN, ^monitor, :process, _, _}, 60_000
    Typhon.TestHelper.eventually(fn -> Process.whereis(:supervised_python) not in [nil, before] end)

    Typhon.TestHelper.eventually(fn ->
      catch_exit_or(fn -> :python.call(:supervised_python, :operator, :add, [1, 2]) end) == 3
    end)

    Supervisor.stop(supervisor)
  end

  defp catch_exit_or(fun) do
    fun.()
  catch
    :exit, _ -> :gone
  end

  test "an instance on another node is called as one here" do
    pid = start()
    # What a call from elsewhere comes to.
    assert {:ok, 3} = GenServer.call(pid, {:call, :operator, :add, [1, 2], []})
    assert {:ok, 3} = GenServer.call(pid, {:call, :operator, :add, [1, 2], [timeout: 60_000]})

    assert {:error, :timeout} =
             GenServer.call(pid, {:call, :erlport_sample, :wait_for, [~c"/no/such/file"], [timeout: 20]})

    Process.unlink(pid)
  end

  describe "whatever a term is" do
    unless Code.ensure_loaded?(:proper), do: @describetag(skip: "PropEr is not there (Debian: erlang-proper)")

    test "it comes back as it was" do
      pid = start()
      call = fn term -> :python.call(pid, :erlport_sample, :identity, [term]) end
      assert check(fn term -> call.(term) === term end, 400) == :ok
    end

    test "it goes through Python to the BEAM and back" do
      pid = start()

      call = fn term ->
        :python.call(pid, :erlport_sample, :call_erlang, [:python_tests, :identity, [term]])
      end

      assert check(fn term -> call.(term) === term end, 150) == :ok
    end
  end

  # Macros of PropEr's header file, written out.
  defp check(holds, tests) do
    property = :proper.forall(:proper_types.sized(&term/1), holds)

    case :proper.quickcheck(property, [:quiet, :long_result, {:numtests, tests}, {:max_size, 60}]) do
      true -> :ok
      counterexample -> {:counterexample, counterexample}
    end
  end

  defp bind(type, fun), do: :proper_types.bind(type, fun, true)

  defp characters do
    :proper_types.list(
      :proper_types.weighted_union([
        {4, :proper_types.integer(0, 255)},
        {1, :proper_types.integer(256, 0x10FFFF)}
      ])
    )
  end

  defp leaf do
    :proper_types.oneof([
      :proper_types.integer(),
      :proper_types.integer(-0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF),
      bind(:proper_types.tuple([:proper_types.integer(), :proper_types.integer(0, 700)]), fn {n, bits} ->
        n * 2 ** bits + n
      end),
      :proper_types.float(),
      characters(),
      :proper_types.oneof([:ok, :undefined, :"strange atom", :ünïcode, :при, nil, true, false]),
      :proper_types.atom(),
      :proper_types.binary(),
      :proper_types.bitstring(),
      self(),
      make_ref(),
      &is_atom/1
    ])
  end

  defp term(0), do: leaf()

  defp term(size) do
    smaller = :proper_types.lazy(fn -> term(div(size, 4)) end)

    :proper_types.weighted_union([
      {3, leaf()},
      {2, :proper_types.list(smaller)},
      {2, bind(:proper_types.list(smaller), &List.to_tuple/1)},
      {2, bind(:proper_types.list(:proper_types.tuple([key(), smaller])), &Map.new/1)},
      {1, bind(:proper_types.tuple([smaller, leaf()]), &improper/1)}
    ])
  end

  # Keys that are one in Python and not on the BEAM (1, 1.0 and true; an atom and the binary of its name) are refused, which
  # has a test of its own.
  defp key do
    :proper_types.oneof([
      bind(:proper_types.integer(), &{:integer, &1}),
      bind(:proper_types.binary(), &{:binary, &1}),
      bind(:proper_types.atom(), &{:atom, &1}),
      characters(),
      self()
    ])
  end

  defp improper({head, tail}), do: [head | tail]
end
