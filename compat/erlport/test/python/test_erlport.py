"""The package erlport where there is no BEAM: its types, its codec, its protocol over file descriptors."""

import copy
import datetime
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import threading
import zlib
from collections import OrderedDict, namedtuple

import pytest
from erlport import cli, erlang, stdio
from erlport.erlproto import Port
from erlport.erlterms import (
    Atom,
    ImproperList,
    IncompleteData,
    List,
    Map,
    MutationError,
    OpaqueObject,
    decode,
    decode_term,
    encode,
    encode_term,
)
from processes import run_python


class Thing:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is Thing and self.value == other.value

    def __hash__(self):
        return hash(self.value)


# --- the types ---


def test_an_atom_is_bytes_and_there_is_one_of_each():
    atom = Atom(b"test")
    assert type(atom) is Atom and isinstance(atom, bytes)
    assert atom == b"test" and atom != b"other" and atom != "test"
    assert atom is Atom(b"test") and atom is Atom(atom)
    assert repr(atom) == "Atom(b'test')"
    assert hash(atom) == hash(b"test")
    assert Atom(b"X" * 255) == b"X" * 255
    assert Atom("\u043f".encode() * 255).decode() == "\u043f" * 255
    assert pickle.loads(pickle.dumps(atom)) is atom and copy.deepcopy(atom) is atom


@pytest.mark.parametrize(("name", "error"), [(b"X" * 256, ValueError), ("\u043f".encode() * 256, ValueError), (b"\xff" * 256, ValueError), ("text", TypeError), ([1, 2], TypeError), (None, TypeError)])
def test_what_is_no_atom(name, error):
    with pytest.raises(error):
        Atom(name)


def test_a_list_is_a_list_that_can_be_a_string():
    value = List([116, 101, 115, 116])
    assert isinstance(value, list) and value == [116, 101, 115, 116]
    assert repr(value) == "List([116, 101, 115, 116])"
    assert value.to_string() == "test"
    assert List([0x41F, 0x1F600]).to_string() == "\u041f\U0001f600"
    assert List() == [] and List().to_string() == ""
    with pytest.raises(TypeError):
        List("ab").to_string()
    assert type(List([[1], {b"k": [2]}])[0]) is List
    assert hash(List([1, List([2])])) == hash(List([1, [2]]))
    for changed in (
        lambda: value.append(1),
        lambda: value.extend([1]),
        lambda: value.insert(0, 1),
        lambda: value.pop(),
        lambda: value.remove(116),
        lambda: value.reverse(),
        lambda: value.sort(),
        lambda: value.__setitem__(0, 1),
    ):
        with pytest.raises(MutationError, match=r"erlport\.erlterms\.List"):
            changed()
    assert copy.deepcopy(value) == value and type(pickle.loads(pickle.dumps(value))) is List


def test_a_map_is_a_dict_that_can_be_a_key():
    value = Map([(b"x", [1])], foo={"a": [2]})
    assert isinstance(value, dict) and value == {b"x": [1], "foo": {"a": [2]}}
    assert type(value[b"x"]) is List and type(value["foo"]) is Map and type(value["foo"]["a"]) is List
    assert repr(Map(a=1)) == "Map({'a': 1})"
    assert hash(Map({1: 2, "a": b"b"})) == hash(Map({"a": b"b", 1: 2}))
    assert {Map(a=1): 2}[Map(a=1)] == 2
    for changed in (
        lambda: value.pop(b"x"),
        lambda: value.popitem(),
        lambda: value.clear(),
        lambda: value.update({}),
        lambda: value.setdefault(1, 2),
        lambda: value.__setitem__(1, 2),
        lambda: value.__delitem__(b"x"),
    ):
        with pytest.raises(MutationError):
            changed()
    assert copy.deepcopy(value) == value and type(pickle.loads(pickle.dumps(value))) is Map


def test_an_improper_list():
    value = ImproperList([1, 2, [3]], b"tail")
    assert list(value) == [1, 2, [3]] and value.tail == b"tail" and type(value[2]) is List
    assert repr(ImproperList([1, 2], b"tail")) == "ImproperList([1, 2], b'tail')"
    assert value == ImproperList([1, 2, [3]], b"tail")
    assert value != ImproperList([1, 2, [3]], b"other") and value != ImproperList([1], b"tail") and value != [1, 2, [3]]
    assert hash(value) == hash(ImproperList([1, 2, List([3])], b"tail"))
    with pytest.raises(MutationError):
        value.append(1)
    with pytest.raises(MutationError):
        value.tail = 1
    for arguments, error in ((("text", 1), TypeError), (([1], [2]), TypeError), (([], 1), ValueError)):
        with pytest.raises(error):
            ImproperList(*arguments)
    assert pickle.loads(pickle.dumps(value)) == value


def test_an_opaque_object():
    value = OpaqueObject(b"data", Atom(b"language"))
    assert (value.data, value.language) == (b"data", b"language")
    assert repr(value) == "OpaqueObject(b'data', Atom(b'language'))"
    assert value == OpaqueObject(b"data", Atom(b"language")) and hash(value) == hash(OpaqueObject(b"data", Atom(b"language")))
    assert value != OpaqueObject(b"data", Atom(b"other")) and value != OpaqueObject(b"other", Atom(b"language"))
    for arguments in ((b"data", "language"), (b"data", b"language"), ([1], Atom(b"language")), ("data", Atom(b"x"))):
        with pytest.raises(TypeError):
            OpaqueObject(*arguments)
    assert OpaqueObject.decode(b"data", Atom(b"language")) == value
    assert OpaqueObject.decode(pickle.dumps(b"test"), Atom(b"python")) == b"test"
    assert value.encode() == encode_term((Atom(b"$erlport.opaque"), Atom(b"language"), b"data"))
    assert OpaqueObject(b"a\x05", Atom(b"erlang")).encode() == b"a\x05"


# --- decoding ---

DECODED = [
    (b"d\0\0", Atom(b"")),
    (b"d\0\4test", Atom(b"test")),
    (b"w\4test", Atom(b"test")),
    (b"d\0\1\xe9", Atom("\xe9".encode())),
    (b"d\0\4true", True),
    (b"d\0\5false", False),
    (b"d\0\11undefined", None),
    (b"d\0\3nil", Atom(b"nil")),
    (b"j", List()),
    (b"k\0\4test", List(b"test")),
    (b"l\0\0\0\2jjj", List([[], []])),
    (b"l\0\0\0\1jd\0\4tail", ImproperList([[]], Atom(b"tail"))),
    (b"h\0", ()),
    (b"h\2jj", ([], [])),
    (b"i\0\0\0\2jj", ([], [])),
    (b"t\0\0\0\0", Map()),
    (b"t\0\0\0\1m\0\0\0\5helloj", Map({b"hello": []})),
    (b"t\0\0\0\1t\0\0\0\0t\0\0\0\0", Map({Map(): Map()})),
    (b"t\0\0\0\1k\0\1aa\1", Map({List([97]): 1})),
    (b"a\xff", 255),
    (b"b\xff\xff\xff\xff", -1),
    (b"n\6\0\1\2\3\4\5\6", 6618611909121),
    (b"o\0\0\0\6\1\1\2\3\4\5\6", -6618611909121),
    (b"m\0\0\0\4data", b"data"),
    (b"F?\xf8\0\0\0\0\0\0", 1.5),
    (b"h\3d\0\x0f$erlport.opaqued\0\10languagem\0\0\0\4data", OpaqueObject(b"data", Atom(b"language"))),
    (b"h\3d\0\x0f$erlport.opaqued\0\6pythonm\0\0\0\14S'test'\np0\n.", "test"),
    (b"h\3d\0\x0f$erlport.opaquea\1m\0\0\0\4data", (Atom(b"$erlport.opaque"), 1, b"data")),
    (b"M\0\0\0\1\2\x80", OpaqueObject(b"M\0\0\0\1\2\x80", Atom(b"erlang"))),
]


@pytest.mark.parametrize(("data", "expected"), DECODED)
def test_decode(data, expected):
    term, rest = decode(b"\x83" + data)
    assert term == expected and type(term) is type(expected) and rest == b""
    assert decode(b"\x83" + data + b"tail") == (expected, b"tail")
    assert decode_term(data + b"tail") == (expected, b"tail")


@pytest.mark.parametrize("data", [data for data, _ in DECODED])
def test_decode_at_every_end(data):
    for end in range(len(data)):
        with pytest.raises(IncompleteData) as caught:
            decode(b"\x83" + data[:end])
        assert caught.value.data == b"\x83" + data[:end]
    with pytest.raises(IncompleteData):
        decode(b"")


@pytest.mark.parametrize("data", [b"\0", b"\x83z", b"\x83d\1\0" + b"x" * 256, b"\x83t\0\0\0\2a\1a\1a\1a\2", b"\x83t\0\0\0\2a\1a\1F?\xf0\0\0\0\0\0\0a\2"])
def test_what_is_no_term(data):
    with pytest.raises(ValueError) as caught:
        decode(data)
    assert not isinstance(caught.value, IncompleteData)


def test_a_pickle_that_is_none():
    with pytest.raises(ValueError, match="cannot make a Python object"):
        decode(b"\x83" + encode_term((Atom(b"$erlport.opaque"), Atom(b"python"), b"no pickle")))


def test_compressed():
    data = b"\x83P\0\0\0\x17\x78\xda\xcb\x66\x10\x49\xc1\2\0\x5d\x60\x08\x50"
    assert decode(data) == ([100] * 20, b"")
    assert decode(data + b"tail") == ([100] * 20, b"tail")
    for end in range(6):
        with pytest.raises(IncompleteData):
            decode(data[:end])
    with pytest.raises(ValueError):
        decode(data[:5] + b"\x16" + data[6:])
    assert encode([100] * 20, compressed=True) == encode([100] * 20, compressed=6)
    for level in range(10):
        long = encode([b"abc"] * 100, compressed=level)
        assert decode(long) == ([b"abc"] * 100, b"") and (long[1:2] == b"P") == (level > 0)
    assert encode(b"short", compressed=9) == encode(b"short")
    for level in (10, -1):
        with pytest.raises(ValueError):
            encode(1, compressed=level)


def compressed(term):
    return b"\x83P" + len(term).to_bytes(4, "big") + zlib.compress(term)


@pytest.mark.parametrize("term", [encode_term(1), encode_term([List()] * 1000), encode_term(random.Random(1).randbytes(2000))])
def test_a_compressed_term_at_every_end(term):
    data = compressed(term)
    for end in range(len(data)):
        with pytest.raises(IncompleteData):
            decode(data[:end])


@pytest.mark.parametrize("term", [encode_term(b"a" * 5000)[:-1], encode_term((1, [2]))[:-1], b"l\0\0\0\1", b"l\xff\xff\xff\xff"])
def test_a_compressed_term_that_was_incomplete_before(term):
    with pytest.raises(IncompleteData):
        decode(compressed(term))


# --- encoding ---

ENCODED = [
    ((), b"h\0"),
    (((), ()), b"h\2h\0h\0"),
    ([], b"j"),
    (List(), b"j"),
    (Map(), b"t\0\0\0\0"),
    ([0], b"k\0\1\0"),
    (list(range(256)), b"k\1\0" + bytes(range(256))),
    ([[]], b"l\0\0\0\1jj"),
    (List([List([]), List([])]), b"l\0\0\0\2jjj"),
    (Map({b"a": List([1, 2])}), b"t\0\0\0\1m\0\0\0\1ak\0\2\1\2"),
    ({b"a": 1}, b"t\0\0\0\1m\0\0\0\1aa\1"),
    (ImproperList([()], ()), b"l\0\0\0\1h\0h\0"),
    (ImproperList([0], 1), b"l\0\0\0\1a\0a\1"),
    ("", b"j"),
    ("test", b"k\0\4test"),
    ("\0\xff", b"k\0\2\0\xff"),
    ("\u0100", b"l\0\0\0\1b\0\0\1\0j"),
    ("\ud800", b"l\0\0\0\1b\0\0\xd8\0j"),
    ("X" * 65536, b"l\0\1\0\0" + b"aX" * 65536 + b"j"),
    ("\xe4" * 65535, b"k\xff\xff" + b"\xe4" * 65535),
    ("\u0410" * 65536, b"l\0\1\0\0" + b"b\0\0\4\x10" * 65536 + b"j"),
    (Atom(b""), b"d\0\0"),
    (Atom(b"test"), b"d\0\4test"),
    (Atom("\xe4".encode()), b"w\2\xc3\xa4"),
    (Atom(b"\xe4"), b"w\2\xc3\xa4"),
    (b"", b"m\0\0\0\0"),
    (b"test", b"m\0\0\0\4test"),
    (True, b"d\0\4true"),
    (False, b"d\0\5false"),
    (None, b"d\0\11undefined"),
    (0, b"a\0"),
    (255, b"a\xff"),
    (256, b"b\0\0\1\0"),
    (-1, b"b\xff\xff\xff\xff"),
    (2147483648, b"n\4\0\0\0\0\x80"),
    (-2147483649, b"n\4\1\1\0\0\x80"),
    (2**2040, b"o\0\0\1\0\0" + b"\0" * 255 + b"\1"),
    (1.5, b"F?\xf8\0\0\0\0\0\0"),
    (OpaqueObject(b"data", Atom(b"language")), b"h\3d\0\x0f$erlport.opaqued\0\10languagem\0\0\0\4data"),
    (OpaqueObject(b"a\5", Atom(b"erlang")), b"a\5"),
]


@pytest.mark.parametrize(("value", "expected"), ENCODED, ids=range(len(ENCODED)))
def test_encode(value, expected):
    assert encode(value) == b"\x83" + expected
    assert encode_term(value) == expected


Named = namedtuple("Named", "a b")


@pytest.mark.parametrize(
    "value",
    [
        Thing(5),
        {1, 2},
        frozenset("a"),
        datetime.date(2013, 2, 1),
        1j,
        bytearray(b"x"),
        range(3),
        Named(1, 2),
        OrderedDict(a=1),
        struct.error("x"),
    ],
)
def test_any_other_object_is_pickled(value):
    data = encode_term(value)
    head = b"h\3d\0\x0f$erlport.opaqued\0\6pythonm"
    assert data.startswith(head)
    assert pickle.loads(data[len(head) + 4 :]) == value or isinstance(value, Exception)
    term, rest = decode_term(data)
    assert type(term) is type(value) and rest == b"" and (term == value or isinstance(value, Exception))


class Refuses:
    """An object whose pickling fails in a way of its own."""

    def __init__(self, error):
        self.error = error

    def __reduce_ex__(self, protocol):
        raise self.error


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (threading.Lock(), "_thread.lock cannot be pickled: TypeError: cannot pickle '_thread.lock' object"),
        (Refuses(RuntimeError("it is busy")), f"{__name__}.Refuses cannot be pickled: RuntimeError: it is busy"),
        (Refuses(KeyError("gone")), f"{__name__}.Refuses cannot be pickled: KeyError: 'gone'"),
    ],
)
def test_the_error_says_why_an_object_cannot_be_pickled(value, reason):
    with pytest.raises(ValueError) as raised:
        encode([1, (value,)])
    assert str(raised.value) == f"term[1][0]: unsupported data type: {reason}"
    assert isinstance(raised.value.__cause__, Exception)


@pytest.mark.parametrize("value", [lambda: 1, threading.Lock(), float("nan"), float("inf"), [1, {2: lambda: 1}], OpaqueObject(b"no term", Atom(b"erlang")), OpaqueObject(b"a\1a\2", Atom(b"erlang")), OpaqueObject(b"", Atom(b"erlang"))])
def test_what_cannot_be_encoded(value):
    with pytest.raises(ValueError):
        encode(value)


def test_containers_inside_themselves_and_deep_ones():
    around = []
    around.append(around)
    with pytest.raises(ValueError):
        encode(around)
    deep = []
    for _ in range(9_000):
        deep = [deep]
    term, _ = decode(encode(deep))
    for _ in range(9_000):
        (term,) = term
    assert term == []


def test_random_terms_come_back():
    rnd = random.Random(5)

    def value(depth):
        leaves = [
            lambda: rnd.randint(-300, 300),
            lambda: rnd.getrandbits(rnd.randint(1, 300)),
            rnd.random,
            lambda: rnd.choice([None, True, False, Atom(b"a"), Atom("\xfc".encode())]),
            lambda: rnd.randbytes(rnd.randint(0, 20)),
            lambda: OpaqueObject(rnd.randbytes(3), Atom(b"ruby")),
        ]
        if depth == 0:
            return rnd.choice(leaves)()
        count = rnd.randint(0, 4)
        return rnd.choice(
            [
                lambda: List([value(depth - 1) for _ in range(count)]),
                lambda: tuple(value(depth - 1) for _ in range(count)),
                lambda: Map({rnd.randbytes(3): value(depth - 1) for _ in range(count)}),
                lambda: ImproperList([value(depth - 1) for _ in range(count + 1)], value(0)),
            ]
        )()

    for _ in range(300):
        term = value(rnd.randint(0, 4))
        assert decode(encode(term)) == (term, b"")


def test_random_bytes_are_terms_or_errors():
    rnd = random.Random(7)
    for _ in range(3_000):
        data = bytearray(b"\x83" + rnd.choice(DECODED)[0])
        for _ in range(rnd.randint(1, 3)):
            data[rnd.randrange(len(data))] = rnd.randrange(256)
        if b"python" in data:
            continue
        try:
            decode(bytes(data))
        except ValueError:
            pass


def test_no_memory_is_kept():
    def once():
        for data, _ in DECODED:
            decode(b"\x83" + data)
        for value, _ in ENCODED:
            encode(value)

    import gc
    import tracemalloc

    for _ in range(5):
        once()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        once()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 20_000


def test_unpickling_can_be_switched_off():
    code = """
from erlport.erlterms import decode, encode
value = decode(encode({1, 2}))[0]
print(type(value).__name__, value.language, decode(encode(value))[0] == value)
"""
    os.environ["TYPHON_ERLPORT_UNPICKLE"] = "0"
    try:
        assert run_python(code) == "OpaqueObject b'python' True"
    finally:
        del os.environ["TYPHON_ERLPORT_UNPICKLE"]


def test_the_native_dialect_knows_nothing_of_it():
    import typhon

    assert typhon.decode(typhon.encode([1, "a", None])) == [1, "a", None]
    assert typhon.decode(b"\x83d\0\11undefined") == typhon.Atom("undefined")
    assert typhon.decode(typhon.encode(Atom(b"bytes"))) == "bytes"


# --- the BEAM that is not there ---


def test_without_a_beam():
    for ask in (lambda: erlang.call(Atom(b"m"), Atom(b"f"), []), erlang.make_ref, lambda: erlang.cast(1, 2)):
        with pytest.raises(RuntimeError, match="there is no BEAM"):
            ask()
    for arguments in ((b"m", Atom(b"f"), []), (Atom(b"m"), "f", []), (Atom(b"m"), Atom(b"f"), ())):
        with pytest.raises(ValueError):
            erlang.call(*arguments)


def test_which_functions_can_be_handlers():
    class Callable:
        def __call__(self, value):
            return value

    for function in (lambda a: a, lambda a, b=1, *, c=2: a, lambda *a: a, [].append, Callable(), str):
        erlang.set_encoder(function)
        erlang.set_decoder(function)
        erlang.set_message_handler(function)
    for function in (lambda: 1, lambda a, b: a, lambda *, a: a):
        for setter in (erlang.set_encoder, erlang.set_decoder, erlang.set_message_handler):
            with pytest.raises(ValueError, match="expected single argument function"):
                setter(function)
    for setter in (erlang.set_encoder, erlang.set_decoder, erlang.set_message_handler):
        with pytest.raises(TypeError):
            setter(5)
    erlang.set_default_encoder()
    erlang.set_default_decoder()
    erlang.set_default_message_handler()


def test_errors():
    error = erlang.CallError((Atom(b"erlang"), Atom(b"error"), Atom(b"undef"), List([])))
    assert (error.language, error.type, error.value, error.stacktrace) == (b"erlang", b"error", b"undef", [])
    assert str(error) == "(Atom(b'erlang'), Atom(b'error'), Atom(b'undef'), List([]))"
    assert (erlang.CallError(5).value, erlang.CallError(5).language) == (5, None)
    assert issubclass(erlang.CallError, erlang.Error) and issubclass(erlang.UnexpectedResponses, erlang.UnexpectedMessage)


# --- the protocol over descriptors ---


class Beam:
    """The other end of a port."""

    def __init__(self, *options, packet=4, code=None):
        read, self.out = os.pipe()
        self.into, write = os.pipe()
        command = ["-m", "erlport.cli"] if code is None else ["-c", code]
        self.process = subprocess.Popen(
            [sys.executable, *command, f"--packet={packet}", *options],
            stdin=read,
            stdout=write,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        os.close(read)
        os.close(write)
        self.port = Port(packet=packet, descriptors=(self.into, self.out))

    def close(self):
        os.close(self.out)
        assert self.process.wait(60) == 0
        os.close(self.into)


@pytest.fixture(params=[(), ("--compressed=9",), ("--buffer_size=1",)])
def beam(request):
    beam = Beam(*request.param)
    yield beam
    beam.close()


def call(beam, tag, module, function, args):
    beam.port.write((Atom(b"C"), tag, Atom(module), Atom(function), args))


def test_calls_over_a_port(beam):
    call(beam, 1, b"operator", b"add", [2, 2])
    assert beam.port.read() == (Atom(b"r"), 1, 4)
    call(beam, 2, b"builtins", b"str.upper", [])
    kind, tag, error = beam.port.read()
    assert (kind, tag, error[:2]) == (b"e", 2, (b"python", b"builtins.TypeError"))
    call(beam, 3, b"operator", b"add", [b"0" * 200, b"1" * 100_000])
    assert beam.port.read() == (Atom(b"r"), 3, b"0" * 200 + b"1" * 100_000)
    call(beam, 4, b"builtins", b"print", [Atom(b"hello")])
    assert beam.port.read() == (Atom(b"P"), list(b"b'hello'"))
    assert beam.port.read() == (Atom(b"P"), list(b"\n"))
    assert beam.port.read() == (Atom(b"r"), 4, None)
    call(beam, 5, b"builtins", b"input", [])
    assert beam.port.read()[2][1] == b"io.UnsupportedOperation"


def test_the_beam_is_asked_over_a_port(beam):
    call(beam, 1, b"erlport.erlang", b"call", [Atom(b"m"), Atom(b"f"), [1]])
    kind, tag, module, function, args, context = beam.port.read()
    assert (kind, module, function, args, context) == (b"C", b"m", b"f", [1], b"N")
    # On top of the one that waits.
    call(beam, 2, b"operator", b"add", [1, 2])
    assert beam.port.read() == (Atom(b"r"), 2, 3)
    beam.port.write((Atom(b"r"), tag, [5]))
    assert beam.port.read() == (Atom(b"r"), 1, [5])
    call(beam, 3, b"erlport.erlang", b"self", [])
    kind, tag, *rest = beam.port.read()
    assert (kind, rest) == (b"C", [b"erlang", b"self", [], b"L"])
    beam.port.write((Atom(b"e"), tag, (Atom(b"erlang"), Atom(b"error"), Atom(b"badarg"), [])))
    assert beam.port.read()[2][1] == b"erlport.erlang.CallError"
    call(beam, 4, b"erlport.erlang", b"cast", [Atom(b"name"), 7])
    assert beam.port.read() == (Atom(b"M"), Atom(b"name"), 7)
    assert beam.port.read() == (Atom(b"r"), 4, None)
    beam.port.write((Atom(b"M"), b"dropped"))
    call(beam, 5, b"operator", b"add", [1, 2])
    assert beam.port.read() == (Atom(b"r"), 5, 3)


@pytest.mark.parametrize("packet", [1, 2, 4])
def test_packets(packet):
    beam = Beam(packet=packet)
    call(beam, 1, b"operator", b"add", [b"a", b"b"])
    assert beam.port.read() == (Atom(b"r"), 1, b"ab")
    beam.close()


def test_port():
    read, write = os.pipe()
    port = Port(packet=1, descriptors=(read, write))
    assert port.write(Atom(b"test")) == 9
    assert port.read() == b"test"
    with pytest.raises(OverflowError):
        port.write(b"x" * 300)
    os.write(write, b"\x04\x83m\0\0")
    with pytest.raises(IncompleteData):
        port.read()
    os.write(write, b"\x02\x83")
    os.close(write)
    with pytest.raises(EOFError):
        port.read()
    os.close(read)
    assert (Port().in_d, Port().out_d) == (0, 1)
    assert (Port(use_stdio=False).in_d, Port(use_stdio=False).out_d) == (3, 4)
    for options in ({"packet": 3}, {"buffer_size": 0}):
        with pytest.raises(ValueError):
            Port(**options)


def test_port_that_nobody_reads():
    read, write = os.pipe()
    os.close(read)
    port = Port(descriptors=(-1, write))
    with pytest.raises(EOFError):
        port.write(1)
    os.close(write)


def test_an_opaque_object_of_erlang_gives_its_bytes():
    assert OpaqueObject(b"no term", Atom(b"erlang")).encode() == b"no term"
    assert OpaqueObject(b"data", Atom(b"x")).encode() == encode_term((Atom(b"$erlport.opaque"), Atom(b"x"), b"data"))


def test_a_descriptor_that_takes_nothing_is_no_endless_loop(monkeypatch):
    taken = []

    def write(descriptor, data):
        assert len(taken) < 3, "asked again"
        taken.append(bytes(data[:3]))
        return len(taken[-1]) if len(taken) < 3 else 0

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(EOFError):
        Port(descriptors=(-1, -1)).write(b"some bytes")
    assert b"".join(taken) == b"\0\0\0\x10\x83m\0\0\0"
    taken.clear()
    with pytest.raises(EOFError):
        stdio.write_all(1, b"some bytes")


def test_command_line(capsys):
    parse = cli.get_option_parser().parse_args
    options = parse([])
    assert (options.packet, options.stdio, options.compressed, options.buffer_size) == (4, True, 0, 65536)
    options = parse(["--packet=2", "--nouse_stdio", "--compressed=9", "--buffer_size=5"])
    assert (options.packet, options.stdio, options.compressed, options.buffer_size) == (2, False, 9, 5)
    assert parse(["--use_stdio"]).stdio
    for wrong in ("--packet=3", "--compressed=10", "--compressed=x", "--buffer_size=0", "--bad"):
        with pytest.raises(SystemExit):
            parse([wrong])
    capsys.readouterr()


# --- stdin and stdout ---


def test_redirected_streams():
    written = []

    class Recorder:
        def write(self, message):
            kind, text = message
            assert kind is Atom(b"P")
            written.append(text)

    out = stdio.RedirectedStdout(Recorder())
    print("\u041f\u0440\u0438", end="", file=out)
    out.writelines(["a", "b"])
    out.flush()
    assert written == ["\u041f\u0440\u0438", "ab"]
    assert (out.writable(), out.readable(), out.isatty(), out.fileno(), out.encoding, out.mode) == (True, False, True, 1, "UTF-8", "w")
    for wrong in (b"bytes", 5):
        with pytest.raises(TypeError):
            out.write(wrong)
    for unsupported in (out.read, out.readline, out.truncate, out.seek, lambda: out.seek(0)):
        with pytest.raises((io.UnsupportedOperation, TypeError)):
            unsupported()
    out.close()
    with pytest.raises(ValueError):
        out.write("x")
    stdin = stdio.RedirectedStdin()
    assert (stdin.readable(), stdin.writable(), stdin.fileno(), stdin.mode) == (True, False, 0, "r")
    for unsupported in (stdin.read, stdin.readline, lambda: stdin.write("x"), lambda: next(iter(stdin))):
        with pytest.raises(io.UnsupportedOperation):
            unsupported()


def test_an_exception_beyond_max_result_is_cut(monkeypatch):
    monkeypatch.setattr("typhon._native.max_result", lambda: 65_536)
    try:
        raise KeyError("k", "x" * 1_000_000)
    except KeyError as error:
        _, kind, message, frames = erlang.describe(error)
    assert kind == Atom(b"builtins.KeyError")
    assert message.startswith("('k', 'xxx") and "max_result:" in message
    assert len(frames) == 1 and "test_erlport.py" in frames[0]
    assert 16 * (len(message) + len(frames[0])) < 65_536
