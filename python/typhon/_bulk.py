"""Many small calls in one request: what `Typhon.multi` runs. Imported when the first batch comes.

A batch gives one of three shapes, which lib/typhon/multi.ex takes apart:

    [result, ...]                      every call returned
    ([result, ...], [(i, term), ...])  the calls i did not; `None` keeps their place. term: an error of docs/internals.md
    (term,)                            the function was not found: no call was made

or a coroutine of one of these, when some calls were of coroutine functions: the worker's event loop runs it.
"""

import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import starmap
from types import CoroutineType
from typing import Any

from typhon._errors import describe, note_hints, traceback_of
from typhon._namespace import instead
from typhon._native import Atom, Cancelled, unencodable

_CANNOT_ENCODE = Atom("cannot_encode")

_Errors = list[tuple[int, tuple[Any, ...]]]
_Results = list[Any] | tuple[list[Any], _Errors]
_Reply = _Results | tuple[tuple[Any, ...]] | Coroutine[Any, Any, _Results]
# The module and the function of a call, by its index.
_Name = Callable[[int], tuple[Any, str]]


def run(module: Any, function: str, calls: Sequence[list[Any]], stop: bool, kwargs: dict[str, Any]) -> _Reply:
    """Call one function with each list of arguments. `stop`: not further than to the first exception."""
    return _run(module, function, lambda target: starmap(target, calls), calls.__getitem__, len(calls), stop, kwargs)


def run_columns(module: Any, function: str, columns: list[list[Any]], stop: bool, kwargs: dict[str, Any]) -> _Reply:
    """As `run`, with the first argument of every call in columns[0], the second in columns[1]: no list for each call."""

    def given(index: int) -> object:
        return [column[index] for column in columns]

    return _run(module, function, lambda target: map(target, *columns), given, len(columns[0]), stop, kwargs)


def _run(
    module: Any,
    function: str,
    start: Callable[[Callable[..., Any]], Iterator[Any]],
    given: Callable[[int], object],
    count: int,
    stop: bool,
    kwargs: dict[str, Any],
) -> _Reply:
    try:
        target = find(module, function)
    except Cancelled:
        raise
    except BaseException as error:
        return (_describe(error, module, function),)
    if kwargs:
        from functools import partial

        target = partial(target, **kwargs)
    results: list[Any] = []
    errors: _Errors = []
    # extend() keeps what it has got when the iterator raises, and map and starmap go on behind the call that did: so the
    # loop over calls that return runs in C, and costs nothing for those that do not.
    pending = start(target)
    while True:
        try:
            results.extend(pending)
            if len(results) == count:
                break
            # A StopIteration of the function itself looks like the end.
            term = describe(StopIteration(), module, function)
        except Cancelled:
            raise
        except BaseException as error:
            term = _describe(error, module, function, (given(len(results)), kwargs))
        errors.append((len(results), term))
        results.append(None)
        if stop:
            break
    return _reply(results, errors, stop, lambda _: (module, function))


def run_each(calls: Sequence[tuple[Any, str, list[Any], dict[str, Any]]], stop: bool) -> _Reply:
    """Call functions of all sorts, each with arguments of its own."""
    found: dict[tuple[str, str], Callable[..., Any]] = {}
    results: list[Any] = []
    errors: _Errors = []
    for module, function, args, kwargs in calls:
        try:
            if type(module) is str:
                target = found.get((module, function))
                if target is None:
                    target = found[module, function] = find(module, function)
            else:
                target = find(module, function)
            results.append(target(*args, **kwargs))
        except Cancelled:
            raise
        except BaseException as error:
            errors.append((len(results), _describe(error, module, function, (args, kwargs))))
            results.append(None)
            if stop:
                break
    return _reply(results, errors, stop, lambda index: calls[index][:2])


def find(module: Any, function: str) -> Any:
    found = look_up(module, function)
    # As the worker does for a call that comes alone.
    return instead(found) if type(module) is str and module == "builtins" else found


def look_up(module: Any, function: str) -> Any:
    """What that is, be it a function or not. An object that is a str, or a tuple, is in a tuple of its own."""
    found = module
    try:
        if type(module) is str:
            # Also when it is in sys.modules: another thread may still be importing it, and this waits for that.
            __import__(module)
            found = sys.modules[module]
        elif type(module) is tuple:
            found = module[0]
        for name in function.split("."):
            found = getattr(found, name)
        return found
    except (AttributeError, ModuleNotFoundError) as error:
        # Whoever describes it may know of another call alone, that of a stream.
        note_hints(error, module, function)
        if type(module) is tuple or function.isascii() and (type(module) is not str or module.isascii()):
            raise
        from typhon import _names

        if (normal := _names.find(module, function)) is None:
            raise
        return normal[0]


def _describe(error: BaseException, module: Any, function: str, given: object = None) -> tuple[Any, ...]:
    """The error without this file's frames, as if the call had come alone."""
    while (tb := traceback_of(error)) is not None and tb.tb_frame.f_globals is globals():
        BaseException.with_traceback(error, tb.tb_next)
    return describe(error, type(module[0]).__name__ if type(module) is tuple else module, function, given)


def _reply(results: list[Any], errors: _Errors, stop: bool, name: _Name) -> _Reply:
    broken = unencodable(results, CoroutineType)
    if broken is None:
        return _awaited(results, _Waiting(results), errors, stop, name)
    return _merged(results, errors, broken)


def _merged(results: list[Any], errors: _Errors, broken: list[tuple[int, str, str, str]]) -> _Results:
    for index, path, kind, reason in broken:
        results[index] = None
        errors.append((index, (_CANNOT_ENCODE, path, kind, reason)))
    if not errors:
        return results
    errors.sort(key=lambda error: error[0])
    return results, errors


class _Waiting:
    """Coroutines, with the index of their call. Those that nobody comes to await are closed, or Python would complain of them."""

    def __init__(self, results: list[Any]) -> None:
        """Takes them out of the results."""
        self.calls: list[tuple[int, CoroutineType[Any, Any, Any]]] = []
        for index, result in enumerate(results):
            if type(result) is CoroutineType:
                self.calls.append((index, result))
                results[index] = None

    def __del__(self) -> None:
        from inspect import CORO_CREATED, getcoroutinestate

        for _, coroutine in self.calls:
            if getcoroutinestate(coroutine) == CORO_CREATED:
                coroutine.close()


async def _outcome(coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, BaseException | None]:
    """What it returns or raises. Raises only when the BEAM has given up the batch: a CancelledError may be the coroutine's own."""
    try:
        return await coroutine, None
    except BaseException as error:
        from typhon import _aio

        if _aio.is_given_up(error):
            raise
        return None, error


async def _awaited(results: list[Any], waiting: _Waiting, errors: _Errors, stop: bool, name: _Name) -> _Results:
    """The results when the coroutines among them have ended: they run at the same time, with `stop` one after the other."""
    if stop:
        for index, coroutine in waiting.calls:
            results[index], error = await _outcome(coroutine)
            if error is not None:
                del results[index:]
                errors = [(index, _describe(error, *name(index)))]
                results.append(None)
                break
    else:
        import asyncio

        ended = await asyncio.gather(*(_outcome(coroutine) for _, coroutine in waiting.calls))
        for (index, _), (result, error) in zip(waiting.calls, ended, strict=True):
            results[index] = result
            if error is not None:
                errors.append((index, _describe(error, *name(index))))
    # What a coroutine returns is not awaited again, as in a call of its own.
    return _merged(results, errors, unencodable(results))
