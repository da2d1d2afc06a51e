"""Fractions and complex numbers, with the option `tagged`."""

import fractions
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from terms import NIL, V, atom, floating, integer, listing, mapping, tuple_

import typhon
from typhon import Atom

Fraction = fractions.Fraction


def sent(value) -> bytes:
    return typhon.encode(value, tagged=True)


def taken(term):
    return typhon.decode(V + term, tagged=True)


def fraction(numerator, denominator):
    return tuple_(atom("fraction"), integer(numerator), integer(denominator))


def complex_(real, imaginary):
    return tuple_(atom("complex"), real, imaginary)


def test_they_are_objects_otherwise():
    for value in (Fraction(1, 3), 1j):
        with pytest.raises(typhon.EncodeError, match="has no counterpart on the BEAM$"):
            typhon.encode([value])
    for term in (fraction(1, 3), complex_(floating(1.0), floating(2.0))):
        assert type(typhon.decode(V + term)) is tuple


@pytest.mark.parametrize("value", [Fraction(1, 3), Fraction(-7), Fraction(1 << 200, 3), Fraction(0)])
def test_fractions(value):
    assert sent([value]) == V + listing(fraction(value.numerator, value.denominator))
    again = taken(fraction(value.numerator, value.denominator))
    assert again == value
    assert type(again) is Fraction


def test_fractions_need_not_be_in_lowest_terms():
    assert taken(fraction(2, -6)) == Fraction(-1, 3)


def test_complex_numbers():
    for value in (1 + 2j, 0j, complex(-0.0, -1.5)):
        assert sent(value) == V + complex_(floating(value.real), floating(value.imag))
        assert repr(taken(complex_(floating(value.real), floating(value.imag)))) == repr(value)
    assert taken(complex_(integer(1), integer(-2))) == 1 - 2j
    inf = math.inf
    assert sent([complex(inf, -inf)]) == V + listing(complex_(atom("infinity"), atom("neg_infinity")))
    assert taken(complex_(atom("infinity"), atom("neg_infinity"))) == complex(inf, -inf)
    odd = taken(complex_(atom("nan"), floating(1.0)))
    assert math.isnan(odd.real)
    assert odd.imag == 1.0
    assert sent(odd) == V + complex_(atom("nan"), floating(1.0))


def test_classes_derived_from_them():
    assert sent(type("F", (Fraction,), {})(1, 3)) == sent(Fraction(1, 3))
    assert sent(type("C", (complex,), {})(1, 3)) == sent(1 + 3j)


def test_numpys():
    np = pytest.importorskip("numpy")
    for kind in (np.complex64, np.complex128, np.clongdouble):
        assert sent([kind(1 + 2j)]) == sent([1 + 2j])
    assert typhon.decode(sent(np.array([1j], dtype=object)), tagged=True) == [1j]


@pytest.mark.parametrize(
    "value",
    [
        (Atom("fraction"), 1, 2.0),
        (Atom("fraction"), None, 2),
        (Atom("fraction"), 1),
        (Atom("fraction"), 1, 2, 3),
        (Atom("complex"), 1, "2"),
        (Atom("complex"), Atom("other"), 2),
        ("complex", 1, 2),
        (Atom("other"), 1, 2),
    ],
)
def test_other_tuples_stay_tuples(value):
    assert typhon.decode(sent(value), tagged=True) == value


@pytest.mark.parametrize(
    ("term", "reason"),
    [
        (fraction(1, 0), "cannot make a fractions.Fraction: ZeroDivisionError: Fraction(1, 0)"),
        (complex_(integer(1 << 2000), integer(0)), "cannot make a complex: OverflowError: int too large"),
    ],
)
def test_what_is_no_number(term, reason):
    with pytest.raises(typhon.DecodeError) as caught:
        taken(listing(mapping(atom("a"), term)))
    assert caught.value.path == "term[0][Atom('a')]"
    assert caught.value.reason.startswith(reason)


def test_as_keys():
    value = {Fraction(1, 3): 1, 2j: {Fraction(1, 2)}}
    assert typhon.decode(sent(value), tagged=True) == value
    with pytest.raises(typhon.EncodeError, match="are one term on the BEAM"):
        sent({Fraction(1, 3): 1, (Atom("fraction"), 1, 3): 2})
    for other in (integer(1), complex_(floating(1.0), floating(0.0)), fraction(2, 2)):
        with pytest.raises(typhon.DecodeError, match="which are equal in Python"):
            taken(mapping(fraction(1, 1), NIL, other, NIL))


def test_a_fraction_that_cannot_be_read():
    class Broken(Fraction):
        @property
        def numerator(self):
            raise RuntimeError("no")

    class Odd(Fraction):
        denominator = 1.5

    for value, reason in (
        (Broken(1, 3), "cannot read a Fraction: RuntimeError: no"),
        (Odd(1, 3), "a Fraction whose numerator and denominator are not both integers"),
    ):
        with pytest.raises(typhon.EncodeError) as caught:
            sent([value])
        assert (caught.value.path, caught.value.reason) == ("value[0]", reason)


NUMBERS = st.one_of(st.fractions(), st.complex_numbers(allow_nan=False))


@settings(max_examples=300, deadline=None)
@given(st.lists(NUMBERS | st.tuples(NUMBERS, NUMBERS)))
def test_there_and_back(value):
    assert repr(typhon.decode(sent(value), tagged=True)) == repr(value)


def test_nothing_is_left_behind():
    import test_leaks

    data = V + listing(fraction(1, 3), complex_(floating(1.5), atom("nan")), fraction(1, 0))
    for value in ([Fraction(1, 3), 1j], [Fraction(1, 3), object()]):
        test_leaks.check(sent, value)
    test_leaks.check(lambda term: typhon.decode(term, tagged=True), data)
