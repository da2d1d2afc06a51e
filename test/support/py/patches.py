"""Puts others into the places of threads, locks, selectors and sleep, as gevent and eventlet do, without being either.

A thread that is started is a greenlet that nobody switches to: it never runs. A lock that another thread holds cannot be waited for.
"""

import _thread
import atexit
import queue
import select
import selectors
import threading
import time

_saved = {}
_main = _thread.get_ident()
_get_ident = _thread.get_ident
_select = select.select
_sleep = time.sleep
never_run = []


class Lock:
    def __init__(self):
        self._by = None

    def acquire(self, blocking=True, timeout=-1):
        if self._by is None:
            self._by = _get_ident()
            return True
        if blocking:
            raise RuntimeError("nobody would ever release it")
        return False

    def release(self):
        self._by = None

    def locked(self):
        return self._by is not None

    def __enter__(self):
        self.acquire()

    def __exit__(self, *_):
        self.release()


def start_new_thread(*args, **kwargs):
    never_run.append(args)
    return len(never_run)


def get_ident():
    ident = _get_ident()
    return ident if ident == _main else ident + 1


def wait_for_files(readable, writable, exceptional, timeout=None):
    until = None if timeout is None else time.monotonic() + timeout
    while True:
        ready = _select(readable, writable, exceptional, 0.005)
        if any(ready) or (until is not None and time.monotonic() >= until):
            return ready


def sleep(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _sleep(0.005)


def _put(module, name, value):
    if hasattr(module, name):
        _saved.setdefault((module, name), getattr(module, name))
        if value is None:
            delattr(module, name)
        else:
            setattr(module, name, value)


def patch():
    for name in ("start_new_thread", "start_joinable_thread"):
        _put(_thread, name, start_new_thread)
        _put(threading, f"_{name}", start_new_thread)
    for module, name in ((_thread, "allocate_lock"), (_thread, "lock"), (threading, "_allocate_lock"), (threading, "Lock")):
        _put(module, name, Lock)
    _put(_thread, "get_ident", get_ident)
    _put(threading, "get_ident", get_ident)
    _put(time, "sleep", sleep)
    _put(queue, "SimpleQueue", queue._PySimpleQueue)
    _put(select, "select", wait_for_files)
    for name in ("poll", "epoll"):
        _put(select, name, None)
    _put(selectors, "EpollSelector", None)
    _put(selectors, "PollSelector", None)
    _put(selectors.SelectSelector, "_select", staticmethod(wait_for_files))
    _put(selectors, "DefaultSelector", selectors.SelectSelector)
    # An interpreter inside the VM serves other pools later.
    atexit.register(unpatch)


def unpatch():
    for (module, name), value in _saved.items():
        setattr(module, name, staticmethod(value) if module is selectors.SelectSelector else value)
    _saved.clear()


def is_patched():
    return bool(_saved) and threading.Thread.start.__globals__.get("_start_new_thread", start_new_thread) is start_new_thread
