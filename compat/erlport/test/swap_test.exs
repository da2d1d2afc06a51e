defmodule Typhon.ErlportSwapTest do
  @moduledoc "The one line of docs/from-erlport.md, in a project of `mix new`: below a library that names ErlPort as its own."
  # It compiles: what runs beside it would wait.
  use ExUnit.Case, async: false

  @moduletag timeout: 1_200_000

  @package File.cwd!()

  # Stands for Hex, which the tests do not reach: whoever asks it for a package is told that it is not there.
  @no_hex """
  defmodule NoHex do
    @behaviour Mix.SCM
    def fetchable?, do: true
    def format(opts), do: "Hex: " <> opts[:hex]
    def format_lock(_), do: nil
    def accepts_options(name, opts), do: Keyword.put_new(opts, :hex, Atom.to_string(name))
    def checked_out?(_), do: false
    def lock_status(_), do: :ok
    def equal?(one, other), do: one[:hex] == other[:hex]
    def managers(_), do: []
    def checkout(opts), do: Mix.raise("\#{opts[:hex]} would be fetched")
    def update(opts), do: checkout(opts)
  end

  Mix.SCM.append(NoHex)
  """

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
    File.mkdir_p!(dir)
    mix!(dir, ~w(new shop))
    shop = Path.join(dir, "shop")
    for {file, text} <- @library, do: write!(Path.join([dir, "snakes", file]), text)

    dependencies = ~s([{:snakes, path: "../snakes"}, {:erlport, path: #{inspect(@package)}, override: true}])
    project = Path.join(shop, "mix.exs")

    code =
      Regex.replace(~r/^  defp deps do\n.*?^  end\n/ms, File.read!(project), fn _ ->
        "  defp deps, do: #{dependencies}\n"
      end)

    File.write!(project, @no_hex <> code)

    said = mix!(shop, ["run", "-e", "Snakes.report()"])
    assert said =~ "packet: 4, sum: 3"
    assert said =~ "erlport: #{shop}/_build/prod/lib/erlport"

    mix!(shop, ~w(release --quiet))
    release = Path.join(shop, "_build/prod/rel/shop")

    {said, status} =
      System.cmd(Path.join(release, "bin/shop"), ["eval", "Snakes.report()"], stderr_to_stdout: true)

    assert {status, said} == {0, said}
    assert said =~ "packet: 4, sum: 3"
    # It is the release's own, of all of them.
    assert said =~ "erlport: #{release}/lib/erlport-0.11.0"
    assert said =~ "file: #{release}/lib/erlport-0.11.0/priv/python/erlport/__init__.py"
    assert said =~ ~r"file: #{release}/lib/typhon-[\d.]+/priv/python/typhon/__init__.py"
  end

  defp write!(path, text) do
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
  end

  defp mix(dir, arguments) do
    # What these tests were started with is no matter of another project's.
    env = for name <- ~w(MIX_BUILD_PATH MIX_DEPS_PATH MIX_EXS), do: {name, nil}
    System.cmd("mix", arguments, cd: dir, env: [{"MIX_ENV", "prod"} | env], stderr_to_stdout: true)
  end

  defp mix!(dir, arguments) do
    {text, status} = mix(dir, arguments)
    assert {status, text} == {0, text}
    text
  end
end
