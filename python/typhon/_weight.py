"""How much an element of a stream weighs, roughly: each is asked. For _stream and _async_stream."""

from __future__ import annotations

from itertools import islice

from typhon._native import max_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

# What weighs nothing to speak of, and what has its length for a weight.
LIGHT = frozenset((int, float, bool, complex, type(None)))
SIZED = frozenset((bytes, bytearray, str))

_ENOUGH = 1_048_576
# An element of a container, by itself.
_EACH = 16
# Of a container so many elements are looked at, and as many of each container in it.
_LOOKS = 32
_DEPTH = 2


def enough() -> int:
    """What a batch weighs less than, if it has more than one element: only what travels alone may need all of `max_result:`."""
    return min(_ENOUGH, max_result() // 2)


def weigh(element: Any) -> int:
    """Bytes, about. What cannot be asked weighs nothing."""
    try:
        return _weigh(element, _DEPTH)
    except Exception:
        return 0


def _weigh(element: Any, depth: int) -> int:
    kind = type(element)
    if kind in SIZED:
        return len(element)
    if isinstance(element, dict):
        # Its keys are seldom large.
        return _all(element.values(), depth)
    if isinstance(element, (list, tuple, set, frozenset)):
        return _all(element, depth)
    if kind in LIGHT:
        return 0
    if isinstance(element, (bytes, bytearray, str)):
        return len(element)
    if hasattr(kind, "__dataclass_fields__"):
        return _weigh(getattr(element, "__dict__", None), depth)
    return _of_buffer(element, kind)


def _all(elements: Collection[Any], depth: int) -> int:
    count = len(elements)
    weight = count * _EACH
    if depth == 0 or count == 0:
        return weight
    if count <= _LOOKS:
        return weight + _sum(elements, depth - 1)
    some = elements[:: count // _LOOKS] if isinstance(elements, (list, tuple)) else list(islice(elements, _LOOKS))
    return weight + _sum(some, depth - 1) * count // len(some)


def _sum(elements: Collection[Any], depth: int) -> int:
    weight = 0
    for element in elements:
        kind = type(element)
        if kind in SIZED:
            weight += len(element)
        elif kind not in LIGHT:
            weight += _weigh(element, depth)
    return weight


def _of_buffer(element: Any, kind: type) -> int:
    # Not every array is a buffer: they lie on a GPU, or their numbers are none of C's.
    if hasattr(kind, "nbytes"):
        return int(element.nbytes)
    try:
        return memoryview(element).nbytes
    except TypeError:
        return 0
