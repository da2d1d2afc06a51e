# A SIGTERM would end this VM as if all was well, and what has not been tested would count as passed.
:os.set_signal(:sigterm, :default)
Application.put_env(:typhon, :shutdown, 0)

defmodule Pythonx.TestHelper do
  @doc "The value of code, decoded."
  def decoded(code, globals \\ %{}) do
    {result, _} = Pythonx.eval(code, globals)
    Pythonx.decode(result)
  end
end

# TYPHON_ISOLATION=interpreter: the same tests with the Python inside this VM, but for those that are about processes.
isolation = String.to_atom(System.get_env("TYPHON_ISOLATION", "process"))
Application.put_env(:pythonx, :isolation, isolation)

ExUnit.start(
  capture_log: true,
  exclude: if(isolation == :process, do: [], else: [:os_process]),
  # Bounds that only end a test that has failed: a machine may be busy.
  assert_receive_timeout: Typhon.TestHelper.limit(),
  timeout: 5 * Typhon.TestHelper.limit()
)
