defmodule Pythonx.ConfigurationTest do
  # It replaces the one Python.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Pythonx.TestHelper

  setup do
    before = Application.get_all_env(:pythonx)

    on_exit(fn ->
      for {key, _} <- Application.get_all_env(:pythonx), do: Application.delete_env(:pythonx, key)
      Application.put_all_env(pythonx: before)
      Pythonx.Python.stop!()
    end)
  end

  defp started(options) do
    Application.put_all_env(pythonx: options)
    Pythonx.Python.stop!()
    Pythonx.Python.start!()
  end

  test "that is wrong is refused with a sentence" do
    for {options, sentence} <- [
          {[concurrency: 0], ~r/\Aconfig :pythonx, concurrency: must be an integer from 1 to 256, got 0\z/},
          {[concurrency: 1, isolation: :nope],
           ~r/\Aconfig :pythonx, isolation: must be :process or :interpreter, got :nope\z/}
        ],
        do: assert_raise(ArgumentError, sentence, fn -> started(options) end)
  end

  test "with an unknown name has a warning" do
    log = capture_log(fn -> started(pyton: "python3") end)
    assert log =~ "config :pythonx has no option :pyton, did you mean :python? It takes :isolation, :python,"
    assert decoded("1 + 1") == 2
    Application.delete_env(:pythonx, :pyton)
    refute capture_log(fn -> started([]) end) =~ "config :pythonx"
  end
end
