defmodule Typhon.SwapHelper do
  @moduledoc "A project of `mix new` that takes a drop-in by the one line of its page, below a library that names the original."

  import ExUnit.Assertions

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

  @doc """
  The folder of a new project `shop` in `dir`, which depends on `library` (`%{file => text}`, in the folder of the name `name`)
  and on `line`.
  """
  def project!(dir, name, library, line) do
    File.mkdir_p!(dir)
    mix!(dir, ~w(new shop))
    shop = Path.join(dir, "shop")
    for {file, text} <- library, do: write!(Path.join([dir, name, file]), text)

    project = Path.join(shop, "mix.exs")
    dependencies = "[{:#{name}, path: \"../#{name}\"}, #{line}]"

    code =
      Regex.replace(~r/^  defp deps do\n.*?^  end\n/ms, File.read!(project), fn _ ->
        "  defp deps, do: #{dependencies}\n"
      end)

    File.write!(project, @no_hex <> code)
    shop
  end

  @doc "What a task of Mix prints, in the environment `prod`."
  def mix!(dir, arguments) do
    # What these tests were started with is no matter of another project's.
    env = for name <- ~w(MIX_BUILD_PATH MIX_DEPS_PATH MIX_EXS), do: {name, nil}

    {text, status} =
      System.cmd("mix", arguments, cd: dir, env: [{"MIX_ENV", "prod"} | env], stderr_to_stdout: true)

    assert {status, text} == {0, text}
    text
  end

  @doc "What the release of the project prints for an expression."
  def release!(shop, expression) do
    mix!(shop, ~w(release --quiet --overwrite))
    program = Path.join(shop, "_build/prod/rel/shop/bin/shop")
    {said, status} = System.cmd(program, ["eval", expression], stderr_to_stdout: true)
    assert {status, said} == {0, said}
    said
  end

  defp write!(path, text) do
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
  end
end
