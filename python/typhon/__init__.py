"""Typhon joins the BEAM (Elixir, Erlang) with Python.

The types here stand for values of the BEAM that Python has no type for; `encode` and `decode` are the codec that every
call goes through. Which value becomes which is specified in docs/internals.md ("Values on the wire").
"""

import sys

if "t" in sys.abiflags:
    from typhon import _free_threaded

    _free_threaded.check()

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

# What is imported when it is first used: a worker's start does not pay for it.
_LAZY = {
    "BeamError": "_beam",
    "Elixir": "_beam",
    "Iter": "_beam",
    "call": "_beam",
    "caller": "_beam",
    "decoder": "_conversions",
    "encoder": "_conversions",
    "erlang": "_beam",
    "on_message": "_beam",
    "receive": "_beam",
    "self": "_beam",
    "send": "_beam",
    "aio": "_aio",
    "loop": "_aio",
    "mailbox": "_aio",
}


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'typhon' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"typhon.{module}"), name)
    return value


__all__ = [
    "Atom",
    "BeamError",
    "BitString",
    "Cancelled",
    "DecodeError",
    "Elixir",
    "EncodeError",
    "Fun",
    "ImproperList",
    "Iter",
    "Pid",
    "Port",
    "Reference",
    "TyphonError",
    "aio",
    "call",
    "caller",
    "decode",
    "decoder",
    "encode",
    "encoder",
    "erlang",
    "loop",
    "mailbox",
    "on_message",
    "receive",
    "self",
    "send",
]
