"""What the benchmarks call: as little Python as there can be."""

from collections import deque
from itertools import repeat


def echo(value):
    return value


def call_back(function, count):
    for number in range(count):
        function(number)


def python_loop():
    while True:
        pass


def c_loop():
    """Never looks for signals, and keeps the GIL."""
    deque(repeat(None), maxlen=0)
