"""Python objects to terms: values, classes, paths, limits, and containers that change meanwhile."""

import array
import collections
import dataclasses
import enum
import gc
import math
import sys
import typing

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
    string,
    struct_,
    tuple_,
)

import typhon
from typhon import Atom, ImproperList


def encoded(value, **options) -> bytes:
    data = typhon.encode(value, **options)
    assert data[:1] == V
    return data[1:]


def refusal(value, **options) -> typhon.EncodeError:
    with pytest.raises(typhon.EncodeError) as caught:
        typhon.encode(value, **options)
    assert str(caught.value) == f"{caught.value.path}: {caught.value.reason}"
    return caught.value


class TestPlainValues:
    @pytest.mark.parametrize(
        "bits", [0, 7, 8, 31, 32, 63, 64, 65, 127, 128, 256, 2039, 2040, 2041, 2048, 20_000]
    )
    def test_integers(self, bits):
        for value in around_power_of_two(bits):
            assert encoded(value) == integer(value)

    @pytest.mark.parametrize("value", [0.0, -0.0, 1.5, -1e308, 5e-324])
    def test_floats(self, value):
        assert encoded(value) == floating(value)

    def test_floats_that_the_beam_has_not(self):
        assert encoded(math.nan) == atom("nan")
        assert encoded(math.inf) == atom("infinity")
        assert encoded([-math.inf]) == listing(atom("neg_infinity"))

    def test_singletons_and_atoms(self):
        assert encoded([None, True, False, Atom("ok")]) == listing(*map(atom, ("nil", "true", "false", "ok")))
        assert encoded(Atom("é" * 200)) == atom("é" * 200)
        assert encoded(Atom("nil")) == atom("nil")

    @pytest.mark.parametrize(
        "text", ["", "a", "größe", "日本", "😀", "\0", "x" * 100_000, "é" * 100_000, "x" * 1024, "x" * 1025]
    )
    def test_text(self, text):
        assert encoded(text) == binary(text)

    @pytest.mark.parametrize("data", [b"", b"\xff\0", b"x" * 100_000])
    def test_bytes(self, data):
        assert encoded(data) == encoded(bytearray(data)) == encoded(memoryview(data)) == binary(data)

    def test_buffers_of_any_shape(self):
        data = bytes(range(24))
        assert encoded(memoryview(data)[::2]) == binary(data[::2])
        assert encoded(memoryview(data)[::-1]) == binary(data[::-1])
        assert encoded(memoryview(data).cast("B", (2, 3, 4))) == binary(data)
        numbers = array.array("d", [1.0, 2.0])
        assert encoded(memoryview(numbers)) == binary(numbers.tobytes())

    def test_a_released_buffer(self):
        view = memoryview(b"abc")
        view.release()
        assert refusal([view]).reason.startswith("cannot read its bytes: ValueError: ")

    def test_containers(self):
        assert encoded([]) == NIL
        assert encoded([1, [2, []]]) == listing(integer(1), listing(integer(2), NIL))
        assert encoded(()) == tuple_()
        assert encoded((1, (2,))) == tuple_(integer(1), tuple_(integer(2)))
        assert encoded((1,) * 300) == tuple_(*[integer(1)] * 300)
        assert encoded({}) == mapping()
        assert encoded({"a": {1: ()}, 2: None}) == mapping(
            binary("a"), mapping(integer(1), tuple_()), integer(2), atom("nil")
        )
        assert encoded(ImproperList([1, [2]], (3,))) == listing(
            integer(1), string(2), tail=tuple_(integer(3))
        )

    def test_lists_of_small_integers(self):
        for values in ([0], [255, 0, 1], [7] * 65_535):
            assert encoded(values) == string(*values)
            assert encoded([values, None, (values,)]) == listing(
                string(*values), atom("nil"), tuple_(string(*values))
            )
        for values in ([256], [-1], [0] * 65_536, [1, 2, 300]):
            assert encoded(values) == listing(*map(integer, values))
        # Of two bytes each, or on average, without being small integers.
        assert encoded([(), ()]) == listing(tuple_(), tuple_())
        assert encoded([1, ()]) == listing(integer(1), tuple_())
        assert encoded([[], 1, "", Atom("")]) == listing(NIL, integer(1), binary(""), atom(""))
        assert encoded([[], Atom("x"), 1]) == listing(NIL, atom("x"), integer(1))
        assert encoded([True]) == listing(atom("true"))

    def test_keys_that_are_containers(self):
        assert encoded({(1, (2, "x")): [3], (): {(): ()}}) == mapping(
            tuple_(integer(1), tuple_(integer(2), binary("x"))),
            string(3),
            tuple_(),
            mapping(tuple_(), tuple_()),
        )
        assert encoded({frozenset([1]): 2}) == mapping(
            struct_("Elixir.MapSet", map=mapping(integer(1), NIL)), integer(2)
        )

    def test_large_results(self):
        for size in (500, 2_000, 3_000, 70_000, 1_500_000):
            assert encoded(list(range(size))) == listing(*map(integer, range(size)))
            assert encoded("x" * size) == binary("x" * size)
            data = typhon.encode(["y" * size, size])
            assert len(data) == 1 + 5 + 5 + size + len(integer(size)) + 1
            assert hash(data) == hash(bytes(bytearray(data)))


class Colour(enum.Enum):
    RED = "red"
    LIST = [1, 2]  # noqa: RUF012
    NOTHING = None


class Number(enum.IntEnum):
    THREE = 3


class Word(enum.StrEnum):
    HELLO = "hello"


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


class Nested(enum.Enum):
    INNER = Colour.RED


Point = collections.namedtuple("Point", "x y")


class Typed(typing.NamedTuple):
    x: int


@dataclasses.dataclass
class Plain:
    a: int
    b: object = None
    kind: typing.ClassVar[int] = 7


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    a: int


@dataclasses.dataclass
class Child(Plain):
    c: str = "c"


@dataclasses.dataclass
class Empty:
    pass


class TestClasses:
    @pytest.mark.parametrize(
        ("value", "same_as"),
        [
            (type("I", (int,), {})(5), 5),
            (type("I", (int,), {})(1 << 100), 1 << 100),
            (type("F", (float,), {})(1.5), 1.5),
            (type("F", (float,), {})("nan"), Atom("nan")),
            (type("S", (str,), {})("é"), "é"),
            (type("B", (bytes,), {})(b"x"), b"x"),
            (type("A", (bytearray,), {})(b"x"), b"x"),
            (type("L", (list,), {})([1]), [1]),
            (type("L", (list,), {})(), []),
            (type("T", (tuple,), {})((1,)), (1,)),
            (type("D", (dict,), {})(a=1), {"a": 1}),
            (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
            (collections.defaultdict(list, a=1), {"a": 1}),
            (collections.Counter("a"), {"a": 1}),
            (Point(1, 2), (1, 2)),
            (Typed(1), (1,)),
            (Colour.RED, "red"),
            (Colour.LIST, [1, 2]),
            (Colour.NOTHING, None),
            (Number.THREE, 3),
            (Word.HELLO, "hello"),
            (Permission.READ | Permission.WRITE, 3),
            (Nested.INNER, "red"),
            (Plain(1, [2]), {"a": 1, "b": [2]}),
            (Slotted(1), {"a": 1}),
            (Child(1), {"a": 1, "b": None, "c": "c"}),
            (Empty(), {}),
            (Plain(1, Slotted(2)), {"a": 1, "b": {"a": 2}}),
        ],
    )
    def test_are_written_as(self, value, same_as):
        for _ in range(2):  # found out, and remembered
            assert encoded(value) == encoded(same_as)
            assert encoded([value, {"k": value}]) == encoded([same_as, {"k": same_as}])

    def test_overridden_methods_do_not_matter(self):
        class Liar(list):
            def __len__(self):
                return 1_000_000

            def __getitem__(self, index):
                raise RuntimeError

            def __iter__(self):
                raise RuntimeError

        class LiarDict(dict):
            def items(self):
                raise RuntimeError

            __iter__ = keys = __len__ = items

        class LiarInt(int):
            def __index__(self):
                raise RuntimeError

            __int__ = __rshift__ = bit_length = to_bytes = __index__

        assert encoded(Liar([1])) == encoded([1])
        assert encoded(LiarDict(a=1)) == encoded({"a": 1})
        assert encoded(LiarInt(-(1 << 90))) == encoded(-(1 << 90))

    def test_more_classes_than_are_remembered(self):
        classes = [type(f"C{i}", ((int, str, list, dict)[i % 4],), {}) for i in range(1000)]
        for _ in range(3):
            for kind in classes:
                assert encoded(kind()) == encoded(kind.__base__())

    def test_a_dataclass_whose_field_cannot_be_read(self):
        value = Slotted.__new__(Slotted)
        assert refusal([value]).reason.startswith("cannot read the fields of a dataclass: AttributeError: ")

        @dataclasses.dataclass
        class Asks:
            a: int

            def __getattribute__(self, name):
                if name == "a":
                    raise KeyboardInterrupt
                return super().__getattribute__(name)

        with pytest.raises(KeyboardInterrupt):
            typhon.encode(Asks(1))

    def test_a_dataclass_itself_is_no_value(self):
        assert refusal(Plain).type_name == "type"

    def test_an_enum_without_end(self):
        class Loop(enum.Enum):
            ME = 1

        Loop.ME._value_ = Loop.ME
        assert refusal(Loop.ME).reason == "an Enum whose value is an Enum, and so on without end"


class Thing:
    def __repr__(self):
        raise AssertionError("an error text must not run code of the user")


NAME = f"{__name__}.Thing"


class TestRefusals:
    @pytest.mark.parametrize(
        ("wrap", "path"),
        [
            (lambda bad: bad, "value"),
            (lambda bad: [1, bad], "value[1]"),
            (lambda bad: (bad,), "value[0]"),
            (lambda bad: {"a": bad}, 'value["a"]'),
            (lambda bad: {"a": 1, "b": [bad]}, 'value["b"][0]'),
            (lambda bad: {Atom("a"): bad}, "value[Atom('a')]"),
            (lambda bad: {7: bad}, "value[7]"),
            (lambda bad: {(1, "x"): bad}, "value[(1, 'x')]"),
            (lambda bad: {Colour.RED: bad}, f"value[<{__name__}.Colour>]"),
            (lambda bad: {bad: 1}, f"value (key <{NAME}>)"),
            (lambda bad: [{"a": {(1, bad): 1}}], 'value[0]["a"] (key <tuple>)'),
            (lambda bad: {bad}, f"value (element <{NAME}>)"),
            (lambda bad: [{(bad,)}], "value[0] (element <tuple>)"),
            (lambda bad: Plain(1, [bad]), "value.b[0]"),
            (lambda bad: [Plain(1, Plain(bad))], "value[0].b.a"),
            (lambda bad: ImproperList([1, bad], 2), "value.items[1]"),
            (lambda bad: ImproperList([1], [bad][0]), "value.tail"),
            (lambda bad: {"rows": [0, {"x": (bad,)}]}, 'value["rows"][1]["x"][0]'),
        ],
    )
    def test_name_the_place(self, wrap, path):
        error = refusal(wrap(Thing()))
        assert error.path == path
        assert error.reason == f"a value of type {NAME} has no counterpart on the BEAM"
        assert error.type_name == NAME

    @pytest.mark.parametrize(
        "value",
        [
            object(),
            1j,
            int,
            len,
            (x for x in ()),
            lambda: 1,
            array.array("d"),
            iter([]),
            {}.keys(),
            slice(1),
            ...,
        ],
    )
    def test_other_values(self, value):
        error = refusal([value])
        assert error.path == "value[0]"
        assert error.type_name == (
            type(value).__name__ if type(value).__module__ == "builtins" else "array.array"
        )

    @pytest.mark.parametrize("long", [0, 5000])
    def test_lone_surrogates(self, long):
        text = "é" * long + "ab\udfffc"
        reason = f"a str with a lone surrogate (character {long + 2} is U+DFFF), which no UTF-8 can hold"
        error = refusal([text])
        assert (error.path, error.reason, error.type_name) == ("value[0]", reason, "str")
        error = refusal({"a": [1], text: 1})
        assert error.reason == reason
        if not long:
            assert error.path == r'value (key "ab\\udfffc")'
        assert refusal({text}).reason == reason
        assert refusal({"k": text}).path == 'value["k"]'

    def test_keys_that_would_become_one(self):
        nan = float("nan")
        for keys in (
            ["a", b"a"],
            [b"a", "a"],
            [True, Atom("true")],
            [None, Atom("nil")],
            [Colour.RED, "red"],
            [Colour.NOTHING, None],
            [(1, "a"), (1, b"a")],
            [((("a",),),), (((b"a",),),)],
            [nan, Atom("nan")],
            [nan, float("nan")],
            [math.inf, Atom("infinity")],
            [memoryview(b"a"), "a"],
            [frozenset(["a"]), frozenset([b"a"])],
        ):
            others = ["other", 3, Atom("x"), 2.5, (9,), None if None not in keys else 7]
            for mapping_ in (dict.fromkeys(keys), dict.fromkeys(others + keys), dict.fromkeys(keys + others)):
                error = refusal([mapping_])
                assert error.path == "value[0]"
                assert error.reason.startswith("its keys ") and error.reason.endswith(
                    " are one term on the BEAM"
                )
                assert error.type_name == "dict"
                error = refusal([set(mapping_)])
                assert error.path == "value[0]"
                assert error.reason.startswith("its elements ") and error.type_name == "set"

    def test_the_text_of_such_a_refusal(self):
        assert str(refusal({"a": 1, b"a": 2})) == "value: its keys \"a\" and b'a' are one term on the BEAM"
        assert str(refusal({"x": {1, 2, True, "1", b"1"}})) == (
            'value["x"]: its elements "1" and b\'1\' are one term on the BEAM'
        )

    def test_keys_that_only_look_alike(self):
        for keys in (
            ["a", Word.HELLO, b"b"],
            ["1", 1, 1.5, Atom("1"), (1,), ("1",), b"\xff"],
            [b"\xff", b"\xfe", "ÿ"],
            [Number.THREE, "3", 3.5],
            [None, True, False, Atom("none"), "nil", "true"],
            [type("S", (str,), {})("a"), "b"],
            [1 << 100, float(1 << 100) * 2, str(1 << 100)],
        ):
            assert (
                len(
                    typhon.decode(
                        typhon.encode(dict.fromkeys([k for k in keys if k != b"\xff" and k != b"\xfe"]))
                    )
                )
                > 0
            )
            typhon.encode(dict.fromkeys(keys))

    def test_options(self):
        with pytest.raises(TypeError, match=r"^encode\(\) got an unexpected keyword argument 'depth'$"):
            typhon.encode(1, depth=1)
        with pytest.raises(
            TypeError, match=r"^encode\(\) takes exactly one positional argument \(0 given\)$"
        ):
            typhon.encode()
        with pytest.raises(OverflowError):
            typhon.encode(1, max_depth=1 << 40)


class TestDepth:
    def test_limit(self):
        value = None
        for _ in range(10_000):
            value = [value]
        assert encoded(value) == b"l\0\0\0\1" * 10_000 + atom("nil") + NIL * 10_000
        error = refusal([value])
        assert error.reason == "nested deeper than 10000 levels"
        assert error.path == "value" + "[0]" * 24 + "[…]" + "[0]" * 24
        assert typhon.encode([value], max_depth=10_001) == V + b"l\0\0\0\1" + encoded(value) + NIL
        assert refusal([[1]], max_depth=1).path == "value[0]"
        assert encoded([[], (), {}], max_depth=1) == listing(NIL, tuple_(), mapping())

    @pytest.mark.parametrize("distance", [1, 2, 3, 15, 16, 17, 31, 100, 1000])
    def test_cycles_are_found(self, distance):
        innermost = []
        value = innermost
        for i in range(distance - 1):
            value = ([value], (value,), {"k": value}, Plain(value))[i % 4]
        innermost.append(value)
        for start in (value, innermost, [[value]]):
            error = refusal(start)
            assert error.reason == "a reference to a container that it is inside of: the value has no end"

    def test_wide_cycles_are_found_early(self):
        value = list(range(1_000_000))
        value.append({"again": value})
        assert refusal(value).path == 'value[1000000]["again"]'

    def test_the_same_container_twice_is_no_cycle(self):
        shared = [1]
        assert encoded([shared, (shared, {"a": shared})]) == encoded([[1], ([1], {"a": [1]})])


walks_the_container_itself = pytest.mark.skipif(
    "t" in sys.abiflags, reason="without a GIL a copy is walked: test_threads.py has what becomes of changes"
)


class TestChangesUnderway:
    """Attributes of user classes are read while a container is walked, and may change it."""

    class Evil:
        """A dataclass whose field runs `action` when it is read."""

        def __init_subclass__(cls):
            dataclasses.dataclass(cls)

    @staticmethod
    def evil(action):
        @dataclasses.dataclass
        class Evil:
            field: int = 0

            def __getattribute__(self, name):
                if name == "field":
                    action()
                return 1 if name == "field" else object.__getattribute__(self, name)

            __hash__ = object.__hash__

        return Evil()

    @walks_the_container_itself
    def test_a_list_that_shrinks(self):
        value = [1, None, *[[i] for i in range(1000)]]
        value[1] = self.evil(value.clear)
        error = refusal({"a": value})
        assert (error.path, error.type_name) == ('value["a"]', "list")
        assert error.reason == "it changed its size while it was being encoded"

    @walks_the_container_itself
    def test_a_list_that_grows(self):
        value = [1]
        value.append(self.evil(lambda: value.extend(range(1000))))
        assert refusal(value).reason == "it changed its size while it was being encoded"

    def test_a_list_that_loses_what_is_being_walked(self):
        value = [[[None, "x" * 50, ["y"]]], 2]

        def action():
            value[0] = 1
            gc.collect()

        value[0][0][0] = self.evil(action)
        assert encoded(value) == listing(
            listing(listing(mapping(binary("field"), integer(1)), binary("x" * 50), listing(binary("y")))),
            integer(2),
        )

    @pytest.mark.parametrize("change", ["clear", "grow", "replace", "other keys"])
    def test_a_dict(self, change):
        value = {f"key {i}": [f"value {i}"] for i in range(100)}

        def action():
            if change == "clear":
                value.clear()
            elif change == "grow":
                value.update({i: i for i in range(1000)})
            elif change == "replace":
                for key in value:
                    value[key] = 0
            else:
                value.clear()
                value.update({f"new {i}": i for i in range(100)})
            gc.collect()

        value["key 5"] = self.evil(action)
        try:
            typhon.encode(value)
        except typhon.EncodeError as error:
            assert error.reason == "it changed its size while it was being encoded"
            assert error.path == "value"
        else:
            assert change in ("replace", "other keys") or "t" in sys.abiflags

    @walks_the_container_itself
    def test_a_dict_through_its_keys(self):
        value = {}
        key = (self.evil(value.clear), "x")
        value.update({"a": [1], key: ["the value", ["of the key"]], "b": 2})
        assert refusal(value).reason == "it changed its size while it was being encoded"

    def test_a_set(self):
        value = {1, 2}
        value.add(self.evil(value.clear))
        assert encoded(value).startswith(struct_("Elixir.MapSet", map=mapping(*[NIL] * 6))[:20])

    def test_an_error_deep_inside_leaves_nothing_behind(self):
        def action():
            raise RuntimeError("no")

        error = refusal([{"a": {(1, self.evil(action)): 2}}])
        assert error.reason == "cannot read the fields of a dataclass: RuntimeError: no"
        assert isinstance(error.__cause__, RuntimeError)
        assert encoded(1) == integer(1)

    def test_encoding_inside_of_encoding(self):
        results = []
        inner = {"k": [1, 2, ("x",)]}
        value = [self.evil(lambda: results.append(typhon.encode(inner))), 1]
        for _ in range(3):
            assert encoded(value) == listing(mapping(binary("field"), integer(1)), integer(1))
        assert results == [typhon.encode(inner)] * 3


def test_a_class_may_become_a_dataclass_later():
    class Late:
        def __init__(self):
            self.a = 1

    assert refusal(Late()).path == "value"
    Late.__annotations__ = {"a": int}
    dataclasses.dataclass(Late)
    value = Late.__new__(Late)
    value.a = 1
    assert encoded(value) == mapping(binary("a"), integer(1))
