defmodule Mix.Tasks.Compile.ErlportApp do
  @moduledoc false
  # Programs of ErlPort's start the application `erlport` by its name. Its file lies beside Typhon's own: to start it starts Typhon.

  use Mix.Task.Compiler

  @impl true
  def run(_args) do
    properties = [
      description: ~c"ErlPort's modules, which are Typhon's",
      vsn: String.to_charlist(Mix.Project.config()[:version]),
      modules: [],
      registered: [],
      applications: [:kernel, :stdlib, :typhon]
    ]

    text = :io_lib.format("~tp.~n", [{:application, :erlport, properties}]) |> IO.chardata_to_string()

    if File.read(file()) == {:ok, text} do
      {:noop, []}
    else
      File.mkdir_p!(Path.dirname(file()))
      File.write!(file(), text)
      {:ok, []}
    end
  end

  @impl true
  def clean, do: File.rm(file())

  defp file, do: Path.join(Mix.Project.compile_path(), "erlport.app")
end
