"""Objects for the tests of the functions on objects."""

import asyncio
import contextlib
import time


class Box:
    """Keeps things.

    Of all sorts.
    """

    def __init__(self, **things):
        self.__dict__.update(things)

    def __getitem__(self, key):
        return self.__dict__[key]

    def __call__(self, *args, **kwargs):
        return (args, kwargs)

    def set(self, name, value):
        setattr(self, name, value)
        return self

    def inner(self):
        return self.box

    def add(self, a, b=1):
        return a + b

    def adder(self, number):
        return lambda n: n + number

    async def later(self, value):
        await asyncio.sleep(0)
        return value

    def later_box(self):
        return self._later_box()

    async def _later_box(self):
        await asyncio.sleep(0)
        return self


def add_to():
    return Box().adder(5)


class Table:
    def __init__(self):
        self.rows = {}

    def __getitem__(self, key):
        return self.rows[key]

    def __setitem__(self, key, value):
        self.rows[key] = value

    def __len__(self):
        return len(self.rows)


def box():
    inner = Box(number=5, text="five", größe=7)
    return Box(box=inner, number=1, nested={"a": [1, 2]})


class Raising:
    error = ValueError("again")

    def __init__(self):
        self.itself = self

    def fail(self):
        raise self.error


class Hostile:
    """Whatever is asked of it ends badly."""

    def __getattr__(self, name):
        raise RuntimeError(f"no {name}")

    def __getitem__(self, key):
        raise RuntimeError("no items")

    def __len__(self):
        return -1

    def __repr__(self):
        raise RuntimeError("no repr")

    def __dir__(self):
        raise RuntimeError("no dir")

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    @property
    def endless(self):
        while True:
            time.sleep(0.01)


class Large:
    def __repr__(self):
        return "x" * 1_000_000_000


class Slow:
    def __repr__(self):
        time.sleep(600)


class Busy:
    def __repr__(self):
        while True:
            pass


class Stubborn:
    def __repr__(self):
        for _ in range(3):
            try:
                time.sleep(600)
            except BaseException:
                pass
        return "at last"


class Shown:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def shown(first, second):
    return [Shown(first), {"a": Shown(second)}]


async def shown_later(text):
    await asyncio.sleep(0)
    return Shown(text)


async def slow_later():
    await asyncio.sleep(0)
    return Busy()


def surrogates():
    return Shown("\udcff")


def many_slow(count):
    class Slowish:
        def __repr__(self):
            time.sleep(0.001)
            return "slow"

    return [Slowish() for _ in range(count)]


def large(kind, length):
    return bytes(length) if kind == "bytes" else {"list": list, "tuple": tuple, "set": set}[kind](range(length))


def work():
    return sum(range(1_000_000))


def number_of(box):
    return box.number


def cyclic():
    numbers = [1]
    numbers.append(numbers)
    return numbers


def same(target):
    return target


log = []


class Context:
    def __init__(self, value="entered", suppress=False, fails=None):
        self.value = value
        self.suppress = suppress
        self.fails = fails

    def __enter__(self):
        if self.fails == "enter":
            raise ValueError("cannot enter")
        log.append("enter")
        return self.value

    def __exit__(self, kind, error, traceback):
        log.append(("exit", kind and kind.__name__, str(error), getattr(error, "type", None)))
        if self.fails == "exit":
            raise ValueError("cannot leave")
        return self.suppress


@contextlib.contextmanager
def generated():
    log.append("enter")
    try:
        yield Box(number=3)
    except Exception as error:
        log.append(("raised", str(error)))
        raise
    finally:
        log.append("exit")


@contextlib.asynccontextmanager
async def generated_async():
    await asyncio.sleep(0)
    log.append("enter")
    try:
        yield "async"
    finally:
        await asyncio.sleep(0)
        log.append("exit")


def cyclic_context():
    return Context(cyclic())


def take_log():
    taken = list(log)
    log.clear()
    return taken


def numbers(count):
    yield from range(count)


async def numbers_async(count):
    for number in range(count):
        await asyncio.sleep(0)
        yield number
