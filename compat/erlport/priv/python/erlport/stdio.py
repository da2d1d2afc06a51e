"""sys.stdin and sys.stdout of a worker: nothing can be read, and what is printed goes to the instance's group leader, as a message
{'P', Text} of the port."""

from __future__ import annotations

import io
import os
import sys

from erlport.erlterms import Atom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Protocol

    class Writer(Protocol):
        def write(self, message: Any, /) -> object: ...


_PRINT = Atom(b"P")


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`. Raises EOFError when none of it is taken: that would go on for ever."""
    rest = memoryview(data)
    while rest:
        written = os.write(descriptor, rest)
        if written == 0:
            raise EOFError(f"file descriptor {descriptor} takes no more bytes")
        rest = rest[written:]


class _Redirected(io.TextIOBase):
    _name: str
    _mode: str
    _descriptor: int

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "UTF-8"

    @property
    def mode(self) -> str:
        return self._mode

    @property
    def name(self) -> str:
        return self._name


class RedirectedStdin(_Redirected):
    """Reading from it raises io.UnsupportedOperation."""

    _name, _mode, _descriptor = "<stdin>", "r", 0

    def readable(self) -> bool:
        return True


class RedirectedStdout(_Redirected):
    """What is written to it goes to `port`."""

    _name, _mode, _descriptor = "<stdout>", "w", 1

    def __init__(self, port: Writer) -> None:
        self._port = port

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._port.write((_PRINT, text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        self.write("".join(lines))


def redirect(port: Writer) -> None:
    """Replace sys.stdin and sys.stdout."""
    sys.stdin = RedirectedStdin()
    sys.stdout = RedirectedStdout(port)
