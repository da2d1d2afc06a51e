"""Functions for the tests of calls that move to another worker."""

import os
import time


def note(path, call):
    """Says in a file that this call runs: one line, whole, whichever process writes it."""
    with open(path, "ab", buffering=0) as file:
        file.write(b"%d\n" % call)
    return call


def note_and_wait(path, call, gate):
    note(path, call)
    while not os.path.exists(gate):
        time.sleep(0.001)
    return call


async def note_soon(path, call):
    return note(path, call)


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
