"""Terms to Python objects: plain values, paths, limits, refusals."""

import os
import struct
import sys
import zlib

import pytest
from terms import (
    NIL,
    V,
    around_power_of_two,
    atom,
    binary,
    floating,
    integer,
    listing,
    mapping,
    pid,
    struct_,
    tuple_,
)

import typhon
from typhon import Atom, ImproperList


def decode(term: bytes, **options):
    return typhon.decode(V + term, **options)


def refusal(term: bytes, **options) -> typhon.DecodeError:
    with pytest.raises(typhon.DecodeError) as caught:
        typhon.decode(V + term, **options)
    assert str(caught.value) == f"{caught.value.path}: {caught.value.reason}"
    return caught.value


class TestPlainValues:
    @pytest.mark.parametrize("value", [0, 1, 255, 256, -1, -128, -129, 1023, 1024])
    def test_small_integers(self, value):
        result = decode(integer(value))
        assert result == value and type(result) is int

    @pytest.mark.parametrize("bits", [7, 8, 15, 31, 32, 63, 64, 65, 127, 128, 2040, 2047, 2048, 20_000])
    def test_integers_at_the_edges(self, bits):
        for value in around_power_of_two(bits):
            result = decode(integer(value))
            assert result == value and type(result) is int

    def test_more_digits_than_decimal_text_may_have(self):
        value = 7 ** (sys.get_int_max_str_digits() * 2)
        assert decode(integer(value)) == value
        assert decode(integer(-value)) == -value

    @pytest.mark.parametrize("value", [0.0, -0.0, 1.5, -1e308, 5e-324])
    def test_floats(self, value):
        assert struct.pack("d", decode(floating(value))) == struct.pack("d", value)

    def test_atoms(self):
        assert decode(atom("nil")) is None
        assert decode(atom("true")) is True
        assert decode(atom("false")) is False
        assert decode(atom("ok")) is Atom("ok")
        # A float of the BEAM is never one of these, and an atom is never silently a float.
        assert decode(atom("infinity")) is Atom("infinity")
        for name in ("ni", "nile", "tru", "truex", "falsey", "", "é", "x" * 255):
            assert decode(atom(name)) is Atom(name)

    @pytest.mark.parametrize("text", ["", "a", "ascii", "größe", "日本", "😀", "x" * 100_000, "\0", "é" * 70])
    def test_binaries_are_text(self, text):
        assert decode(binary(text)) == text

    def test_lists(self):
        assert decode(NIL) == []
        assert decode(listing(integer(1), listing(integer(2)), NIL)) == [1, [2], []]
        assert decode(b"k\0\3abc") == [97, 98, 99]
        assert decode(listing(integer(1), tail=integer(2))) == ImproperList([1], 2)
        assert decode(listing(integer(1), tail=listing(integer(2), tail=integer(3)))) == ImproperList(
            [1, 2], 3
        )
        assert decode(listing(integer(1), tail=b"k\0\2ab")) == [1, 97, 98]

    def test_tuples(self):
        assert decode(tuple_()) == ()
        assert decode(tuple_(integer(1), tuple_(integer(2)))) == (1, (2,))
        assert decode(tuple_(*[integer(1)] * 300)) == (1,) * 300

    def test_maps(self):
        assert decode(mapping()) == {}
        result = decode(
            mapping(binary("b"), integer(1), atom("a"), mapping(integer(1), NIL), binary("a"), floating(1.5))
        )
        assert result == {"b": 1, Atom("a"): {1: []}, "a": 1.5}
        assert list(result) == ["b", Atom("a"), "a"]  # as the BEAM sent them

    def test_keys_of_every_hashable_kind(self):
        keys = [
            integer(1),
            integer(1 << 80),
            floating(1.5),
            atom("x"),
            atom("nil"),
            binary("k"),
            binary(""),
            pid(),
            tuple_(integer(1), tuple_()),
            b"M\0\0\0\1\1\x80",
        ]
        assert len(decode(mapping(*[part for key in keys for part in (key, NIL)]))) == len(keys)

    def test_keys_of_any_length(self):
        """Short keys come out of a cache; equal beginnings and ends must not matter."""
        texts = ["x" * n for n in range(100)]
        texts += ["a" * 8 + middle + "b" * 8 for middle in ("", "c", "d", "cc", "cd", "dc", "é")]
        texts += [f"prefix__{n:020}__suffix" for n in range(3000)]
        for _ in range(2):
            for text in texts:
                assert decode(mapping(binary(text), integer(1))) == {text: 1}

    def test_any_buffer(self):
        term = V + tuple_(integer(1), binary("x"))
        for data in (term, bytearray(term), memoryview(term), memoryview(bytearray(b"__" + term))[2:]):
            assert typhon.decode(data) == (1, "x")
        with pytest.raises(TypeError):
            typhon.decode("text")

    def test_compressed(self):
        inner = listing(*[binary("hello")] * 1000)
        packed = b"\x83P" + struct.pack(">I", len(inner)) + zlib.compress(inner)
        assert typhon.decode(packed) == ["hello"] * 1000
        with pytest.raises(typhon.DecodeError) as caught:
            typhon.decode(packed, max_inflated=100)
        assert caught.value.code == "too_large"


class TestOptions:
    def test_unknown_and_wrong_ones(self):
        with pytest.raises(TypeError, match=r"^decode\(\) got an unexpected keyword argument 'depth'$"):
            typhon.decode(V + NIL, depth=1)
        with pytest.raises(
            TypeError, match=r"^decode\(\) takes exactly one positional argument \(2 given\)$"
        ):
            typhon.decode(V + NIL, 1)
        with pytest.raises(
            TypeError, match=r"^decode\(\) takes exactly one positional argument \(0 given\)$"
        ):
            typhon.decode()
        with pytest.raises(OverflowError, match="^max_depth is too large$"):
            typhon.decode(V + NIL, max_depth=1 << 32)
        with pytest.raises(OverflowError):
            typhon.decode(V + NIL, max_atoms=-1)
        with pytest.raises(TypeError):
            typhon.decode(V + NIL, max_inflated="many")

    def test_max_atoms_counts_those_not_met_before(self):
        names = [f"fresh_{os.urandom(8).hex()}" for _ in range(3)]
        term = listing(*[atom(name) for name in names])
        error = refusal(term, max_atoms=2)
        assert (error.code, error.path) == ("too_many_atoms", "term[2]")
        kept = decode(term, max_atoms=3)
        assert decode(term, max_atoms=0) == kept


class TestPaths:
    @pytest.mark.parametrize(
        ("wrap", "path"),
        [
            (lambda bad: bad, "term"),
            (lambda bad: listing(integer(1), bad), "term[1]"),
            (lambda bad: tuple_(bad), "term[0]"),
            (lambda bad: mapping(binary("a"), bad), 'term["a"]'),
            (lambda bad: mapping(binary('q"\\\n'), bad), r'term["q\"\\\x0a"]'),
            (lambda bad: mapping(atom("a"), bad), "term[Atom('a')]"),
            (lambda bad: mapping(integer(7), bad), "term[7]"),
            (lambda bad: mapping(tuple_(integer(1), binary("x")), bad), "term[(1, 'x')]"),
            (lambda bad: mapping(binary("k" * 200), bad), f'term["{"k" * 57}…"]'),
            (lambda bad: mapping(bad, integer(1)), "term (a key)"),
            (lambda bad: listing(mapping(tuple_(bad), integer(1))), "term[0] (a key)"),
            (lambda bad: listing(integer(1), tail=bad), "term (tail)"),
            (
                lambda bad: listing(tuple_(mapping(binary("users"), listing(NIL, bad)))),
                'term[0][0]["users"][1]',
            ),
        ],
    )
    def test_of_a_bad_binary(self, wrap, path):
        error = refusal(wrap(binary(b"ab\xff")))
        assert error.path == path
        assert error.reason == (
            "a binary of 3 bytes that is not UTF-8 text (byte 2 is 0xff): wrap it in Typhon.bytes/1 to send bytes"
        )
        assert error.code == "value"

    def test_offset_is_that_of_the_term_at_fault(self):
        term = listing(integer(1), mapping(binary("a"), binary(b"\xff"), binary("b"), integer(1)))
        error = refusal(term)
        assert (V + term)[error.offset :].startswith(binary(b"\xff"))
        assert error.path == 'term[1]["a"]'

    def test_very_deep_ones_are_shortened(self):
        error = refusal(b"l\0\0\0\1" * 500 + binary(b"\xff") + b"j" * 500)
        assert error.path == "term" + "[0]" * 24 + "[…]" + "[0]" * 24

    def test_of_bad_bytes(self):
        error = refusal(listing(integer(1), b"\xfe"))
        assert (error.path, error.code, error.offset) == (
            "term[1]",
            "unsupported",
            8,
        ) or error.code == "invalid"
        error = refusal(listing(integer(1), integer(2))[:-2])
        assert (error.path, error.code) == ("term[1]", "truncated")
        assert error.reason == "expected more bytes: the input ends inside a term (byte 8)"


class TestRefusals:
    @pytest.mark.parametrize(
        ("term", "reason"),
        [
            (
                mapping(listing(integer(1)), integer(2)),
                "a key of a map is [1], a list, which Python cannot hash: send a tuple or a string in its place",
            ),
            (
                mapping(mapping(integer(1), integer(2)), integer(2)),
                "a key of a map is {1: 2}, a dict, which Python cannot hash: send a tuple or a string in its place",
            ),
            (
                mapping(tuple_(NIL), integer(2)),
                "a key of a map is ([],), a tuple, which Python cannot hash: send a tuple or a string in its place",
            ),
            (
                struct_("Elixir.MapSet", map=mapping(NIL, NIL)),
                "an element of a MapSet is [], a list, which Python cannot hash: send a tuple or a string in its place",
            ),
            (
                mapping(integer(1), integer(2), floating(1.0), integer(3)),
                "a map with the keys 1 and 1.0, which are equal in Python",
            ),
            (
                mapping(integer(0), integer(2), atom("x"), NIL, atom("false"), integer(3)),
                "a map with the keys 0 and False, which are equal in Python",
            ),
            (
                mapping(floating(0.0), integer(2), floating(-0.0), integer(3)),
                "a map with the keys 0.0 and -0.0, which are equal in Python",
            ),
            (
                mapping(binary("a"), integer(2), binary("a"), integer(3)),
                'a map with the keys "a" and "a", which are equal in Python',
            ),
            (
                struct_("Elixir.MapSet", map=mapping(integer(1), NIL, atom("true"), NIL)),
                "a MapSet with the elements 1 and True, which are equal in Python",
            ),
        ],
    )
    def test_of_keys(self, term, reason):
        error = refusal(listing(term))
        assert error.reason == reason
        assert error.code == "value"
        assert error.path in ("term[0]", "term[0][Atom('map')]")

    def test_of_a_private_format(self):
        assert (
            refusal(b"y" + b"\0" * 9).reason == "a term in the private format of another program (LOCAL_EXT)"
        )

    def test_leaves_no_exception_behind(self):
        refusal(binary(b"\xff"))
        assert decode(integer(1)) == 1


class TestDepth:
    def test_limit(self):
        nested = b"h\1" * 9_999 + tuple_(integer(1))
        value = decode(nested)
        for _ in range(10_000):
            (value,) = value
        assert value == 1
        error = refusal(b"h\1" + nested)
        assert (error.code, error.reason) == ("too_deep", "expected less nesting (byte 20001)")
        assert refusal(listing(listing(integer(1))), max_depth=1).path == "term[0]"
        assert decode(listing(integer(1)), max_depth=1) == [1]
        assert decode(NIL, max_depth=0) == []

    @pytest.mark.parametrize("opening", [b"h\1", b"l\0\0\0\1", b"t\0\0\0\1a\1", b"t\0\0\0\1"])
    def test_absurd_nesting_is_only_an_error(self, opening):
        assert refusal(opening * 200_000).code in ("too_deep", "truncated")
        assert refusal(opening * 200_000, max_depth=2**32 - 1).code == "truncated"
