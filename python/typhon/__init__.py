"""Typhon joins the BEAM (Elixir, Erlang) with Python.

The types here stand for values of the BEAM that Python has no type for; `encode` and `decode` are the codec that every
call goes through. Which value becomes which is specified in docs/internals.md ("Values on the wire").
"""

from typhon._native import (
    Atom,
    BitString,
    Cancelled,
    DecodeError,
    EncodeError,
    Fun,
    ImproperList,
    Pid,
    Port,
    Reference,
    TyphonError,
    decode,
    encode,
)

__all__ = [
    "Atom",
    "BitString",
    "Cancelled",
    "DecodeError",
    "EncodeError",
    "Fun",
    "ImproperList",
    "Pid",
    "Port",
    "Reference",
    "TyphonError",
    "decode",
    "encode",
]
