"""What `Typhon.scope` makes: a namespace that stays, for code of `Typhon.eval`. Imported when the first one is made."""

from __future__ import annotations

import builtins
import linecache
import sys
from functools import partial
from itertools import count
from types import CoroutineType, ModuleType
from weakref import ref

from typhon import _eval
from typhon._native import Kept
from typhon._turns import Turn, Turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typhon._compile import Program

# Of the programs that have run in it a scope keeps so many, and so many characters of source in all.
_MOST_PROGRAMS = 512
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
        # What has run here and has code that may run later, one after the other: where the source of a class is looked for,
        # which knows its module alone.
        self._lines: list[str] = []
        self._size = 0
        self._places: dict[Program, int] = {}
        # By their ids: what a metaclass makes of hash() and == is its own.
        self._placed: dict[int, ref[type]] = {}
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
            try:
                value = self._names[name]
            except KeyError:
                raise _not_there(name) from None
        # A coroutine would be awaited, and could not be got again.
        return Kept(value) if keep or type(value) is CoroutineType else value

    def put(self, names: dict[str, Any]) -> None:
        with Turn(self._turns):
            self._names.update(names)

    def delete(self, name: str) -> None:
        with Turn(self._turns):
            try:
                del self._names[name]
            except KeyError:
                raise _not_there(name) from None

    def names(self) -> list[str]:
        with Turn(self._turns):
            return sorted(self._own())

    def fork(self, names: dict[str, Any]) -> tuple[Scope, str]:
        """A scope with the same objects."""
        with Turn(self._turns):
            return scope({**self._own(), **names})

    # --- running ---

    def _own(self) -> dict[str, Any]:
        # Of a copy, here and below: a thread of the code's may assign meanwhile.
        return {name: value for name, value in self._names.copy().items() if isinstance(name, str) and name not in _OWN}

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
        if program in self._places or not program.runs_later:
            return
        if self._places and (len(self._places) >= _MOST_PROGRAMS or self._size + program.size > _MOST_SOURCE):
            self._forget(program.size)
        self._size += program.size
        self._places[program] = len(self._lines)
        self._lines.extend(program.lines)
        self._publish()

    def _publish(self) -> None:
        linecache.cache[self._file] = (len(self._lines), None, self._lines, self._file)

    def _forget(self, size: int) -> None:
        """The oldest programs go: half of what there may be, as the classes of all others have to be told of it."""
        programs = list(self._places)
        going = 0
        while going < len(programs) and (
            len(programs) - going > _MOST_PROGRAMS // 2 or self._size + size > max(_MOST_SOURCE // 2, size)
        ):
            self._size -= programs[going].size
            going += 1
        first = self._places[programs[going]] if going < len(programs) else len(self._lines)
        self._places = {program: self._places[program] - first for program in programs[going:]}
        self._lines = self._lines[first:]
        for each in list(self._placed.values()):
            if (kind := each()) is not None:
                _move(kind, -first)

    def _place_classes(self, program: Program) -> None:
        """From Python 3.13 on a class knows the line where it begins, in what it takes for its file: that of the module."""
        if program.has_classes and sys.version_info >= (3, 13):
            place = self._places.get(program)
            # It is gone when so much else has run in its callbacks: then no line is right.
            self._place(self._names, -sys.maxsize if place is None else place + 1 - program.line)

    def _place(self, names: Any, further: int) -> None:
        for value in names.copy().values():
            if _is_class(value) and id(value) not in self._placed and self._is_own(value):
                self._placed[id(value)] = ref(value, partial(_take_out, self._placed, id(value)))
                _move(value, further)
                self._place(_vars(value), further)

    def _is_own(self, kind: Any) -> bool:
        module = _vars(kind).get("__module__")
        return type(module) is str and module == self._name


def _take_out(placed: dict[int, ref[type]], key: int, _: object) -> None:
    placed.pop(key, None)


def _is_class(value: Any) -> bool:
    return issubclass(type(value), type)


def _vars(kind: Any) -> Any:
    """Whatever its metaclass says."""
    return type.__dict__["__dict__"].__get__(kind)


def _move(kind: Any, further: int) -> None:
    first = _vars(kind).get("__firstlineno__")
    if type(first) is not int:
        return
    if first + further > 0:
        type.__setattr__(kind, "__firstlineno__", first + further)
    else:
        # Its lines are not kept any more: better none than those of something else.
        type.__delattr__(kind, "__firstlineno__")


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
