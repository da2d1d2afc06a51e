# frozen_string_literal: true

# Ruby's side of Typhon. In a worker `Typhon.call`, `Typhon.send` and the others talk to the BEAM; `Typhon.encode` and
# `Typhon.decode` work anywhere. docs/ruby.md is the manual.
module Typhon
  class Error < StandardError; end

  # A value that cannot go to the BEAM. `path` says where it is.
  class EncodeError < Error
    attr_reader :path, :reason, :type_name

    def initialize(path, reason, type_name = nil)
      @path = path
      @reason = reason
      @type_name = type_name
      super("#{path}: #{reason}")
    end
  end

  # Bytes, or a value, that Ruby cannot hold.
  class DecodeError < Error
    attr_reader :path, :reason

    def initialize(path, reason, incomplete = false)
      @path = path
      @reason = reason
      @incomplete = incomplete
      super("#{path}: #{reason}")
    end

    # Whether the bytes end inside of the term.
    def incomplete? = @incomplete
  end

  # The BEAM raised, exited or threw while it ran something for Ruby.
  class BeamError < Error
    attr_reader :kind, :type, :reason, :stacktrace

    def initialize(kind, type, message, reason, stacktrace)
      @kind = kind
      @type = type
      @reason = reason
      @stacktrace = stacktrace
      super(message)
    end
  end

  # Raised in a call that was given up. Not a StandardError: `rescue => e` lets it pass, `ensure` sees it.
  class Cancelled < Exception; end # rubocop:disable Lint/InheritException

  # A tuple of the BEAM's: immutable.
  class Tuple
    include Enumerable

    def initialize(*items)
      @items = items.freeze
      freeze
    end

    def self.[](*items) = new(*items)

    def [](*index) = @items[*index]
    def each(&block) = block ? @items.each(&block) : @items.each
    def size = @items.size
    alias length size
    def to_a = @items
    alias to_ary to_a
    alias deconstruct to_a
    def ==(other) = other.is_a?(Tuple) && @items == other.to_a
    def eql?(other) = other.is_a?(Tuple) && @items.eql?(other.to_a)
    def hash = [Tuple, @items].hash
    def inspect = "{#{@items.map(&:inspect).join(', ')}}"
    alias to_s inspect
  end

  # A list whose tail is no list.
  class ImproperList
    attr_reader :items, :tail

    def initialize(items, tail)
      @items = items.dup.freeze
      @tail = tail
      freeze
    end

    def ==(other) = other.is_a?(ImproperList) && @items == other.items && @tail == other.tail
    def eql?(other) = other.is_a?(ImproperList) && @items.eql?(other.items) && @tail.eql?(other.tail)
    def hash = [ImproperList, @items, @tail].hash
    def inspect = "[#{@items.map(&:inspect).join(', ')} | #{@tail.inspect}]"
  end

  # What only the BEAM can make, and gets back in the same bytes.
  class Term
    attr_reader :raw
    protected :raw

    def self.new(*) = raise(NoMethodError, "only the BEAM makes a #{name}")
    def ==(other) = other.instance_of?(self.class) && raw == other.raw
    alias eql? ==
    def hash = [self.class, @raw].hash
    def inspect = "#<#{self.class} #{@raw.unpack1('H*')}>"
  end

  class Pid < Term; end
  class Reference < Term; end
  class Port < Term; end

  # A bit string whose last byte has fewer than eight bits.
  class BitString < Term
    attr_reader :bits

    def bytes = @raw
    def ==(other) = super && bits == other.bits
    alias eql? ==
  end

  # A function of the BEAM's, called in the process whose call is being served.
  class Fun < Term
    def call(*args) = Typhon.worker.question([:apply, self, args])
    def to_proc = method(:call).to_proc
  end

  # dtype and data as of numpy's arrays, for which Ruby has no counterpart.
  Array = Struct.new(:shape, :dtype, :data)

  class << self
    # Bytes in Erlang's External Term Format.
    def encode(value) = Native.encode(value, false)

    def decode(bytes)
      value, used = Native.decode(bytes, false)
      raise DecodeError.new("term", "#{bytes.bytesize - used} bytes follow the term") if used != bytes.bytesize

      value
    end

    # Typhon.call("Elixir.Enum", :sum, [[1, 2]]) is Enum.sum([1, 2])
    def call(mod, function, args = []) = worker.question([:call, mod.to_s, function.to_s, args])

    # The process whose call is being served.
    def caller_pid = worker.question([:caller])
    # The process that stands for this worker: what is sent to it arrives in the mailbox.
    def self_pid = worker.question([:self], 0)

    # To a pid, a registered name, Tuple[name, node], or an alias. In a pool with `allow:` it is a BeamError unless this worker
    # was handed it, or `send_to:` lists it, and when the message is one by which processes are controlled (Tuple[:EXIT, …]).
    def send(dest, message)
      case dest
      when Pid, Reference, Tuple, Symbol then worker.send_message(dest, message)
      when String then worker.send_message(dest.to_sym, message)
      else raise TypeError, "a message goes to a Pid, a name or Tuple[name, node], not to #{dest.class}"
      end
      message
    end

    # The next message that was sent to this worker; nil after `timeout` seconds.
    def receive(timeout: nil) = worker.receive(timeout)
    # Each message is given to the block, between calls; without a block they are kept for `receive` again.
    def on_message(&block) = worker.handler = block

    def worker = @worker || raise(Error, "this Ruby is not a worker of Typhon: there is no BEAM on the other side")
    attr_writer :worker
  end
end

require_relative "typhon/structs"
begin
  require_relative "native/#{RbConfig::CONFIG['ruby_version']}/typhon_native"
rescue LoadError => e
  # What the build has written down when it found no Ruby to build for.
  left_out = File.join(__dir__, "left_out")
  why = File.exist?(left_out) ? "when it was built, #{File.read(left_out)}" : e.message
  raise LoadError, "Typhon has no native extension for Ruby #{RUBY_VERSION}: #{why}. It is built for the first ruby on the PATH, " \
                   "whose headers must be installed (Debian: ruby-dev). With this one there, build Typhon again: " \
                   "mix deps.compile typhon --force (in Typhon's own tree: mix compile)"
end
