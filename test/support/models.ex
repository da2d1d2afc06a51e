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
