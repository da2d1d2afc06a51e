defmodule Login.Key do
  @moduledoc """
  The RSA key of this run of the application. A real one reads it from where its secrets are kept.
  """

  @doc "Makes it, before there is a Python that asks for it."
  @spec make :: :ok
  def make do
    key = :public_key.generate_key({:rsa, 2048, 65_537})
    pem = :public_key.pem_encode([:public_key.pem_entry_encode(:RSAPrivateKey, key)])
    :persistent_term.put(__MODULE__, pem)
  end

  @doc "The key as PEM. Each new Python asks for it (`init:` of the pool)."
  @spec pem :: String.t()
  def pem, do: :persistent_term.get(__MODULE__)
end
