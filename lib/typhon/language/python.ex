defmodule Typhon.Language.Python do
  @moduledoc false

  @behaviour Typhon.Language

  alias Typhon.{Language, Native, Program, PythonError, Variables}

  @minimum "3.11"

  # Runs on any Python, 2.7 included: it must be able to say that it is too old. What is after the minus sign is the contract of
  # docs/internals.md ("The worker process"). The current directory is no place to import from: what lies there by chance would
  # stand in for modules of the standard library.
  @bootstrap """
  import sys
  if sys.version_info < (3, 11):
      sys.stdout.write("Typhon needs Python 3.11 or newer, and %s is Python %s\\n" % (sys.executable, sys.version.split()[0]))
      sys.stdout.flush()
      sys.exit(96)
  if sys.path[0] == "":
      del sys.path[0]
  sys.path.insert(0, sys.argv[1])
  import typhon._worker
  sys.exit(typhon._worker.main())
  """

  @impl true
  def title, do: "Python"

  @impl true
  def minimum, do: @minimum

  @impl true
  def options, do: %{program: :python, paths: :python_path}

  @impl true
  def reasons, do: %{not_one: :not_python, too_old: :python_too_old}

  @impl true
  def known_by, do: %{file: ~r/py|thon/i, answer: ~r/python|pypy|graalpy/i}

  @impl true
  def takes, do: "a command on the PATH, or the path of an interpreter or a virtualenv"

  @impl true
  def find(python, cd) do
    tried = candidates(python, cd)

    case Enum.find_value(tried, &usable/1) do
      nil ->
        {:error,
         Language.start_error(
           :python,
           :python_not_found,
           python,
           "there is no Python #{inspect(python)}. Looked for #{Enum.map_join(tried, ", ", &describe/1)}. " <>
             advice(python, cd) <> "python: takes #{takes()}"
         )}

      path ->
        {:ok, path}
    end
  end

  defp candidates(python, cd) do
    path = Path.expand(python, cd)

    inside = [
      {:file, Path.join([path, "bin", "python"])},
      {:file, Path.join([path, "bin", "python3"])}
    ]

    cond do
      File.dir?(path) and String.contains?(python, "/") -> inside
      # "env" is a usual name of a virtualenv, and a command: the directory that is a virtualenv is meant.
      File.dir?(path) -> inside ++ [{:command, python}]
      String.contains?(python, "/") -> [{:file, path}]
      folder?(python) -> [{:folder, path}, {:command, python}]
      true -> [{:command, python}]
    end
  end

  # A name alone is that of a command, unless it looks like that of a virtualenv.
  defp folder?(name), do: name =~ ~r/^\.|env/i

  defp command?(name), do: name =~ ~r/^(python|pypy|graalpy)/

  # A virtualenv knows itself by the path of its interpreter: links are not followed.
  defp usable({:folder, _path}), do: nil

  defp usable({:file, path}), do: Program.find(path)
  defp usable({:command, name}), do: Program.find(name)

  defp describe({:folder, path}), do: "a virtualenv in #{path} (there is no such folder)"

  defp describe({:file, path}) do
    case File.read_link(path) do
      {:ok, target} ->
        if File.exists?(path), do: not_executable(path), else: "#{path} (a link to #{target}, which is gone)"

      {:error, _} ->
        not_executable(path)
    end
  end

  defp describe({:command, name}), do: "#{name} on the PATH (#{Variables.all()["PATH"]})"

  defp not_executable(path), do: if(File.regular?(path), do: "#{path} (not executable)", else: path)

  # How the virtualenv is made that was probably meant.
  defp advice(python, cd) do
    case virtualenv(python, Path.expand(python, cd)) do
      nil ->
        ""

      {:inside, folder} ->
        "That is a folder with something else in it. A virtualenv is made in it by: #{venv(folder)}, " <>
          "and named by python: #{inspect(folder)}. "

      folder ->
        "A virtualenv is made there by: #{venv(folder)}. "
    end
  end

  defp virtualenv(python, path) do
    bin = Path.dirname(path)
    above = Path.dirname(bin)

    cond do
      File.dir?(path) -> if for_virtualenv?(path), do: path, else: {:inside, Path.join(path, ".venv")}
      Path.basename(bin) == "bin" -> if(not File.exists?(above) or in_virtualenv?(above), do: above)
      command?(Path.basename(path)) -> nil
      File.exists?(path) -> nil
      String.contains?(python, "/") or folder?(python) -> path
      true -> nil
    end
  end

  # What else is in a folder would be beside the files of a virtualenv.
  defp for_virtualenv?(folder),
    do: folder?(Path.basename(folder)) or in_virtualenv?(folder) or File.ls(folder) == {:ok, []}

  defp in_virtualenv?(folder), do: File.exists?(Path.join(folder, "pyvenv.cfg"))

  # In a folder whose interpreter is gone, links of the old one are in the way.
  defp venv(folder),
    do: "python3 -m venv " <> if(in_virtualenv?(folder), do: "--clear ", else: "") <> folder

  @impl true
  def launch, do: ["-c", @bootstrap, Native.priv_path("python")]

  @doc "`version` as Python writes it: 3.13.0rc1 is one, too."
  @spec too_old?(String.t()) :: boolean
  def too_old?(version), do: not at_least?(version, @minimum)

  @spec at_least?(String.t(), String.t()) :: boolean
  def at_least?(version, other), do: number(version) >= number(other)

  defp number(version),
    do: version |> String.split(".") |> Enum.take(2) |> Enum.map(&(&1 |> Integer.parse() |> elem(0)))

  @impl true
  def raised({:exception, type, message, frames, notes, cause, text}) do
    {kind, cause} =
      case cause do
        {kind, nested} when kind in [:cause, :context] -> {kind, raised(nested)}
        _ -> {nil, nil}
      end

    %PythonError{
      type: type,
      message: message,
      traceback:
        for {file, line, function, source} <- frames do
          %{file: file, line: line, function: function, source: source}
        end,
      notes: notes,
      cause: cause,
      cause_kind: kind,
      text: text
    }
  end
end
