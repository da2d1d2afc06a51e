"""What has to go on working when threads have been patched."""

import asyncio
import logging
import time

import typhon


async def add(a, b):
    await asyncio.sleep(0.001)
    return a + b


async def add_all(count):
    return sum(await asyncio.gather(*(add(i, 0) for i in range(count))))


async def ask(function, x):
    return await typhon.aio.apply(function, x)


async def wait_for_ever():
    await asyncio.sleep(600)


async def produce(count):
    for i in range(count):
        await asyncio.sleep(0.001)
        yield i


def produce_slowly(count):
    for i in range(count):
        time.sleep(0.001)
        yield i


def apply(function, x):
    return function(x)


def ask_beam(number):
    return typhon.call("erlang", "abs", [number])


def speak(text):
    logging.getLogger("patched").warning("logged %s", text)
    print("printed", text)


def sleep(seconds):
    time.sleep(seconds)
    return "slept"


def sleep_marked(seconds, mark):
    with open(mark, "w"):
        pass
    time.sleep(seconds)
