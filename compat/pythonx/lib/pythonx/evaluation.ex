defmodule Pythonx.Evaluation do
  @moduledoc false
  # One evaluation, and what is checked before it.

  alias Pythonx.{Object, Python, Terms}

  @spec run(String.t(), Pythonx.globals(), pid, pid, Pythonx.encoder()) :: Pythonx.result()
  def run(code, globals, stdout, stderr, encoder) do
    unless String.valid?(code),
      do: raise(ArgumentError, "the code is not valid UTF-8, which Python's source must be")

    # The names are text; the values are what becomes objects.
    names = Map.new(globals, fn {name, value} -> {name, Terms.term(value, encoder)} end)

    {has_value?, value, globals} = Python.call!("evaluate", [code, names, Terms.pids?(names), stdout, stderr])

    {if(has_value?, do: Object.new(value)),
     Map.new(globals, fn {name, value} -> {name, Object.new(value)} end)}
  end

  @spec named!(Pythonx.globals()) :: Pythonx.globals()
  def named!(globals) do
    case Enum.find(globals, fn {name, _} -> not is_binary(name) end) do
      nil -> globals
      {name, _} -> raise ArgumentError, "the names of globals must be strings, got: #{inspect(name)}"
    end
  end

  @doc "Where stdout and stderr go."
  @spec devices!(keyword) :: {pid, pid}
  def devices!(options) do
    options = Keyword.validate!(options, [:stdout_device, :stderr_device])

    {device!(:stdout_device, options[:stdout_device] || Process.group_leader()),
     device!(:stderr_device, options[:stderr_device] || :standard_error)}
  end

  defp device!(_option, pid) when is_pid(pid), do: pid

  defp device!(option, name) do
    with true <- is_atom(name), pid when is_pid(pid) <- Process.whereis(name) do
      pid
    else
      _ ->
        raise ArgumentError,
              "#{option}: must be the pid or the registered name of an I/O device that runs, got #{inspect(name)}"
    end
  end
end
