"""What `Typhon.exec_file` runs: a file as `python file arguments` would. Imported when the first one is run."""

from __future__ import annotations

import os
import sys
from types import ModuleType

from typhon._figures import closing
from typhon._native import Cancelled, Section
from typhon._turns import Turn, Turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

# A C long ends here.
_LONG = 2**63

# __main__, sys.argv and sys.path are one for the whole worker.
_turns = Turns()


def execute(path: str, arguments: list[str], names: dict[str, Any]) -> int:
    """Run it, and return what the exit status would be. Raises what it raises."""
    with Turn(_turns):
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        file = os.path.join(path, "__main__.py") if folder == path else path
        code = _compiled(file)
        module = ModuleType("__main__")
        module.__dict__.update(names, __name__="__main__", __file__=file, __builtins__=sys.modules["builtins"])
        folder = os.path.abspath(folder)
        before = sys.modules["__main__"], sys.argv, sys.path[:], sys.stdin, sys.stdout, sys.stderr

        def begin() -> None:
            sys.modules["__main__"] = module
            sys.argv = [path, *arguments]
            # Before what the pool has for all of its modules, but for typhon itself.
            sys.path.insert(0, folder)

        def end() -> None:
            sys.modules["__main__"], sys.argv, sys.path[:], sys.stdin, sys.stdout, sys.stderr = before

        with Section(begin, end), closing:
            try:
                exec(code, module.__dict__)
                return 0
            except SystemExit as error:
                return _status(error.code)
            finally:
                _flush()


def _compiled(file: str) -> CodeType:
    with open(file, "rb") as source:
        code: CodeType = compile(source.read(), file, "exec", dont_inherit=True)
    return code


def _flush() -> None:
    """What it has printed. A program that has closed its stdout, or put something else in its place, has ended all the same."""
    try:
        sys.stdout.flush()
    except Cancelled:
        raise
    except BaseException:
        pass


def _status(code: Any) -> int:
    """What Python makes of what was given to exit()."""
    if code is None:
        return 0
    if issubclass(type(code), int):
        # Of a number that is no C long it makes -1.
        return int.__and__(code, 0xFF) if -_LONG <= int.__index__(code) < _LONG else 0xFF
    try:
        print(code, file=sys.stderr or sys.__stderr__)
    except Cancelled:
        raise
    except BaseException:
        pass
    return 1
