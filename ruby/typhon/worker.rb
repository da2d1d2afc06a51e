# frozen_string_literal: true

require_relative "../typhon"
require_relative "calls"
require_relative "output"

module Typhon
  # What the BEAM has handles of.
  class ObjectTable
    attr_reader :last_id

    def initialize
      @objects = {}
      @last_id = 0
    end

    def put(object)
      @last_id += 1
      @objects[@last_id] = object
      @last_id
    end

    def get(id) = @objects.fetch(id) { raise ArgumentError, "there is no object #{id} in this worker (any more)" }
    def release(id) = @objects.delete(id)
    # What was put since then was never sent.
    def rollback(id) = (id + 1).upto(@last_id) { |late| @objects.delete(late) }
    def size = @objects.size
  end

  # Takes requests off the channel and runs them, on the main thread, one at a time; while one waits for the BEAM, those that
  # its question brings with it run on top. A second thread interrupts calls that were given up: Cancelled is raised in them,
  # and in nothing else, because it is masked everywhere but in user code.
  class Worker
    CALL = 2
    CAST = 3
    RELEASE = 4
    MESSAGE = 10
    ASK = 7
    SEND = 8
    READY = 1
    CHANNEL_BROKE = 99
    # native/channel/layout.h
    MOST_QUESTIONS = 1024

    MASKED = { Cancelled => :never }.freeze
    OPEN = { Cancelled => :immediate }.freeze

    Running = Struct.new(:id, :thread, :cancelled, :interrupted)

    attr_reader :objects
    attr_accessor :handler

    def initialize(channel, capture: true, restricted: false)
      @channel = channel
      @capture = capture
      @restricted = restricted
      @turns = SizedQueue.new(MOST_QUESTIONS)
      @objects = ObjectTable.new
      @lock = Mutex.new
      @running = []
      @given_up = {}
      # By the thread that serves it, whichever fiber of it runs.
      @current = {}.compare_by_identity
    end

    def run(greeting)
      Typhon.worker = self
      Thread.handle_interrupt(MASKED) do
        Thread.new { watch }.report_on_exception = true
        @channel.send_frame(READY, 0, 0, greeting, nil, false)
        serve_next until @channel.ends? || @channel.broken?
      end
      @channel.broken? ? CHANNEL_BROKE : 0
    end

    # --- asking ---

    def question(parts, id = current_id)
      # What is asked in nobody's name is answered by a process for each: only so many at a time.
      @turns << id if id.zero?
      turn = id.zero?
      ask_and_wait(id, Tuple.new(*parts))
    ensure
      @turns.pop if turn
    end

    def statement(parts, id = current_id) = @channel.send_frame(ASK, id, 0, Tuple.new(*parts), table, erlport?)

    # With an allow list the BEAM says whether it may be.
    def send_message(dest, message)
      return question([:send, dest, message], 0) if @restricted
      return @channel.send_frame(SEND, 0, 0, Tuple[dest, message], table, erlport?) if dest.is_a?(Pid)

      statement([:send, dest, message], 0)
    end

    def receive(timeout)
      limit = timeout && (now + timeout)
      loop do
        generation = @channel.generation
        frame = @channel.next_message
        return frame.decode(table, erlport?) if frame

        check_interrupted
        left = limit && (limit - now)
        return nil if left && left <= 0

        @channel.take(generation, left)
      end
    end

    # Whose output goes where it prints from.
    def captures? = (call = current) ? (@capture || call[:captured]) && call[:id] != 0 : false
    def current_id = current&.fetch(:id) || 0
    def current = @current[Thread.current]

    private

    # What a dialect has of its own.
    def erlport? = false
    def table = @objects
    def invoke(target, name, args, kwargs, of_object) = Calls.invoke(target, name, args, kwargs, of_object)
    def describe(error, target, name) = Calls.describe(error, target, name)
    def finish_output(call) = Output.finish(call)

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    def serve_next
      generation = @channel.generation
      if (frame = @channel.next_call)
        serve(frame)
      elsif @handler && (frame = @channel.next_message)
        handle_message(frame)
      else
        @channel.take(generation, nil)
      end
    end

    # `serves_all`: whatever comes meanwhile runs on top of this, not only what is called in order to answer.
    def ask_and_wait(id, term, serves_all: false)
      waiter = @channel.waiter
      @channel.send_frame(ASK, id, waiter.tag, term, table, erlport?)
      result(wait_for(waiter, serves_all))
    ensure
      waiter&.stop
    end

    def wait_for(waiter, serves_all)
      loop do
        generation = @channel.generation
        if (frame = waiter.next_nested || (serves_all && @channel.next_call))
          Thread.handle_interrupt(MASKED) { serve(frame) }
          next
        end
        answer = waiter.take_answer
        return answer if answer

        check_interrupted
        @channel.take(generation, nil)
      end
    end

    # A call that was given up while another one ran on top of it; and the end of the worker.
    def check_interrupted
      raise Cancelled, "the worker ends" if @channel.ends? || @channel.broken?

      call = current or return
      running = call[:running]
      raise Cancelled, "the caller gave up on this call" if running&.cancelled && !running.interrupted
    end

    def result(answer)
      value = answer.decode(table, erlport?)
      return value unless answer.failed?

      kind, type, message, reason, stacktrace = *value
      raise BeamError.new(kind, type, message, reason(reason, message), stacktrace)
    end

    # The term that was thrown may be any; one that Ruby cannot hold is told by the message.
    def reason(reason, message)
      return reason unless reason.is_a?(String) && reason.encoding == Encoding::BINARY

      Typhon.decode(reason)
    rescue DecodeError
      message
    end

    def handle_message(frame)
      Thread.handle_interrupt(OPEN) { @handler.call(frame.decode(table, erlport?)) }
    rescue SignalException, NoMemoryError
      raise
    rescue Exception => e
      Calls.report(e, "a message handler")
    end

    # --- serving ---

    def serve(frame)
      case frame.kind
      when RELEASE then frame.ids.each { |id| @objects.release(id) }
      when CALL, CAST then serve_call(frame)
      end
    end

    def serve_call(frame)
      return unless frame.claim?

      running = begin_call(frame)
      return refuse(frame) unless running

      outer = current
      call = { id: frame.id, captured: frame.captured?, running: running }
      @current[Thread.current] = call
      target = nil
      begin
        target, name, args, kwargs = *frame.decode(table, erlport?)
        value = Thread.handle_interrupt(OPEN) { invoke(target, name, args, kwargs, frame.of_object?) }
        exit if @channel.forked?
        finish_call(running)
        frame.kind == CALL ? @channel.reply(frame, false, value, table, erlport?) : @channel.cast_done
      rescue SignalException
        raise
      rescue Exception => e
        exit(e.is_a?(SystemExit) ? e.status : 1) if @channel.forked?
        finish_call(running)
        fail_call(frame, e, target, name, running.cancelled || @channel.ends?)
      ensure
        outer ? @current[Thread.current] = outer : @current.delete(Thread.current)
      end
    end

    def begin_call(frame)
      return nil if frame.expired?

      @lock.synchronize do
        # Of a closing BEAM nobody hears the answer.
        next nil if @given_up.delete(frame.id) || @channel.ends?

        running = Running.new(frame.id, Thread.current, false, false)
        @running.push(running)
        running
      end
    end

    def finish_call(running)
      finish_output(current) if current
      @lock.synchronize { @running.delete_if { |other| other.equal?(running) } }
      # What was raised too late for this call must not hit the next one.
      # Without a class: Ruby 3.1 crashes when it compares one with what is pending.
      return unless Thread.pending_interrupt?

      begin
        Thread.handle_interrupt(OPEN) { Thread.pass }
      rescue Cancelled
        nil
      end
    end

    def refuse(frame)
      if frame.kind == CALL
        @channel.reply(frame, true, :expired, nil, erlport?)
      else
        @channel.cast_done
      end
    end

    # `given_up`: a Cancelled says just that. Else it is an exception like any other, from another call perhaps.
    def fail_call(frame, error, target, name, given_up)
      if frame.kind == CAST
        Calls.report(error, "a cast")
        @channel.cast_done
      else
        term = given_up && error.is_a?(Cancelled) ? :cancelled : describe(error, target, name)
        @channel.reply(frame, true, term, nil, erlport?)
      end
    end

    # --- interrupting ---

    def watch
      while (ids = @channel.commands)
        ids.each { |id| give_up(id) }
      end
      @lock.synchronize { @running.last&.thread&.raise(Cancelled, "the worker ends") }
    end

    def give_up(id)
      @lock.synchronize do
        if (at = @running.index { |running| running.id == id })
          # Those on top of it go, too; each is interrupted when it is the innermost.
          @running[at..].each { |running| running.cancelled = true }
          last = @running.last
          last.interrupted = true
          last.thread.raise(Cancelled, "the caller gave up on this call")
        else
          # It has been claimed and not begun, or has ended.
          @given_up[id] = true
          @given_up.shift if @given_up.size > 65_536
        end
      end
    end
  end
end
