"""The asynchronous half of _stream: apart, because asyncio takes long to import."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from time import perf_counter

from typhon._weight import enough, weigh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# As in _stream.
_SECONDS = 0.002


class AsyncStream:
    """What _stream.Stream is for an iterator, for an asynchronous one."""

    def __init__(self, iterator: AsyncIterator[Any], owned: bool) -> None:
        self._iterator = iterator
        self._owned = owned
        self._error: BaseException | None = None
        # As in _stream.
        self._held: list[Any] = []
        self._enough = enough()
        self._open = True
        # close() may come while a next() that was given up is still on its way out.
        self._lock = asyncio.Lock()

    async def next(self, count: int) -> tuple[list[Any], bool]:
        async with self._lock:
            return await self._next(count)

    async def _next(self, count: int) -> tuple[list[Any], bool]:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        batch, self._held = self._held, []
        weight = sum(map(weigh, batch))
        until = perf_counter() + _SECONDS
        try:
            while self._open and len(batch) < count and weight < self._enough and (not batch or perf_counter() <= until):
                batch.append(await anext(self._iterator))
                weight += weigh(batch[-1])
            if weight >= self._enough and len(batch) > 1:
                self._held = [batch.pop()]
        except StopAsyncIteration:
            return batch, True
        except BaseException as error:
            from typhon import _aio

            if not batch or _aio.is_given_up(error):
                raise
            self._error = error
        return batch, not self._open

    async def close(self) -> None:
        self._open = False
        async with self._lock:
            if self._owned and inspect.isasyncgen(self._iterator):
                await self._iterator.aclose()

    def __del__(self) -> None:
        # The BEAM's handle has gone without a close(): its process died.
        if self._open and self._owned and inspect.isasyncgen(self._iterator):
            from typhon import _aio

            _aio.run_soon(self._iterator.aclose())
