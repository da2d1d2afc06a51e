defmodule LoginTest do
  # No Python: each test says what Python would.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Typhon.Test

  setup :verify_on_exit!

  test "a user's token" do
    expect(Login.Python, :tokens, :sign, fn "ann", %{"audience" => "shop", "seconds" => 3_600} -> "a.b.c" end)
    assert Login.sign("ann") == {:ok, "a.b.c"}
  end

  test "a good token" do
    expect(Login.Python, :tokens, :verify, fn "a.b.c", %{"audience" => "shop"} -> %{"sub" => "ann"} end)
    assert Login.check("a.b.c") == {:ok, "ann"}
  end

  for {name, reason} <- [
        {"ExpiredSignatureError", :expired},
        {"InvalidAudienceError", :wrong_audience},
        {"InvalidSignatureError", :tampered},
        {"DecodeError", :malformed},
        {"MissingRequiredClaimError", :malformed}
      ] do
    test "#{name} is #{reason}" do
      stub(Login.Python, :tokens, :verify, error("jwt.exceptions.#{unquote(name)}"))
      assert Login.check("a.b.c") == {:error, unquote(reason)}
    end
  end

  test "nobody is let in while Python has no time" do
    timeout = %Typhon.TimeoutError{timeout: 2_000, module: :tokens, function: :verify, arity: 1}
    stub(Login.Python, :tokens, :verify, timeout)
    assert capture_log(fn -> assert Login.check("a.b.c") == {:error, :unavailable} end) =~ "did not answer"
  end

  test "nor when tokens.py has a fault" do
    stub(
      Login.Python,
      :tokens,
      :verify,
      error("AttributeError", "'NoneType' object has no attribute 'public_key'")
    )

    assert capture_log(fn -> assert Login.check("a.b.c") == {:error, :unavailable} end) =~ "AttributeError"
  end
end
