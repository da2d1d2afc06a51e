# frozen_string_literal: true

module Typhon
  # Finding and calling what a request names, and what becomes of its exceptions.
  module Calls
    MAX_CHAIN = 32
    MAX_FRAMES = 200
    MAX_TEXT = 256 * 1024
    # Files of the worker, and the one whose `invoke` calls user code: what is below that in a backtrace is no business of the
    # caller's.
    OWN = __dir__
    HERE = __FILE__

    module_function

    # `target`: the name of a module ("A::B"), "main" or an object. `name`: a method; with dots, methods of what they return.
    # A keyword argument "&" is the block.
    def invoke(target, name, args, kwargs)
      raise TypeError, "args must be a list and kwargs a map" unless args.is_a?(::Array) && kwargs.is_a?(Hash)

      receiver = find(target)
      name = name.to_s
      receiver, name = walk(receiver, name) if name.include?(".") && name.match?(DOTTED)
      main = receiver.equal?(MAIN)
      if kwargs.empty?
        return main ? receiver.__send__(name, *args) : receiver.public_send(name, *args)
      end

      block = kwargs.delete("&")&.to_proc
      options = kwargs.transform_keys(&:to_sym)
      main ? receiver.__send__(name, *args, **options, &block) : receiver.public_send(name, *args, **options, &block)
    end

    DOTTED = /\A[[:word:]][[:word:].]*[?!=]?\z/

    def walk(receiver, name)
      *path, last = name.split(".")
      [path.reduce(receiver) { |found, step| found.public_send(step) }, last]
    end

    MAIN = TOPLEVEL_BINDING.receiver
    SERVICES = { "typhon._bulk" => :Bulk, "typhon._stream" => :Streams, "typhon._life" => :Life }.freeze

    def find(target)
      return target unless target.is_a?(String)
      return MAIN if ["main", "nil", ""].include?(target)
      return Typhon.const_get(SERVICES.fetch(target)) if SERVICES.key?(target)

      Object.const_get(target)
    end

    # {:ruby_exception, type, message, frames, cause, text}: docs/internals.md
    def describe(error, target, name)
      return Tuple[:cannot_encode, error.path, error.type_name || "", error.reason] if own?(error, EncodeError)
      return Tuple[:cannot_decode, error.path, error.reason] if own?(error, DecodeError)

      term(error, target, name, 0)
    end

    # Raised by the codec for an argument or a result, and not by user code that called it.
    def own?(error, kind)
      first = error.backtrace_locations&.first
      error.is_a?(kind) && first&.path == File.join(OWN, "worker.rb") && first.base_label != "send_frame"
    end

    def term(error, target, name, depth)
      frames = frames(error)
      frames = [Tuple["<call>", 1, clean("#{target.is_a?(String) ? target : target.class}.#{name}")]] if frames.empty? && depth.zero?
      cause = error.cause && depth < MAX_CHAIN ? term(error.cause, target, name, depth + 1) : nil
      Tuple[:ruby_exception, clean(error.class.name || "(anonymous class)"), message(error), frames, cause,
            depth.zero? ? text(error) : ""]
    end

    # Ruby 3.1 puts the line of the source into the message of a NameError: of a method that is missing in what was called,
    # that would be one of this file. Later Rubies have it elsewhere (detailed_message).
    HIGHLIGHT = /\n\n[^\n]*\n[ \t]*\^+(?=\n|\z)/

    def message(error)
      text = clean(error.message.to_s)
      error.is_a?(NameError) ? text.sub(HIGHLIGHT, "") : text
    rescue Exception => e
      "<message of #{error.class} raised #{e.class}>"
    end

    # Innermost first, as Ruby has them, down to the worker's own.
    def frames(error)
      found = (error.backtrace_locations || []).take_while { |frame| frame.path != HERE || frame.base_label != "invoke" }
      found = found.reject { |frame| frame.path.to_s.start_with?(OWN) }
      found = found.first(MAX_FRAMES / 2) + found.last(MAX_FRAMES / 2) if found.size > MAX_FRAMES
      found.map { |frame| Tuple[clean(frame.path.to_s), frame.lineno || 0, clean(frame.label.to_s)] }
    end

    def text(error)
      lines = (error.backtrace || []).take_while { |line| !line.start_with?(HERE) || !line.include?("invoke") }
      lines = lines.reject { |line| line.start_with?(OWN) }
      first = lines.first ? "#{lines.first}: " : ""
      clean("#{first}#{message(error)} (#{error.class})\n#{lines.drop(1).map { |line| "\tfrom #{line}\n" }.join}"[0, MAX_TEXT])
    end

    def clean(text)
      text = text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace) if text.encoding != Encoding::UTF_8
      text.scrub("?")
    end

    # Nobody waits for it.
    def report(error, where) = warn("Exception in #{where}:\n#{text(error)}")
  end

  # Many calls in one request: lib/typhon/multi.ex takes the results apart, python/typhon/_bulk.py says what they look like.
  module Bulk
    module_function

    def run(target, name, calls, stop, kwargs)
      each_of(calls.map { |args| [target, name, args, kwargs] }, stop)
    end

    def run_columns(target, name, columns, stop, kwargs) = run(target, name, columns.transpose, stop, kwargs)
    def run_each(calls, stop) = each_of(calls.map(&:to_a), stop)

    def each_of(calls, stop)
      results = []
      errors = []
      calls.each_with_index do |(target, name, args, kwargs), index|
        value = Calls.invoke(target, name, args, kwargs.dup)
        sendable!(value)
        results << value
      rescue StandardError, ScriptError, NoMemoryError, SystemStackError, SystemExit => e
        results << nil
        errors << Tuple[index, e.is_a?(Unsendable) ? e.term : Calls.describe(e, target, name)]
        break if stop
      end
      errors.empty? ? results : Tuple[results, errors]
    end

    # The result of one call that cannot cross must not take those of the others along.
    class Unsendable < StandardError
      attr_reader :term

      def initialize(term)
        @term = term
        super("it cannot be sent")
      end
    end

    # Handles are made of what is sent alone.
    class Pretended
      def put(_object) = 1
      def last_id = 0
      def rollback(_id) = nil
    end

    def sendable!(value)
      case value
      when nil, true, false, Integer, Float, Symbol then return
      end
      Native.sendable(value, Pretended.new)
    rescue EncodeError => e
      raise Unsendable, Tuple[:cannot_encode, e.path, e.type_name || "", e.reason]
    end
  end

  # What `Typhon.stream` reads: an Enumerator, or anything enumerable, batch by batch and no further than is asked for.
  module Streams
    SECONDS = 0.002

    def self.open(target, name, args, kwargs)
      result = Calls.invoke(target, name, args, kwargs)
      return Stream.new(result) if result.is_a?(Enumerator)
      return Stream.new(result.each_entry) if result.is_a?(Enumerable)

      raise TypeError, "a stream needs an Enumerator or an Enumerable, and the method returned #{result.class}"
    end

    # Held by the BEAM, which calls next until the end, and close when it wants no more.
    class Stream
      def initialize(enumerator)
        @enumerator = enumerator
        @error = nil
      end

      # Up to `count` elements, and whether they are the last. What an element raises is raised after those before it.
      def next(count)
        error, @error = @error, nil
        raise error if error

        batch = []
        limit = Process.clock_gettime(Process::CLOCK_MONOTONIC) + SECONDS
        while batch.size < count
          batch << @enumerator.next
          break if Process.clock_gettime(Process::CLOCK_MONOTONIC) > limit
        end
        Tuple[batch, false]
      rescue StopIteration
        Tuple[batch, true]
      rescue StandardError => e
        raise if batch.nil? || batch.empty?

        @error = e
        Tuple[batch, false]
      end

      def close
        @enumerator = [].each
        nil
      end
    end
  end

  # What a pool does with its workers between calls.
  module Life
    module_function

    def execute(code, name)
      eval(code, TOPLEVEL_BINDING, "<#{name}>", 1)
      nil
    end

    def reload(*)
      raise NotImplementedError, "Typhon.reload/3 is for Python alone: Typhon.restart/2 gives a pool of Rubies new workers"
    end

    # As on the command line: a library by its name, a file by its path.
    def require(name)
      Kernel.require(name.start_with?("./", "../") ? File.expand_path(name) : name)
      nil
    end
  end
end
