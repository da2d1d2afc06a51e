defmodule Typhon.Text do
  @moduledoc false
  # What a worker has written, for a terminal or a log: there a control character would move the cursor, or change the window's
  # title, and one for the direction of writing would make text look like other text.

  @doc "The same with such characters as Python's repr() writes them: `\\x1b`, `\\u202e`. `keep`: those that stay."
  @spec visible(String.t(), [char]) :: String.t()
  def visible(text, keep \\ []) do
    if plain?(text), do: text, else: text |> shown(keep) |> IO.iodata_to_binary()
  end

  defp plain?(<<character, rest::binary>>) when character in 32..126, do: plain?(rest)
  defp plain?(rest), do: rest == ""

  defp shown(<<character::utf8, rest::binary>>, keep) do
    if hidden?(character) and character not in keep,
      do: [escaped(character) | shown(rest, keep)],
      else: [<<character::utf8>> | shown(rest, keep)]
  end

  # A worker can send anything.
  defp shown(<<byte, rest::binary>>, keep), do: [escaped(byte) | shown(rest, keep)]
  defp shown(<<>>, _keep), do: []

  # Of Unicode's characters that format: those that turn, end or hide text. Others belong to words and to emoji.
  defp hidden?(character) do
    character < 32 or character in 0x7F..0x9F or character in [0x061C, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF] or
      character in 0x2028..0x202E or character in 0x2066..0x206F or character in 0xE0000..0xE007F
  end

  defp escaped(?\n), do: "\\n"
  defp escaped(?\r), do: "\\r"
  defp escaped(?\t), do: "\\t"
  defp escaped(character) when character < 0x100, do: ["\\x", hex(character, 2)]
  defp escaped(character) when character < 0x10000, do: ["\\u", hex(character, 4)]
  defp escaped(character), do: ["\\U", hex(character, 8)]

  defp hex(number, digits),
    do: number |> Integer.to_string(16) |> String.downcase() |> String.pad_leading(digits, "0")
end
