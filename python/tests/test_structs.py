"""Elixir structs that have a Python type of their own, in both directions."""

import datetime
import decimal
import zoneinfo

import pytest
from terms import (
    ISO,
    NIL,
    V,
    atom,
    binary,
    date_fields,
    floating,
    integer,
    listing,
    mapping,
    struct_,
    time_fields,
    tuple_,
    zone_fields,
)

import typhon
from typhon import Atom

UTC = datetime.timezone.utc


def decode(term: bytes):
    return typhon.decode(V + term)


def refusal(term: bytes) -> typhon.DecodeError:
    with pytest.raises(typhon.DecodeError) as caught:
        typhon.decode(V + listing(term))
    assert caught.value.path == "term[0]"
    assert caught.value.code == "value"
    return caught.value


def complaint(function, *args) -> str:
    """What this Python says: the words change from version to version."""
    with pytest.raises(ValueError) as caught:
        function(*args)
    return str(caught.value)


def both_ways(name, **fields):
    """The struct with its name first, and with its name last."""
    return [struct_(name, **fields), struct_(name, last=True, **fields)]


class TestBytesAndBuffers:
    @pytest.mark.parametrize("data", [b"", b"ascii", b"\xff\xfe\0", "größe".encode()])
    def test_bytes(self, data):
        for term in both_ways("Elixir.Typhon.Bytes", data=binary(data)):
            value = decode(term)
            assert value == data and type(value) is bytes

    @pytest.mark.parametrize("data", [b"", b"ascii", b"\xff\xfe\0", "größe".encode()])
    def test_buffer(self, data):
        for term in both_ways("Elixir.Typhon.Buffer", data=binary(data)):
            value = decode(term)
            assert type(value) is memoryview and value.readonly and value.format == "B"
            assert bytes(value) == data

    def test_buffer_is_a_view_of_the_input(self):
        data = V + listing(struct_("Elixir.Typhon.Buffer", data=binary(b"\xff" * 100)))
        (view,) = typhon.decode(data)
        assert view.obj is data
        assert view.nbytes == 100

    def test_buffer_of_memory_that_may_change_is_a_copy(self):
        data = bytearray(V + struct_("Elixir.Typhon.Buffer", data=binary(b"abc")))
        view = typhon.decode(data)
        data[-3:] = b"xyz"
        data += b"the bytearray is not locked"
        assert bytes(view) == b"abc" and view.readonly
        data = V + struct_("Elixir.Typhon.Buffer", data=binary(b"abc"))
        assert typhon.decode(memoryview(data)).obj is data

    def test_buffer_outlives_everything_else(self):
        view = typhon.decode(bytes(V + struct_("Elixir.Typhon.Buffer", data=binary(b"\xfe" * 1000))))
        assert bytes(view) == b"\xfe" * 1000

    def test_only_the_field_data_is_bytes(self):
        term = struct_(
            "Elixir.Typhon.Bytes", other=binary("text"), data=binary(b"\xff"), more=binary(b"text")
        )
        assert decode(term) == b"\xff"
        bad = struct_("Elixir.Typhon.Bytes", other=binary(b"\xff"), data=binary(b"\xff"))
        assert typhon.decode(V + bad) == b"\xff"

    @pytest.mark.parametrize("name", ["Bytes", "Buffer"])
    def test_refuses_other_data(self, name):
        assert refusal(struct_(f"Elixir.Typhon.{name}")).reason == f"a Typhon.{name} without the field data"
        assert (
            refusal(struct_(f"Elixir.Typhon.{name}", data=integer(1))).reason == "the field data is no binary"
        )
        assert (
            refusal(struct_(f"Elixir.Typhon.{name}", data=listing(binary("x")))).reason
            == "the field data is no binary"
        )

    def test_many_in_one_term_with_the_name_last(self):
        one = struct_("Elixir.Typhon.Bytes", last=True, data=binary(b"\xff"))
        inner = struct_("Elixir.Typhon.Bytes", data=binary(b"\xfe"), last=True, x=one, y=binary(b"\x80"))
        assert decode(listing(one, inner, binary("text"), one)) == [b"\xff", b"\xfe", "text", b"\xff"]

    def test_bytes_that_are_no_text_are_refused_where_no_struct_wants_them(self):
        inner = struct_("Elixir.Typhon.Bytes", last=True, data=binary(b"\xff"))
        term = mapping(binary("a"), inner, binary("b"), binary(b"\xfe\xff"), binary("c"), inner)
        with pytest.raises(typhon.DecodeError) as caught:
            typhon.decode(V + term)
        assert caught.value.path == 'term["b"]'
        assert (V + term)[caught.value.offset :].startswith(binary(b"\xfe\xff"))
        with pytest.raises(typhon.DecodeError) as caught:
            typhon.decode(V + struct_("Elixir.Mine", last=True, data=binary(b"\xff")))
        assert caught.value.path == "term[Atom('data')]"


class TestDatesAndTimes:
    @pytest.mark.parametrize("last", [False, True])
    def test_date(self, last):
        assert decode(struct_("Elixir.Date", last=last, **date_fields())) == datetime.date(2024, 2, 29)

    @pytest.mark.parametrize("last", [False, True])
    def test_time(self, last):
        term = struct_("Elixir.Time", last=last, calendar=ISO, **time_fields(us=123_000, precision=3))
        assert decode(term) == datetime.time(23, 59, 58, 123_000)

    def test_naive_datetime(self):
        value = decode(struct_("Elixir.NaiveDateTime", **date_fields(), **time_fields(us=7, precision=6)))
        assert value == datetime.datetime(2024, 2, 29, 23, 59, 58, 7) and value.tzinfo is None

    def test_utc(self):
        value = decode(
            struct_(
                "Elixir.DateTime", **date_fields(), **time_fields(), **zone_fields("Etc/UTC", "UTC", 0, 0)
            )
        )
        assert value == datetime.datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC)
        assert value.tzinfo is UTC

    @pytest.mark.parametrize(("std_offset", "fold"), [(3600, 0), (0, 1)])
    def test_the_offset_says_which_of_two_instants_is_meant(self, std_offset, fold):
        value = decode(
            struct_(
                "Elixir.DateTime",
                **date_fields(2024, 10, 27),
                **time_fields(2, 30, 0),
                **zone_fields("Europe/Paris", "x", 3600, std_offset),
            )
        )
        assert value.tzinfo is zoneinfo.ZoneInfo("Europe/Paris")
        assert (value.hour, value.fold) == (2, fold)
        assert value.utcoffset() == datetime.timedelta(seconds=3600 + std_offset)

    def test_the_instant_wins_over_this_machines_time_zone_data(self):
        value = decode(
            struct_(
                "Elixir.DateTime",
                **date_fields(2024, 7, 1),
                **time_fields(12, 0, 0),
                **zone_fields("Europe/Paris", "x", 0, 0),
            )
        )
        assert value == datetime.datetime(2024, 7, 1, 12, tzinfo=UTC)
        assert value.hour == 14

    @pytest.mark.parametrize(
        ("term", "reason"),
        [
            (
                struct_("Elixir.Date", **date_fields(2024, 13, 1)),
                f"cannot make a datetime.date: ValueError: {complaint(datetime.date, 2024, 13, 1)}",
            ),
            (
                struct_("Elixir.Date", calendar=ISO, year=integer(1), day=integer(1)),
                "a Date without the field month",
            ),
            (
                struct_(
                    "Elixir.Date",
                    calendar=atom("Elixir.Other"),
                    year=integer(1),
                    month=integer(1),
                    day=integer(1),
                ),
                "Python knows the calendar Calendar.ISO only",
            ),
            (
                struct_(
                    "Elixir.Time",
                    hour=integer(1),
                    minute=integer(1),
                    second=integer(1),
                    microsecond=integer(1),
                ),
                "the field microsecond is no tuple {microseconds, precision}",
            ),
            (
                struct_(
                    "Elixir.DateTime", **date_fields(), **time_fields(), **zone_fields("Etc/UTC", "", 0, 0)
                ).replace(binary("Etc/UTC"), atom("Etc/UTC")),
                "the field time_zone is no binary",
            ),
            (
                struct_(
                    "Elixir.DateTime", **date_fields(), **time_fields(), **zone_fields("No/Where", "", 0, 0)
                ),
                "cannot make a zoneinfo.ZoneInfo: zoneinfo._common.ZoneInfoNotFoundError: "
                "'No time zone found with key No/Where'",
            ),
        ],
    )
    def test_refuses_others(self, term, reason):
        assert refusal(term).reason == reason

    @pytest.mark.parametrize("year", [0, -1, 10_000, 1 << 70])
    def test_refuses_years_beyond_python(self, year):
        assert refusal(struct_("Elixir.Date", **date_fields(year, 1, 1))).reason.startswith(
            "cannot make a datetime.date: "
        )

    def test_the_cause_is_kept(self):
        error = refusal(struct_("Elixir.Date", **date_fields(2024, 13, 1)))
        assert isinstance(error.__cause__, ValueError)

    @pytest.mark.parametrize(
        "value",
        [
            datetime.date(1, 1, 1),
            datetime.date(9999, 12, 31),
            datetime.time(0, 0),
            datetime.time(1, 2, 3, 4),
            datetime.datetime(2024, 1, 2, 3, 4, 5, 6),
            datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
            datetime.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
            datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
            datetime.datetime(1890, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Amsterdam")),
            datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("America/New_York")),
        ],
    )
    def test_round_trip(self, value):
        again = typhon.decode(typhon.encode(value))
        assert again == value
        assert type(again) is type(value)
        if isinstance(value, datetime.datetime):
            assert again.replace(tzinfo=None) == value.replace(tzinfo=None)
            assert again.utcoffset() == value.utcoffset() and again.tzinfo == value.tzinfo

    def test_written_form(self):
        assert typhon.encode(datetime.date(2024, 2, 29)) == V + struct_("Elixir.Date", **date_fields())
        assert typhon.encode(datetime.time(23, 59, 58)) == V + struct_(
            "Elixir.Time", calendar=ISO, **time_fields()
        )
        assert typhon.encode(datetime.datetime(2024, 2, 29, 23, 59, 58, 5)) == V + struct_(
            "Elixir.NaiveDateTime", **date_fields(), **time_fields(us=5, precision=6)
        )
        paris = datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))
        assert typhon.encode(paris) == V + struct_(
            "Elixir.DateTime",
            **date_fields(2024, 7, 1),
            **time_fields(12, 0, 0),
            **zone_fields("Europe/Paris", "CEST", 3600, 3600),
        )

    def test_zones_without_a_name_become_utc(self):
        utc = V + struct_(
            "Elixir.DateTime",
            **date_fields(2024, 7, 1),
            **time_fields(12, 0, 0),
            **zone_fields("Etc/UTC", "UTC", 0, 0),
        )

        class Odd(datetime.tzinfo):
            def utcoffset(self, when):
                return datetime.timedelta(hours=2, microseconds=1)

            def dst(self, when):
                return None

            def tzname(self, when):
                return None

        for zone, hour in (
            (UTC, 12),
            (datetime.timezone(datetime.timedelta(hours=2)), 14),
            (zoneinfo.ZoneInfo("UTC"), 12),
            (zoneinfo.ZoneInfo("Etc/UTC"), 12),
        ):
            assert typhon.encode(datetime.datetime(2024, 7, 1, hour, tzinfo=zone)) == utc
        odd = datetime.datetime(2024, 7, 1, 14, tzinfo=Odd())
        assert typhon.decode(typhon.encode(odd)) == odd

    def test_a_zone_that_knows_no_offset_makes_no_aware_datetime(self):
        class Nothing(datetime.tzinfo):
            def utcoffset(self, when):
                return None

        value = typhon.decode(typhon.encode(datetime.datetime(2024, 7, 1, tzinfo=Nothing())))
        assert value == datetime.datetime(2024, 7, 1) and value.tzinfo is None

    def test_a_time_with_a_zone_is_refused(self):
        with pytest.raises(typhon.EncodeError) as caught:
            typhon.encode([datetime.time(1, tzinfo=UTC)])
        assert str(caught.value) == "value[0]: a time with a time zone: Elixir's Time has none"
        assert caught.value.type_name == "datetime.time"

    def test_errors_of_user_classes_come_through(self):
        class Broken(datetime.tzinfo):
            def utcoffset(self, when):
                raise RuntimeError("no idea")

        with pytest.raises(typhon.EncodeError) as caught:
            typhon.encode([datetime.datetime(2024, 7, 1, tzinfo=Broken())])
        assert str(caught.value) == "value[0]: cannot read a datetime: RuntimeError: no idea"
        assert isinstance(caught.value.__cause__, RuntimeError)

        class Stop(datetime.tzinfo):
            def utcoffset(self, when):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            typhon.encode([datetime.datetime(2024, 7, 1, tzinfo=Stop())])


class TestMapSet:
    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize("value", [NIL, atom("true"), listing(NIL)])
    def test_in(self, last, value):
        elements = mapping(integer(1), value, binary("a"), value, tuple_(integer(1), integer(2)), value)
        assert decode(struct_("Elixir.MapSet", last=last, map=elements, version=integer(2))) == {
            1,
            "a",
            (1, 2),
        }
        assert decode(struct_("Elixir.MapSet", last=last, map=mapping())) == set()

    def test_out(self):
        assert typhon.encode({1}) == V + struct_("Elixir.MapSet", map=mapping(integer(1), NIL))
        assert typhon.encode(frozenset()) == V + struct_("Elixir.MapSet", map=mapping())
        assert typhon.encode({1}, mapset_version=True) == V + struct_(
            "Elixir.MapSet", version=integer(2), map=mapping(integer(1), NIL)
        )

    @pytest.mark.parametrize(
        "value", [set(), {1}, {1, "a", (1, "b"), None, 1.5, frozenset()} - {frozenset()}]
    )
    def test_round_trip(self, value):
        again = typhon.decode(typhon.encode(value))
        assert again == value and type(again) is set

    def test_refuses_others(self):
        assert refusal(struct_("Elixir.MapSet")).reason == "a MapSet without the field map"
        assert refusal(struct_("Elixir.MapSet", map=integer(1))).reason == "the field map is no map"

    def test_of_sets_is_refused_with_the_reason(self):
        inner = struct_("Elixir.MapSet", map=mapping(integer(1), NIL))
        with pytest.raises(typhon.DecodeError) as caught:
            decode(struct_("Elixir.MapSet", map=mapping(inner, NIL)))
        assert caught.value.reason == (
            "an element of a MapSet is {1}, a set, which Python cannot hash: send a tuple or a string in its place"
        )


class TestDecimal:
    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize(
        ("sign", "coef", "exp", "text"),
        [
            (1, integer(150), 2, "1.50E+4"),
            (1, integer(150), -2, "1.50"),
            (-1, integer(0), 0, "-0"),
            (-1, integer(10**40 + 1), -3, "-" + "1" + "0" * 36 + "0.001"),
            (1, atom("NaN"), 0, "NaN"),
            (-1, atom("inf"), 0, "-Infinity"),
        ],
    )
    def test_in(self, last, sign, coef, exp, text):
        value = decode(struct_("Elixir.Decimal", last=last, sign=integer(sign), coef=coef, exp=integer(exp)))
        assert str(value) == str(decimal.Decimal(text)) and type(value) is decimal.Decimal

    def test_any_size(self):
        value = decimal.Decimal((1, (7,) * 10_000, -5_000))
        assert typhon.decode(typhon.encode(value)) == value

    @pytest.mark.parametrize(
        "text",
        [
            "0",
            "-0",
            "1.50",
            "1E+100",
            "-1E-100",
            "123456789012345678",
            "1234567890123456789",
            "Infinity",
            "-Infinity",
        ],
    )
    def test_round_trip(self, text):
        value = decimal.Decimal(text)
        again = typhon.decode(typhon.encode(value))
        assert again.as_tuple() == value.as_tuple()

    def test_nan(self):
        assert typhon.decode(typhon.encode(decimal.Decimal("NaN"))).is_nan()
        assert typhon.decode(typhon.encode(decimal.Decimal("sNaN"))).is_qnan()

    def test_out(self):
        assert typhon.encode(decimal.Decimal("-1.50")) == V + struct_(
            "Elixir.Decimal", sign=integer(-1), coef=integer(150), exp=integer(-2)
        )

    # A class of the user's may say anything: an exception that one part leaves behind is not overlooked at the next.
    @pytest.mark.parametrize(
        ("parts", "reason"),
        [
            (("x", (1,), 0), "cannot read a Decimal: TypeError: 'str' object cannot be interpreted as an integer"),
            (("x", (1,) * 19, 0), "cannot read a Decimal: TypeError: 'str' object cannot be interpreted as an integer"),
            (("x", (0,), "F"), "cannot read a Decimal: TypeError: 'str' object cannot be interpreted as an integer"),
            ([1, 2], "a Decimal whose as_tuple() is no tuple of three"),
        ],
    )
    def test_parts_that_are_none(self, parts, reason):
        class Odd(decimal.Decimal):
            def as_tuple(self):
                return parts

        with pytest.raises(typhon.EncodeError) as raised:
            typhon.encode([Odd(1)])
        assert raised.value.reason == reason

    def test_the_context_does_not_matter(self):
        with decimal.localcontext() as context:
            context.prec = 2
            value = decimal.Decimal("123456789.123456789123456789")
            assert typhon.decode(typhon.encode(value)).as_tuple() == value.as_tuple()

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"coef": integer(1), "exp": integer(1)}, "a Decimal without the field sign"),
            (
                {"sign": integer(2), "coef": integer(1), "exp": integer(1)},
                "the field sign is neither 1 nor -1",
            ),
            (
                {"sign": integer(1 << 70), "coef": integer(1), "exp": integer(1)},
                "the field sign is neither 1 nor -1",
            ),
            (
                {"sign": integer(1), "coef": binary("1"), "exp": integer(1)},
                "the fields coef and exp are not both integers",
            ),
            (
                {"sign": integer(1), "coef": integer(1), "exp": atom("x")},
                "the fields coef and exp are not both integers",
            ),
            (
                {"sign": integer(1), "coef": integer(-1), "exp": integer(1)},
                "the field coef is negative",
            ),
        ],
    )
    def test_refuses_others(self, fields, reason):
        assert refusal(struct_("Elixir.Decimal", **fields)).reason == reason

    def test_refuses_exponents_beyond_python(self):
        term = struct_("Elixir.Decimal", sign=integer(1), coef=integer(1), exp=integer(1 << 62))
        assert refusal(term).reason.startswith("cannot make a decimal.Decimal: ")
        term = struct_("Elixir.Decimal", sign=integer(1), coef=integer(1), exp=integer(1 << 100))
        assert refusal(term).reason.startswith("cannot make a decimal.Decimal: ")


class TestRange:
    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize(
        ("first", "end", "step", "expected"),
        [
            (1, 10, 1, range(1, 11)),
            (1, 10, 3, range(1, 11, 3)),
            (10, 1, -1, range(10, 0, -1)),
            (10, 1, 1, range(10, 2)),
            (1 << 70, (1 << 70) + 5, 2, range(1 << 70, (1 << 70) + 6, 2)),
        ],
    )
    def test_in(self, last, first, end, step, expected):
        term = struct_(
            "Elixir.Range", last=last, first=integer(first), last_=integer(end), step=integer(step)
        )
        value = decode(term.replace(atom("last_"), atom("last")))
        assert value == expected and list(value)[:9] == list(expected)[:9]

    def test_without_a_step(self):
        up = struct_("Elixir.Range", atom("first"), integer(1), atom("last"), integer(3))
        down = struct_("Elixir.Range", atom("first"), integer(3), atom("last"), integer(1))
        assert (decode(up), decode(down)) == (range(1, 4), range(3, 0, -1))

    def test_out(self):
        assert typhon.encode(range(0, 10, 3)) == V + struct_(
            "Elixir.Range", atom("first"), integer(0), atom("last"), integer(9), atom("step"), integer(3)
        )

    @pytest.mark.parametrize(
        "value", [range(5), range(0), range(5, 2), range(10, 0, -3), range(2**70, 2**71, 2**69)]
    )
    def test_round_trip(self, value):
        assert typhon.decode(typhon.encode(value)) == value

    def test_refuses_others(self):
        def term(step, first=integer(1)):
            return struct_("Elixir.Range", atom("first"), first, atom("last"), integer(2), atom("step"), step)

        assert (
            refusal(term(integer(0))).reason
            == "cannot make a range: ValueError: range() arg 3 must not be zero"
        )
        assert refusal(term(floating(1.0))).reason == "the field step is no integer"
        assert (
            refusal(term(integer(1), floating(1.0))).reason
            == "the fields first and last are not both integers"
        )
        assert refusal(struct_("Elixir.Range")).reason == "a Range without the field first"


class TestOtherStructs:
    @pytest.mark.parametrize("last", [False, True])
    def test_are_dicts_with_atom_keys(self, last):
        value = decode(struct_("Elixir.My.User", last=last, name=binary("Ann"), age=integer(3)))
        assert value == {Atom("__struct__"): Atom("Elixir.My.User"), Atom("name"): "Ann", Atom("age"): 3}
        assert typhon.decode(typhon.encode(value)) == value

    @pytest.mark.parametrize(
        "name", [binary("Elixir.Date"), integer(1), NIL, atom("nil"), struct_("Elixir.Date", **date_fields())]
    )
    def test_with_a_name_that_is_none(self, name):
        assert decode(mapping(atom("__struct__"), name, binary("year"), integer(1)))["year"] == 1

    def test_a_string_key_makes_no_struct(self):
        assert decode(mapping(binary("__struct__"), atom("Elixir.Date"))) == {
            "__struct__": Atom("Elixir.Date")
        }

    def test_an_object_of_another_process(self):
        assert refusal(struct_("Elixir.Typhon.Object", id=integer(1))).reason == (
            "a Typhon.Object means something only in the Python process that holds the object"
        )
        assert refusal(struct_("Elixir.Typhon.Object")).reason == "a Typhon.Object without the field id"
