"""What Pythonx's functions call. What code or a value raises is an answer, as Pythonx.Error holds the objects."""

from __future__ import annotations

import functools
import pickle
import traceback
from types import TracebackType

import typhon
from pythonx import PID, _names
from pythonx._evaluation import CURRENT, Evaluation, install
from typhon import _eval
from typhon._errors import traceback_of, type_name
from typhon._native import Cancelled, Kept, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

__all__ = ["decode", "dump", "encode", "evaluate", "install", "lacks", "load", "represent", "scan"]

# The modules whose frames are no part of an error in the code.
_OURS = frozenset({__name__, "typhon._eval", "typhon._compile", "typhon._source"})


def _answers(function: Callable[..., Any]) -> Callable[..., Any]:
    """(True, result), or (False, lines, type, value, traceback)."""

    @functools.wraps(function)
    def answer(*args: Any) -> Any:
        try:
            return True, function(*args)
        except Cancelled:
            raise
        except BaseException as error:
            return _failed(error)

    return answer


def _failed(error: BaseException) -> tuple[object, ...]:
    trace = _of_code(traceback_of(error))
    # Not by an assignment: its class may refuse that.
    BaseException.with_traceback(error, trace)
    # Where the code is no Python nothing was called. What remains is for those who ask whether there is a traceback.
    shown = None if trace is not None and _is_ours(trace) else trace
    lines = [_text(line) for line in _formatted(error, shown)]
    return False, lines, Kept(type(error)), Kept(error), Kept(trace)


def _formatted(error: BaseException, trace: TracebackType | None) -> list[str]:
    try:
        return traceback.format_exception(type(error), error, trace)
    except Cancelled:
        raise
    except BaseException:
        # Its class has no attributes for others to read.
        before = ["Traceback (most recent call last):\n"] if trace is not None else []
        return [*before, *traceback.format_tb(trace), f"{type_name(type(error))}\n"]


def _of_code(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_next is not None and _is_ours(trace):
        trace = trace.tb_next
    return trace


def _is_ours(trace: TracebackType) -> bool:
    return trace.tb_frame.f_globals.get("__name__") in _OURS


def _text(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


# --- code ---


def evaluate(code: str, names: dict[str, Any], has_pids: bool, stdout: typhon.Pid, stderr: typhon.Pid) -> Any:
    """(True, (whether there is a value, the value, names and values)), or as _answers says; or a coroutine of that."""
    evaluation = Evaluation(stdout, stderr)
    before = CURRENT.get()
    later = False
    # Whatever interrupts it, also where it prints: the thread is nobody's then.
    with Section(lambda: CURRENT.set(evaluation), lambda: CURRENT.set(before)):
        try:
            evaluation.names.update(_with_pids(names) if has_pids else names)
            program = _eval.program_of(code, None, 1)
            if program.awaits:
                later = True
                return _evaluate_later(evaluation, program)
            return _done(evaluation, program, _eval.execute(program, evaluation.names))
        except Cancelled:
            raise
        except BaseException as error:
            return _failed(error)
        finally:
            if not later:
                evaluation.finish()


async def _evaluate_later(evaluation: Evaluation, program: Any) -> Any:
    CURRENT.set(evaluation)
    try:
        kept = await _eval.execute_later(program, evaluation.names, True)
        return _done(evaluation, program, kept.value)
    except Cancelled:
        raise
    except BaseException as error:
        return _failed(error)
    finally:
        evaluation.finish()


def _done(evaluation: Evaluation, program: Any, value: Any) -> tuple[bool, object]:
    # Of a copy: a thread of the code's may assign meanwhile.
    names = {
        name: Kept(each)
        for name, each in evaluation.names.copy().items()
        if isinstance(name, str) and name not in evaluation.own and _is_text(name)
    }
    return True, (program.has_value or value is not None, Kept(value), names)


def _is_text(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


@_answers
def scan(code: str) -> tuple[list[str], list[str]]:
    return _names.scan(code)


@_answers
def lacks(project: str, version: str | None) -> tuple[str, list[str]]:
    from pythonx import _project

    return _project.lacks(project, version)


# --- values ---


@_answers
def encode(term: Any, has_pids: bool) -> Kept:
    return Kept(_with_pids(term) if has_pids else term)


def _with_pids(term: Any) -> Any:
    """What came from the BEAM, with its pids as PIDs."""
    kind = type(term)
    if kind is typhon.Pid:
        return PID(term)
    if kind is list or kind is tuple or kind is set:
        return kind(map(_with_pids, term))
    if kind is dict:
        return {_with_pids(key): _with_pids(value) for key, value in term.items()}
    return term


@_answers
def decode(value: Any) -> tuple[bool, bool, Any]:
    """(whether it is another thing on the BEAM, whether objects are in there, that thing)."""
    decoder = _Decoder()
    plain = decoder.plain(value)
    return (False, False, None) if type(plain) is Kept else (True, decoder.holds_objects, plain)


class _Decoder:
    def __init__(self) -> None:
        self.holds_objects = False

    def plain(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, float, str, bytes):
            return value
        return self._of_class(kind, value)

    def _of_class(self, kind: type, value: Any) -> Any:
        """By the class that it is of, whatever it calls its own; as Python's own classes have it, whatever its class overrides."""
        if issubclass(kind, int):
            return int.__add__(value, 0)
        if issubclass(kind, float):
            return float.__add__(value, 0.0)
        if issubclass(kind, tuple):
            return tuple(map(self.plain, tuple.__iter__(value)))
        if issubclass(kind, list):
            return list(map(self.plain, list.copy(value)))
        if issubclass(kind, dict):
            items = dict.copy(value)
            pairs = ((self.plain(key), self.plain(each)) for key, each in items.items())
            return self._keyed(value, len(items), dict, pairs)
        if issubclass(kind, str):
            return str.__str__(value)
        if issubclass(kind, bytes):
            return b"".join([value])
        if issubclass(kind, (set, frozenset)):
            elements = list((set if issubclass(kind, set) else frozenset).__iter__(value))
            return self._keyed(value, len(elements), frozenset, map(self.plain, elements))
        if issubclass(kind, PID):
            return value._pid
        return self._object(value)

    def _keyed(self, value: Any, size: int, make: Callable[[Any], Any], of: Iterable[Any]) -> Any:
        try:
            plain = make(of)
        except TypeError:
            # A key that only its class makes hashable.
            return self._object(value)
        if len(plain) == size:
            return plain
        # Several keys are one on the BEAM. Typhon refuses the value itself, and says where.
        self.holds_objects = True
        return value

    def _object(self, value: Any) -> Kept:
        self.holds_objects = True
        return Kept(value)


@_answers
def represent(value: Any) -> str:
    return _text(repr(value))


@_answers
def dump(value: Any) -> tuple[str, bytes]:
    """The name of the module that has pickled it, and the pickle."""
    try:
        import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return "pickle", pickle.dumps(value)
    return "cloudpickle", cloudpickle.dumps(value)


@_answers
def load(data: bytes) -> Kept:
    return Kept(pickle.loads(data))
