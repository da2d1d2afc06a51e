"""Threads and locks that are what their names say, also when a library has put others into their places.

gevent and eventlet (`monkey.patch_all()`, `monkey_patch()`) make greenlets of what `threading` starts: they run when somebody in the same
thread waits by that library's own means. Who serves calls, and the thread of the event loop, wait in C. Locks of theirs are for the
greenlets of one thread.
"""

from __future__ import annotations

import _imp
import _thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_BUILTIN = type(len)
# So often, in seconds, become() looks.
_STEP = 0.005


def _true(name: str) -> Any:
    """A function of the module _thread, as Python made it."""
    function = getattr(_thread, name)
    if type(function) is _BUILTIN:
        return function
    # The module a second time: what was put in is in the first one.
    module = _imp.create_builtin(_thread.__spec__)
    _imp.exec_builtin(module)
    return getattr(module, name)


allocate_lock: Callable[[], Any] = _true("allocate_lock")
get_ident: Callable[[], int] = _true("get_ident")


def are_patched() -> bool:
    """Whether what `threading` starts is no thread."""
    import threading

    # Which of them there is depends on Python's version.
    starts = getattr(threading, "_start_joinable_thread", None) or getattr(threading, "_start_new_thread", None)
    return type(starts) is not _BUILTIN


def start(function: Callable[..., object], args: tuple[Any, ...], name: str) -> None:
    """Run `function` in a thread."""
    import threading

    if not are_patched():
        # By threading where that can be: a process that is forked in a thread which it does not know cannot end in order.
        class Thread(threading.Thread):
            def _delete(self) -> None:
                try:
                    super()._delete()  # type: ignore[misc]
                except KeyError:
                    # What was patched meanwhile looks for it under another name.
                    getattr(threading, "_active", {}).pop(self.ident, None)

        Thread(target=function, args=args, name=name, daemon=True).start()
    else:
        _true("start_new_thread")(_run, (function, args))


def become(true: Callable[[], bool], seconds: float) -> bool:
    """Wait until that is so, for some seconds at most. Other threads run meanwhile, and none of this thread's greenlets."""
    wait = allocate_lock()
    wait.acquire()
    while not true():
        if seconds <= 0:
            return False
        wait.acquire(timeout=_STEP)
        seconds -= _STEP
    return True


def _run(function: Callable[..., object], args: tuple[Any, ...]) -> None:
    import threading

    try:
        function(*args)
    finally:
        # Whoever has asked for the current thread has left one there which would never end.
        getattr(threading, "_active", {}).pop(threading.get_ident(), None)
