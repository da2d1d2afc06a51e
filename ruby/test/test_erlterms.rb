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
    assert_equal "\x83w\x09undefined".b, encode(nil)
    assert_equal "\x83w\3nil".b, encode(:nil)
    assert_equal "\x83m\0\0\0\1\xff".b, encode("\xff")
    assert_equal "\x83l\0\0\0\1a\0a\1".b, encode(ImproperList.new([0], 1))
    assert_equal "\x83data".b, encode(OpaqueObject.new("data", :erlang))
    assert_raises(ValueError) { encode(Module.new) }
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
    assert_equal bytes, encode(map)
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
