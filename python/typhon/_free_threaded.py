"""What is different in a Python without a GIL (python3.13t, python3.14t …)."""

import os

import _imp


def check() -> None:
    """Raise ImportError unless there is a native module for this Python: the one for all others would be taken in its place,
    and crash."""
    name = "_native" + _imp.extension_suffixes()[0]
    folder = os.path.dirname(__file__)
    if not os.path.exists(os.path.join(folder, name)):
        raise ImportError(
            f"this Python has no GIL, and Typhon was built without a native module for it ({name} is not in {folder}): "
            "run `mix compile` with this Python as TYPHON_FREE_THREADED=/path/to/its/python3 in the environment, or on the PATH "
            "as python3.13t, python3.14t or the like; its headers must be installed"
        )
