Code.require_file("mix/compile_erlport_files.exs", __DIR__)

defmodule ErlPort.MixProject do
  use Mix.Project

  # That of ErlPort's last release on Hex, in whose place this goes.
  @version "0.11.0"

  def project do
    [
      app: :erlport,
      version: @version,
      elixir: "~> 1.14",
      description:
        "ErlPort's interface on Typhon's native core: programs and libraries that name ErlPort run as they are",
      compilers: Mix.compilers() ++ [:erlport_files],
      language: :erlang,
      erlc_paths: erlc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      # What is built here lies with the rest of Typhon's, and as its own project builds it, so that nothing is compiled twice.
      # Where this is a dependency, the project that has it says where.
      build_path: "../../_build",
      deps_path: "../../_build/compat/deps",
      lockfile: "../../_build/compat/erlport.lock",
      config_path: "../../config/config.exs",
      # The tests find PropEr in OTP's own library folder.
      prune_code_paths: false,
      deps: deps(),
      package: package()
    ]
  end

  def application do
    []
  end

  # A package that is published says `{:typhon, "== …"}` instead, the very version that it comes with: what it calls is Typhon's
  # inside. `env:` is for the tests, which use Typhon's own helpers (test/support); as a dependency this is compiled in :prod.
  defp deps, do: [{:typhon, path: "../..", env: Mix.env()}]

  defp erlc_paths(:test), do: ["src", "test"]
  defp erlc_paths(_), do: ["src"]

  # ErlPort has its name on Hex: there this would be `typhon_erlport`, and `{:erlport, hex: :typhon_erlport, …}` take it.
  defp package do
    [
      name: "typhon_erlport",
      licenses: ["Apache-2.0"],
      links: %{},
      files: ~w(mix mix.exs priv/python/erlport/*.py priv/python/erlport/py.typed priv/ruby src README.md)
    ]
  end
end
