"""Random values there and back, by hypothesis."""

import datetime
import decimal
import math
import pathlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import typhon
from typhon import Atom, BitString, ImproperList

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# Without those that stand for None, True and False, and the one that would make a struct.
ATOM = st.text(st.characters(exclude_categories=["Cs"]), max_size=255).filter(
    lambda name: name not in ("nil", "true", "false", "__struct__")
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 300), 1 << 300),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    ATOM.map(Atom),
    st.dates(),
    st.times(),
    st.datetimes(),  # "fold" means nothing without a zone
    st.datetimes(timezones=st.just(datetime.timezone.utc)),
    st.datetimes(
        timezones=st.sampled_from(["Europe/Paris", "America/New_York"]).map(__import__("zoneinfo").ZoneInfo)
    ),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.builds(range, st.integers(-100, 100), st.integers(-100, 100), st.integers(-9, 9).filter(bool)),
    st.binary(min_size=1, max_size=8).flatmap(
        lambda data: st.integers(1, 7).map(lambda bits: BitString(data, len(data) * 8 - bits))
    ),
)
KEYS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(KEYS, inner),
        st.sets(KEYS),
        st.builds(ImproperList, st.lists(inner, min_size=1), SCALARS),
    ),
    max_leaves=40,
)


def same(one, other) -> bool:
    """Equal, of the same types, all the way down: 1, 1.0 and True are not the same, nor are 0.0 and -0.0."""
    if type(one) is not type(other):
        return False
    match one:
        case float():
            return one == other and math.copysign(1, one) == math.copysign(1, other)
        case decimal.Decimal():
            return one.as_tuple() == other.as_tuple()
        case list() | tuple():
            return len(one) == len(other) and all(map(same, one, other))
        case dict():
            return len(one) == len(other) and all(
                same(a, b) and same(one[a], other[b]) for a, b in zip(one, other, strict=True)
            )
        case set():
            return one == other
        case ImproperList():
            return same(one.items, other.items) and same(one.tail, other.tail)
        case datetime.datetime():
            return one == other and one.tzinfo == other.tzinfo
        case _:
            return one == other


def imaginary(value) -> bool:
    """Whether it holds a wall time that never was: the hour that is left out when clocks go forward."""
    match value:
        case datetime.datetime():
            utc = datetime.timezone.utc
            return (
                value.tzinfo is not None
                and value.astimezone(utc).astimezone(value.tzinfo).replace(fold=value.fold) != value
            )
        case list() | tuple() | set():
            return any(map(imaginary, value))
        case dict():
            return any(imaginary(k) or imaginary(v) for k, v in value.items())
        case ImproperList():
            return imaginary(value.items) or imaginary(value.tail)
        case _:
            return False


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(VALUES)
def test_there_and_back(value):
    data = typhon.encode(value)
    again = typhon.decode(data)
    assert same(again, value) or imaginary(value), (value, again)
    assert same(typhon.decode(typhon.encode(again)), again)
    assert same(typhon.decode(typhon.encode(again, duration=True)), again)


@settings(max_examples=300, deadline=None)
@given(st.uuids(), st.lists(TEXT.filter(lambda part: "\0" not in part)))
def test_what_is_text(name, parts):
    path = pathlib.PurePosixPath(*parts)
    assert typhon.decode(typhon.encode([name, path])) == [str(name), str(path)]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(VALUES, st.data())
def test_a_prefix_is_never_a_term(value, data):
    term = typhon.encode(value)
    cut = data.draw(st.integers(0, len(term) - 1))
    try:
        typhon.decode(term[:cut])
    except typhon.DecodeError as error:
        assert error.code == "truncated"
    else:
        raise AssertionError(cut)


@settings(max_examples=2000, deadline=None)
@given(st.binary())
def test_random_bytes(data):
    for term in (data, b"\x83" + data):
        try:
            typhon.decode(term)
        except typhon.DecodeError:
            pass
