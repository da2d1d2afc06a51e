"""time.sleep() for threads that no signal interrupts: those beside the main one, and all of a sub-interpreter.

CPython goes on sleeping there whatever is raised in the thread. So a call that sleeps would outlive its deadline.
"""

from __future__ import annotations

import time

from typhon import _native

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs a worker's start several milliseconds
    from typing import Any


def install() -> None:
    """Replace time.sleep(), once for each interpreter. Other threads than those that serve calls have the old one."""
    original = time.sleep
    if getattr(original, "_typhon", False):
        return

    def sleep(seconds: Any, /) -> None:
        if not isinstance(seconds, (int, float)) or not _native.nap(seconds):
            original(seconds)

    sleep.__doc__ = original.__doc__
    sleep._typhon = True  # type: ignore[attr-defined]
    time.sleep = sleep
