"""Python's logging goes to the BEAM's Logger, until user code configures it. Imported when `logging` is."""

from __future__ import annotations

import functools
import logging
import sys

from typhon import _io

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_LEVELS = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)
# What every record has; the rest came by `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SIMPLE = (str, int, float, bool, type(None))


class Handler(logging.Handler):
    """Sends records to Logger, with level, logger, module, function, file and line, and what `extra` added."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = next((name for number, name in _LEVELS if record.levelno >= number), "debug")
            metadata = {
                "logger": record.name,
                "module": record.module,
                "function": record.funcName or "",
                "file": record.pathname,
                "line": record.lineno,
                "thread": record.threadName or "",
            }
            extra = {
                str(key): value if isinstance(value, _SIMPLE) else repr(value)
                for key, value in vars(record).items()
                if key not in _STANDARD
            }
            if extra:
                metadata["extra"] = extra
            _io.log(level, self.format(record), metadata)
        except Exception:
            self.handleError(record)


def install(level: int) -> None:
    """Send what is of `level` or above, until user code or a library adds handlers of its own.

    It is sent where Python would write to stderr: when there is no handler (`logging.lastResort`), or the one of
    `logging.basicConfig(level=…)`, which `logging.warning(…)` and its like call, too. A handler of ours at the root would keep
    basicConfig from doing anything. Libraries add a NullHandler so that their users need not configure anything: what they say is
    sent, too.
    """
    logging.getLogger().setLevel(level)
    ours = Handler(level)
    last_resort = logging.lastResort
    # An interpreter inside the VM serves one pool after the other, and Python's logging lives as long as it.
    true = getattr(logging.Logger.callHandlers, "__wrapped__", logging.Logger.callHandlers)

    @functools.wraps(true)
    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:
        handlers = list(_handlers(self))
        if not handlers and logging.lastResort is last_resort and isinstance(sys.stderr, _io.Output):
            handlers = [ours]
        elif not handlers or not all(map(_writes_to_stderr, handlers)):
            true(self, record)
            return
        if any(record.levelno >= handler.level for handler in handlers):
            ours.handle(record)

    logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Those that records of this logger reach; of NullHandlers only one that is there to silence it."""
    where: logging.Logger | None = logger
    while where is not None:
        silences = not where.propagate and where.parent is not None
        for handler in where.handlers:
            if silences or type(handler) is not logging.NullHandler:
                yield handler
        where = None if silences else where.parent


def _writes_to_stderr(handler: logging.Handler) -> bool:
    """As basicConfig() would, with nothing of the user's in it."""
    form = handler.formatter._fmt if handler.formatter is not None else logging.BASIC_FORMAT
    return (
        type(handler) is logging.StreamHandler
        and handler.stream is sys.stderr
        and isinstance(sys.stderr, _io.Output)
        and form == logging.BASIC_FORMAT
        and not handler.filters
    )
