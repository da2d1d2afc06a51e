"""What `Typhon.get`, `Typhon.item` and the other functions on objects run. Imported when the first one comes.

The worker finds them in OPERATIONS, by their names in Elixir (lib/typhon/object.ex), and calls them with the object and what
else there is. Their frames are left out of what is raised (`_errors`).
"""

from __future__ import annotations

import operator

from typhon._bulk import look_up
from typhon._native import then

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def get(target: Any, path: str) -> Any:
    """An attribute; with dots attributes of attributes. Of one whose name is plain the BEAM asks getattr itself."""
    found = target
    try:
        for name in path.split("."):
            found = getattr(found, name)
        return found
    except AttributeError:
        if path.isascii():
            raise
        from typhon import _names

        if (normal := _names.find(_Held(target), f"target.{path}")) is None:
            raise
        return normal[0]


class _Held:
    """Leads to an object that may be a str, which would be taken for the name of a module."""

    def __init__(self, target: Any) -> None:
        self.target = target


def get_of_module(module: str, path: str) -> Any:
    return look_up(module, path)


def put(target: Any, path: str, value: Any) -> None:
    owner, name = _owner(target, path)
    setattr(owner, name, value)


def delete(target: Any, path: str) -> None:
    owner, name = _owner(target, path)
    delattr(owner, name)


def _owner(target: Any, path: str) -> tuple[Any, str]:
    owner, dot, name = path.rpartition(".")
    return (get(target, owner) if dot else target), name


def doc(target: Any) -> str | None:
    from inspect import getdoc

    return getdoc(target)


def to_term(target: Any) -> Any:
    return target


class Entered:
    """A context manager that has been entered. The BEAM holds it until the end of the function that it runs in between."""

    _open = False

    def __init__(self, manager: Any, leave: Callable[..., Any]) -> None:
        self._manager = manager
        self._leave = leave
        self._open = True

    def exit(self, failure: _Failure | None) -> bool:
        """Whether what failed in Elixir is to be ignored."""
        return bool(self._close(failure))

    def _close(self, failure: _Failure | None) -> Any:
        self._open = False
        error = None if failure is None else _beam().failure(*failure)
        return self._leave(self._manager, None if error is None else type(error), error, None)

    def __del__(self) -> None:
        # The BEAM's handle has gone without an exit(): its process died.
        if self._open:
            self._close(_GONE)


class AsyncEntered(Entered):
    async def exit(self, failure: _Failure | None) -> bool:  # type: ignore[override]
        return bool(await self._close(failure))

    def __del__(self) -> None:
        if self._open:
            from typhon import _aio

            _aio.run_soon(self.exit(_GONE))


# The arguments of _beam.failure().
_Failure = tuple[str, str, str, str, str]
_GONE: _Failure = ("exit", "", "the process that had entered it has ended", "the process that had entered it has ended", "")


def _beam() -> Any:
    from typhon import _beam

    return _beam


def enter(target: Any) -> Any:
    """What has to be left, and what `with` would bind; a coroutine of the two where Python has `async with`."""
    kind = type(target)
    if hasattr(kind, "__enter__") and hasattr(kind, "__exit__"):
        leave = kind.__exit__
        return then(kind.__enter__, (target,), lambda value: (Entered(target, leave), value))
    if hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__"):
        return _enter_later(target, kind)
    raise TypeError(f"{kind.__name__} is no context manager: it has neither __enter__ and __exit__ nor __aenter__ and __aexit__")


async def _enter_later(target: Any, kind: Any) -> tuple[AsyncEntered, Any]:
    leave = kind.__aexit__
    value = await kind.__aenter__(target)
    return AsyncEntered(target, leave), value


def _chain(target: Any, shape: str, args: list[Any]) -> Any:
    from typhon._chain import chain

    OPERATIONS[".chain"] = chain
    return chain(target, shape, args)


def _render(target: Any) -> Any:
    from typhon._render import render

    OPERATIONS[".render"] = render
    return render(target)


def _save(target: Any, mime: str) -> Any:
    from typhon._render import save

    OPERATIONS[".save"] = save
    return save(target, mime)


def _shape(target: Any) -> Any:
    from typhon._frames import shape

    OPERATIONS[".shape"] = shape
    return shape(target)


def _rows(target: Any, start: int, count: int) -> Any:
    from typhon._frames import rows

    OPERATIONS[".rows"] = rows
    return rows(target, start, count)


OPERATIONS: dict[str, Callable[..., Any]] = {
    ".get": getattr,
    ".get_path": get,
    ".set": put,
    ".delete": delete,
    ".item": operator.getitem,
    ".put_item": operator.setitem,
    ".len": len,
    # The worker sees to builtins that look at their caller.
    ".call": operator.call,
    ".repr": repr,
    ".dir": dir,
    ".doc": doc,
    ".same": operator.is_,
    ".to_term": to_term,
    ".chain": _chain,
    ".enter": enter,
    ".render": _render,
    ".save": _save,
    ".shape": _shape,
    ".rows": _rows,
}
