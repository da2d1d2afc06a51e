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
      else: Map.merge(System.get_env(), not_utf8())
  end

  # What is no UTF-8 the emulator takes for Latin-1. It may have been changed since the start, and then is what it is now.
  defp not_utf8 do
    case File.read("/proc/self/environ") do
      {:ok, bytes} ->
        for variable <- :binary.split(bytes, <<0>>, [:global]),
            not String.valid?(variable),
            [name, value] <- [:binary.split(variable, "=")],
            String.valid?(name),
            System.get_env(name) == :unicode.characters_to_binary(value, :latin1),
            into: %{},
            do: {name, value}

      _ ->
        %{}
    end
  end

  @doc "As a port takes them; nil unsets one."
  @spec for_port([t]) :: [{charlist, charlist | false}]
  def for_port(variables),
    do: for({name, value} <- variables, do: {chars(name), value != nil and chars(value)})

  defp chars(text), do: if(latin1?(), do: :binary.bin_to_list(text), else: String.to_charlist(text))

  defp latin1?, do: :file.native_name_encoding() == :latin1
end
