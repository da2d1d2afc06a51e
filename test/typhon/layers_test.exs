defmodule Typhon.LayersTest do
  # What scripts/check-layers says of a source, and what the compiler finds.
  use ExUnit.Case, async: true

  @moduletag :tmp_dir
  @script Path.expand("../../scripts/check-layers", __DIR__)

  # `files`: paths under native/, with what they hold.
  defp check(dir, files) do
    native = Path.join(dir, "native")

    for {path, text} <- files do
      path = Path.join(native, path)
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, text)
    end

    {text, status} = System.cmd(@script, [native])
    File.rm_rf!(native)
    complaints = text |> String.split("\n", trim: true) |> Enum.drop(-1)
    assert status == if(complaints == [], do: 0, else: 1)
    complaints
  end

  @of_few_systems [
    "#include <sys/syscall.h>",
    "# include <linux/futex.h>",
    "#include <malloc.h>",
    "#include <sys/eventfd.h>",
    "#include <sys/mman.h>",
    "::syscall(number);",
    "int number = SYS_gettid;",
    "int fd = memfd_create(name, 0);",
    "madvise(at, size, MADV_REMOVE);",
    "auto limit = static_cast<__rlimit_resource_t>(2);",
    "malloc_trim(0);",
    "using F = struct mallinfo2 (*)();",
    "clock_gettime(CLOCK_MONOTONIC_COARSE, &now);",
    "open(\"/proc/self/statm\", 0);"
  ]

  # Each line in a source of its own, as its second line.
  defp sources(layers) do
    for layer <- layers, {line, i} <- Enum.with_index(@of_few_systems), into: %{} do
      {"#{layer}/x#{i}.cpp", "int a;\n" <> line <> "\n"}
    end
  end

  test "what only Linux or glibc has is named in native/os and native/embed alone", %{tmp_dir: dir} do
    sources = sources(~w(base etf channel python worker executor launch beam ruby fuzz))
    complaints = check(dir, sources)
    assert length(complaints) == map_size(sources)
    for {path, _} <- sources, do: assert(Enum.any?(complaints, &(&1 =~ "native/#{path}:2: ")), path)
    assert check(dir, sources(~w(os embed))) == []
  end

  test "what every system has may be used everywhere", %{tmp_dir: dir} do
    text = """
    #include <fcntl.h>
    #include <poll.h>
    #include <pthread.h>
    #include <unistd.h>
    // memfd_create, and MADV_REMOVE: a comment may explain
    /* SYS_futex
       too */
    list.splice(list.end(), other);
    int my_eventfd_count = clock_gettime(CLOCK_MONOTONIC, &now);
    """

    assert check(dir, %{"channel/x.cpp" => text}) == []
  end

  test "a line's number is the source's, also behind a comment of several lines", %{tmp_dir: dir} do
    assert ["native/beam/x.cpp:4: not every system has SYS_futex" <> _] =
             check(dir, %{"beam/x.cpp" => "/* one\n two\n */\nint a = SYS_futex;\n"})
  end

  test "a test may look at /proc, and calls nothing of Linux's for that", %{tmp_dir: dir} do
    for test <- ["channel/x_test.cpp", "testing/x.h"],
        do: assert(check(dir, %{test => "open(\"/proc/self/maps\", 0);"}) == [])

    assert [_] = check(dir, %{"channel/x_test.cpp" => "gettid();"})
  end

  test "a header is named from native/ on", %{tmp_dir: dir} do
    with_header = &Map.put(%{"os/a.h" => ""}, "channel/x.cpp", &1)
    assert check(dir, with_header.("#include \"os/a.h\"\n")) == []

    for header <- ["nowhere.h", "a.h", "../os/a.h", "channel/../os/a.h", Path.join(dir, "native/os/a.h")] do
      assert [complaint] = check(dir, with_header.("#include \"#{header}\"\n"))
      assert complaint =~ "write \"layer/file.h\""
    end

    assert [_] = check(dir, with_header.("#include <channel/../os/a.h>\n"))
  end

  test "headers of a host belong to few, and share their names with nobody", %{tmp_dir: dir} do
    for header <- ["Python.h", "erl_nif.h", "ruby/thread.h"] do
      assert [complaint] = check(dir, %{"channel/x.cpp" => "#include <#{header}>"})
      assert complaint =~ header
    end

    assert check(dir, %{"os/thread.h" => "", "channel/x.cpp" => "#include \"os/thread.h\""}) == []
    assert check(dir, %{"ruby/x.cpp" => "#include <ruby/thread.h>"}) == []
  end

  @tree Path.expand("../..", __DIR__)

  # A header of each layer that needs no host, and the layers whose sources find it.
  @found_by %{
    "base/bytes.h" => ~w(channel etf os worker),
    "os/clock.h" => ~w(channel os worker),
    "etf/writer.h" => ~w(etf worker),
    "channel/layout.h" => ~w(channel worker),
    "worker/forked.h" => ~w(worker),
    "testing/channel.h" => [],
    "beam/nif.h" => [],
    "executor/worker.h" => [],
    "python/codec.h" => []
  }

  test "the compiler finds headers of layers that are depended on, and of no other", %{tmp_dir: dir} do
    {_, 0} = System.cmd("cmake", ["-S", @tree, "-B", dir, "-DTYPHON_HOSTS=OFF"], stderr_to_stdout: true)

    commands = File.read!(Path.join(dir, "compile_commands.json"))
    assert map_size(@found_by) > 0

    for layer <- ~w(channel etf os worker), {header, found_by} <- @found_by do
      [command] =
        Regex.run(~r/"command": "(.*?) -o \S+ -c \S+native\/#{layer}\//, commands, capture: :all_but_first)

      source = Path.join(dir, "x.cpp")
      File.write!(source, "#include \"#{header}\"\n")
      {text, status} = System.cmd("sh", ["-c", "#{command} -fsyntax-only #{source}"], stderr_to_stdout: true)

      if layer in found_by do
        assert {layer, header, status, text} == {layer, header, 0, text}
      else
        assert {layer, header, text =~ "#{header}: No such file" or text =~ "'#{header}' file not found"} ==
                 {layer, header, true}

        assert status != 0
      end
    end
  end

  test "a layer that depends on one above it is an error that says so", %{tmp_dir: dir} do
    File.write!(Path.join(dir, "CMakeLists.txt"), """
    cmake_minimum_required(VERSION 3.25)
    project(upwards LANGUAGES C CXX)
    include(#{@tree}/cmake/TyphonTargets.cmake)
    typhon_library(low DEPENDS typhon::high)
    typhon_library(high)
    """)

    {text, 1} = System.cmd("cmake", ["-S", dir, "-B", Path.join(dir, "build")], stderr_to_stdout: true)
    assert text =~ "typhon::low depends on typhon::high, which is not below it"
  end
end
