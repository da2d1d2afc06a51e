defmodule Weather.MixProject do
  use Mix.Project

  def project do
    [
      app: :weather,
      version: "0.1.0",
      elixir: "~> 1.14",
      # What is built lies with the rest of Typhon's, not in the example.
      build_path: "../../_build/examples/weather",
      lockfile: "../../_build/examples/weather/mix.lock",
      deps: [{:typhon, path: "../.."}]
    ]
  end

  def application do
    [mod: {Weather.Application, []}, extra_applications: [:logger]]
  end
end
