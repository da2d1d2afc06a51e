"""Functions for the tests of calls."""

import collections
import functools
import operator
import os
import sys
import threading
import time

state = {}


def echo(value):
    return value


def echo_all(*args, **kwargs):
    return (args, kwargs)


def type_of(value):
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def repr_of(value):
    return repr(value)


def put(key, value):
    state[key] = value
    return None


def get(key):
    return state.get(key)


def pid():
    """Which Python this is: its process, or the main thread of an interpreter in the BEAM."""
    return threading.main_thread().native_id


def interpreter():
    return (sys.executable, sys.prefix, sys.base_prefix)


def environment(name):
    return os.environ.get(name)


def cwd():
    return os.getcwd()


def sys_path():
    return sys.path


def stdin_is_empty():
    return sys.stdin.read()


class Group:
    class Inner:
        @staticmethod
        def twice(x):
            return 2 * x


class Counter:
    """An object that Elixir holds a handle of."""

    def __init__(self, start=0):
        self.value = start

    def add(self, n=1):
        self.value += n
        return self.value

    def myself(self):
        return self


def counters_alive():
    """Counted, not booked: a call can be interrupted at the very first step of __init__ or __del__."""
    import gc

    gc.collect()
    return sum(type(thing) is Counter for thing in gc.get_objects())


def value_of(counter):
    return counter.value


def pair_of(counter):
    return [counter, {"same": counter}]


# --- failures ---


class OwnError(Exception):
    pass


def fail(message):
    raise OwnError(message)


def fail_deep(depth):
    if depth == 0:
        return 1 / 0
    return fail_deep(depth - 1)


def fail_with_cause():
    try:
        {}["missing"]
    except KeyError as error:
        raise OwnError("outer") from error


def fail_in_handler():
    try:
        {}["missing"]
    except KeyError:
        raise OwnError("outer")


def fail_with_notes():
    error = ValueError("noted")
    error.add_note("first note")
    error.add_note("second note")
    raise error


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def fail_unprintable():
    raise Unprintable("x")


def fail_group():
    raise ExceptionGroup("several", [ValueError("a"), TypeError("b")])


def exit_with(status):
    raise SystemExit(status)


def hard_exit(status):
    print("about to leave", flush=True)
    os._exit(status)


def recurse():
    return recurse()


# --- time ---


def sleep(seconds):
    time.sleep(seconds)
    return "slept"


def reached(mark):
    """Tells the test, by a file, how far a function has got."""
    if mark:
        with open(mark, "w"):
            pass


def wanted(mark):
    """Whether the test whose file this is still runs."""
    return mark is None or os.path.isdir(os.path.dirname(mark))


def in_c(mark, function, argument):
    """Tells the test and calls a function of C, without a step of Python in between, at which it could be interrupted."""
    collections.deque(map(operator.call, [os.mknod, function], [mark, argument]), 0)


def recv_in_c(mark):
    """Waits for what never comes."""
    import socket

    here, _there = socket.socketpair()
    in_c(mark, here.recv, 1)


def sleep_and_note(seconds, key, mark=None):
    try:
        reached(mark)
        time.sleep(seconds)
        state[key] = "done"
    except BaseException as error:
        state[key] = type(error).__name__
        raise


def spin_python(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "spun"


def ignore_cancel(seconds, mark=None):
    end = time.monotonic() + seconds
    while True:
        try:
            if time.monotonic() >= end or not wanted(mark):
                return "ignored"
            reached(mark)
            time.sleep(0.05)
        except BaseException:
            pass


def busy_c_loop(mark=None, steps=10**13):
    """Holds the GIL in one C function for a very long time, or until its test is over; no signal handler runs meanwhile."""
    if not mark:
        return sum(range(steps))
    over = os.path.join(os.path.dirname(mark), "over")
    if not os.path.exists(over):
        return in_c(mark, sum, range(steps))
    import mmap

    with open(over, "rb") as file:
        byte = mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_READ)
    until_over = iter(functools.partial(operator.getitem, byte, 0), 1)
    return in_c(mark, sum, map(operator.mul, range(steps), until_over))


def backtrack():
    import re

    return re.match(r"(a+)+$", "a" * 64 + "b") is None


def in_thread(seconds):
    thread = threading.Thread(target=time.sleep, args=(seconds,), daemon=True)
    thread.start()
    return thread.is_alive()


def fork_child(seconds):
    """Starts a child that holds this worker's stdout open."""
    import subprocess

    return subprocess.Popen(["sleep", str(seconds)]).pid


def fork_daemon(seconds):
    """The same, in a session of its own."""
    import subprocess

    return subprocess.Popen(["sleep", str(seconds)], start_new_session=True).pid


# --- output ---


def say(text):
    print(text)


def say_partly(text):
    sys.stdout.write(text)


def complain(text):
    print(text, file=sys.stderr)


def shell(command):
    return os.system(command)


def c_printf(text):
    import ctypes

    libc = ctypes.CDLL(None)
    libc.printf(b"%s\n", text.encode())
    libc.fflush(None)


def write_bytes(data):
    sys.stdout.flush()
    os.write(1, data)


def chatter(count):
    for i in range(count):
        print(f"line {i}")


def segfault():
    import ctypes

    ctypes.string_at(0)


def say_from_thread(text):
    thread = threading.Thread(target=print, args=(text,))
    thread.start()
    thread.join()


# --- sizes ---


def blob(size):
    return bytes(size)


def size_of(value):
    return len(value)


def checksum(value):
    import zlib

    return zlib.crc32(value if not isinstance(value, str) else value.encode())


def numbers(count):
    return list(range(count))


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def atoms(letter, first, count):
    """New ones."""
    import typhon

    return [typhon.Atom(f"typhon_{letter}_{i}") for i in range(first, first + count)]


def atom(name):
    import typhon

    return typhon.Atom(name)


def pid_with(_argument):
    """The Python that an argument (an object's handle) is resolved in."""
    return pid()


def slow_counter():
    time.sleep(0.05)
    return Counter()


def echo_slowly(value, seconds):
    if seconds:
        time.sleep(seconds)
    return value


def write_slowly(path, seconds):
    time.sleep(seconds)
    with open(path, "w") as file:
        file.write("done")


def hold(size):
    """Keep so many bytes, all of them touched."""
    state["held"] = bytearray(size)
    for at in range(0, size, 4096):
        state["held"][at] = 1
    return size


def hoard():
    hoarded = []
    while True:
        hoarded.append([0] * 100)


def raise_memory_error():
    raise MemoryError


def open_many(count):
    files = []
    try:
        for _ in range(count):
            files.append(open(os.devnull))
    finally:
        for file in files:
            file.close()
    return count
