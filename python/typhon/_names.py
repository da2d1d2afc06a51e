"""Names beyond ASCII. Imported when one is not found as it was written.

Python's parser puts identifiers into the form NFKC: what a source calls `ﬁt` is named `fit`, `µ` (micro) is `μ` (mu), and a letter with a
combining accent is the accented letter. So what is not there under the name as it stands is looked for as Python would have read it.
"""

from __future__ import annotations

import sys
from unicodedata import normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def find(target: Any, path: str) -> tuple[Any] | None:
    """Attributes, with dots between, of a module (by its name) or an object; None: they are not there by any name."""
    names = [path, target] if isinstance(target, str) else [path]
    if all(_plain(name) == name for name in names):
        return None
    try:
        found = _imported(target) if isinstance(target, str) else target
        for name in path.split("."):
            found = _attribute(found, name)
        return (found,)
    except (AttributeError, ModuleNotFoundError):
        return None


def _plain(name: str) -> str:
    return normalize("NFKC", name)


def _imported(name: str) -> Any:
    try:
        __import__(name)
    except ModuleNotFoundError:
        name = _plain(name)
        __import__(name)
    return sys.modules[name]


def _attribute(found: Any, name: str) -> Any:
    try:
        return getattr(found, name)
    except AttributeError:
        return getattr(found, _plain(name))
