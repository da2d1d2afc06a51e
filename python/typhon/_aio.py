"""The worker's event loop: where coroutine functions run that the BEAM calls, in a thread of its own.

It is started by the first such call. Calls of functions that are known to be coroutine functions come straight here; the
others are handed over by the thread that found out (submit).
"""

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

from typhon import _beam, _io, _native, _threads
from typhon._context import CALL
from typhon._native import Atom, Cancelled, Fun

# Which selector it uses is of no interest.
logging.getLogger("asyncio").setLevel(logging.WARNING)

_submitted: "deque[tuple[int, Coroutine[Any, Any, Any], int]]" = deque()
# Only so much may be asked in nobody's name at a time: what has to wait looks again after so many seconds.
_TURN = 0.005

_tasks: "dict[int, asyncio.Task[Any]]" = {}
_tokens: "dict[int, int]" = {}
# Calls that were cancelled on their way here.
_given_up: "set[int]" = set()
# Tokens of tasks that have been told that the BEAM gave up on their calls. Any other cancellation is the task's own affair.
_cancelled: "set[int]" = set()
_answers: "dict[int, asyncio.Future[Any]]" = {}
_lock = _threads.allocate_lock()
_THREAD = "typhon-asyncio"
# Seconds without a call after which the loop's thread gives back the memory that it has freed.
_REST = 5.0
_used = False
_rests = False
_loop: "asyncio.AbstractEventLoop | None" = None
_thread: "_Thread | None" = None
_making = _threads.allocate_lock()
_awake = False


class _Thread:
    """The thread of the loop. It makes the loop itself: one of gevent's belongs to the thread that makes it."""

    def __init__(self) -> None:
        self.error: "BaseException | None" = None
        # Each is held until it is so.
        self._is_made = _threads.allocate_lock()
        self._has_ended = _threads.allocate_lock()
        self._is_made.acquire()
        self._has_ended.acquire()

    def make_loop(self) -> None:
        """Start, and wait until the loop is there. Raises why it cannot be."""
        _threads.start(self._run, (), _THREAD)
        with self._is_made:
            pass
        if self.error is not None:
            raise self.error

    def join(self, seconds: float) -> bool:
        """Whether it has ended by then."""
        return bool(self._has_ended.acquire(timeout=seconds))

    def _run(self) -> None:
        global _loop, _thread
        made = None
        try:
            # Whoever started an earlier one may have been interrupted, and that one be on its way.
            with _making:
                if _loop is None:
                    made = asyncio.new_event_loop()
                    made.add_reader(_native.loop_attach(), _on_signal)
                    _loop, _thread = made, self
        except BaseException as error:
            if made is not None:
                made.close()
            self.error = error
            return
        finally:
            self._is_made.release()
        if made is not None:
            try:
                _run(made)
            finally:
                self._has_ended.release()


def loop() -> asyncio.AbstractEventLoop:
    """The worker's event loop; started if it does not run yet. After a start that fails the next call tries again."""
    if _loop is not None:
        return _loop
    with _lock:
        if _loop is None:
            _Thread().make_loop()
        assert _loop is not None
        return _loop


def _run(new: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(new)
    _native.loop_enter()
    while True:
        try:
            return new.run_forever()
        except (SystemExit, KeyboardInterrupt):
            # A task's, which has it as its exception, too: the call ends with it. The loop serves the other ones.
            pass


def stop() -> bool:
    """End the loop's thread, its tasks cancelled; False when one of them goes on. The worker ends, its process does not."""
    running, thread = _loop, _thread
    if running is None or thread is None:
        return True

    def end() -> None:
        _cancelled.update(_tasks)
        for task in asyncio.all_tasks(running):
            task.cancel()
        running.call_later(0.05, running.stop)

    running.call_soon_threadsafe(end)
    if not thread.join(2):
        return False
    running.close()
    return True


def run_soon(coroutine: "Coroutine[Any, Any, Any]") -> None:
    """Run a coroutine in the worker's loop for its effect. From any thread."""
    running = loop()
    if running.is_closed():
        coroutine.close()
    else:
        asyncio.run_coroutine_threadsafe(coroutine, running)


def submit(token: int, coroutine: "Coroutine[Any, Any, Any]", call: int) -> None:
    """Run what a call of a coroutine function has returned. From any thread."""
    global _awake
    running = loop()
    _submitted.append((token, coroutine, call))
    with _lock:
        if _awake:
            return
        _awake = True
    running.call_soon_threadsafe(_take_submitted)


def _take_submitted() -> None:
    global _awake
    with _lock:
        _awake = False
    while _submitted:
        _start(*_submitted.popleft())


def _start(token: int, coroutine: "Coroutine[Any, Any, Any]", call: int) -> None:
    assert _loop is not None
    context = contextvars.copy_context()
    context.run(CALL.set, call)
    task = _loop.create_task(coroutine, context=context)
    _tasks[token] = task
    if call:
        _tokens[call] = token
        if call in _given_up:
            _given_up.discard(call)
            _cancel(token)
    task.add_done_callback(functools.partial(_finish, token, call))


def _finish(token: int, call: int, task: "asyncio.Task[Any]") -> None:
    global _used
    del _tasks[token]
    given_up = token in _cancelled
    _cancelled.discard(token)
    if call:
        _tokens.pop(call, None)
        with contextlib.suppress(Cancelled):
            _io.finish(call)
    if task.cancelled():
        if given_up:
            _native.loop_cancelled(token)
        else:
            _native.loop_failed(token, _own_cancellation(task))
    elif (error := task.exception()) is None:
        _native.loop_done(token, task.result())
    elif given_up and isinstance(error, Cancelled):
        _native.loop_cancelled(token)
    else:
        _native.loop_failed(token, error)
    _used = True
    if not _rests:
        _rest()


def _rest() -> None:
    """Look, after a while, whether there was nothing to do."""
    global _used, _rests
    if _rests and not _used:
        _rests = False
        _native.trim_own()
        return
    _rests, _used = True, False
    assert _loop is not None
    _loop.call_later(_REST, _rest)


def _cancel(token: int) -> None:
    if token not in _cancelled:
        _cancelled.add(token)
        _tasks[token].cancel()


def told(call: int) -> None:
    """What runs in the loop is about to be told, by Cancelled, that a call is given up: it has waited there for the BEAM.

    A task of the call's hears of it once. Another one, which works for the call, does not say so to the call's own.
    """
    token = _tokens.get(call)
    if token is not None and asyncio.current_task(_loop) is _tasks[token]:
        _cancelled.add(token)


def is_given_up(error: BaseException) -> bool:
    """Whether the call of the current task has to end with this: the BEAM gave it up. A CancelledError may be of its own making."""
    if isinstance(error, asyncio.CancelledError):
        call = CALL.get()
        token = _tokens.get(call) if call else None
        return token is not None and token in _cancelled
    return isinstance(error, (Cancelled, GeneratorExit))


def _own_cancellation(task: "asyncio.Task[Any]") -> BaseException:
    """The exception of a task that was cancelled by itself, by a library, or by what it awaited: with the frames of the task alone."""
    try:
        task.exception()
    except asyncio.CancelledError as error:
        while (tb := error.__traceback__) is not None and tb.tb_frame.f_globals is globals():
            error.__traceback__ = tb.tb_next
        return error
    raise AssertionError("the task was not cancelled")


def _on_signal() -> None:
    calls, answers, cancelled = _native.loop_take()
    for token, coroutine, call in calls:
        _start(token, coroutine, call)
    for tag, (ok, value) in answers:
        future = _answers.pop(tag, None)
        if future is None or future.done():
            continue
        if ok is None:
            future.set_exception(value)
        elif ok:
            future.set_result(value)
        else:
            future.set_exception(_beam.failure(*value))
    for call in cancelled:
        if call in _tokens:
            _cancel(_tokens[call])
        else:
            _given_up.add(call)
    mailbox._deliver()


async def _ask(question: object) -> Any:
    """The answer to a question, without blocking the loop."""
    running = asyncio.get_running_loop()
    if running is not loop():
        raise RuntimeError("typhon.aio works in the worker's own event loop, where coroutine functions run that the BEAM calls")
    future: asyncio.Future[Any] = running.create_future()
    while (tag := _native.loop_ask(question, CALL.get())) is None:
        await asyncio.sleep(_TURN)
    _answers[tag] = future
    try:
        return await future
    finally:
        if _answers.pop(tag, None) is not None:
            _native.loop_forget(tag)


class _Aio:
    """The awaitable forms: await typhon.aio.call(…), await typhon.aio.apply(f, 1), await typhon.aio.Elixir.Enum.sum([1])."""

    async def call(self, module: "str | Atom", function: "str | Atom", args: Sequence[object] = ()) -> Any:
        """As typhon.call, and other coroutines go on meanwhile."""
        return await _ask(_beam.question(module, function, args))

    async def apply(self, function: Fun, *args: object) -> Any:
        """As function(*args), and other coroutines go on meanwhile."""
        return await _ask((_beam._APPLY, function, list(args)))

    def __init__(self) -> None:
        self.Elixir = _beam.Namespace("Elixir", self.call)
        self.erlang = _beam.Namespace("erlang", self.call)

    async def iterate(self, iterator: "_beam.Iter") -> Any:
        """`async for x in typhon.aio.iterate(it)`: an Elixir enumerable, without blocking the loop."""
        while True:
            while iterator._at < len(iterator._batch):
                element = iterator._batch[iterator._at]
                iterator._at += 1
                yield element
            if iterator._done:
                return
            question = (_beam._PULL, iterator._name, iterator._fetch)
            iterator._batch, iterator._done = await _ask(question)
            iterator._at = 0


aio = _Aio()


class Mailbox:
    """Messages that were sent to this worker, for coroutines: await typhon.mailbox.get()."""

    def __init__(self) -> None:
        self._waiting: "deque[asyncio.Future[Any]]" = deque()

    async def get(self) -> Any:
        """The next message; waits for it."""
        if not self._waiting and (message := _native.message_now()) is not None:
            return message[0]
        running = asyncio.get_running_loop()
        if running is not loop():
            raise RuntimeError("typhon.mailbox works in the worker's own event loop; elsewhere there is typhon.receive()")
        future: asyncio.Future[Any] = running.create_future()
        self._waiting.append(future)
        _native.loop_listen(True)
        self._deliver()  # one may have come in between
        try:
            return await future
        finally:
            if not future.done() or future.cancelled():
                self._waiting.remove(future) if future in self._waiting else None
            if not self._waiting:
                _native.loop_listen(False)

    def _deliver(self) -> None:
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            try:
                message = _native.message_now()
            except BaseException as error:
                self._waiting.popleft().set_exception(error)
                continue
            if message is None:
                return
            self._waiting.popleft().set_result(message[0])


mailbox = Mailbox()
