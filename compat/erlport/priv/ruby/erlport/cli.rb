# frozen_string_literal: true

# What an instance runs: ruby -e "require 'erlport/cli'" -- --packet=4 … --typhon=<os pid of the BEAM>:<fd>
place = ARGV.find { |argument| argument.start_with?("--typhon=") }
abort "erlport/cli is started by ruby:start/0: there is no BEAM on the other side" unless place
beam_pid, fd = place.delete_prefix("--typhon=").split(":").map(&:to_i)
nouse_stdio = ARGV.include?("--nouse_stdio")
ARGV.clear

begin
  require_relative "worker"
rescue LoadError => e
  puts e.message
  exit 97
end

# The BEAM's end of the port: its end is this worker's. Out of the reach of user code and of children.
control = nouse_stdio ? IO.for_fd(3) : $stdin.dup
control.autoclose = false
control.close_on_exec = true
$stdin.reopen(File::NULL) unless nouse_stdio
begin
  channel = Typhon::Native::Channel.attach(beam_pid, fd, control.fileno)
rescue IOError => e
  puts "erlport: #{e.message}"
  exit 98
end
trap("TERM", "SYSTEM_DEFAULT")
exit ErlPort::Worker.new(channel).start("version" => RUBY_VERSION, "implementation" => RUBY_ENGINE, "executable" => RbConfig.ruby,
                                        "prefix" => RbConfig::CONFIG["prefix"], "os_pid" => Process.pid)
