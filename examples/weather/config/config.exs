import Config

# The tests run without any Python: the pool of an application under test answers with stubs.
if config_env() == :test, do: config(:weather, python: Typhon.Test)
