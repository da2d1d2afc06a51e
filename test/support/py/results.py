"""For results_test.exs: what a worker can do to the memory that its results come in, and results of every size.

`Channel` writes to the shared region behind the native module's back, as docs/protocol.md lays it out.
"""

import ctypes
import os
import platform
import struct
import threading
import time
import zlib

import typhon

_LIBC = ctypes.CDLL(None, use_errno=True)
_FUTEX = 202 if platform.machine() == "x86_64" else 98
_FUTEX_WAKE = 1
# The header, and the claims.
_BEFORE_RINGS = 64 * 1024 + 4 * 1024 * 1024
_REQUEST_HEAD, _REPLY_TAIL, _READER_WORD = 128, 256, 384
_REPLY, _SEND = 5, 8
_IN_SEGMENT, _PLAIN = 1, 8


class Channel:
    """The region of this worker, found among its mappings."""

    def __init__(self):
        self.header = _mapped(0)
        self.ring_size, self.arena_size = struct.unpack("<QQ", ctypes.string_at(self.header + 16, 16))
        self.requests = _mapped(_BEFORE_RINGS)
        self.replies = _mapped(_BEFORE_RINGS + self.ring_size)
        self.arena = _mapped(_BEFORE_RINGS + 2 * self.ring_size + self.arena_size)

    def count(self, offset):
        return ctypes.c_uint64.from_address(self.header + offset)

    def call_id(self):
        """Of the request that was taken last; the ring must not have come to its end yet."""
        at, found = 0, 0
        while at < self.count(_REQUEST_HEAD).value:
            size, kind = struct.unpack("<IB", ctypes.string_at(self.requests + at, 5))
            if kind == 2:
                (found,) = struct.unpack("<Q", ctypes.string_at(self.requests + at + 8, 8))
            at += (size + 7) & ~7
        return found

    def write(self, frame):
        tail = self.count(_REPLY_TAIL)
        at = self.replies + tail.value % self.ring_size
        ctypes.memmove(at, frame, len(frame))
        tail.value += (len(frame) + 7) & ~7

    def ring(self):
        word = ctypes.c_uint32.from_address(self.header + _READER_WORD)
        if word.value in (1, 3):
            word.value = 0
            _LIBC.syscall(_FUTEX, ctypes.c_void_p(self.header + _READER_WORD), _FUTEX_WAKE, 1, None, None, 0)

    def answer(self, call, body):
        """A frame with its body in it."""
        self.write(struct.pack("<IBBHQ5Q", 56 + len(body), _REPLY, 0, 0, call, 0, 0, 0, 0, 0) + body)

    def claim(self, kind, call, offset, length, slot=4000):
        """A frame whose body is said to be `length` bytes of the arena, for the emulator's own decoder."""
        header = struct.pack("<IBBHQ5Q", 56 + 24, kind, _IN_SEGMENT | _PLAIN, 0, call, 0, 0, 0, 0, 0)
        self.write(header + struct.pack("<QQQ", slot, offset, length))


def _mapped(offset):
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "memfd:typhon" in line:
                span, _, start, *_ = line.split()
                begin, end = (int(part, 16) for part in span.split("-"))
                if 0 <= offset - int(start, 16) < end - begin:
                    return begin + offset - int(start, 16)
    raise RuntimeError("the channel's region is not mapped")


def _stay():
    """The native module knows nothing of the frames that were written: it must not write one itself."""
    while True:
        time.sleep(3600)


def blank(size):
    return bytes(size)


def fail_with(size):
    raise KeyError("k", "x" * size)


async def fail_with_later(size):
    fail_with(size)


def fail_with_all(size):
    """Everything that an exception can have is large."""
    error = type("E" * size, (ValueError,), {})("é" * size)
    error.add_note("n" * size)
    try:
        fail_with(size)
    except KeyError:
        exec(compile("raise error  #" + "y" * size, "f" * size, "exec"))


def sized(size):
    """A result of so many bytes, or an exception."""
    if size < 0:
        fail_with(-size)
    return ["x" * size] if size % 2 else bytes(size)


async def sized_later(size):
    return sized(size)


def blobs(count, size):
    for i in range(count):
        yield b"%d" % i + bytes(size - 1)


async def blobs_later(count, size):
    for blob in blobs(count, size):
        yield blob


def growing(count):
    yield from range(count)
    for _ in range(3):
        yield "x" * 1_040_000
        yield [bytes(1_040_000)]
        yield {"in": bytearray(1_040_000)}
        yield memoryview(bytes(1_040_000))


async def growing_later(count):
    for element in growing(count):
        yield element


def hidden(count, size):
    """Deeper than it is looked for when a batch is weighed."""
    for _ in range(count):
        yield [[[[["x" * size]]]]]


def text(size):
    return "x" * size


def zeros(count):
    """A list: each element takes two bytes on its way."""
    return [0] * count


def parts(size):
    """Eight small parts and one large one."""
    return [[bytes([number]) * 100 for number in range(8)], bytes(size)]


def two_encodings(size):
    """Of different terms, equally long: a binary, and a list that takes many times the memory."""
    count = (size - 7) // 2
    one = b"\x83m" + struct.pack(">I", 2 * count + 1) + b"b" * (2 * count + 1)
    other = b"\x83l" + struct.pack(">I", count) + b"a\x07" * count + b"j"
    assert len(one) == len(other)
    return one, other


class _Scribbler(threading.Thread):
    """Writes one body and then another to the start of the reply arena, again and again."""

    def __init__(self, bodies):
        super().__init__(daemon=True)
        self.bodies = bodies
        self.rounds = 0

    def run(self):
        arena = Channel().arena
        while True:
            for body in self.bodies:
                ctypes.memmove(arena, body, len(body))
            self.rounds += 1


_scribbler = None


def scribble(size):
    global _scribbler
    _scribbler = _Scribbler([typhon.encode(body) for body in two_encodings(size)])
    _scribbler.start()


def rounds():
    return _scribbler.rounds if _scribbler else 0


def encoding(size):
    return two_encodings(size)[0]


def claim_unwritten(length):
    channel = Channel()
    channel.claim(_REPLY, channel.call_id(), 1 << 30, length)
    channel.ring()
    _stay()


def claim_many(length, count):
    """Messages in nobody's name, and an answer of the same kind."""
    channel = Channel()
    for number in range(count):
        channel.claim(_SEND, 0, (1 << 30) + 4096 * number, length)
    channel.claim(_REPLY, channel.call_id(), 1 << 30, length)
    channel.ring()
    _stay()


def _compressed(size):
    """A list that is small on its way."""
    return b"\x83P" + struct.pack(">I", size + 6) + zlib.compress(b"l" + struct.pack(">I", size) + b"j" * (size + 1), 1)


def answer_compressed(size):
    """In the ring."""
    channel = Channel()
    channel.answer(channel.call_id(), _compressed(size))
    channel.ring()
    _stay()


def claim_compressed(size):
    body = _compressed(size)
    channel = Channel()
    ctypes.memmove(channel.arena, body, len(body))
    channel.claim(_REPLY, channel.call_id(), 0, len(body))
    channel.ring()
    _stay()


def claim_written(body, length):
    """An answer in the arena that the native module has not seen, and that is `length` bytes by its own account."""
    channel = Channel()
    ctypes.memmove(channel.arena, body, len(body))
    ctypes.memset(channel.arena + len(body), 0, length - len(body))
    channel.claim(_REPLY, channel.call_id(), 0, length)
    channel.ring()
    _stay()


def send_large(pid, size, count):
    for number in range(count):
        typhon.send(pid, (number, bytes(size)))


def ask_large(function, size):
    return function(bytes(size))


def ask_refused(function, size):
    try:
        function(bytes(size))
    except typhon.EncodeError as error:
        return str(error)
    return "it was sent"


def pid():
    return os.getpid()
