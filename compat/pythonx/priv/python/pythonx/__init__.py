"""What code of Pythonx finds of the BEAM: a pid that it was handed, and a way to send an object to it."""

from __future__ import annotations

import typhon
from typhon._native import Kept

_FROM_PYTHON = "Elixir.Pythonx.FromPython"


class PID:
    """A process of the BEAM. It comes with the globals, and cannot be made here."""

    __slots__ = ("_pid",)

    def __init__(self, pid: typhon.Pid | None = None) -> None:
        if type(pid) is not typhon.Pid:
            raise TypeError("a pythonx.PID cannot be made in Python: pass the pid as one of the globals")
        self._pid = pid

    def __repr__(self) -> str:
        return "<pythonx.PID>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PID) and other._pid == self._pid

    def __hash__(self) -> int:
        return hash(self._pid)


def send_tagged_object(pid: PID, tag: str, object: object) -> None:
    """Send `{tag, object}` to a process: the tag is an atom there, the object a Pythonx.Object."""
    if not isinstance(pid, PID):
        raise TypeError(f"the receiver must be a pythonx.PID, not {type(pid).__name__}")
    if not isinstance(tag, str):
        raise TypeError(f"the tag must be a str, not {type(tag).__name__}")
    typhon.call(_FROM_PYTHON, "send_object", [pid._pid, tag, Kept(object)])
