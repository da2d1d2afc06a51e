"""A Python inside the BEAM: what its main thread runs (native/embed/bridge.cpp), one worker after the other.

The process is not Python's here, and must outlive whatever user code does: what would end it, fork it, or take its signals
raises instead (`_guard`). Between two workers the interpreter is cleaned (`_clean`); docs/isolation.md says of what.

It is a whole Python, or a sub-interpreter of one (`_is_sub`): then the C library is not its own, and neither are the
environment variables that C code sees.

The socket brings a message for each job, with three descriptors: the memory of the worker's channel, its control pipe, its
output. It takes back {"ready", …} once, {"ended", code, clean} for each job, and {"clean"} when that was false and what went
on has ended since.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from types import ModuleType

import _imp
import _socket
from typhon import _native
from typhon._hooks import Finder

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs a worker's start several milliseconds
    from typing import Any, NoReturn

_is_sub = bool(sys._typhon_sub)  # type: ignore[attr-defined]

# Not `signal`, which makes copies of what _guard() replaces here.
_signal: Any = __import__("_signal")

_LONGEST_JOB = 1_048_576
# So often, in seconds, what goes on after its worker is looked for.
_LOOK = 0.5
_EXTENSIONS = tuple(_imp.extension_suffixes())
# Stateless, and the native module knows classes of theirs.
_KEPT = {"typhon._native", "typhon._embedded", "typhon._beam", "typhon._context"}


def serve(fd: int) -> None:
    """Run jobs until the other end of the socket is closed."""
    sock = _socket.socket(fileno=fd)
    _guard()
    before = _Snapshot()
    sock.send(
        _native.encode(
            (
                "ready",
                {
                    "version": sys.version.split()[0],
                    "executable": sys.executable or "",
                    "own_directory": bool(sys._typhon_own_directory),  # type: ignore[attr-defined]
                },
            )
        )
    )
    clean = True
    while True:
        sock.settimeout(None if clean else _LOOK)
        try:
            data, control, _, _ = sock.recvmsg(_LONGEST_JOB, _socket.CMSG_SPACE(12))
        except TimeoutError:
            clean = _wind_up()
            if clean:
                _tidy(before)
                sock.send(_native.encode(("clean",)))
            continue
        if not data:
            return
        code, clean = _run(_native.decode(data), _descriptors(control), before)
        sock.send(_native.encode(("ended", code, clean)))


def _descriptors(control: "list[tuple[int, int, bytes]]") -> list[int]:
    return [
        int.from_bytes(data[i : i + 4], sys.byteorder)
        for level, kind, data in control
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS
        for i in range(0, len(data), 4)
    ]


def _run(job: dict[str, Any], fds: list[int], before: "_Snapshot") -> tuple[int, bool]:
    memory, control, output = fds
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    code = 1
    try:
        os.environ.clear()
        os.environb.update({_bytes(name): _bytes(value) for name, value in job["environment"].items()})
        if sys._typhon_locale:  # type: ignore[attr-defined]
            os.environ["LC_CTYPE"] = sys._typhon_locale  # type: ignore[attr-defined]
        if sys._typhon_own_directory:  # type: ignore[attr-defined]
            os.chdir(_bytes(job["cd"]))
        sys.path[1:1] = [os.fsdecode(_bytes(path)) for path in job["python_path"]]
        # Python has made up its mind about the old ones: /dev/null has positions, a pipe has none.
        sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        if "limit_memory" in job["settings"]:
            _finder.when_imported("numpy", _limit_numpy)
        from typhon import _worker

        code = _worker.serve(0, memory, control, job["settings"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        print(f"typhon: the interpreter could not serve: {error!r}", *getattr(error, "__notes__", ()), sep="\n")
    clean = _wind_up()
    _tidy(before)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)
    return code, clean


def _bytes(text: "str | list[int]") -> bytes:
    """What the BEAM calls a path or a variable, whatever the locale makes of it. A list holds bytes that are no UTF-8."""
    return text.encode() if isinstance(text, str) else bytes(text)


class _Snapshot:
    """What an interpreter is like before its first worker."""

    def __init__(self) -> None:
        self.modules = set(sys.modules)
        self.path = list(sys.path)
        self.meta_path = list(sys.meta_path)
        self.path_hooks = list(sys.path_hooks)
        self.streams = (sys.stdout, sys.stderr, sys.stdin)
        self.hooks = (sys.excepthook, sys.displayhook, threading.excepthook)
        self.recursion_limit = sys.getrecursionlimit()
        self.switch_interval = sys.getswitchinterval()
        self.main = dict(vars(sys.modules["__main__"]))


def _wind_up() -> bool:
    """End what the worker has started. False: some of it goes on, and this is to be called again."""
    steps = (_end_loop, _native.wind_up, _end_threads)
    ended = dict.fromkeys(steps, False)
    for step in steps:
        try:
            ended[step] = step()
        except BaseException as error:
            print(f"typhon: {step.__name__}: {error!r}")
    try:
        atexit._run_exitfuncs()
    except BaseException as error:
        print(f"typhon: atexit: {error!r}")
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass
    if ended[_end_loop] and ended[_native.wind_up]:
        _native.let_go()
    return all(ended.values())


def _tidy(before: _Snapshot) -> None:
    """Make the interpreter like new, as far as that goes."""
    sys.stdout, sys.stderr, sys.stdin = before.streams
    sys.excepthook, sys.displayhook, threading.excepthook = before.hooks
    sys.settrace(None)
    sys.setprofile(None)
    sys.setrecursionlimit(before.recursion_limit)
    sys.setswitchinterval(before.switch_interval)
    sys.path[:] = before.path
    sys.meta_path[:] = before.meta_path
    sys.path_hooks[:] = before.path_hooks
    sys.path_importer_cache.clear()
    names = vars(sys.modules["__main__"])
    names.clear()
    names.update(before.main)
    _unpatch()
    _native.forget_conversions()
    _forget_modules(before.modules)
    # Of files that may have changed, and of code that is gone.
    lines: Any = sys.modules.get("linecache")
    if lines is not None:
        lines.clearcache()
    gc.collect()


def _unpatch() -> None:
    """Take back what gevent has put into the standard library: the next worker may be of a pool that knows nothing of it."""
    saved = getattr(sys.modules.get("gevent.monkey"), "saved", {})
    for name, originals in list(saved.items()):
        module = sys.modules.get(name)
        if module is not None:
            vars(module).update(originals)
    saved.clear()


def _end_loop() -> bool:
    aio = sys.modules.get("typhon._aio")
    return aio.stop() if aio is not None else True


def _end_threads() -> bool:
    """Those of the worker's own end with it, and those of executors when they have no work; whoever has started others is
    asked to have ended them."""
    from typhon import _threads

    if _threads.are_patched():
        # What threading knows are greenlets: they cannot be waited for from here, and do not go on when their thread has ended.
        return _threads.become(_is_alone, 0.2)
    executors: Any = sys.modules.get("concurrent.futures.thread")
    if executors is not None:
        # As at the end of a process, but for ever is not what is meant.
        with executors._global_shutdown_lock:
            executors._shutdown = True
        for thread, queue in list(executors._threads_queues.items()):
            queue.put(None)
            thread.join(0.2)
        executors._shutdown = False
    # From Python 3.13 on threading takes the first thread of the process for the main one of each sub-interpreter.
    own = {threading.get_ident(), threading.main_thread().ident}
    for thread in _others(own):
        thread.join(0.2)
    return not _others(own)


def _is_alone() -> bool:
    """Whether this is the only thread that runs Python."""
    if _is_sub:
        return not _others({threading.get_ident(), threading.main_thread().ident})
    return len(sys._current_frames()) == 1


def _others(own: "set[int | None]") -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.ident not in own]


def _forget_modules(kept: set[str]) -> None:
    """Modules that were loaded since are loaded anew when they are imported again; but not packages with C extensions, many
    of which cannot be loaded twice, nor the standard library."""
    roots: dict[str, list[str]] = {}
    for name in list(sys.modules):
        root = name.partition(".")[0]
        # Typhon's own hold the state of a worker, and are new for the next one.
        if name not in (_KEPT if root == "typhon" else kept):
            roots.setdefault(root, []).append(name)
    for root, names in roots.items():
        if root in sys.stdlib_module_names or any(_is_extension(sys.modules[name]) for name in names):
            continue
        for name in names:
            del sys.modules[name]


def _is_extension(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and file.endswith(_EXTENSIONS)


# --- what would hurt the BEAM ---


def _guard() -> None:
    import _posixsubprocess
    import posix

    for name, instead in {
        "fork": "use subprocess",
        "forkpty": "use subprocess",
        "_exit": "raise an exception",
        "abort": "raise an exception",
        **dict.fromkeys(("execv", "execve"), "use subprocess"),
        **dict.fromkeys(("setsid", "setpgid", "setpgrp", "login_tty"), _PROCESS),
        **dict.fromkeys(("setuid", "setgid", "seteuid", "setegid", "setreuid", "setregid", "setresuid", "setresgid"), _PROCESS),
        **dict.fromkeys(("setgroups", "initgroups", "chroot", "unshare", "setns"), _PROCESS),
    }.items():
        _refuse((posix, os), name, f"os.{name}", instead)
    _guard_signals()
    _check((posix, os), "kill", "os.kill", _is_beam)
    _check((posix, os), "killpg", "os.killpg", lambda group: group in (0, os.getpgrp()))
    _check((_signal,), "pidfd_send_signal", "signal.pidfd_send_signal", lambda fd: _pid_of(fd) in (None, os.getpid()))
    _guard_children(posix)
    _guard_waits(posix)
    _guard_stacks()
    finder = _finder
    sys.meta_path.insert(0, finder)
    if _is_sub:
        # They would make objects of other interpreters' in this one's memory.
        for name in ("_current_frames", "_current_exceptions"):
            _refuse((sys,), name, f"sys.{name}", "it would reach into other interpreters")
        _keep_environment(_posixsubprocess)
        from typhon import _extensions

        _extensions.guard()
    finder.when_imported("asyncio.unix_events", _tame_asyncio)
    finder.when_imported("uvloop", _tame_uvloop)
    finder.when_imported("ctypes", _tame_ctypes)
    finder.when_imported("faulthandler", _tame_faulthandler)
    finder.when_imported("multiprocessing", _tame_multiprocessing)
    finder.when_imported("resource", _tame_resource)


_finder = Finder()


def _limit_numpy(numpy: Any) -> None:
    """Its data is not allocated by Python."""
    core = sys.modules.get("numpy._core.multiarray") or sys.modules.get("numpy.core.multiarray")
    api = getattr(core, "_ARRAY_API", None)
    if api is not None:
        _native.limit_numpy(api)


_PROCESS = "the process is the BEAM's"


def _refuse(
    modules: "tuple[ModuleType, ...]", name: str, title: str, instead: str, error: type[Exception] = RuntimeError
) -> None:
    def refused(*_: Any, **__: Any) -> NoReturn:
        raise error(
            f"{title}() is not for an interpreter inside the BEAM, which it would end or confuse: {instead}, or run this pool "
            "with isolation: :process"
        )

    _replace(modules, name, lambda _: refused)


class _Guarded:
    """In the place of a builtin function: like one it is not bound to what it is an attribute of, and is pickled by its name."""

    def __init__(self, true: Any, call: Any) -> None:
        self._call = call
        self.__name__: str = true.__name__
        self.__qualname__: str = true.__qualname__
        self.__module__ = true.__module__
        self.__doc__ = true.__doc__

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._call(*args, **named)

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<guarded function {self.__qualname__}>"


def _replace(modules: "tuple[Any, ...]", name: str, make: Any) -> None:
    """Puts what `make` makes of a function into its place, in all these modules."""
    true = next((getattr(module, name) for module in modules if hasattr(module, name)), None)
    if true is None:
        return
    guarded = _Guarded(true, make(true))
    for module in modules:
        if hasattr(module, name):
            setattr(module, name, guarded)


def _guard_signals() -> None:
    """Their handlers and timers are the BEAM's. What CPython refuses off the main thread raises what it raises there, a
    ValueError: asyncio, trio and test runners expect that, and do without."""
    import _thread

    _signal._typhon_signal = _signal.signal
    _refuse((_signal,), "signal", "signal.signal", _SIGNALS, ValueError)
    _replace((_signal,), "set_wakeup_fd", lambda _: _WakeupFd().set)
    for name in ("siginterrupt", "setitimer", "alarm", "raise_signal", "pause", "pthread_kill"):
        _refuse((_signal,), name, f"signal.{name}", _SIGNALS)
    # They would take what is the BEAM's.
    for name in ("sigwait", "sigwaitinfo", "sigtimedwait"):
        _refuse((_signal,), name, f"signal.{name}", _SIGNALS)
    # It would be lost: nothing handles it.
    _refuse((_thread,), "interrupt_main", "_thread.interrupt_main", "a call is interrupted at its deadline")


_SIGNALS = "signals are the BEAM's"


class _WakeupFd:
    """signal.set_wakeup_fd: no signal comes, so nothing is ever written there. An event loop sets it and does not ask why."""

    def __init__(self) -> None:
        self._fd = -1

    def set(self, fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
        before, self._fd = self._fd, fd
        return before


def _tame_asyncio(module: Any) -> None:
    _refuse((module._UnixSelectorEventLoop,), "add_signal_handler", "loop.add_signal_handler", _SIGNALS)


def _tame_uvloop(module: Any) -> None:
    _refuse((module.Loop,), "add_signal_handler", "loop.add_signal_handler", _SIGNALS)
    for name in ("subprocess_exec", "subprocess_shell"):
        _refuse((module.Loop,), name, f"uvloop's {name}", "it learns by a signal that its child has ended; use asyncio's own loop")


def _check(modules: "tuple[ModuleType, ...]", name: str, title: str, hits_the_beam: Any) -> None:
    def checked(function: Any) -> Any:
        def send(target: int, signal: int, /, *rest: Any) -> None:
            if signal != 0 and hits_the_beam(target):
                raise RuntimeError(
                    f"{title}() would send a signal to the BEAM, in which this interpreter lives: run this pool with "
                    "isolation: :process"
                )
            function(target, signal, *rest)

        return send

    _replace(modules, name, checked)


def _is_beam(pid: int) -> bool:
    """Whether a signal for this number is one for the BEAM: the name of a thread is one of its process."""
    return pid in (0, -1, -os.getpgrp()) or os.path.exists(f"/proc/self/task/{int(pid)}")


def _pid_of(fd: int) -> "int | None":
    """Whose descriptor this is, of os.pidfd_open; None when that is not known."""
    try:
        with open(f"/proc/thread-self/fdinfo/{int(fd)}", encoding="ascii") as info:
            return next((int(line.split()[1]) for line in info if line.startswith("Pid:")), None)
    except OSError:
        return None


def _guard_children(posix: Any) -> None:
    """A child must not inherit what the BEAM does with signals: which are blocked on Python's threads, and which are ignored. Where
    a program is executed by fork and exec the namespace sees to that (native/embed/guard.cpp)."""
    ignored = {_signal.SIGFPE, *range(_signal.SIGRTMIN, _signal.SIGRTMAX + 1)}

    def of_its_own(function: Any) -> Any:
        def spawned(path: Any, argv: Any, env: Any, /, **options: Any) -> Any:
            options.setdefault("setsigmask", _signal.pthread_sigmask(_signal.SIG_BLOCK, ()))
            options["setsigdef"] = {*options.get("setsigdef", ()), *ignored}
            # From Python 3.13 on None is the C library's, which sub-interpreters have in common.
            return function(path, argv, os.environ if env is None and _is_sub else env, **options)

        return spawned

    for name in ("posix_spawn", "posix_spawnp"):
        _replace((posix, os), name, of_its_own)


def _guard_waits(posix: Any) -> None:
    """Whoever waits for any child would take those of other interpreters, which then seem to have ended well; and there is always
    one more, of the BEAM's own."""
    why = "the children of all interpreters are this process's: wait for each by its number"
    for name in ("wait", "wait3"):
        _refuse((posix, os), name, f"os.{name}", why)

    def for_one(title: str, is_any: Any) -> Any:
        def make(true: Any) -> Any:
            def wait(*args: Any) -> Any:
                if is_any(*args):
                    raise RuntimeError(
                        f"{title}() for any child is not for an interpreter inside the BEAM: {why}, or run this pool with "
                        "isolation: :process"
                    )
                return true(*args)

            return wait

        return make

    def of_group(pid: int = 1, *_: object) -> bool:
        return pid in (-1, 0, -os.getpgrp())

    def of_kind(kind: object = None, *_: object) -> bool:
        return kind in (posix.P_ALL, posix.P_PGID)

    for name, is_any in {"waitpid": of_group, "wait4": of_group, "waitid": of_kind}.items():
        _replace((posix, os), name, for_one(f"os.{name}", is_any))


def _keep_environment(subprocess: Any) -> None:
    """os.environ is this interpreter's, and what its children get; that of the C library is all interpreters'."""

    def putenv(name: Any, value: Any, /) -> None:
        pass

    def unsetenv(name: Any, /) -> None:
        pass

    fork_exec = subprocess.fork_exec

    def with_environment(*args: Any) -> Any:
        if args[5] is None:  # env_list
            args = (*args[:5], [name + b"=" + value for name, value in os.environb.items()], *args[6:])
        return fork_exec(*args)

    def system(command: Any) -> int:
        """Run a command in a shell; the wait status."""
        sys.audit("os.system", command)
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ)
        return os.waitpid(pid, 0)[1]

    for function in (putenv, unsetenv, system):
        _replace((os,), function.__name__, lambda _, function=function: function)
    subprocess.fork_exec = with_environment


# What a thread's stack holds, and how many calls it is enough for: `sorted`, whose key calls `sorted`, takes 5 KiB each.
_STACK = 64 * 1024 * 1024
_DEEPEST = 12_000


def _guard_stacks() -> None:
    """Recursion ends in a RecursionError before the stack does, whatever limit user code sets. From Python 3.12 on there is
    a limit of its own for C code, which cannot be changed."""
    threading.stack_size(_STACK)
    if sys.version_info >= (3, 12):
        return

    def within_the_stack(true: Any) -> Any:
        def setrecursionlimit(limit: int, /) -> None:
            if limit > _DEEPEST:
                import warnings

                warnings.warn(
                    f"sys.setrecursionlimit({limit}): the stacks of an interpreter inside the BEAM are enough for {_DEEPEST}, "
                    "which is the limit now; isolation: :process has no such bound",
                    RuntimeWarning,
                    stacklevel=3,
                )
                limit = _DEEPEST
            true(limit)

        return setrecursionlimit

    _replace((sys,), "setrecursionlimit", within_the_stack)


def _tame_faulthandler(module: Any) -> None:
    """What crashes here ends the BEAM, whose handlers say what there is to say: to ask for Python's does nothing."""
    later = module.dump_traceback_later

    def enable(*_: Any, **__: Any) -> None:
        pass

    def dump_traceback_later(timeout: Any, repeat: bool = False, file: Any = sys.stderr, exit: bool = False) -> None:
        if exit:
            raise RuntimeError(
                "faulthandler.dump_traceback_later(exit=True) would end the BEAM, in which this interpreter lives: leave out "
                "exit=True, or run this pool with isolation: :process"
            )
        later(timeout, repeat, file)

    module.enable, module.dump_traceback_later = enable, dump_traceback_later
    _refuse((module,), "register", "faulthandler.register", _SIGNALS)


def _tame_resource(module: Any) -> None:
    for name in ("setrlimit", "prlimit"):
        _refuse((module,), name, f"resource.{name}", _PROCESS)


def _tame_ctypes(module: Any) -> None:
    """The program that this process runs is not Python: its functions are in the library of this namespace."""
    module.pythonapi = module.PyDLL(sys._typhon_libpython)  # type: ignore[attr-defined]


def _tame_multiprocessing(module: Any) -> None:
    """Its processes are new ones, not copies of the BEAM."""
    module.set_start_method("spawn")
