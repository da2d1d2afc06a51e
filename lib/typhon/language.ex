defmodule Typhon.Language do
  @moduledoc false
  # What a pool has to know of the language that its workers speak: how its program is found and started, and what it is called in
  # errors. Whatever is the same for all of them (the channel, the control pipe, exit codes, settings) is in no language's module.

  alias Typhon.{Program, StartError}

  @type name :: :python | :ruby

  @typedoc "Where a worker finds its channel: a descriptor of this process."
  @type region :: %{:fd => integer, :os_pid => integer, optional(atom) => term}

  @doc "Its name in sentences."
  @callback title :: String.t()

  @doc "The oldest version that Typhon runs."
  @callback minimum :: String.t()

  @doc "The options that name its program and its directories."
  @callback options :: %{program: atom, paths: atom}

  @doc "The reasons of a StartError: the program is none of its own; it is older than `minimum/0`."
  @callback reasons :: %{not_one: StartError.reason(), too_old: StartError.reason()}

  @doc "How a program of its own is known: by the name of its file, or by what it answers to `--version`."
  @callback known_by :: %{file: Regex.t(), answer: Regex.t()}

  @doc "What the option for the program takes, for messages."
  @callback takes :: String.t()

  @doc "The file of the program that a pool asked for. Relative paths are relative to `cd`."
  @callback find(program :: String.t(), cd :: String.t()) :: {:ok, String.t()} | {:error, StartError.t()}

  @doc "What makes a worker of the program: its command line up to the arguments that all workers have."
  @callback launch :: [String.t()]

  @doc "An exception of the wire (docs/internals.md, `wire_error`) as a struct. What is no such tuple raises."
  @callback raised(tuple) :: Exception.t()

  @spec of(name) :: module
  def of(:python), do: Typhon.Language.Python
  def of(:ruby), do: Typhon.Language.Ruby

  @doc "Its name in sentences."
  @spec title(name) :: String.t()
  def title(name), do: of(name).title()

  @doc """
  The options of a pool as its workers have them: `program` and `paths`, whatever the language calls them, and the program as
  it was given.
  """
  @spec named(Typhon.Options.start()) :: map
  def named(%{python: program, python_path: paths} = options),
    do: options |> Map.drop([:python, :python_path]) |> Map.merge(%{program: program, paths: paths})

  @doc "The program of a pool, found and looked at."
  @spec find(map) :: {:ok, String.t()} | {:error, StartError.t()}
  def find(config) do
    with {:ok, program} <- of(config.language).find(config.program, config.cd),
         :ok <- Program.check(program, config.language),
         do: {:ok, program}
  end

  @doc "The arguments of a worker's command line. `settings`: whole numbers for the native worker, by name."
  @spec args(map, region, [{atom, integer}]) :: [String.t()]
  def args(config, %{fd: fd, os_pid: os_pid}, settings) do
    settings = Enum.map_join(settings, ",", fn {name, value} -> "#{name}=#{value}" end)

    of(config.language).launch() ++
      [Integer.to_string(os_pid), Integer.to_string(fd), settings | config.paths]
  end

  @doc "What fields called `python` hold: nothing with another language."
  @spec if_python(name, value) :: value | nil when value: term
  def if_python(:python, value), do: value
  def if_python(_name, _value), do: nil

  @doc "Of a pool, or of a language's program that is to have one."
  @spec start_error(name, StartError.reason(), String.t(), String.t(), [String.t()]) :: StartError.t()
  def start_error(name, reason, program, message, output \\ []) do
    %StartError{
      reason: reason,
      program: program,
      python: if_python(name, program),
      message: message,
      output: output
    }
  end
end
