defmodule Login.MixProject do
  use Mix.Project

  def project do
    [
      app: :login,
      version: "0.1.0",
      elixir: "~> 1.14",
      # What is built lies with the rest of Typhon's, not in the example. Examples share it: Typhon is compiled once for all.
      build_path: "../../_build/examples",
      lockfile: "../../_build/examples/mix.lock",
      deps: [{:typhon, path: "../.."}]
    ]
  end

  def application do
    [mod: {Login.Application, []}, extra_applications: [:logger, :public_key]]
  end
end
