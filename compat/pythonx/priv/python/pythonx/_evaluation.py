"""One evaluation: its module `__main__`, and where it prints. Which one the running code belongs to.

Several run at the same time, on threads of one interpreter, and there is one `sys.modules["__main__"]` and one `sys.stdout`.
So both are stand-ins, which ask here. A thread that code starts belongs to the evaluation of that code, also when that is over.
"""

from __future__ import annotations

import builtins
import functools
import io
import sys
import threading
import warnings
from contextvars import ContextVar
from types import ModuleType

import typhon
from pythonx import _FROM_PYTHON
from typhon._native import forked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

# A line without an end goes out in pieces of so many characters.
_LONGEST = 65_536
_ATTRIBUTE = "_pythonx_evaluation"


class Evaluation:
    def __init__(self, stdout: typhon.Pid, stderr: typhon.Pid) -> None:
        self.module = ModuleType("__main__")
        self.names = self.module.__dict__
        self.names["__builtins__"] = builtins
        self.own = frozenset(self.names)
        self.devices = {"stdout": stdout, "stderr": stderr}
        # What has no line feed yet. None when the evaluation is over: what its threads print goes out as it comes.
        self.lines: dict[str, str] | None = {"stdout": "", "stderr": ""}

    def write(self, name: str, text: str) -> None:
        lines = self.lines
        if lines is not None:
            whole = lines[name] + text
            end = len(whole) if len(whole) > _LONGEST else whole.rfind("\n") + 1
            text, lines[name] = whole[:end], whole[end:]
        self._send(name, text)

    def flush(self, name: str) -> None:
        if self.lines is not None:
            text, self.lines[name] = self.lines[name], ""
            self._send(name, text)

    def finish(self) -> None:
        self.flush("stdout")
        self.flush("stderr")
        self.lines = None

    def _send(self, name: str, text: str) -> None:
        if text:
            if not text.isascii():
                text = text.encode("utf-8", "backslashreplace").decode("utf-8")
            typhon.call(_FROM_PYTHON, "write", [self.devices[name], text])


CURRENT: ContextVar[Evaluation | None] = ContextVar("pythonx.evaluation", default=None)


def current() -> Evaluation | None:
    evaluation = CURRENT.get()
    if evaluation is None:
        evaluation = getattr(threading.current_thread(), _ATTRIBUTE, None)
    return evaluation


class Main(ModuleType):
    """`sys.modules["__main__"]`: to code of an evaluation its own module, to other code the one that was there before."""

    def __init__(self, before: ModuleType) -> None:
        super().__init__("__main__")
        object.__setattr__(self, "_before", before)

    def __getattribute__(self, name: str) -> Any:
        return getattr(_main(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_main(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_main(self), name)

    def __dir__(self) -> list[str]:
        return dir(_main(self))


def _printing() -> Evaluation | None:
    """A child that code has forked may not talk in its parent's name: what it prints is that of a child process."""
    return None if forked() else current()


def _main(stand_in: Main) -> ModuleType:
    evaluation = current()
    before: ModuleType = object.__getattribute__(stand_in, "_before")
    return before if evaluation is None else evaluation.module


class Output(io.TextIOBase):
    """sys.stdout or sys.stderr: the device of the evaluation, or what was there before."""

    def __init__(self, name: str, before: TextIO) -> None:
        self._name = name
        self._before = before

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        evaluation = _printing()
        if evaluation is None:
            return self._before.write(text)
        evaluation.write(self._name, text)
        return len(text)

    def flush(self) -> None:
        evaluation = _printing()
        if evaluation is None:
            self._before.flush()
        else:
            evaluation.flush(self._name)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._before.fileno()

    def close(self) -> None:
        """Does nothing: other code still prints."""

    @property
    def buffer(self) -> Any:
        return self._before.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"


class Input(io.TextIOBase):
    """sys.stdin: there is none."""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> str:
        raise _no_input()

    def readline(self, size: int | None = -1) -> str:  # type: ignore[override]
        raise _no_input()


def _no_input() -> RuntimeError:
    return RuntimeError("stdin not supported: pass what the code needs as globals")


def _inheriting(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """threading.Thread.start: a new thread belongs to the evaluation whose code starts it."""

    @functools.wraps(start)
    def start_in_evaluation(thread: threading.Thread) -> None:
        evaluation = current()
        if evaluation is not None:
            setattr(thread, _ATTRIBUTE, evaluation)
        start(thread)

    return start_in_evaluation


def _printed(show: Callable[..., None]) -> Callable[..., None]:
    """warnings.showwarning: a notebook has them where its code prints, and not in a log."""

    @functools.wraps(show)
    def show_printed(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is None and _printing() is not None:
            sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
        else:
            show(message, category, filename, lineno, file, line)

    return show_printed


def install() -> None:
    """Called in each new worker, before it takes calls."""
    sys.modules["__main__"] = Main(sys.modules["__main__"])
    sys.stdout = Output("stdout", sys.stdout)
    sys.stderr = Output("stderr", sys.stderr)
    sys.stdin = Input()
    # An interpreter inside the BEAM may have served such a worker before.
    threading.Thread.start = _inheriting(_bare(threading.Thread.start))  # type: ignore[method-assign, assignment]
    warnings.showwarning = _printed(_bare(warnings.showwarning))


def _bare(function: Callable[..., None]) -> Callable[..., None]:
    bare: Callable[..., None] = getattr(function, "__wrapped__", function)
    return bare
