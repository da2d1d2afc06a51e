"""What keeps a worker from taking anything, though no call of its own runs."""

import ctypes
import os
import threading

import typhon


class Stays:
    """Does not go when it is to go."""

    def __del__(self):
        threading.Event().wait()


def handler():
    """Handles a message for ever."""
    typhon.on_message(lambda message: threading.Event().wait())
    typhon.send(typhon.self(), 1)


def gil():
    """A thread keeps the GIL."""
    _start(ctypes.PyDLL(None).sleep, 600)


def another_program():
    """The process becomes another program."""
    _start(os.execv, "/bin/sleep", ["sleep", "600"])


def _start(function, *args):
    # When the call that asks for it has its answer.
    timer = threading.Timer(0.5, function, args)
    timer.daemon = True
    timer.start()
