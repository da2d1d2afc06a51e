"""Large binaries: what is made of them, kept, and sent back."""

import hashlib
import os
import time
from typing import Any

import typhon

kept: list[Any] = []


def digest(value: Any) -> str:
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()


def echo(*args: Any, **kwargs: Any) -> Any:
    return (list(args), kwargs) if kwargs else list(args)


def describe(value: Any) -> tuple[str, bool | None, int]:
    return type(value).__name__, getattr(value, "readonly", None), len(value)


def keep(value: Any) -> int:
    kept.append(value)
    return len(kept)


def kept_digests() -> list[str]:
    return [digest(value) for value in kept]


def drop() -> int:
    kept.clear()
    return 0


def write(view: memoryview) -> None:
    view[0] = 1


def make(size: int, kind: str = "bytes") -> Any:
    data = bytes(i % 251 for i in range(251)) * (size // 251 + 1)
    data = data[:size]
    return {
        "bytes": lambda: data,
        "bytearray": lambda: bytearray(data),
        "memoryview": lambda: memoryview(data),
        "slice": lambda: memoryview(b"xy" + data + b"z")[2:-1],
        "strided": lambda: memoryview(bytes(b for byte in data for b in (byte, 0)))[::2],
        "of a bytearray": lambda: memoryview(bytearray(data)).toreadonly(),
        "text": lambda: "ab" * (size // 2),
        "umlauts": lambda: "ä" * (size // 2),
    }[kind]()


def many(count: int, size: int) -> list[bytes]:
    return [bytes([i % 256]) * size for i in range(count)]


def mutate_afterwards(size: int) -> bytearray:
    """The caller gets what it was, whatever happens to it later."""
    buffer = bytearray(b"a" * size)
    kept.append(buffer)
    return buffer


def overwrite() -> None:
    for buffer in kept:
        buffer[:] = b"b" * len(buffer)


def released(size: int) -> memoryview:
    """A view whose owner lets go of it as soon as it has been sent."""
    view = memoryview(b"v" * size)
    kept.append(view)
    return view


def release() -> None:
    for view in kept:
        view.release()
    kept.clear()


def keys(size: int) -> dict[Any, Any]:
    return {b"k" * size: b"v" * size, ("t" * size, 1): 1}


def equal_keys(size: int) -> dict[Any, Any]:
    return {b"k" * size: 1, "k" * size: 2}


def elements(size: int) -> set[Any]:
    return {b"e" * size, "f" * size}


def yields(count: int, size: int) -> Any:
    for i in range(count):
        yield bytes([i]) * size


def call_back(size: int) -> Any:
    return typhon.call("Elixir.Typhon.LoanTest", "reverse", [b"12" * (size // 2)])


def send(pid: typhon.Pid, size: int) -> None:
    typhon.send(pid, ("large", b"s" * size))


def receive() -> str:
    return digest(typhon.receive(timeout=30))


def sleep(seconds: float, *args: Any) -> int:
    time.sleep(seconds)
    return len(args)


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)


def total(parts: Any) -> int:
    return sum(len(part) for part in parts)


def array(count: int) -> Any:
    import numpy

    return numpy.arange(count, dtype="<f8")


def array_info(value: Any) -> Any:
    return type(value).__name__, bool(value.flags.writeable), float(value.sum())
