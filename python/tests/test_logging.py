"""What becomes of Python's logging, apart from a worker."""

import subprocess
import sys


def test_the_function_of_pythons_is_replaced_once_however_often_an_interpreter_is_used():
    program = (
        "import logging\n"
        "from typhon import _logging\n"
        "true = logging.Logger.callHandlers\n"
        "own = logging.NullHandler()\n"
        "logging.getLogger().addHandler(own)\n"
        "for level in (10, 20, 30): _logging.install(level)\n"
        "root = logging.getLogger()\n"
        "assert root.handlers == [own]\n"
        "assert logging.Logger.callHandlers.__wrapped__ is true\n"
        "print(root.level)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("30\n", "")
