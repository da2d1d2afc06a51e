#!/usr/bin/env python3
"""Writes the seed files of fuzz_channel, corpus/fuzz_channel/. fuzz_channel.cpp says what each byte means."""

import pathlib
import struct

FOLDER = pathlib.Path(__file__).resolve().parent / "corpus" / "fuzz_channel"
MAGIC = b"\x01Typhon1"
RING, PAGE = 64 * 1024, 4096


def constants(ring=RING, arena=PAGE, version=2, header=65536):
    return MAGIC + struct.pack("<IIQQIIII", version, header, ring, arena, 1, 20, 0, 0)


def frame(size, kind=5, flags=0, slot=0, offset=0, length=0):
    return b"\x05" + struct.pack("<IBBQQQ", size, kind, flags, slot, offset, length)


def allocate(size):
    return b"\x0b" + struct.pack("<I", size)


def change(which, size, how):
    return b"\x0c" + struct.pack("<BIB", which, size, how)


CONSUME, REAP, TRIM = b"\x09", b"\x0d\x01", b"\x0d\x00\xff\xff"


def release(slot):
    return b"\x04" + struct.pack("<HB", slot, 2)


def produce(size):
    return b"\x0a" + struct.pack("<H", size)


SEEDS = {
    # Doors 0 and 1: a header as bytes; fields replaced.
    "attach_good": b"\0\x02" + constants(),
    "attach_short": b"\0\0" + constants(),
    "attach_header_only": b"\0\x01" + constants(),
    "attach_other_version": b"\0\x02" + constants(version=3),
    "attach_wrong_sizes": b"\0\x02" + constants(ring=1 << 20, arena=1 << 60),
    "changed_nothing": b"\x01\0",
    "changed_ring": b"\x01\x01" + struct.pack("<Q", 1 << 17),
    "changed_arena": b"\x01\x02" + struct.pack("<Q", 1 << 20),
    "changed_overflow": b"\x01\x03" + struct.pack("<QQ", 1 << 63, 1 << 63),
    "changed_seals": b"\x01\x20\x02",
    "changed_size": b"\x01\x40" + struct.pack("<q", -1),
    # Scripts.
    "frames": b"\x02" + frame(56) + frame(80) + CONSUME + CONSUME + CONSUME,
    "frame_sizes": b"\x02" + b"".join(frame(size) + CONSUME for size in (0, 55, 56, 57, 79, 120)),
    "segments": b"\x02"
    + frame(80, flags=1, slot=1, offset=0, length=100)
    + frame(80, flags=1, slot=4095, offset=63 * PAGE, length=PAGE)
    + frame(80, flags=1, slot=4096, offset=64 * PAGE, length=1)
    + frame(80, flags=1, slot=0, offset=(1 << 64) - 1, length=(1 << 64) - 1)
    + CONSUME * 4,
    "tail": b"\x02" + b"".join(b"\0" + struct.pack("<Q", t) + CONSUME for t in (8, 56, 57, RING, RING + 8, 1 << 63)),
    "wrap": b"\x02" + (b"\x01" + struct.pack("<H", 7) + CONSUME) * 20,
    "produce": b"\x02" + produce(0) + produce(1000) + produce(60000) + b"\x03" + struct.pack("<H", 56) + produce(65000),
    "head": b"\x02" + b"".join(produce(8) + b"\x02" + struct.pack("<Q", h) for h in (0, 56, 64, 65, RING, 1 << 63)),
    # The word says all it can; who reads, and who leaves.
    "role": b"\x02" + b"".join(b"\x0e\0" + bytes([word]) + b"\x0e\x02\x0e\x03\0\x0e\x04" for word in range(8)),
    "arena": b"\x02" + allocate(1) + allocate(5000) + change(0, 9000, 0) + change(1, 1, 1) + change(0, 0, 2) + TRIM,
    "arena_released": b"\x02" + allocate(100) + release(0) + REAP + allocate(8000) + change(0, 20000, 0)
    + change(1, 4096, 1) + change(0, 0, 2) + change(0, 0, 2) + TRIM,
    "arena_full": b"\x02" + b"".join(allocate(30000) for _ in range(10)) + release(3) + release(4) + REAP + allocate(60000),
    "own_counts": b"\x02" + produce(8) + b"\x08" + struct.pack("<Q", 1 << 40) + produce(8) + b"\x07"
    + struct.pack("<Q", 1 << 40) + frame(56) + CONSUME,
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
