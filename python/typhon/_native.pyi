"""The native part of typhon. Import typhon instead; where a thing is defined for users, its docstring says so."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Literal, NoReturn, SupportsIndex, TypeVar, final, overload

from typing_extensions import Buffer

_T = TypeVar("_T")

@final
class Atom:
    """An atom of the BEAM. Atoms of one name are one object, so `is` and `==` agree; an atom never equals a str. Elixir's options
    keys: :strings and values: :strings send strings in place of atoms.

    None, True and False stand for the atoms nil, true and false: decoding never gives an Atom of those names.
    """

    __match_args__: Final = ("name",)
    def __new__(cls, name: str) -> Atom:
        """Raises ValueError when the name has more than 255 characters or a lone surrogate."""

    @property
    def name(self) -> str: ...
    def __hash__(self) -> int: ...
    def __float__(self) -> float:
        """Of the atoms nan, infinity and neg_infinity, which these floats are in Elixir. Raises TypeError for any other."""

@final
class Pid:
    """A process of the BEAM. Opaque and immutable; goes back as it came."""

    __match_args__: Final = ("node", "id", "serial", "creation")
    @property
    def node(self) -> Atom: ...
    @property
    def id(self) -> int: ...
    @property
    def serial(self) -> int: ...
    @property
    def creation(self) -> int: ...
    def __hash__(self) -> int: ...

@final
class Reference:
    """A reference of the BEAM. Opaque and immutable; goes back as it came."""

    __match_args__: Final = ("node", "ids", "creation")
    @property
    def node(self) -> Atom: ...
    @property
    def ids(self) -> tuple[int, ...]: ...
    @property
    def creation(self) -> int: ...
    def __hash__(self) -> int: ...

@final
class Port:
    """A port of the BEAM. Opaque and immutable; goes back as it came."""

    __match_args__: Final = ("node", "id", "creation")
    @property
    def node(self) -> Atom: ...
    @property
    def id(self) -> int: ...
    @property
    def creation(self) -> int: ...
    def __hash__(self) -> int: ...

@final
class Fun:
    """A function of the BEAM. Opaque and immutable; goes back as it came."""

    __match_args__: Final = ("module", "function", "arity")
    @property
    def module(self) -> Atom: ...
    @property
    def function(self) -> Atom | None:
        """None for a closure."""

    @property
    def arity(self) -> int: ...
    def __hash__(self) -> int: ...

@final
class BitString:
    """A bit string of the BEAM: the first `bit_size` bits of `data`, the unused ones at the end zero."""

    __match_args__: Final = ("data", "bit_size")
    def __new__(cls, data: Buffer, bit_size: SupportsIndex) -> BitString:
        """Raises ValueError when data has more or fewer bytes than that many bits need."""

    @property
    def data(self) -> bytes: ...
    @property
    def bit_size(self) -> int: ...
    def __len__(self) -> int:
        """The number of bits."""

    def __hash__(self) -> int: ...

@final
class ImproperList:
    """A list of the BEAM that does not end in []: [items... | tail]. Hashable when its items and tail are."""

    __match_args__: Final = ("items", "tail")
    def __new__(cls, items: Iterable[Any], tail: Any) -> ImproperList:
        """Raises ValueError when items is empty or tail is a list."""

    @property
    def items(self) -> tuple[Any, ...]: ...
    @property
    def tail(self) -> Any: ...
    def __hash__(self) -> int: ...

@final
class Section:
    """`with Section(before, after):` calls both, each without an interrupt in its midst."""

    def __new__(cls, before: Callable[[], Any], after: Callable[[], Any], /) -> Section: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *error: object) -> Literal[False]: ...

class Kept:
    """Around a result that stays in Python, whatever it is: the BEAM gets a handle of `value`."""

    __match_args__: Final = ("value",)
    def __new__(cls, value: Any, /) -> Kept: ...
    @property
    def value(self) -> Any: ...

class TyphonError(Exception):
    """The base of the errors of typhon."""

class EncodeError(TyphonError, ValueError):
    """A value that cannot go to the BEAM."""

    path: str
    """Where it is, such as 'result["rows"][3]'."""
    reason: str
    """What is wrong with it."""
    type_name: str
    """Its type."""

class DecodeError(TyphonError, ValueError):
    """Bytes that are no term, or a term that Python cannot hold."""

    path: str
    """Where in the term, such as 'args[0]["user"]'."""
    reason: str
    """What is wrong with it."""
    offset: int
    """Its first byte."""
    code: Literal[
        "truncated", "invalid", "unsupported", "too_deep", "too_large", "too_many_atoms", "trailing", "value"
    ]
    """What is wrong with the bytes; 'value' for a well-formed term without a counterpart in Python."""

class Cancelled(BaseException):
    """Raised in a running call whose caller gave up: its time is over, or the caller is gone.

    Like KeyboardInterrupt it is no Exception, so that `except Exception` does not swallow it.
    """

def encode(obj: Any, /, *, max_depth: int = 10_000, mapset_version: bool = False, duration: bool = False, tagged: bool = False) -> bytes:
    """Return obj in Erlang's External Term Format, version byte included.

    max_depth: containers inside one another.
    mapset_version: give a MapSet the field `version`, which older versions of Elixir have.
    duration: a timedelta is a Duration, which Elixir has from 1.17 on, and no tuple.
    tagged: a Fraction and a complex number are the tuples {:fraction, numerator, denominator} and {:complex, real, imaginary}.

    Raises EncodeError for a value that has no counterpart on the BEAM.
    """

def decode(
    data: Buffer,
    /,
    *,
    max_depth: int = 10_000,
    max_atoms: int = 1_048_576,
    max_inflated: int = 268_435_456,
    tagged: bool = False,
) -> Any:
    """Return the object that data, one whole term in Erlang's External Term Format, stands for.

    data: bytes, or anything with the buffer protocol. A Typhon.Buffer or Typhon.Array inside becomes a view of it
    when it is read-only, and of a copy otherwise.
    max_depth: containers inside one another. max_atoms: atoms not met before.
    max_inflated: bytes that a compressed term may expand to.
    tagged: such tuples are a Fraction and a complex number again.

    Raises DecodeError for other bytes, and for a term that Python cannot hold.
    """

def forget_conversions() -> None: ...
def register_encoder(cls: type[Any], function: Callable[[Any], object], /) -> None:
    """For typhon.encoder alone."""

def register_decoder(name: str | Atom, function: Callable[[dict[str, Any]], object], /) -> None:
    """For typhon.decoder alone."""

# The dialect of ErlPort; for erlport.erlterms.
def erlport_types(
    atom: type,
    list_: type,
    map_: type,
    improper_list: type,
    opaque: type,
    dump: Callable[[Any], bytes],
    load: Callable[[bytes, Any], Any],
    /,
) -> None: ...
def erlport_encode(obj: object, /) -> bytes: ...
def erlport_decode(data: Buffer, /) -> tuple[Any, int]:
    """The term at the start of data and its size; (None, 0) when data end inside of it."""

def run_worker(beam_pid: int, fd: int, control_fd: int, greeting: dict[str, Any], settings: dict[str, int], coroutine_type: type, prepare: Callable[[dict[str, int]], None], /) -> int:
    """Serve the channel until the BEAM lets go of it; the exit code. For typhon._worker alone."""

def leave(code: int, /) -> NoReturn:
    """End the process at once, with what it has started when the BEAM lets go of it. For typhon._worker alone."""

# The following are for typhon itself; they raise RuntimeError where no worker runs. `call`: None means the call that this
# thread serves, 0 none at all.
def ask(term: object, call: int | None, waits_for: int | None = ..., serves_all: bool = False, /) -> tuple[bool, Any]:
    """Ask the BEAM and wait for the answer: (whether it went well, the answer). Serves nested calls meanwhile, or all that come.

    waits_for: the call whose code this is, `call` unless given. Raises Cancelled when that is given up.
    """

def tell(term: object, call: int | None, /) -> None: ...
def send(pid: object, message: object, /) -> None: ...
def receive(seconds: float, waits_for: int | None, /) -> Any: ...
def message_now() -> tuple[Any] | None: ...
def set_handler(handler: Callable[[Any], object] | None, /) -> None: ...
def this_call() -> int: ...
def serves_for(call: int, /) -> bool:
    """Whether the call of this thread belongs to an answer that `call` waits for, at any remove."""

def then(function: Callable[..., Any], args: tuple[Any, ...], next: Callable[[Any], _T], /) -> _T: ...
def serve_one_for(call: int, /) -> bool:
    """Serve one call that waits and belongs to such an answer, in this thread; False when there is none."""

def captures(call: int, /) -> bool: ...
def set_flush(flush: Callable[[], None], /) -> None: ...
def need_flush(call: int, /) -> None: ...
def nap(seconds: float, /) -> bool: ...
def max_result() -> int: ...
def forked() -> bool: ...
def set_invoke(function: Callable[[bytes, bytes, list[Any]], Any] | None, /) -> None:
    """In the dialect of ErlPort: makes the calls in the worker's stead."""

def loop_enter() -> None: ...
def loop_attach() -> int: ...
def loop_take() -> tuple[
    list[tuple[int, Coroutine[Any, Any, Any], int]], list[tuple[int, tuple[bool | None, Any]]], list[int]
]: ...
def loop_listen(listens: bool, /) -> None: ...
def loop_ask(term: object, call: int | None, /) -> int | None: ...
def loop_forget(tag: int, /) -> None: ...
def loop_done(token: int, value: object, /) -> None: ...
def loop_failed(token: int, error: BaseException, /) -> None: ...
def loop_cancelled(token: int, /) -> None: ...
def trim_own() -> None: ...
def wind_up() -> bool: ...
def let_go() -> None: ...
def limit_numpy(api: object, /) -> bool: ...
def serve_thread() -> None: ...

@overload
def unencodable(results: list[Any], /) -> list[tuple[int, str, str, str]]: ...
@overload
def unencodable(results: list[Any], awaited: type, /) -> list[tuple[int, str, str, str]] | None:
    """(index, path, type, reason) of each element that cannot cross to the BEAM; None when one is of the type `awaited`.
    For typhon._bulk alone."""
