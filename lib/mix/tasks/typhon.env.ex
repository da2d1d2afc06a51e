defmodule Mix.Tasks.Typhon.Env do
  @shortdoc "Makes room in the VM for many Pythons with large libraries"

  @moduledoc """
  Room for the interpreters of `isolation: :interpreter` has to be made before the VM starts, by an environment variable of
  the C library. `docs/isolation.md` says when that is needed.

  ```sh
  eval "$(mix typhon.env)" && iex -S mix     # for this shell
  mix typhon.env --release                   # for releases: adds a line to rel/env.sh.eex
  ```

  A release's file is made when there is none; one that has the line is left as it is.
  """

  use Mix.Task

  @file_name "rel/env.sh.eex"

  @impl true
  def run(arguments) do
    case OptionParser.parse!(arguments, strict: [release: :boolean]) do
      {[], []} -> Mix.shell().info(line())
      {[release: true], []} -> release()
      {_, _} -> Mix.raise("mix typhon.env takes no arguments but --release")
    end
  end

  defp line,
    do: ~s[export GLIBC_TUNABLES="${GLIBC_TUNABLES:+$GLIBC_TUNABLES:}#{Typhon.Interpreters.tunables()}"]

  defp release do
    text = if File.exists?(@file_name), do: File.read!(@file_name), else: "#!/bin/sh\n"

    if String.contains?(text, "glibc.rtld.optional_static_tls") do
      Mix.shell().info("#{@file_name} has it already")
    else
      File.mkdir_p!("rel")

      File.write!(
        @file_name,
        String.trim_trailing(text) <> "\n\n# Room for the Pythons inside the VM.\n#{line()}\n"
      )

      Mix.shell().info("#{@file_name} makes room for the Pythons inside the VM")
    end
  end
end
