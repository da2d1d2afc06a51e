"""Turns: one after another, in the order in which they came, whether they are in a thread or in the event loop.

There is no lock, and no finaliser that an interrupt could hit: what is done with the row is done in one step each. Who waits is
woken, and looks now and then for itself, also whether whoever has the turn is still there.
"""

from __future__ import annotations

from collections import deque
from weakref import ref

from typhon._context import current
from typhon._native import serve_one_for, serves_for
from typhon._threads import allocate_lock, get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# So often, in seconds, a thread that waits looks for itself: also whether its call was given up. The loop may have thousands that wait.
_LOOK = 0.02
_LOOK_IN_LOOP = 1.0


class _Place:
    """In the row of those who wait. The first one has its turn."""

    __slots__ = ("call", "owner", "thread", "wake")

    def __init__(self, turn: Turn) -> None:
        self.owner = ref(turn)
        self.thread: int | None = get_ident()
        self.call = current()
        self.wake: Callable[[], object] | None = None

    def is_under(self, other: _Place) -> bool:
        """Whether the other one runs on top of this, which does not go on before that has ended."""
        return self.thread == other.thread or (self.call != 0 and serves_for(self.call))


class Turns:
    def __init__(self) -> None:
        self._row: deque[_Place] = deque()

    def first(self) -> _Place | None:
        while True:
            try:
                first = self._row[0]
            except IndexError:
                return None
            if first.owner() is not None:
                return first
            self.leave(first)

    def come(self, turn: Turn) -> _Place | None:
        """A place at the end of the row; None: who has the turn waits for this one."""
        place, first = _Place(turn), self.first()
        if first is not None and first.is_under(place):
            return None
        self._row.append(place)
        return place

    def leave(self, place: _Place) -> None:
        try:
            self._row.remove(place)
        except ValueError:
            return
        try:
            wake = self._row[0].wake
        except IndexError:
            return
        if wake is not None:
            wake()


class Turn:
    """Whoever holds this is in the row, until it leaves or is gone."""

    __slots__ = ("__weakref__", "_place", "_turns")

    def __init__(self, turns: Turns) -> None:
        self._place: _Place | None = None
        self._turns = turns
        self._place = turns.come(self)

    def _waits(self) -> bool:
        return self._place is not None and self._turns.first() is not self._place

    def wait(self) -> None:
        """Until it is there, in a thread."""
        if self._place is None or not self._waits():
            return
        gate = allocate_lock()
        gate.acquire()
        self._place.wake = lambda: gate.release() if gate.locked() else None
        while self._waits():
            first = self._turns.first()
            # Calls that whoever has the turn waits for may have come behind this one, and no other thread be there for them.
            if first is None or first.call == 0 or not serve_one_for(first.call):
                gate.acquire(timeout=_LOOK)

    def go_on(self) -> None:
        """The rest is done in the event loop."""
        if self._place is not None:
            self._place.thread = None

    async def wait_in_loop(self) -> None:
        if self._place is None or not self._waits():
            return
        import asyncio

        loop, news = asyncio.get_running_loop(), asyncio.Event()
        self._place.wake = lambda: loop.call_soon_threadsafe(news.set)
        while self._waits():
            try:
                await asyncio.wait_for(news.wait(), _LOOK_IN_LOOP)
            except TimeoutError:
                pass
            news.clear()

    def leave(self) -> None:
        if self._place is not None:
            self._turns.leave(self._place)
            self._place = None

    def __enter__(self) -> Any:
        self.wait()

    def __exit__(self, *_: object) -> None:
        self.leave()
