defmodule Typhon.ForeignTest do
  # The harness that compares foreign suites in a worker with a plain Python (scripts/foreign) finds a difference, accepts one that is
  # known, and goes on when a test has ended or hung what it ran in. Its suite is test/support/foreign/toy.
  use ExUnit.Case, async: true

  @moduletag timeout: 300_000

  @support Path.expand("../support/foreign", __DIR__)
  @isolation System.get_env("TYPHON_ISOLATION", "process")

  # What the list of what is known has to say of this suite
  @known """
  # a comment

  * | test_toy.Differs.test_[fs]* | *True is not false : in a worker | it is not so in a worker
  * | test_toy.Differs.test_skipped | in a worker | it is skipped there
  #{@isolation} | test_toy.NotSetUp.* | OSError: not in a worker | its class is not set up there
  * | test_toy.Ends.test_a_ends | *SIGSEGV* | it ends what it runs in
  * | test_hangs.Hangs.test_[ac]_* | *did not answer within* | it hangs
  * | test_ends_at_once.* | *SIGSEGV* | the module ends what it runs in
  """

  setup do
    folder = Typhon.TestHelper.new_path("foreign")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    {:ok, folder: folder}
  end

  # What the harness prints of the toy suite, and its status.
  defp run(folder, known, modules) do
    File.write!(Path.join(folder, "known.txt"), known)
    python = System.find_executable("python3")

    options = [
      isolation: @isolation,
      modules: modules,
      known: Path.join(folder, "known.txt"),
      output: Path.join(folder, "output"),
      ebin: Path.join(:code.lib_dir(:typhon), "ebin"),
      cpython: python,
      seconds: 5
    ]

    arguments = for {name, value} <- options, do: "--#{name}=#{value}"
    harness = Path.join(@support, "harness.py")
    System.cmd(python, ["-P", harness, Path.join(@support, "toy") | arguments], stderr_to_stdout: true)
  end

  # The part of what was printed that has this headline
  defp section(printed, headline) do
    case String.split(printed, "\n#{headline}:\n", parts: 2) do
      [_, rest] -> rest |> String.split("\n\n", parts: 2) |> hd()
      [_] -> ""
    end
  end

  test "what differs is known, line by line, and what is no more is said", %{folder: folder} do
    gone = "* | test_toy.Same.test_passes | * | it did once\n"
    {printed, status} = run(folder, @known <> gone, "test_toy,test_hangs,test_ends_at_once")

    assert {status, section(printed, "Not known")} == {0, ""}, printed

    assert printed =~
             "12 tests that pass in a plain Python (2 do not), in #{@isolation}: 8 differences, 0 of them"

    known = section(printed, "Known")

    assert known =~
             "2 (* | test_toy.Differs.test_[fs]* | *True is not false : in a worker): it is not so in a worker"

    assert known =~ ~r/^  2 .*it hangs/m

    for why <- ["it is skipped there", "its class is not set up", "it ends what", "the module ends"],
        do: assert(known =~ ~r/^  1 .*#{why}/m, printed)

    assert section(printed, "Known, and gone (the tests were run, and passed)") == "  " <> String.trim(gone)

    assert section(printed, "These do not pass in a plain Python, and do in a worker") =~
             "#{@isolation}, test_toy.Differs.test_passes: AssertionError"
  end

  test "a difference that is not known, also for another reason or isolation, is the status 1", %{
    folder: folder
  } do
    known =
      String.replace(
        @known,
        "#{@isolation} | test_toy.NotSetUp.* | OSError",
        "threads | test_toy.NotSetUp.* | OSError"
      )
      |> String.replace("test_skipped | in a worker", "test_skipped | in a plain Python")

    {printed, status} = run(folder, known, "test_toy")
    assert status == 1, printed
    new = section(printed, "Not known")

    for name <- ["test_toy.NotSetUp.test_not_run", "test_toy.Differs.test_skipped"],
        do: assert(new =~ ~r/^    #{name}$/m, printed)

    refute new =~ "after_it"
    assert printed =~ "5 differences, 2 of them not known"
  end

  test "a line of the list that cannot be read is said with its place", %{folder: folder} do
    {printed, 1} = run(folder, "process | test_toy.*\n", "test_toy")
    assert printed =~ ~r/known.txt:1: a line has four columns/
  end
end
