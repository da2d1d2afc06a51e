"""Whether this interpreter has what a pyproject.toml asks for: where there is no uv that would install it."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata

# name[extras] versions ; marker
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;@)]*)\)?\s*(@[^;]*)?(;.*)?")
_COMPARISON = re.compile(r"\s*(~=|===|==|!=|<=|>=|<|>)\s*([^\s,]+)\s*")


def lacks(text: str, version: str | None) -> tuple[str, list[str]]:
    """This interpreter, and what it does not have, each with the reason."""
    here = sys.version.split()[0]
    project = tomllib.loads(text).get("project", {})
    found = []
    wanted = project.get("requires-python", "")
    if not _meets(here, wanted):
        found.append(f"Python {wanted}")
    if version is not None and not (here + ".").startswith(version.rstrip("t") + "."):
        found.append(f"Python {version} (python: of uv_init/2)")
    found += [reason for each in project.get("dependencies", []) if (reason := _lacks(each)) is not None]
    return f"{sys.executable} (Python {here})", found


def _lacks(requirement: str) -> str | None:
    match = _REQUIREMENT.fullmatch(requirement)
    if match is None:
        return f"{requirement} (which is no requirement that can be read)"
    name, versions, _, marker = match.groups()
    # What is wanted under a condition may not be wanted here.
    if marker:
        return None
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return requirement
    return None if _meets(installed, versions) else f"{requirement} (there is {installed})"


def _meets(version: str, comparisons: str) -> bool:
    return all(_compares(version, *each) for each in _COMPARISON.findall(comparisons))


def _compares(version: str, comparison: str, wanted: str) -> bool:
    """By the numbers of a version alone, which is enough to tell what is not there."""
    here, there = _numbers(version), _numbers(wanted)
    if comparison in ("==", "===", "!="):
        same = here[: len(there)] == there if wanted.endswith(".*") else _padded(here, there) == _padded(there, here)
        return same == (comparison != "!=")
    if comparison == "~=":
        return here >= there and here[: len(there) - 1] == there[:-1]
    left, right = _padded(here, there), _padded(there, here)
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[comparison]


def _numbers(version: str) -> list[int]:
    match = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version)
    return [int(part) for part in match[1].split(".")] if match else []


def _padded(one: list[int], other: list[int]) -> list[int]:
    return one + [0] * (len(other) - len(one))
