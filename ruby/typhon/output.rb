# frozen_string_literal: true

require "stringio"

module Typhon
  # $stdout and $stderr of a worker: what a call prints goes line by line to its caller, all else to the descriptors that the
  # worker's process reads.
  class Output
    LONGEST = 65_536
    # After so many bytes the caller is waited for: it may be slow to write them.
    UNREAD = 262_144
    # A line counts for some more.
    EACH = 256

    def self.install
      $stdout = new($stdout)
      $stderr = new($stderr)
    end

    # The call ends: what it printed last goes out, too.
    def self.finish(call)
      line = call[:line]
      emit(call, line) if line && !line.empty?
    end

    def self.emit(call, line)
      text = Calls.clean(line.dup)
      line.clear
      call[:sent] = (call[:sent] || 0) + text.bytesize + EACH
      if call[:sent] > UNREAD
        call[:sent] = 0
        Typhon.worker.question([:print, text], call[:id])
      else
        Typhon.worker.statement([:print, text], call[:id])
      end
    end

    def initialize(raw)
      @raw = raw
      raw.sync = true
    end

    def write(*parts)
      text = parts.join
      worker = Typhon.worker
      return @raw.write(text) unless worker.captures?

      call = worker.current
      line = (call[:line] ||= +"")
      line << Calls.clean(text)
      finished = line.rindex("\n")
      if finished
        Output.emit(call, line.slice!(0..finished))
      elsif line.bytesize > LONGEST
        Output.emit(call, line)
      end
      text.bytesize
    end

    def <<(object)
      write(object.to_s)
      self
    end

    %i[puts print printf putc p pp].each do |name|
      define_method(name) do |*args|
        buffer = StringIO.new
        buffer.__send__(name == :p || name == :pp ? :puts : name, *(name == :p || name == :pp ? args.map(&:inspect) : args))
        write(buffer.string)
        nil
      end
    end

    def flush = self
    def sync = true
    def sync=(value); end
    def fsync = 0
    def tty? = false
    alias isatty tty?
    def fileno = @raw.fileno
    def external_encoding = Encoding::UTF_8
    def close = nil
    def closed? = false
    def reopen(...) = @raw.reopen(...)
  end
end
