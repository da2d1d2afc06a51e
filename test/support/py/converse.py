"""For the tests of the conversation between Python and the BEAM: beyond what talk.py shows."""

import asyncio
import concurrent.futures
import gc
import itertools
import logging
import os
import pathlib
import pickle
import re
import socket
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
