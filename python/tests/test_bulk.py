"""typhon._bulk and _native.unencodable: batches of calls. How they cross is tested from Elixir (multi_test.exs)."""

import gc
import sys
import types

import pytest

import typhon
from typhon import _bulk
from typhon._native import unencodable


class Plain:
    pass


def test_plain_numbers_and_objects_can_cross():
    assert unencodable([]) == []
    assert unencodable([1, 2.5, True, None, b"x", "text", 10**40, [1], {"a": (1,)}, Plain()]) == []


def test_names_what_cannot_cross():
    loop = []
    loop.append(loop)
    found = unencodable([1, "\ud800", "fine", {"a": ["\udfff"]}, Plain(), loop])
    assert [index for index, *_ in found] == [1, 3, 5]
    assert found[1][1] == 'result["a"][0]'
    assert found[0][2] == "str"
    assert all(reason for *_, reason in found)


def test_takes_a_list_alone():
    with pytest.raises(TypeError, match="must be list"):
        unencodable((1,))


def test_keeps_nothing():
    thing = Plain()
    results = [thing, "\ud800", 1]
    unencodable(results)
    gc.collect()
    before = sys.getrefcount(thing)
    for _ in range(100):
        unencodable(results)
    assert sys.getrefcount(thing) == before


def test_goes_on_behind_an_exception():
    calls = [[4], [-1], [9], ["x"]]
    results, errors = _bulk.run("math", "sqrt", calls, False, {})
    assert results == [2.0, None, 3.0, None]
    assert [index for index, _ in errors] == [1, 3]
    assert [term[1] for _, term in errors] == ["ValueError", "TypeError"]
    assert _bulk.run_columns("math", "sqrt", [[4, -1, 9, "x"]], False, {}) == (results, errors)


def test_cancelled_is_not_one_of_the_errors():
    def cancelled(_):
        raise typhon.Cancelled

    module = type(sys)("cancelled_module")
    module.f = cancelled
    for call in (
        lambda: _bulk.run(module, "f", [[1]], False, {}),
        lambda: _bulk.run_columns(module, "f", [[1]], False, {}),
        lambda: _bulk.run_each([(module, "f", [1], {})], False),
    ):
        with pytest.raises(typhon.Cancelled):
            call()


def test_tells_of_coroutines_when_asked_for_them():
    async def later():
        pass

    coroutine = later()
    assert unencodable([1, "text", coroutine], types.CoroutineType) is None
    assert unencodable([1, "text", Plain()], types.CoroutineType) == []
    assert unencodable([coroutine]) == []
    coroutine.close()
