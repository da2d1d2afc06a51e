"""The codec beside pickle (protocol 5), json and memcpy, in both directions.

    PYTHONPATH=priv/python python3 bench/codec.py [--json FILE] [--rounds N] [--case NAME …]

Runs on any Python from 3.11 on. In each round every candidate runs in turn, so that what disturbs the machine
disturbs all of them; a round's figure is the median of its samples, and the table shows the best round. A sample
is one call whose result is freed after the clock has stopped (many calls, freed as they go, where one is too
short to be timed). Long strings are made anew for each sample: some encoders leave a UTF-8 copy in them, which
costs once and helps later.
"""

import argparse
import json
import pickle
import platform
import random
import statistics
import struct
import sys
import time

import typhon

SAMPLE_SECONDS = 0.002  # shorter calls are repeated
TYPHON, PICKLE, JSON, MEMCPY = "typhon", "pickle", "json", "memcpy"


def typhon_bytes(data: bytes) -> bytes:
    """The term %Typhon.Bytes{data: data}, which decodes to bytes (plain binaries decode to str)."""

    def atom(name: str) -> bytes:
        return b"w" + bytes([len(name)]) + name.encode()

    head = b"\x83t" + struct.pack(">I", 2) + atom("__struct__") + atom("Elixir.Typhon.Bytes") + atom("data")
    return head + b"m" + struct.pack(">I", len(data)) + data


def cases() -> dict:
    rng = random.Random(7)
    maps = [{"id": i, "name": f"user {i}", "tags": ["a", "b", "c"], "score": i * 0.5} for i in range(10_000)]
    big = b"\x5a" * (64 << 20)
    return {
        "1,000,000 ints 0..255": [rng.randrange(256) for _ in range(1_000_000)],
        "1,000,000 ints 32 bit": [rng.randrange(-(1 << 31), 1 << 31) for _ in range(1_000_000)],
        "100,000 ints 64 bit": [rng.randrange(-(1 << 63), 1 << 63) for _ in range(100_000)],
        "100,000 ints 128 bit": [rng.randrange(1 << 100, 1 << 127) for _ in range(100_000)],
        "1,000 ints 4,096 bit": [rng.randrange(1 << 4000, 1 << 4096) for _ in range(1_000)],
        "100,000 floats": [rng.random() for _ in range(100_000)],
        "10,000 maps": maps,
        "100,000 short strings": [f"string {i}" for i in range(100_000)],
        "100,000 non-ASCII strings": [f"größe {i}" for i in range(100_000)],
        "a small frame": ("operator", "add", [1, 2], {}),
        "an integer": 1,
        "64 MiB text": "abcdefgh" * (8 << 20),
        "64 MiB non-ASCII text": "äbcdéfgh" * (64 << 20 >> 4),
        "64 MiB bytes": big,
    }


class Candidate:
    def __init__(self, name, function, argument):
        self.name, self.function, self.argument = name, function, argument
        self.rounds = []
        self.calls = 1
        self.calls = max(1, round(SAMPLE_SECONDS / max(min(self.sample() for _ in range(3)), 1e-9)))
        if self.calls < 4:
            self.calls = 1

    def sample(self) -> float:
        function, argument = self.function, self.argument
        if self.calls == 1:
            if isinstance(argument, str):
                argument = argument[:-1] + argument[-1]
            start = time.perf_counter()
            result = function(argument)
            end = time.perf_counter()
            del result
            return end - start
        repeat = range(self.calls)
        start = time.perf_counter()
        for _ in repeat:
            function(argument)
        return (time.perf_counter() - start) / self.calls

    def run_round(self, samples: int) -> None:
        self.rounds.append(statistics.median(self.sample() for _ in range(samples)))

    @property
    def best(self) -> float:
        return min(self.rounds)


def measure(candidates: list, rounds: int, samples: int) -> dict:
    for round_number in range(rounds):
        order = candidates if round_number % 2 == 0 else candidates[::-1]
        for candidate in order:
            candidate.run_round(samples)
    return {candidate.name: candidate.best for candidate in candidates}


def run_case(value, rounds: int, samples: int) -> dict:
    pickled = pickle.dumps(value, 5)
    term = typhon_bytes(value) if isinstance(value, bytes) else typhon.encode(value)
    assert typhon.decode(term) == value
    encoders = [
        Candidate(TYPHON, typhon.encode, value),
        Candidate(PICKLE, lambda v: pickle.dumps(v, 5), value),
    ]
    decoders = [Candidate(TYPHON, typhon.decode, term), Candidate(PICKLE, pickle.loads, pickled)]
    if not isinstance(value, bytes):
        text = json.dumps(value)
        encoders.append(Candidate(JSON, json.dumps, value))
        decoders.append(Candidate(JSON, json.loads, text))
    source = bytearray(term)
    encoders.append(Candidate(MEMCPY, bytes, source))
    decoders.append(Candidate(MEMCPY, bytes, source))
    return {
        "bytes": len(term),
        "encode": measure(encoders, rounds, samples),
        "decode": measure(decoders, rounds, samples),
    }


def show_time(seconds) -> str:
    if seconds is None:
        return "-"
    for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def show_row(name: str, direction: str, times: dict) -> None:
    ratio = times[TYPHON] / times[PICKLE]
    columns = [show_time(times.get(key)) for key in (TYPHON, PICKLE, JSON, MEMCPY)]
    print(
        f"{name:<26} {direction:<7}", *(f"{column:>9}" for column in columns), f"{ratio:>8.2f}x", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the figures there, in seconds")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=5, help="in each round")
    parser.add_argument("--case", action="append", help="only cases whose name contains this")
    options = parser.parse_args()

    print(f"Python {platform.python_version()}, {platform.machine()}; best of {options.rounds} medians")
    print(f"{'':<34}", *(f"{name:>9}" for name in (TYPHON, PICKLE, JSON, MEMCPY)), "  /pickle")
    results = {}
    for name, value in cases().items():
        if options.case and not any(part in name for part in options.case):
            continue
        results[name] = result = run_case(value, options.rounds, options.samples)
        show_row(name, "encode", result["encode"])
        show_row(name, "decode", result["decode"])
    if options.json:
        report = {"python": platform.python_version(), "unit": "seconds", "cases": results}
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    sys.exit(main())
