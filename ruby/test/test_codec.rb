# frozen_string_literal: true

require "bigdecimal"
require "minitest/autorun"
require "typhon"

# Values to bytes and back, and bytes that nobody should have sent.
class TestCodec < Minitest::Test
  VALUES = [
    nil, true, false, :atom, :"", :"ключ", 0, 255, -1, 2**31, -(2**63), 2**64, -(2**2048), 0.0, -1.5, 1e300, "", "text", "grüße", [],
    [1, [2, []]], [*0..300], Typhon::Tuple[], Typhon::Tuple[1, Typhon::Tuple["x"]], {}, { "a" => 1, :b => [2], 3 => { nil => 4 } },
    Typhon::ImproperList.new([1, 2], :tail), 1..5, 10.step(1, -3), Set.new([1, "a"]), Time.utc(2024, 2, 29, 12, 30, 15.25r),
    BigDecimal("-12.50")
  ].freeze

  # A pid, a reference, a port, two functions, a bit string: as OTP writes them.
  TERMS = [
    "\x83Xw\x0dnonode@nohost\0\0\0P\0\0\0\0\0\0\0\0", "\x83Z\0\3w\x0dnonode@nohost\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0\3",
    "\x83xw\x0dnonode@nohost\0\0\0\0\0\0\0\5\0\0\0\0", "\x83qw\6erlangw\4nodea\0", "\x83M\0\0\0\2\3\xff\xa0"
  ].map(&:b).freeze

  def test_round_trips
    VALUES.each { |value| assert_equal [value], [Typhon.decode(Typhon.encode(value))] }
    assert_equal VALUES, Typhon.decode(Typhon.encode(VALUES))
  end

  def test_types_survive
    assert_equal Encoding::UTF_8, Typhon.decode(Typhon.encode("é")).encoding
    assert_equal "é", Typhon.decode(Typhon.encode("é".encode("ISO-8859-1")))
    assert Typhon.decode(Typhon.encode(Typhon::Tuple[1])).frozen?
    assert_equal({ "a" => 1 }, Typhon.decode(Typhon.encode(Struct.new(:a).new(1))))
    assert_equal %i[nan infinity neg_infinity], Typhon.decode(Typhon.encode([Float::NAN, Float::INFINITY, -Float::INFINITY]))
  end

  def test_terms_of_the_beam_go_back_in_the_same_bytes
    TERMS.each { |bytes| assert_equal bytes, Typhon.encode(Typhon.decode(bytes)) }
    assert_equal Typhon.decode(TERMS[0]), Typhon.decode(TERMS[0])
    assert_raises(NoMethodError) { Typhon::Pid.new }
  end

  def test_tuples
    tuple = Typhon::Tuple[1, :a]
    first, second = *tuple
    assert_equal [1, :a], [first, second]
    assert_equal 1, { tuple => 1 }[Typhon::Tuple[1, :a]]
    refute_equal tuple, [1, :a]
    assert_equal "{1, :a}", tuple.inspect
    case tuple
    in [number, :a] then assert_equal 1, number
    end
  end

  def test_errors_say_where
    error = assert_raises(Typhon::EncodeError) { Typhon.encode([1, { "a" => [Object.new] }]) }
    assert_equal 'term[1]["a"][0]', error.path
    error = assert_raises(Typhon::EncodeError) { Typhon.encode(["\xff"]) }
    assert_equal "term[0]", error.path
    error = assert_raises(Typhon::DecodeError) { Typhon.decode("\x83t\0\0\0\1m\0\0\0\1am\0\0\0\1\xff".b) }
    assert_equal 'term["a"]', error.path
    assert_match(/Typhon.bytes/, error.reason)
    loop_ = []
    loop_ << loop_
    assert_match(/10,000 levels/, assert_raises(Typhon::EncodeError) { Typhon.encode(loop_) }.reason)
  end

  def test_bytes_say_that_they_are
    bytes = "\x83t\0\0\0\2w\x0a__struct__w\x13Elixir.Typhon.Bytesw\4datam\0\0\0\1\xff".b
    value = Typhon.decode(bytes)
    assert_equal "\xff".b, value
    assert_equal Encoding::BINARY, value.encoding
    assert_equal "\x83m\0\0\0\1\xff".b, Typhon.encode(value)
  end

  def test_keys_that_are_one_in_ruby
    assert_raises(Typhon::DecodeError) { Typhon.decode("\x83t\0\0\0\2a\1a\2a\1a\3".b) }
  end

  def test_structs_that_are_wrong
    month = Typhon.encode({ __struct__: :"Elixir.Date", calendar: :"Elixir.Calendar.ISO", year: 2024, month: 13, day: 1 })
    assert_raises(Typhon::DecodeError) { Typhon.decode(month) }
    assert_raises(Typhon::DecodeError) { Typhon.decode(Typhon.encode({ __struct__: :"Elixir.Date" })) }
    unknown = { __struct__: :"Elixir.Unknown", a: 1 }
    assert_equal unknown, Typhon.decode(Typhon.encode(unknown))
  end

  def test_depth
    deep = []
    9_000.times { deep = [deep] }
    assert_equal Typhon.encode(deep), Typhon.encode(Typhon.decode(Typhon.encode(deep)))
    assert_raises(Typhon::DecodeError) { Typhon.decode("\x83".b + "l\0\0\0\1".b * 20_000 + "j" * 20_001) }
  end

  # Every prefix of a term is refused, and none of them brings Ruby down.
  def test_every_truncation
    [Typhon.encode(VALUES), *TERMS].each do |bytes|
      bytes.bytesize.times do |size|
        assert_raises(Typhon::DecodeError) { Typhon.decode(bytes.byteslice(0, size)) }
      end
    end
  end

  def test_absurd_lengths
    ["l", "i", "t", "m", "o", "k", "M"].each do |tag|
      assert_raises(Typhon::DecodeError) { Typhon.decode("\x83#{tag}\xff\xff\xff\xff".b) }
    end
  end

  # Bytes changed at random: an error or a value, and what is a value can be sent. TYPHON_ROUNDS: how many.
  def test_mutations
    random = Random.new(42)
    seeds = [Typhon.encode(VALUES), *VALUES.map { |value| Typhon.encode(value) }, *TERMS]
    Integer(ENV.fetch("TYPHON_ROUNDS", "20000")).times do |round|
      bytes = seeds[round % seeds.size].dup
      random.rand(1..4).times { bytes.setbyte(random.rand(bytes.bytesize), random.rand(256)) }
      [false, true].each do |erlport|
        value, = Typhon::Native.decode(bytes, erlport)
        Typhon::Native.encode(value, erlport)
      rescue Typhon::Error, ArgumentError
        next
      end
    end
  end

  # A collection at every allocation: what native code holds must be known to the collector.
  def test_collections
    deep = []
    100.times { |level| deep = [deep, { "key #{level}" => Typhon::Tuple["value #{level}", level.to_f / 3] }] }
    bytes = Typhon.encode([VALUES, deep])
    GC.stress = true
    value = Typhon.decode(bytes)
    again = Typhon.encode(value)
    error = assert_raises(Typhon::DecodeError) { Typhon.decode(bytes.byteslice(0, bytes.bytesize - 3)) }
    GC.stress = false
    assert_equal bytes, again
    assert_match(/term\[1\]/, error.path)
  ensure
    GC.stress = false
  end

  def test_compaction
    skip_compaction = !GC.respond_to?(:auto_compact=)
    GC.auto_compact = true unless skip_compaction
    bytes = Typhon.encode(VALUES * 20)
    50.times { assert_equal bytes, Typhon.encode(Typhon.decode(bytes)) }
  ensure
    GC.auto_compact = false unless skip_compaction
  end

  # What user code raises in the midst of the codec passes through it.
  def test_exceptions_pass
    hostile = Class.new(Struct.new(:a)) { def to_h = throw(:out, 7) }
    assert_equal(7, catch(:out) { Typhon.encode([[hostile.new(1)]]) })
    raising = Class.new(Struct.new(:a)) { def to_h = raise(NotImplementedError, "no") }
    assert_raises(NotImplementedError) { Typhon.encode([raising.new(1)]) }
    shrinking = nil
    list = []
    shrinker = Class.new(Struct.new(:a)) { define_method(:to_h) { shrinking.clear && {} } }
    shrinking = list.push(shrinker.new(1), 2, 3)
    assert_raises(Typhon::EncodeError) { Typhon.encode(list) }
  end

  def test_outside_of_a_worker
    assert_raises(Typhon::Error) { Typhon.call("erlang", "node") }
  end
end
