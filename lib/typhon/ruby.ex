defmodule Typhon.Ruby do
  @moduledoc false
  # Finds the Ruby that a pool asked for, and says how to start a worker with it. As Typhon.Interpreter for Python.

  alias Typhon.{Native, Program, StartError, Variables}

  @spec find(String.t(), String.t()) :: {:ok, String.t()} | {:error, StartError.t()}
  def find(ruby, cd) do
    # A VM that loads modules when they are first used has the atoms of errors only then, and results bring no new ones.
    Code.ensure_loaded(Typhon.Error)

    found =
      if String.contains?(ruby, "/"),
        do: ruby |> Path.expand(cd) |> Program.find(),
        else: Program.find(ruby)

    if found,
      do: {:ok, found},
      else:
        {:error,
         %StartError{
           reason: :ruby_not_found,
           python: ruby,
           message:
             "there is no Ruby #{inspect(ruby)}" <>
               if(String.contains?(ruby, "/"),
                 do: " that can be executed.",
                 else: " on the PATH (#{Variables.all()["PATH"]})."
               ) <> " ruby: takes a command on the PATH, or the path of an interpreter"
         }}
  end

  @spec args([String.t()], %{fd: integer, os_pid: integer}, [{atom, integer}]) :: [String.t()]
  def args(paths, %{fd: fd, os_pid: os_pid}, settings) do
    settings = Enum.map_join(settings, ",", fn {name, value} -> "#{name}=#{value}" end)
    main = Path.join(Native.priv_path("ruby"), "typhon/main.rb")
    [main, Integer.to_string(os_pid), Integer.to_string(fd), settings | paths]
  end
end
