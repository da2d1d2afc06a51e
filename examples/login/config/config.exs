import Config

# Unit tests run without any Python. Those in test/python_test.exs start the application anew, with its own.
if config_env() == :test, do: config(:login, pool: Typhon.Test)
