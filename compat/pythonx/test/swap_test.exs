defmodule Pythonx.SwapTest do
  @moduledoc "The one line of docs/from-pythonx.md, in a project of `mix new`: below a library that names Pythonx as its own."
  # It compiles: what runs beside it would wait.
  use ExUnit.Case, async: false

  import Typhon.SwapHelper

  @moduletag timeout: 1_200_000
  # What its Python runs in is its own matter.
  @moduletag :os_process

  @package File.cwd!()

  # As kino_pythonx has it; and the sigil in a module, in the form that Elixir 1.14 can read.
  @library %{
    "mix.exs" => """
    defmodule Charts.MixProject do
      use Mix.Project
      def project, do: [app: :charts, version: "0.1.0", deps: [{:pythonx, "~> 0.4.2"}]]
      def application, do: [extra_applications: [:logger]]
    end
    """,
    "lib/charts.ex" => ~S'''
    defmodule Charts do
      import Pythonx

      defmodule Point, do: defstruct([:x])

      defimpl Pythonx.Encoder, for: Point do
        def encode(%{x: x}, encoder), do: encoder.({x, :point}, encoder)
      end

      def doubled(x) do
        unquote({:sigil_PY, [], [{:<<>>, [], ["y = x * 2\nprint('in Python')\ny + 1"]}, []]})
      end

      def report do
        {file, _} = Pythonx.eval("import pythonx\npythonx.__file__", %{})
        IO.puts("doubled: #{Pythonx.decode(doubled(20))}, #{inspect(Pythonx.decode(Pythonx.encode!(%Point{x: 1})))}")
        IO.puts("file: #{Pythonx.decode(file)}, version: #{Application.spec(:pythonx)[:vsn]}")
      end
    end
    '''
  }

  test "a library that depends on Pythonx runs on this, by `mix run` and in a release" do
    dir = Path.join(System.tmp_dir!(), "pythonx-swap-#{System.pid()}")
    on_exit(fn -> File.rm_rf!(dir) end)
    line = "{:pythonx, \"~> 0.4.0\", path: #{inspect(@package)}, override: true}"
    shop = project!(dir, "charts", @library, line)

    said = mix!(shop, ["run", "-e", "Charts.report()"])
    assert said =~ "in Python\ndoubled: 41, {1, \"point\"}\n"
    refute said =~ "warning"

    said = release!(shop, "Charts.report()")
    assert said =~ "in Python\ndoubled: 41, {1, \"point\"}\n"
    # It is the release's own.
    [_, version] = Regex.run(~r/version: (0\.4\.\d+)/, said)
    assert said =~ "file: #{shop}/_build/prod/rel/shop/lib/pythonx-#{version}/priv/python/pythonx/__init__.py"
  end
end
