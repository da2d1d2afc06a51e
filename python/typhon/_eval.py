"""What `Typhon.eval` runs. Imported when the first code comes; what compiles it when there is some to compile (_compile)."""

from __future__ import annotations

import builtins
from collections import OrderedDict
from types import CoroutineType

from typhon._figures import closing
from typhon._native import Kept
from typhon._threads import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typhon._compile import Program

# So many programs are kept compiled, and so many characters of source in all.
_MOST_PROGRAMS = 512
_MOST_SOURCE = 16 * 1024 * 1024

# What code finds that has no scope, as a program does when it begins.
_NEW: dict[str, Any] = {
    "__name__": "__main__",
    "__doc__": None,
    "__package__": None,
    "__loader__": None,
    "__spec__": None,
    "__builtins__": builtins,
}

# The least recently used one first. Code that says neither file nor line is its own key.
_programs: OrderedDict[Any, Program] = OrderedDict()
_source = 0
_lock = allocate_lock()


def evaluate(code: str, bindings: dict[str, Any] | None = None, file: str | None = None, line: int = 1, keep: bool = False) -> Any:
    """Run code in a namespace of its own. Its value, or a coroutine of it; with `keep` in a typhon._native.Kept."""
    program = program_of(code, file, line)
    names = _NEW.copy()
    if bindings:
        names.update(bindings)
    if program.awaits:
        return run_later(program, names, keep)
    value = run(program, names)
    if keep:
        return Kept(value)
    return awaited(value) if type(value) is CoroutineType else value


def assigning(code: str, bindings: dict[str, Any], file: str | None, line: int, wanted: list[str]) -> Any:
    """As evaluate: the value, and a dict of what the code has left under these names."""
    program = program_of(code, file, line)
    names = {**_NEW, **bindings}
    value = run_later(program, names, False) if program.awaits else run(program, names)
    return _left_later(value, names, wanted) if type(value) is CoroutineType else (value, _left(names, wanted))


async def _left_later(value: Any, names: dict[str, Any], wanted: list[str]) -> Any:
    return await value, _left(names, wanted)


def _left(names: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    names = names.copy()  # a thread of the code's may delete some
    return {name: names[name] for name in wanted if name in names}


def program_of(code: str, file: str | None, line: int) -> Program:
    """Code, compiled."""
    key = code if file is None and line == 1 else (code, file, line)
    program = _programs.get(key)
    if program is None:
        return _add(key, code, file, line)
    try:
        _programs.move_to_end(key)
    except KeyError:
        pass  # another thread has just taken it out
    return program


def _add(key: object, code: str, file: str | None, line: int) -> Program:
    global _source
    from typhon._compile import compile_program

    program = compile_program(code, file, line)
    with _lock:
        before = _programs.pop(key, None)
        _source += program.size - (0 if before is None else before.size)
        _programs[key] = program
        while len(_programs) > 1 and (len(_programs) > _MOST_PROGRAMS or _source > _MOST_SOURCE):
            _, oldest = _programs.popitem(last=False)
            _source -= oldest.size
    return program


def run(program: Program, names: dict[str, Any]) -> Any:
    """Run a program that awaits nothing. The figures that it makes are closed."""
    with closing:
        return execute(program, names)


def execute(program: Program, names: dict[str, Any]) -> Any:
    """As run, and the figures stay open."""
    # The usual one is an expression.
    if program.only is not None:
        return eval(program.only, names)
    value = None
    for code, may_return in program.steps:
        value = eval(code, names)
        if may_return and value is not None:
            return value[0]
    return value


async def run_later(program: Program, names: dict[str, Any], keep: bool) -> Any:
    """Run one that does."""
    with closing:
        return await execute_later(program, names, keep)


async def execute_later(program: Program, names: dict[str, Any], keep: bool) -> Any:
    value = None
    for code, may_return in program.steps:
        value = eval(code, names)
        if program.awaits_in(code):
            value = await value
        if may_return and value is not None:
            value = value[0]
            break
    return await finished(value, keep)


async def finished(value: Any, keep: bool) -> Any:
    """A coroutine that is the value of code is awaited, as what a call returns is."""
    if keep:
        return Kept(value)
    return await value if type(value) is CoroutineType else value


async def awaited(value: Any) -> Any:
    with closing:
        return await value
