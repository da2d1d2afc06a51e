defmodule Pythonx.MixProject do
  use Mix.Project

  # Within the requirement of those who name Pythonx (`~> 0.4.0`, Livebook's): no release of Pythonx's own has this number.
  @version "0.4.99"

  def project do
    [
      app: :pythonx,
      version: @version,
      elixir: "~> 1.14",
      description:
        "Pythonx's interface on Typhon: programs that name Pythonx, and Livebook's Python cells, run as they are",
      start_permanent: Mix.env() == :prod,
      # Tests have implementations of Pythonx.Encoder.
      consolidate_protocols: Mix.env() != :test,
      # As compat/erlport: what is built here lies with the rest of Typhon's.
      build_path: "../../_build",
      deps_path: "../../_build/compat/deps",
      lockfile: "../../_build/compat/pythonx.lock",
      config_path: "../../config/config.exs",
      deps: deps(),
      package: package()
    ]
  end

  def application do
    [mod: {Pythonx.Application, []}, extra_applications: [:logger]]
  end

  # A package that is published says `{:typhon, "== …"}` instead, the very version that it comes with: what it calls is Typhon's
  # inside. `env:` is for the tests, which use Typhon's own helpers (test/support); as a dependency this is compiled in :prod.
  defp deps, do: [{:typhon, path: "../..", env: Mix.env()}]

  # Pythonx has its name on Hex: there this would be `typhon_pythonx`, and `{:pythonx, hex: :typhon_pythonx, …}` take it.
  defp package do
    [
      name: "typhon_pythonx",
      licenses: ["Apache-2.0"],
      links: %{},
      files: ~w(lib mix.exs priv/python/pythonx/*.py priv/python/pythonx/py.typed README.md)
    ]
  end
end
