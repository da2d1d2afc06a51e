# TYPHON_ISOLATION=interpreter: the same tests with the Pythons inside this VM, but for those that are about processes.
# TYPHON_ENGINE=subinterpreters, …=threads: with another engine there, but for what that cannot have.
isolation = String.to_atom(System.get_env("TYPHON_ISOLATION", "process"))
Application.put_env(:typhon, :isolation, isolation)
# What a test leaves running is not waited for.
Application.put_env(:typhon, :shutdown, 0)
engine = String.to_atom(System.get_env("TYPHON_ENGINE", "auto"))
Application.put_env(:typhon, :engine, engine)

not_here = %{
  # Extension modules of all sorts; signals that end a system call.
  subinterpreters: [:any_extension, :signals],
  # A pool is one worker then.
  threads: [:several_workers]
}

# :packages: what the seven large packages do in several Pythons of one process.
exclude = if isolation == :process, do: [:packages], else: [:os_process]

# A Python without a GIL has threads alone.
free_threaded =
  isolation != :process and match?({:ok, %{free_threaded: true}}, Typhon.Env.describe("python3"))

exclude = if free_threaded, do: [:namespaces | exclude], else: exclude

# A SIGTERM would end this VM as if all was well, and what has not been tested would count as passed.
:os.set_signal(:sigterm, :default)

ExUnit.start(
  capture_log: true,
  exclude: exclude ++ Map.get(not_here, engine, []),
  # Bounds that only end a test that has failed: a machine may be busy.
  assert_receive_timeout: Typhon.TestHelper.limit(),
  timeout: 5 * Typhon.TestHelper.limit()
)
