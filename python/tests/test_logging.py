"""The handler of Python's logging, apart from a worker."""

import subprocess
import sys


def test_there_is_one_handler_however_often_an_interpreter_is_used():
    program = (
        "import logging\n"
        "from typhon import _logging\n"
        "own = logging.NullHandler()\n"
        "logging.getLogger().addHandler(own)\n"
        "for level in (10, 20, 30): _logging.install(level)\n"
        "root = logging.getLogger()\n"
        "assert own in root.handlers\n"
        "print(len([h for h in root.handlers if h is not own]), root.level)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1 30\n", "")
