"""Functions that go wrong, for the tests of faults and for the soak."""

import ctypes
import os
import resource
import signal
import sys
import threading
import time

import typhon

# --- the worker ends, or should ---


def kill(number):
    os.kill(os.getpid(), number)
    # A signal may take a moment to arrive.
    time.sleep(600)


def segfault():
    ctypes.string_at(0)


def leave(status):
    os._exit(status)


def stop():
    """The whole process stands still, also the threads that watch over it."""
    os.kill(os.getpid(), signal.SIGSTOP)
    # A signal may take a moment to arrive.
    time.sleep(600)


def unbounded():
    """From now on a recursion ends with the stack. Newer Pythons count their frames in C or look how much of the stack is left,
    whatever the limit is: so there is less of it than they know of."""
    sys.setrecursionlimit(10**9)
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (64 * 1024, hard))


def overflow():
    """Recursion through C code."""
    unbounded()

    def deeper(_):
        return max([1], key=deeper)

    return deeper(0)


def overflow_in_c():
    """The same in functions of C alone."""
    callback_type = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int)

    def deeper(n):
        return callback(n + 1)

    callback = callback_type(deeper)
    unbounded()
    return callback(0)


def recurse():
    """Python's limit holds: an exception."""
    return recurse()


def hold_gil():
    """One C function that holds the GIL and that nothing interrupts: a thread waits for a lock that it has itself."""
    mutex = ctypes.create_string_buffer(256)
    lock = ctypes.PyDLL(None).pthread_mutex_lock
    lock(mutex)
    return lock(mutex)


def eat(size):
    """Takes memory until there is none left."""
    held = []
    while True:
        held.append(bytearray(size))


def die_soon(seconds, function, *args):
    """Runs the function while a thread waits to kill the process, also in the midst of what follows the function."""

    def strike():
        # Without the GIL when it strikes: the process may be copying a result.
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=strike, daemon=True).start()
    return globals()[function](*args)


def without_threads(flag):
    """True: from now on no thread can be started, as there is no room for its stack."""
    if flag:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _LEFT, hard))
        threading.stack_size(4 * _LEFT)
    else:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        threading.stack_size(0)


# What is left to a process that can start no thread.
_LEFT = 256 * 1024 * 1024


async def coroutine():
    return "done"


# --- exceptions that resist ---


class Resists(Exception):
    def __init__(self, how):
        self.how = how
        self.lock = threading.Lock()  # cannot be pickled
        self.frame = sys._getframe()
        self.generator = (i for i in range(3))

    def __reduce__(self):
        raise TypeError("cannot be pickled")

    def __str__(self):
        if self.how == "raises":
            raise RuntimeError("no text")
        if self.how == "raises base":
            raise SystemExit(7)
        if self.how == "no str":
            return 5
        if self.how == "surrogate":
            return "lone \ud800 surrogate"
        if self.how == "recursion":
            return str(self)
        if self.how == "long":
            return "x" * 50_000_000
        if self.how == "cancelled":
            raise typhon.Cancelled("by itself")
        return self.how

    __repr__ = __str__


class Meta(type):
    def __getattribute__(cls, name):
        if name in ("__module__", "__qualname__", "__name__"):
            raise RuntimeError("nameless")
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=Meta):
    pass


class Sneaky(str):
    def encode(self, *args):
        raise RuntimeError("no bytes")

    def __str__(self):
        raise RuntimeError("no str")


def raise_(how):
    if how == "nameless":
        raise Nameless("x")
    if how == "notes":
        error = ValueError("notes")
        error.__notes__ = object()
        raise error
    if how == "sneaky note":
        error = ValueError("notes")
        error.__notes__ = [Sneaky("note")]
        raise error
    if how == "sneaky":
        raise ValueError(Sneaky("text"))
    if how == "cycle":
        error = ValueError("cycle")
        other = ValueError("other")
        error.__cause__, other.__cause__ = other, error
        raise error
    if how == "chain":
        error = None
        for i in range(10_000):
            new = ValueError(i)
            new.__cause__ = error
            error = new
        raise error
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "exit":
        raise SystemExit(3)
    if how == "stop":
        raise StopIteration(5)
    if how == "cancelled by user":
        raise typhon.Cancelled("by the user")
    raise Resists(how)


def result(how):
    """A result that cannot cross."""
    if how == "surrogate":
        return {"a": ["lone \ud800"]}
    if how == "cycle":
        value = []
        value.append(value)
        return value
    if how == "deep":
        value = []
        for _ in range(20_000):
            value = [value]
        return value
    if how == "keys":
        return {"a": 1, b"a": 2}
    if how == "atom":
        return [typhon.Atom("no_such_atom_of_faults_py")]
    if how == "huge then bad":
        return ["x" * 5_000_000, "lone \ud800"]
    if how == "objects then bad":
        return [object() for _ in range(1_000)] + ["lone \ud800"]
    raise ValueError(how)


# --- children ---


def fork_and_return():
    """The child comes back from the call, too."""
    return os.fork() == 0


def fork_and_raise():
    if os.fork() == 0:
        raise ValueError("in the child")
    return "parent"


def fork_and_exit(status):
    pid = os.fork()
    if pid == 0:
        sys.exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def fork_in_coroutine():
    """The loop's thread goes on in the child, with a copy of the loop."""
    if os.fork() == 0:
        return "child"
    return "parent"


def fork_and_talk():
    """What the child says must not come by the worker's channel."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = []
        try:
            print("a child prints")
            for function in (
                lambda: typhon.call("Elixir.Enum", "sum", [[1, 2]]),
                lambda: typhon.send(typhon.self(), "hello"),
                lambda: typhon.receive(timeout=0),
            ):
                try:
                    function()
                    said.append("talked")
                except BaseException as error:
                    said.append(type(error).__name__)
        finally:
            os.write(write, ",".join(said).encode())
            os._exit(0)
    os.close(write)
    with open(read) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def fork_with_view(view):
    """The child lets go of an argument that lies in shared memory; the parent still reads it."""
    pid = os.fork()
    if pid == 0:
        del view
        return "child"
    os.waitpid(pid, 0)
    return sum(view[:1000])


def _square(x):
    return x * x


def multiprocess(method, count):
    import multiprocessing

    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(_square, range(count))


def process_that_prints():
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=print, args=("from a process",))
    process.start()
    process.join()
    # The start of another one, in another thread, looks after this child too: then join() may return before its code is noted.
    until = time.monotonic() + 60
    while process.exitcode is None and time.monotonic() < until:
        time.sleep(0.001)
    return process.exitcode


def subprocess_run(text):
    import subprocess

    return subprocess.run(["cat"], input=text, capture_output=True, text=True, check=True).stdout


def children(seconds):
    """Children of every sort that outlive the call."""
    import multiprocessing
    import subprocess

    sleeper = subprocess.Popen(["sleep", str(seconds)])
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(seconds,))
    process.start()
    forked = os.fork()
    if forked == 0:
        time.sleep(seconds)
        os._exit(0)
    return [sleeper.pid, process.pid, forked]


def children_and_sleep(seconds):
    children(seconds)
    time.sleep(seconds)


def children_and_die(seconds):
    children(seconds)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


# --- sizes ---


def blob(size, byte=0):
    return bytes([byte]) * size


def size_of(value):
    return len(value)
