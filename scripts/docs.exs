# scripts/docs says what this does.

Code.require_file("docs_blocks.exs", __DIR__)
Code.require_file("docs_walk.exs", __DIR__)

defmodule Typhon.Docs do
  @moduledoc false

  alias Typhon.{DocsBlocks, DocsWalk}
  alias Typhon.DocsBlocks.Failed

  @root File.cwd!()
  @page_timeout 60_000

  def main([venv | files]) do
    Logger.configure(level: :none)
    # Pages about a drop-in are read by those who have it.
    for folder <- Path.wildcard("compat/*"), do: Code.append_path(compiled(Path.basename(folder)))
    ExUnit.start(autorun: false)
    deconsolidate()
    work = Path.join(System.tmp_dir!(), "typhon-docs-#{System.pid()}")
    File.mkdir_p!(work)

    files = if files == [], do: all(), else: Enum.uniq(DocsWalk.with_those_before(files) ++ files)
    pages = for file <- files, page <- DocsBlocks.pages(file), page != [], do: page
    blocks = Enum.concat(pages)

    failures =
      try do
        facts() ++
          Enum.flat_map(files, &(links(&1) ++ functions(&1))) ++
          Enum.flat_map(blocks, &check/1) ++ python(blocks, venv) ++ run(pages, venv, work)
      after
        File.rm_rf!(work)
      end

    IO.puts(Enum.map(failures, &[&1, "\n"]))
    IO.puts("docs: #{length(blocks)} blocks of #{length(files)} files, #{length(failures)} failures")
    if failures != [], do: exit({:shutdown, 1})
  end

  defp compiled(application), do: Path.join([Mix.Project.build_path(), "lib", application, "ebin"])

  defp run(pages, venv, work) do
    {walk, others} = Enum.split_with(pages, &DocsWalk.walk?/1)
    Enum.flat_map(others, &run_page(&1, venv, work)) ++ DocsWalk.run(walk, venv, work)
  end

  # Pages implement protocols, which a project does before they are consolidated.
  defp deconsolidate do
    :code.del_path(String.to_charlist(Mix.Project.consolidation_path()))
    :code.purge(Typhon.Encoder)
    :code.delete(Typhon.Encoder)
  end

  defp all do
    ["README.md", "CONTRIBUTING.md"] ++
      Enum.flat_map(["docs/*.md", "compat/*/*.md", "lib/**/*.{ex,md}"], &Path.wildcard/1)
  end

  # --- what holds without running anything ---

  # The version stands in several places, and what it brings in the changelog.
  defp facts do
    version = Mix.Project.config()[:version]
    released = Regex.run(~r/^## \[(\d.*?)\]/m, File.read!("CHANGELOG.md"), capture: :all_but_first)

    places = [
      {released, "CHANGELOG.md's newest release"},
      {Regex.run(~r/VERSION ([\d.]+) LANG/, File.read!("CMakeLists.txt"), capture: :all_but_first),
       "CMakeLists.txt"},
      {Regex.run(~r/tag: "v([^"]+)"/, File.read!("README.md"), capture: :all_but_first), "README.md's tag"}
    ]

    others =
      for {said, place} <- places,
          said != [version],
          do: "mix.exs: the version is #{version}, and #{place} says #{said || "none"}"

    missing =
      for file <- packaged(), not File.exists?(file), do: "mix.exs: the package's #{file} is not there"

    others ++ missing
  end

  defp packaged, do: Mix.Project.config()[:package][:files]

  # A link of a page leads to a file, and to a heading in it. Whoever has the package can follow README's.
  defp links(file) do
    for [_, target] <- Regex.scan(~r/\]\(([^)\s]+)\)/, File.read!(file)),
        Path.extname(file) == ".md" and not String.contains?(target, ":"),
        problem = link(file, String.split(target, "#")) do
      "#{file}: the link to #{target} #{problem}"
    end
  end

  defp link(file, [target | anchor]) do
    path =
      if target == "",
        do: file,
        else: [Path.dirname(file), target] |> Path.join() |> Path.expand() |> Path.relative_to(@root)

    cond do
      not File.exists?(path) ->
        "leads nowhere"

      file == "README.md" and not Enum.any?(packaged(), &(path == &1 or String.starts_with?(path, &1 <> "/"))) ->
        "leads out of the package"

      anchor != [] and hd(anchor) not in anchors(path) ->
        "leads to no heading"

      true ->
        nil
    end
  end

  defp anchors(path) do
    page = File.read!(path)
    named = for [_, id] <- Regex.scan(~r/<a id="([^"]+)">/, page), do: id

    for [_, heading] <- Regex.scan(~r/^#+ (.+)$/m, page), reduce: named do
      found ->
        slug = heading |> String.downcase() |> String.replace(~r/[^\p{L}\p{N} -]/u, "")
        [String.replace(slug, " ", "-") | found]
    end
  end

  # `Typhon.call/5` is there.
  defp functions(file) do
    for [_, module, name, arity] <-
          Regex.scan(~r/`(Typhon[\w.]*)\.([a-z]\w*[!?]?)\/(\d+)`/, File.read!(file)),
        module = Module.concat([module]),
        not Code.ensure_loaded?(module) or not exported?(module, name, String.to_integer(arity)) do
      "#{file}: there is no function #{inspect(module)}.#{name}/#{arity}"
    end
  end

  defp exported?(module, name, arity),
    do: Enum.any?(module.module_info(:exports), &(&1 == {String.to_atom(name), arity}))

  defp check(%{language: language} = block) do
    case language do
      "" ->
        DocsBlocks.failed(
          block.path,
          block.line - 1,
          "this block does not say what it is; `text`, if it is no code"
        )

      "elixir" ->
        DocsBlocks.parse!(block)

      "erlang" ->
        erlang!(block)

      "sh" ->
        shell!(block)

      "iex" ->
        doctest!(block)

      _ ->
        :ok
    end

    []
  rescue
    error in Failed -> [error.message]
  end

  defp doctest!(block) do
    [_, module] = Regex.run(~r/^def(?:module|protocol) (\S+) do$/m, File.read!(block.path))

    tested? =
      Enum.any?(Path.wildcard("test/**/*_test.exs"), &(File.read!(&1) =~ ~r/^  doctest #{module}\b(?!\.)/m))

    tested? || DocsBlocks.failed(block.path, block.line, "no test has doctest #{module}")
  end

  defp shell!(block) do
    {output, status} = System.cmd("bash", ["-n", "-c", block.code], stderr_to_stdout: true)
    status == 0 || DocsBlocks.failed(block.path, block.line, output)

    for {line, number} <- block.code |> String.split("\n") |> Enum.with_index(block.line),
        command <- String.split(line, ~r/\s(&&|\|)\s|;\s/),
        words = words(command),
        problem = problem(words),
        do: DocsBlocks.failed(block.path, number, problem)
  end

  # Without variables in front and without a comment.
  defp words(command) do
    ~r/"[^"]*"|'[^']*'|\S+/
    |> Regex.scan(command)
    |> List.flatten()
    |> Enum.take_while(&(not String.starts_with?(&1, "#")))
    |> Enum.drop_while(&(&1 =~ ~r/^\w+=/))
  end

  defp problem(["make", target | _]) do
    {output, status} = System.cmd("make", ["--dry-run", target], stderr_to_stdout: true)
    if status != 0, do: output
  end

  defp problem(["mix", task | _]) do
    if Mix.Task.get(task) == nil, do: "mix has no task #{task}"
  end

  defp problem(["scripts/" <> _ = script | _]) do
    if System.find_executable(Path.expand(script)) == nil, do: "#{script} is not there"
  end

  defp problem(_words), do: nil

  # All blocks of Python by one Python.
  defp python(blocks, venv) do
    {:ok, py} = Typhon.start_link(workers: 1, python: venv)

    failures =
      for %{language: "python"} = block <- blocks,
          code = String.duplicate("\n", block.line - 1) <> block.code,
          {:error, error} <- [Typhon.call(py, :builtins, :compile, [code, block.path, "exec"])],
          do: "#{block.path}:#{block.line}: #{Exception.message(error)}"

    Typhon.stop(py)
    failures
  end

  # --- pages that run in this VM ---

  defp run_page([first | _] = page, venv, work) do
    folder = Path.join(work, "page")
    File.rm_rf!(folder)
    File.mkdir_p!(Path.join(folder, "priv/py"))
    File.ln_s!(venv, Path.join(folder, ".venv"))
    {:ok, output} = StringIO.open("")
    {pid, failures} = File.cd!(folder, fn -> page |> start(output) |> outcome(first) end)
    leave(pid)
    {_, printed} = StringIO.contents(output)
    for failure <- failures, do: if(printed == "", do: failure, else: "#{failure}\nIt printed: #{printed}")
  end

  defp start(page, output) do
    main = self()

    spawn_monitor(fn ->
      Process.group_leader(self(), output)
      send(main, {self(), follow(page)})
      # The pools that it has started are linked to it.
      receive do: (:leave -> exit(:shutdown))
    end)
  end

  defp outcome({pid, monitor}, %{path: path, line: line}) do
    receive do
      {^pid, failures} ->
        {pid, failures}

      {:DOWN, ^monitor, _, _, reason} ->
        {pid, ["#{path}:#{line}: what runs this page ended: #{inspect(reason)}"]}
    after
      @page_timeout -> {pid, ["#{path}:#{line}: this page did not end in #{div(@page_timeout, 1_000)} s"]}
    end
  end

  # The next page may have a pool of the same name.
  defp leave(pid) do
    {:links, links} = Process.info(pid, :links) || {:links, []}
    monitors = for pid <- [pid | links], is_pid(pid), do: Process.monitor(pid)
    send(pid, :leave)
    for monitor <- monitors, do: receive(do: ({:DOWN, ^monitor, _, _, _} -> :ok), after: (10_000 -> :ok))
    Process.exit(pid, :kill)
  end

  defp follow(page) do
    page = Enum.reject(page, & &1.skip)
    for %{name: name} = block when name != nil <- page, do: DocsBlocks.write(block, name)
    # A script that is a file (mix.exs, a test) is for a project to run.
    DocsBlocks.evaluate!(for %{language: "elixir"} = block <- page, not script?(block.name), do: block)
    Enum.reduce(page, [], &erlang/2)
    tests(page)
  rescue
    error in Failed -> [error.message]
  end

  # Cases that the page has defined. What ExUnit says is printed.
  defp tests([%{path: path, line: line} | _] = page) do
    with true <- Enum.any?(page, &(&1.code =~ "use ExUnit.Case")),
         %{failures: failures, total: total} when failures > 0 or total == 0 <- ExUnit.run() do
      ["#{path}:#{line}: of #{total} tests of this page #{failures} fail"]
    else
      _ -> []
    end
  end

  defp tests([]), do: []

  defp script?(name), do: name != nil and Path.extname(name) == ".exs"

  # --- Erlang ---

  # Forms of a module, or expressions that can run.
  defp erlang!(block) do
    block
    |> erlang_tokens()
    |> Enum.chunk_while(
      [],
      fn
        {:dot, _} = dot, tokens -> {:cont, Enum.reverse([dot | tokens]), []}
        token, tokens -> {:cont, [token | tokens]}
      end,
      fn
        [] -> {:cont, []}
        tokens -> {:cont, Enum.reverse(tokens), []}
      end
    )
    |> Enum.map(fn tokens ->
      with {:error, error} <- :erl_parse.parse_exprs(tokens),
           {:error, _} <- :erl_parse.parse_form(tokens),
           do: not_erlang(block, error)
    end)
  end

  defp erlang_tokens(block) do
    case :erl_scan.string(String.to_charlist(block.code), block.line) do
      {:ok, tokens, _} -> tokens
      {:error, error, _} -> not_erlang(block, error)
    end
  end

  defp not_erlang(block, {line, module, message}),
    do: DocsBlocks.failed(block.path, line, "this is not Erlang: #{module.format_error(message)}")

  defp erlang(%{language: "erlang"} = block, bindings) do
    for {:ok, [expression | _] = expressions} when is_tuple(expression) <- erlang!(block),
        elem(expression, 0) not in [:attribute, :function],
        reduce: bindings do
      bindings -> elem(:erl_eval.exprs(expressions, bindings), 1)
    end
  rescue
    error in ErlangError -> DocsBlocks.failed(block.path, block.line, Exception.message(error))
    error in MatchError -> DocsBlocks.failed(block.path, block.line, Exception.message(error))
  end

  defp erlang(_block, bindings), do: bindings
end

Typhon.Docs.main(System.argv())
