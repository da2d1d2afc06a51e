"""The types that stand for terms of the BEAM."""

import copy
import gc
import math
import pickle
import sys

import pytest
from processes import run_python
from terms import V, binary, closure, export, pid, port, reference, tuple_

import typhon
from typhon import Atom, BitString, ImproperList
from typhon._native import Kept

OPAQUE = {
    "pid": (pid(), typhon.Pid, "<typhon.Pid a@b 0.1.2>"),
    "reference": (reference(), typhon.Reference, "<typhon.Reference a@b 0.4.3.2>"),
    "port": (port(), typhon.Port, "<typhon.Port a@b 0.5>"),
    "export": (export(), typhon.Fun, "<typhon.Fun Elixir.Enum.map/2>"),
    "closure": (closure(binary("free"), tuple_()), typhon.Fun, "<typhon.Fun m.8.9/1>"),
}


class TestAtom:
    def test_is_one_object_for_each_name(self):
        assert Atom("ok") is Atom("ok") is typhon.decode(V + b"w\x02ok")
        assert Atom("ok") is not Atom("error")

    def test_is_interned_also_after_it_left_the_cache(self):
        kept = [Atom(f"atom_{i}") for i in range(5000)]
        assert all(Atom(f"atom_{i}") is atom for i, atom in enumerate(kept))

    def test_dies_when_nobody_holds_it(self):
        before = len([o for o in gc.get_objects() if type(o) is Atom])
        for i in range(20_000):
            Atom(f"short lived {i}")
        gc.collect()
        assert len([o for o in gc.get_objects() if type(o) is Atom]) < before + 2000

    def test_never_equals_a_str(self):
        assert Atom("ok") != "ok"
        assert {Atom("ok"): 1, "ok": 2} == {"ok": 2, Atom("ok"): 1}
        assert len({Atom("ok"), "ok"}) == 2

    def test_shows_its_name(self):
        atom = Atom("with space")
        assert (repr(atom), str(atom), atom.name, f"{atom}") == ("Atom('with space')",) + ("with space",) * 3

    def test_is_immutable(self):
        with pytest.raises(AttributeError):
            Atom("ok").name = "x"
        with pytest.raises(AttributeError):
            Atom("ok").other = 1

    def test_matches(self):
        match Atom("ok"):
            case Atom("ok"):
                pass
            case _:
                pytest.fail("no match")

    def test_has_at_most_255_characters(self):
        for name in ("", "x" * 255, "é" * 255, "😀" * 255):
            atom = Atom(name)
            assert atom.name == name
            assert typhon.decode(typhon.encode(atom)) is atom
        with pytest.raises(ValueError, match="^an atom has at most 255 characters, this one 256$"):
            Atom("é" * 256)
        with pytest.raises(ValueError, match="^an atom has at most 255 characters, this one 2000$"):
            Atom("x" * 2000)

    def test_refuses_what_is_no_text(self):
        with pytest.raises(TypeError):
            Atom(b"ok")
        with pytest.raises(TypeError):
            Atom()
        with pytest.raises(UnicodeEncodeError):
            Atom("\ud800")

    def test_takes_its_name_by_keyword(self):
        assert Atom(name="ok") is Atom("ok")

    def test_is_a_float_where_it_was_one(self):
        assert math.isnan(float(Atom("nan")))
        assert (float(Atom("infinity")), float(Atom("neg_infinity"))) == (math.inf, -math.inf)
        assert Atom("infinity") != math.inf
        for name in ("ok", "inf", "NaN", "1.5"):
            with pytest.raises(TypeError, match="must be real number, not typhon.Atom"):
                float(Atom(name))

    def test_cannot_be_subclassed(self):
        with pytest.raises(TypeError):
            type("Sub", (Atom,), {})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_atom_is_the_same_after_pickling_and_copying(protocol):
    atom = Atom("pickled")
    assert pickle.loads(pickle.dumps(atom, protocol)) is atom
    assert copy.copy(atom) is atom
    assert copy.deepcopy([atom])[0] is atom


class TestOpaque:
    @pytest.mark.parametrize("name", OPAQUE)
    def test_goes_back_as_it_came(self, name):
        term, kind, shown = OPAQUE[name]
        value = typhon.decode(V + term)
        assert type(value) is kind
        assert repr(value) == shown
        assert typhon.encode(value) == V + term
        assert typhon.encode([value, value]) == V + b"l\0\0\0\2" + term + term + b"j"

    @pytest.mark.parametrize("name", OPAQUE)
    def test_equals_another_of_the_same_content(self, name):
        term = OPAQUE[name][0]
        one, other = typhon.decode(V + term), typhon.decode(V + term)
        assert one is not other and one == other and hash(one) == hash(other)
        assert not one != other
        for others_name, (others, _, _) in OPAQUE.items():
            assert (typhon.decode(V + others) == one) is (others_name == name)
        assert one != 1

    @pytest.mark.parametrize("name", OPAQUE)
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_pickles(self, name, protocol):
        value = typhon.decode(V + OPAQUE[name][0])
        assert pickle.loads(pickle.dumps(value, protocol)) == value
        assert copy.copy(value) is value and copy.deepcopy([value])[0] is value

    @pytest.mark.parametrize("name", OPAQUE)
    def test_cannot_be_made_by_hand(self, name):
        kind = OPAQUE[name][1]
        with pytest.raises(TypeError, match=f"cannot create 'typhon.{kind.__name__}' instances"):
            kind()

    def test_fields(self):
        value = typhon.decode(V + pid("n@h", 1, 2, 3))
        assert (value.node, value.id, value.serial, value.creation) == (Atom("n@h"), 1, 2, 3)
        value = typhon.decode(V + reference("n@h", 9, (1, 2, 3, 4, 5)))
        assert (value.node, value.creation, value.ids) == (Atom("n@h"), 9, (1, 2, 3, 4, 5))
        value = typhon.decode(V + port("n@h", 1 << 40, 7))
        assert (value.node, value.id, value.creation) == (Atom("n@h"), 1 << 40, 7)
        value = typhon.decode(V + export())
        assert (value.module, value.function, value.arity) == (Atom("Elixir.Enum"), Atom("map"), 2)
        value = typhon.decode(V + closure())
        assert (value.module, value.function, value.arity) == (Atom("m"), None, 1)
        with pytest.raises(AttributeError):
            value.arity = 2

    def test_old_and_new_encodings_of_one_pid_are_equal(self):
        new = typhon.decode(V + pid("a@b", 1, 2, 3))
        old = typhon.decode(V + b"g" + b"d\0\3a@b" + b"\0\0\0\1\0\0\0\2\3")
        assert old == new and hash(old) == hash(new)
        assert typhon.encode(old) == V + b"g" + b"d\0\3a@b" + b"\0\0\0\1\0\0\0\2\3"


class TestBitString:
    def test_has_bits(self):
        bits = BitString(b"\xff\xe0", 11)
        assert (bits.data, bits.bit_size, len(bits)) == (b"\xff\xe0", 11, 11)
        assert repr(bits) == "BitString(b'\\xff\\xe0', 11)"
        assert typhon.encode(bits) == V + b"M\0\0\0\2\x03\xff\xe0"
        assert typhon.decode(typhon.encode(bits)) == bits

    def test_clears_unused_bits(self):
        assert BitString(b"\xff\xff", 11) == BitString(b"\xff\xe0", 11)
        assert BitString(b"\xff", 1).data == b"\x80"
        assert typhon.decode(V + b"M\0\0\0\1\x01\xff") == BitString(b"\x80", 1)
        assert bytes([0xFF]) == b"\xff"  # the shared one-byte object was not written to

    def test_of_whole_bytes_goes_out_as_a_binary(self):
        assert typhon.encode(BitString(b"ab", 16)) == V + binary("ab")
        assert typhon.encode(BitString(b"", 0)) == V + binary("")

    def test_compares_and_hashes_by_content(self):
        assert BitString(b"\x80", 1) != BitString(b"\x80", 2)
        assert len({BitString(b"\x80", 1), BitString(b"\xff", 1), BitString(b"\x80", 2)}) == 2
        assert BitString(b"\x80", 1) != b"\x80"

    @pytest.mark.parametrize(
        ("data", "size", "message"),
        [
            (b"\xff", 9, "a bit string of 9 bits has 2 bytes of data, not 1"),
            (b"\xff\xff", 8, "a bit string of 8 bits has 1 bytes of data, not 2"),
            (b"", -1, "a bit string of -1 bits has 0 bytes of data, not 0"),
        ],
    )
    def test_checks_its_size(self, data, size, message):
        with pytest.raises(ValueError) as error:
            BitString(data, size)
        assert str(error.value) == message

    def test_pickles_and_copies(self):
        bits = BitString(bytearray(b"\x80"), 1)
        assert pickle.loads(pickle.dumps(bits)) == bits
        assert copy.deepcopy(bits) is bits


class TestKept:
    def test_is_a_handle_whatever_is_in_it_and_nobody_has_handles_here(self):
        kept = Kept([1])
        assert kept.value == [1]
        with pytest.raises(typhon.EncodeError) as error:
            typhon.encode({"a": kept})
        assert "a value of type list has no counterpart on the BEAM" in str(error.value)

    def test_takes_one_value(self):
        for wrong in [lambda: Kept(), lambda: Kept(1, 2), lambda: Kept(value=1)]:
            with pytest.raises(TypeError):
                wrong()


class TestImproperList:
    def test_has_items_and_a_tail(self):
        value = ImproperList([1, "a"], Atom("end"))
        assert (value.items, value.tail) == ((1, "a"), Atom("end"))
        assert repr(value) == "ImproperList((1, 'a'), Atom('end'))"
        assert typhon.encode(ImproperList([1], 2)) == V + b"l\0\0\0\1a\1a\2"
        assert typhon.decode(typhon.encode(value)) == value

    def test_compares_and_hashes_by_content(self):
        assert ImproperList([1], 2) == ImproperList((1,), 2) != ImproperList([1], 3)
        assert len({ImproperList([1], 2), ImproperList((1,), 2), (1, 2)}) == 2
        with pytest.raises(TypeError):
            hash(ImproperList([[]], 2))

    def test_refuses_what_is_a_proper_list(self):
        with pytest.raises(ValueError, match="^an improper list has at least one item before its tail$"):
            ImproperList([], 1)
        for tail in ([], [1], ImproperList([1], 2)):
            with pytest.raises(ValueError, match="^the tail of an improper list is no list$"):
                ImproperList([1], tail)

    def test_pickles_copies_and_matches(self):
        value = ImproperList([1, [2]], "t")
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.deepcopy(value) == value
        match value:
            case ImproperList((1, [2]), "t"):
                pass
            case _:
                pytest.fail("no match")

    def test_in_a_cycle_is_collected(self):
        items = []
        value = ImproperList([items], None)
        items.append(value)
        assert repr(value) == "ImproperList(([ImproperList(...)],), None)"
        del items, value
        gc.collect()
        assert not [o for o in gc.get_objects() if type(o) is ImproperList and o.tail is None]


def test_exceptions():
    assert issubclass(typhon.EncodeError, (typhon.TyphonError, ValueError))
    assert issubclass(typhon.DecodeError, (typhon.TyphonError, ValueError))
    assert issubclass(typhon.TyphonError, Exception)
    assert not issubclass(typhon.Cancelled, Exception)
    made = typhon.DecodeError("x")
    assert (made.path, made.reason, made.code, made.offset) == ("", "", "value", 0)
    made = typhon.EncodeError("x")
    assert (made.path, made.reason, made.type_name) == ("", "", "")
    with pytest.raises(typhon.EncodeError) as caught:
        typhon.encode([object])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.path, again.type_name, str(again)) == ("value[0]", "type", str(caught.value))


def test_importing_loads_nothing_heavy():
    """A worker's start is `python -c pass` and little more."""
    # Each Python has imported `os` by the time that a worker imports anything.
    code = "import os, sys; before = set(sys.modules); import typhon; print(sorted(set(sys.modules) - before))"
    without_gil = ["typhon._free_threaded"] if "t" in sys.abiflags else []
    assert run_python(code, flags=("-S",)) == str(["typhon", *without_gil, "typhon._native"])
