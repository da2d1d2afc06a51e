"""What the tests of ErlPort's interface call. None of it would be different under ErlPort."""

import os
import signal
import sys
import threading
import time
from datetime import date, timedelta

from erlport import erlang
from erlport.erlterms import Atom, ImproperList, List, Map, OpaqueObject

received: list = []


def identity(value):
    return value


def describe(value):
    """What a value has become: its class and its text."""
    return f"{type(value).__name__} {value!r}"


def arguments():
    return sys.argv


def none():
    return None


def texts():
    return ["", "ascii", "\xe4\xff", "\u041f\u0440\u0438", "\U0001f600", "x" * 70000, "\xe4" * 70000]


def several():
    """One of each that goes out in a form of its own."""
    return (None, True, False, Atom(b"nil"), b"bytes", [1, 2], [1000], (), {}, {Atom(b"k"): "v"}, ImproperList([1], 2), 1.5, 2**70)


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return type(other) is Point and (self.x, self.y) == (other.x, other.y)


def point(x, y):
    return Point(x, y)


def is_point(value, x, y):
    return value == Point(x, y)


def points(count):
    return [Point(i, i) for i in range(count)]


def unpicklable():
    return lambda: 1


class Outer:
    class Inner:
        @staticmethod
        def method(value):
            return value


def length(value):
    return len(value)


def fail(message):
    raise ValueError(message.to_string())


def fail_deep(n):
    if n == 0:
        raise KeyError(Atom(b"bottom"))
    return fail_deep(n - 1)


def leave(status):
    os._exit(status)


def raise_exit():
    raise SystemExit(3)


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


def recurse(instance, n):
    if n == 0:
        return Atom(b"done")
    return erlang.call(Atom(b"python_tests"), Atom(b"recurse"), [instance, n - 1])


def ask_twice(instance):
    """Another process calls this instance while it waits, and a function of the BEAM waits for that."""
    return erlang.call(Atom(b"python_tests"), Atom(b"through_another"), [instance])


def call_erlang(module, function, args):
    return erlang.call(module, function, args)


def caught(module, function, args):
    try:
        return erlang.call(module, function, args)
    except erlang.CallError as error:
        return (error.language, error.type, error.value, isinstance(error.stacktrace, list))


def from_threads(count):
    """So many threads ask at once."""
    results = [None] * count

    def ask(i):
        results[i] = erlang.call(Atom(b"erlang"), Atom(b"abs"), [-i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def own_pid():
    return erlang.self()


def send_self(message):
    erlang.cast(erlang.self(), message)


def cast_many(pid, count):
    for i in range(count):
        erlang.cast(pid, i)
    return Atom(b"done")


def collect():
    received.clear()
    erlang.set_message_handler(received.append)
    return Atom(b"ok")


def collected():
    return list(received)


def forward_to(pid):
    erlang.set_message_handler(lambda message: erlang.cast(pid, (Atom(b"got"), message)))
    return Atom(b"ok")


def faulty_handler():
    def handler(message, extra=None):
        raise ValueError(repr(message))

    erlang.set_message_handler(handler)
    return Atom(b"ok")


def asking_handler(pid):
    """A handler that calls the BEAM for each message."""

    def handler(message):
        erlang.cast(pid, erlang.call(Atom(b"erlang"), Atom(b"abs"), [message]))

    erlang.set_message_handler(handler)
    return Atom(b"ok")


def handlers():
    """Which functions can be handlers."""

    def outcome(function):
        try:
            erlang.set_message_handler(function)
        except (TypeError, ValueError) as error:
            return type(error).__name__
        finally:
            erlang.set_default_message_handler()
        return "ok"

    return [
        outcome(f)
        for f in (lambda a: a, lambda a, b=1, *, c=2: a, lambda *a: a, lambda: 1, lambda a, b: a, 5, received.append)
    ]


def set_dates():
    erlang.set_encoder(_encode_date)
    erlang.set_decoder(_decode_date)
    return Atom(b"ok")


def unset_dates():
    erlang.set_default_encoder()
    erlang.set_default_decoder()
    return Atom(b"ok")


def _encode_date(value):
    if isinstance(value, date):
        return Atom(b"date"), (value.year, value.month, value.day)
    if isinstance(value, timedelta):
        return Atom(b"days"), value.days
    return value


def _decode_date(value):
    if isinstance(value, tuple) and len(value) == 2:
        if value[0] == b"date":
            return date(*value[1])
        if value[0] == b"days":
            return timedelta(days=value[1])
    return value


def tomorrow_of(day):
    """Through the BEAM and back: encoder and decoder work on that road, too."""
    return erlang.call(Atom(b"erlang"), Atom(b"hd"), [[0]]) + erlang.call(
        Atom(b"python_tests"), Atom(b"identity"), [day]
    ).day


def print_string(text):
    print(text.to_string())


def print_all():
    # At once, as in print_in_child.
    sys.stdout.write("one\n")
    os.system("echo two")
    os.write(1, "three \u20ac\n".encode())
    print("four", end="")


def print_in_child():
    child = os.fork()
    # At once, as print() does not write them: the child's line takes another way, by its descriptor, and either could come
    # before the end of the other.
    if child == 0:
        sys.stdout.write("child\n")
        os._exit(0)
    os.waitpid(child, 0)
    sys.stdout.write("parent\n")


def print_and_cast(pid):
    print("printed first")
    erlang.cast(pid, Atom(b"cast"))


def print_much(count):
    for i in range(count):
        print("x" * 99)


def environment(name):
    return os.environ.get(name.to_string())


def wait_for(path):
    """Until a file is there."""
    name = path.to_string()
    while not os.path.exists(name):
        time.sleep(0.01)
    return Atom(b"there")


def touch(path):
    with open(path.to_string(), "w"):
        pass
    return Atom(b"ok")


def make_all():
    return List([Map({b"a": List([1, [2]])}), OpaqueObject(b"data", Atom(b"other"))])


def many_keys():
    return {Atom(b"true"): 1, True: 2}


async def awaited(value):
    return value


def back(module, function, args):
    return erlang.call(module, function, args)
