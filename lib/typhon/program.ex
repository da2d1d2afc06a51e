defmodule Typhon.Program do
  @moduledoc false
  # Whether what `python:` or `ruby:` names is one. Any program can be named there, and most print what they make of a command
  # line that is not for them. So one whose name does not say what it is has to answer `--version` before it is started.

  alias Typhon.{Deadline, Language, Native, StartError, Variables}

  @timeout 10_000
  # A program may print without end.
  @most_bytes 1_048_576
  @sigkill 9

  @spec check(String.t(), Language.name()) :: :ok | {:error, StartError.t()}
  def check(path, language) do
    %{file: name, answer: answer} = Language.of(language).known_by()

    if Path.basename(path) =~ name do
      :ok
    else
      case run(path, ["--version"], @timeout) do
        {text, status} when is_integer(status) ->
          line = first_line(text)

          if status == 0 and line =~ answer,
            do: :ok,
            else: {:error, refused(path, language, line, status)}

        # It may be a script that does something before it becomes an interpreter: its start has a time limit of its own. What
        # cannot be executed at all is told there, too.
        _ ->
          :ok
      end
    end
  end

  @doc """
  What a program prints, if that is no more than a mebibyte, and its exit status. One that prints more, or takes longer, is killed.
  A caller that traps exits gets no signal of it.
  """
  @spec run(String.t() | charlist, [String.t() | charlist], timeout, [Variables.t()]) ::
          {String.t(), non_neg_integer} | :timeout | {:error, term}
  def run(path, args, timeout, variables \\ []) do
    {_pid, monitor} =
      spawn_monitor(fn -> exit({:answer, answer(path, args, variables, Deadline.from(timeout))}) end)

    receive do
      {:DOWN, ^monitor, _, _, {:answer, answer}} -> answer
      {:DOWN, ^monitor, _, _, reason} -> {:error, reason}
    end
  end

  @doc "The file of an executable: of this path, or of this name on the PATH. As bytes, which a VM without a locale takes for others."
  @spec find(String.t()) :: String.t() | nil
  def find(name) do
    if String.contains?(name, "/") do
      if executable?(name), do: name
    else
      Variables.all()
      |> Map.get("PATH", "")
      |> String.split(":", trim: true)
      |> Enum.map(&Path.expand(Path.join(&1, name)))
      |> Enum.find(&executable?/1)
    end
  end

  defp executable?(path) do
    match?({:ok, %{type: :regular, mode: mode}} when Bitwise.band(mode, 0o111) != 0, File.stat(path))
  end

  defp answer(path, args, variables, deadline) do
    options = [
      :binary,
      :exit_status,
      :stderr_to_stdout,
      :hide,
      args: args,
      env: Variables.for_port(variables)
    ]

    port = Port.open({:spawn_executable, path}, options)
    # Later, when it has ended, there is none.
    os_pid = Port.info(port, :os_pid)

    case collect(port, [], 0, deadline) do
      {_text, status} = answer when is_integer(status) ->
        answer

      unfinished ->
        with {:os_pid, os_pid} <- os_pid, do: Native.kill_pid(os_pid, @sigkill)
        unfinished
    end
  end

  defp collect(port, text, size, deadline) do
    receive do
      {^port, {:data, bytes}} when size + byte_size(bytes) <= @most_bytes ->
        collect(port, [text, bytes], size + byte_size(bytes), deadline)

      {^port, {:data, _}} ->
        {:error, :too_much}

      {^port, {:exit_status, status}} ->
        {IO.iodata_to_binary(text), status}
    after
      Deadline.left(deadline) -> :timeout
    end
  end

  defp refused(path, name, line, status) do
    language = Language.of(name)
    %{program: option} = language.options()

    text =
      "#{option}: #{path} is not a #{language.title()}. Asked for its --version it " <>
        said(line, status) <> ". #{option}: takes #{language.takes()}"

    Language.start_error(name, language.reasons().not_one, path, text)
  end

  defp said("", status), do: "exited with status #{status} and said nothing"
  defp said(line, 0), do: "said: #{line}"
  defp said(line, status), do: "exited with status #{status} and said: #{line}"

  # A program may answer anything, of any length.
  defp first_line(text) do
    if String.valid?(text),
      do: text |> String.trim() |> String.split("\n") |> hd() |> String.slice(0, 200),
      else: "something that is no text"
  end
end
