"""Sub-interpreters with a GIL of their own load the same library, and threads share one interpreter."""

import sys
import threading

import pytest
from processes import run_python

import typhon

# Without datetime: in 3.12 importing that in such interpreters, one after the other, crashes by itself.
CODE = """
import sys
sys.path[:0] = {path!r}
import typhon, gc
atom = typhon.Atom("shared_name")
value = [1, "x", {{"k": atom, (1, 2): {{3}}}}, range(3), None, True, 1 << 100] * 50
for _ in range({rounds}):
    assert typhon.decode(typhon.encode(value)) == value
assert typhon.decode(b"\\x83w\\x0bshared_name") is atom
try:
    typhon.encode([object()])
except typhon.EncodeError as error:
    assert error.path == "value[0]"
else:
    raise AssertionError

class Thing:
    pass

struct = typhon.encode({{typhon.Atom("__struct__"): typhon.Atom("Elixir.Typhon.Struct"),
                        typhon.Atom("name"): typhon.Atom("Elixir.Thing"), typhon.Atom("fields"): {{"a": 1}}}})
# What another interpreter has registered is not known here.
assert typhon.decode(struct) == {{"a": 1}}
typhon.decoder("Elixir.Thing")(lambda fields: fields["a"])
assert typhon.decode(struct) == 1
typhon.encoder(Thing)(lambda value: 7)
assert typhon.decode(typhon.encode([Thing()])) == [7]
"""


def run_in_subinterpreters(count: int, rounds: int, program: str) -> None:
    """In a process of its own: a crash shall not take the tests with it."""
    code = CODE.format(path=sys.path, rounds=rounds)
    assert run_python(program, code, str(count)) == "done"


PROGRAM_312 = """
import sys, threading
import _xxsubinterpreters as interpreters
def run(code):
    interpreter = interpreters.create(isolated=True)
    try:
        interpreters.run_string(interpreter, code)
    finally:
        interpreters.destroy(interpreter)
"""
PROGRAM_313 = """
import sys, threading
import _interpreters as interpreters
def run(code):
    interpreter = interpreters.create("isolated")
    try:
        failure = interpreters.run_string(interpreter, code)
        assert failure is None, failure
    finally:
        interpreters.destroy(interpreter)
"""
ONE_BY_ONE = """
for _ in range(int(sys.argv[2])):
    run(sys.argv[1])
print("done")
"""
AT_ONCE = """
failures = []
def guarded():
    try:
        run(sys.argv[1])
    except BaseException as error:
        failures.append(error)
threads = [threading.Thread(target=guarded) for _ in range(int(sys.argv[2]))]
for thread in threads: thread.start()
for thread in threads: thread.join()
if failures: raise failures[0]
print("done")
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters with a GIL of their own came with 3.12")
@pytest.mark.parametrize(("how", "count", "rounds"), [(ONE_BY_ONE, 10, 5), (AT_ONCE, 4, 200)])
def test_subinterpreters_with_a_gil_each(how, count, rounds):
    program = (PROGRAM_312 if sys.version_info < (3, 13) else PROGRAM_313) + how
    run_in_subinterpreters(count, rounds, program)


def test_threads_of_one_interpreter():
    value = [{"k": [i, f"text {i}", (i, None)]} for i in range(200)]
    data = typhon.encode(value)
    failures = []

    def work():
        for _ in range(50):
            if typhon.decode(typhon.encode(value)) != value or typhon.encode(value) != data:
                failures.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


SECOND_IMPORT = """
import gc, sys, weakref
import typhon
first = typhon._native
del sys.modules["typhon._native"], sys.modules["typhon"], typhon
import typhon as second
assert second._native is not first and second.Atom is not first.Atom
first.encode([first.Atom("y"), type("C", (list,), {})(), 1 << 100, {"a": 1}])
"""
OF_ITS_OWN = """
value = second.decode(second.encode([second.Atom("x"), {"a": 1}]))
assert value == [second.Atom("x"), {"a": 1}]
assert first.decode(first.encode(first.Atom("x"))) is first.Atom("x")
try:
    second.encode(first.Atom("x"))
except second.EncodeError:
    print("done")
"""
GOES_AWAY = """
kept = first.Atom("kept")
types = [weakref.ref(kind) for kind in (first.Pid, first.ImproperList, first.DecodeError)]
del first
gc.collect()
assert str(kept) == "kept" and repr(kept) == "Atom('kept')" and hash(kept) == hash(kept)
types.append(weakref.ref(type(kept)))
del kept
gc.collect()
assert [kind() for kind in types] == [None] * 4
assert second.Atom("x").name == "x"
print("done")
"""


@pytest.mark.parametrize("program", [OF_ITS_OWN, GOES_AWAY], ids=["has a state of its own", "goes away"])
def test_a_second_import(program):
    """As test runners do it: types of one module object are not those of another."""
    assert run_python(SECOND_IMPORT + program) == "done"
