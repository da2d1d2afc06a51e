# frozen_string_literal: true

require_relative "erlang"
require "typhon/worker"

module ErlPort
  # The worker of an instance: Typhon's, with ErlPort's dialect and ways. Questions go to the instance and not to whoever calls,
  # as in ErlPort their answers come from processes of their own.
  class Worker < Typhon::Worker
    # After so many bytes the instance is waited for: its device may be slow.
    UNREAD = 262_144
    PID_TAGS = [88, 103].freeze

    # $stdout and $stderr.
    class Output < Typhon::Output
      def initialize(raw, worker)
        super(raw)
        @worker = worker
      end

      def write(*parts)
        text = parts.join
        @worker.forked? ? @raw.write(text) : @worker.print(text)
        text.bytesize
      end
    end

    # $stdin: its bytes are the BEAM's.
    class Input
      def method_missing(*) = raise(IOError, "STDIN is closed for ErlPort connected process")
      def respond_to_missing?(*) = true
      def to_str = nil
    end

    def initialize(channel)
      super(channel, capture: false)
      @unread = 0
      self.handler = ->(message) { handle(message) }
    end

    def start(greeting)
      Erlang.backend = self
      $stdout = Output.new($stdout, self)
      $stderr = Output.new($stderr, self)
      $stdin = Input.new
      run(greeting)
    end

    def forked? = @channel.forked?
    def call(mod, function, args) = question([:call, mod, function, args])

    def ask(what) = ask_and_wait(0, what)
    def question(parts) = ask_and_wait(0, Typhon::Tuple.new(*parts), serves_all: true)

    def cast(pid, message)
      if pid.is_a?(ErlTerm::OpaqueObject) && PID_TAGS.include?(pid.data.getbyte(0))
        # What was printed before comes first.
        sync if @unread.positive?
        @channel.send_frame(SEND, 0, 0, Typhon::Tuple[pid, message], nil, true)
      else
        tell([:send, pid, message], 1)
      end
    end

    def print(text)
      tell([:print, text.b], text.bytesize)
      sync if @unread > UNREAD
    end

    private

    def erlport? = true
    def table = nil

    def tell(parts, weight)
      @channel.send_frame(ASK, 0, 0, Typhon::Tuple.new(*parts), nil, true)
      @unread += weight
    end

    def sync
      @unread = 0
      ask(:sync)
    end

    # A call ends that has printed: it has been printed when its caller goes on.
    def finish_output(_call)
      sync if @unread.positive?
    end

    def result(answer)
      value = answer.decode(nil, true)
      raise Erlang::CallError, value if answer.failed?

      value
    end

    # "file" or "", and "A::B::method": the last part is called, those before it name where it is.
    def invoke(file, name, args, _kwargs, _of_object)
      args = args.map(&Erlang.decoder)
      require file.to_s unless file.to_s.empty?
      *path, last = name.to_s.split("::")
      receiver = path.reduce(Typhon::Calls::MAIN) { |found, part| step(found, part) }
      Erlang.encoder.call(receiver.__send__(last || "", *args))
    end

    def step(found, part)
      within = found.equal?(Typhon::Calls::MAIN) ? Object : found
      return within.const_get(part) if within.is_a?(Module) && part.match?(/\A[A-Z]\w*\z/) && within.const_defined?(part)

      found.__send__(part)
    end

    def describe(error, _target = nil, _name = nil)
      kind = error.is_a?(Typhon::EncodeError) || error.is_a?(Typhon::DecodeError) ? ValueError : error.class
      message = error.is_a?(Typhon::EncodeError) ? error.reason : Typhon::Calls.message(error)
      lines = (error.backtrace || []).take_while { |line| !line.start_with?(__FILE__) || !line.include?("invoke'") }
      lines = lines.reject { |line| line.start_with?(__FILE__, Typhon::Calls::OWN) }
      lines = [+"<call>"] if lines.empty?
      Typhon::Tuple[:ruby, kind.to_s.to_sym, message, lines.reverse]
    end

    def handle_message(frame)
      Erlang.handler.call(frame.decode(nil, true))
    rescue SignalException
      raise
    rescue Exception => e
      tell([:message_handler_error, describe(e)], 0)
    end
  end
end
