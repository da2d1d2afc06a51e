defmodule Typhon.TestPackages do
  @moduledoc false
  # Work for the large packages with C code (test/support/py/packages.py), and what comes of it.

  @packages [
    numpy: "numpy",
    pandas: "pandas",
    sklearn: "scikit-learn",
    pyarrow: "pyarrow",
    lxml: "lxml",
    PIL: "Pillow",
    cryptography: "cryptography"
  ]

  @doc "Modules as they are imported, and names as they are installed."
  def all, do: @packages

  @doc "Every package in each of `count` workers at the same time, `rounds` times. What went wrong, and which Pythons there were."
  def use_all(py, packages, count, rounds) do
    # The workers are all held before the first one is used, so that each of them has a turn.
    {:ok, gate} = Agent.start_link(fn -> 0 end)

    1..count
    |> Enum.map(fn i ->
      Task.async(fn ->
        {:ok, result} =
          Typhon.run(
            py,
            fn worker ->
              {:ok, who} = Typhon.call(worker, :packages, :who, [])
              Agent.update(gate, &(&1 + 1))
              wait(gate, count)

              {who,
               for(
                 round <- 1..rounds,
                 name <- packages,
                 wrong <- check(worker, name, 100 * i + round),
                 do: wrong
               )}
            end,
            timeout: 60_000
          )

        result
      end)
    end)
    |> Task.await_many(:infinity)
    |> Enum.unzip()
    |> then(fn {who, wrong} -> {List.flatten(wrong), Enum.uniq(who)} end)
  end

  defp wait(gate, count) do
    if Agent.get(gate, & &1) < count do
      Process.sleep(1)
      wait(gate, count)
    end
  end

  defp check(py, name, seed) do
    {function, arguments, expected} = work(name, seed)

    case Typhon.call(py, :packages, function, [seed | arguments], timeout: 300_000) do
      {:ok, ^expected} -> []
      {:ok, other} -> ["#{name}: got #{inspect(other)} instead of #{inspect(expected)}"]
      {:error, error} -> ["#{name}: #{Exception.message(error)}"]
    end
  end

  defp work(:numpy, seed), do: {:use_numpy, [], [true, rem(seed, 100) + 1, div(seed * (seed + 1), 2)]}

  defp work(:pandas, seed) do
    sums = for group <- 0..2, do: 10 * (seed + group) + 3 * 45
    {:use_pandas, [], [sums, %{"a" => seed + 27, "b" => seed + 28, "c" => seed + 29}, "2024-03-01"]}
  end

  defp work(:sklearn, seed), do: {:use_sklearn, [], [[40, 60], [1, -2, seed]]}

  defp work(:pyarrow, seed),
    do: {:use_pyarrow, [], [1_000 * seed + 499_500, List.duplicate(143, 6) ++ [142], true]}

  defp work(:lxml, seed), do: {:use_lxml, [], [45 * seed, ["#{8 * seed}", "#{9 * seed}"], 1]}
  defp work(:PIL, seed), do: {:use_pillow, [], [{rem(seed, 256), 100, 200}, {0, 0, 0}, 2, true]}

  # OTP's own cryptography is the judge.
  defp work(:cryptography, seed) do
    {key, nonce} = {crypto().strong_rand_bytes(32), crypto().strong_rand_bytes(12)}
    text = String.duplicate("#{seed}", 10)
    {sealed, tag} = crypto().crypto_one_time_aead(:aes_256_gcm, key, nonce, text, "seed", true)
    {public, private} = crypto().generate_key(:eddsa, :ed25519, crypto().hash(:sha256, text))
    signature = crypto().sign(:eddsa, :none, text, [private, :ed25519])

    {:use_cryptography, [Typhon.bytes(key), Typhon.bytes(nonce)],
     [sealed <> tag, "refused", crypto().hash(:sha3_256, text), public, signature]}
  end

  # Typhon does not depend on it.
  defp crypto, do: :crypto
end
