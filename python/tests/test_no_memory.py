"""Memory that runs out at each allocation in turn: a MemoryError or the right error, never a crash.

In a process of its own, with the hooks that CPython's own tests use, where this Python has them.
"""

from pathlib import Path

import pytest
from processes import run_python

PROGRAM = """
import sys, _testcapi, datetime, decimal, enum, fractions, pathlib, uuid, attrs, typhon
sys.path.insert(0, sys.argv[1])
import terms as t

class Colour(enum.Enum):
    LIST = [1, 2]

@attrs.define
class Attrs:
    a: object

class Converted:
    pass

typhon.encoder(Converted)(lambda value: ["converted"])
typhon.decoder("Elixir.Some")(lambda fields: [fields])

ZEROS = dict.fromkeys(("year", "month", "week", "day", "hour", "minute", "second"), t.integer(0))

TERMS = [
    t.listing(t.integer(1), t.integer(1 << 40), t.integer(1 << 100), t.integer(1 << 3000), t.floating(1.5),
              t.atom("fresh"), t.binary("text"), t.NIL, t.string(1, 2), t.tuple_(t.integer(5000))),
    t.mapping(t.binary("a key"), t.mapping(t.binary("b"), t.floating(2.5)), t.tuple_(t.integer(3000)), t.NIL),
    t.listing(t.pid(), t.reference(), t.export(), t.closure(),
              b"M\\0\\0\\0\\2\\3\\xff\\xe0", t.listing(t.integer(1), tail=t.integer(2))),
    t.struct_("Elixir.Date", **t.date_fields()),
    t.struct_("Elixir.MapSet", map=t.mapping(t.integer(4000), t.NIL, t.binary("abc"), t.NIL)),
    t.struct_("Elixir.Decimal", sign=t.integer(1), coef=t.integer(1 << 100), exp=t.integer(1)),
    t.struct_("Elixir.Typhon.Buffer", data=t.binary(b"\\xff" * 100)),
    t.struct_("Elixir.Typhon.Bytes", data=t.binary(b"\\xff" * 100), last=True),
    t.mapping(*[x for i in range(200) for x in (t.integer(i + 2000), t.floating(i + 0.5))]),
    b"l\\0\\0\\0\\1" * 100 + t.integer(1) + t.NIL * 100,
    t.listing(t.binary(b"\\xff")),
    t.mapping(t.integer(1), t.NIL, t.floating(1.0), t.NIL),
    t.mapping(t.NIL, t.NIL),
    t.struct_("Elixir.Date", **t.date_fields(2024, 13)),
    t.listing(t.integer(1), t.integer(2))[:-3],
    t.listing(t.tuple_(t.atom("timedelta"), t.integer(1), t.integer(2000), t.integer(3)),
              t.struct_("Elixir.Duration", **ZEROS, microsecond=t.tuple_(t.integer(0), t.integer(0)))),
    t.tuple_(t.atom("fraction"), t.integer(1), t.integer(3000)),
    t.tuple_(t.atom("complex"), t.floating(1.5), t.atom("nan")),
    t.struct_("Elixir.Typhon.Struct", name=t.atom("Elixir.Some"), fields=t.mapping(t.binary("a"), t.integer(1))),
]
VALUES = [
    [1, 1 << 100, 1 << 4000, -(1 << 300), 1.5, "text", "\\xe9" * 3000, b"x", None, {"a": [1, (2,)]}, {1, "a"},
     Colour.LIST, range(3), bytearray(b"xx"), memoryview(b"abcd")[::2]],
    ["x" * 5000, list(range(3000))],
    {(1, "x"): 1, (2,): 3, None: 4, b"b": 1, "z": 2},
    {"a": 1, b"a": 2},
    [object()],
    {"k": "\\ud800"},
    datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    decimal.Decimal(10) ** 30,
    typhon.decode(t.V + TERMS[2]),
    [datetime.timedelta(1), uuid.UUID(int=7), pathlib.Path("a"), fractions.Fraction(1, 3), 1j, Attrs(1), Converted()],
    {uuid.UUID(int=7): 1, str(uuid.UUID(int=7)): 2},
    [Attrs(object())],
]

def attempt(function, argument):
    memory_errors = 0
    for number in range(1, 300):
        _testcapi.set_nomemory(number, number + 1)
        try:
            function(argument)
        except MemoryError:
            memory_errors += 1
        except (typhon.DecodeError, typhon.EncodeError):
            pass
        finally:
            _testcapi.remove_mem_hooks()
    return memory_errors

def decode(term):
    return typhon.decode(term, tagged=True)

def encode(value):
    return typhon.encode(value, tagged=True)

assert sum(attempt(decode, t.V + term) for term in TERMS) > 100
assert sum(attempt(encode, value) for value in VALUES) > 50
print("done")
"""


def test_each_allocation_failing():
    pytest.importorskip("_testcapi")
    assert run_python(PROGRAM, str(Path(__file__).parent)) == "done"
