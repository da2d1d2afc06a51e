defmodule Typhon.Language.Ruby do
  @moduledoc false

  @behaviour Typhon.Language

  alias Typhon.{Language, Native, Program, RubyError, Variables}

  @impl true
  def title, do: "Ruby"

  @impl true
  def minimum, do: "3.1"

  @impl true
  def options, do: %{program: :ruby, paths: :ruby_path}

  @impl true
  def reasons, do: %{not_one: :not_ruby, too_old: :ruby_too_old}

  @impl true
  def known_by, do: %{file: ~r/ruby/i, answer: ~r/ruby/i}

  @impl true
  def takes, do: "a command on the PATH, or the path of an interpreter"

  @impl true
  def find(ruby, cd) do
    path? = String.contains?(ruby, "/")
    found = if path?, do: ruby |> Path.expand(cd) |> Program.find(), else: Program.find(ruby)

    where = if path?, do: "that can be executed.", else: "on the PATH (#{Variables.all()["PATH"]})."

    if found,
      do: {:ok, found},
      else:
        {:error,
         Language.start_error(
           :ruby,
           :ruby_not_found,
           ruby,
           "there is no Ruby #{inspect(ruby)} #{where} ruby: takes #{takes()}"
         )}
  end

  @impl true
  def launch, do: [Path.join(Native.priv_path("ruby"), "typhon/main.rb")]

  # The atom is there when a worker sends it: a pool of Rubies has been started by this module.
  @impl true
  def raised({:ruby_exception, type, message, frames, cause, text}) do
    %RubyError{
      type: type,
      message: message,
      backtrace: for({file, line, function} <- frames, do: %{file: file, line: line, function: function}),
      cause: if(cause, do: raised(cause)),
      text: text
    }
  end
end
