# frozen_string_literal: true

require "typhon"
require "zlib"
require_relative "errors"

module ErlPort
  # Terms as ErlPort has them in Ruby.
  module ErlTerm
    # The bytes end before the term does.
    class IncompleteData < Exception; end # rubocop:disable Lint/InheritException

    class Tuple < Typhon::Tuple
      def initialize(items)
        raise TypeError, "a tuple is made of an Array, not of #{items.class}" unless items.is_a?(Array)

        super(*items)
      end

      def self.[](*items) = new(items)
      def inspect = "Tuple(#{to_a.inspect})"
      alias to_s inspect
    end

    # An Array with a tail that is none.
    class ImproperList < Array
      attr_reader :tail

      def initialize(items, tail)
        raise TypeError, "the tail of an improper list is no Array" if tail.is_a?(Array)
        raise ValueError, "an improper list has at least one element" if items.empty?

        super(items)
        @tail = tail
      end

      def ==(other) = other.is_a?(ImproperList) ? super && @tail == other.tail : super
      def eql?(other) = other.is_a?(ImproperList) && super && @tail.eql?(other.tail)
      def hash = [ImproperList, super, @tail].hash
      def inspect = "ImproperList(#{to_a.inspect}, #{@tail.inspect})"
    end

    # A map of Erlang's. A Hash of Ruby's own goes as an opaque object, as ErlPort has it.
    class Map < Hash; end

    # An object of a language that only that language can hold; of :erlang, a term that only the BEAM can make.
    class OpaqueObject
      attr_reader :data, :language

      NAME = :"$erlport.opaque"

      def initialize(data, language)
        raise TypeError, "the data must be a String" unless data.is_a?(String)
        raise TypeError, "the language must be a Symbol" unless language.is_a?(Symbol)

        @data = data.b.freeze
        @language = language
        freeze
      end

      # The object itself when it is Ruby's. Bytes from outside can make any object of any class: TYPHON_ERLPORT_UNPICKLE=0 in the
      # environment leaves them as they are.
      def self.decode(data, language)
        return new(data, language) if language != :ruby || ENV["TYPHON_ERLPORT_UNPICKLE"] == "0"

        Marshal.load(data)
      end

      # The term without the version byte.
      def encode = @language == :erlang ? @data : ErlTerm.encode(term)[1..]
      def term = Typhon::Tuple[NAME, @language, @data]
      def ==(other) = other.is_a?(OpaqueObject) && @data == other.data && @language == other.language
      alias eql? ==
      def hash = [OpaqueObject, @data, @language].hash
    end

    # What an OpaqueObject of Erlang's goes out as.
    class Raw < Typhon::Term
      def self.of(bytes) = allocate.tap { |term| term.instance_variable_set(:@raw, bytes) }
    end

    module_function

    # [value, the bytes that follow it]
    def decode(bytes)
      raise ValueError, "not a String: #{bytes.inspect}" unless bytes.is_a?(String)

      value, used = Typhon::Native.decode(bytes, true)
      [value, bytes.byteslice(used..)]
    rescue Typhon::DecodeError => e
      raise IncompleteData, e.message if e.incomplete?

      raise ValueError, "unsupported data: #{e.message}"
    end

    # `compressed`: zlib's level from 0 to 9, or true for 6; what does not become shorter stays as it is.
    def encode(value, compressed = false)
      bytes = Typhon::Native.encode(value, true)
      level = level_of(compressed)
      return bytes if level.zero?

      packed = Zlib::Deflate.deflate(bytes.byteslice(1..), level)
      return bytes if packed.bytesize + 5 > bytes.bytesize - 1

      "\x83P".b << [bytes.bytesize - 1].pack("N") << packed
    rescue Typhon::EncodeError => e
      raise ValueError, e.reason
    end

    def level_of(compressed)
      return 6 if compressed == true
      return 0 unless compressed.is_a?(Integer)
      raise ValueError, "invalid compression level: #{compressed}" unless compressed.between?(0, 9)

      compressed
    end

    # --- for the native codec ---

    # The elements of a tuple, a map, an improper list, or the bytes of a term that only the BEAM can make.
    def load_part(part)
      case part
      when Array then load_tuple(part)
      when Hash then Map.new.update(part)
      when Typhon::ImproperList then ImproperList.new(part.items, part.tail)
      else OpaqueObject.new(part, :erlang)
      end
    end

    def load_tuple(items)
      name, language, data = items
      return Tuple.new(items) unless items.size == 3 && name == OpaqueObject::NAME && language.is_a?(Symbol) && data.is_a?(String)

      OpaqueObject.decode(data, language)
    end

    def dump_object(object)
      case object
      when OpaqueObject then object.language == :erlang ? Raw.of(object.data) : object.term
      when ImproperList then Typhon::ImproperList.new(object.to_a, object.tail)
      else Typhon::Tuple[OpaqueObject::NAME, :ruby, Marshal.dump(object).b]
      end
    rescue TypeError => e
      raise Typhon::EncodeError.new("term", "unsupported data type: #{object.class} (#{e.message})")
    end
  end
end
