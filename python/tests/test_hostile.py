"""Bytes that nobody should send: cut at every place, changed at random, claiming absurd lengths."""

import random
import resource
import struct
import time
import tracemalloc

import pytest
from terms import (
    NIL,
    V,
    atom,
    binary,
    closure,
    date_fields,
    export,
    floating,
    integer,
    listing,
    mapping,
    pid,
    port,
    reference,
    struct_,
    time_fields,
    tuple_,
    zone_fields,
)

import typhon

EVERYTHING = V + listing(
    integer(1),
    integer(-1),
    integer(1 << 70),
    floating(1.5),
    atom("ok"),
    atom("nil"),
    atom("é"),
    binary("text"),
    b"k\0\2ab",
    NIL,
    tuple_(integer(1), tuple_()),
    listing(integer(1), tail=integer(2)),
    b"M\0\0\0\1\3\xe0",
    mapping(binary("k"), integer(1), tuple_(integer(1)), mapping()),
    pid(),
    port(),
    reference(),
    export(),
    closure(integer(1), listing(binary("x"))),
    struct_("Elixir.Typhon.Bytes", data=binary(b"\xff")),
    struct_("Elixir.Typhon.Bytes", data=binary(b"\xff"), last=True),
    struct_("Elixir.Typhon.Buffer", data=binary(b"\xff")),
    struct_("Elixir.Date", **date_fields()),
    struct_("Elixir.DateTime", **date_fields(), **time_fields(), **zone_fields("Etc/UTC", "UTC", 0, 0)),
    struct_("Elixir.MapSet", map=mapping(integer(1), NIL, binary("x"), NIL)),
    struct_("Elixir.Decimal", sign=integer(1), coef=integer(1), exp=integer(1)),
    struct_("Elixir.Range", atom("first"), integer(1), atom("last"), integer(2), atom("step"), integer(1)),
    struct_("Elixir.Other", x=integer(1)),
)


def attempt(data: bytes):
    """The decoded value, or the DecodeError; anything else is a failure of the test."""
    try:
        return typhon.decode(data)
    except typhon.DecodeError as error:
        assert error.path.startswith("term") and error.reason and 0 <= error.offset <= max(len(data), 1)
        assert str(error) == f"{error.path}: {error.reason}"
        return error


def test_every_prefix_is_truncated():
    typhon.decode(EVERYTHING)
    for size in range(len(EVERYTHING)):
        error = attempt(EVERYTHING[:size])
        assert isinstance(error, typhon.DecodeError), size
        assert error.code == "truncated", (size, str(error))


def test_bytes_after_the_term():
    error = attempt(EVERYTHING + b"\0")
    assert (error.code, error.offset, error.path) == ("trailing", len(EVERYTHING), "term")
    assert error.reason == f"expected the end of the input (byte {len(EVERYTHING)})"


def test_every_byte_changed():
    for place in range(len(EVERYTHING)):
        for value in (0, 1, 0x6C, 0x6D, 0x74, 0x7F, 0x80, 0xFF):
            data = bytearray(EVERYTHING)
            data[place] = value
            attempt(bytes(data))


def test_random_changes():
    rng = random.Random(1)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        for _ in range(200):
            data = bytearray(EVERYTHING)
            for _ in range(rng.choice((1, 2, 5, 20))):
                place = rng.randrange(len(data))
                match rng.randrange(4):
                    case 0:
                        data[place] = rng.randrange(256)
                    case 1:
                        data[place] = rng.choice(b"abcdefghijklmnopqrstuvwxyMPFRXYZ\x83")
                    case 2:
                        del data[place : place + rng.randrange(8)]
                    case 3:
                        data[place:place] = data[rng.randrange(len(data)) :][: rng.randrange(30)]
                if not data:
                    break
            value = attempt(bytes(data))
            if not isinstance(value, typhon.DecodeError):
                try:
                    typhon.encode(value)
                except typhon.EncodeError as error:
                    # Strings of bits and buffers can be keys, and meet the text of the same bytes there.
                    assert "one term on the BEAM" in error.reason or "lone surrogate" in error.reason


@pytest.mark.parametrize(
    "head",
    [
        b"l\xff\xff\xff\xff",
        b"i\xff\xff\xff\xff",
        b"t\xff\xff\xff\xff",
        b"m\xff\xff\xff\xff",
        b"o\xff\xff\xff\xff\0",
        b"k\xff\xff",
        b"M\xff\xff\xff\xff\1",
        b"p\xff\xff\xff\xff",
        b"v\xff\xff",
        b"i\x7f\xff\xff\xff",
        b"t\x0f\xff\xff\xff",
    ],
)
@pytest.mark.parametrize("repeat", [1, 1000])
def test_absurd_lengths_reserve_nothing(head, repeat):
    data = V + head * repeat + b"a\1"
    tracemalloc.start()
    try:
        error = attempt(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(error, typhon.DecodeError) and error.code == "truncated"
    assert peak < 1_000_000


def test_nested_claims_do_not_add_up():
    """Each list claims as many elements as there are bytes left; all together they would need terabytes."""
    size = 200_000
    levels = [b"l" + struct.pack(">I", size - 6 * i - 100) for i in range(1000)]
    data = V + b"".join(levels)
    data += b"\x6a" * (size - len(data))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = attempt(data)
    assert isinstance(error, typhon.DecodeError)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_bomb_of_zeros_is_limited():
    import zlib

    inner = b"m" + struct.pack(">I", 500 << 20)
    packer = zlib.compressobj(9)
    packed = (
        packer.compress(inner)
        + b"".join(packer.compress(bytes(1 << 20)) for _ in range(500))
        + packer.flush()
    )
    error = attempt(b"\x83P" + struct.pack(">I", len(inner) + (500 << 20)) + packed)
    assert error.code == "too_large"
