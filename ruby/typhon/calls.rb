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
    # A keyword argument "&" is the block. `of_object`: the target is an object, be it a String; its name may be an operation then.
    def invoke(target, name, args, kwargs, of_object = false)
      raise TypeError, "args must be a list and kwargs a map" unless args.is_a?(::Array) && kwargs.is_a?(Hash)

      receiver = of_object ? target : find(target)
      name = name.to_s
      return Objects.operate(receiver, name, args, kwargs) if of_object && name.start_with?(".")

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
    SERVICES = { "typhon._bulk" => :Bulk, "typhon._stream" => :Streams, "typhon._objects" => :Objects, "typhon._life" => :Life }.freeze

    def find(target)
      # An object that is a String, or a Tuple, is in a Tuple of its own.
      return target.to_a.first if target.is_a?(Tuple)
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
      frames = [Tuple["<call>", 1, clean(called(target, name))]] if frames.empty? && depth.zero?
      cause = error.cause && depth < MAX_CHAIN ? term(error.cause, target, name, depth + 1) : nil
      Tuple[:ruby_exception, clean(error.class.name || "(anonymous class)"), message(error), frames, cause,
            depth.zero? ? text(error) : ""]
    end

    # As it was called in Elixir.
    def called(target, name)
      return "Typhon#{name}" if name.to_s.start_with?(".")

      "#{target.is_a?(String) ? target : target.class}.#{name}"
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
      text = "#{first}#{message(error)} (#{error.class})\n#{lines.drop(1).map { |line| "\tfrom #{line}\n" }.join}"[0, MAX_TEXT]
      clean([text, error.instance_variable_get(NOTE)].compact.join)
    end

    # Ruby has no notes of exceptions. The text ends in it.
    NOTE = :@typhon_note

    def note(error, text)
      error.instance_variable_set(NOTE, text) unless error.frozen?
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
      stream(Calls.invoke(target, name, args, kwargs), "and the method returned")
    end

    def self.over(target) = stream(target, "and this object is")

    def self.stream(result, what)
      return Stream.new(result) if result.is_a?(Enumerator)
      return Stream.new(result.each_entry) if result.is_a?(Enumerable)

      raise TypeError, "a stream needs an Enumerator or an Enumerable, #{what} #{result.class}"
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

  # What the functions of Elixir's on objects do in Ruby.
  module Objects
    PYTHON = {
      "delete" => "delete an attribute",
      "doc" => "give a docstring",
      "enter" => "enter a context manager",
      "render" => "render an object",
      "save" => "render an object"
    }.freeze

    module_function

    def operate(target, name, args, kwargs)
      case name
      when ".get", ".get_path" then get(target, *args)
      when ".set" then set(target, *args)
      when ".item" then target[args.first]
      when ".put_item" then target[args.first] = args.last
      when ".len" then target.length
      when ".call" then Calls.invoke(target, "call", args, kwargs, true)
      when ".repr" then target.inspect
      when ".dir" then target.public_methods.map(&:to_s).sort
      when ".same" then target.equal?(args.first)
      when ".to_term" then target
      when ".chain" then chain(target, *args)
      else raise NotImplementedError, "Typhon#{name} is for objects of Python: Ruby cannot #{PYTHON.fetch(name.delete_prefix("."), "do that")}"
      end
    end

    # What methods without arguments return, with dots those of what the one before returns.
    def get(target, path) = path.split(".").reduce(target) { |found, name| found.public_send(name) }

    def set(target, path, value)
      *path, name = path.split(".")
      path.reduce(target) { |found, step| found.public_send(step) }.public_send("#{name}=", value)
      nil
    end

    # python/typhon/_chain.py says what a shape is.
    def chain(target, shape, args)
      left = args.dup
      steps = shape.split("\0").drop(1)
      steps.each_with_index.reduce(target) do |found, (step, index)|
        take_step(found, step, left)
      rescue StandardError => error
        Calls.note(error, "In a chain: step #{index + 1} of #{steps.size}, #{shown(step)}")
        raise
      end
    end

    def take_step(found, step, left)
      name = step[1..]
      case step[0]
      when "g" then get(found, name)
      when "i" then found[left.shift]
      else
        args = step[0].match?(/\d/) ? left.shift(step[0].to_i) : left.shift
        Calls.invoke(found, name.empty? ? "call" : name, args, step[0] == "&" ? left.shift : {}, true)
      end
    end

    def shown(step)
      kind = { "g" => "get", "i" => "item" }.fetch(step[0], "call")
      step.size > 1 ? "#{kind}: #{step[1..].inspect}" : kind
    end

    # Of a module: a constant, or what a method returns.
    def get_of_module(name, path)
      first, *rest = path.split(".")
      owner = Calls.find(name)
      found = owner.is_a?(Module) && first.match?(/\A[[:upper:]]/) ? owner.const_get(first) : owner.public_send(first)
      get(found, rest.join("."))
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
