"""Functions of code that stands in an Elixir module (`use Typhon.Module, code: …`). Imported when the first one is called."""

from __future__ import annotations

import builtins
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from typhon import _eval

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
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
    if before is None or owner in _blocks or isinstance(before, _Package):
        _make_packages(owner)
        sys.modules[owner] = module
    try:
        _eval.run(program, module.__dict__)
    except BaseException:
        if sys.modules.get(owner) is module:
            if before is None:
                del sys.modules[owner]
            else:
                # The version before this one still serves.
                sys.modules[owner] = before
        raise
    # Two first calls at a time may both come here: either has all there is.
    _blocks[owner] = ((code, file, line), module, program)
    return module


# --- the packages above ---

# pickle imports the module of a class by its name, and so `Shop` before `Shop.Prices`. There is no such package.
_packages: set[str] = set()


def _make_packages(owner: str) -> None:
    parts = owner.split(".")
    _packages.update(".".join(parts[:count]) for count in range(1, len(parts)))
    if _Packages not in sys.meta_path:
        sys.meta_path.append(_Packages)


class _Package(ModuleType):
    """What is imported as `Shop` where only Elixir has one. It has the blocks that have run as its attributes."""

    def __getattr__(self, name: str) -> ModuleType:
        try:
            return sys.modules[f"{self.__name__}.{name}"]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self) from None


class _Packages:
    """Finds them. It is asked last: a package that Python has is that one."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        loader: Any = cls()
        return ModuleSpec(name, loader, is_package=True) if name in _packages else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """It has nothing of its own."""
