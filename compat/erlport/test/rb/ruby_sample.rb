# frozen_string_literal: true

# What the tests of ErlPort's interface call in Ruby.
include ErlPort
include ErlPort::ErlTerm

def add(a, b) = a + b
def identity(value) = value
def kind(value) = value.class.name.to_sym
def fail_with(message) = raise(ArgumentError, message)
def recurse(ruby, left) = left <= 0 ? :done : Erlang.call(:ruby_tests, :recurse, [ruby, left - 1])
def print_codes(codes) = puts(codes.pack("U*"))
def to_symbol(codes) = codes.pack("U*").to_sym
def pause(seconds) = sleep(seconds)
def object = Struct.new(:a).then { 1..3 }
def object_size(range) = range.size
def call_erlang(mod, function, args) = Erlang.call(mod, function, args)

def register(pid)
  Erlang.set_message_handler { |message| Erlang.cast(pid, message) }
  :kablam
end

def register_faulty
  Erlang.set_message_handler { |message| raise ValueError, message.to_s }
  :ok
end

def dates
  Erlang.set_encoder { |value| value.is_a?(Time) ? Tuple.new([:date, Tuple.new([value.year, value.month, value.day])]) : value }
  Erlang.set_decoder do |value|
    value.is_a?(Tuple) && value[0] == :date ? Time.utc(*value[1]) : value
  end
  :ok
end

def no_dates
  Erlang.set_default_encoder
  Erlang.set_default_decoder
  :ok
end

module Outer
  class Inner
    def self.answer = 42
  end
end
