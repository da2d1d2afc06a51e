Code.require_file("bytecode.exs", __DIR__)

defmodule Mix.Tasks.Compile.TyphonNative do
  @moduledoc false
  # Builds the native parts with CMake and installs them into priv/.
  #
  # CMake configures `_build/native/<preset>` once, and again when a stamp beside it says that what it was given has
  # changed (another OTP, another generator), when there is another Ruby or its headers have come, when Python's have gone, and
  # with --force. Each compile then costs one build without work and one install that copies nothing.
  #
  #   TYPHON_PRESET  the CMake preset, "release" unless set (see CMakePresets.json); "asan-ubsan" needs the
  #                  sanitizer's run-time library preloaded into the BEAM, see CONTRIBUTING.md
  #   TYPHON_CMAKE   further arguments for the configure step, separated by spaces
  #   TYPHON_FREE_THREADED  free-threaded Pythons (their interpreters, separated by colons) beside those that are found.
  #                  Each needs a build of the native module of its own; without one nothing is built for them

  use Mix.Task.Compiler

  alias Mix.Task.Compiler.Diagnostic
  alias Typhon.Mix.Bytecode

  @packages "cmake 3.25 or newer, a C++20 compiler (g++ 12 or clang 14), zlib's headers, Python 3.11 or newer with its " <>
              "headers, and Erlang's headers.\n" <>
              "On Debian:  apt-get install cmake ninja-build g++ zlib1g-dev python3-dev erlang-dev\n" <>
              "In Typhon's own tree `make setup` does it."

  @impl true
  def run(args) do
    # Two compiles of one tree at once (an editor's and a terminal's) would run two builds in one folder.
    File.mkdir_p!("_build/native")

    with :ok <- requirements(),
         :ok <- configure("--force" in args),
         {:ok, warnings} <- build(),
         {:ok, changed?} <- install() do
      precompile(changed?)
      remove_erlang()
      Mix.Project.build_structure()
      {if(changed?, do: :ok, else: :noop), warnings}
    else
      {:error, diagnostics} -> {:error, diagnostics}
    end
  end

  @impl true
  def clean do
    File.rm_rf!(build_dir())
    File.rm_rf!("priv/typhon_nif.so")
    File.rm_rf!("priv/typhon_launch")
    File.rm_rf!("priv/python")
    File.rm_rf!("priv/ruby")
  end

  defp preset, do: System.get_env("TYPHON_PRESET", "release")
  defp build_dir, do: Path.expand("_build/native/#{preset()}")
  defp erts_include_dir, do: Path.join(:code.root_dir(), "usr/include")

  defp requirements do
    cond do
      System.find_executable("cmake") == nil ->
        failure("cmake was not found, and Typhon's native parts are built with it.")

      not File.exists?(Path.join(erts_include_dir(), "erl_nif.h")) ->
        failure("Erlang's header erl_nif.h is not in #{erts_include_dir()}.")

      true ->
        :ok
    end
  end

  defp configure(force?) do
    ninja = System.find_executable("ninja")

    args =
      ["--preset", preset(), "-DERTS_INCLUDE_DIR=#{erts_include_dir()}"] ++
        if(ninja, do: ["-G", "Ninja"], else: ["-G", "Unix Makefiles"]) ++
        for(python <- [Enum.join(free_threaded(), ";")], python != "", do: "-DTYPHON_FREE_THREADED=#{python}") ++
        String.split(System.get_env("TYPHON_CMAKE", ""))

    stamp = Enum.join([System.find_executable("cmake"), ninja || "make", File.cwd!() | args], "\n")

    cond do
      File.read(stamp_file()) != {:ok, stamp} ->
        # A cache made by another generator or for another place cannot be used again.
        File.rm_rf!(build_dir())
        Mix.shell().info("Compiling the native parts of Typhon (the first time takes a minute)")
        configure(args, stamp)

      # What was compiled stays; what CMake has found, or has not found, is looked for again.
      force? or File.read(found_file()) != {:ok, found(build_dir())} ->
        configure(["--fresh" | args], stamp)

      true ->
        :ok
    end
  end

  defp configure(args, stamp) do
    # Not part of the stamp: a build that was made with one Python serves the others.
    case cmake(args ++ python_with_gil()) do
      {_, 0} ->
        File.write!(stamp_file(), stamp)
        File.write!(found_file(), found(build_dir()))
        :ok

      {output, _} ->
        # The next compile begins again.
        File.rm(stamp_file())
        failure("CMake could not configure Typhon's native parts.", output)
    end
  end

  defp stamp_file, do: Path.join(build_dir(), "typhon-configured")
  defp found_file, do: Path.join(build_dir(), "typhon-found")

  @doc false
  # What a build leaves out when it is not there, and what may go after it. Each may change without anybody telling the build.
  @spec found(Path.t()) :: String.t()
  def found(build_dir), do: "#{ruby()}\n#{python_headers(build_dir)}"

  @ruby_facts "print RbConfig::CONFIG['ruby_version'], ' ', File.exist?(File.join(RbConfig::CONFIG['rubyhdrdir'].to_s, 'ruby.h'))"

  defp ruby do
    with ruby when ruby != nil <- System.find_executable("ruby"),
         {facts, 0} <-
           System.cmd(Path.expand(ruby), ["-rrbconfig", "-e", @ruby_facts], stderr_to_stdout: true) do
      "#{Path.expand(ruby)} #{facts}"
    else
      _ -> "no ruby"
    end
  end

  defp python_headers(build_dir) do
    with {:ok, cache} <- File.read(Path.join(build_dir, "CMakeCache.txt")),
         [_, folder] <- Regex.run(~r/^_Python3_INCLUDE_DIR:[A-Z]+=(.+)$/m, cache) do
      "#{folder} #{File.exists?(Path.join(folder, "Python.h"))}"
    else
      _ -> "no headers of Python"
    end
  end

  # A Python's facts: whether it has a GIL, whether it has headers, and what it is called outside of a virtualenv, so that
  # one that is active or not makes no difference.
  @facts "import os, sys, sysconfig; " <>
           "print(sysconfig.get_config_var('Py_GIL_DISABLED') or 0, " <>
           "int(os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h'))), " <>
           "os.path.realpath(getattr(sys, '_base_executable', sys.executable)))"

  defp facts(nil), do: nil

  defp facts(python) do
    # The PATH may have folders relative to this one, and names of what is gone.
    python = Path.expand(python)

    with true <- File.exists?(python),
         {answer, 0} <- System.cmd(python, ["-I", "-c", @facts], stderr_to_stdout: true),
         [no_gil, headers, base] <- answer |> String.trim() |> String.split(" ", parts: 3) do
      %{gil: no_gil == "0", headers: headers == "1", executable: base}
    else
      _ -> nil
    end
  end

  # Those without a GIL by their names, so that nothing has to be run where there is none.
  @free_threaded_names ["python3" | for(minor <- 13..19, do: "python3.#{minor}t")]

  defp free_threaded do
    found =
      Enum.map(@free_threaded_names, &System.find_executable/1) ++
        Path.wildcard(Path.join(Bytecode.pyenv(), "*t/bin/python3")) ++
        Path.wildcard(Path.join(Bytecode.home(), ".local/share/uv/python/*+freethreaded*/bin/python3"))

    # One that was named and cannot be used is an error that CMake words.
    named = "TYPHON_FREE_THREADED" |> System.get_env("") |> String.split(":", trim: true)

    Enum.uniq(
      named ++ for(%{gil: false, headers: true} = facts <- Enum.map(found, &facts/1), do: facts.executable)
    )
  end

  # For CMake, which would take the `python3` of the path: another where that one is free-threaded.
  defp python_with_gil do
    case facts(System.find_executable("python3")) do
      %{gil: false} ->
        candidates =
          Enum.map(11..19, &System.find_executable("python3.#{&1}")) ++
            ["/usr/bin/python3", "/usr/local/bin/python3"] ++
            Enum.sort(Path.wildcard(Path.join(Bytecode.pyenv(), "*/bin/python3")), :desc)

        Enum.find_value(candidates, [], fn python ->
          with %{gil: true, headers: true, executable: executable} <- facts(python),
               do: ["-DPython3_EXECUTABLE=#{executable}"],
               else: (_ -> nil)
        end)

      _ ->
        []
    end
  end

  defp precompile(changed?) do
    stamp_file = Path.join(build_dir(), "typhon-precompiled")
    stamp = Enum.join(Bytecode.pythons(), "\n")

    if changed? or File.read(stamp_file) != {:ok, stamp} do
      Bytecode.compile(Path.expand("priv/python"))
      File.write!(stamp_file, stamp)
    end
  end

  defp build do
    jobs = Integer.to_string(System.schedulers_online())

    {output, status} = cmake(["--build", build_dir(), "--parallel", jobs])

    case {in_sources(output, build_dir()), status} do
      {output, 0} ->
        warnings = diagnostics(output)

        for warning <- warnings,
            do: Mix.shell().info("#{warning.file}:#{warning.position}: #{warning.message}")

        {:ok, warnings}

      {output, _} ->
        failure("Typhon's native parts do not build.", output)
    end
  end

  @doc false
  # The compiler finds headers through links in the build's folder (typhon_sees in cmake/TyphonTargets.cmake): its messages,
  # with what they name where it is written.
  @spec in_sources(String.t(), Path.t()) :: String.t()
  def in_sources(output, build_dir) do
    links = Regex.compile!("(?:#{Regex.escape(build_dir)}/|(?<![\\w./-]))include/(\\w+)/\\1/")
    Regex.replace(links, output, fn _, folder -> Path.expand("native/#{folder}") <> "/" end)
  end

  # Copies only what differs, and removes what the last install left and this one has no more.
  defp install do
    manifest = Path.join(build_dir(), "install_manifest.txt")
    before = installed(manifest)

    case cmake(["--install", build_dir(), "--prefix", Path.expand("priv")]) do
      {output, 0} ->
        stale = before -- installed(manifest)
        Enum.each(stale, &remove/1)
        {:ok, stale != [] or output =~ "-- Installing: "}

      {output, _} ->
        failure("Typhon's native parts cannot be installed into #{Path.expand("priv")}.", output)
    end
  end

  # With the bytecode that a module has left, and its folder when that was the last: Python takes a folder for a package.
  defp remove(file) do
    folder = Path.dirname(file)
    bytecode = Path.join(folder, "__pycache__")

    for old <- [file | Path.wildcard(Path.join(bytecode, Path.basename(file, ".py") <> ".*.pyc"))],
        do: File.rm(old)

    for emptied <- [bytecode, folder], do: File.rmdir(emptied)
  end

  # ErlPort's interface was here before it was compat/erlport. Mix leaves what it has made of sources in Erlang when there are
  # none any more, and would go on to list it as this application's.
  defp remove_erlang do
    names = "{erlport,python,python_*,ruby,ruby_*,typhon_erlport*}.{app,beam}"
    Mix.Project.compile_path() |> Path.join(names) |> Path.wildcard() |> Enum.each(&File.rm/1)
  end

  defp installed(manifest) do
    case File.read(manifest) do
      {:ok, text} -> String.split(text, "\n", trim: true)
      {:error, _} -> []
    end
  end

  # One build at a time in a folder, where util-linux' flock is there to see to it.
  defp cmake(args) do
    {program, args} =
      case System.find_executable("flock") do
        nil -> {"cmake", args}
        flock -> {flock, [Path.expand("_build/native/lock"), "cmake" | args]}
      end

    System.cmd(program, args, stderr_to_stdout: true)
  end

  defp failure(sentence, output \\ "") do
    output = String.trim_trailing(output)
    Mix.shell().error(Enum.join([output, sentence, "The build needs #{@packages}"], "\n\n"))

    found = for diagnostic <- diagnostics(output), diagnostic.severity == :error, do: diagnostic

    {:error,
     if(found == [], do: [diagnostic(Path.expand("CMakeLists.txt"), nil, :error, sentence)], else: found)}
  end

  defp diagnostics(output) do
    ~r/^(\S[^:\n]*):(\d+):(?:\d+:)? (error|warning): (.*)$/m
    |> Regex.scan(output, capture: :all_but_first)
    |> Enum.uniq()
    |> Enum.map(fn [file, line, severity, message] ->
      diagnostic(
        Path.expand(file, build_dir()),
        String.to_integer(line),
        String.to_existing_atom(severity),
        message
      )
    end)
  end

  defp diagnostic(file, line, severity, message) do
    %Diagnostic{
      compiler_name: "TyphonNative",
      file: file,
      position: line || 0,
      severity: severity,
      message: message
    }
  end
end
