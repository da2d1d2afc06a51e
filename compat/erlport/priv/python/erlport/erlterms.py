"""Terms of the BEAM as ErlPort's programs know them, and the codec for them.

The codec is that of typhon._native, with these classes in its table. Pids, references, ports, funs and bit strings are
OpaqueObjects with their own bytes; so is any Python object that the BEAM has nothing for, as a pickle. Reading a pickle runs
whatever code it names: where terms come from somebody who is not trusted, set TYPHON_ERLPORT_UNPICKLE=0 in the worker's
environment; they stay OpaqueObjects then.
"""

from __future__ import annotations

import os
import zlib

from typhon import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

PICKLE_PROTOCOL = 2

_UNPICKLE = os.environ.get("TYPHON_ERLPORT_UNPICKLE", "1") != "0"
_LONGEST_ATOM = 255


class MutationError(Exception):
    """A List, a Map or an ImproperList was to be changed."""


class IncompleteData(ValueError):
    """The data end inside a term."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        super().__init__(f"incomplete data: {data!r}")


def _refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
    raise MutationError(f"mutation disallowed on {type(self).__module__}.{type(self).__name__}")


def immutable(value: Any) -> Any:
    """`value`, or what stands for it inside of an immutable container."""
    if type(value) is dict:
        return Map(value)
    if type(value) is list:
        return List(value)
    return value


class Atom(bytes):
    """An atom: its name in UTF-8. There is one object for each name.

    Atom(b"name") takes bytes of at most 255 characters.
    """

    __slots__ = ()

    _all: dict[bytes, Atom] = {}

    def __new__(cls, name: bytes) -> Atom:
        if type(name) is cls:
            return name
        if not isinstance(name, bytes):
            raise TypeError(f"an Atom is made of bytes, not of {type(name).__name__}")
        known = cls._all.get(name)
        if known is not None:
            return known
        if len(name) > _LONGEST_ATOM and _characters(name) > _LONGEST_ATOM:
            raise ValueError(f"invalid atom length: an Atom has at most {_LONGEST_ATOM} characters")
        return cls._all.setdefault(bytes(name), super().__new__(cls, name))

    def __repr__(self) -> str:
        return f"Atom({bytes.__repr__(self)})"


def _characters(name: bytes) -> int:
    try:
        return len(name.decode())
    except UnicodeDecodeError:
        return len(name)


class List(list):  # type: ignore[type-arg]
    """A list, and a charlist: to_string() makes a str of it."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> List:
        new = super().__new__(cls)
        list.extend(new, map(immutable, list(*args)))
        return new

    def __init__(self, *args: Any) -> None:
        pass

    append = extend = insert = pop = remove = reverse = sort = __setitem__ = _refuse

    def to_string(self) -> str:
        """The str of these code points. Raises TypeError when an element is none."""
        return "".join(map(chr, self))

    def __repr__(self) -> str:
        return f"List({list.__repr__(self)})"

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return (List, (list(self),))


class Map(dict):  # type: ignore[type-arg]
    """A map: a dict that does not change, and so may be a key."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Map:
        new = super().__new__(cls)
        for key, value in dict(*args, **kwargs).items():
            dict.__setitem__(new, immutable(key), immutable(value))
        return new

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    clear = pop = popitem = setdefault = update = __setitem__ = __delitem__ = _refuse

    def __repr__(self) -> str:
        return f"Map({dict.__repr__(self)})"

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Map, (dict(self),))


class ImproperList(list):  # type: ignore[type-arg]
    """A list that does not end in []: ImproperList([1, 2], 3) is [1, 2 | 3]."""

    __slots__ = ("tail",)

    tail: Any

    def __new__(cls, items: list[Any], tail: Any) -> ImproperList:
        if not isinstance(items, list):
            raise TypeError(f"the items of an ImproperList are a list, not {type(items).__name__}")
        if not items:
            raise ValueError("an ImproperList has at least one item before its tail")
        if isinstance(tail, list):
            raise TypeError("the tail of an ImproperList is no list")
        new = super().__new__(cls)
        list.extend(new, map(immutable, items))
        object.__setattr__(new, "tail", tail)
        return new

    def __init__(self, items: list[Any], tail: Any) -> None:
        pass

    append = extend = insert = pop = remove = reverse = sort = __setitem__ = _refuse
    __setattr__ = _refuse

    def __eq__(self, other: object) -> bool:
        return type(other) is ImproperList and list.__eq__(self, other) and bool(self.tail == other.tail)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:  # type: ignore[override]
        return hash((tuple(self), self.tail))

    def __repr__(self) -> str:
        return f"ImproperList({list.__repr__(self)}, {self.tail!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (ImproperList, (list(self), self.tail))


class OpaqueObject:
    """A value of another language, which goes back as it came. language: Atom(b"erlang") for what only the BEAM has."""

    __slots__ = ("data", "language")

    marker = Atom(b"$erlport.opaque")

    def __init__(self, data: bytes, language: Atom) -> None:
        if type(data) is not bytes:
            raise TypeError(f"the data of an OpaqueObject are bytes, not {type(data).__name__}")
        if type(language) is not Atom:
            raise TypeError(f"the language of an OpaqueObject is an Atom, not {type(language).__name__}")
        self.data = data
        self.language = language

    @classmethod
    def decode(cls, data: bytes, language: Atom) -> Any:
        """The object that `data` stand for, if they are Python's own, else an OpaqueObject."""
        if language == b"python" and _UNPICKLE:
            import pickle

            return pickle.loads(data)
        return cls(data, language)

    def encode(self) -> bytes:
        """The term that stands for it, without the version byte: of Erlang's own the bytes that it was made of, whatever they are."""
        return self.data if self.language == b"erlang" else encode_term(self)

    def __eq__(self, other: object) -> bool:
        return type(other) is OpaqueObject and self.language == other.language and self.data == other.data

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((OpaqueObject, self.language, self.data))

    def __repr__(self) -> str:
        return f"OpaqueObject({self.data!r}, {self.language!r})"


def _pickle(value: object) -> bytes:
    import pickle

    return pickle.dumps(value, PICKLE_PROTOCOL)


_native.erlport_types(Atom, List, Map, ImproperList, OpaqueObject, _pickle, OpaqueObject.decode)


def decode(data: bytes) -> tuple[Any, bytes]:
    """The term at the start of `data`, in External Term Format, and what comes behind it.

    Raises IncompleteData when they end inside of the term, ValueError for what is none.
    """
    term, size = _native.erlport_decode(data)
    if size == 0:
        raise IncompleteData(data)
    return term, data[size:]


def decode_term(data: bytes) -> tuple[Any, bytes]:
    """The same for a term without its version byte."""
    try:
        return decode(b"\x83" + data)
    except IncompleteData:
        raise IncompleteData(data) from None


def encode(term: object, compressed: bool | int = False) -> bytes:
    """`term` in External Term Format. compressed: zlib's level from 0 to 9, or True for its default; what does not become shorter
    stays as it is.

    Raises ValueError for an object that cannot be pickled.
    """
    data = _native.erlport_encode(term)
    if not compressed:
        return data
    level = 6 if compressed is True else compressed
    if not 0 <= level <= 9:
        raise ValueError(f"invalid compression level: {level!r}")
    plain = memoryview(data)[1:]
    packed = zlib.compress(plain, level)
    if len(packed) + 5 > len(plain):
        return data
    return b"\x83P" + len(plain).to_bytes(4, "big") + packed


def encode_term(term: object) -> bytes:
    """The same without the version byte."""
    return _native.erlport_encode(term)[1:]
