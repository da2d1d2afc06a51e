"""Code that stands beside a call, compiled (_source). Imported when the first code comes that has not been compiled yet."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections import deque
from types import CodeType

from typhon._native import then
from typhon._source import Source
from typhon._threads import allocate_lock

# A word of memory for each line before the code.
_EACH_LINE = 8
# The compiler needs some four hundred times as much memory, and a second for each third of it.
_MOST_CODE = 1024 * 1024

# The lines of each file that tracebacks quote, and how many programs have some there.
_files: dict[str, tuple[list[str], int]] = {}
# Files of programs that are gone: they may go anywhere, also while somebody has the lock.
_gone: deque[str] = deque()
_lock = allocate_lock()


class Program:
    """What code has become. Tracebacks quote its lines for as long as it is there."""

    def __init__(
        self,
        steps: list[tuple[CodeType, bool]],
        file: str,
        line: int,
        lines: list[str],
        size: int,
        has_classes: bool,
        has_value: bool,
    ) -> None:
        self.steps = steps
        self.has_classes = has_classes
        # Whether the last step is an expression, whose value may be None, too.
        self.has_value = has_value
        self.file = file
        self.line = line
        self.lines = lines
        self.size = size
        self.awaits = any(map(self.awaits_in, (code for code, _ in steps)))
        # Whether it has functions or classes, whose code is there after its end.
        self.runs_later = any(isinstance(constant, CodeType) for code, _ in steps for constant in code.co_consts)
        self.only = steps[0][0] if len(steps) == 1 and not steps[0][1] else None
        _publish(file, line, lines)

    @staticmethod
    def awaits_in(code: CodeType) -> bool:
        return code.co_flags & inspect.CO_COROUTINE != 0

    def __del__(self) -> None:
        _gone.append(self.file)


def _publish(file: str, line: int, lines: list[str]) -> None:
    with _lock:
        known, count = _files.get(file, ([], 0))
        known.extend(["\n"] * (line - 1 + len(lines) - len(known)))
        known[line - 1 : line - 1 + len(lines)] = lines
        _files[file] = known, count + 1
        linecache.cache[file] = (len(known), None, known, file)
        while _gone:
            _withdraw(_gone.popleft())


def _withdraw(file: str) -> None:
    known, count = _files[file]
    if count > 1:
        _files[file] = known, count - 1
        return
    del _files[file]
    entry = linecache.cache.get(file)
    # Somebody may have cleared it, and read the file itself.
    if entry is not None and len(entry) == 4 and entry[2] is known:
        del linecache.cache[file]


def compile_program(code: str, file: str | None, line: int) -> Program:
    if len(code) > _MOST_CODE:
        raise ValueError(
            f"the code has {len(code)} characters, and eval takes {_MOST_CODE} at most: data belong into the bindings, and a program "
            "of this size into a file (Typhon.exec_file) or a module (python_path: of the pool)"
        )
    source = Source(code, file, line)
    has_classes = any(isinstance(node, ast.ClassDef) for node in ast.walk(source.tree))
    has_value = bool(source.tree.body) and isinstance(source.tree.body[-1], ast.Expr)
    size = len(code) + _EACH_LINE * line
    # Without an interrupt: what is published is counted.
    return then(source.steps, (), lambda steps: Program(steps, source.file, line, source.lines, size, has_classes, has_value))
