"""Values of the types that Python has and Elixir has not."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import uuid


@dataclasses.dataclass
class Point:
    x: int
    y: int


Pair = collections.namedtuple("Pair", "left right")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    pass


class Number(int):
    pass


class Items(list):
    pass


class Table(dict):
    pass


def point():
    return Point(1, 2)


def pair():
    return Pair("l", "r")


def colour():
    return Colour.RED


def level():
    return Level.LOW


def subclasses():
    return [Text("t"), Number(7), Items([1]), Table(a=1)]


def ordered():
    return collections.OrderedDict(a=1, b=2)


def infinities():
    return [float("nan"), float("inf"), float("-inf")]


def frozen():
    return frozenset([1, 2])


def moments():
    return [
        datetime.date(2026, 2, 28),
        datetime.time(12, 30, 1, 250),
        datetime.datetime(2026, 2, 28, 12, 30, 1),
        datetime.datetime(2026, 2, 28, 12, 30, 1, 5, tzinfo=datetime.timezone.utc),
    ]


def add_days(date, days):
    return date + datetime.timedelta(days=days)


def time_span(days=0, seconds=0, microseconds=0):
    return datetime.timedelta(days, seconds, microseconds)


def seconds(span):
    return span.total_seconds()


def texts():
    return [uuid.UUID(int=7), pathlib.Path("a") / "b", {pathlib.Path("k"): uuid.UUID(int=8)}]


def half(number):
    return decimal.Decimal(number) / 2


def span():
    return range(0, 10, 3)


def empty_span():
    return range(0)


def fraction():
    return fractions.Fraction(1, 3)


def lambda_():
    return lambda x: x


def generator():
    return (i for i in range(3))


def bytes_of_all_kinds():
    return [b"a\x00\xff", bytearray(b"b"), memoryview(b"c")]


def deep_unencodable():
    import typhon

    return {"rows": [1, {"bad": typhon.Atom("typhon_no_such_atom_" + "x" * 20)}]}


def cyclic():
    value = []
    value.append(value)
    return value
