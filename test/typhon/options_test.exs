defmodule Typhon.OptionsTest do
  use ExUnit.Case, async: true

  alias Typhon.Options
  alias Typhon.Options.{Check, Option, Table}

  defp message(fun) do
    assert_raise(ArgumentError, fun) |> Exception.message()
  end

  describe "start!/1" do
    test "fills in the defaults" do
      isolation = Application.get_env(:typhon, :isolation, :process)

      assert %{
               name: nil,
               isolation: ^isolation,
               workers: workers,
               python: "python3",
               python_path: [],
               env: [],
               cd: cd,
               start_timeout: 30_000,
               grace: 1_000,
               stdio: :caller,
               atoms: :existing,
               spin: :auto,
               ring_size: 1_048_576,
               telemetry: true
             } = Options.start!([])

      assert workers == System.schedulers_online()
      assert cd == File.cwd!()
    end

    test "bounds of results" do
      assert %{results: :private, max_result: 1_073_741_824, max_held: :auto} = Options.start!([])

      assert %{max_result: :infinity, max_held: 65_536} =
               Options.start!(max_result: :infinity, max_held: 65_536)

      assert message(fn -> Options.start!(max_result: 65_535) end) ==
               "max_result: must be an integer from 65536 (bytes) or :infinity, got 65535"

      assert message(fn -> Options.start!(max_held: nil) end) ==
               "max_held: must be :auto, an integer from 65536 (bytes) or :infinity, got nil"
    end

    test "expands python_path relative to cd" do
      assert %{cd: "/usr", python_path: ["/usr/lib", "/opt"]} =
               Options.start!(cd: "/usr", python_path: ["lib", "/opt"])
    end

    test "takes charlists where Erlang writes strings" do
      assert %{python: "python3", cd: "/usr", python_path: ["/usr/lib"]} =
               Options.start!(python: ~c"python3", cd: ~c"/usr", python_path: [~c"lib"])
    end

    test "env may be a map or a list, with atoms and nil" do
      assert %{env: [{"A", "1"}]} = Options.start!(env: %{"A" => "1"})
      assert %{env: [{"A", "1"}, {"B", nil}, {"C", nil}]} = Options.start!(env: [A: "1", B: nil, C: false])
    end

    test "workers may be a range, or a pair as Erlang writes it" do
      assert %{workers: 3, min_workers: 3} = Options.start!(workers: 3)
      assert %{workers: 8, min_workers: 2} = Options.start!(workers: 2..8)
      assert %{workers: 8, min_workers: 2} = Options.start!(workers: {2, 8})
    end

    test "max_restarts goes by the number of workers" do
      assert %{max_restarts: 80, max_seconds: 60} = Options.start!(workers: 2..8)
      assert %{max_restarts: 3} = Options.start!(workers: 2..8, max_restarts: 3)
      assert %{max_restarts: :infinity} = Options.start!(max_restarts: :infinity)
    end

    test "init may be one step or a list of them" do
      assert %{init: [{:code, "import json"}]} = Options.start!(init: "import json")

      assert %{init: [{:call, :m, "f.g", [1]}, {:code, "x = 1"}]} =
               Options.start!(init: [{:m, "f.g", [1]}, "x = 1"])
    end

    test "an unknown option names the nearest one and all there are" do
      text = message(fn -> Options.start!(worker: 2) end)
      assert text =~ "Typhon.start_link/1 has no option :worker, did you mean :workers? It takes :name, "
      assert text =~ ":ring_size"
    end

    test "an unknown option that resembles none is not guessed at" do
      text = message(fn -> Options.start!(zzz: 2) end)
      assert text =~ "Typhon.start_link/1 has no option :zzz. It takes :name, "
    end

    test "each option says what it must be" do
      for {options, expected} <- [
            {[workers: 0], "workers: must be a positive integer or a range such as 2..8, got 0"},
            {[workers: 0..8], "workers: must be a positive integer or a range such as 2..8, got 0..8"},
            {[workers: 8..2//-1],
             "workers: must be a positive integer or a range such as 2..8, got 8..2//-1"},
            {[idle_timeout: 0], "idle_timeout: must be a positive integer (milliseconds), got 0"},
            {[init: {:math, :sqrt}],
             "init: must be {module, function, arguments}, a string of Python code, or a list of those, got {:math, :sqrt}"},
            {[max_calls: 0], "max_calls: must be a positive integer, got 0"},
            {[max_memory: 1.5], "max_memory: must be a positive integer (bytes), got 1.5"},
            {[max_restarts: -1], "max_restarts: must be a non-negative integer or :infinity, got -1"},
            {[max_seconds: 0], "max_seconds: must be a positive integer (seconds), got 0"},
            {[limits: [memory: 1]], "limits: memory: must be an integer from 1048576 (bytes), got 1"},
            {[limits: [cpu_time: 0]], "limits: cpu_time: must be a positive integer (seconds), got 0"},
            {[limits: [open_files: 3]], "limits: open_files: must be an integer from 32, got 3"},
            {[limits: [nice: 20]], "limits: nice: must be an integer from -20 to 19, got 20"},
            {[limits: [cpu: 1]],
             "limits: has no option :cpu, did you mean :cpu_time? It takes :memory, :cpu_time, :open_files, :nice"},
            {[reload: 1], "reload: must be true or false, got 1"},
            {[name: "py"], ~s|name: must be an atom, {:global, term} or {:via, module, term}, got "py"|},
            {[python: nil],
             "python: must be the name of a command, or the path of an interpreter or a virtualenv, got nil"},
            {[python_path: "lib"],
             ~s|python_path: must be a list of directories, got "lib". A single one is ["lib"]|},
            {[python_path: ~c"lib"],
             ~s|python_path: must be a list of directories, got #{inspect(~c"lib")}. A single one is ["lib"]|},
            {[language: :ruby, ruby_path: "lib"],
             ~s|ruby_path: must be a list of directories, got "lib". A single one is ["lib"]|},
            {[allow: {:lists, :sum, 1}],
             "allow: must be :all or a list of {module, function, arity}, got {:lists, :sum, 1}. A single one is [{:lists, :sum, 1}]"},
            {[send_to: :logger],
             "send_to: must be a list of pids, registered names and {name, node}, got :logger. A single one is [:logger]"},
            {[env: {"A", "1"}],
             ~s|env: must be a map or a list of {name, value}, got {"A", "1"}. A single one is [{"A", "1"}]|},
            {[python_path: [1]], "python_path: must be a list of directories, got 1"},
            {[env: 1], "env: must be a map or a list of {name, value}, got 1"},
            {[env: ["A"]],
             ~s|env: must hold {name, value} with a string or atom and a string (nil unsets the variable), got "A"|},
            {[env: [{"A=B", "1"}]],
             ~s|env: a name must not contain = and neither name nor value a NUL, got {"A=B", "1"}|},
            {[cd: ""], ~s|cd: must be a directory, got ""|},
            {[start_timeout: 0],
             "start_timeout: must be a positive integer (milliseconds) or :infinity, got 0"},
            {[grace: -1], "grace: must be a non-negative integer (milliseconds), got -1"},
            {[stdio: :stdout],
             "stdio: must be :caller, :group_leader, :logger, :discard or the pid of an I/O device, got :stdout"},
            {[atoms: true], "atoms: must be :existing or :create, got true"},
            {[spin: 1.5], "spin: must be :auto or a non-negative integer (microseconds), got 1.5"},
            {[ring_size: 5_000],
             "ring_size: must be a power of two from 65536 to 67108864 (bytes), got 5000"},
            {[telemetry: nil], "telemetry: must be true or false, got nil"},
            {[isolation: :node],
             "isolation: :node does not exist yet. isolation: :process (the default) and :interpreter do"},
            {[isolation: :thread], "isolation: must be :process or :interpreter, got :thread"},
            {[isolation: :process, engine: :threads],
             "engine: :threads is for isolation: :interpreter; a worker process is run by the Python of python: alone"},
            {[isolation: :interpreter, engine: :fast],
             "engine: must be :auto, :namespaces, :subinterpreters or :threads, got :fast"},
            {[isolation: :interpreter, limits: [nice: 5]],
             "limits: of nice need isolation: :process, as the operating system sets them for whole processes or for good, " <>
               "and this process is the VM's. memory: works with isolation: :interpreter"},
            {[isolation: :interpreter, env: [PYTHONDEVMODE: "1"]],
             "env: PYTHONDEVMODE needs isolation: :process: inside the VM it would make Python take over signals, wait for a " <>
               "terminal or be another Python"},
            {[isolation: :interpreter, max_memory: 2_000_000],
             "max_memory: needs isolation: :process: what one interpreter holds of the VM's memory cannot be told. " <>
               "max_calls: works with isolation: :interpreter"},
            {[1], "the options of Typhon.start_link/1 must be a keyword list, got [1]"},
            {%{}, "the options of Typhon.start_link/1 must be a keyword list, got %{}"}
          ] do
        assert message(fn -> Options.start!(options) end) == expected
      end
    end
  end

  describe "the table" do
    # With the options that are in one.
    defp all do
      for scope <- Table.scopes(),
          option <- Table.options(scope),
          option <- [option | keys(option)],
          do: option
    end

    defp keys(%{check: [{:keys, options}]}), do: options
    defp keys(_), do: []

    test "each option refuses what it cannot be, in a sentence that names it" do
      # Any term is a key.
      for option <- all(), option.name != :worker do
        assert message(fn -> Check.check!(option, make_ref()) end) =~ ~r/\b#{option.name}: ?/
        assert message(fn -> Check.check!(option, make_ref()) end) =~ ~r/ must be .+, got #Reference</
      end
    end

    test "the default of each option passes its check" do
      for option <- all(), option.scope != [:limits], do: Check.check!(option, Option.default(option))
    end

    test "each option is in the documentation of each function that takes it, with its default" do
      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(Typhon)

      for scope <- Table.scopes() do
        ["Typhon", name, arity] = Table.function(scope) |> String.split([".", "/"])
        key = {:function, String.to_atom(name), String.to_integer(arity)}
        {_, _, _, %{"en" => text}, _} = List.keyfind(docs, key, 0)

        for option <- Table.options(scope), option <- [option | keys(option)] do
          assert text =~ ~r/^ *\* (`:\w+`, )*`:#{option.name}`/m, "#{name}/#{arity}: #{option.name}"
          assert String.length(option.doc) > 8
        end

        described = for option <- Table.options(scope), scope in option.scope, do: option
        assert length(Regex.scan(~r/Default:\s/, text)) == length(described)
      end
    end

    test "each option has a type, in that of the function's options" do
      {:ok, types} = Code.Typespec.fetch_types(Typhon)

      for {scope, type} <- [
            pool: :start_option,
            call: :call_option,
            cast: :cast_option,
            run: :run_option,
            yield_many: :yield_option,
            multi_each: :multi_each_option,
            multi: :multi_option,
            map: :map_option,
            restart: :restart_option,
            reload: :reload_option,
            stream: :stream_option,
            send: :send_option,
            object: :object_option,
            call_object: :call_object_option,
            stream_object: :stream_object_option,
            enter: :enter_option
          ] do
        {:type, definition} = Enum.find(types, fn {_, definition} -> elem(definition, 0) == type end)
        {:"::", _, [_, union]} = Code.Typespec.type_to_quoted(definition)
        assert names(union) == Enum.map(Table.options(scope), & &1.name)
      end
    end

    defp names({:|, _, [left, right]}), do: names(left) ++ names(right)
    defp names({:{}, _, [name, _type]}), do: [name]
    defp names({name, _type}), do: [name]

    test "no function takes an option twice" do
      for scope <- Table.scopes() do
        names = Enum.map(Table.options(scope), & &1.name)
        assert names == Enum.uniq(names)
      end
    end
  end

  test "directories for Ruby are named by the option that has them" do
    assert message(fn -> Options.start!(language: :ruby, ruby_path: ["lib", 1]) end) ==
             "ruby_path: must be a list of directories, got 1"
  end

  test "of an option that is given twice the first counts" do
    assert %{timeout: 1} = Options.call!(timeout: 1, timeout: 2)
    assert %{workers: 1} = Options.start!(workers: 1, workers: 2)
  end

  describe "call!/1" do
    test "fills in the defaults" do
      assert Options.call!([]) == %{kwargs: %{}, timeout: Options.default_timeout(), routing: nil}
    end

    test "kwargs may be a map or a keyword list, with atoms or strings" do
      for kwargs <- [%{a: 1}, [a: 1], %{"a" => 1}, [{"a", 1}]] do
        assert Options.call!(kwargs: kwargs).kwargs == %{"a" => 1}
      end

      assert Options.call!(kwargs: []).kwargs == %{}
    end

    test "says what is wrong" do
      for {options, expected} <- [
            {[timeout: -1],
             "timeout: must be an integer from 0 to 4294967295 (milliseconds) or :infinity, got -1"},
            {[timeout: nil],
             "timeout: must be an integer from 0 to 4294967295 (milliseconds) or :infinity, got nil"},
            {[kwargs: 1], "kwargs: must be a map or a keyword list, got 1"},
            {[kwargs: [1]], "kwargs: must be a map or a keyword list, it has the element 1"},
            {[kwargs: %{1 => 2}], "the names in kwargs: must be atoms or strings, got 1"},
            {[kwargs: [a: 1, a: 2]], ~s|kwargs: names "a" twice|},
            {[kwargs: Date.utc_today()],
             "kwargs: must be a map or a keyword list, got #{inspect(Date.utc_today())}"},
            {[timout: 1],
             "Typhon.call/5 has no option :timout, did you mean :timeout? It takes :kwargs, :timeout, :worker, :retry, " <>
               ":stdio, :keys, :values, :as"}
          ] do
        assert message(fn -> Options.call!(options) end) == expected
      end
    end
  end
end
