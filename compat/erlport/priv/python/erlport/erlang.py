"""The BEAM, as seen from Python: calling its functions, sending messages, taking them.

While a call waits for the BEAM, whatever the BEAM asks of this Python meanwhile is run on top of it, whoever asks: up to 64 calls
on top of each other. Those of the functions that are called here go deeper; others wait then, but for one each second in which
nothing has come.
"""

from __future__ import annotations

import sys

from erlport.erlterms import Atom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from erlport.erlproto import Port

    class Backend(Protocol):
        """What stands between this Python and the BEAM."""

        def call(self, module: Atom, function: Atom, args: list[Any]) -> Any:
            """The result, or a CallError."""

        def self(self) -> Any: ...
        def make_ref(self) -> Any: ...
        def cast(self, pid: Any, message: Any) -> None: ...
        def converts(self, converts: bool) -> None:
            """Whether arguments and results pass through invoke()."""


class Error(Exception):
    """An error of ErlPort's."""


class InvalidMessage(Error):
    """A message of the port that is none."""


class UnknownMessage(Error):
    """A message of an unknown kind."""


class UnexpectedMessage(Error):
    """A message that nobody waits for."""


class UnexpectedResponses(UnexpectedMessage):
    """Answers that nobody waits for."""


class DuplicateMessageId(Error):
    """Two messages of one name."""


class CallError(Error):
    """What the BEAM's function raised: language (Atom(b"erlang"), or that of the one which it called in turn), type, value,
    stacktrace."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, tuple) or len(value) != 4:
            value = (None, None, value, [])
        self.language, self.type, self.value, self.stacktrace = value
        super().__init__(value)


def _same(value: Any) -> Any:
    return value


def _ignore(message: Any) -> None:
    pass


class _State:
    """Of this process: there is one BEAM at most on the other side."""

    backend: Backend | None = None
    encoder: Callable[[Any], Any] = staticmethod(_same)
    decoder: Callable[[Any], Any] = staticmethod(_same)
    handler: Callable[[Any], object] = staticmethod(_ignore)
    self: Any = None


def _backend() -> Backend:
    if _State.backend is None:
        raise RuntimeError("this Python was not started by an instance of ErlPort's: there is no BEAM on the other side")
    return _State.backend


def attach(backend: Backend) -> None:
    """The BEAM is there."""
    _State.backend = backend


def call(module: Atom, function: Atom, args: list[Any]) -> Any:
    """Call a function of the BEAM in a process of its own; its result. Raises CallError for what it raises, and ValueError unless
    module and function are Atoms and args is a list."""
    for value, kind in ((module, Atom), (function, Atom), (args, list)):
        if not isinstance(value, kind):
            raise ValueError(value)
    return _State.decoder(_backend().call(module, function, [_State.encoder(arg) for arg in args]))


def cast(pid: Any, message: Any) -> None:
    """Send a message to a process, by its pid or its name."""
    _backend().cast(pid, message)


def self() -> Any:
    """The pid of the instance: what is sent to it reaches the message handler."""
    if _State.self is None:
        _State.self = _backend().self()
    return _State.decoder(_State.self)


def make_ref() -> Any:
    """A new reference of the BEAM."""
    return _State.decoder(_backend().make_ref())


def _checked(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function that can be called with one argument; ValueError otherwise, TypeError when it is no function."""
    if not callable(function):
        raise TypeError(f"expected a function, not {type(function).__name__}")
    import inspect

    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return function  # one in C that does not tell
    try:
        signature.bind(None)
    except TypeError:
        raise ValueError(f"expected single argument function: {function!r}") from None
    return function


def _set(encoder: Callable[[Any], Any], decoder: Callable[[Any], Any]) -> None:
    _State.encoder, _State.decoder = encoder, decoder
    if _State.backend is not None:
        _State.backend.converts(encoder is not _same or decoder is not _same)


def set_encoder(encoder: Callable[[Any], Any]) -> None:
    """encoder: gets each result of a function of Python's, and each argument of one of the BEAM's, and gives what goes out for it."""
    _set(_checked(encoder), _State.decoder)


def set_decoder(decoder: Callable[[Any], Any]) -> None:
    """decoder: gets each argument of a function of Python's, and each result of one of the BEAM's, and gives what it stands for."""
    _set(_State.encoder, _checked(decoder))


def set_message_handler(handler: Callable[[Any], Any]) -> None:
    """handler: gets each message. What it raises ends the instance."""
    _State.handler = _checked(handler)


def set_default_encoder() -> None:
    _set(_same, _State.decoder)


def set_default_decoder() -> None:
    _set(_State.encoder, _same)


def set_default_message_handler() -> None:
    """Messages are dropped."""
    _State.handler = _ignore


def invoke(module: bytes, function: bytes, args: list[Any]) -> Any:
    """A call of the BEAM's, with its arguments and its result converted."""
    found = _find(module.decode(), function.decode())
    return _State.encoder(found(*map(_State.decoder, args)))


def _find(module: str, function: str) -> Any:
    try:
        found: Any = sys.modules.get(module)
        if found is None:
            from importlib import import_module

            found = import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
        return found
    except (AttributeError, ModuleNotFoundError):
        if module.isascii() and function.isascii():
            raise
        from typhon._names import find

        if (normal := find(module, function)) is None:
            raise
        return normal[0]


def handle(message: Any) -> tuple[Any, ...] | None:
    """Give a message to the handler. The term for what it raises."""
    try:
        _State.handler(message)
    except BaseException as error:
        return describe(error)
    return None


def describe(error: BaseException, module: object = b"", function: object = b"") -> tuple[Any, ...]:
    """The term for an exception: (python, class, message, frames), the innermost frame first. Never raises.

    module, function: of the call, whose name stands in where there is no frame of Python's.
    """
    import traceback

    from typhon import DecodeError, EncodeError, _native

    kind = type(error)
    # The codec's own are what ErlPort raises for the same.
    if kind in (EncodeError, DecodeError):
        kind = ValueError
    name = f"{kind.__module__}.{kind.__name__}".encode("utf-8", "replace")
    try:
        message = str(error)
    except BaseException as second:
        message = f"<{kind.__name__}.__str__ raised {type(second).__name__}>"
    try:
        stack = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__ or frame.name not in _OWN]
        frames = traceback.format_list(stack)[::-1]
    except BaseException:
        frames = []
    if not frames:
        frames = [f'  File "<call>", line 1, in {_text(module)}.{_text(function)}\n']
    # A character is an element of a list there, of 16 bytes: each of the two may take a bit less than half.
    most = _native.max_result() // 40
    if len(message) > most:
        message = message[:most] + " … (the rest is more than max_result: of the pool)"
    while frames and sum(map(len, frames)) > most:
        del frames[len(frames) // 2]
    return (Atom(b"python"), Atom(name[:255]), message, frames)


_OWN = ("invoke", "handle")


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


class PortBackend:
    """The BEAM behind a port: ErlPort's own protocol."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._answers: dict[Any, tuple[Any, Any]] = {}
        self._last = 0

    def converts(self, converts: bool) -> None:
        pass

    def cast(self, pid: Any, message: Any) -> None:
        self._port.write((Atom(b"M"), pid, message))

    def self(self) -> Any:
        return self._ask(Atom(b"self"), Atom(b"erlang"), [], Atom(b"L"))

    def make_ref(self) -> Any:
        return self._ask(Atom(b"make_ref"), Atom(b"erlang"), [], Atom(b"L"))

    def call(self, module: Atom, function: Atom, args: list[Any]) -> Any:
        return self._ask(function, module, args, Atom(b"N"))

    def _ask(self, function: Atom, module: Atom, args: list[Any], context: Atom) -> Any:
        self._last += 1
        tag = self._last
        self._port.write((Atom(b"C"), tag, module, function, args, context))
        while tag not in self._answers:
            self._take()
        kind, value = self._answers.pop(tag)
        if kind == b"e":
            raise CallError(value)
        return value

    def serve(self) -> None:
        """Until the BEAM closes the port."""
        try:
            while True:
                self._take()
        except EOFError:
            pass

    def _take(self) -> None:
        message = self._port.read()
        match message:
            case (b"C", tag, bytes() as module, bytes() as function, list() as args):
                self._run(tag, module, function, args)
            case (b"M", payload):
                failed = handle(payload)
                if failed:
                    self._port.write((Atom(b"e"), failed))
            case (b"r" | b"e" as kind, tag, value):
                self._answers[tag] = (kind, value)
            case (bytes() as kind, *_) if kind in (b"C", b"M", b"r", b"e"):
                raise InvalidMessage(message)
            case (_, *_):
                raise UnknownMessage(message)
            case _:
                raise InvalidMessage(message)

    def _run(self, tag: Any, module: bytes, function: bytes, args: list[Any]) -> None:
        try:
            self._port.write((Atom(b"r"), tag, invoke(module, function, args)))
        except EOFError:
            raise
        except BaseException as error:
            self._port.write((Atom(b"e"), tag, describe(error, module, function)))


def setup(port: Port) -> None:
    """Serve a BEAM behind a port, until it closes that."""
    from erlport import stdio

    backend = PortBackend(port)
    attach(backend)
    stdio.redirect(port)
    backend.serve()
