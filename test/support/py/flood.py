"""Output without end, for the tests of what it does to the BEAM."""

import os
import stat
import subprocess
import sys
import threading

SHORT = b"y\n" * 16384


def by_child(size):
    return os.system(f"yes 2>/dev/null | head -c {size}")


def of_zeros(size):
    return os.system(f"head -c {size} /dev/zero")


def of_noise(size):
    return os.system(f"head -c {size} /dev/urandom")


def by_descriptors(size):
    """Short lines by the descriptors 1 and 2 in turn."""
    for i in range(size // len(SHORT)):
        write(1 + i % 2, SHORT)
    return size


def write(fd, data):
    while data:
        data = data[os.write(fd, data) :]


def without_end():
    """A thread goes on printing, until nobody reads that any more; it has begun on return."""
    begun = threading.Event()

    def go_on():
        try:
            # Inside the VM, after the worker's end, it is /dev/null.
            while stat.S_ISFIFO(os.fstat(2).st_mode):
                write(2, SHORT)
                begun.set()
        except OSError:
            pass

    try:
        threading.Thread(target=go_on, daemon=True).start()
    except RuntimeError:
        # A sub-interpreter has no daemons.
        threading.Thread(target=go_on).start()
    begun.wait()


def by_daemon():
    """A child that is not of this worker's process group goes on printing."""
    return subprocess.Popen(["yes"], start_new_session=True).pid


def last_words(status):
    write(1, SHORT * 8)
    for i in range(30):
        write(1 + i % 2, b"word %d\n" % i)
    write(2, b"no end")
    sys.stdout.flush()
    os._exit(status)
