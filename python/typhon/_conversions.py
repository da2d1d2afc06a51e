"""Objects of your own on their way to the BEAM, and structs of Elixir's on their way here.

What is registered holds for the interpreter: put it into a module that each worker imports before its first call (the
pool's `:init`).
"""

from __future__ import annotations

from typhon._native import register_decoder, register_encoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from typhon import Atom

    T = TypeVar("T")
    Encode = Callable[[T], object]
    Decode = Callable[[dict[str, Any]], object]


def encoder(cls: type[T], /) -> Callable[[Encode[T]], Encode[T]]:
    """Register the decorated function for `cls` and what derives from it: it gets an instance, and what it returns is sent.

        @typhon.encoder(Money)
        def money(value):
            return {"amount": value.amount, "currency": value.currency}

    The nearest class counts. What is returned may hold objects with an encoder in turn. A later one for the same class
    takes the place of the first. When it raises, or returns the object itself, that is an EncodeError with the place of the
    object.

    Raises TypeError for what is no class, and for classes whose instances have a form of their own: int, float, bool,
    str, bytes, list, tuple, dict, None's, typhon.Atom, and object.
    """

    def register(function: Encode[T]) -> Encode[T]:
        register_encoder(cls, function)
        return function

    return register


def decoder(name: str | Atom, /) -> Callable[[Decode], Decode]:
    """Register the decorated function for the struct of this name, such as "Elixir.MyApp.User": what it returns is the argument.

        @typhon.decoder("Elixir.MyApp.User")
        def user(fields):
            return User(**fields)

    It gets the fields as a dict with str keys; what they hold has been decoded. Such a struct has `@derive {Typhon.Encoder,
    as: :struct}` in Elixir; without a decoder Python code sees that dict. When it raises, that is a DecodeError with the place
    of the struct.

    Raises ValueError for a name that no struct has, and for structs that Python has a type for, such as "Elixir.Date".
    """

    def register(function: Decode) -> Decode:
        register_decoder(name, function)
        return function

    return register
