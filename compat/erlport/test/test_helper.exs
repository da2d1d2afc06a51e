# What a test leaves running is not waited for.
Application.put_env(:typhon, :shutdown, 0)
# A SIGTERM would end this VM as if all was well, and what has not been tested would count as passed.
:os.set_signal(:sigterm, :default)

ExUnit.start(
  capture_log: true,
  # Bounds that only end a test that has failed: a machine may be busy.
  assert_receive_timeout: Typhon.TestHelper.limit(),
  timeout: 5 * Typhon.TestHelper.limit()
)
