"""Python's logging goes to the BEAM's Logger. Imported when `logging` is."""

import logging

from typhon import _io

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
    root = logging.getLogger()
    # An interpreter inside the VM serves one pool after the other, and Python's logging lives as long as it.
    for handler in list(root.handlers):
        if type(handler).__module__ == __name__:
            root.removeHandler(handler)
    root.addHandler(Handler())
    root.setLevel(level)
