# frozen_string_literal: true

require "bigdecimal"
require "date"

# What the tests of `language: :ruby` call.
module Sample
  class Broken < StandardError; end

  # A value of no counterpart.
  class Counter
    attr_accessor :count

    def initialize(start: 0) = @count = start
    def add(number) = @count += number
  end

  module Inner
    def self.name_of(value) = value.class.name
  end

  class << self
    def echo(value) = value
    def blank(size) = "x" * size
    def type(value) = value.class.name
    def encoding(value) = value.encoding.to_s
    def greet(name, punctuation: "!") = "hello #{name}#{punctuation}"
    def counter(start: 0) = Counter.new(start: start)
    def raise_broken(text) = raise(Broken, text)

    def with_cause
      raise_broken("first")
    rescue Broken
      raise ArgumentError, "second"
    end

    def apply(function, *args) = function.call(*args)
    def map(function, list) = list.map(&function)
    def with_block(list, &block) = list.map(&block)
    def beam_sum(list) = Typhon.call("Elixir.Enum", :sum, [list])

    def beam_failure
      Typhon.call("Elixir.String", :to_integer, ["x"])
    rescue Typhon::BeamError => e
      [e.kind, e.type, e.message.empty?]
    end

    def in_thread(list) = Thread.new { beam_sum(list) }.value
    def pid = Process.pid

    # Says by a file that it has begun, then works, sleeps or waits until it is interrupted.
    def overrun(file, how, caught)
      File.write(file, "")
      case how
      when "loop" then loop { 1 + 1 }
      when "sleep" then sleep
      when "queue" then Thread::Queue.new.pop
      when "stubborn" then Thread.handle_interrupt(Typhon::Cancelled => :never) { sleep }
      end
    rescue StandardError
      File.write(caught, "StandardError")
    rescue Typhon::Cancelled
      File.write(caught, "Cancelled")
      raise
    ensure
      File.write("#{caught}.ensure", "")
    end

    def numbers(upto, file)
      Enumerator.new do |all|
        1.upto(upto) do |number|
          File.write(file, ".", mode: "a")
          all << number
        end
      end
    end

    def failing_numbers = Enumerator.new { |all| all << 1 << 2; raise(Broken, "no more") }
    def print(text) = $stdout.print(text)
    def total(numbers) = numbers.sum
    def kill = Process.kill(:KILL, Process.pid)
    def live(kind) = ObjectSpace.each_object(Object.const_get(kind)).count

    def forward_messages(pid)
      Typhon.on_message { |message| Typhon.send(pid, Typhon::Tuple[:got, message]) }
      Typhon.self_pid
    end

    def send_all(to, count) = count.times { |i| Typhon.send(to, i) }
    def receive(timeout) = Typhon.receive(timeout: timeout)

    # On a thread of its own, beside the one that serves.
    def echo_on_a_thread(pid)
      Thread.new { loop { Typhon.send(pid, Typhon.receive) } }
      nil
    end
    # Minutes in one function of C that keeps Ruby's lock.
    def hold_lock(file)
      File.write(file, "")
      (7**40_000_000).to_s
    end

    def leave(status) = exit(status)
    def exhaust = exhaust
    def system(command) = Kernel.system(command)
    def range_type(range) = [range.class.name, range.to_a]
    def fork_and_ask = Process.wait2(fork { exit!(forked_asks) })[1].exitstatus

    def forked_asks
      Typhon.call("erlang", :node)
      1
    rescue StandardError
      7
    end
  end
end

def top_level(number) = number + 1
