"""Python code in a process of its own, with the same module path."""

import os
import subprocess
import sys


def run_python(code: str, *arguments: str, flags: tuple[str, ...] = ()) -> str:
    """Its output; everything on stderr, and any other exit status than 0, is a failure."""
    shown = subprocess.run(
        [sys.executable, *flags, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert (shown.returncode, shown.stderr) == (0, ""), (shown.returncode, shown.stderr)
    return shown.stdout.strip()
