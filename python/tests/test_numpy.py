"""numpy scalars and arrays. The codec knows numpy by its attributes and buffers only."""

import datetime

import pytest
from processes import run_python
from terms import V, atom, binary, floating, integer, listing, struct_, tuple_

import typhon

np = pytest.importorskip("numpy")


def array_term(shape, dtype, data, last=False):
    return struct_(
        "Elixir.Typhon.Array",
        last=last,
        shape=tuple_(*map(integer, shape)),
        dtype=binary(dtype),
        data=binary(data),
    )


def holds_itself():
    array = np.array(None, dtype=object)
    array[()] = array
    return array


def refusal(term):
    with pytest.raises(typhon.DecodeError) as caught:
        typhon.decode(V + listing(term))
    assert caught.value.path == "term[0]"
    return caught.value


class TestScalars:
    @pytest.mark.parametrize(
        "kind",
        ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "longlong", "ulonglong"],
    )
    def test_integers(self, kind):
        info = np.iinfo(kind)
        for value in (info.min, info.max, 5):
            assert typhon.encode(np.dtype(kind).type(value)) == V + integer(int(value))

    @pytest.mark.parametrize("kind", ["float16", "float32", "float64", "longdouble"])
    def test_floats(self, kind):
        make = np.dtype(kind).type
        assert typhon.encode([make(1.5), make("nan"), make("-inf")]) == V + listing(
            floating(1.5), atom("nan"), atom("neg_infinity")
        )

    def test_others(self):
        assert typhon.encode([np.True_, np.False_]) == V + listing(atom("true"), atom("false"))
        assert typhon.encode(np.str_("x")) == V + binary("x")
        assert typhon.encode(np.bytes_(b"x")) == V + binary("x")
        for value in (np.complex64(1), np.timedelta64(1, "M"), np.void(b"x")):
            with pytest.raises(typhon.EncodeError, match="has no counterpart on the BEAM$"):
                typhon.encode(value)

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("2024", datetime.date(2024, 1, 1)),
            ("2024-02", datetime.date(2024, 2, 1)),
            ("2024-02-03", datetime.date(2024, 2, 3)),
            ("2024-02-03T04", datetime.datetime(2024, 2, 3, 4)),
            ("2024-02-03T04:05:06.123456", datetime.datetime(2024, 2, 3, 4, 5, 6, 123456)),
            ("2024-02-03T04:05:06.123456789", datetime.datetime(2024, 2, 3, 4, 5, 6, 123456)),
            ("NaT", None),
        ],
    )
    def test_dates(self, text, value):
        assert typhon.encode([np.datetime64(text)]) == typhon.encode([value])

    def test_refuses_dates_that_python_has_not(self):
        for value in (np.datetime64("20000-01-01"), np.datetime64("-0044-03-15"), np.datetime64(2**60, "s"), np.datetime64(2**60, "us")):
            with pytest.raises(typhon.EncodeError) as caught:
                typhon.encode([value])
            assert caught.value.path == "value[0]"
            assert caught.value.reason == "a datetime64 that is not in the years 1 to 9999: send str(...) or its integer"

    def test_what_is_missing(self):
        missing = [np.datetime64("NaT"), np.datetime64("NaT", "ns"), np.timedelta64("NaT"), np.ma.masked]
        assert typhon.encode(missing) == typhon.encode([None] * 4)
        assert typhon.encode({np.datetime64("NaT"): 1}) == typhon.encode({None: 1})
        with pytest.raises(typhon.EncodeError, match="are one term on the BEAM$"):
            typhon.encode({np.datetime64("NaT"): 1, None: 2})

    def test_as_keys(self):
        assert typhon.decode(typhon.encode({np.int64(1): "a", np.float32(1.5): "b"})) == {1: "a", 1.5: "b"}
        with pytest.raises(typhon.EncodeError, match="are one term on the BEAM$"):
            typhon.encode({np.str_("a"): 1, b"a": 2})


class TestArraysOut:
    def test_form(self):
        array = np.array([[1, 2, 3], [4, 5, 6]], dtype="<i2")
        assert typhon.encode(array) == V + array_term((2, 3), "<i2", array.tobytes())

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(24).reshape(2, 3, 4),
            np.arange(24).reshape(4, 6).T,
            np.arange(24).reshape(4, 6)[::2, ::-3],
            np.asfortranarray(np.arange(24.0).reshape(4, 6)),
            np.arange(5, dtype=">f8"),
            np.arange(6, dtype=">u2").reshape(2, 3).T,
            np.array(5.5),
            np.zeros((0, 3)),
            np.zeros((3, 0), dtype=">i4"),
            np.array([True, False]),
            np.array([1 + 2j, 3]),
            np.array([1.5], dtype="float16"),
            np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
            np.array([1, 2], dtype="m8[ns]")[::-1],
            np.array(["2024-01-01"], dtype=">M8[s]"),
            np.array(["é", "abc"]),
            np.array([b"ab", b"c"]),
            np.broadcast_to(np.float32(2), (3, 4)),
            np.arange(3).view(type("Sub", (np.ndarray,), {})),
        ],
        ids=lambda array: f"{array.dtype.str}{array.shape}{array.strides}",
    )
    def test_round_trip(self, array):
        data = typhon.encode([array, "after"])
        again, after = typhon.decode(data)
        assert after == "after"
        assert type(again) is np.ndarray
        assert again.dtype == array.dtype.newbyteorder("<")
        assert again.shape == array.shape
        np.testing.assert_array_equal(again, np.asarray(array))

    def test_read_only_arrays(self):
        array = np.arange(3)
        array.flags.writeable = False
        assert (typhon.decode(typhon.encode(array)) == array).all()

    @pytest.mark.parametrize(
        ("array", "reason"),
        [
            (
                np.array([[1, object()]]),
                '[0][0][1]: a value of type object has no counterpart on the BEAM',
            ),
            (
                np.zeros(2, dtype="i4,f8"),
                "[0]: an array of dtype [('f0', '<i4'), ('f1', '<f8')], whose elements have fields: send array.tolist(), or its "
                "columns, {name: array[name] for name in array.dtype.names}",
            ),
            (
                np.ma.zeros(2, dtype="i4,f8"),
                "[0]: an array of dtype [('f0', '<i4'), ('f1', '<f8')], whose elements have fields: send array.tolist(), or its "
                "columns, {name: array[name] for name in array.dtype.names}",
            ),
            (
                holds_itself(),
                "[0]: an array whose element is an array, and so on without end",
            ),
        ],
    )
    def test_refuses_others(self, array, reason):
        with pytest.raises(typhon.EncodeError) as caught:
            typhon.encode({"a": [array]})
        assert f"{caught.value.path}: {caught.value.reason}" == f'value["a"]{reason}'

    @pytest.mark.parametrize(
        ("array", "value"),
        [
            (np.array([[1, "a"], [None, {"b": 2}]], dtype=object), [[1, "a"], [None, {"b": 2}]]),
            (np.array([], dtype=object), []),
            (np.array({"a": 1}, dtype=object), {"a": 1}),
            (np.array([np.datetime64("NaT"), np.float64(1.5)], dtype=object), [None, 1.5]),
            (np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]]), [[1, None], [3, 4]]),
            (np.ma.array([1.5, 2.5]), [1.5, 2.5]),
            (np.ma.array(["a", "b"], mask=[1, 0]), [None, "b"]),
            (np.ma.array([1, "b"], mask=[1, 0], dtype=object), [None, "b"]),
            (np.ma.array(5), 5),
            (np.ma.array(5, mask=True), None),
            (
                np.ma.array(np.array([["2024-01-01", "2024-01-02", "NaT"]], dtype="M8[ns]"), mask=[[0, 1, 0]]),
                [[datetime.datetime(2024, 1, 1), None, None]],
            ),
            (np.ma.array(np.datetime64("2024-01-01")), datetime.date(2024, 1, 1)),
            (np.ma.array(np.datetime64("2024-01-01"), mask=True), None),
        ],
    )
    def test_become_lists(self, array, value):
        assert typhon.encode([array]) == typhon.encode([value])

    @pytest.mark.skipif(not hasattr(getattr(np, "dtypes", None), "StringDType"), reason="numpy 2 has it")
    def test_strings_of_any_length(self):
        assert typhon.encode(np.array(["a", "bcd"], dtype=np.dtypes.StringDType())) == typhon.encode(["a", "bcd"])


class TestArraysIn:
    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize("data", [b"\1\0\xff\xff", b"\1\0\2\0"])
    def test_array(self, last, data):
        array = typhon.decode(V + array_term((2, 1), "<i2", data, last))
        assert array.tolist() == np.frombuffer(data, "<i2").reshape(2, 1).tolist()
        assert array.dtype == "<i2" and not array.flags.writeable

    def test_is_a_view_of_the_input(self):
        data = typhon.encode(np.arange(1000))
        array = typhon.decode(data)
        address = array.__array_interface__["data"][0]
        start = np.frombuffer(data, "u1").__array_interface__["data"][0]
        assert start < address < start + len(data)
        del data
        assert array.sum() == 499500

    @pytest.mark.parametrize(
        ("term", "reason"),
        [
            (array_term((2,), "<i2", b"\0\0"), None),
            (
                array_term((1,), "<i2", b"\0\0\0\0"),
                "an array of this shape and dtype has 2 bytes of data, not 4",
            ),
            (array_term((1 << 62, 1 << 62), "<i2", b""), None),
            (array_term((1,) * 100, "<i2", b"\0\0"), None),
            (array_term((1,), "<f3", b""), None),
            (array_term((1,), "<M8[xx]", b"\0" * 8), None),
            (array_term((-1,), "<i2", b""), "the field shape is no tuple of sizes"),
            (array_term((1 << 80,), "<i2", b""), "the field shape is no tuple of sizes"),
            (
                struct_("Elixir.Typhon.Array", shape=integer(1), dtype=binary("<i2"), data=binary(b"")),
                "the field shape is no tuple of sizes",
            ),
            (
                struct_(
                    "Elixir.Typhon.Array", shape=tuple_(atom("x")), dtype=binary("<i2"), data=binary(b"")
                ),
                "the field shape is no tuple of sizes",
            ),
            (
                struct_("Elixir.Typhon.Array", shape=tuple_(), dtype=integer(1), data=binary(b"")),
                'the field dtype is no plain type such as "<f8"',
            ),
            (
                struct_("Elixir.Typhon.Array", shape=tuple_(), dtype=binary("<i2")),
                "a Typhon.Array without the field data",
            ),
            (
                struct_("Elixir.Typhon.Array", shape=tuple_(), dtype=binary("<i2"), data=integer(1)),
                "the field data is no binary",
            ),
            (
                struct_("Elixir.Typhon.Array", dtype=binary("<i2"), data=binary("")),
                "a Typhon.Array without the field shape",
            ),
        ],
    )
    def test_refuses_others(self, term, reason):
        error = refusal(term)
        if reason is None:
            assert error.reason.startswith("cannot make a numpy.ndarray: ")
            assert error.__cause__ is not None
        else:
            assert error.reason == reason

    @pytest.mark.parametrize(
        "dtype",
        [
            "O",
            "|O",
            "<O8",
            "O8",
            "object",
            "|V8",
            "<i4,<f8",
            "(2,)<i4",
            "",
            "<",
            "<i",
            "f8 ",
            "<f8\0",
            "<M8[ns",
            "<M8[]",
            "x8",
            "é",
        ],
    )
    def test_refuses_dtypes_of_anything_but_plain_data(self, dtype):
        """An array of objects over these bytes would take them for addresses."""
        error = refusal(array_term((1,), dtype, b"\1" * 8))
        assert error.reason == 'the field dtype is no plain type such as "<f8"'

    @pytest.mark.parametrize(
        "dtype", ["|b1", "|i1", "<u2", ">i4", "<f2", "<c16", "|S3", "<U2", "<M8[ns]", "<m8[25s]", "f8"]
    )
    def test_takes_plain_dtypes(self, dtype):
        size = np.dtype(dtype).itemsize
        assert typhon.decode(V + array_term((2,), dtype, b"\0" * size * 2)).dtype == dtype

    def test_without_numpy_the_error_says_so(self):
        code = (
            "import sys; sys.modules['numpy'] = None\n"
            "import typhon\n"
            f"try: typhon.decode({V + listing(array_term((1,), '<i2', bytes(2)))!r})\n"
            "except typhon.DecodeError as error: print(error)"
        )
        assert (
            run_python(code)
            == "term[0]: this Python needs numpy to receive a Typhon.Array, and cannot import it: "
            "ModuleNotFoundError: import of numpy halted; None in sys.modules"
        )

    def test_encoding_does_not_import_numpy(self):
        code = (
            "import sys, typhon, decimal, datetime, fractions\n"
            "typhon.encode([1, 'x', {'a': datetime.date.today()}, {1}, decimal.Decimal(1)])\n"
            "try: typhon.encode(fractions.Fraction(1))\n"
            "except typhon.EncodeError: pass\n"
            "print('numpy' in sys.modules, 'zoneinfo' in sys.modules)"
        )
        assert run_python(code) == "False False"
