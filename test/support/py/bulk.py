"""What the tests of Typhon.multi and Typhon.map call."""

import os
import time

made: list[object] = []


def note(value):
    made.append(value)
    return value


def noted():
    result = list(made)
    made.clear()
    return result


def fail_on(value, bad):
    if value == bad:
        raise ValueError(f"bad {value}")
    return value


def pair(a, b, c=None):
    return (a, b, c)


def many(*args, **kwargs):
    return (args, kwargs)


def surrogate(value):
    """A str that cannot cross, for one of the values."""
    return {"text": "\ud800"} if value == 2 else {"text": str(value)}


def thing(value):
    """An object that stays in Python, for one of the values."""
    return Thing(value) if value == 2 else value


class Thing:
    def __init__(self, value):
        self.value = value

    def get(self, factor=1):
        return self.value * factor


def stop_iteration(value):
    if value % 2 == 0:
        raise StopIteration(value)
    return value


def die(value):
    if value == 3:
        os._exit(3)
    return value


def slow(value):
    time.sleep(0.05)
    return value


def behind_gate(value, gate):
    if value == 1:
        while not os.path.exists(gate):
            time.sleep(0.005)
    if value == 6:
        with open(gate, "w"):
            pass
    return value
