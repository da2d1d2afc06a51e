defmodule Weather do
  @moduledoc """
  What the weather will be, by a model that is written in Python.
  """

  @doc "Tomorrow's temperature in a city, as people say it."
  @spec tomorrow(String.t()) :: String.t()
  def tomorrow(city) do
    case Typhon.call(Weather.Python, :forecast, :temperature, [city], kwargs: %{days: 1}) do
      {:ok, degrees} -> "#{round(degrees)} °C"
      {:error, %Typhon.PythonError{type: "KeyError"}} -> "nobody knows #{city}"
      {:error, %Typhon.TimeoutError{}} -> "ask again later"
    end
  end

  @doc "The warmest of several cities."
  @spec warmest([String.t()]) :: String.t()
  def warmest(cities) do
    Weather.Python
    |> Typhon.map(:forecast, :temperature, cities, kwargs: %{days: 1})
    |> Enum.zip(cities)
    |> Enum.max()
    |> elem(1)
  end
end
