Code.require_file("mix/compile_typhon_native.exs", __DIR__)

defmodule Typhon.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :typhon,
      version: @version,
      elixir: "~> 1.14",
      description:
        "Joins the BEAM with Python: one contract from an interpreter in the VM to a node across the network",
      compilers: [:typhon_native | Mix.compilers()],
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      # The tests find PropEr in OTP's own library folder.
      prune_code_paths: false,
      deps: [],
      # Used where they are there (lib/typhon/livebook.ex).
      xref: [exclude: [Kino.HTML, Kino.Image, Kino.Markdown, Kino.Render, Kino.Text, Table.Reader]],
      package: package()
    ]
  end

  def application do
    [mod: {Typhon.Application, []}, extra_applications: [:logger]]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{},
      files: ~w(lib mix mix.exs native python ruby cmake CMakeLists.txt CMakePresets.json
                README.md CHANGELOG.md CONTRIBUTING.md LICENSE .formatter.exs docs examples)
    ]
  end
end
