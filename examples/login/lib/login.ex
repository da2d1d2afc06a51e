defmodule Login do
  @moduledoc """
  Tokens that say who somebody is, signed and checked by PyJWT.
  """

  @audience "shop"

  @type refusal :: :expired | :wrong_audience | :tampered | :malformed | :unavailable

  @doc "A token for a user, good for an hour unless `seconds:` says otherwise; `audience:` is who takes it."
  @spec sign(String.t(), keyword) :: {:ok, String.t()} | {:error, :unavailable}
  def sign(user, options \\ []) do
    kwargs = %{audience: options[:audience] || @audience, seconds: options[:seconds] || 3_600}

    case Typhon.call(Login.Python, :tokens, :sign, [user], kwargs: kwargs) do
      {:ok, token} -> {:ok, token}
      {:error, error} -> unavailable(error)
    end
  end

  @doc "Whose token this is, or why it is not to be trusted."
  @spec check(String.t()) :: {:ok, String.t()} | {:error, refusal}
  def check(token) do
    # To check twice does no harm: when a Python ends in the middle of it, another one does it again.
    options = [kwargs: %{audience: @audience}, timeout: 2_000, retry: 1]

    case Typhon.call(Login.Python, :tokens, :verify, [token], options) do
      {:ok, %{"sub" => user}} -> {:ok, user}
      {:error, %Typhon.PythonError{type: "jwt.exceptions." <> name}} -> {:error, refusal(name)}
      # It is no text at all, and has not come as far as Python.
      {:error, %Typhon.EncodeError{}} -> {:error, :malformed}
      {:error, error} -> unavailable(error)
    end
  end

  # A subclass has a name of its own, so what is not named here is a token that is none, or says too little.
  defp refusal("ExpiredSignatureError"), do: :expired
  defp refusal("InvalidAudienceError"), do: :wrong_audience
  defp refusal("InvalidSignatureError"), do: :tampered
  defp refusal(_), do: :malformed

  # No time, no worker, a fault in tokens.py: nobody is let in, and the log says why.
  defp unavailable(error) do
    require Logger
    Logger.error("no login: " <> Exception.message(error))
    {:error, :unavailable}
  end
end
