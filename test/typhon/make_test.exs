defmodule Typhon.MakeTest do
  # The targets of the Makefile set up what they need.
  use ExUnit.Case, async: true

  @root Path.expand("../..", __DIR__)

  # What scripts/setup says is missing for a target, with this Erlang in the place of the true one.
  defp missing(target, erlang) do
    environment = [{"PATH", Path.join(erlang, "bin") <> ":" <> System.get_env("PATH")}]
    {text, _} = System.cmd(Path.join(@root, "scripts/setup"), ["--missing", target], env: environment)
    String.split(text, "\n", trim: true)
  end

  # An Erlang as `make demo` leaves it: with its headers, and without EUnit and PropEr.
  setup do
    erlang = Typhon.TestHelper.new_path("make")
    on_exit(fn -> File.rm_rf!(erlang) end)
    for dir <- ["bin", "releases", "lib", "usr/include"], do: File.mkdir_p!(Path.join(erlang, dir))
    File.touch!(Path.join(erlang, "usr/include/erl_nif.h"))
    File.write!(Path.join(erlang, "bin/erl"), "#!/bin/sh\nexit 1\n")
    File.chmod!(Path.join(erlang, "bin/erl"), 0o755)
    {:ok, erlang: erlang}
  end

  test "what compiles the tests has what they include, also after `make demo`", %{erlang: erlang} do
    assert missing("demo", erlang) -- missing("build", erlang) == []
    refute Enum.any?(missing("demo", erlang), &(&1 =~ "EUnit"))

    for target <- ["soak", "hostile", "test", "nightly"],
        do: assert(Enum.any?(missing(target, erlang), &(&1 =~ "EUnit")))
  end

  test "every target that runs a script asks for what that target needs" do
    recipes = Regex.scan(~r/^([a-z]+):.*\n((?:\t.*\n)+)/m, File.read!(Path.join(@root, "Makefile")))
    targets = for [_, target, recipe] <- recipes, target not in ["help", "clean"], do: {target, recipe}
    assert length(targets) >= 13

    {usage, 2} =
      System.cmd(Path.join(@root, "scripts/setup"), ["--missing", "unknown"], stderr_to_stdout: true)

    for {target, recipe} <- targets do
      assert recipe =~ ~r/^\t@scripts\/setup \$@\n/
      assert usage =~ ~r/\b#{target}\b/
    end
  end
end
