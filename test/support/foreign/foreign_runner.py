"""Runs a part of a foreign test suite in this Python, and writes down what comes of each test.

It is the same code in a plain Python (`python foreign_runner.py KIND PART RECORD`) and in a worker (`run`). The record is a file
of lines in JSON, written as the tests go on: when a test ends or hangs its Python, the record says which one it was. A run goes on
with the tests that the record does not have yet.
"""

import importlib
import json
import os
import sys
import traceback
import unittest

# Tests replace functions of `os`, fork, and close file descriptors that they did not open.
_open, _write, _close, _getpid = os.open, os.write, os.close, os.getpid
_dumps = json.JSONEncoder().encode

# What counts more when a test has two outcomes, say a failed subtest and a skipped one
_WEIGHT = {"passed": 0, "skipped": 1, "failed": 2, "error": 3, "ended": 4}
_LONGEST = 20_000


class Record:
    def __init__(self, path):
        self._path = path
        self._pid = _getpid()
        self.whole = True
        with open(path, "a+", encoding="utf-8") as file:
            file.seek(0)
            self.known = {json.loads(line)["test"] for line in file}

    def begin(self, test):
        self._line({"test": test, "outcome": "begun"})

    def end(self, test, outcome, text=""):
        self._line({"test": test, "outcome": outcome, "text": text[-_LONGEST:]})

    def _line(self, line):
        # Not from a child that a test has forked.
        if _getpid() == self._pid:
            file = _open(self._path, os.O_WRONLY | os.O_APPEND)
            _write(file, (_dumps(line) + "\n").encode())
            _close(file)


def _is_deadline(kind):
    """The call has been interrupted: the test that gets this is the one that hangs, and the run is over."""
    return kind.__name__ == "Cancelled" and kind.__module__.startswith("typhon")


def _traceback(error):
    """In its last line what the exception says in its first one: that is the reason that is compared with what is known."""
    kind, value, _ = error
    name = kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    says = str(value).strip().split("\n", 1)[0]
    return "".join(traceback.format_exception(*error)).strip() + f"\n{name}: {says}"


class _Result(unittest.TestResult):
    """Writes the outcome of each test to the record, and keeps nothing."""

    def __init__(self, record):
        super().__init__()
        self._record = record
        self._outcome, self._text = "passed", ""

    def startTest(self, test):
        self._outcome, self._text = "passed", ""
        self._record.begin(test.id())

    def stopTest(self, test):
        self._record.end(test.id(), self._outcome, self._text)

    def _set(self, test, outcome, text):
        # `setUpClass` and `setUpModule` are no tests, and have no beginning.
        if not isinstance(test, unittest.TestCase) and not hasattr(test, "test_case"):
            self._record.end(test.id(), outcome, text)
        elif _WEIGHT[outcome] > _WEIGHT[self._outcome]:
            self._outcome, self._text = outcome, text

    def addError(self, test, err):
        outcome = "error"
        if _is_deadline(err[0]):
            outcome, self._record.whole = "ended", False
            self.stop()
        self._set(test, outcome, _traceback(err))

    def addFailure(self, test, err):
        self._set(test, "failed", _traceback(err))

    def addSubTest(self, test, subtest, err):
        if err is not None and issubclass(err[0], test.failureException):
            self._set(test, "failed", f"{subtest.id()}\n{_traceback(err)}")
        elif err is not None:
            self.addError(test, err)

    def addSkip(self, test, reason):
        self._set(test, "skipped", str(reason))

    def addExpectedFailure(self, test, err):
        pass

    def addUnexpectedSuccess(self, test):
        self._set(test, "failed", "unexpected success")


def _without(suite, names):
    """The suite, nested as it was, so that classes and modules are set up as they were."""
    kept = type(suite)()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            kept.addTest(_without(test, names))
        elif test.id() not in names:
            kept.addTest(test)
    return kept


def _run_unittest(module, record):
    try:
        loader = unittest.TestLoader()
        suite = loader.loadTestsFromModule(importlib.import_module(module))
        if loader.errors:
            raise ImportError("\n".join(loader.errors))
    except unittest.SkipTest as reason:
        record.end(module, "skipped", str(reason))
    except Exception:
        record.end(module, "error", _traceback(sys.exc_info()))
    else:
        _without(suite, record.known).run(_Result(record))


def _run_cpython(module, record):
    from test import support

    # As `python -m test` does without -u: no network, no tests of many minutes.
    support.use_resources = []
    support.record_original_stdout(sys.stdout)
    _run_unittest(module, record)


class _Plugin:
    """Writes the outcome of each of pytest's tests to the record."""

    def __init__(self, record):
        self._record = record
        self._outcomes = {}

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if item.nodeid not in self._record.known]

    def pytest_collectreport(self, report):
        if report.outcome != "passed":
            outcome = "error" if report.failed else report.outcome
            self._record.end(report.nodeid, outcome, report.longreprtext)

    def pytest_runtest_logstart(self, nodeid):
        self._outcomes[nodeid] = ("passed", "")
        self._record.begin(nodeid)

    def pytest_runtest_makereport(self, item, call):
        if call.excinfo and _is_deadline(call.excinfo.type):
            self._outcomes[item.nodeid] = ("ended", str(call.excinfo.value))
            self._record.whole = False
            item.session.shouldstop = "the call has been interrupted"

    def pytest_runtest_logreport(self, report):
        # A test that is expected to fail may do so or not.
        if report.outcome == "passed" or hasattr(report, "wasxfail"):
            return
        outcome = "error" if report.failed and report.when != "call" else report.outcome
        if _WEIGHT[outcome] > _WEIGHT[self._outcomes[report.nodeid][0]]:
            crash = getattr(report.longrepr, "reprcrash", None)
            skipped = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            last = crash.message.split("\n", 1)[0] if crash else skipped
            self._outcomes[report.nodeid] = (outcome, f"{report.longreprtext}\n{last}")

    def pytest_runtest_logfinish(self, nodeid):
        self._record.end(nodeid, *self._outcomes.pop(nodeid))


def _run_pytest(part, record):
    """The files of the part are relative to the folder of packages that the first one of them is in: `numpy/linalg/tests/…`."""
    import pytest

    package = part.split("/", 1)[0]
    root = os.path.dirname(os.path.dirname(importlib.import_module(package).__file__))
    files = [os.path.join(root, file) for file in part.split()]
    options = ["-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "--rootdir", root]
    status = pytest.main([*options, *files], plugins=[_Plugin(record)])
    # 0: all passed, 1: some did not, 2: stopped, 5: there were none.
    if status not in (0, 1, 5) and record.whole:
        record.end(files[0], "error", f"pytest ended with the status {status!r}")


_KINDS = {"cpython": _run_cpython, "unittest": _run_unittest, "pytest": _run_pytest}


def run(kind, part, path):
    record = Record(path)
    _KINDS[kind](part, record)
    if record.whole:
        record.end("", "whole")


if __name__ == "__main__":
    run(*sys.argv[1:])
