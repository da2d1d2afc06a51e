"""The builtins that look into the namespace of their caller, for calls of the BEAM's. Imported when the first one comes.

Such a call has no caller in Python: `exec` would see and change the namespace of a module of Typhon's, as if it were the user's. So each
one has a namespace of its own, which is like that of `__main__` when a program begins.
"""

import builtins
from collections.abc import Callable
from typing import Any


def _new() -> dict[str, Any]:
    return {
        "__name__": "__main__",
        "__doc__": None,
        "__package__": None,
        "__loader__": None,
        "__spec__": None,
        "__annotations__": {},
        "__builtins__": builtins,
    }


def _running(function: Callable[..., Any]) -> Callable[..., Any]:
    """exec or eval. From Python 3.13 on the namespaces may be keyword arguments."""

    def run(source: Any, /, *args: Any, **options: Any) -> Any:
        if (not args or args[0] is None) and options.get("globals") is None:
            options.pop("globals", None)
            args = (_new(), *args[1:])
        return function(source, *args, **options)

    return run


def _looking(function: Callable[..., Any]) -> Callable[..., Any]:
    """globals, locals, vars or dir. Without an argument it is about the caller."""

    def look(*args: Any) -> Any:
        return function(*args) if args else eval(f"{function.__name__}()", _new())

    return look


_instead: dict[Any, Callable[..., Any]] = {
    **{function: _running(function) for function in (exec, eval)},
    **{function: _looking(function) for function in (globals, locals, vars, dir)},
}


def instead(function: Any) -> Any:
    """What is called in place of `function`: that itself, unless it looks into its caller's namespace."""
    try:
        return _instead.get(function, function)
    except TypeError:  # not hashable
        return function
