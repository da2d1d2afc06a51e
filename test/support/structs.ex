defmodule Typhon.EncoderTest.Point do
  @moduledoc false
  @derive Typhon.Encoder
  defstruct [:x, :y]
end

defmodule Typhon.EncoderTest.Account do
  @moduledoc false
  @derive {Typhon.Encoder, only: [:id, :owner]}
  defstruct [:id, :owner, :secret]
end

defmodule Typhon.EncoderTest.Session do
  @moduledoc false
  @derive {Typhon.Encoder, except: [:token]}
  defstruct [:user, :token]
end

defmodule Typhon.EncoderTest.Money do
  @moduledoc false
  defstruct [:amount, :currency]

  defimpl Typhon.Encoder do
    def encode(money), do: {money.amount, Atom.to_string(money.currency)}
  end
end

defmodule Typhon.EncoderTest.Loop do
  @moduledoc false
  defstruct []

  defimpl Typhon.Encoder do
    def encode(loop), do: loop
  end
end

defmodule Typhon.EncoderTest.Plain do
  @moduledoc false
  defstruct [:a]
end

defmodule Typhon.EncoderTest.Named do
  @moduledoc false
  @derive {Typhon.Encoder, as: :struct, except: [:secret]}
  defstruct [:id, :name, :secret]
end
