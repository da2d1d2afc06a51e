"""A worker that writes frames of its own into the reply ring (docs/protocol.md). The native worker knows nothing of them, so
whoever has begun with it never goes back: Python's own part of the channel is lost."""

import ctypes
import struct
import time

import converse
import typhon
from typhon import _native

READY, ASK, SEND = 1, 7, 8
REPLY_TAIL, REPLY_HEAD, READER_WORD = 256, 320, 384
ASLEEP, TIMED = 1, 3
FUTEX, FUTEX_WAKE = 202, 1
# The header, and the claims.
BEFORE_RINGS = 64 * 1024 + 4 * 1024 * 1024


def _mapped_at(offset):
    for line in open("/proc/self/maps"):
        fields = line.split()
        if "memfd:typhon" in line and int(fields[2], 16) == offset:
            return int(fields[0].split("-")[0], 16)
    raise LookupError(offset)


class Ring:
    def __init__(self):
        self.header = _mapped_at(0)
        self.size = ctypes.c_uint64.from_address(self.header + 16).value
        self.memory = _mapped_at(BEFORE_RINGS + self.size)

    def _count(self, offset):
        return ctypes.c_uint64.from_address(self.header + offset)

    def put(self, kind, value, id=0, tag=0):
        body = _native.encode(value)
        frame = struct.pack("<IBBHQ5Q", 56 + len(body), kind, 0, 0, id, tag, 0, 0, 0, 0) + body
        size = (len(frame) + 7) & ~7
        tail = self._count(REPLY_TAIL)
        while tail.value + size - self._count(REPLY_HEAD).value > self.size:
            self.ring()
            time.sleep(0.001)
        ctypes.memmove(self.memory + tail.value % self.size, frame, len(frame))
        tail.value += size

    def ring(self):
        word = ctypes.c_uint32.from_address(self.header + READER_WORD)
        if word.value in (ASLEEP, TIMED):
            word.value = 0
            ctypes.CDLL(None).syscall(FUTEX, ctypes.c_void_p(self.header + READER_WORD), FUTEX_WAKE, 1, None, None, 0)


def write(frames, then=600):
    """frames: of (kind, value, id, tag)."""
    ring = Ring()
    for kind, value, id, tag in frames:
        ring.put(kind, value, id, tag)
    until = time.monotonic() + then
    while time.monotonic() < until:
        ring.ring()
        time.sleep(0.01)


def ask_without_end(tag):
    """Questions of nobody (tag 1), or statements (0), as fast as they go."""
    question = (typhon.Atom("call"), "timer", "sleep", [600_000]) if tag else (typhon.Atom("send"), typhon.Atom("error"), 1)
    write((ASK, question, 0, tag) for _ in range(400_000))


def ask_in_a_name(function):
    """Its caller is busy with a first question."""
    call = _native.this_call()

    def frames():
        yield ASK, (typhon.Atom("apply"), function, []), call, 1
        for _ in range(400_000):
            yield ASK, (typhon.Atom("print"), "x\n"), call, 0

    write(frames())


def ask_in_a_lost_name():
    """Of a call that there is not."""
    write((ASK, (typhon.Atom("caller"),), 0xFFFFFF00000001, 7) for _ in range(400_000))


def greet_as(os_pid):
    write([(READY, {"version": "3", "executable": "", "os_pid": os_pid}, 0, 0)])


def control(others):
    """As often as it takes for the BEAM to say that it has heard: to itself, and to others."""
    atom, own = typhon.Atom, typhon.self()
    messages = [
        (atom("system"), (atom("init"), atom("stop")), atom("suspend")),
        (atom("$gen_cast"), atom("retire")),
        (atom("EXIT"), own, atom("kill")),
        (atom("typhon"), 1, atom("served")),
        (converse.forged_reference(), (atom("ok"), 1)),
    ]
    # To pids they go as messages, to names as questions.
    to_itself = [(SEND, (own, message), 0, 0) for message in messages]
    to_others = [
        (SEND, (to, message), 0, 0) if isinstance(to, typhon.Pid) else (ASK, (atom("send"), to, message), 0, 0)
        for to in others
        for message in messages
    ]
    write((to_others or to_itself) * 60)


def send_to(dest, message):
    """dest: a pid as it is written, or a name. As often as it takes for the BEAM to say that it has heard."""
    if dest.startswith("<"):
        frame = SEND, (converse.forged_pid(dest), message), 0, 0
    else:
        frame = ASK, (typhon.Atom("send"), typhon.Atom(dest), message), 0, 0
    write([frame] * 256)
