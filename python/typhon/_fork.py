"""The end of a child that a call forked and that came back from the call. native/worker/forked.h says why it ends."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def leave(error: "BaseException | None") -> "NoReturn":
    """End the process, with the status that a program would end with. What the parent registered with atexit is the parent's."""
    status = 1
    try:
        if error is None:
            status = 0
        elif isinstance(error, SystemExit):
            status = _status(error.code)
        else:
            import traceback

            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1
