"""The codec from many threads at once: what comes out is what comes out of one.

With a GIL this shows little; free-threaded Python (scripts/pythons lists those of this machine) is what it is for.
"""

import datetime
import decimal
import enum
import gc
import sys
import threading
from dataclasses import dataclass

import pytest

import typhon

THREADS = 8


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: object


def in_threads(work, threads=THREADS):
    """work(i) in so many threads, begun at once; what they raised is raised."""
    barrier = threading.Barrier(threads)
    failures = []

    def run(index):
        try:
            barrier.wait(60)
            work(index)
        except BaseException as error:
            failures.append(error)

    all_threads = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for thread in all_threads:
        thread.start()
    for thread in all_threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.fixture(autouse=True)
def switch_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def row(i):
    return {
        "id": i,
        "name": f"row {i}",
        typhon.Atom("kind"): typhon.Atom(f"kind_{i % 7}"),
        "when": datetime.datetime(2024, 1, 1 + i % 28, 3, 4, 5, tzinfo=datetime.timezone.utc),
        "price": decimal.Decimal(i) / 4,
        "tags": {"a", i % 5},
        "big": 1 << (60 + i % 10),
        "text": "é" * (i % 40),
        "pair": (i, [float(i), None, True]),
    }


def test_each_thread_gets_its_own_values():
    def work(index):
        value = [row(index * 1000 + i) for i in range(60)]
        for _ in range(8):
            assert typhon.decode(typhon.encode(value)) == value

    in_threads(work)


def test_one_value_from_many_threads():
    value = [row(i) for i in range(100)]
    expected = typhon.encode(value)

    def work(_):
        for _ in range(15):
            assert typhon.encode(value) == expected
            assert typhon.decode(expected) == value

    in_threads(work)


def test_classes_are_told_apart():
    values = [Colour.RED, Point(1, Colour.RED), decimal.Decimal("1.5"), datetime.date(2024, 2, 29)]
    expected = [typhon.encode(value) for value in values]

    def work(index):
        for i in range(300):
            at = (index + i) % len(values)
            assert typhon.encode(values[at]) == expected[at]
            # Classes that come and go: their addresses are used again.
            passing = dataclass(type("Passing", (), {"__annotations__": {"z": int}}))
            assert typhon.decode(typhon.encode(passing(i))) == {"z": i}

    in_threads(work)


def test_atoms_of_one_name_are_one_object():
    """Made, dropped and made again by all threads: while one dies in a thread another may look for it."""
    names = [f"passing {i}" for i in range(4)]

    def work(_):
        for i in range(4000):
            name = names[i % len(names)]
            atom = typhon.Atom(name)
            again = typhon.decode(typhon.encode(atom))
            assert again is atom and atom.name == name and str(again) == name

    in_threads(work)
    gc.collect()
    kept = [typhon.Atom(name) for name in names]
    in_threads(lambda _: [pytest.fail(name) for atom, name in zip(kept, names) if typhon.Atom(name) is not atom])


def test_atoms_that_all_make_at_once():
    made = [[] for _ in range(THREADS)]

    def work(index):
        for i in range(3000):
            made[index].append(typhon.Atom(f"made at once {i}"))

    in_threads(work)
    for atoms in zip(*made):
        assert all(atom is atoms[0] for atom in atoms)


def changing(threads, change, encode_one, check):
    """One thread changes what the others encode: what comes out is one of its states, or an EncodeError that says so."""
    stop = threading.Event()
    encoded = []

    def work(index):
        if index == 0:
            step = 0
            while not stop.is_set() and step < 200_000:
                change(step)
                step += 1
            return
        try:
            for _ in range(400):
                try:
                    check(typhon.decode(encode_one()))
                    encoded.append(1)
                except typhon.EncodeError as error:
                    assert "changed its size" in error.reason or "changed size" in error.reason
        finally:
            if index == 1:
                stop.set()

    in_threads(work, threads)
    assert encoded


def test_a_dict_that_another_thread_changes():
    value = {f"key {i}": [i] for i in range(50)}

    def change(step):
        key = f"key {step % 50}"
        value[key] = [step]
        value[f"new {step % 3}"] = step
        value.pop(f"new {(step + 1) % 3}", None)

    def check(decoded):
        assert all(decoded[f"key {i}"][0] % 50 == i for i in range(50))

    changing(4, change, lambda: typhon.encode(value), check)


def test_a_list_that_another_thread_changes():
    value = [[0], *range(40)]

    def change(step):
        value.append([step, "x" * (step % 30)])
        if len(value) > 60:
            del value[41:]
        value[0] = [step]

    def check(decoded):
        assert decoded[1:41] == list(range(40))
        assert all(isinstance(extra, list) and len(extra[1]) == extra[0] % 30 for extra in decoded[41:])

    changing(4, change, lambda: typhon.encode(value), check)


def test_a_set_that_another_thread_changes():
    value = {f"element {i}" for i in range(50)}

    def change(step):
        value.add(step % 10)
        value.discard((step + 3) % 10)

    def check(decoded):
        assert {f"element {i}" for i in range(50)} <= decoded

    changing(4, change, lambda: typhon.encode(value), check)


@pytest.mark.skipif("t" not in sys.abiflags, reason="this Python has a GIL")
class TestWithoutAGil:
    def test_the_import_has_not_switched_the_gil_on(self):
        import subprocess

        code = "import sys, typhon; print(sys._is_gil_enabled())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"

    @pytest.mark.parametrize("shape", [list, dict])
    def test_what_code_changes_underway_goes_out_as_it_was(self, shape):
        value = shape()

        @dataclass
        class Evil:
            field: int = 1

            def __getattribute__(self, name):
                if name == "field":
                    value.clear()
                return object.__getattribute__(self, name)

        value.update(a=Evil(), b=[2]) if shape is dict else value.extend([Evil(), [2]])
        assert typhon.decode(typhon.encode(value)) == ({"a": {"field": 1}, "b": [2]} if shape is dict else [{"field": 1}, [2]])
        assert not value

    def test_a_missing_build_is_an_error_that_says_what_to_do(self, tmp_path):
        import pathlib
        import shutil
        import subprocess

        package = pathlib.Path(typhon.__file__).parent
        shutil.copytree(package, tmp_path / "typhon", ignore=shutil.ignore_patterns("_native.cpython*"))
        assert (tmp_path / "typhon" / "_native.abi3.so").exists()
        done = subprocess.run(
            [sys.executable, "-c", "import typhon"], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "TYPHON_FREE_THREADED=" in done.stderr and "mix compile" in done.stderr
