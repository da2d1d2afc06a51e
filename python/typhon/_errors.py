"""Exceptions as terms for the BEAM. Imported when the first one has to cross.

The term is specified in docs/internals.md (`wire_error`):
{:exception, type, message, frames, notes, cause, text}.
"""

import errno
import importlib
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import FrameType, TracebackType

from typhon._native import Atom, max_result, tell

# What the operating system was told not to give this worker, by the names of the pool's `limits:`.
limits: dict[str, int] = {}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

_EXCEPTION = Atom("exception")
_CAST_FAILED = Atom("cast_failed")
_CAUSE = Atom("cause")
_CONTEXT = Atom("context")

# The "file" of a frame that stands for the call itself.
_CALL = "<call>"
# Modules whose frames stand between a call and the user's code.
_OBJECTS = "typhon._objects"
_BETWEEN = (
    "typhon._namespace",
    "typhon._bulk",
    "typhon._stream",
    "typhon._async_stream",
    "typhon._chain",
    _OBJECTS,
    "typhon._render",
    "typhon._frames",
    "typhon._eval",
    "typhon._block",
    "typhon._compile",
    "typhon._source",
    "typhon._scope",
    "typhon._turns",
    "typhon._program",
)
# What users know these by.
_CALLED = {
    "typhon._eval.evaluate": "Typhon.eval",
    "typhon._eval.assigning": "Typhon.eval",
    "typhon._block.call": "Typhon.Module",
    "typhon.Scope.evaluate": "Typhon.eval",
    "typhon._program.execute": "Typhon.exec_file",
    "typhon._stream.open": "Typhon.stream",
    "typhon._stream.over": "Typhon.stream",
    "typhon._stream.Stream.next": "Typhon.stream",
    "typhon._async_stream.AsyncStream.next": "Typhon.stream",
}

_IMPORTLIB = importlib.__file__
# The file of what typhon._chain compiles.
_CHAIN = "<typhon chain>"

# What an exception has, whatever its class makes of its attributes.
traceback_of: "Callable[[BaseException], TracebackType | None]" = BaseException.__dict__["__traceback__"].__get__
cause_of: "Callable[[BaseException], BaseException | None]" = BaseException.__dict__["__cause__"].__get__
context_of: "Callable[[BaseException], BaseException | None]" = BaseException.__dict__["__context__"].__get__
_suppresses_context: "Callable[[BaseException], bool]" = BaseException.__dict__["__suppress_context__"].__get__

_Frame = tuple[str, int, str, str]
_Term = tuple[Atom, str, str, list[_Frame], list[str], "tuple[Atom, _Term] | None", str]

# A chain of causes longer than this is cut: the text still shows all of it that Python prints.
_MAX_CHAIN = 32
_MAX_FRAMES = 200
_MAX_TEXT = 256 * 1024
# Of a line of the source. Generated code may be one line of megabytes.
_MAX_LINE = 1024
# Of what the arguments and the variables hold, how much is looked at for an atom that explains an error.
_MAX_LOOKED_AT = 10_000
_VALUE_NOTE = (
    "Atoms of Elixir are of the class typhon.Atom in Python, and not str; name is their text. Send a string, or use the option "
    "values: :strings of the call or of its pool."
)
_FLOATS = (Atom("nan"), Atom("infinity"), Atom("neg_infinity"))
_FLOAT_NOTE = (
    "The floats nan, inf and -inf of Python are the atoms :nan, :infinity and :neg_infinity in Elixir, and come back as these: "
    "of class typhon.Atom. float(x) makes the float of such an atom, and array.astype(float) those of a numpy array of objects. A "
    "Typhon.Array has them as floats."
)
# What a str takes of the BEAM's memory beside its text, and a bit more.
_EACH = 256


def describe(error: BaseException, module: object, function: str, given: object = None) -> _Term:
    """The wire form of `error`, which the call of `function` in `module` (or of an object's method) raised. Never raises.

    A function in C leaves no frame; the call itself stands in, so that a traceback always says where. `given`: its arguments.
    """
    _note_limit(error)
    _note_atoms(error, given)
    note_hints(error, module, function)
    _drop_frames_between(error)
    name = f"{module if isinstance(module, str) else type_name(type(module))}.{function}"
    # As it was called in Elixir.
    if isinstance(function, str) and function.startswith("."):
        name = f"Typhon{function.removesuffix('_path')}"
    elif isinstance(module, str) and module == _OBJECTS:
        name = "Typhon.get"
    term = _term(error, 0)
    if not term[3] and name in _CALLED and _is_syntax(error) and error.filename:
        # Python's own text of it says where: this code has not run.
        frame = (_clean(error.filename), error.lineno or 1, "<module>", _clean((error.text or "").strip()))
        term = (term[0], term[1], term[2], [frame], term[4], term[5], term[6])
    elif not term[3]:
        frame = (_CALL, 1, _clean(_CALLED.get(name, name)), "")
        text = f'Traceback (most recent call last):\n  File "{_CALL}", line 1, in {frame[2]}\n{term[6]}'
        term = (term[0], term[1], term[2], [frame], term[4], term[5], text)
    most = max_result()
    return term if _size(term) <= most else _cut_to(term, most)


def _is_syntax(error: BaseException) -> "TypeGuard[SyntaxError]":
    """By its class alone: isinstance() would ask the exception for its own `__class__`."""
    return issubclass(type(error), SyntaxError)


def _size(term: _Term) -> int:
    _, name, message, frames, notes, cause, text = term
    texts = _sizes((name, message, text)) + _sizes(notes) + sum(map(_frame_size, frames))
    return texts if cause is None else texts + _size(cause[1])


def _sizes(texts: Iterable[str]) -> int:
    return sum((len(text) if text.isascii() else 4 * len(text)) + _EACH for text in texts)


def _frame_size(frame: _Frame) -> int:
    return _sizes((frame[0], frame[2], frame[3]))


def _cut_to(term: _Term, most: int) -> _Term:
    """The error in so many bytes, with a note that says so."""
    note = f"This exception takes more than {most} bytes, which is max_result: of the pool. It was cut to what fits."
    atom, name, message, frames, notes, cause, text = _cut(term, most)
    return (atom, name, message, frames, [*notes, note], cause, text)


def _cut(term: _Term, room: int) -> _Term:
    """Each part may take an eighth of the room, and the causes a quarter."""
    atom, name, message, frames, notes, cause, text = term
    part = room // 8
    return (
        atom,
        _shortened(name, part),
        _shortened(message, part),
        _fewer([(_shortened(file, part), at, where, _shortened(line, _MAX_LINE)) for file, at, where, line in frames], part),
        [note for note in notes if _sizes(notes) <= part],
        (cause[0], _cut(cause[1], room // 4)) if cause and room >= 32 * _EACH else None,
        _shortened(text, part),
    )


def _shortened(text: str, room: int) -> str:
    size = _sizes((text,))
    if size <= room:
        return text
    return text[: max(room - _EACH, 0) // (1 if text.isascii() else 4)] + " …"


def _fewer(frames: list[_Frame], room: int) -> list[_Frame]:
    """Without those in the middle."""
    while frames and sum(map(_frame_size, frames)) > room:
        del frames[len(frames) // 2]
    return frames


def _note_limit(error: BaseException) -> None:
    """An error that comes of the pool's `limits:` says so."""
    try:
        if isinstance(error, MemoryError) and "memory" in limits:
            error.add_note(f"This worker's limit is memory: {limits['memory']} bytes (limits: of its pool).")
        elif isinstance(error, (ImportError, OSError)) and "static TLS" in str(error) and "typhon._embedded" in sys.modules:
            error.add_note(
                "The thread-local variables of libraries have too little room for one more interpreter inside the BEAM: start the "
                "VM with GLIBC_TUNABLES=glibc.rtld.nns=16:glibc.rtld.optional_static_tls=65536 in its environment (mix typhon.env "
                "says how), or use fewer workers."
            )
        elif isinstance(error, OSError) and error.errno == errno.EMFILE and "open_files" in limits:
            error.add_note(f"This worker's limit is open_files: {limits['open_files']} (limits: of its pool).")
    except BaseException:
        pass


def _note_atoms(error: BaseException, given: object) -> None:
    """An error that comes of an atom where a str was expected says so, and what to do; its causes, too."""
    try:
        at: BaseException | None = error
        for _ in range(_MAX_CHAIN):
            if at is None:
                break
            note = _about_atoms(at, given)
            if note is not None and note not in getattr(at, "__notes__", ()):
                at.add_note(note)
            at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    except BaseException:
        pass


def note_hints(error: BaseException, module: object, function: str) -> None:
    """What to do about it, as notes, once. Never raises."""
    if not issubclass(type(error), (ImportError, AttributeError)):
        return
    try:
        from typhon import _hints

        if _hints.NOTED not in error.__dict__:
            setattr(error, _hints.NOTED, True)
            for hint in _hints.of(error, module, function):
                error.add_note(hint)
    except BaseException:
        pass


def _about_atoms(error: BaseException, given: object) -> str | None:
    if isinstance(error, KeyError):
        key = error.args[0] if len(error.args) == 1 else None
        if type(key) is str and _has_atom_key(key, error, given):
            return (
                f"There is a key :{key} here, an atom: in Python that is typhon.Atom({key!r}), and not the str {key!r}. Send a string "
                "as the key, or use the option keys: :strings of the call or of its pool."
            )
        if type(key) is Atom:
            return (
                f"The key is an atom in Elixir, which is typhon.Atom({key.name!r}) in Python, and not the str {key.name!r}. If the key "
                f"is that str here, give a string in Elixir, or use the option values: :strings of the call or of its pool."
            )
    elif isinstance(error, TypeError):
        text = str(error)
        # Of json; C and Python name a class in different ways.
        refused = text.startswith("keys must be ") and text.endswith(("not typhon.Atom", "not Atom"))
        if refused or (text == "keywords must be strings" and _has_atom_key(None, error, given)):
            return (
                "Atoms that are keys of a map in Elixir are of the class typhon.Atom in Python, and not str. Send strings as the "
                "keys, or use the option keys: :strings of the call or of its pool."
            )
        if "typhon.Atom" in text or "Object of type Atom is not" in text:
            return _FLOAT_NOTE if _has_float(error, given) else _VALUE_NOTE
    elif isinstance(error, AttributeError) and type(error.obj) is Atom:
        return _FLOAT_NOTE if error.obj in _FLOATS else _VALUE_NOTE
    return None


def _has_atom_key(name: str | None, error: BaseException, given: object) -> bool:
    """Whether a dict that the error may be about has this atom as a key (None: any atom)."""
    atom = None if name is None else Atom(name)

    def has(value: object) -> bool:
        if type(value) is not dict:
            return False
        return atom in value if atom is not None else any(type(key) is Atom for key in islice(value, _MAX_LOOKED_AT))

    return any(map(has, _looked_at(error, given)))


def _has_float(error: BaseException, given: object) -> bool:
    """Whether the error is about one of the atoms that are floats in Python; about any other atom it is when there is one, too."""
    atoms = {value for value in _looked_at(error, given) if type(value) is Atom}
    return bool(atoms) and atoms.issubset(_FLOATS)


def _looked_at(error: BaseException, given: object) -> Iterator[object]:
    """What the arguments of the call hold, and the variables of the functions that the error came through."""
    left = deque[object]([given])

    def look_at(more: Iterable[object]) -> None:
        left.extend(islice(more, max(_MAX_LOOKED_AT - len(left), 0)))

    look_at(_variables(error.__traceback__))
    for _ in range(_MAX_LOOKED_AT):
        if not left:
            break
        at = left.popleft()
        yield at
        if type(at) is dict:
            look_at(at.values())
        elif type(at) is list or type(at) is tuple:
            look_at(at)


def _variables(tb: TracebackType | None) -> Iterator[object]:
    """Of the functions that an error came through, the innermost first."""
    for frame, _ in reversed(_walk(tb)):
        # A copy: those of a module may be assigned by another thread meanwhile.
        yield from list(frame.f_locals.values())


def _drop_frames_between(error: BaseException) -> None:
    """An import takes its own frames out of a traceback, but not when it was asked for by another way than `import`. Typhon's own
    stand between a call and exec or eval."""
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain and len(seen) < _MAX_CHAIN:
        each = chain.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        chain += [cause_of(each), context_of(each)]
        try:
            # Not by an assignment: its class may refuse that.
            BaseException.with_traceback(each, _without_those_between(traceback_of(each)))
        except BaseException:
            pass


def _without_those_between(tb: TracebackType | None) -> TracebackType | None:
    while tb is not None and _stands_between(tb):
        tb = tb.tb_next
    first = tb
    while tb is not None:
        after = tb.tb_next
        while after is not None and _stands_between(after):
            after = after.tb_next
        if after is not tb.tb_next:
            tb.tb_next = after
        tb = after
    return first


def _stands_between(tb: TracebackType) -> bool:
    file = tb.tb_frame.f_code.co_filename
    return (
        file.startswith("<frozen importlib.")
        or file in (_IMPORTLIB, _CHAIN)
        or tb.tb_frame.f_globals.get("__name__") in _BETWEEN
    )


def _term(error: BaseException, depth: int) -> _Term:
    return (
        _EXCEPTION,
        type_name(type(error)),
        _message(error),
        _frames(traceback_of(error)),
        _notes(error),
        _cause(error, depth),
        _text(error) if depth == 0 else "",
    )


def report(error: BaseException, target: object, function: "str | None", term: tuple[object, ...]) -> None:
    """Tell the worker's process on the other side what a cast raised, of which `term` is the wire form; or a handler of messages,
    which is `target` then. What cannot be told, and what ErlPort's dialect has no word for, is written to stderr."""
    name = type_name(type(target)) if function is not None and not isinstance(target, str) else _name_of(target)
    if "erlport._worker" not in sys.modules:
        try:
            tell((_CAST_FAILED, name, function, term), 0)
            return
        except Exception:
            pass
    sys.stderr.write(f"Exception in a cast of {name}{'.' + function if function else ''}:\n{_text(error)}")
    sys.stderr.flush()


def _name_of(target: object) -> str:
    name = target if isinstance(target, str) else getattr(target, "__qualname__", None)
    return _clean(name) if isinstance(name, str) else type_name(type(target))


def type_name(kind: type) -> str:
    """Whatever its metaclass says."""
    try:
        module = type.__getattribute__(kind, "__module__")
    except BaseException:
        module = "builtins"
    name = type.__dict__["__qualname__"].__get__(kind)
    return _clean(name if module in ("builtins", "__main__") else f"{module}.{name}")


def _message(error: BaseException) -> str:
    try:
        return _clean(str(error))
    except BaseException as second:
        return f"<{type_name(type(error))}.__str__ raised {type_name(type(second))}>"


def _frames(tb: TracebackType | None) -> list[_Frame]:
    try:
        # Outermost first; of a very deep stack the two ends say most.
        frames = [
            (_clean(frame.filename), frame.lineno or 0, _clean(frame.name), _clean(frame.line or ""))
            for frame in traceback.StackSummary.extract(_walk(tb), lookup_lines=True)
        ]
    except BaseException:
        return []
    if len(frames) > _MAX_FRAMES:
        half = _MAX_FRAMES // 2
        frames = frames[:half] + frames[-half:]
    return frames


def _walk(tb: TracebackType | None) -> list[tuple[FrameType, int]]:
    """(frame, line) of the last `_MAX_FRAMES` and the first ones, without keeping a recursion's thousands."""
    entries = list(traceback.walk_tb(tb))
    if len(entries) > 2 * _MAX_FRAMES:
        entries = entries[:_MAX_FRAMES] + entries[-_MAX_FRAMES:]
    return entries


def _notes(error: BaseException) -> list[str]:
    try:
        notes = getattr(error, "__notes__", None)
    except BaseException:
        return []
    if not isinstance(notes, (list, tuple)):
        return []
    return [_clean(note) for note in notes if isinstance(note, str)]


def _cause(error: BaseException, depth: int) -> tuple[Atom, _Term] | None:
    if depth >= _MAX_CHAIN:
        return None
    if (cause := cause_of(error)) is not None:
        return (_CAUSE, _term(cause, depth + 1))
    if (context := context_of(error)) is not None and not _suppresses_context(error):
        return (_CONTEXT, _term(context, depth + 1))
    return None


def _text(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:
        text = "".join(line + "\n" for line in (f"{type_name(type(error))}: {_message(error)}", *_notes(error)))
    return _clean(text[:_MAX_TEXT])


def _clean(text: str) -> str:
    """A plain str that is valid UTF-8, whatever `text` was."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")
