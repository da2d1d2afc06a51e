# frozen_string_literal: true

require "set"

module Typhon
  # Elixir's structs as Ruby has them, and Ruby's objects as the BEAM has them. The native codec asks for each that it does not
  # know by itself; docs/ruby.md has the table.
  module Structs
    UTC = ["Etc/UTC", "UTC"].freeze

    module_function

    # `fields`: a Hash with :__struct__. What it stands for; itself when Ruby has no counterpart.
    def load(fields, objects)
      case fields[:__struct__]
      when :"Elixir.Typhon.Bytes", :"Elixir.Typhon.Buffer" then fields.fetch(:data)
      when :"Elixir.Typhon.Array" then Array.new(fields.fetch(:shape), fields.fetch(:dtype), fields.fetch(:data))
      when :"Elixir.Typhon.Object" then object(fields, objects)
      when :"Elixir.Typhon.Iter.Reference" then Iter.new(fields.fetch(:pull))
      when :"Elixir.Date" then date(fields)
      when :"Elixir.DateTime" then time(fields)
      when :"Elixir.MapSet" then Set.new(fields.fetch(:map).keys)
      when :"Elixir.Range" then range(fields.fetch(:first), fields.fetch(:last), fields.fetch(:step, 1))
      when :"Elixir.Decimal" then decimal(fields)
      when :"Elixir.Typhon.Struct" then fields.fetch(:fields)
      else fields
      end
    rescue KeyError => e
      raise ArgumentError, "a #{fields[:__struct__]} without the field #{e.key}"
    end

    def object(fields, objects)
      raise ArgumentError, "an object of a worker, where there is none" unless objects

      objects.get(fields.fetch(:id))
    end

    def iso!(fields)
      calendar = fields.fetch(:calendar, :"Elixir.Calendar.ISO")
      raise ArgumentError, "Ruby knows the calendar Calendar.ISO only" if calendar != :"Elixir.Calendar.ISO"
    end

    def date(fields)
      iso!(fields)
      require "date"
      # The Gregorian calendar for all times, as Elixir has it.
      Date.new(fields.fetch(:year), fields.fetch(:month), fields.fetch(:day), Date::GREGORIAN)
    end

    def time(fields)
      iso!(fields)
      parts = %i[year month day hour minute second].map { |name| fields.fetch(name) }
      microsecond = fields.fetch(:microsecond)[0]
      seconds = parts.pop + Rational(microsecond, 1_000_000)
      return Time.utc(*parts, seconds) if UTC.include?(fields.fetch(:time_zone))

      Time.new(*parts, seconds, fields.fetch(:utc_offset) + fields.fetch(:std_offset))
    end

    def range(first, last, step)
      raise ArgumentError, "a range of something else than integers" unless [first, last, step].all?(Integer)

      step == 1 ? (first..last) : first.step(last, step)
    end

    def decimal(fields)
      require "bigdecimal"
      sign, coefficient, exponent = fields.fetch_values(:sign, :coef, :exp)
      case coefficient
      when :NaN then BigDecimal::NAN
      when :inf then sign * BigDecimal::INFINITY
      else BigDecimal("#{'-' if sign.negative?}#{Integer(coefficient)}e#{Integer(exponent)}")
      end
    end

    # What the BEAM gets for an object; itself when there is no counterpart.
    def dump(object, mapset_version)
      case object
      when Set then dump_set(object, mapset_version)
      when Range then dump_range(object)
      when Enumerator::ArithmeticSequence then dump_steps(object)
      when Time then dump_time(object)
      when Array then { __struct__: :"Elixir.Typhon.Array", shape: object.shape, dtype: object.dtype, data: object.data.b }
      when Struct then object.to_h.transform_keys(&:to_s)
      else dump_loaded(object)
      end
    end

    # In ErlPort's dialect, which is there when erlport/erlterms has been loaded.
    def load_erlport(parts) = ErlPort::ErlTerm.load_part(parts)
    def dump_erlport(object) = ErlPort::ErlTerm.dump_object(object)

    # Classes that may not be loaded: an object of one says that it is.
    def dump_loaded(object)
      if defined?(::DateTime) && object.is_a?(::DateTime)
        dump_time(object.to_time)
      elsif defined?(::Date) && object.is_a?(::Date)
        day = object.gregorian
        { __struct__: :"Elixir.Date", calendar: :"Elixir.Calendar.ISO", year: day.year, month: day.month, day: day.day }
      elsif defined?(::BigDecimal) && object.is_a?(::BigDecimal)
        dump_decimal(object)
      elsif defined?(::Data) && object.is_a?(::Data) && object.respond_to?(:to_h)
        object.to_h.transform_keys(&:to_s)
      else
        object
      end
    end

    def dump_set(set, version)
      fields = { __struct__: :"Elixir.MapSet", map: set.to_h { |element| [element, []] } }
      fields[:version] = 2 if version
      fields
    end

    def dump_range(range)
      first = range.begin
      last = range.end
      return range unless first.is_a?(Integer) && last.is_a?(Integer)

      { __struct__: :"Elixir.Range", first: first, last: range.exclude_end? ? last - 1 : last, step: 1 }
    end

    def dump_steps(steps)
      first = steps.begin
      last = steps.end
      step = steps.step
      return steps unless [first, last, step].all?(Integer)

      last -= step <=> 0 if steps.exclude_end?
      { __struct__: :"Elixir.Range", first: first, last: last, step: step }
    end

    # The instant, in UTC: Ruby's Time has no name of a zone that others know.
    def dump_time(time)
      time = time.getutc
      {
        __struct__: :"Elixir.DateTime", calendar: :"Elixir.Calendar.ISO", year: time.year, month: time.month, day: time.day,
        hour: time.hour, minute: time.min, second: time.sec, microsecond: time.usec.zero? ? Tuple[0, 0] : Tuple[time.usec, 6],
        time_zone: "Etc/UTC", zone_abbr: "UTC", utc_offset: 0, std_offset: 0
      }
    end

    def dump_decimal(number)
      sign = number.sign.negative? ? -1 : 1
      coefficient, exponent =
        if number.nan? then [:NaN, 0]
        elsif number.infinite? then [:inf, 0]
        else
          _, digits, _, point = number.split
          [digits.to_i, digits.to_i.zero? ? 0 : point - digits.length]
        end
      { __struct__: :"Elixir.Decimal", sign: sign, coef: coefficient, exp: exponent }
    end
  end

  # An enumerable of the BEAM, as `Typhon.iter/1` lends it for the time of a call. Elements come in batches, and the BEAM makes
  # no more of them than are asked for.
  class Iter
    include Enumerable

    FIRST = 64
    MOST = 4096

    def initialize(reference)
      @reference = reference
      @batch = []
      @count = FIRST
      @done = false
    end

    def each
      return to_enum unless block_given?

      loop do
        yield @batch.shift until @batch.empty?
        break if @done

        @batch, @done = *Typhon.worker.question([:pull, @reference, @count])
        @count = [@count * 2, MOST].min
      end
      self
    end

    # Let go of it early: its own clean-up runs now.
    def close
      return if @done

      @done = true
      @batch = []
      Typhon.worker.question([:pull, @reference, 0])
    end
  end
end
