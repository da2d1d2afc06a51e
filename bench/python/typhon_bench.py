"""What the benchmarks call: as little Python as there can be."""

from collections import deque
from itertools import repeat
from time import perf_counter_ns


def echo(value):
    return value


def call_back(function, count):
    for number in range(count):
        function(number)


def take_and_free():
    """What a job leaves behind: 100 MiB in a list of bytes objects, too large for Python's own allocator."""
    return len([bytes([number % 256]) * 4096 for number in range(25_600)])


def python_loop():
    while True:
        pass


def c_loop():
    """Never looks for signals, and keeps the GIL."""
    deque(repeat(None), maxlen=0)


def spin():
    total = 0
    for number in range(12_000_000):
        total += number
    return total


def multiply():
    """Element by element and by BLAS, in one thread (OPENBLAS_NUM_THREADS) and within the caches: what it computes is no
    matter."""
    import numpy

    row = numpy.arange(40_000, dtype=float)
    matrix = numpy.eye(200)
    for _ in range(1_000):
        row = numpy.sqrt(row * row + 1.0)
        matrix = matrix @ matrix
    return float(row[0] + matrix[0, 0])


LARGE = []


def large():
    if not LARGE:
        LARGE.append(b"x" * 67_108_864)
    return LARGE[0]


def own_time(what, view, calls):
    """The least time, in nanoseconds, that Python takes for what a call does, with memory that it has already."""
    doing = {"nothing": large, "view": lambda: len(memoryview(view)), "copy": lambda: len(bytes(view))}[what]
    doing()
    least = None
    for _ in range(calls):
        start = perf_counter_ns()
        doing()
        took = perf_counter_ns() - start
        least = took if least is None else min(least, took)
    return least
