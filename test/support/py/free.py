"""For the tests with a Python that has no GIL, and from many threads at once."""

import sys
import threading

import sample
import typhon

state = {"counts": {f"key {i}": 0 for i in range(20)}, "history": []}


def gil():
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def mix(value, number):
    """A bit of everything that threads share in a worker: classes, atoms, handles, an object that all of them change."""
    state["counts"][f"key {number % 20}"] = number
    state["history"].append(number)
    if len(state["history"]) > 100:
        del state["history"][:50]
    return {
        "value": value,
        typhon.Atom("atom"): typhon.Atom(f"typhon_free_{number % 5}"),
        "object": sample.Counter(number),
        "set": {number, "x"},
        "sum": sum(range(number)),
        "thread": threading.get_ident(),
    }


def shared():
    return state


def fail(number):
    raise sample.OwnError(f"number {number}")


async def later(number):
    return number + 1
