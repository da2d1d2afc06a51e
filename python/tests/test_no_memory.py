"""Memory that runs out at each allocation in turn: a MemoryError or the right error, never a crash.

In a process of its own, with the hooks that CPython's own tests use, where this Python has them.
"""

from pathlib import Path

import pytest
from processes import run_python

PROGRAM = """
import sys, _testcapi, datetime, decimal, enum, typhon
sys.path.insert(0, sys.argv[1])
import terms as t

class Colour(enum.Enum):
    LIST = [1, 2]

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

assert sum(attempt(typhon.decode, t.V + term) for term in TERMS) > 100
assert sum(attempt(typhon.encode, value) for value in VALUES) > 50
print("done")
"""


def test_each_allocation_failing():
    pytest.importorskip("_testcapi")
    assert run_python(PROGRAM, str(Path(__file__).parent)) == "done"
