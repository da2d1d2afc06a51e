"""The worker process: what `python -c "<bootstrap>" <package> <beam pid> <fd> <settings> [path ...]` runs.

docs/internals.md ("The worker process") is the contract. Everything imported here is paid for at each worker's start, so
nothing is that the interpreter has not loaded already.
"""

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NATIVE_LOAD_FAILED = 97
ATTACH_FAILED = 98


def main() -> int:
    """Serve the channel named on the command line; the exit code of the process."""
    beam_pid, fd = int(sys.argv[2]), int(sys.argv[3])
    settings = _settings(sys.argv[4])
    sys.path[1:1] = sys.argv[5:]
    del sys.argv[1:]
    control = _take_over_stdin()
    _enable_faulthandler()
    return _end(lambda: serve(beam_pid, fd, control, settings))


def _end(serves: "Callable[[], int]") -> int:
    """The exit code of a process that serves and then ends. With other threads it ends here, as a program does, but for the
    interpreter.

    An interpreter that ends (before Python 3.14) ends each other thread where that next wants the GIL, by unwinding its stack. Where
    that is in the midst of C++ code of ours, or was called from there, no exception may pass, and the process would abort. A thread
    may want the GIL anywhere, so none is to be ended.
    """
    try:
        code = serves()
    except BaseException as error:
        if not _has_threads():
            raise
        code = _report(error)
    if not _has_threads():
        return code
    import atexit
    import threading

    from typhon import _native

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if not _has_threads():
        return code
    _flush_files()
    _native.leave(code)


def _has_threads() -> bool:
    """Whether another thread runs Python, also one that Python has not started, and may be in C++ code of ours."""
    return "typhon._native" in sys.modules and len(sys._current_frames()) > 1


def _report(error: BaseException) -> int:
    """As Python does with an exception that ends a program: the exit code."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
    else:
        sys.excepthook(type(error), error, error.__traceback__)
    return 1


def _flush_files() -> None:
    """What has been written to files and is not in them yet: an interpreter that ends closes whatever is open."""
    import gc

    base = io.IOBase.__base__
    assert base is not None
    files = [thing for thing in gc.get_objects() if issubclass(type(thing), base)]
    # Text goes to files such as gzip's, and those to Python's own.
    files.sort(key=lambda file: 0 if isinstance(file, io.TextIOBase) else 1 if _writes_when_closed(file) else 2)
    for file in (*files, sys.stdout, sys.stderr):
        try:
            file.close() if _writes_when_closed(file) else file.flush()
        except BaseException:
            pass


def _writes_when_closed(file: object) -> bool:
    """One that compresses, or has another format that needs an end."""
    return isinstance(file, io.BufferedIOBase) and type(file).__module__ != "_io"


def main_of_erlport(beam_pid: int, fd: int, control: int, prepare: "Callable[[dict[str, int]], None]") -> int:
    """The same for an instance of ErlPort's, whose command line is another one (erlport.cli). `control`: 0, or a descriptor
    beside stdin."""
    stdin = _take_over_stdin()
    if control != 0:
        os.close(stdin)
        stdin = os.dup(control)
        os.set_inheritable(stdin, False)
        os.close(control)
    _enable_faulthandler()
    return _end(lambda: serve(beam_pid, fd, stdin, {"erlport": 1, "capture": 0}, prepare))


def _enable_faulthandler() -> None:
    """A crash says where Python was: its last words become part of the error of every call in flight."""
    import faulthandler  # which a sub-interpreter cannot import

    if sys.version_info >= (3, 14):
        faulthandler.enable(c_stack=False)  # its many lines would take the place of those that name Python's
    else:
        faulthandler.enable()


def serve(
    beam_pid: int,
    fd: int,
    control: int,
    settings: dict[str, int],
    prepare: "Callable[[dict[str, int]], None] | None" = None,
) -> int:
    """Serve a channel until the BEAM lets go of it; the exit code. `beam_pid`: 0 in the BEAM itself."""
    _set_up_output()
    try:
        from typhon import _native
    except ImportError as error:
        print(f"typhon: the native module cannot be loaded: {error}")
        return NATIVE_LOAD_FAILED
    _remember_limits(settings)
    # matplotlib draws into memory: nobody sees a window of a worker's.
    os.environ.setdefault("MPLBACKEND", "agg")
    greeting = {
        "version": sys.version.split()[0],
        "implementation": sys.implementation.name,
        "executable": sys.executable or "",
        "prefix": sys.prefix,
        "os_pid": os.getpid(),
    }
    try:
        return _native.run_worker(beam_pid, fd, control, greeting, settings, _coroutine_type(), prepare or _prepare)
    except OSError as error:
        print(f"typhon: {error}")
        return ATTACH_FAILED
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from typhon import _hints

        for hint in _hints.of(error):
            error.add_note(hint)
        raise


def _prepare(settings: dict[str, int]) -> None:
    """Called when the channel is there, before the first request is taken."""
    from typhon import _hooks

    _hooks.install(settings.get("log_level", 30))
    if settings.get("restricted") or "typhon._beam" in sys.modules:
        from typhon import _beam

        # An interpreter inside the BEAM may have served another pool before.
        _beam.ask_to_send(bool(settings.get("restricted")))
    if settings.get("signal") == 0 or settings.get("concurrency", 1) > 1:
        from typhon import _sleep

        _sleep.install()


def _coroutine_type() -> type:
    async def nothing() -> None:
        pass

    coroutine = nothing()
    coroutine.close()
    return type(coroutine)


def _settings(text: str) -> dict[str, int]:
    """`"concurrency=4,nice=10"` as a dict. Who reads which of them: native/executor/run_worker.cpp."""
    pairs = (pair.split("=", 1) for pair in text.split(",") if pair)
    return {name: int(value) for name, value in pairs}


def _remember_limits(settings: dict[str, int]) -> None:
    names = {"memory": "limit_memory", "cpu_time": "limit_cpu", "open_files": "limit_files"}
    limits = {name: settings[key] for name, key in names.items() if key in settings}
    if limits:
        # What describes an error must be there when there is no memory and no descriptor to import it.
        from typhon import _errors

        _errors.limits.update(limits)


def _take_over_stdin() -> int:
    """stdin is the control pipe: move it out of the reach of user code and of children, which get /dev/null."""
    control = os.dup(0)
    os.set_inheritable(control, False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return control


def _set_up_output() -> None:
    """stdout and stderr are one pipe: line by line, and never an error for a character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
