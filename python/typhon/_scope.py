"""What `Typhon.scope` makes: a namespace that stays, for code of `Typhon.eval`. Imported when the first one is made."""

from __future__ import annotations

import builtins
import linecache
import sys
from itertools import count
from types import CoroutineType, ModuleType
from weakref import WeakSet

from typhon import _eval
from typhon._native import Kept
from typhon._turns import Turn, Turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from typhon._compile import Program

# Of its source a scope keeps so many characters.
_MOST_SOURCE = 4 * 1024 * 1024
# What a module has by itself.
_OWN = frozenset(ModuleType("").__dict__) | {"__file__", "__builtins__", "__annotations__"}
_numbers = count(1)


class Scope:
    """Held by the BEAM. Its module is in `sys.modules` for as long."""

    __module__ = "typhon"

    def __init__(self, names: dict[str, Any]) -> None:
        number = next(_numbers)
        self._turns = Turns()
        self._name = f"typhon_scope_{number}"
        self._file = f"<scope {number}>"
        self._module = ModuleType(self._name)
        self._module.__file__ = self._file
        self._names = self._module.__dict__
        self._names["__builtins__"] = builtins
        self._names.update(names)
        # What has run here, one after the other: where the source of a class is looked for, which knows its module alone.
        self._lines: list[str] = []
        self._size = 0
        self._places: dict[Program, int] = {}
        self._placed: WeakSet[type] = WeakSet()
        sys.modules[self._name] = self._module

    def __del__(self) -> None:
        sys.modules.pop(self._name, None)
        linecache.cache.pop(self._file, None)

    # --- what the BEAM calls ---

    def evaluate(self, code: str, bindings: dict[str, Any], file: str | None, line: int, keep: bool) -> Any:
        """As typhon._eval.evaluate, in this namespace. What awaits something has its turn until there is the value."""
        turn = Turn(self._turns)
        try:
            value = self._evaluate(turn, code, bindings, file, line, keep)
        except BaseException:
            turn.leave()
            raise
        if type(value) is not CoroutineType:
            turn.leave()
        return value

    def get(self, name: str, keep: bool) -> Any:
        with Turn(self._turns):
            if name not in self._names:
                raise _not_there(name)
            value = self._names[name]
        # A coroutine would be awaited, and could not be got again.
        return Kept(value) if keep or type(value) is CoroutineType else value

    def put(self, names: dict[str, Any]) -> None:
        with Turn(self._turns):
            self._names.update(names)

    def delete(self, name: str) -> None:
        with Turn(self._turns):
            if name not in self._names:
                raise _not_there(name)
            del self._names[name]

    def names(self) -> list[str]:
        with Turn(self._turns):
            return sorted(self._own())

    def fork(self, names: dict[str, Any]) -> tuple[Scope, str]:
        """A scope with the same objects."""
        with Turn(self._turns):
            return scope({**self._own(), **names})

    # --- running ---

    def _own(self) -> dict[str, Any]:
        return {name: value for name, value in self._names.items() if isinstance(name, str) and name not in _OWN}

    def _evaluate(self, turn: Turn, code: str, bindings: dict[str, Any], file: str | None, line: int, keep: bool) -> Any:
        program = _eval.program_of(code, file, line)
        if program.awaits:
            turn.go_on()
            return self._run_later(turn, program, bindings, keep)
        turn.wait()
        self._begin(program, bindings)
        try:
            value = _eval.run(program, self._names)
        finally:
            self._place_classes(program)
        if keep:
            return Kept(value)
        if type(value) is CoroutineType:
            turn.go_on()
            return _finish(turn, value)
        return value

    async def _run_later(self, turn: Turn, program: Program, bindings: dict[str, Any], keep: bool) -> Any:
        try:
            await turn.wait_in_loop()
            self._begin(program, bindings)
            try:
                return await _eval.run_later(program, self._names, keep)
            finally:
                self._place_classes(program)
        finally:
            turn.leave()

    def _begin(self, program: Program, bindings: dict[str, Any]) -> None:
        self._names.update(bindings)
        if program in self._places:
            return
        if self._size + program.size > _MOST_SOURCE:
            self._size = 0
            self._lines.clear()
            self._places.clear()
        self._size += program.size
        self._places[program] = len(self._lines)
        self._lines.extend(program.lines)
        linecache.cache[self._file] = (len(self._lines), None, self._lines, self._file)

    def _place_classes(self, program: Program) -> None:
        """From Python 3.13 on a class knows the line where it begins, in what it takes for its file: that of the module."""
        if program.has_classes and program in self._places and sys.version_info >= (3, 13):
            self._place(self._names.values(), self._places[program] + 1 - program.line)

    def _place(self, values: Iterable[Any], further: int) -> None:
        for value in list(values):
            if isinstance(value, type) and value.__module__ == self._name and value not in self._placed:
                self._placed.add(value)
                first = vars(value).get("__firstlineno__")
                if isinstance(first, int):
                    type.__setattr__(value, "__firstlineno__", first + further)
                self._place(vars(value).values(), further)


def scope(names: dict[str, Any]) -> tuple[Scope, str]:
    """A new one, and its name."""
    made = Scope(names)
    return made, made._name


async def _finish(turn: Turn, value: Any) -> Any:
    try:
        return await _eval.awaited(value)
    finally:
        turn.leave()


def _not_there(name: str) -> NameError:
    return NameError(f"there is no {name!r} in this scope", name=name)
