# frozen_string_literal: true

require_relative "erlterms"

module ErlPort
  # The BEAM, as seen from Ruby: calling its functions, sending messages, taking them. While a call waits for the BEAM, whatever
  # the BEAM asks of this Ruby meanwhile is run on top of it, whoever asks.
  module Erlang
    class ErlPortError < Exception; end # rubocop:disable Lint/InheritException
    class InvalidMessage < ErlPortError; end
    class UnknownMessage < ErlPortError; end
    class UnexpectedMessage < ErlPortError; end
    class UnexpectedResponses < UnexpectedMessage; end
    class DuplicateMessageId < ErlPortError; end

    # What the BEAM's function raised.
    class CallError < ErlPortError
      attr_reader :language, :type, :value, :stacktrace

      def initialize(value)
        @language, @type, @value, @stacktrace = value.is_a?(Typhon::Tuple) && value.size == 4 ? value.to_a : [nil, nil, value, []]
        super(value.inspect)
      end
    end

    SAME = ->(value) { value }
    IGNORE = ->(_message) {}

    # Of this process: there is one BEAM at most on the other side.
    @encoder = @decoder = SAME
    @handler = IGNORE

    class << self
      attr_reader :encoder, :decoder, :handler
      attr_writer :backend

      def backend
        @backend || raise(ErlPortError, "this Ruby was not started by an instance of ErlPort's: there is no BEAM on the other side")
      end

      # Call a function of the BEAM in a process of its own.
      def call(mod, function, args)
        raise ValueError, mod.inspect unless mod.is_a?(Symbol)
        raise ValueError, function.inspect unless function.is_a?(Symbol)
        raise ValueError, args.inspect unless args.is_a?(Array)

        @decoder.call(backend.call(mod, function, args.map(&@encoder)))
      end

      # Send a message to a process, by its pid or its name.
      def cast(pid, message)
        backend.cast(pid, message)
        nil
      end

      # The pid of the instance: what is sent to it reaches the message handler.
      def self = @self ||= backend.ask(:self)
      def make_ref = backend.ask(:make_ref)

      def set_encoder(&block) = @encoder = checked(block)
      def set_decoder(&block) = @decoder = checked(block)
      def set_message_handler(&block) = @handler = checked(block)
      def set_default_encoder = @encoder = SAME
      def set_default_decoder = @decoder = SAME
      def set_default_message_handler = @handler = IGNORE

      private

      def checked(block)
        raise ValueError, "expected single argument block" unless block && [1, -1, -2].include?(block.arity)

        block
      end
    end
  end
end
