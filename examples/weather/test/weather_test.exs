defmodule WeatherTest do
  # Each test has stubs of its own, so they may run at the same time.
  use ExUnit.Case, async: true

  import Typhon.Test

  setup :verify_on_exit!

  test "the temperature is rounded" do
    expect(Weather.Python, :forecast, :temperature, fn "Oslo", %{"days" => 1} -> -3.6 end)
    assert Weather.tomorrow("Oslo") == "-4 °C"
  end

  test "a city that the model does not know" do
    expect(Weather.Python, :forecast, :temperature, error("KeyError", "'Atlantis'"))
    assert Weather.tomorrow("Atlantis") == "nobody knows Atlantis"
  end

  test "a model that takes too long" do
    timeout = %Typhon.TimeoutError{timeout: 5_000, module: :forecast, function: :temperature, arity: 1}
    stub(Weather.Python, :forecast, :temperature, timeout)
    assert Weather.tomorrow("Oslo") == "ask again later"
  end

  test "the warmest of several cities is asked for once each" do
    stub(Weather.Python, :forecast, :temperature, fn city, _ -> String.length(city) * 1.0 end)
    assert Weather.warmest(["Oslo", "Lisbon", "Rome"]) == "Lisbon"
    assert_called(Weather.Python, :forecast, :temperature, :_, 3)
    assert_called(Weather.Python, :forecast, :temperature, ["Rome"], 1)
  end

  test "what is not stubbed says so" do
    assert {:error, %Typhon.Test.UnexpectedCallError{}} =
             Typhon.call(Weather.Python, :forecast, :rain, ["Oslo"])
  end
end
