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
    code = serve(beam_pid, fd, control, settings)
    if settings.get("concurrency", 1) > 1:
        _leave(code)
    return code


def _leave(code: int) -> None:
    """End as a program does, but for the interpreter: it would end its threads in the midst of the C++ code that called them, which
    takes that for an error of its own and aborts."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)


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
    return serve(beam_pid, fd, stdin, {"erlport": 1, "capture": 0}, prepare)


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
