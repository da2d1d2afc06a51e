defmodule Typhon.Variables do
  @moduledoc false
  # Environment variables as they are: bytes, whatever the VM takes them for. One that was started without a locale (LANG, LC_ALL)
  # reads and writes them as Latin-1.

  @type t :: {String.t(), String.t() | nil}

  @doc "Those of this VM."
  @spec all :: %{String.t() => String.t()}
  def all do
    if latin1?(),
      do:
        for(
          {name, value} <- :os.env(),
          into: %{},
          do: {:erlang.list_to_binary(name), :erlang.list_to_binary(value)}
        ),
      else: System.get_env()
  end

  @doc "As a port takes them; nil unsets one."
  @spec for_port([t]) :: [{charlist, charlist | false}]
  def for_port(variables),
    do: for({name, value} <- variables, do: {chars(name), value != nil and chars(value)})

  defp chars(text), do: if(latin1?(), do: :binary.bin_to_list(text), else: String.to_charlist(text))

  defp latin1?, do: :file.native_name_encoding() == :latin1
end
