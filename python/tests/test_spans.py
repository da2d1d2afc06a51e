"""timedelta, a Duration of Elixir's, and the tuple that stands for one where there is none."""

import datetime

import pytest
from terms import NIL, V, atom, binary, floating, integer, listing, mapping, struct_, tuple_

import typhon
from typhon import Atom

delta = datetime.timedelta


def tagged(days, seconds=0, microseconds=0):
    return tuple_(atom("timedelta"), integer(days), integer(seconds), integer(microseconds))


def duration(**fields):
    us = fields.pop("microsecond", (0, 0))
    names = ("year", "month", "week", "day", "hour", "minute", "second")
    numbers = {name: integer(fields.pop(name, 0)) for name in names}
    assert not fields
    return struct_("Elixir.Duration", **numbers, microsecond=tuple_(*map(integer, us)))


def refusal(term) -> typhon.DecodeError:
    with pytest.raises(typhon.DecodeError) as caught:
        typhon.decode(V + term)
    return caught.value


SPANS = [
    (delta(0), (0, 0, 0), {}),
    (delta(days=2, hours=1, microseconds=5), (2, 3600, 5), {"day": 2, "second": 3600, "microsecond": (5, 6)}),
    # All parts of a Duration have the sign of the whole.
    (delta(seconds=-1), (-1, 86_399, 0), {"second": -1}),
    (delta(microseconds=-1), (-1, 86_399, 999_999), {"microsecond": (-1, 6)}),
    (delta(days=-2), (-2, 0, 0), {"day": -2}),
    (delta(days=-2, microseconds=5), (-2, 0, 5), {"day": -1, "second": -86_399, "microsecond": (-999_995, 6)}),
    (
        delta.max,
        (999_999_999, 86_399, 999_999),
        {"day": 999_999_999, "second": 86_399, "microsecond": (999_999, 6)},
    ),
    (delta.min, (-999_999_999, 0, 0), {"day": -999_999_999}),
]


@pytest.mark.parametrize(("span", "parts", "fields"), SPANS)
def test_there_and_back(span, parts, fields):
    assert typhon.encode(span) == V + tagged(*parts)
    assert typhon.encode(span, duration=True) == V + duration(**fields)
    for term in (tagged(*parts), duration(**fields)):
        again = typhon.decode(V + term)
        assert again == span
        assert type(again) is delta


def test_parts_need_not_be_what_python_makes_of_them():
    assert typhon.decode(V + tagged(0, 90_000, -1)) == delta(seconds=90_000, microseconds=-1)
    fields = {"week": 1, "day": -1, "hour": 2, "minute": 3, "second": 4, "microsecond": (5, 3)}
    expected = delta(weeks=1, days=-1, hours=2, minutes=3, seconds=4, microseconds=5)
    assert typhon.decode(V + duration(**fields)) == expected


@pytest.mark.parametrize("field", ["year", "month"])
@pytest.mark.parametrize("count", [1, -1, 1 << 100])
def test_years_and_months_have_no_length(field, count):
    error = refusal(listing(duration(day=1), duration(**{field: count})))
    assert error.path == "term[1]"
    assert error.reason == (
        "a Duration with years or months, which have no fixed length, and a timedelta has no other: send days in "
        "their place, or the fields as a map"
    )


@pytest.mark.parametrize(
    "term",
    [tagged(1_000_000_000), tagged(1 << 200), tagged(999_999_999, 86_400), duration(second=1 << 80)],
)
def test_beyond_a_timedelta(term):
    error = refusal(mapping(binary("a"), listing(term)))
    assert error.path == 'term["a"][0]'
    assert error.reason.startswith("cannot make a datetime.timedelta: OverflowError: ")
    assert isinstance(error.__cause__, OverflowError)


def test_a_duration_that_is_none():
    whole = {name: integer(0) for name in ("year", "month", "week", "day", "hour", "minute", "second")}
    us = tuple_(integer(0), integer(0))
    assert refusal(struct_("Elixir.Duration", **whole)).reason == "a Duration without the field microsecond"
    assert "without the field year" in refusal(struct_("Elixir.Duration", microsecond=us)).reason
    for name in whole:
        broken = {**whole, name: floating(1.0)}
        reason = refusal(struct_("Elixir.Duration", **broken, microsecond=us)).reason
        assert reason == "a Duration whose fields are not all integers"
    for broken in (integer(5), tuple_(integer(5)), tuple_(NIL, integer(0))):
        assert refusal(struct_("Elixir.Duration", **whole, microsecond=broken)).reason


@pytest.mark.parametrize(
    "value",
    [
        (Atom("timedelta"), 1, 2),
        (Atom("timedelta"), 1, 2, 3, 4),
        (Atom("timedelta"), 1, 2.0, 3),
        (Atom("timedelta"), 1, None, 3),
        ("timedelta", 1, 2, 3),
        (Atom("other"), 1, 2, 3),
        (1, 2, 3, 4),
    ],
)
def test_other_tuples_stay_tuples(value):
    assert typhon.decode(typhon.encode(value)) == value


def test_as_keys():
    value = {delta(1): delta(2), "x": {delta(3)}}
    assert typhon.decode(typhon.encode(value)) == value
    assert typhon.decode(typhon.encode(value, duration=True)) == value
    with pytest.raises(typhon.EncodeError, match="are one term on the BEAM"):
        typhon.encode({delta(1): 1, (Atom("timedelta"), 1, 0, 0): 2})
    error = refusal(mapping(tagged(1), NIL, tagged(0, 86_400), NIL))
    assert error.reason.endswith("which are equal in Python")
    assert refusal(mapping(tagged(1), NIL, duration(hour=24), NIL)).reason.endswith("equal in Python")


def test_a_class_derived_from_it():
    class Own(delta):
        pass

    assert typhon.encode(Own(1)) == V + tagged(1)

    class Broken(delta):
        @property
        def seconds(self):
            raise RuntimeError("no")

    with pytest.raises(typhon.EncodeError, match="cannot read a timedelta: RuntimeError: no") as caught:
        typhon.encode([Broken(1)])
    assert caught.value.path == "value[0]"


FINER = (
    "a span of time with less than microseconds, which neither a timedelta nor Elixir's Duration has: round it to "
    "microseconds, or send its nanoseconds as an integer"
)


class TestNumpy:
    np = pytest.importorskip("numpy")

    @pytest.mark.parametrize(
        ("count", "unit", "span"),
        [
            (3, "W", delta(weeks=3)),
            (-1, "D", delta(days=-1)),
            (5, "ms", delta(milliseconds=5)),
            (7, "us", delta(microseconds=7)),
            (2_000, "ns", delta(microseconds=2)),
            (10**18, "as", delta(seconds=1)),
            (3, "5h", delta(hours=15)),
        ],
    )
    def test_with_a_length(self, count, unit, span):
        assert typhon.encode([self.np.timedelta64(count, unit)]) == V + listing(typhon.encode(span)[1:])

    @pytest.mark.parametrize(("count", "unit"), [(1, "ns"), (-1, "ns"), (1, "as"), ((1 << 62) + 1, "fs")])
    def test_finer_than_microseconds(self, count, unit):
        with pytest.raises(typhon.EncodeError) as caught:
            typhon.encode([self.np.timedelta64(count, unit)])
        assert (caught.value.path, caught.value.reason) == ("value[0]", FINER)

    def test_longer_than_a_timedelta(self):
        with pytest.raises(typhon.EncodeError, match="a span of time of more than 999,999,999 days"):
            typhon.encode(self.np.timedelta64(1 << 62, "s"))

    @pytest.mark.parametrize("unit", ["Y", "M"])
    def test_without_a_length(self, unit):
        with pytest.raises(typhon.EncodeError, match="has no counterpart on the BEAM$"):
            typhon.encode(self.np.timedelta64(1, unit))

    def test_in_arrays(self):
        spans = self.np.ma.array([1, 2], dtype="m8[s]", mask=[0, 1])
        assert typhon.decode(typhon.encode(spans)) == [delta(seconds=1), None]
        assert typhon.decode(typhon.encode(spans.data)).dtype == "<m8[s]"


class TestPandas:
    pd = pytest.importorskip("pandas")

    def test_there(self):
        span = self.pd.Timedelta(days=-1, microseconds=5)
        assert typhon.encode(span) == typhon.encode(span.to_pytimedelta())
        assert typhon.encode([self.pd.NaT]) == V + listing(atom("nil"))

    def test_nanoseconds(self):
        with pytest.raises(typhon.EncodeError) as caught:
            typhon.encode({"a": self.pd.Timedelta(1, "ns")})
        assert (caught.value.path, caught.value.reason) == ('value["a"]', FINER)

    def test_longer_than_a_timedelta(self):
        np = pytest.importorskip("numpy")
        with pytest.raises(typhon.EncodeError, match="a span of time of more than 999,999,999 days"):
            typhon.encode(self.pd.Timedelta(np.timedelta64(1 << 60, "s")))
