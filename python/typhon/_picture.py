"""What an object shows of itself to whoever holds its handle in Elixir. Imported for the first one that has a repr of its own."""

from __future__ import annotations

from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

# Characters.
_LONGEST = 200
# Of a container, whose elements may be a billion, and containers themselves.
_MOST = 32
_DEEPEST = 6


def picture(target: Any) -> bytes:
    """Its repr in UTF-8, cut to 200 characters. What that raises is raised."""
    text = str(_show(target, _DEEPEST))
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return text.encode("utf-8", "backslashreplace")


def _show(target: Any, depth: int) -> str:
    # Whatever its metaclass says of itself.
    show = _OF.get(type.__getattribute__(type(target), "__repr__"))
    return repr(target) if show is None else show(target, depth)


def _all(begin: str, parts: Iterable[str], size: int, end: str, depth: int) -> str:
    if depth == 0 and size > 0:
        return f"{begin}…{end}"
    return f"{begin}{', '.join(islice(parts, _MOST))}{', …' if size > _MOST else ''}{end}"


def _list(target: list[Any], depth: int) -> str:
    return _all("[", (_show(each, depth - 1) for each in list.__iter__(target)), list.__len__(target), "]", depth)


def _tuple(target: tuple[Any, ...], depth: int) -> str:
    size = tuple.__len__(target)
    return _all("(", (_show(each, depth - 1) for each in tuple.__iter__(target)), size, ",)" if size == 1 else ")", depth)


def _dict(target: dict[Any, Any], depth: int) -> str:
    pairs = (f"{_show(key, depth - 1)}: {_show(value, depth - 1)}" for key, value in dict.items(target))
    return _all("{", pairs, dict.__len__(target), "}", depth)


def _set(target: set[Any] | frozenset[Any], depth: int) -> str:
    name = "" if type(target) is set and target else type(target).__name__
    if not target:
        return f"{name}()"
    begin, end = (f"{name}({{", "})") if name else ("{", "}")
    return _all(begin, (_show(each, depth - 1) for each in target), len(target), end, depth)


def _text(target: Any, _depth: int) -> str:
    return repr(target[:_LONGEST])


# By the functions that are theirs, which classes of the user's may inherit.
_OF: dict[Any, Callable[[Any, int], str]] = {
    list.__repr__: _list,
    tuple.__repr__: _tuple,
    dict.__repr__: _dict,
    set.__repr__: _set,
    frozenset.__repr__: _set,
    str.__repr__: _text,
    bytes.__repr__: _text,
    bytearray.__repr__: _text,
}
