"""What `Typhon.chain` runs: several steps from one object to the next. Imported when the first one comes.

A chain comes as its shape, a str, and what its steps take. The shape is compiled, once: then a chain costs what it would in a
program. It is "<steps before it> <steps in all>" and the steps, each after a NUL: a letter, a name where it has one, and what it
takes of the arguments.

    gname   an attribute
    i       an element: its key
    0 … 9   a call with so many arguments, with a name behind it one of a method: each argument
    *       the same with any number: a list
    &       the same with keyword arguments: a list and a dict
"""

from __future__ import annotations

from keyword import iskeyword
from types import CoroutineType

from typhon._namespace import instead
from typhon._native import Atom, Cancelled
from typhon._objects import get

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# By _errors, too.
FILE = "<typhon chain>"
# How many shapes are kept.
_KEPT = 256
_NOTE = "In a chain: step "
# Characters of a key in an error.
_SHOWN = 60
# Methods of these names may be builtins that look at their caller.
_LOOKING = ("exec", "eval", "globals", "locals", "vars", "dir")

_kept: dict[str, Callable[[Any, list[Any]], Any]] = {}


def chain(target: Any, shape: str, args: list[Any]) -> Any:
    run = _kept.get(shape) or _keep(shape)
    try:
        return run(target, args)
    except Cancelled:
        raise
    except BaseException as error:
        _note(error, shape, args, _step_of(error))
        raise


def _keep(shape: str) -> Callable[[Any, list[Any]], Any]:
    run = _compiled(shape)
    if len(_kept) >= _KEPT:
        _kept.clear()
    _kept[shape] = run
    return run


def _compiled(shape: str) -> Callable[[Any, list[Any]], Any]:
    """A function of two lines for each step, after the first line: so a traceback says which one failed."""
    lines = ["def run(x, a):"]
    at = 0
    for index, step in enumerate(_steps(shape)):
        kind, name = step[0], step[1:]
        found = _attribute(name) if name else "x"
        # Python awaits nothing by itself.
        after = f"  if type(x) is C: return L(x, S, a, {index})"
        if kind == "g":
            after = ""
        elif kind == "i":
            found, after = f"x[a[{at}]]", ""
        else:
            if name in _LOOKING:
                found = f"I({found})"
            elif not name:
                found = "(x if type(x) is not B else I(x))"
            found = f"{found}({_given(kind, at)})"
        at += _takes(kind)
        lines += [f"  x = {found}", after]
    # Functions that look at the module of their caller see that of a program.
    names = {"__name__": "__main__", "B": type(len), "C": CoroutineType, "G": get, "I": instead, "L": _later, "S": shape}
    exec(compile("\n".join([*lines, "  return x"]), FILE, "exec"), names)
    run: Callable[[Any, list[Any]], Any] = names["run"]  # type: ignore[assignment]
    return run


def _given(kind: str, at: int) -> str:
    if kind == "*":
        return f"*a[{at}]"
    if kind == "&":
        return f"*a[{at}], **a[{at + 1}]"
    return ", ".join(f"a[{index}]" for index in range(at, at + int(kind)))


def _takes(kind: str) -> int:
    """How much a step takes of the arguments."""
    return int(kind) if kind.isdigit() else {"g": 0, "i": 1, "*": 1, "&": 2}[kind]


def _attribute(path: str) -> str:
    """As a source has it, where it can: other names are looked for as the BEAM has them."""
    if path.isascii() and all(name.isidentifier() and not iskeyword(name) for name in path.split(".")):
        return f"x.{path}"
    return f"G(x, {path!r})"


async def _later(found: Any, shape: str, args: list[Any], index: int) -> Any:
    """The rest of a chain, after the step `index` that has come to a coroutine."""
    try:
        found = await found
    except Exception as error:
        _note(error, shape, args, index)
        raise
    before, count = _numbers(shape)
    steps = _steps(shape)
    taken = sum(_takes(step[0]) for step in steps[: index + 1])
    rest = "\0".join([f"{before + index + 1} {count}", *steps[index + 1 :]])
    found = chain(found, rest, args[taken:])
    return await found if type(found) is CoroutineType else found


def _steps(shape: str) -> list[str]:
    return shape.split("\0")[1:]


def _numbers(shape: str) -> tuple[int, int]:
    before, count = shape.split("\0", 1)[0].split()
    return int(before), int(count)


def _step_of(error: BaseException) -> int:
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename != FILE:
        tb = tb.tb_next
    return 0 if tb is None else tb.tb_lineno // 2 - 1


def _note(error: BaseException, shape: str, args: list[Any], index: int) -> None:
    """Says which step it was; once, also of an exception that is raised again and again."""
    try:
        before, count = _numbers(shape)
        steps = _steps(shape)
        notes = [note for note in getattr(error, "__notes__", []) if not note.startswith(_NOTE)]
        taken = args[sum(_takes(step[0]) for step in steps[:index]) :]
        error.__notes__ = [*notes, f"{_NOTE}{before + index + 1} of {count}, {_shown(steps[index], taken)}"]
    except Exception:
        pass


def _shown(step: str, taken: list[Any]) -> str:
    kind, name = step[0], step[1:]
    if kind == "i":
        return f"item: {_key(taken[0])}"
    if kind == "g" or name:
        return f"{'get' if kind == 'g' else 'call'}: {_key(name)}"
    count = int(kind) if kind.isdigit() else len(taken[0])
    return f"call: with {count} argument{'' if count == 1 else 's'}"


def _key(key: object) -> str:
    if type(key) is str:
        return f"{key[:_SHOWN]!r}{' …' if len(key) > _SHOWN else ''}"
    if key is None or type(key) in (bool, float, Atom) or (type(key) is int and key.bit_length() < 64):
        return repr(key)
    return f"a key of the type {type(key).__name__}"
