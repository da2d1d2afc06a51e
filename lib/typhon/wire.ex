defmodule Typhon.Wire do
  @moduledoc false
  # The numbers that `Typhon.Native` takes, by name: macros, so that they stand in guards and cost nothing. The native library
  # has the same table (`Native.numbers/0`), and a test compares the two.

  @numbers [
    # the kinds of Native.call/9
    call: 0,
    cast: 1,
    # the kinds of Native.tell/7
    answer: 0,
    failure: 1,
    message: 2,
    # Flags of a call: its parts are measured; what it prints goes to its caller; which atoms are strings in Python (its own say
    # on that, for keys of maps, for all others); it was accepted before, and is not one too many.
    timings: 1,
    capture: 2,
    keys_as_text: 4,
    values_as_text: 8,
    own_text: 16,
    admitted: 128,
    # Its result stays in Python.
    as_object: 256,
    # From this bit on a call's flags name a place, plus one.
    place_bit: 9,
    # A channel in its pool: the place, and from this bit on the channel's number.
    serial_bit: 16,
    # the kinds of Native.channel_heard/3
    statement: 0,
    question: 1,
    refusal: 2
  ]

  for {name, number} <- @numbers do
    defmacro unquote(name)(), do: unquote(number)
  end

  @doc "How the native library begins what it says of a handle that is none of its own, or not any more."
  defmacro unknown_object, do: "a Typhon.Object that no Python call has returned"

  # The bits of a call's flags that say which atoms are strings.
  @text @numbers[:own_text] + @numbers[:keys_as_text] + @numbers[:values_as_text]
  defmacro text, do: @text

  @spec numbers :: %{atom => non_neg_integer}
  def numbers, do: Map.new(@numbers)

  @doc "Names the channel at a place of its pool, for `Typhon.Native`."
  @spec where(non_neg_integer, non_neg_integer) :: Typhon.Native.where()
  def where(place, serial), do: Bitwise.bor(Bitwise.bsl(serial, @numbers[:serial_bit]), place)

  @doc "The place in that."
  @spec place(non_neg_integer) :: non_neg_integer
  def place(where), do: Bitwise.band(where, Bitwise.bsl(1, @numbers[:serial_bit]) - 1)
end
