"""Functions that test/typhon/module_test.exs makes Elixir functions of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, Optional, overload

# Whoever imports this at compile time is found out.
IMPORTED = True


def mean(rows: list[float], /, weight: float = 1.0) -> float:
    """The mean of rows.

    Of none there is an error.
    """
    return weight * sum(rows) / len(rows)


def total(*values: int, start: int = 0) -> int:
    return sum(values, start)


def shifted(a, b=2, *rest, c=3):
    return [a, b, rest, c]


def placed(a, b=1, c=2, /):
    return [a, b, c]


def named(a: str, *, key: str, other: Optional[int] = None) -> dict[str, Any]:
    return {"a": a, "key": key, "other": other}


def open_ended(**more: Any) -> dict[str, Any]:
    return more


async def later(x: int) -> tuple[int, str]:
    await asyncio.sleep(0)
    return x, "late"


def count(n: int) -> Iterator[int]:
    """Counts."""
    yield from range(n)


async def count_later(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


@contextlib.contextmanager
def managed():
    yield 1


@overload
def either(x: int) -> int: ...
@overload
def either(x: str) -> str: ...
def either(x):
    """What counts."""
    return x


def twice():
    return 1


def twice():  # noqa: F811
    return 2


def end(do, fn=1, Größe=2):
    return [do, fn, Größe]


def quote(text: str) -> str:
    return f"'{text}'"


def to_string(x):
    return str(x)


def Capital(Value):
    return Value


def capital():
    return "small"


def größe():
    return 3


def _private():
    return None


class Shape:
    def area(self):
        return 0


try:
    import no_such_module_at_all
except ImportError:

    def fallback(options):
        return options


def fails(x: bytes) -> None:
    raise ValueError(x)
