"""Which extension modules a sub-interpreter may import.

CPython refuses those that do not say that they can live beside a GIL of another interpreter. But it looks when the module's
library has been loaded and its first function been called, and there are libraries that end the process by then. So a
module that did not come with Python is imported first in a sub-interpreter of a child process, together with whatever its
package imports; only what survives that is imported here.

For the modules that come with Python its own look is enough from 3.13 on: an old module's function is called in the main
interpreter there. In 3.12 it is called in the sub-interpreter, and a second one that imports the same module corrupts memory;
which modules these are is known (`_OLD`).
"""

from __future__ import annotations

import os
import sys

import _imp
from typhon._hints import REFUSED

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs a worker's start several milliseconds
    from typing import Any

_TIMEOUT_S = 60

# Those of Python 3.12 with single-phase initialisation. Most have a twin in Python that is imported in their place; _zoneinfo
# has another form, but needs _datetime.
_OLD = {"_ctypes", "_curses", "_curses_panel", "_datetime", "_decimal", "_elementtree", "_lsprof", "_tkinter", "_zoneinfo"}
_OLD |= {"_tracemalloc", "faulthandler", "nis", "ossaudiodev", "pyexpat", "readline"}

# What the child does: an interpreter with a GIL of its own imports the module, whose name and file are the arguments; the
# files of the extension modules that have come with it are written one on a line.
_PROBE = """
import os, sys
name, file, *path = sys.argv[1:]
code = f'''
import importlib.util, sys
sys.path[:] = {path!r}
try:
    importlib.import_module({name!r})
except ModuleNotFoundError:
    spec = importlib.util.spec_from_file_location({name!r}, {file!r})
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None)
    if isinstance(file, str) and not file.endswith((".py", ".pyc")): print("typhon:" + file)
sys.stdout.flush()
'''
def end(reason=""):
    print(reason, flush=True)
    os._exit(1 if reason else 0)  # what the module leaves behind may not survive the end of Python
try:
    import _interpreters as api
    failed = api.exec(api.create("isolated"), code)
    if failed is not None: end(f"{failed.type.__name__}: {failed.msg}")
except ImportError:
    import _xxsubinterpreters as api
    try:
        api.run_string(api.create(isolated=True), code)
    except Exception as error:
        end(str(error) or type(error).__name__)
end()
"""


def guard() -> None:
    """Look at each extension module before it is loaded, whoever loads it."""
    create, create_builtin = _imp.create_dynamic, _imp.create_builtin
    old = _OLD if sys.version_info < (3, 13) else set()
    own = [path for path in sys.path if os.path.basename(path) == "lib-dynload"]
    trusted = tuple(os.path.join(path, "") for path in (*own, os.path.dirname(__file__)))
    known: dict[str, str] = {}

    def create_dynamic(spec: Any, file: Any = None) -> Any:
        path = os.path.abspath(spec.origin)
        if spec.name in old:
            raise _refusal(spec.name, "not before Python 3.13", path)
        if not path.startswith(trusted):
            if path not in known:
                known.update(_probe(spec.name, path))
            if known[path]:
                raise _refusal(spec.name, known[path], path)
        return create(spec) if file is None else create(spec, file)

    def create_builtin_(spec: Any) -> Any:
        if spec.name in old:
            raise _refusal(spec.name, "not before Python 3.13", None)
        return create_builtin(spec)

    _imp.create_dynamic, _imp.create_builtin = create_dynamic, create_builtin_


def _refusal(name: str, reason: str, path: "str | None") -> ImportError:
    error = ImportError(
        f"{name} cannot be imported in a sub-interpreter ({reason}). engine: :namespaces has whole Pythons, in which it can",
        name=name,
        path=path,
    )
    setattr(error, REFUSED, True)
    return error


def _probe(name: str, path: str) -> dict[str, str]:
    """What is wrong with the module, and with those that came with it, by their files; empty: nothing."""
    import subprocess  # seldom needed

    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, name, path, *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return {path: f"a process that tried it did not end within {_TIMEOUT_S} s"}
    except OSError as error:
        return {path: f"no process could be started that tries it: {error}"}
    if done.returncode < 0:
        return {path: f"a process that tried it was ended by signal {-done.returncode}"}
    if done.returncode > 0:
        lines = done.stdout.strip().splitlines() or ["no reason was given"]
        return {path: lines[-1]}
    files = (line.removeprefix("typhon:") for line in done.stdout.splitlines() if line.startswith("typhon:"))
    return {os.path.abspath(file): "" for file in files} | {path: ""}
