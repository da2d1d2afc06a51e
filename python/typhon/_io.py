"""What Python prints and logs, on its way to the BEAM.

In a call, sys.stdout and sys.stderr go line by line to the caller, which writes them to its own group leader. Outside of any
call they are the file descriptors that the worker's process reads, and so is what C code writes to these.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs a worker's start several milliseconds
    from typing import Any, TextIO

from typhon._context import current
from typhon._native import Atom, ask, captures, forked, need_flush, set_flush, tell

_PRINT = Atom("print")
_LOG = Atom("log")

# A line without an end goes out in pieces of so many characters.
_LONGEST = 65_536
# After so many characters the caller is waited for: it may be slow to write them. A line counts for some more.
_UNREAD = 262_144
_EACH = 256

# Of each call: what it has printed and not ended with a line feed, and how much it sent since the caller was waited for.
_lines: "dict[int, list[str]]" = {}
_sent: "dict[int, int]" = {}


class Output(io.TextIOBase):
    """sys.stdout and sys.stderr of a worker."""

    def __init__(self, raw: TextIO) -> None:
        self._raw = raw

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        call = current()
        if not captures(call):
            return self._raw.write(text)
        line = _lines.get(call)
        if line is None:
            line = _lines[call] = []
            need_flush(call)
        end = text.rfind("\n") + 1
        if end:
            line.append(text[:end])
            _send(call, line)
            text_left = text[end:]
        else:
            text_left = text
        if text_left:
            line.append(text_left)
            if len(line) > 256:
                line[:] = ["".join(line)]
            if len(text_left) + len(line[0]) > _LONGEST:
                _send(call, line)
        return len(text)

    def flush(self) -> None:
        call = current()
        line = _lines.get(call)
        if line:
            _send(call, line)
        self._raw.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """Does nothing: the worker still has things to say."""

    def reconfigure(self, **options: Any) -> None:
        self._raw.reconfigure(**options)  # type: ignore[attr-defined]

    @property
    def buffer(self) -> Any:
        return self._raw.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    @property
    def line_buffering(self) -> bool:
        return True

    @property
    def name(self) -> Any:
        return getattr(self._raw, "name", "<stdout>")

    @property
    def mode(self) -> str:
        return "w"


def _send(call: int, line: "list[str]") -> None:
    text = "".join(line)
    line.clear()
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    _tell(call, (_PRINT, text), len(text))


def _tell(call: int, statement: "tuple[object, ...]", size: int) -> None:
    sent = _sent.get(call, 0) + size + _EACH
    if sent > _UNREAD:
        _sent[call] = 0
        ask(statement, call)
    else:
        _sent[call] = sent
        tell(statement, call)


def finish(call: int) -> None:
    """The call ends: what it printed last goes out, too."""
    line = _lines.pop(call, None)
    try:
        if line:
            _send(call, line)
    finally:
        _sent.pop(call, None)


def _forget() -> None:
    _lines.clear()
    _sent.clear()


def _finish_current() -> None:
    finish(current())


def log(level: str, text: str, metadata: "dict[str, Any]") -> None:
    """A line for the BEAM's Logger."""
    if forked():
        sys.stderr.write(f"{level}: {text}\n")
        return
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    call = current()
    if call == 0:
        tell((_LOG, level, text, metadata), 0)
        return
    # finish() forgets how much it was.
    need_flush(call)
    _tell(call, (_LOG, level, text, metadata), len(text))


def install() -> None:
    """Take over sys.stdout and sys.stderr."""
    sys.stdout = Output(sys.stdout)
    sys.stderr = Output(sys.stderr)
    set_flush(_finish_current)
    # A child has a copy of what its parent is about to send.
    os.register_at_fork(after_in_child=_forget)
