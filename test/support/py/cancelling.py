"""Coroutines, and functions, that end with a CancelledError of their own, or with one that the BEAM has caused."""

import asyncio
import concurrent.futures

import sample
import typhon


async def raises(text="mine"):
    raise asyncio.CancelledError(text)


async def raises_later(text="mine"):
    await asyncio.sleep(0.001)
    raise asyncio.CancelledError(text)


def raises_at_once(text="mine"):
    raise asyncio.CancelledError(text)


def raises_ours(text="mine"):
    raise typhon.Cancelled(text)


async def raises_ours_async(text="mine"):
    raise typhon.Cancelled(text)


def raises_of_futures():
    future = concurrent.futures.Future()
    future.cancel()
    return future.result()


async def itself():
    asyncio.current_task().cancel("by myself")
    await asyncio.sleep(600)


async def awaits_cancelled():
    """What libraries do: a task of theirs is cancelled, and whoever waits for it hears of it."""
    task = asyncio.ensure_future(asyncio.sleep(600))
    await asyncio.sleep(0)
    task.cancel("of the library")
    return await task


async def awaits_cancelled_future():
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    return await future


async def gathers_cancelled():
    return await asyncio.gather(raises_later(), asyncio.sleep(0.01))


async def group():
    """A child that is cancelled does not end its group."""
    async with asyncio.TaskGroup() as group:
        child = group.create_task(asyncio.sleep(600))
        await asyncio.sleep(0)
        child.cancel()
    return child.cancelled()


async def group_raises():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(600))
        await asyncio.sleep(0)
        raise asyncio.CancelledError("in the group")


async def in_time(limit, seconds):
    async with asyncio.timeout(limit):
        await asyncio.sleep(seconds)
    return "in time"


async def swallows_and_returns(mark):
    """Is interrupted, and returns."""
    try:
        sample.reached(mark)
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return "swallowed"


async def swallows_and_cancels(mark):
    """Is interrupted, and then ends with another CancelledError of its own."""
    try:
        sample.reached(mark)
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    raise asyncio.CancelledError("mine")


async def interrupted_in_group(mark):
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(600))
        sample.reached(mark)
        await asyncio.sleep(600)


async def all_others():
    """What a library's clean-up may do: every other task of the loop is cancelled."""
    await asyncio.sleep(0.01)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel("by another one")
    return len(others)


async def numbers(count):
    for i in range(count):
        yield i
    raise asyncio.CancelledError("of the generator")


def numbers_at_once(count):
    yield from range(count)
    raise asyncio.CancelledError("of the generator")


async def mixed(index):
    if index == 1:
        raise asyncio.CancelledError("mine")
    return index
