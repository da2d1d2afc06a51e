"""Functions for the tests of dispatch, sessions and retries."""

import asyncio
import os
import signal
import threading
import time

log = []


def mark(who):
    """Who called here, in order."""
    log.append(who)
    return len(log)


def marks():
    return log


def wait_for(path):
    """Runs until the file is there."""
    while not os.path.exists(path):
        time.sleep(0.001)
    return threading.main_thread().native_id


def end_late(mark, path):
    """Makes one file; interrupted, it ends when the other one is there."""
    try:
        with open(mark, "w"):
            pass
        time.sleep(600)
    finally:
        wait_for(path)


async def await_file(path):
    """As wait_for, and others run meanwhile."""
    while not os.path.exists(path):
        await asyncio.sleep(0.001)


def die_unless(path):
    """Ends the process once: by the second time the file is there."""
    if not os.path.exists(path):
        with open(path, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def count_and_die(path):
    with open(path, "a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def count_and_raise(path):
    with open(path, "a") as file:
        file.write("x")
    raise ValueError("no")
