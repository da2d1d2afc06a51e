"""What a pool does with its workers between calls: `preload:`, `init:` code and hot reload. Called by the BEAM like user code."""

import importlib
import importlib.util
import linecache
import os
import sys
from types import CodeType, ModuleType


def preload(name: str) -> None:
    """Import a module for later calls to find it there."""
    importlib.import_module(name)


def execute(code: str, name: str) -> None:
    """Run `code` in `__main__`, whose names stay for later code. `name` stands in tracebacks."""
    filename = f"<{name}>"
    # Tracebacks quote the line.
    linecache.cache[filename] = (len(code), None, code.splitlines(True), filename)
    compiled: CodeType = compile(code, filename, "exec")
    exec(compiled, sys.modules["__main__"].__dict__)


def reload(name: str) -> list[str]:
    """Reload a module and those near it that hold names of it. All of them, or on an error none. The names of those
    that were reloaded; none when it is not loaded: whoever imports it later gets the new one."""
    module = sys.modules.get(name)
    return _reload([module]) if module is not None else []


def reload_files(paths: list[str]) -> list[str]:
    """The same for the modules that were loaded from these files."""
    changed = {os.path.realpath(path) for path in paths}
    return _reload([module for module in _modules() if _file(module) in changed])


def _reload(modules: list[ModuleType]) -> list[str]:
    order = list(modules)
    for module in order:
        order.extend(other for other in _modules() if other not in order and _depends(other, module))
    importlib.invalidate_caches()
    before = [(module, dict(vars(module))) for module in order]
    try:
        for module in order:
            _forget_bytecode(module)
            importlib.reload(module)
    except BaseException:
        for module, names in before:
            vars(module).clear()
            vars(module).update(names)
            sys.modules[module.__name__] = module
        raise
    return [module.__name__ for module in order]


def _modules() -> list[ModuleType]:
    return [module for module in list(sys.modules.values()) if isinstance(module, ModuleType) and _file(module)]


def _file(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return os.path.realpath(file) if isinstance(file, str) and file.endswith(".py") else ""


def _depends(other: ModuleType, module: ModuleType) -> bool:
    """Whether `other` belongs to the same body of code as `module` and holds something that was taken out of it."""
    if other.__name__ == "__main__" or _root(other) != _root(module):
        return False
    return any(_taken_from(module, other, name, value) for name, value in list(vars(other).items()))


def _taken_from(module: ModuleType, other: ModuleType, name: str, value: object) -> bool:
    if value is module:
        # A package has its modules as attributes whether it imports them or not.
        return not module.__name__.startswith(other.__name__ + ".")
    origin = getattr(value, "__module__", None)
    if isinstance(origin, str):
        return origin == module.__name__
    # A constant: the same object under the same name.
    plain = isinstance(value, ModuleType) or value is None or isinstance(value, bool) or name.startswith("__")
    return not plain and vars(module).get(name) is value


def _root(module: ModuleType) -> str:
    """The directory that the module's top-level package, or the module itself, lies in."""
    directory = os.path.dirname(_file(module))
    for _ in range(module.__name__.count(".") + (1 if hasattr(module, "__path__") else 0)):
        directory = os.path.dirname(directory)
    return directory


def _forget_bytecode(module: ModuleType) -> None:
    """Bytecode is checked by the second and the size: a quick change would not be seen."""
    try:
        os.unlink(importlib.util.cache_from_source(_file(module)))
    except (OSError, NotImplementedError):
        pass
