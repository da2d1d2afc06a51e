"""Python that talks to the BEAM."""

import asyncio
import concurrent.futures
import gzip
import logging
import pathlib
import subprocess
import threading
import time
import warnings

import sample
import typhon


def apply(function, *args):
    return function(*args)


def call(module, function, args):
    return typhon.call(module, function, args)


def comes_back(function):
    """Whether an object that has no counterpart comes back from the BEAM as itself."""
    thing = object()
    return function(thing) is thing


def nest(function, depth):
    return function(depth)


def total(iterator):
    return sum(iterator)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


async def sleep(seconds, result=None):
    await asyncio.sleep(seconds)
    return result


async def ask(function, *args):
    return await typhon.aio.apply(function, *args)


async def ask_and_sleep(function, *args):
    await typhon.aio.apply(function, *args)
    await asyncio.sleep(600)


async def fail(text, seconds=0):
    await asyncio.sleep(seconds)
    raise ValueError(text)


async def forever(path, mark=None):
    try:
        sample.reached(mark)
        await asyncio.sleep(1000)
    finally:
        pathlib.Path(path).write_text("cleaned up")


async def printing(text):
    print(text)
    await asyncio.sleep(0.01)
    print(text, end="")


async def next_message():
    return await typhon.mailbox.get()


def block(seconds):
    time.sleep(seconds)
    return threading.current_thread().name


def cleaned_up(path, seconds):
    try:
        time.sleep(seconds)
    except typhon.Cancelled:
        pathlib.Path(path).write_text("cancelled")
        raise


def log(level, text):
    logging.getLogger("talk").log(level, text, extra={"user": "jane"})


def warn(text):
    warnings.warn(text, stacklevel=2)


def in_threads(function, count):
    with concurrent.futures.ThreadPoolExecutor(count) as executor:
        return list(executor.map(function, range(count)))


def numbers(count, log=None):
    try:
        yield from range(count)
    finally:
        if log:
            pathlib.Path(log).write_text("closed")


async def slow_numbers(count, seconds, log=None):
    try:
        for i in range(count):
            await asyncio.sleep(seconds)
            yield i
    finally:
        if log:
            pathlib.Path(log).write_text("closed")


def failing(count):
    yield from range(count)
    raise ValueError("no more")


def wait_on_and_on(count):
    """In threads of its own that wait in each way and end with whatever is raised there."""
    ways = [
        lambda: typhon.call("erlang", "abs", [-1]),
        lambda: typhon.call("timer", "sleep", [1]),
        lambda: typhon.receive(600),
        typhon.self,
    ]

    def run(way):
        while True:
            way()

    for way in ways * count:
        threading.Thread(target=run, args=(way,), daemon=True).start()
    time.sleep(0.02)


def leave_open(text, zipped):
    global _open_text, _open_zipped
    _open_text = open(text, "w")
    _open_text.write("written")
    _open_zipped = gzip.open(zipped, "wt")
    _open_zipped.write("written")


def ask_beside_child(path):
    ask_on_and_on(1)
    pathlib.Path(path).write_text(str(subprocess.Popen(["sleep", "600"]).pid))


def ask_on_and_on(count):
    """In threads of its own, until the worker is no more."""

    def run():
        while True:
            try:
                typhon.call("erlang", "abs", [-1])
            except RuntimeError:
                return
            except BaseException:
                pass

    for _ in range(count):
        threading.Thread(target=run, daemon=True).start()
    time.sleep(0.02)
