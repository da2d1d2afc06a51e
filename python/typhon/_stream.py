"""What `Typhon.stream` reads: an iterator of Python, batch by batch. Imported when the first stream is opened."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import islice
from time import perf_counter

from typhon import _bulk
from typhon._native import Cancelled
from typhon._threads import allocate_lock
from typhon._weight import LIGHT, SIZED, enough, weigh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# A batch is sent when this much time has gone into it, full or not: what a slow iterator has made is not held back.
_SECONDS = 0.002


class Stream:
    """Held by the BEAM, which calls next() until the end, and close() when it wants no more."""

    def __init__(self, iterator: Iterator[Any], owned: bool = True) -> None:
        self._iterator = iterator
        # A generator that somebody else has a handle of is theirs to close.
        self._owned = owned
        self._error: BaseException | None = None
        # An element that was too large for the batch that it came in; it begins the next one.
        self._held: list[Any] = []
        self._enough = enough()
        # In a worker with several threads close() may come while next() runs.
        self._lock = allocate_lock()

    def next(self, count: int) -> tuple[list[Any], bool]:
        """Up to `count` elements, and whether they are the last. What an element raises is raised after those before it."""
        with self._lock:
            return self._next(count)

    def _next(self, count: int) -> tuple[list[Any], bool]:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        batch, self._held = self._held, []
        chunk = 1
        weight = sum(map(weigh, batch))
        until = perf_counter() + _SECONDS
        try:
            while weight < self._enough and len(batch) < count and (not batch or perf_counter() <= until):
                chunk = min(chunk, count - len(batch))
                before = len(batch)
                for element in islice(self._iterator, chunk):
                    batch.append(element)
                    kind = type(element)
                    if kind in LIGHT:
                        continue
                    weight += len(element) if kind in SIZED else weigh(element)
                    if weight >= self._enough:
                        return self._full(batch)
                if len(batch) - before < chunk:
                    return batch, True
                chunk *= 2
            return batch, False
        except Cancelled:
            raise
        except BaseException as error:
            if not batch:
                raise
            self._error = error
            return batch, False

    def _full(self, batch: list[Any]) -> tuple[list[Any], bool]:
        if len(batch) > 1:
            self._held = [batch.pop()]
        return batch, False

    def close(self) -> None:
        with self._lock:
            self._held = []
            if self._owned and inspect.isgenerator(self._iterator):
                self._iterator.close()
            self._iterator = iter(())


def open(module: Any, function: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The Stream of what the function returns: an iterator, an iterable, or one of their asynchronous kinds."""
    result = _bulk.find(module, function)(*args, **kwargs)
    return _open_later(result) if inspect.iscoroutine(result) else _stream(result)


async def _open_later(coroutine: Any) -> Any:
    return _stream(await coroutine)


def over(target: Any) -> Any:
    """The Stream of an object that Elixir holds."""
    return _stream(target, "and this object is", owned=False)


def _stream(result: Any, what: str = "and the function returned", owned: bool = True) -> Any:
    if hasattr(result, "__aiter__"):
        from typhon._async_stream import AsyncStream

        return AsyncStream(aiter(result), owned)
    try:
        return Stream(iter(result), owned)
    except TypeError:
        raise TypeError(f"a stream needs an iterator or an iterable, {what} {type(result).__name__}") from None
