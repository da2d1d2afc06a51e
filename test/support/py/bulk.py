"""What the tests of Typhon.multi and Typhon.map call."""

import asyncio
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


def made_so_far():
    return list(made)


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


async def later(value, bad=None):
    """Those with an even number end first."""
    made.append(("began", value))
    await asyncio.sleep(0.02 if value % 2 else 0.001)
    made.append(("ended", value))
    return fail_on(value, bad)


_met: "dict[str, asyncio.Barrier]" = {}


async def together(name, count):
    """Goes on when so many are here."""
    await _met.setdefault(name, asyncio.Barrier(count)).wait()
    return name


async def given_up(value):
    made.append(("began", value))
    try:
        await asyncio.sleep(600)
    finally:
        made.append(("ended", value))


async def coroutine_of(value):
    return later(value)
