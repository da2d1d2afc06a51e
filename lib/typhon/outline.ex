defmodule Typhon.Outline do
  @moduledoc false
  # What Python code is made of, for Elixir's compiler: python/typhon/_outline.py says it, run by the Python that is
  # at hand. Nothing of the code runs, and nothing that it imports is imported. A Python that hangs is killed, and not
  # asked again by this VM.

  alias Typhon.{Native, Program}
  alias Typhon.Language.Python

  @default_timeout 20_000
  # As eval has it.
  @most_code 1_048_576

  @type names :: %{reads: [String.t()], assigns: [String.t()]}
  @type place :: {String.t(), pos_integer}

  @doc "Raises CompileError, with its place, for what is no Python. `:none`: there is no Python to ask."
  @spec names!(String.t(), place) :: {:ok, names} | :none
  def names!(code, {file, line} = place) do
    check!(code, place)

    case ask("names", code, [file, Integer.to_string(line)]) do
      {:ok, answer} -> {:ok, %{reads: answer["reads"], assigns: answer["assigns"]}}
      {:syntax_error, error, python} -> raise syntax_error(error, python, place)
      :none -> :none
    end
  end

  @typedoc "What a module has for others: the functions as _outline.py describes them, and the file they are read from."
  @type functions :: %{functions: [map], path: String.t() | nil, doc: String.t() | nil}

  @doc "Raises CompileError when they cannot be read."
  @spec functions!({:code, String.t()} | {:file, String.t()} | {:module, String.t(), [String.t()]}, place) ::
          functions
  def functions!(source, {file, line} = place) do
    answer =
      case source do
        {:code, code} ->
          check!(code, place)
          ask("functions", code, [file, Integer.to_string(line)])

        {:file, path} ->
          ask("functions_of_file", path, [])

        {:module, module, folders} ->
          ask("functions_of_module", Enum.join([module | folders], "\0"), [])
      end

    case answer do
      {:ok, %{"refused" => reason}} ->
        raise CompileError, file: file, line: line, description: reason

      {:ok, answer} ->
        %{functions: answer["functions"], path: answer["path"], doc: answer["doc"]}

      {:syntax_error, error, python} ->
        raise syntax_error(error, python, place)

      :none ->
        description =
          "functions are made of Python's source, which a Python reads, #{Python.minimum()} or newer, " <>
            "and there was none: python3 on the PATH, or what config :typhon, compile_python: names. " <>
            "mix typhon.gen.wrapper writes them as source in Elixir"

        raise CompileError, file: file, line: line, description: description
    end
  end

  @spec check!(term, place) :: :ok
  def check!(code, {file, line}) do
    problem =
      cond do
        not is_binary(code) -> "the code must be a string, got #{inspect(code)}"
        not String.valid?(code) -> "the code is not UTF-8"
        byte_size(code) > @most_code and characters(code) > @most_code -> too_long(characters(code))
        true -> nil
      end

    if problem, do: raise(CompileError, file: file, line: line, description: problem), else: :ok
  end

  # As Python counts them.
  defp characters(code), do: code |> String.codepoints() |> length()

  defp too_long(length) do
    "the code has #{length} characters, and eval takes #{@most_code} at most: data belong into the bindings, and a program " <>
      "of this size into a file (Typhon.exec_file/3) or a module"
  end

  @doc "As Python shows it, with the place as Elixir shows it."
  @spec syntax_error(map, String.t(), place) :: Exception.t()
  def syntax_error(%{"type" => type, "message" => message} = error, python, {file, line}) do
    text = error["text"]

    shown =
      if text && String.trim(text) != "" do
        stripped = String.trim_leading(text)
        spaces = (error["offset"] || 1) - 1 - (String.length(text) - String.length(stripped))
        ["    " <> stripped, "    " <> String.duplicate(" ", max(spaces, 0)) <> "^"]
      else
        []
      end

    description =
      ["this is no Python: #{message} (#{type})"]
      |> Enum.concat(shown)
      |> Enum.concat(error["notes"])
      |> Enum.concat([
        "(says #{python}; config :typhon, compile_python: names another one, or false for none)"
      ])
      |> Enum.join("\n")

    file = if error["file"], do: Path.relative_to_cwd(error["file"]), else: file
    %CompileError{file: file, line: error["line"] || line, description: description}
  end

  # --- asking ---

  @doc "The answer to a question about a text."
  @spec ask(String.t(), String.t(), [String.t()]) ::
          {:ok, map} | {:syntax_error, map, String.t()} | :none
  def ask(what, text, args) do
    with {:ok, path} <- python() do
      key = {__MODULE__, path}

      if :persistent_term.get(key, :usable) == :usable do
        with {:unusable, why} <- in_folder(&run(path, what, text, args, &1)) do
          :persistent_term.put(key, :unusable)
          IO.warn("Python code is compiled without a look at it: #{path} #{why}", [])
          :none
        end
      else
        :none
      end
    end
  end

  defp python do
    case Application.get_env(:typhon, :compile_python) do
      false ->
        :none

      nil ->
        found("python3")

      python when is_binary(python) ->
        found(python)

      other ->
        raise ArgumentError,
              "config :typhon, compile_python: takes what python: takes, or false, got #{inspect(other)}"
    end
  end

  defp found(python) do
    with {:error, _} <- Python.find(python, File.cwd!()), do: :none
  end

  defp in_folder(fun) do
    name = "typhon-#{System.pid()}-#{System.system_time()}-#{System.unique_integer([:positive])}"

    with folder when is_binary(folder) <- System.tmp_dir(),
         folder = Path.join(folder, name),
         :ok <- File.mkdir(folder) do
      try do
        File.chmod(folder, 0o700)
        fun.(folder)
      after
        File.rm_rf(folder)
      end
    else
      _ -> {:unusable, "could not be asked: there is no folder for temporary files that can be written to"}
    end
  end

  defp run(path, what, text, args, folder) do
    source = Path.join(folder, "in")
    out = Path.join(folder, "out")
    script = Path.join([Native.priv_path("python"), "typhon", "_outline.py"])

    timeout = Application.get_env(:typhon, :compile_timeout, @default_timeout)

    with :ok <- File.write(source, text) do
      case Program.run(path, ["-I", "-B", "-W", "ignore", script, what, source, out | args], timeout) do
        :timeout -> {:unusable, "did not answer within #{timeout} ms"}
        {:error, reason} -> {:unusable, "could not be asked: #{Exception.format_exit(reason)}"}
        {said, status} -> out |> File.read() |> answer(said, status)
      end
    else
      {:error, reason} -> {:unusable, "could not be asked: #{source}: #{:file.format_error(reason)}"}
    end
  end

  defp answer({:ok, bytes}, _said, 0) do
    case :erlang.binary_to_term(bytes, [:safe]) do
      # It may not know the syntax.
      %{"too_old" => _version} -> :none
      %{"too_deep" => true} -> :none
      %{"syntax_error" => error, "python" => python} -> {:syntax_error, error, python}
      answer -> {:ok, answer}
    end
  end

  defp answer(_nothing, said, status),
    do:
      {:unusable,
       "exited with status #{status} when it was asked, and said: #{String.slice(said, -300, 300)}"}
end
