"""Figures of matplotlib's that code of `Typhon.eval` and programs make.

pyplot holds each figure until it is closed, so a worker's memory would fill with them. Those that were made while such code ran
are closed when none runs there any more: pyplot forgets them. A figure that somebody else holds, a scope or the BEAM,
can be drawn as before.
"""

from __future__ import annotations

import sys

from typhon._native import Section
from typhon._threads import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Where pyplot has its figures. Nobody has any before it is imported.
_PYPLOT = "matplotlib._pylab_helpers"

_lock = allocate_lock()
_running = 0
_before: dict[int, Any] = {}


def _begin() -> None:
    global _running, _before
    with _lock:
        if _running == 0:
            _before = _open()
        _running += 1


def _end() -> None:
    global _running, _before
    with _lock:
        _running -= 1
        if _running > 0 or _PYPLOT not in sys.modules:
            return
        made = [manager for key, manager in _open().items() if key not in _before]
        _before = {}
    for manager in made:
        try:
            sys.modules[_PYPLOT].Gcf.destroy(manager)
        except Exception:
            pass  # a backend's own


def _open() -> dict[int, Any]:
    """By what it is, as numbers are given again. Of a module that is being imported nothing."""
    gcf = getattr(sys.modules.get(_PYPLOT), "Gcf", None)
    return {} if gcf is None else {id(manager): manager for manager in list(gcf.figs.values())}


# Code runs in it.
closing = Section(_begin, _end)
