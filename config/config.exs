import Config

# A test that says nothing of time has all it needs, on a busy machine, too.
if config_env() == :test, do: config(:typhon, timeout: 120_000)
