# frozen_string_literal: true

require "minitest/autorun"
require "erlport/erlterms"
require "erlport/erlang"

# ErlPort's terms, as its documentation describes them.
class TestErlterms < Minitest::Test
  include ErlPort::ErlTerm

  def test_decode_gives_what_follows
    assert_equal [:test, "tail"], decode("\x83d\0\4testtail".b)
    assert_equal [nil, ""], decode("\x83d\0\x09undefined".b)
    assert_equal [:nil, ""], decode("\x83d\0\3nil".b)
    assert_equal [[116, 101], ""], decode("\x83k\0\2te".b)
    assert_equal ["data", "tail"], decode("\x83m\0\0\0\4datatail".b)
    assert_equal [Tuple.new([[], []]), ""], decode("\x83h\2jj".b)
  end

  def test_decode_says_what_is_missing_and_what_is_wrong
    ["", "\x83", "\x83d", "\x83d\0\1", "\x83h\1", "\x83l\0\0\0\1j", "\x83m\0\0\0\1"].each do |bytes|
      assert_raises(IncompleteData, bytes.inspect) { decode(bytes.b) }
    end
    ["\0", "\x83z"].each { |bytes| assert_raises(ValueError) { decode(bytes.b) } }
  end

  def test_encode
    assert_equal "\x83m\0\0\0\2\xd0\x90".b, encode([0x410].pack("U*"))
    assert_equal "\x83d\0\x09undefined".b, encode(nil)
    assert_equal "\x83d\0\3nil".b, encode(:nil)
    assert_equal "\x83m\0\0\0\1\xff".b, encode("\xff")
    assert_equal "\x83l\0\0\0\1a\0a\1".b, encode(ImproperList.new([0], 1))
    assert_equal "\x83data".b, encode(OpaqueObject.new("data", :erlang))
    assert_raises(ValueError) { encode(Module.new) }
  end

  # Byte by byte what ErlPort's own encode gives.
  def test_encode_gives_the_bytes_of_erlport
    {
      true => "d\0\4true", false => "d\0\5false", nil => "d\0\x09undefined", "": "d\0\0", abc: "d\0\3abc",
      ("a" * 255).to_sym => "d\0\xff#{"a" * 255}", [] => "j", [1, 2] => "k\0\2\1\2", [0, 255] => "k\0\2\0\xff",
      [255] * 65_535 => "k\xff\xff#{"\xff" * 65_535}", [1] * 65_536 => "l\0\1\0\0#{"a\1" * 65_536}j",
      [0, 256] => "l\0\0\0\2a\0b\0\0\1\0j", [-1] => "l\0\0\0\1b\xff\xff\xff\xffj", [1, :a] => "l\0\0\0\2a\1d\0\1aj",
      [[1], [:a]] => "l\0\0\0\2k\0\1\1l\0\0\0\1d\0\1ajj", Tuple.new([[7]]) => "h\1k\0\1\7",
      ImproperList.new([1, 2], 3) => "l\0\0\0\2a\1a\2a\3", 1.5 => "F?\xf8#{"\0" * 6}", -5 => "b\xff\xff\xff\xfb",
      2**31 => "n\4\0\0\0\0\x80", -(2**64) => "n\x09\1#{"\0" * 8}\1", "é" => "m\0\0\0\2\xc3\xa9",
      { 1 => 2 } => "h\3d\0\x0f$erlport.opaqued\0\4rubym\0\0\0\x08#{Marshal.dump({ 1 => 2 })}",
      OpaqueObject.new("data", :x) => "h\3d\0\x0f$erlport.opaqued\0\1xm\0\0\0\4data"
    }.each { |value, bytes| assert_equal "\x83".b + bytes.b, encode(value), value.inspect[0, 60] }
    assert_equal "h\3d\0\x0f$erlport.opaqued\0\1xm\0\0\0\4data".b, OpaqueObject.new("data", :x).encode
    assert_equal "\x83w\2\xc3\xa9".b, encode(:é) # UTF-8, as the documentation says
    assert_equal [:é, ""], decode(encode(:é))
  end

  def test_levels_of_compression
    value = [[]] * 100
    assert_equal encode(value, 6), encode(value, true)
    ["6", 5.0, nil, false].each { |level| assert_equal encode(value), encode(value, level), level.inspect }
    [10, -1].each { |level| assert_equal "invalid compression level: #{level}", assert_raises(ValueError) { encode(value, level) }.message }
    # Also when that is no shorter: ErlPort compresses from the same length on.
    length = (1..100).find { |size| Zlib::Deflate.deflate("m\0\0\0".b + size.chr + "a" * size, 9).bytesize + 5 == size + 5 }
    assert_equal "P", encode("a" * length, 9)[1]
  end

  def test_compressed
    value = [[]] * 1000
    assert_equal [value, ""], decode(encode(value, true))
    assert_operator encode(value, 9).bytesize, :<, encode(value).bytesize
    assert_equal encode(value), encode(value, 0)
    assert_equal encode([1]), encode([1], 9)
  end

  def compressed(term) = "\x83P".b << [term.bytesize].pack("N") << Zlib::Deflate.deflate(term)

  def test_a_compressed_term_that_is_cut_off
    ["a\1".b, encode([[]] * 1000)[1..], encode(Random.new(1).bytes(2000))[1..]].each do |term|
      data = compressed(term)
      data.bytesize.times { |size| assert_raises(IncompleteData, size.to_s) { decode(data.byteslice(0, size)) } }
    end
  end

  def test_a_compressed_term_that_was_incomplete_before
    [encode("a" * 5000)[1..-2], encode(Tuple.new([1, [2]]))[1..-2], "l\0\0\0\1".b].each do |term|
      assert_raises(IncompleteData, term.inspect) { decode(compressed(term)) }
    end
  end

  def test_what_is_wrong_with_a_term_is_said
    error = assert_raises(ValueError) { decode("\x83h\2a\1z".b) }
    assert_equal "unsupported data: term[1]: expected the tag of a term (byte 5)", error.message
  end

  def test_tuple
    tuple = Tuple.new([1, 2])
    a, b = tuple
    assert_equal [1, 2, 2, "Tuple([1, 2])"], [a, b, tuple.length, tuple.to_s]
    assert_equal tuple, Tuple.new([1, 2])
    refute_equal tuple, Tuple.new([2, 1])
  end

  def test_improper_list
    list = ImproperList.new([1, 2], "tail")
    assert_equal [1, 2], list
    assert_equal "tail", list.tail
    refute_equal list, ImproperList.new([1, 2], "other")
    assert_equal list.hash, ImproperList.new([1, 2], "tail").hash
    assert_raises(TypeError) { ImproperList.new([1], []) }
    assert_raises(ValueError) { ImproperList.new([], 1) }
    assert_equal [list, ""], decode(encode(list))
  end

  def test_opaque_objects
    opaque = OpaqueObject.new("data", :language)
    assert_equal [opaque, ""], decode(encode(opaque))
    assert_equal encode(Tuple.new([:"$erlport.opaque", :language, "data"])), "\x83".b + opaque.encode
    assert_equal [1..3, ""], decode(encode(1..3))
    assert_equal [{ 1 => 2 }, ""], decode(encode({ 1 => 2 }))
    assert_raises(TypeError) { OpaqueObject.new("data", "language") }
    assert_raises(TypeError) { OpaqueObject.new([1], :language) }
  end

  def test_maps_stay_maps
    bytes = "\x83t\0\0\0\1w\1aa\1".b
    map, = decode(bytes)
    assert_equal({ a: 1 }, map)
    assert_equal "\x83t\0\0\0\1d\0\1aa\1".b, encode(map)
  end

  def test_pids_stay_pids
    bytes = "\x83Xw\x0dnonode@nohost\0\0\0P\0\0\0\0\0\0\0\0".b
    pid, = decode(bytes)
    assert_equal :erlang, pid.language
    assert_equal bytes, encode(pid)
  end

  def test_blocks_are_checked
    assert_raises(ValueError) { ErlPort::Erlang.set_encoder }
    assert_raises(ValueError) { ErlPort::Erlang.set_decoder { |_a, _b| 1 } }
    assert_raises(ValueError) { ErlPort::Erlang.call("erlang", :node, []) }
  end
end
