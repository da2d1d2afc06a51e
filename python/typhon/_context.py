"""Which call of the BEAM the running code belongs to.

A thread that serves a call belongs to it. A task of the event loop, and what it hands to threads with its context
(asyncio.to_thread), carries the id in a context variable.
"""

from __future__ import annotations

from contextvars import ContextVar

from typhon._native import this_call

# None: the call that this thread serves.
CALL: ContextVar[int | None] = ContextVar("typhon.call", default=None)


def current() -> int:
    """The id of the call that this code runs for; 0 outside of any call, and in a cast."""
    call = CALL.get()
    return this_call() if call is None else call
