"""For the tests of the conversation between Python and the BEAM: beyond what talk.py shows."""

import asyncio
import concurrent.futures
import gc
import itertools
import logging
import os
import pathlib
import pickle
import queue
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings

import sample
import typhon

kept = {}
seen = []


# --- asking ---


def wait_for(path):
    """Until the test has made this file."""
    while not os.path.exists(path):
        time.sleep(0.0005)


async def late_object(path):
    """Other calls go on meanwhile."""
    while not os.path.exists(path):
        await asyncio.sleep(0.0005)
    return sample.Counter()


def apply_late_to_object(function, path):
    wait_for(path)
    return function(sample.Counter())


def evaluate(expression, *args):
    """An expression; `args` are its arguments, and `f` and `x` the first two."""
    names = {"args": args, "f": args[0] if args else None, "x": args[1] if len(args) > 1 else None}
    return eval(expression, {**globals(), **names})


def in_thread_of_its_own(function):
    """What a thread that serves no call hears of its question."""
    heard = []

    def ask():
        try:
            heard.append(function())
        except typhon.BeamError as error:
            heard.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join()
    return heard[0]


def described(error):
    return {
        "kind": error.kind,
        "type": error.type,
        "message": str(error),
        "reason": error.reason,
        "stacktrace": error.stacktrace,
        "notes": error.__notes__ if hasattr(error, "__notes__") else [],
    }


def attempt(function, *args):
    """What came of a call: what it returned, or what it raised."""
    try:
        return ("returned", function(*args))
    except typhon.BeamError as error:
        return ("raised", described(error))
    except Exception as error:
        return (type(error).__name__, str(error))


def attempt_next(iterator):
    return attempt(next, iterator)


async def attempt_async(function, *args):
    try:
        return ("returned", await typhon.aio.apply(function, *args))
    except typhon.BeamError as error:
        return ("raised", described(error))
    except Exception as error:
        return (type(error).__name__, str(error))


def attempt_call(module, function, args):
    return attempt(typhon.call, module, function, args)


def fail_after(function):
    try:
        function()
    except typhon.BeamError:
        raise ValueError("python's own")


def keep(key, value):
    kept[key] = value


def use(key, *args):
    return attempt(kept[key], *args)


def made_up_functions():
    """Funs that no argument brought: the name of an export, and a closure's bytes of one's own making."""
    export = bytes([131, 113, 119, 6]) + b"erlang" + bytes([119, 4]) + b"node" + bytes([97, 0])
    return [attempt(typhon.decode(export))]


def made_up_fun(module, function, arity):
    atoms = b"".join(bytes([119, len(name)]) + name.encode() for name in (module, function))
    return typhon.decode(bytes([131, 113]) + atoms + bytes([97, arity]))


def forged_pid(text):
    """A pid that nobody has handed out, by what Erlang writes: <0.42.0>."""
    _, number, serial = (int(part) for part in text.strip("<>").split("."))
    own = typhon.encode(typhon.self())
    # NEW_PID_EXT: the node's atom, id, serial, creation; 4 bytes each.
    return typhon.decode(own[:-12] + struct.pack(">II", number, serial) + own[-4:])


def forged_reference():
    """A reference that nobody has handed out, nor made."""
    own = typhon.encode(typhon.self())
    # NEWER_REFERENCE_EXT: how many words, the node's atom, creation, the words.
    return typhon.decode(own[:1] + b"\x5a\x00\x03" + own[2:-12] + own[-4:] + struct.pack(">III", 1, 2, 3))


def measured(message):
    """A message in a number: itself, what an exit says, or how much there is of a text or a dict."""
    return message[2] if isinstance(message, tuple) else message if isinstance(message, int) else len(message)


def in_pool(function, count, threads):
    with concurrent.futures.ThreadPoolExecutor(threads) as executor:
        return list(executor.map(function, range(count)))


def swallow(function):
    """Goes on although it was interrupted."""
    try:
        return function()
    except BaseException as error:
        return type(error).__name__


def note(function, path):
    """Writes down how the call of a function ended."""
    try:
        pathlib.Path(path).write_text("returned " + repr(function()))
    except BaseException as error:
        pathlib.Path(path).write_text(type(error).__name__)
        raise


async def note_async(function, path):
    try:
        pathlib.Path(path).write_text("returned " + repr(await typhon.aio.apply(function)))
    except BaseException as error:
        pathlib.Path(path).write_text(type(error).__name__)
        raise


async def block_loop_in(kind, begun, path, *args):
    """Waits for the BEAM and does not await it. `begun` is a file that says that it waits, `path` one that says how that ended."""

    async def in_task():
        note(lambda: args[0](), path)

    ways = {
        "a function": lambda: args[0](),
        "a call": lambda: typhon.call(*args),
        "an element": lambda: next(args[0]),
        "a message": lambda: (sample.reached(begun), typhon.receive()),
    }
    if kind == "a function, in a task":
        return await asyncio.create_task(in_task())
    if kind == "a function, in a thread":
        return await asyncio.to_thread(note, args[0], path)
    try:
        ways[kind]()
    except BaseException as error:
        # It may take its time to clean up: it hears of it once.
        await asyncio.sleep(0.05)
        pathlib.Path(path).write_text(type(error).__name__)
        raise


async def ask_blocking_async(function, count):
    for i in range(count):
        function(i)
        await asyncio.sleep(0)
    return count


async def gather(function, count):
    return await asyncio.gather(*(typhon.aio.apply(function, i) for i in range(count)))


async def ask_node():
    return await typhon.aio.erlang.node()


# --- iterators ---


def note_sum(iterator, path):
    note(lambda: sum(iterator), path)


async def sum_async(iterator):
    total = 0
    async for element in typhon.aio.iterate(iterator):
        total += element
    return total


async def take_async(iterator, count):
    taken = []
    async for element in typhon.aio.iterate(iterator):
        taken.append(element)
        if len(taken) == count:
            return taken


async def sum_blocking_async(iterator):
    return sum(iterator)


# --- messages ---


def send_many(pid, count):
    for i in range(count):
        typhon.send(pid, i)


async def send_async(pid, count):
    for i in range(count):
        typhon.send(pid, ("async", i))
        await asyncio.sleep(0)


async def messages_async(count):
    return await asyncio.gather(*(typhon.mailbox.get() for _ in range(count)))


async def message_in_time(seconds):
    try:
        return await asyncio.wait_for(typhon.mailbox.get(), seconds)
    except asyncio.TimeoutError:
        return "TimeoutError"


async def count_messages(count):
    total = 0
    for _ in range(count):
        total += await typhon.mailbox.get()
    return total


# --- coroutines and threads ---


class Asynchronous:
    async def own(self, value):
        await asyncio.sleep(0)
        return ("own", value)

    @staticmethod
    async def method(value):
        await asyncio.sleep(0)
        return 2 * value


async def identity(value):
    await asyncio.sleep(0)
    return value


def returns_coroutine(value):
    return identity(value)


def sometimes_coroutine(value):
    return identity(value) if value % 2 else value


async def write_async(path, text):
    await asyncio.sleep(0)
    pathlib.Path(path).write_text(text)


async def callers_async():
    async def one():
        await asyncio.sleep(0.01)
        return await typhon.aio.erlang.self()

    task = asyncio.create_task(one())
    return [await one(), await task, await asyncio.to_thread(typhon.caller)]


async def own_loop():
    return asyncio.get_running_loop() is typhon.loop()


async def fail_group_async():
    async with asyncio.TaskGroup() as group:
        group.create_task(fail_soon())


async def fail_soon():
    raise ValueError("in the group")


async def exit_async(name):
    await asyncio.sleep(0)
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[name]("in a coroutine")


async def unencodable_async():
    return ["\ud800"]


async def ignore_cancel_async(mark=None):
    while sample.wanted(mark):
        try:
            sample.reached(mark)
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            pass


_gate = threading.Barrier(4)


def meet(count, value):
    assert count == _gate.parties
    _gate.wait(20)
    return value


def slow_steps(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    return "done"


def spin_and_note(path, mark):
    try:
        sample.reached(mark)
        while True:
            pass
    except BaseException as error:
        pathlib.Path(path).write_text(type(error).__name__)
        raise


def print_steps(name, count):
    for i in range(1, count + 1):
        print(f"{name} step", end=" ")
        time.sleep(0.001)
        print(i)
    print(f"the end of {name}", end="")


# --- giving up ---


def block_in(kind, begun, path):
    """Blocks in a way; `begun` is a file that is made just before, `path` one that says how it ended."""
    here, there = socket.socketpair()
    reading, writing = os.pipe()
    lock = threading.Lock()
    lock.acquire()
    stopped = threading.Event()
    thread = threading.Thread(target=stopped.wait, daemon=True)
    thread.start()

    def loop():
        while True:
            pass

    ways = {
        "sleep": lambda: time.sleep(600),
        "recv": lambda: here.recv(1),
        "select": lambda: select.select([here], [], []),
        "subprocess": lambda: subprocess.run(["sleep", "600"]),
        "lock": lock.acquire,
        "queue": queue.Queue().get,
        "loop": loop,
        "pipe": lambda: os.read(reading, 1),
        "thread_join": thread.join,
    }
    try:
        sample.reached(begun)
        ways[kind]()
    except BaseException as error:
        pathlib.Path(path).write_text(type(error).__name__)
        raise
    finally:
        stopped.set()
        here.close()
        there.close()
        os.close(reading)
        os.close(writing)


def clean_up_slowly(path, mark):
    try:
        sample.reached(mark)
        time.sleep(600)
    finally:
        time.sleep(0.2)
        pathlib.Path(path).write_text("clean")


def swallow_and_return(mark):
    try:
        sample.reached(mark)
        time.sleep(600)
    except typhon.Cancelled:
        return "late"


def ignore(mark):
    while True:
        try:
            sample.reached(mark)
            while True:
                pass
        except BaseException:
            pass


# --- output and logging ---


def say_all(texts):
    for text in texts:
        sys.stdout.write(text)


def say_and_flush(text, path):
    print(text, end="", flush=True)
    wait_for(path)


def flood(count, *more):
    for i in range(count):
        print("line", i, *more)


def say_surrogate():
    print("a\ud800b")


def log_all():
    logger = logging.getLogger("converse.log")
    logger.setLevel(logging.DEBUG)
    logger.debug("at debug")
    logger.info("at %s", "info")
    logger.warning("at warning", extra={"user": "jane", "thing": [1]})
    logger.error("at error")
    logger.critical("at critical")


def log_exception():
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("converse").exception("it failed")


def log_text(text):
    logging.getLogger("converse").warning(text)


async def log_text_async(text):
    await asyncio.sleep(0)
    logging.getLogger("converse").warning(text)
    await asyncio.to_thread(logging.getLogger("converse").warning, text + " in a thread")


def log_in_thread(text):
    thread = threading.Thread(target=log_text, args=(text,), name="the-thread")
    thread.start()
    thread.join()


def warn_user(text):
    warnings.warn(text, UserWarning, stacklevel=1)


def peak_memory():
    """In KiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def coroutine_or_sleep(seconds):
    """A coroutine, or a while of doing nothing else."""
    if seconds == 0:
        return asyncio.sleep(0, "awaited")
    time.sleep(seconds)
    return "slept"


async def bound_anew():
    return "awaited"


def bind_anew(seconds):
    def bound_anew():
        time.sleep(seconds)
        return "slept"

    globals()["bound_anew"] = bound_anew


async def ask_at_once(function, count, told):
    """In nobody's name when it is a cast."""
    answers = await asyncio.gather(*[typhon.aio.apply(function) for _ in range(count)])
    typhon.send(told, ("answered", len(answers)))
