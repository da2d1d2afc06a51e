defmodule Typhon.Models.Address do
  @moduledoc false
  @derive Typhon.Encoder
  defstruct [:city, :street, country: "NO"]

  @type t :: %__MODULE__{city: String.t() | nil, street: String.t() | nil, country: String.t()}
end

defmodule Typhon.Models.Item do
  @moduledoc false
  @enforce_keys [:name]
  @derive Typhon.Encoder
  defstruct [:name, count: 1]

  @type t :: %__MODULE__{name: String.t(), count: pos_integer}
end

defmodule Typhon.Models.User do
  @moduledoc false
  @enforce_keys [:id, :name]
  @derive Typhon.Encoder
  defstruct [:address, :id, :name, active: true, items: [], settings: %{}]

  @type t :: %__MODULE__{
          id: integer,
          name: String.t(),
          active: boolean,
          address: Typhon.Models.Address.t() | nil,
          items: [Typhon.Models.Item.t()],
          settings: %{optional(String.t()) => integer}
        }
end

defmodule Typhon.Models.ByHand do
  @moduledoc false
  # A struct as Elixir sees it, of which it has no list of fields.

  def __struct__, do: %{__struct__: __MODULE__, a: nil, b: 1}

  def __struct__(given) do
    unless List.keymember?(given, :a, 0), do: raise(ArgumentError, "a is missing")
    Enum.reduce(given, __struct__(), fn {key, value}, struct -> %{struct | key => value} end)
  end
end

defmodule Typhon.Models.Everything do
  @moduledoc false
  # Each kind of type, and of default.
  @derive {Typhon.Encoder, except: [:secret]}
  @enforce_keys [:must, :secret]
  defstruct [
    :nothing,
    :untyped,
    :secret,
    :must,
    int: 1,
    float: 1.5e30,
    number: 0,
    text: "a\"\\\n\u202eé",
    binary: <<255, 0>>,
    flag: false,
    on: true,
    atom: :ok,
    status: :active,
    numbers: [1, 2],
    deep: [[1], []],
    table: %{"a" => {1, 2.0}},
    counts: %{},
    pair: {1, "b"},
    one: {},
    date: ~D[2024-02-29],
    time: ~T[10:20:30.500000],
    naive: ~N[2024-02-29 10:20:30],
    utc: ~U[2024-02-29 10:20:30Z],
    set: MapSet.new([2, 1]),
    range: 1..9//2,
    named: "n",
    looped: nil,
    address: nil,
    addresses: [],
    home: %Typhon.Models.Address{city: "Oslo"},
    other: nil,
    uri: %URI{host: "a.org"}
  ]

  @typep name :: String.t()
  @type loop :: loop2
  @type loop2 :: loop

  @type t :: %__MODULE__{
          nothing: nil,
          secret: String.t(),
          must: integer | String.t() | nil,
          int: 1..5,
          float: float,
          number: number,
          text: String.t(),
          binary: term,
          flag: boolean,
          on: true | false,
          atom: atom,
          status: :active | :closed,
          numbers: [integer, ...],
          deep: [[integer]] | nil,
          table: %{String.t() => {integer, float}},
          counts: map,
          pair: {integer, String.t()},
          one: tuple,
          date: Date.t(),
          time: Time.t(),
          naive: NaiveDateTime.t(),
          utc: DateTime.t(),
          set: MapSet.t(integer),
          range: Range.t(),
          named: name,
          looped: loop | t,
          address: Typhon.Models.Address.t() | nil,
          addresses: [%Typhon.Models.Address{}],
          home: Typhon.Models.Address.t(),
          other: Typhon.Models.Other.Address.t() | nil,
          uri: URI.t() | nil
        }
end

defmodule Typhon.Models.Names do
  @moduledoc false
  # Names that Python does not have, or means otherwise.
  @derive Typhon.Encoder
  @enforce_keys [:class]
  defstruct [
    :class,
    :class_,
    :active?,
    :"first name",
    :"1st",
    :__hidden,
    :größe,
    :"ﬁ",
    :"",
    :"?!",
    # Names of what the classes are written with.
    list: [1],
    dict: %{},
    str: "s",
    dataclasses: [],
    typing: nil,
    datetime: ~D[2024-01-01],
    range: 1..2,
    classmethod: 1,
    self: 2,
    none: nil
  ]

  @type t :: %__MODULE__{
          class: String.t(),
          active?: boolean,
          list: [integer],
          dict: %{String.t() => integer},
          str: String.t(),
          dataclasses: [t],
          datetime: Date.t()
        }
end

defmodule Typhon.Models.None do
  @moduledoc false
  # The class cannot have that name, nor is there one field.
  defstruct []
end

defmodule Typhon.Models.Other.Address do
  @moduledoc false
  # Of the name of another one; with an encoder by hand.
  defstruct names: []

  @type t :: %__MODULE__{names: [Typhon.Models.Names.t()]}

  defimpl Typhon.Encoder do
    def encode(address), do: %{"names" => address.names, "more" => 1}
  end
end
