"""The BEAM behind a channel of Typhon's: what the worker of an instance runs."""

from __future__ import annotations

from erlport import erlang, erlterms, stdio
from erlport.erlterms import Atom, OpaqueObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CALL = Atom(b"call")
_SELF = Atom(b"self")
_MAKE_REF = Atom(b"make_ref")
_SEND = Atom(b"send")
_PRINT = Atom(b"print")
_SYNC = Atom(b"sync")
_HANDLER_ERROR = Atom(b"message_handler_error")

# After so many characters the instance is waited for: its device may be slow.
_UNREAD = 262_144

# The tags of a pid's term.
_PID_TAGS = (b"X", b"g")

# What C++ asks for an exception's term.
describe = erlang.describe


class ChannelBackend:
    """Questions go to the instance, not to whoever calls: as in ErlPort their answers come from processes of their own."""

    def __init__(self) -> None:
        from typhon import _native

        self._native = _native
        # Whether the instance may have something of this worker's to deal with that nobody has waited for.
        self._unread = 0
        _native.set_flush(self._flush)
        _native.set_handler(self._handle)

    def converts(self, converts: bool) -> None:
        self._native.set_invoke(erlang.invoke if converts else None)

    def call(self, module: Atom, function: Atom, args: list[Any]) -> Any:
        return self._ask((_CALL, module, function, args), True)

    def self(self) -> Any:
        return self._ask(_SELF, False)

    def make_ref(self) -> Any:
        return self._ask(_MAKE_REF, False)

    def cast(self, pid: Any, message: Any) -> None:
        if type(pid) is OpaqueObject and pid.data[:1] in _PID_TAGS:
            # What was printed before comes first.
            if self._unread:
                self._sync()
            self._native.send(pid, message)
        else:
            self._tell((_SEND, pid, message), 1)

    def write(self, message: tuple[Any, str]) -> None:
        """What is printed."""
        text = message[1]
        data = text.encode("utf-8", "backslashreplace")
        if self._native.forked():
            # A child may not talk in its parent's name; what it prints takes the road of other programs.
            stdio.write_all(1, data)
            return
        self._tell((_PRINT, data), len(text))
        if self._unread > _UNREAD:
            self._sync()

    def _tell(self, term: tuple[Any, ...], weight: int) -> None:
        self._native.tell(term, 0)
        self._unread += weight
        call = self._native.this_call()
        if call:
            self._native.need_flush(call)

    def _ask(self, question: Any, serves: bool) -> Any:
        ok, value = self._native.ask(question, 0, 0, serves)
        if not ok:
            raise erlang.CallError(value)
        return value

    def _sync(self) -> None:
        self._unread = 0
        self._ask(_SYNC, False)

    def _flush(self) -> None:
        """A call ends that has printed: it has been printed when its caller goes on."""
        if self._unread:
            self._sync()

    def _handle(self, message: Any) -> None:
        failed = erlang.handle(message)
        if failed is not None:
            self._native.tell((_HANDLER_ERROR, failed), 0)


def main(beam_pid: int, fd: int, control: int) -> int:
    """Serve a channel until the BEAM lets go of it; the exit code. control: the descriptor whose end ends this process."""
    from typhon import _worker

    assert erlterms.Atom is Atom  # the dialect's classes are there
    return _worker.main_of_erlport(beam_pid, fd, control, _prepare)


def _prepare(settings: dict[str, int]) -> None:
    backend = ChannelBackend()
    erlang.attach(backend)
    stdio.redirect(backend)
