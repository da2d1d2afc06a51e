"""typhon.encoder and typhon.decoder: what Python code has registered for its classes, and for structs."""

import collections
import dataclasses
import enum
import gc
import threading
import weakref

import pytest
from processes import run_python
from terms import NIL, V, atom, binary, integer, listing, mapping, struct_, tuple_

import typhon


class Money:
    def __init__(self, amount, currency="EUR"):
        self.amount = amount
        self.currency = currency


class Cheque(Money):
    pass


@typhon.encoder(Money)
def money(value):
    if isinstance(value.amount, Exception):
        raise value.amount
    return {"amount": value.amount, "currency": value.currency}


def named(name, *fields):
    return struct_("Elixir.Typhon.Struct", name=atom(name), fields=mapping(*fields))


@dataclasses.dataclass
class User:
    id: int
    name: object = None


@typhon.decoder("Elixir.Conversions.User")
def user(fields):
    return User(**fields)


def not_sent(value) -> typhon.EncodeError:
    with pytest.raises(typhon.EncodeError) as caught:
        typhon.encode(value)
    return caught.value


def not_taken(term) -> typhon.DecodeError:
    with pytest.raises(typhon.DecodeError) as caught:
        typhon.decode(V + term)
    return caught.value


class TestEncoder:
    def test_is_asked_for_instances(self):
        for kind in (Money, Cheque, Money):
            value = kind(5)
            assert typhon.encode([value, {"k": value}]) == typhon.encode(
                [{"amount": 5, "currency": "EUR"}, {"k": {"amount": 5, "currency": "EUR"}}]
            )
        assert typhon.encode(Money(Cheque(1), "x")) == typhon.encode(
            {"amount": {"amount": 1, "currency": "EUR"}, "currency": "x"}
        )

    def test_is_the_function_again(self):
        assert money(Money(1)) == {"amount": 1, "currency": "EUR"}

    def test_of_the_nearest_class_and_the_last_one_counts(self):
        class Base:
            pass

        class Middle(Base):
            pass

        class Leaf(Middle):
            pass

        assert "has no counterpart" in not_sent(Leaf()).reason
        typhon.encoder(Base)(lambda value: "base")
        assert typhon.decode(typhon.encode([Base(), Middle(), Leaf()])) == ["base"] * 3
        typhon.encoder(Middle)(lambda value: "middle")
        assert typhon.decode(typhon.encode([Base(), Middle(), Leaf()])) == ["base", "middle", "middle"]
        typhon.encoder(Base)(lambda value: "another")
        assert typhon.decode(typhon.encode([Base(), Leaf()])) == ["another", "middle"]

    def test_comes_before_what_a_class_would_be(self):
        class Colour(enum.Enum):
            RED = 1

        @dataclasses.dataclass
        class Plain:
            a: int

        class Text(str):
            pass

        class Own(collections.OrderedDict):
            pass

        for value in (Colour.RED, Plain(1), Text("x"), Own(a=1)):
            typhon.encode(value)
            typhon.encoder(type(value))(lambda value: [type(value).__name__])
            assert typhon.decode(typhon.encode(value)) == [type(value).__name__]

    def test_of_classes_that_cannot_be_hashed(self):
        class Meta(type):
            def __eq__(cls, other):
                raise AssertionError

        class Odd(metaclass=Meta):
            pass

        typhon.encoder(Odd)(lambda value: 1)
        assert typhon.encode(Odd()) == typhon.encode(1)

    @pytest.mark.parametrize(
        "cls", [int, float, bool, str, bytes, list, tuple, dict, type(None), typhon.Atom, object]
    )
    def test_of_a_class_with_a_form_of_its_own_is_refused(self, cls):
        with pytest.raises(TypeError, match="typhon.encoder takes no <class '.*which goes out in its own form"):
            typhon.encoder(cls)(lambda value: 1)

    def test_of_what_is_no_class_or_no_function(self):
        with pytest.raises(TypeError, match="^typhon.encoder takes a class, got 5$"):
            typhon.encoder(5)(lambda value: 1)
        with pytest.raises(TypeError, match="^typhon.encoder takes a function, got 5$"):
            typhon.encoder(Money)(5)

    def test_that_raises(self):
        cause = ValueError("no currency")
        error = not_sent([{"m": Money(cause)}])
        assert error.path == 'value[0]["m"]'
        assert error.reason == f"the encoder {__name__}.money raised ValueError: no currency"
        assert error.type_name == f"{__name__}.Money"
        assert error.__cause__ is cause

    def test_that_is_interrupted(self):
        class Slow:
            pass

        @typhon.encoder(Slow)
        def slow(value):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            typhon.encode([Slow()])

    def test_that_gives_what_cannot_go(self):
        error = not_sent([Money(1, [object()])])
        assert error.path == 'value[0]["currency"][0]'

    def test_without_end(self):
        class Loop:
            pass

        class Chain:
            pass

        class Deep:
            pass

        class Wide:
            pass

        typhon.encoder(Loop)(lambda value: value)
        typhon.encoder(Chain)(lambda value: Chain())
        typhon.encoder(Deep)(lambda value: [value])
        typhon.encoder(Wide)(lambda value: {"a": [Wide(), Wide()], "b": Wide()})
        assert not_sent([Loop()]).reason.endswith(".<lambda> gave the same object again")
        reason = not_sent([Chain()]).reason
        assert reason == "an encoder that gives an object with an encoder, and so on without end"
        assert not_sent(Deep()).reason == "nested deeper than 10000 levels"
        assert not_sent(Wide()).reason == "nested deeper than 10000 levels"

    def test_keys_that_would_be_one(self):
        class Key:
            pass

        typhon.encoder(Key)(lambda value: "a")
        assert typhon.encode({Key(): 1}) == typhon.encode({"a": 1})
        assert not_sent([{Key(): 1, "a": 2}]).reason.endswith("are one term on the BEAM")
        assert not_sent([{Key(), Key()}]).path == "value[0]"

    def test_does_not_hold_what_it_has_sent(self):
        value = Money(1)
        gone = weakref.ref(value)
        typhon.encode([value])
        del value
        gc.collect()
        assert gone() is None

    def test_missing_values_stay_missing(self):
        pytest.importorskip("pandas")
        program = (
            "import typhon, datetime, pandas as pd\n"
            "typhon.encoder(datetime.datetime)(lambda value: 'moment')\n"
            "moments = [pd.NaT, datetime.datetime.now(), pd.Timestamp(0)]\n"
            "print(typhon.decode(typhon.encode(moments)))"
        )
        assert run_python(program) == "[None, 'moment', 'moment']"


class TestDecoder:
    def test_gets_the_fields(self):
        term = named("Elixir.Conversions.User", binary("id"), integer(5), binary("name"), binary("Ann"))
        assert typhon.decode(V + term) == User(5, "Ann")
        inside = named("Elixir.Conversions.User", binary("id"), integer(1), binary("name"), listing(term))
        assert typhon.decode(V + listing(inside, term)) == [User(1, [User(5, "Ann")]), User(5, "Ann")]

    def test_without_one_it_is_a_dict(self):
        term = named("Elixir.Conversions.Nobody", binary("id"), integer(5))
        assert typhon.decode(V + listing(term)) == [{"id": 5}]

    def test_the_last_one_counts(self):
        term = V + named("Elixir.Conversions.Twice", binary("id"), integer(5))
        assert typhon.decode(term) == {"id": 5}
        typhon.decoder("Elixir.Conversions.Twice")(lambda fields: None)
        assert typhon.decode(term) is None
        typhon.decoder(typhon.Atom("Elixir.Conversions.Twice"))(lambda fields: [*fields])
        assert typhon.decode(term) == ["id"]

    def test_that_raises(self):
        term = named("Elixir.Conversions.User", binary("name"), integer(5))
        error = not_taken(mapping(binary("u"), listing(integer(1), term)))
        assert error.path == 'term["u"][1]'
        assert error.reason.startswith(f"the decoder {__name__}.user of Elixir.Conversions.User raised TypeError: ")
        assert error.code == "value"
        assert isinstance(error.__cause__, TypeError)

    def test_that_is_interrupted(self):
        @typhon.decoder("Elixir.Conversions.Slow")
        def slow(fields):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            typhon.decode(V + listing(named("Elixir.Conversions.Slow")))

    def test_as_keys(self):
        @typhon.decoder("Elixir.Conversions.Key")
        def key(fields):
            return fields["k"]

        def term(value):
            return named("Elixir.Conversions.Key", binary("k"), value)

        assert typhon.decode(V + mapping(term(integer(1)), NIL)) == {1: []}
        assert "which are equal in Python" in not_taken(mapping(term(integer(1)), NIL, integer(1), NIL)).reason
        assert "which Python cannot hash" in not_taken(mapping(term(NIL), NIL)).reason

    @pytest.mark.parametrize(
        ("name", "error", "words"),
        [
            (5, TypeError, "takes the name of a struct, such as 'Elixir.MyApp.User', got 5"),
            ("MyApp.User", ValueError, "the struct MyApp.User has the name 'Elixir.MyApp.User'"),
            ("Elixir.Date", ValueError, "takes no 'Elixir.Date': Python has a type of its own"),
            ("Elixir.Typhon.Struct", ValueError, "takes no"),
        ],
    )
    def test_of_a_name_that_no_struct_has(self, name, error, words):
        with pytest.raises(error, match=words):
            typhon.decoder(name)(lambda fields: fields)

    def test_of_no_function(self):
        with pytest.raises(TypeError, match="^typhon.decoder takes a function, got None$"):
            typhon.decoder("Elixir.A")(None)

    def test_what_is_no_struct(self):
        name, fields = atom("Elixir.Conversions.User"), mapping()
        for term, reason in (
            (struct_("Elixir.Typhon.Struct", name=name), "a Typhon.Struct without the field fields"),
            (struct_("Elixir.Typhon.Struct", fields=fields), "a Typhon.Struct without the field name"),
            (struct_("Elixir.Typhon.Struct", name=binary("x"), fields=fields), "the field name is no atom"),
            (struct_("Elixir.Typhon.Struct", name=name, fields=tuple_()), "the field fields is no map"),
        ):
            assert not_taken(term).reason == reason


def test_from_many_threads():
    """Encoders come while other threads encode: none of them goes by what a class was before."""
    term = V + named("Elixir.Conversions.User", binary("id"), integer(5))
    stop = threading.Event()
    failures = []

    def use():
        while not stop.is_set():
            try:
                assert typhon.decode(term) == User(5)
                typhon.decode(typhon.encode([Money(1)]))
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for i in range(300):
            kind = type(f"Kind{i}", (), {})
            typhon.encoder(kind)(lambda value, i=i: i)
            typhon.decoder(f"Elixir.Conversions.Kind{i}")(lambda fields, i=i: i)
            assert typhon.decode(typhon.encode(kind())) == i
            assert typhon.decode(V + named(f"Elixir.Conversions.Kind{i}")) == i
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
