"""A worker that turns against the BEAM. Either its channel is served as ever, while threads of C (test/support/hostile/hostile.c)
store into the memory that it shares with the BEAM; or Python takes the channel over and plays the worker itself: `puppet`
does with the frames what each call says.

It knows the memory from docs/protocol.md alone, as an attacker would.
"""

import ctypes
import errno
import fcntl
import os
import signal
import struct
import time

import typhon

WORDS = {
    "request_tail": (64, 8),
    "request_head": (128, 8),
    "worker_word": (192, 4),
    "reply_tail": (256, 8),
    "reply_head": (320, 8),
    "reader_word": (384, 4),
    "request_room": (448, 4),
    "reply_room": (512, 4),
    "suspended": (576, 8),
    "closing": (640, 4),
    "request_slots": (704, 4),
    "reply_slots": (17088, 4),
    "casts_done": (33472, 8),
    "request_leavings": (33536, 4),
    "request_swept": (33600, 8),
    "reply_leavings": (33664, 4),
    "reply_swept": (33728, 8),
    "heard": (33792, 8),
    "heard_room": (33856, 4),
    "imports": (33920, 8),
    "claims": (65536, 4),
}
HEADER = 64 * 1024
# What lies between the header and the rings, by the version of the protocol.
CLAIMS = {1: 0, 2: 4 * 1024 * 1024}
SLOTS = 4096
# Of an arena so much is stored into: each page that is touched takes memory.
ARENA = 4 * 1024 * 1024
MASK = (1 << 64) - 1
CALL, REPLY = 2, 5
IN_SEGMENT = 1


class Region:
    """The shared memory, where the worker has mapped it."""

    def __init__(self, library):
        self.hands = ctypes.CDLL(library)
        self._mappings = []
        with open("/proc/self/maps") as maps:
            for line in maps:
                if "/memfd:typhon" in line:
                    addresses, _, offset = line.split()[:3]
                    start, end = (int(part, 16) for part in addresses.split("-"))
                    self._mappings.append((start, end, int(offset, 16)))
        self.header = self._at(0)
        version, _, self.ring_size, arena_size = struct.unpack_from("=IIQQ", ctypes.string_at(self.header, 64), 8)
        rings = HEADER + CLAIMS[version]
        self.request_ring = self._at(rings)
        self.reply_ring = self._at(rings + self.ring_size)
        self.request_arena = self._at(rings + 2 * self.ring_size)
        self.reply_arena = self._at(rings + 2 * self.ring_size + arena_size)

    def _at(self, offset):
        for start, end, first in self._mappings:
            if first <= offset < first + end - start:
                return start + offset - first
        raise LookupError(f"nothing is mapped at {offset}")

    def get(self, name):
        offset, width = WORDS[name]
        return int.from_bytes(ctypes.string_at(self.header + offset, width), "little")

    def put(self, name, value, index=0):
        offset, width = WORDS[name]
        word = ctypes.c_uint64 if width == 8 else ctypes.c_uint32
        word.from_address(self.header + offset + width * index).value = value & (MASK if width == 8 else 0xFFFFFFFF)

    def ring_reader(self):
        self.hands.hostile_ring(ctypes.c_uint64(self.header + WORDS["reader_word"][0]))

    def parts(self):
        rings = [(self.request_ring, self.ring_size), (self.reply_ring, self.ring_size)]
        arenas = [(self.request_arena, ARENA), (self.reply_arena, ARENA)]
        # With the claims of the first calls.
        flat = [number for part in [(self.header, 2 * HEADER), *rings, *arenas] for number in part]
        return (ctypes.c_uint64 * len(flat))(*flat)


# --- what honest calls do ---


def apply_to(function, value):
    return function(value)


def tell(pid):
    typhon.send(pid, typhon.Atom("told"))


# --- beside an honest worker ---


def scribble(library, seed, targets, burst, pause_us):
    """Random stores from now on; `targets` as in hostile.c."""
    region = Region(library)
    parts = region.parts()
    failed = region.hands.hostile_scribble(parts, ctypes.c_uint64(seed), targets, burst, pause_us)
    return failed == 0


def store(library, stores):
    """Each of [word, value] or [word, value, index], once. A value may be ["+", n], from what lies there."""
    region = Region(library)
    _store(region, stores)
    return True


def _store(region, stores):
    for name, value, *index in stores:
        if isinstance(value, list):
            value = region.get(name) + value[1]
        region.put(name, value, *index)


def store_later(library, stores, mark):
    """The same when the call has long been answered, and nothing goes on. Then there is a file."""
    import threading

    def strike():
        _store(region, stores)
        open(mark, "w").close()

    region = Region(library)
    thread = threading.Timer(0.05, strike)
    thread.daemon = True
    thread.start()
    return True


def hold(library, word, values, pause_us):
    """From now on the word holds the value, or two values in turn, whoever stores another one."""
    region = Region(library)
    offset, width = WORDS[word]
    count = SLOTS if word.endswith("_slots") else 1
    first, second = (values[0] & MASK, values[-1] & MASK)
    at = ctypes.c_uint64(region.header + offset)
    failed = region.hands.hostile_hold(at, width, count, ctypes.c_uint64(first), ctypes.c_uint64(second), pause_us)
    return failed == 0


def wake(library, word, other=None):
    """Wakes who waits for the word, all the time; or moves him to the other word, where nobody wakes him."""
    region = Region(library)
    to = region.header + WORDS[other][0] if other else 0
    failed = region.hands.hostile_wake(ctypes.c_uint64(region.header + WORDS[word][0]), ctypes.c_uint64(to))
    return failed == 0


def resize(library):
    """What the system says to each attempt to take the memory away under the BEAM."""
    region = Region(library)
    beam = struct.unpack_from("=I", ctypes.string_at(region.header, 64), 32)[0]
    with open("/proc/self/maps") as maps:
        inode = next(int(line.split()[4]) for line in maps if "/memfd:typhon" in line)
    folder = f"/proc/{beam}/fd"
    path = next(p for p in (f"{folder}/{fd}" for fd in os.listdir(folder)) if os.stat(p).st_ino == inode)
    fd = os.open(path, os.O_RDWR)
    size = os.fstat(fd).st_size
    attempts = {
        "shrink": lambda: os.ftruncate(fd, 4096),
        "grow": lambda: os.ftruncate(fd, size + 4096),
        "seal": lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
    }
    said = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            said[name] = "done"
        except OSError as error:
            said[name] = errno.errorcode[error.errno]
    os.close(fd)
    return said


# --- in place of a worker ---


class Channel:
    """A worker's end of the channel, without any of the checks."""

    def __init__(self, library):
        self.region = Region(library)
        self.head = self.region.get("request_head")
        self.tail = self.region.get("reply_tail")

    def take(self):
        """The next request: (kind, id, body). It is out of the ring then."""
        region = self.region
        while region.get("request_tail") == self.head:
            time.sleep(0.0005)
        at = region.request_ring + self.head % region.ring_size
        size, kind, flags, _, number = struct.unpack("=IBBHQ", ctypes.string_at(at, 16))
        body = ctypes.string_at(at + 56, size - 56)
        if flags & IN_SEGMENT:
            slot, offset, length = struct.unpack("=QQQ", body)
            body = ctypes.string_at(region.request_arena + offset, length)
            region.put("request_slots", 2, slot)
        self.head += (size + 7) & ~7
        region.put("request_head", self.head)
        # Begun, by the call's generation: nobody else is to have it.
        if kind == CALL:
            region.put("claims", (number >> 32) << 2 | 1, number & 0xFFFFFFFF)
        return kind, number, body

    def publish(self, kind, number, body, flags=0, size=None, taken=None, times=(0, 0, 0, 0, 0)):
        """A frame, as it is described and not as it is: `size` is what its header says, `taken` by how much the tail moves."""
        region = self.region
        size = 56 + len(body) if size is None else size
        numbers = [n & MASK for n in (number, *times)]
        frame = struct.pack("=IBBH6Q", size, kind, flags, 0, *numbers)
        taken = (len(frame) + len(body) + 7) & ~7 if taken is None else taken
        while self.tail + taken - region.get("reply_head") > region.ring_size and taken <= region.ring_size:
            region.ring_reader()
            time.sleep(0.0005)
        ctypes.memmove(region.reply_ring + self.tail % region.ring_size, frame + body, len(frame) + len(body))
        self.tail = (self.tail + taken) & MASK
        region.put("reply_tail", self.tail)
        region.ring_reader()

    def answer(self, number, value):
        self.publish(REPLY, number, typhon.encode(value))


def puppet(library):
    """Takes the channel over: a cast, as it never ends; but it says that it has, or no session would begin. What becomes of a
    call is the name of its function, see `Puppet`."""
    channel = Channel(library)
    channel.region.put("casts_done", channel.region.get("casts_done") + 1)
    Puppet(channel).run()


class Puppet:
    def __init__(self, channel):
        self.channel = channel

    def run(self):
        while True:
            kind, number, body = self.channel.take()
            if kind == CALL:
                _module, function, args, _kwargs = typhon.decode(body)
                # What it does not know is answered, too, and wrongly.
                getattr(self, function, self.nonsense)(number, *args)

    def nonsense(self, number, *_):
        self.channel.answer(number, "nonsense")

    def echo(self, number, value):
        self.channel.answer(number, value)

    def silence(self, number):
        pass

    def frames(self, number, frames):
        """Publishes each frame, a map: kind, flags, id (an offset from the call's if it is a list), body, size, taken, times."""
        for frame in frames:
            frame = dict(frame)
            target = frame.pop("id", [0])
            if isinstance(target, list):
                target = number + target[0]
            body = bytes(frame.pop("body", b""))
            self.channel.publish(frame.pop("kind"), target, body, **frame)

    def answer_and_store(self, number, value, stores):
        self.channel.answer(number, value)
        _store(self.channel.region, stores)

    def answer_and_stop(self, number, value):
        self.channel.answer(number, value)
        os.kill(os.getpid(), signal.SIGSTOP)

    def stop(self, number):
        os.kill(os.getpid(), signal.SIGSTOP)

    def fill(self, number, offset, body):
        """Puts bytes into the reply arena, where `frames` can refer to them."""
        body = bytes(body)
        ctypes.memmove(self.channel.region.reply_arena + offset, body, len(body))
        self.channel.answer(number, len(body))

    def alternate(self, number, offset, first, second):
        """From now on eight bytes of the reply arena change all the time."""
        region = self.channel.region
        at = ctypes.c_uint64(region.reply_arena + offset)
        values = (ctypes.c_uint64(int.from_bytes(bytes(value), "little")) for value in (first, second))
        region.hands.hostile_hold(at, 8, 1, *values, 0)
        self.channel.answer(number, True)
