# TYPHON_ISOLATION=interpreter: the same tests with the Pythons inside this VM, but for those that are about processes.
isolation = String.to_atom(System.get_env("TYPHON_ISOLATION", "process"))
Application.put_env(:typhon, :isolation, isolation)
if engine = System.get_env("TYPHON_ENGINE"), do: Application.put_env(:typhon, :engine, String.to_atom(engine))
ExUnit.start(capture_log: true, exclude: if(isolation == :process, do: [], else: [:os_process]))
