defmodule Login.PythonTest do
  # The application as it is deployed, with PyJWT. Modules that are not async run alone, so it may be started anew.
  use ExUnit.Case

  import ExUnit.CaptureLog

  @moduletag :python

  setup_all do
    start_with(Typhon)
    on_exit(fn -> start_with(Typhon.Test) end)
  end

  defp start_with(pool) do
    capture_log(fn -> Application.stop(:login) end)
    Application.put_env(:login, :pool, pool)
    :ok = Application.start(:login)
  end

  test "who has signed in is let in" do
    {:ok, token} = Login.sign("ann")
    assert Login.check(token) == {:ok, "ann"}
  end

  test "an old token" do
    {:ok, token} = Login.sign("ann", seconds: -60)
    assert Login.check(token) == {:error, :expired}
  end

  test "a token for somebody else" do
    {:ok, token} = Login.sign("ann", audience: "bank")
    assert Login.check(token) == {:error, :wrong_audience}
  end

  test "a token that says more than was signed" do
    {:ok, token} = Login.sign("ann")
    [header, _, signature] = String.split(token, ".")
    claims = Base.url_encode64(~s|{"sub": "root", "aud": "shop", "exp": 9999999999}|, padding: false)
    assert Login.check(Enum.join([header, claims, signature], ".")) == {:error, :tampered}
  end

  test "a token that says it needs no signature" do
    header = Base.url_encode64(~s|{"alg": "none"}|, padding: false)
    claims = Base.url_encode64(~s|{"sub": "root", "aud": "shop", "exp": 9999999999}|, padding: false)
    assert Login.check("#{header}.#{claims}.") == {:error, :malformed}
  end

  test "what is no token" do
    assert Login.check("open sesame") == {:error, :malformed}
    assert Login.check("") == {:error, :malformed}
    assert Login.check(<<255, 0>>) == {:error, :malformed}
  end

  test "many at once, each with an answer of its own" do
    checks =
      for n <- 1..200 do
        Task.async(fn ->
          {:ok, token} = Login.sign("user #{n}", seconds: if(rem(n, 4) == 0, do: -60, else: 60))
          Login.check(token)
        end)
      end

    expected = for n <- 1..200, do: if(rem(n, 4) == 0, do: {:error, :expired}, else: {:ok, "user #{n}"})
    assert Task.await_many(checks, 60_000) == expected
  end

  test "a Python that ends is replaced by one that has the same key" do
    {:ok, token} = Login.sign("ann")

    capture_log(fn ->
      for _ <- 1..2, do: {:error, %Typhon.WorkerError{}} = Typhon.call(Login.Python, :os, :_exit, [1])
      assert Login.check(token) == {:ok, "ann"}
    end)
  end
end
