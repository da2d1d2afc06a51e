"""Functions of code that stands in an Elixir module (`use Typhon.Module, code: …`). Imported when the first one is called."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType

from typhon import _eval

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typhon._compile import Program

# By the module's name: what it was made of, and the program, which tracebacks quote for as long as it is there.
_blocks: dict[str, tuple[tuple[str, str | None, int], ModuleType, Program]] = {}


def call(owner: str, code: str, file: str | None, line: int, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call a function of the code, which has run once, as a module named `owner`. When it has changed, it runs again."""
    known = _blocks.get(owner)
    module = known[1] if known is not None and known[0] == (code, file, line) else _run(owner, code, file, line)
    return getattr(module, name)(*args, **kwargs)


def _run(owner: str, code: str, file: str | None, line: int) -> ModuleType:
    program = _eval.program_of(code, file, line)
    if program.awaits:
        raise TypeError("a block of functions cannot await anything outside of them: it runs as a module does")
    module = ModuleType(owner)
    module.__file__ = program.file
    module.__dict__["__builtins__"] = builtins
    # Classes and pickle look for their module there. One that comes from a file stays.
    before = sys.modules.get(owner)
    if before is None or owner in _blocks:
        sys.modules[owner] = module
    try:
        _eval.run(program, module.__dict__)
    except BaseException:
        if sys.modules.get(owner) is module:
            del sys.modules[owner]
        raise
    # Two first calls at a time may both come here: either has all there is.
    _blocks[owner] = ((code, file, line), module, program)
    return module
