"""The terms in test/vectors, which a real BEAM has written: read, and written again as the BEAM would."""

from pathlib import Path

import pytest

import typhon

INDEX = Path(__file__).parents[2] / "test" / "vectors" / "index.tsv"


def vectors(flag: str) -> list:
    return list(_vectors(flag))


def _vectors(flag: str):
    rows = [
        line.split("\t")
        for line in INDEX.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    for name, flags, data, canonical, source in rows:
        if flag in flags.split(","):
            wanted = data if canonical == "-" else canonical
            yield pytest.param(bytes.fromhex(data), flags.split(","), bytes.fromhex(wanted), source, id=name)


# Opaque to Python, and sent back as they came, in whatever form that was.
OPAQUE = (typhon.Pid, typhon.Port, typhon.Reference, typhon.Fun)


@pytest.mark.parametrize(("data", "flags", "wanted", "source"), vectors("accept"))
def test_accepted(data, flags, wanted, source):
    if data[1:2] == b"y":
        with pytest.raises(typhon.DecodeError, match="private format"):
            typhon.decode(data)
        return
    try:
        value = typhon.decode(data)
    except typhon.DecodeError as error:
        # Well-formed, but without a counterpart in Python.
        assert error.code == "value", str(error)
        assert "UTF-8" in error.reason or "hash" in error.reason or "equal in Python" in error.reason
        return
    if isinstance(value, OPAQUE):
        assert typhon.encode(value) == data
        assert typhon.decode(wanted) == value
    else:
        assert typhon.encode(value) == wanted


@pytest.mark.parametrize(("data", "flags", "wanted", "source"), vectors("accept"))
def test_truncated(data, flags, wanted, source):
    if data[1:2] == b"y":
        pytest.skip("has no end of its own")
    for size in range(min(len(data), 3000)):
        with pytest.raises(typhon.DecodeError) as caught:
            typhon.decode(data[:size])
        assert caught.value.code == "truncated"


@pytest.mark.parametrize(("data", "flags", "wanted", "source"), vectors("reject"))
def test_rejected(data, flags, wanted, source):
    with pytest.raises(typhon.DecodeError):
        typhon.decode(data)
