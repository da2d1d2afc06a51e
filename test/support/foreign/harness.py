"""Runs foreign test suites in plain Python and in Typhon's workers, and says where they differ. scripts/foreign starts it.

A suite is run in parts: a module, or the test files of a folder. Each part runs in a plain Python first, and then in a worker of
each isolation, in a VM of its own, so that a part may end or hang what it runs in. Tests are compared one by one. A *difference* is a
test that passes in a plain Python and does not in a worker, twice; or that is skipped in the one and fails in the other. Those that
are known, and why, are in test/foreign/known.txt.
"""

import argparse
import concurrent.futures
import dataclasses
import fnmatch
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
ISOLATIONS = ["process", "interpreter", "subinterpreters", "threads"]
PACKAGES = ["numpy", "pandas", "sklearn"]

# How often a part goes on with the tests that are left after one has ended or hung its Python
CONTINUED = 5
# Bytes of test files after which a folder's next part begins
PART_SIZE = 200_000
# Seconds that a VM has beyond the call, to start and to stop
BESIDES = 60
MARKER = "the call's error:"
# The name in the last line of the record of a run that came to its end
WHOLE = ""


@dataclasses.dataclass(frozen=True)
class Suite:
    name: str
    kind: str
    python: str
    # Where its modules are, when Python does not find them by itself
    folder: str = ""


@dataclasses.dataclass(frozen=True)
class Part:
    suite: Suite
    name: str
    argument: str

    def __str__(self):
        return self.name


@dataclasses.dataclass
class Outcome:
    outcome: str
    text: str = ""

    def reason(self):
        lines = self.text.strip().splitlines()
        return lines[-1].strip() if lines else ""


# --- What there is to run


def ask(python, code):
    """What the Python prints, as JSON. It is not started in a folder whose modules it could take for its own."""
    return json.loads(subprocess.run([python, "-P", "-c", f"import json\n{code}"], check=True, stdout=subprocess.PIPE).stdout)


def cpython_parts(suite):
    code = """
try: from test.libregrtest.findtests import findtests
except ImportError: from test.libregrtest.runtest import findtests
print(json.dumps(sorted('test.' + name.removeprefix('test.') for name in findtests())))"""
    # In the first versions of 3.11 the function is elsewhere.
    return [Part(suite, name.removeprefix("test."), name) for name in ask(suite.python, code)]


def package_parts(suite):
    code = f"import importlib.util\nprint(json.dumps(importlib.util.find_spec({suite.name!r}).submodule_search_locations[0]))"
    package = pathlib.Path(ask(suite.python, code))
    folders = {}
    for file in sorted(package.rglob("test_*.py")):
        folders.setdefault(file.parent, []).append(file)
    return [part for folder, files in folders.items() for part in folder_in_parts(suite, folder.relative_to(package.parent), files)]


def folder_in_parts(suite, folder, files):
    """`numpy/_core/tests`, `numpy/_core/tests 2` …, of which none takes too long."""
    parts, size = [[]], 0
    for file in files:
        if parts[-1] and size > PART_SIZE:
            parts.append([])
            size = 0
        parts[-1].append(f"{folder}/{file.name}")
        size += file.stat().st_size
    return [Part(suite, f"{folder} {number}" if number > 1 else str(folder), " ".join(part)) for number, part in enumerate(parts, 1)]


def folder_parts(suite):
    return [Part(suite, file.stem, file.stem) for file in sorted(pathlib.Path(suite.folder).glob("test_*.py"))]


def parts_of(suite):
    return {"cpython": cpython_parts, "pytest": package_parts, "unittest": folder_parts}[suite.kind](suite)


def narrowed(part, chosen):
    """The part, when it is among those that were chosen or below one of them; or as much of it as was."""
    if not chosen or any(part.name == name or re.match(re.escape(name) + r"[./ ]", part.name) for name in chosen):
        return part
    if part.suite.kind == "pytest":
        files = [file for file in part.argument.split() if file in chosen]
        return Part(part.suite, " ".join(files), " ".join(files)) if files else None
    return None


# --- Running a part


class Runner:
    def __init__(self, options, folder):
        self._options = options
        self._folder = folder
        self._running = set()
        self._stopped = False
        self._lock = threading.Lock()

    def plain(self, part):
        start = time.monotonic()
        command = [part.suite.python, str(HERE / "foreign_runner.py"), part.suite.kind, part.argument]
        outcomes = self._whole(part, "plain", lambda record, seconds: [*command, record], self._options.seconds)
        return outcomes, time.monotonic() - start

    def worker(self, part, isolation, plain, seconds, name):
        # Not much longer than in the plain Python, so that what hangs does not take much of the run.
        seconds = min(self._options.seconds, 20 + 4 * int(seconds))
        path = ":".join(filter(None, [str(HERE), part.suite.folder]))

        def command(record, seconds):
            arguments = [isolation, part.suite.python, path, str(seconds), MARKER, part.suite.kind, part.argument, record]
            return ["elixir", "-pa", self._options.ebin, "-e", "Typhon.Foreign.main(System.argv())", "--", *arguments]

        # What ends or hangs a plain Python is not tried.
        without = [test for test, outcome in plain.items() if outcome.outcome == "ended"]
        return self._whole(part, name, command, seconds, without)

    def _whole(self, part, name, command, seconds, without=()):
        """Runs a part, and goes on after each test that ends or hangs its Python."""
        base = self._folder / re.sub(r"\W+", "-", f"{part.suite.name}-{part}")[:100]
        base.mkdir(exist_ok=True)
        record, log = base / f"{name}.jsonl", base / f"{name}.log"
        record.write_text("")
        log.write_text("")
        for test in without:
            settle(test, "not tried", record)
        last = read(record)[1]
        for _ in range(1 + CONTINUED):
            before = last
            said = self._once(command(str(record), seconds), part, log, seconds)
            outcomes, last = read(record)
            if last == WHOLE:
                break
            # Between tests, say while a module is imported: there is nothing to go on with.
            interrupted = last != before and outcomes[last].outcome in ("begun", "ended")
            settle(last if interrupted else part.argument, said, record)
            if not interrupted:
                break
        return read(record)[0]

    def _once(self, command, part, log, seconds):
        """A sentence that says how it ended."""
        work = tempfile.mkdtemp(prefix="typhon-foreign-")
        try:
            with open(log, "r+", encoding="utf-8", errors="replace") as output:
                output.seek(0, os.SEEK_END)
                before = output.tell()
                status = self._wait(command, work, output, seconds, part)
                output.seek(before)
                said = [line for line in output if line.startswith(MARKER)]
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if said:
            return said[-1].removeprefix(MARKER).strip()
        if status is None:
            return f"It did not end within {seconds} seconds."
        return f"It ended by the signal {signal.Signals(-status).name}." if status < 0 else f"It ended with the status {status}."

    def _wait(self, command, work, output, seconds, part):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("TYPHON_", "MIX_"))}
        environment.setdefault("GLIBC_TUNABLES", "glibc.rtld.nns=16:glibc.rtld.optional_static_tls=65536")
        if part.suite.folder:
            environment["PYTHONPATH"] = part.suite.folder
        with self._lock:
            if self._stopped:
                raise InterruptedError("the run has been stopped")
            process = subprocess.Popen(
                command, cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
            self._running.add(process)
        try:
            return process.wait(seconds + (BESIDES if command[0] == "elixir" else 0))
        except subprocess.TimeoutExpired:
            return None
        finally:
            end(process)
            with self._lock:
                self._running.discard(process)

    def stop(self):
        with self._lock:
            self._stopped = True
            for process in self._running:
                end(process)


def end(process):
    """With what it has left in its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def read(record):
    """The outcome of each test, and the name of the last one, or that the run came to its end."""
    outcomes, last = {}, None
    for line in record.read_text(encoding="utf-8").splitlines():
        line = json.loads(line)
        last = line["test"]
        if last == WHOLE:
            continue
        before = outcomes.get(last)
        # Two tests may have one name: what passes does not hide what does not.
        if not before or before.outcome in ("begun", "passed") or line["outcome"] == "ended":
            outcomes[last] = Outcome(line["outcome"], line.get("text", ""))
    return outcomes, last


def settle(test, said, record):
    with open(record, "a", encoding="utf-8") as file:
        file.write(json.dumps({"test": test, "outcome": "ended", "text": said}) + "\n")


# --- Comparing


@dataclasses.dataclass
class Known:
    isolation: str
    tests: str
    says: str
    why: str
    met: int = 0
    passed: int = 0

    def narrow(self):
        """It is about one module or folder, and not about a whole suite of which a run may have a part alone."""
        return bool(re.match(r"[\w-]+[./][\w-]+[./:]", self.tests))

    def matches(self, isolation, test):
        return self.isolation in ("*", isolation) and fnmatch.fnmatchcase(test, self.tests)


def read_known(path):
    known = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            columns = [column.strip() for column in line.split(" | ", 3)]
            if len(columns) != 4 or columns[0] not in ("*", *ISOLATIONS) or not columns[3]:
                sys.exit(f"{path}:{number}: a line has four columns, `isolation | tests | what it says | why`, with ` | ` between them")
            known.append(Known(*columns))
    return known


@dataclasses.dataclass
class Difference:
    part: Part
    isolation: str
    test: str
    outcome: Outcome
    known: Known | None


def differences(part, isolation, plain, worker, known):
    found = []
    for test, expected in plain.items():
        if expected.outcome not in ("passed", "skipped"):
            continue
        outcome = worker.get(test) or missing(test, worker)
        passed = outcome.outcome == "passed" or (expected.outcome == "skipped" and outcome.outcome in ("skipped", "not run"))
        about = [entry for entry in known if entry.matches(isolation, test)]
        if passed:
            for entry in about:
                entry.passed += 1
        else:
            reason = next((entry for entry in about if fnmatch.fnmatchcase(outcome.reason(), entry.says)), None)
            found.append(Difference(part, isolation, test, outcome, reason))
    return found


def missing(test, outcomes):
    """A test that was not run: what was to be set up for its class or module says why."""
    for name, outcome in outcomes.items():
        if outcome.outcome == "passed":
            continue
        scope = re.search(r"^setUp(?:Class|Module) \((.*)\)$", name)
        scope = scope[1] if scope else name
        # Names of unittest, and pytest's
        if test.startswith((scope + ".", scope + "::", scope + "/")):
            return Outcome("not run", outcome.text)
    return Outcome("not run", next((outcome.text for outcome in outcomes.values() if outcome.outcome == "ended"), ""))


class Comparison:
    def __init__(self, options, runner, known):
        self._options, self._runner, self._known = options, runner, known
        self._lock = threading.Lock()
        self.compared, self.failing = 0, 0
        self.found, self.gained = [], []

    def run(self, part):
        plain, seconds = self._runner.plain(part)
        report = [f"{part.suite.name} {part}: {count(plain)} in {seconds:.0f} s"]
        for isolation in self._options.isolation:
            worker, found = self._compare(part, isolation, plain, seconds)
            gained = [test for test in plain if plain[test].outcome in ("failed", "error", "ended") and passes(worker, test)]
            with self._lock:
                self.found += found
                self.gained += [(isolation, test, plain[test]) for test in gained]
            news = sum(1 for difference in found if not difference.known)
            report.append(f"  {isolation}: {count(worker)}" + (f"; {len(found)} differ, {news} of them not known" if found else ""))
        with self._lock:
            self.compared += sum(outcome.outcome == "passed" for outcome in plain.values())
            self.failing += sum(outcome.outcome in ("failed", "error", "ended") for outcome in plain.values())
            print("\n".join(report), flush=True)

    def _compare(self, part, isolation, plain, seconds):
        worker = self._runner.worker(part, isolation, plain, seconds, isolation)
        with self._lock:
            found = differences(part, isolation, plain, worker, self._known)
        # What depends on time or chance passes when it runs once more.
        if any(not difference.known for difference in found):
            again = self._runner.worker(part, isolation, plain, seconds, f"{isolation}-again")
            found = [difference for difference in found if not passes(again, difference.test)]
        for difference in found:
            if difference.known:
                difference.known.met += 1
        return worker, found


def passes(outcomes, test):
    return test in outcomes and outcomes[test].outcome == "passed"


def count(outcomes):
    totals = {}
    for outcome in outcomes.values():
        totals[outcome.outcome] = totals.get(outcome.outcome, 0) + 1
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(totals.items())) or "no tests"


# --- Saying it


def say(comparison, known, options, whole):
    new = [difference for difference in comparison.found if not difference.known]
    if new:
        print("\nNot known:")
        for isolation in options.isolation:
            for (part, outcome, reason), tests in grouped([each for each in new if each.isolation == isolation]).items():
                print(f"  {isolation}, {part}, {outcome}: {reason[:300]}")
                for test in tests[: options.most]:
                    print(f"    {test}")
                if len(tests) > options.most:
                    print(f"    and {len(tests) - options.most} more")
    if comparison.gained:
        print("\nThese do not pass in a plain Python, and do in a worker:")
        for isolation, test, outcome in comparison.gained:
            print(f"  {isolation}, {test}: {outcome.reason()[:300]}")
    met = [entry for entry in known if entry.met]
    if met:
        print("\nKnown:")
        for entry in met:
            print(f"  {entry.met} ({entry.isolation} | {entry.tests} | {entry.says}): {entry.why}")
    gone = [entry for entry in known if entry.passed and not entry.met and (whole or entry.narrow())]
    if gone:
        print("\nKnown, and gone (the tests were run, and passed):")
        for entry in gone:
            print(f"  {entry.isolation} | {entry.tests} | {entry.says} | {entry.why}")
    print(
        f"\n{comparison.compared} tests that pass in a plain Python ({comparison.failing} do not), in {', '.join(options.isolation)}: "
        f"{len(comparison.found)} differences, {len(new)} of them not known"
    )
    return not new


def grouped(found):
    groups = {}
    for difference in found:
        key = (str(difference.part), difference.outcome.outcome, difference.outcome.reason())
        groups.setdefault(key, []).append(difference.test)
    return groups


# --- The command


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/foreign")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"cpython, {', '.join(PACKAGES)}, or a folder of unittest's test_*.py")
    parser.add_argument("--isolation", type=lambda text: text.split(","), default=["process", "interpreter"], help=",".join(ISOLATIONS))
    parser.add_argument("--modules", type=lambda text: text.split(","), default=[], help="test_os,numpy/linalg,pandas/tests/scalar/test_nat.py …")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many parts run at the same time")
    parser.add_argument("--seconds", type=int, default=300, help="that a part may take in one Python")
    parser.add_argument("--minutes", type=float, default=0, help="after which no part is begun; the parts are run in random order then")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000), help="of that order")
    parser.add_argument("--most", type=int, default=10, help="how many tests that differ for one reason are named")
    parser.add_argument("--known", type=pathlib.Path, default=ROOT / "test/foreign/known.txt")
    parser.add_argument("--ebin", default=str(ROOT / "_build/test/lib/typhon/ebin"), help="where Typhon is compiled")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "_build/foreign", help="a folder for the records and what was printed")
    parser.add_argument("--cpython", default=sys.executable, help="the Python whose own tests run, and those of folders")
    parser.add_argument("--packages", default=sys.executable, help="the Python that has the packages")
    options = parser.parse_args()
    for isolation in options.isolation:
        if isolation not in ISOLATIONS:
            parser.error(f"there is no isolation {isolation!r}, but {', '.join(ISOLATIONS)}")
    return options


def suite_of(name, options):
    if name == "cpython":
        return Suite(name, "cpython", options.cpython)
    if name in PACKAGES:
        return Suite(name, "pytest", options.packages)
    if os.path.isdir(name):
        return Suite(os.path.basename(os.path.abspath(name)), "unittest", options.cpython, os.path.abspath(name))
    sys.exit(f"scripts/foreign: {name!r} is not a suite (cpython, {', '.join(PACKAGES)}), and not a folder")


def chosen_parts(options):
    suites = [suite_of(name, options) for name in options.suites or ["cpython", *PACKAGES]]
    everything = [part for suite in suites for part in parts_of(suite)]
    for name in options.modules:
        if not any(narrowed(part, [name]) for part in everything):
            sys.exit(f"scripts/foreign: no module, folder or file of {', '.join(suite.name for suite in suites)} is called {name}")
    parts = [part for part in (narrowed(part, options.modules) for part in everything) if part]
    if options.minutes:
        print(f"The order is that of --seed {options.seed}.")
        random.Random(options.seed).shuffle(parts)
    return parts


def main():
    # What is running is ended then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("The run has been stopped."))
    options = arguments()
    known = read_known(options.known)
    parts = chosen_parts(options)
    options.output.mkdir(parents=True, exist_ok=True)
    runner = Runner(options, options.output)
    comparison = Comparison(options, runner, known)
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    left = []

    def run(part):
        if time.monotonic() < until:
            comparison.run(part)
        else:
            left.append(part)

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        try:
            list(pool.map(run, parts))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise
    fine = say(comparison, known, options, whole=not options.modules and not left)
    if left:
        print(f"{len(left)} of {len(parts)} parts were not begun within {options.minutes:g} minutes.")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
