"""Nothing is left behind: reference counts come back and memory stays flat, after failures, too."""

import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import itertools
import pathlib
import sys
import uuid

import attrs
import pytest
from terms import (
    NIL,
    V,
    atom,
    binary,
    closure,
    date_fields,
    floating,
    integer,
    listing,
    mapping,
    pid,
    reference,
    struct_,
    time_fields,
    tuple_,
    zone_fields,
)

import typhon
from typhon import Atom, BitString, ImproperList
from typhon._native import Kept


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Plain:
    a: object


@attrs.define
class Attrs:
    a: object


class Converted:
    def __init__(self, value):
        self.value = value


@typhon.encoder(Converted)
def converted(of):
    return of if of.value is None else {"value": [of.value]}


@typhon.decoder("Elixir.Leaks.Some")
def some(fields):
    return (fields["a"], 2.5)


def named(**fields):
    pairs = [term for name, value in fields.items() for term in (binary(name), value)]
    return struct_("Elixir.Typhon.Struct", name=atom("Elixir.Leaks.Some"), fields=mapping(*pairs))


Point = collections.namedtuple("Point", "x y")
CYCLE: list = []
CYCLE.append(CYCLE)

ENCODE = {
    "plain": [1, 1 << 40, 1 << 100, -(1 << 300), 1.5, "text", "é" * 2000, b"x", None, True, Atom("a")],
    "large": ["x" * 100_000, list(range(10_000))],
    "containers": [
        {"a": [1, (2, {"b": 3})]},
        {(1, 2): 3, None: 4, 1.5: [5]},
        ImproperList([1, [2]], 3),
        BitString(b"\x80", 1),
    ],
    "sets": [{1, "a", (1, 2)}, frozenset([frozenset([1])])],
    "classes": [
        Colour.RED,
        Plain([Plain(1)]),
        Point(1, [2]),
        range(3),
        bytearray(b"x"),
        memoryview(b"abc")[::2],
    ],
    "times": [
        datetime.date(2024, 1, 1),
        datetime.time(1),
        datetime.datetime(2024, 1, 1),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        decimal.Decimal("1.5"),
        decimal.Decimal(10) ** 25 + 1,
        decimal.Decimal("NaN"),
    ],
    "spans": [datetime.timedelta(1, 2, 3), datetime.timedelta(seconds=-1)],
    "text": [uuid.UUID(int=7), pathlib.Path("a/b"), {uuid.UUID(int=7): 1, pathlib.Path("a"): 2}],
    "described": [Attrs([1])],
    "converted": [Converted(1), Converted(Converted(2.5))],
    "refused": [{"a": [1, {"b": (object(),)}]}],
    "refused kept": [Kept([1]), {"a": Kept(Kept({}))}],
    "refused key": [{"a": 1, (1, object()): [2]}],
    "refused element": [{1, (2, object())}],
    "refused text": [{"a": "\ud800"}],
    "refused key text": [{"\ud800": [1]}],
    "colliding keys": [{"a": 1, b"a": 2, (1, b"x"): 3, (1, "x"): 4}],
    "cycle": [CYCLE],
    "refused dataclass": [Plain(object())],
    "refused described": [Attrs(object()), Attrs.__new__(Attrs)],
    "refused converted": [Converted(None), Converted(object())],
    "colliding text": [{uuid.UUID(int=7): 1, str(uuid.UUID(int=7)): 2}, {pathlib.Path("a"), "a"}],
}

SPAN = struct_(
    "Elixir.Duration",
    **{part: integer(0) for part in ("year", "month", "week", "day", "hour", "minute", "second")},
    microsecond=tuple_(integer(5000), integer(6)),
)

DECODE = {
    "plain": listing(
        integer(1),
        integer(1 << 40),
        integer(-(1 << 100)),
        integer(1 << 3000),
        floating(1.5),
        binary("x"),
        binary("é" * 2000),
        atom("ok"),
        atom("nil"),
        NIL,
        b"k\0\3abc",
    ),
    "containers": listing(
        tuple_(),
        tuple_(integer(5000)),
        mapping(binary("k"), listing(floating(1.0)), atom("k"), mapping()),
        listing(integer(1), tail=tuple_()),
    ),
    "opaque": listing(pid(), reference(), closure(binary("x")), b"M\0\0\0\1\3\xe0"),
    "bytes": listing(
        *[
            struct_(f"Elixir.Typhon.{name}", data=binary(b"\xff" * 50), last=last)
            for name in ("Bytes", "Buffer")
            for last in (False, True)
        ]
    ),
    "structs": listing(
        struct_("Elixir.Date", **date_fields()),
        struct_("Elixir.NaiveDateTime", **date_fields(), **time_fields()),
        struct_("Elixir.DateTime", **date_fields(), **time_fields(), **zone_fields("Etc/UTC", "UTC", 0, 0)),
        struct_(
            "Elixir.DateTime", **date_fields(), **time_fields(), **zone_fields("Europe/Paris", "x", 0, 0)
        ),
        struct_("Elixir.MapSet", map=mapping(integer(1), NIL, floating(5.5), NIL)),
        struct_("Elixir.MapSet", map=mapping(integer(1), NIL, floating(5.5), NIL), last=True),
        struct_("Elixir.Decimal", sign=integer(1), coef=integer(1 << 100), exp=integer(1)),
        struct_("Elixir.Range", atom("first"), integer(1), atom("last"), integer(2000)),
        struct_("Elixir.Other", x=floating(1.5)),
        named(a=floating(1.5)),
    ),
    "bad decoder": listing(named(b=floating(1.5))),
    "spans": listing(
        tuple_(atom("timedelta"), integer(1), integer(2000), integer(3)),
        tuple_(atom("timedelta"), floating(1.5), integer(2000), integer(3)),
        SPAN,
    ),
    "bad span": listing(tuple_(atom("timedelta"), integer(1 << 40), integer(2000), integer(3))),
    "truncated": listing(floating(1.5), mapping(binary("key"), listing(floating(2.5), binary("text"))))[:-8],
    "trailing": listing(floating(1.5)) + b"\0",
    "not text": listing(floating(1.5), mapping(binary("a"), binary(b"\xff"), binary("b"), floating(1.5))),
    "not text, in a key": mapping(
        binary("a"), floating(1.5), tuple_(floating(1.5), binary(b"\xff")), floating(1.5)
    ),
    "unhashable": listing(mapping(tuple_(NIL), floating(1.5))),
    "equal keys": mapping(integer(1), floating(1.5), floating(1.0), floating(2.5)),
    "equal elements": struct_("Elixir.MapSet", map=mapping(integer(1), NIL, floating(1.0), NIL)),
    "bad date": listing(struct_("Elixir.Date", **date_fields(2024, 13))),
    "bad struct": listing(struct_("Elixir.Range", atom("first"), floating(1.5))),
    "bad tail": listing(floating(1.5), tail=binary(b"\xff")),
    "fresh atoms": listing(*[atom(f"never kept {i}") for i in range(50)]),
}


def quietly(function, argument):
    try:
        function(argument)
    except (typhon.EncodeError, typhon.DecodeError):
        pass


def blocks_after(function, argument, rounds: int) -> int:
    for _ in range(rounds):
        quietly(function, argument)
    gc.collect()
    return sys.getallocatedblocks()


def check(function, argument):
    """A leak shows in every stretch of calls; what Python itself keeps for later does not."""
    blocks = [blocks_after(function, argument, 300) for _ in range(8)]
    growth = [after - before for before, after in itertools.pairwise(blocks)]
    assert min(growth[2:]) < 100, f"{growth} blocks in 300 calls each"


@pytest.mark.parametrize("name", ENCODE)
def test_encode(name):
    for value in ENCODE[name]:
        check(typhon.encode, value)


@pytest.mark.parametrize("name", ENCODE)
def test_encode_gives_back_every_reference(name):
    for value in ENCODE[name]:
        quietly(typhon.encode, value)
        held = [value]
        if isinstance(value, (list, tuple, set, frozenset)):
            held += value
        elif isinstance(value, dict):
            held += [*value.keys(), *value.values()]
        held = [o for o in held if type(o) is not int]  # the counts themselves are integers
        singletons = [None, True, ()]
        before = [sys.getrefcount(o) for o in held + singletons]
        for _ in range(1000):
            quietly(typhon.encode, value)
        after = [sys.getrefcount(o) for o in held + singletons]
        assert all(abs(a - b) < 100 for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("name", DECODE)
def test_decode(name):
    check(typhon.decode, V + DECODE[name])


@pytest.mark.parametrize("name", DECODE)
def test_decode_gives_back_every_reference(name):
    data = V + DECODE[name]
    quietly(typhon.decode, data)
    held = [data, None, True, (), Atom("ok"), Atom("__struct__"), typhon.Atom, typhon.Pid, typhon.DecodeError]
    before = [sys.getrefcount(o) for o in held]
    for _ in range(1000):
        quietly(typhon.decode, data)
    gc.collect()
    after = [sys.getrefcount(o) for o in held]
    assert all(abs(a - b) < 100 for a, b in zip(after, before, strict=True)), list(
        zip(held, before, after, strict=True)
    )


def test_large_memory_goes_back():
    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * 4096

    value = {"data": bytes(10_000_000), "list": list(range(200_000)), "text": "é" * 2_000_000}
    data = typhon.encode({k: v for k, v in value.items() if k != "data"})
    for _ in range(5):
        typhon.encode(value), typhon.decode(data)
    before = resident()
    for _ in range(30):
        typhon.encode(value), typhon.decode(data)
    assert resident() - before < 40_000_000


def test_the_collector_is_on_again():
    assert gc.isenabled()
    typhon.decode(V + listing(*[tuple_()] * 5000))
    assert gc.isenabled()
    quietly(typhon.decode, V + listing(*[tuple_()] * 5000)[:-3])
    assert gc.isenabled()
    gc.disable()
    try:
        typhon.decode(V + listing(*[tuple_()] * 5000))
        assert not gc.isenabled()
    finally:
        gc.enable()
