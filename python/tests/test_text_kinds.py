"""Objects that are text on the BEAM: UUIDs and paths."""

import os
import pathlib
import uuid

import pytest
from terms import V, binary

import typhon

NAME = "12345678-1234-5678-9abc-123456789abc"
ID = uuid.UUID(NAME)


def refusal(value) -> typhon.EncodeError:
    with pytest.raises(typhon.EncodeError) as caught:
        typhon.encode(value)
    return caught.value


def test_uuids():
    assert typhon.encode(ID) == V + binary(NAME)
    assert typhon.encode({ID: [ID]}) == typhon.encode({NAME: [NAME]})
    assert typhon.encode(uuid.UUID(int=0)) == V + binary("0" * 8 + "-0000-0000-0000-" + "0" * 12)


def test_a_class_derived_from_uuid_has_the_same_form():
    class Own(uuid.UUID):
        def __str__(self):
            return "another"

    assert typhon.encode([Own(NAME)]) == typhon.encode([NAME])


def test_a_uuid_that_cannot_be_read():
    class Broken(uuid.UUID):
        @property
        def int(self):
            raise RuntimeError("no")

        def __init__(self):
            pass

    error = refusal([Broken()])
    assert (error.path, error.reason) == ("value[0]", "cannot read a UUID: RuntimeError: no")


@pytest.mark.parametrize("kind", [pathlib.Path, pathlib.PurePosixPath, pathlib.PureWindowsPath])
def test_paths(kind):
    path = kind("a/ü/c.txt")
    assert typhon.encode([path, {path: 1}]) == typhon.encode([str(path), {str(path): 1}])


class Place(os.PathLike):
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        if isinstance(self.path, Exception):
            raise self.path
        return self.path


def test_other_paths():
    assert typhon.encode(Place("/a")) == V + binary("/a")
    assert typhon.encode(Place(b"/\xff")) == V + binary(b"/\xff")
    for path, reason in ((RuntimeError("no"), "RuntimeError: no"), (5, "TypeError: expected Place.__fspath__()")):
        error = refusal({"p": Place(path)})
        assert error.path == 'value["p"]'
        assert error.reason.startswith(f"cannot read a path: {reason}")


def test_what_only_has_a_path_is_none():
    """An entry of a folder or an open file has more to it."""

    class File:
        def __fspath__(self):
            return "/a"

    assert "has no counterpart" in refusal(File()).reason


def test_a_path_that_is_no_text():
    assert refusal([pathlib.Path("\udcff")]).path == "value[0]"


@pytest.mark.parametrize(
    ("one", "other"),
    [(ID, NAME), (NAME, ID), (pathlib.Path("a"), "a"), (b"a", pathlib.Path("a")), (pathlib.Path("a"), Place("a"))],
)
def test_keys_that_would_be_one(one, other):
    for value in ({one: 1, other: 2}, {one, other}):
        error = refusal([value])
        assert error.path == "value[0]"
        assert error.reason.endswith("are one term on the BEAM")
    assert "are one term on the BEAM" in refusal({(1, one): 1, (1, other): 2}).reason
