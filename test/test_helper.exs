# TYPHON_ISOLATION=interpreter: the same tests with the Pythons inside this VM, but for those that are about processes.
isolation = String.to_atom(System.get_env("TYPHON_ISOLATION", "process"))
Application.put_env(:typhon, :isolation, isolation)
ExUnit.start(capture_log: true, exclude: if(isolation == :process, do: [], else: [:os_process]))
