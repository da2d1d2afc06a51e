# frozen_string_literal: true

# The worker process: ruby main.rb <os pid of the BEAM> <fd> <settings> [path …]. docs/internals.md ("The worker process") is
# the contract, exit codes included.
if (RUBY_VERSION.split(".").map(&:to_i) <=> [3, 1]).negative?
  puts "Typhon needs Ruby 3.1 or newer, and #{RbConfig.ruby} is Ruby #{RUBY_VERSION}"
  exit 96
end

beam_pid, fd, settings, *paths = ARGV
ARGV.clear
$LOAD_PATH.unshift(*paths)
Encoding.default_external = Encoding::UTF_8
$PROGRAM_NAME = "typhon ruby"

begin
  require_relative "worker"
rescue LoadError => e
  puts e.message
  exit 97
end

# stdin is the control pipe: out of the reach of user code and of children, which get /dev/null.
control = $stdin.dup
control.autoclose = false
control.close_on_exec = true
$stdin.reopen(File::NULL)
settings = settings.split(",").to_h { |pair| pair.split("=") }.transform_values(&:to_i)

begin
  Process.setpriority(Process::PRIO_PROCESS, 0, settings["nice"]) if settings.key?("nice")
  Process.setrlimit(Process::RLIMIT_NOFILE, settings["limit_files"]) if settings.key?("limit_files")
  Process.setrlimit(Process::RLIMIT_CPU, settings["limit_cpu"], settings["limit_cpu"] + 2) if settings.key?("limit_cpu")
rescue SystemCallError => e
  puts "typhon: the operating system refused a limit: #{e.message}"
  exit 98
end

begin
  channel = Typhon::Native::Channel.attach(beam_pid.to_i, fd.to_i, control.fileno)
rescue IOError => e
  puts "typhon: #{e.message}"
  exit 98
end
if settings.key?("limit_memory")
  mapped = File.read("/proc/self/statm").to_i * 4096
  Process.setrlimit(Process::RLIMIT_AS, mapped + settings["limit_memory"])
  channel.limit_memory
end

Typhon::Output.install
trap("TERM", "SYSTEM_DEFAULT")
worker = Typhon::Worker.new(channel, capture: settings.fetch("capture", 1) == 1, restricted: settings["restricted"] == 1)
Typhon.worker = worker
begin
  exit worker.run("version" => RUBY_VERSION, "implementation" => RUBY_ENGINE, "executable" => RbConfig.ruby,
                  "prefix" => RbConfig::CONFIG["prefix"], "os_pid" => Process.pid)
rescue Interrupt
  exit 130
end
