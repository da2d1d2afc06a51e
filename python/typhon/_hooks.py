"""What of Python's own Typhon takes over when a worker starts: output, and warnings, logging and threading once they are imported."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs a worker's start several milliseconds
    from collections.abc import Callable
    from typing import Any, TextIO

from typhon import _io
from typhon._native import Cancelled


def _show_warning(
    message: "Warning | str",
    category: "type[Warning]",
    filename: str,
    lineno: int,
    file: "TextIO | None" = None,
    line: "str | None" = None,
) -> None:
    if file is not None:
        import warnings

        file.write(warnings.formatwarning(message, category, filename, lineno, line))
        return
    _io.log("warning", f"{category.__name__}: {message}", {"file": filename, "line": lineno, "logger": "py.warnings"})


def _without_cancelled(report: "Callable[[Any], object]") -> "Callable[[Any], object]":
    """Threads of the user's that wait for the BEAM are told so when the worker ends. They end by it in silence, as by SystemExit."""
    if getattr(report, "_typhon", False):
        return report

    def excepthook(args: Any, /) -> object:
        return None if issubclass(args.exc_type, Cancelled) else report(args)

    excepthook._typhon = True  # type: ignore[attr-defined]
    return excepthook


class _Loader:
    """Loads a module as its own loader does, then tells."""

    def __init__(self, loader: Any, then: "Callable[[Any], None]") -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        from typhon import _hints

        # A user's module may have the name of one of Python's.
        if _hints.shadowing(module.__name__) is None:
            self._then(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class Finder:
    """Waits on sys.meta_path for modules that cost too much to be imported for nothing."""

    def __init__(self) -> None:
        self._waits: dict[str, Callable[[Any], None]] = {}

    def when_imported(self, name: str, then: "Callable[[Any], None]") -> None:
        if name in sys.modules:
            then(sys.modules[name])
        else:
            self._waits[name] = then

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        then = self._waits.pop(name, None)
        if then is None:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = _Loader(spec.loader, then)  # type: ignore[assignment]
                return spec
        return None


def install(level: int) -> None:
    """Take over sys.stdout, sys.stderr, warnings, logging and what threads end with. `level`: below it nothing is logged (as in logging)."""

    def hook_logging(_: Any) -> None:
        from typhon import _logging

        _logging.install(level)

    def hook_warnings(module: Any) -> None:
        module.showwarning = _show_warning

    def hook_threading(module: Any) -> None:
        module.excepthook = _without_cancelled(module.excepthook)

    _io.install()
    finder = Finder()
    sys.meta_path.insert(0, finder)
    finder.when_imported("logging", hook_logging)
    finder.when_imported("warnings", hook_warnings)
    finder.when_imported("threading", hook_threading)
