"""Calling the BEAM from Python.

A question goes to the process whose call is being served, and is answered there; outside of a call to a process of its own
next to the worker. While the thread waits it serves the calls that the answer's making brings with it. docs/internals.md
("Asking the BEAM") lists the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from typhon._context import CALL
from typhon._native import Atom, Fun, Pid, Reference, TyphonError, ask, decode, set_handler, tell
from typhon._native import receive as _receive
from typhon._native import send as _send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CALL = Atom("call")
_APPLY = Atom("apply")
_CALLER = Atom("caller")
_SELF = Atom("self")
_SEND = Atom("send")
_PULL = Atom("pull")

# With an allow list the BEAM refuses some messages, and Python waits to hear so.
_asks_to_send = False

# What an Iter fetches at first and at most in one go.
_FIRST_FETCH = 64
_MOST_FETCHED = 4096


class BeamError(TyphonError):
    """The BEAM raised, exited or threw while it ran something for Python.

    kind: "error", "exit" or "throw". type: the exception's name, such as "ArgumentError", else "". reason: the exception's
    message, or the term itself. stacktrace: as the BEAM formats it.
    """

    def __init__(self, kind: str, type: str, message: str, reason: object, stacktrace: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.type = type
        self.reason = reason
        self.stacktrace = stacktrace
        if stacktrace:
            self.add_note("The BEAM's stacktrace:\n" + stacktrace)

    def __reduce__(self) -> tuple[object, ...]:
        return (BeamError, (self.kind, self.type, str(self), self.reason, self.stacktrace))


def name(value: "str | Atom") -> str:
    """The text of a module's or function's name."""
    if isinstance(value, Atom):
        return value.name
    if isinstance(value, str):
        return value
    raise TypeError(f"a module or function is named by a str or a typhon.Atom, not {type(value).__name__}")


def question(module: "str | Atom", function: "str | Atom", args: Sequence[object]) -> tuple[object, ...]:
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence):
        raise TypeError(f"the arguments must be a list, not {type(args).__name__}")
    return (_CALL, name(module), name(function), list(args))


def failure(kind: str, type: str, message: str, reason: "bytes | str", stacktrace: str) -> BeamError:
    """What the BEAM says of a failure. The term that was thrown may be any; one that Python cannot hold is told by the message."""
    term: object = reason
    if isinstance(reason, bytes):
        try:
            term = decode(reason)
        except Exception:
            term = message
    return BeamError(kind, type, message, term, stacktrace)


def result(answer: "tuple[bool, Any]") -> Any:
    ok, value = answer
    if ok:
        return value
    raise failure(*value)


def call(module: "str | Atom", function: "str | Atom", args: Sequence[object] = ()) -> Any:
    """Call a function of the BEAM: call("Elixir.Enum", "sum", [[1, 2]]) is Enum.sum([1, 2]), call("erlang", "node").

    It runs in the process whose call is being served. Raises BeamError when it fails there, EncodeError for an argument that
    cannot cross, Cancelled when the call is given up meanwhile.
    """
    return result(ask(question(module, function, args), CALL.get()))


def apply(function: Fun, args: Sequence[object]) -> Any:
    """Call a function that came from the BEAM; f(1) does."""
    return result(ask((_APPLY, function, list(args)), CALL.get()))


def caller() -> Pid:
    """The process whose call is being served; outside of a call, one that answers this question alone."""
    pid: Pid = result(ask((_CALLER,), CALL.get()))
    return pid


def self() -> Pid:
    """The process of the BEAM that stands for this worker: what is sent to it arrives in the mailbox."""
    pid: Pid = result(ask((_SELF,), 0, CALL.get()))
    return pid


def send(dest: "Pid | Reference | Atom | str | tuple[object, ...]", message: object) -> None:
    """Send a message to a process: its pid, a registered name, (name, node), or an alias. Like the BEAM's own send it does not
    fail when nobody is there.

    In a pool with the option `allow:` a message goes to what this worker was handed, and to what `send_to:` lists, and is none
    by which processes are controlled, as `(Atom("EXIT"), …)` is; else BeamError is raised. `self()` takes any. Waits while the
    BEAM has not yet taken what was sent before.
    """
    if isinstance(dest, str):
        dest = Atom(dest)
    elif not isinstance(dest, (Pid, Reference, Atom, tuple)):
        raise TypeError(f"a message goes to a Pid, a name or (name, node), not to {type(dest).__name__}")
    if _asks_to_send:
        result(ask((_SEND, dest, message), 0, CALL.get()))
    elif isinstance(dest, Pid):
        _send(dest, message)
    else:
        tell((_SEND, dest, message), 0)


def ask_to_send(asks: bool) -> None:
    """Whether `send` waits for the BEAM's consent."""
    global _asks_to_send
    _asks_to_send = asks


def receive(timeout: "float | None" = None) -> Any:
    """The next message that was sent to this worker; waits for it. Raises TimeoutError after `timeout` seconds."""
    return _receive(-1.0 if timeout is None else max(float(timeout), 0.0), CALL.get())


def on_message(handler: "Callable[[Any], object] | None") -> "Callable[[Any], object] | None":
    """Call `handler` with each message from now on, between calls; None: messages are kept for receive() again.

    What it raises is logged. While it runs, its thread takes no calls: one that keeps a worker from taking any for more than five
    seconds after the time of a call was up is ended with it. Returns the handler, so it can be used as a decorator.
    """
    if handler is not None and not callable(handler):
        raise TypeError("the handler must be callable")
    set_handler(handler)
    return handler


class Iter(Iterator["Any"]):
    """An enumerable of the BEAM, as `Typhon.iter/1` lends it for the time of a call. Elements come in batches, and the BEAM
    makes no more of them than are asked for."""

    def __init__(self, name: Reference) -> None:
        self._name = name
        self._batch: list[Any] = []
        self._at = 0
        self._fetch = _FIRST_FETCH
        self._done = False

    def __next__(self) -> Any:
        while self._at == len(self._batch):
            if self._done:
                raise StopIteration
            self._batch, self._done = result(ask((_PULL, self._name, self._fetch), CALL.get()))
            self._at = 0
            self._fetch = min(self._fetch * 2, _MOST_FETCHED)
        element = self._batch[self._at]
        self._batch[self._at] = None
        self._at += 1
        return element

    def close(self) -> None:
        """Let go of the enumerable early: its own clean-up runs now."""
        if not self._done:
            self._done = True
            self._batch, self._at = [], 0
            result(ask((_PULL, self._name, 0), CALL.get()))


# Where users find them.
BeamError.__module__ = Iter.__module__ = "typhon"


class Namespace:
    """`typhon.Elixir.Enum.sum([1, 2])`: attributes that begin with a capital letter are modules, others functions."""

    def __init__(self, path: str, call: "Callable[..., Any]") -> None:
        self._path = path
        self._call = call

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if attribute[:1].isupper():
            return Namespace(f"{self._path}.{attribute}", self._call)
        path, call = self._path, self._call

        def function(*args: object) -> Any:
            return call(path, attribute, args)

        function.__name__ = attribute
        function.__qualname__ = f"{path}.{attribute}"
        return function

    def __repr__(self) -> str:
        return f"<module {self._path} of the BEAM>"


Elixir = Namespace("Elixir", call)
erlang = Namespace("erlang", call)
