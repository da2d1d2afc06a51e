defmodule Typhon.BuildTest do
  # What the build looks for is looked for again when it is asked for, and what it has not found is said later.
  # Not async: it changes the PATH.
  use ExUnit.Case, async: false

  alias Mix.Tasks.Compile.TyphonNative

  @root Path.expand("../..", __DIR__)

  setup do
    dir = Typhon.TestHelper.new_path("build")
    on_exit(fn -> File.rm_rf!(dir) end)
    for folder <- ["bin", "include"], do: File.mkdir_p!(Path.join(dir, folder))
    # A Ruby whose headers lie in a folder of the test's.
    ruby = Path.join(dir, "bin/ruby")

    File.write!(ruby, """
    #!/bin/sh
    case "$*" in
      *File.exist*) [ -e #{dir}/include/ruby.h ] && printf '3.1.0 true' || printf '3.1.0 false';;
      *) printf '3.1.0;#{dir}/include;#{dir}/include;#{dir};#{dir};ruby';;
    esac
    """)

    File.chmod!(ruby, 0o755)
    {:ok, dir: dir, ruby: ruby}
  end

  test "mix compile notices a Ruby that has come, its headers, and those of Python that have gone", %{
    dir: dir
  } do
    path = System.get_env("PATH")
    on_exit(fn -> System.put_env("PATH", path) end)
    without = TyphonNative.found(dir)
    System.put_env("PATH", Path.join(dir, "bin") <> ":" <> path)
    with_ruby = TyphonNative.found(dir)
    File.touch!(Path.join(dir, "include/ruby.h"))
    with_headers = TyphonNative.found(dir)
    File.write!(Path.join(dir, "CMakeCache.txt"), "_Python3_INCLUDE_DIR:INTERNAL=#{dir}/include\n")
    without_python = TyphonNative.found(dir)
    File.touch!(Path.join(dir, "include/Python.h"))
    all = TyphonNative.found(dir)

    assert length(Enum.uniq([without, with_ruby, with_headers, without_python, all])) == 5
    assert TyphonNative.found(dir) == all
  end

  test "what the compiler says of a header names it where it is written" do
    said = fn header ->
      "In file included from x.cpp:1:\n#{header}:7:1: error: no, see /usr/include/etf/etf/a.h\n"
    end

    written = said.(Path.join(@root, "native/etf/a.h"))

    for header <- [
          "/b/release/include/etf/etf/a.h",
          "include/etf/etf/a.h",
          Path.join(@root, "native/etf/a.h")
        ],
        do: assert(TyphonNative.in_sources(said.(header), "/b/release") == written)
  end

  test "CMake looks for a Ruby again in a build that it has configured", %{dir: dir, ruby: ruby} do
    build = Path.join(dir, "build")

    arguments = [
      "-S",
      @root,
      "-B",
      build,
      "-DERTS_INCLUDE_DIR=#{:code.root_dir()}/usr/include",
      "-DTYPHON_RUBY=#{ruby}"
    ]

    {output, 0} = System.cmd("cmake", arguments, stderr_to_stdout: true)
    sentence = "the headers of #{ruby} were not there (#{dir}/include/ruby.h; Debian: ruby-dev)"
    assert output =~ "language: :ruby is left out: #{sentence}"
    assert File.read!(Path.join(build, "ruby/left_out")) == sentence

    File.touch!(Path.join(dir, "include/ruby.h"))
    {output, 0} = System.cmd("cmake", [build], stderr_to_stdout: true)
    refute output =~ "left out"
  end

  test "a Ruby that there is no extension for says what was missing, and what to do", %{dir: dir} do
    for file <- ["typhon.rb", "typhon/structs.rb"] do
      File.mkdir_p!(Path.dirname(Path.join(dir, file)))
      File.cp!(Path.join([@root, "ruby", file]), Path.join(dir, file))
    end

    load = fn -> System.cmd("ruby", [Path.join(dir, "typhon.rb")], stderr_to_stdout: true) end
    assert {output, 1} = load.()
    assert output =~ ~r/Typhon has no native extension for Ruby [\d.]+: cannot load such file/
    File.write!(Path.join(dir, "left_out"), "no ruby was on the PATH (Debian: ruby ruby-dev)")
    assert {output, 1} = load.()

    assert output =~
             ": when it was built, no ruby was on the PATH (Debian: ruby ruby-dev). It is built for the first ruby on the PATH"

    assert output =~ "mix deps.compile typhon --force"
  end
end
