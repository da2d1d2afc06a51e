defmodule Typhon.ErlportSwapTest do
  @moduledoc "The one line of docs/from-erlport.md, in a project of `mix new`: below a library that names ErlPort as its own."
  # It compiles: what runs beside it would wait.
  use ExUnit.Case, async: false

  import Typhon.SwapHelper

  @moduletag timeout: 1_200_000

  @package File.cwd!()

  # As Venomous or Export have it: Erlang code with ErlPort's header, Elixir code that calls its modules.
  @library %{
    "mix.exs" => """
    defmodule Snakes.MixProject do
      use Mix.Project
      def project, do: [app: :snakes, version: "0.1.0", deps: [{:erlport, "~> 0.10"}]]
    end
    """,
    "src/snakes_options.erl" => """
    -module(snakes_options).
    -export([packet/0]).
    -include_lib("erlport/src/python.hrl").
    packet() ->
        {ok, #python_options{packet = Packet}} = python_options:parse([{python, "python3"}]),
        Packet.
    """,
    "lib/snakes.ex" => ~S"""
    defmodule Snakes do
      def report do
        {:ok, python} = :python.start_link([{:python, ~c"python3"}])
        sum = :python.call(python, :operator, :add, [1, 2])
        source = "[__import__(name).__file__ for name in ('erlport', 'typhon')]"
        files = :python.call(python, :builtins, :eval, [source])
        :python.stop(python)
        IO.puts("packet: #{:snakes_options.packet()}, sum: #{sum}")
        for file <- files, do: IO.puts("file: #{file}")
        for application <- [:erlport, :typhon], do: IO.puts("#{application}: #{:code.lib_dir(application)}")
      end
    end
    """
  }

  test "a library that depends on ErlPort runs on this, by `mix run` and in a release" do
    dir = Path.join(System.tmp_dir!(), "typhon-swap-#{System.pid()}")
    on_exit(fn -> File.rm_rf!(dir) end)
    shop = project!(dir, "snakes", @library, "{:erlport, path: #{inspect(@package)}, override: true}")

    said = mix!(shop, ["run", "-e", "Snakes.report()"])
    assert said =~ "packet: 4, sum: 3"
    assert said =~ "erlport: #{shop}/_build/prod/lib/erlport"

    release = Path.join(shop, "_build/prod/rel/shop")
    said = release!(shop, "Snakes.report()")
    assert said =~ "packet: 4, sum: 3"
    # It is the release's own, of all of them.
    assert said =~ "erlport: #{release}/lib/erlport-0.11.0"
    assert said =~ "file: #{release}/lib/erlport-0.11.0/priv/python/erlport/__init__.py"
    assert said =~ ~r"file: #{release}/lib/typhon-[\d.]+/priv/python/typhon/__init__.py"
  end
end
