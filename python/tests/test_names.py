"""typhon._names: what Python's parser makes of a name."""

import types

import pytest

from typhon import _bulk, _names


@pytest.fixture
def module(monkeypatch):
    made = types.ModuleType("größe")
    # As a source would define them.
    exec("def ﬁt(): return 'fit'\nclass Maß:\n    µ = 'mu'", made.__dict__)
    monkeypatch.setitem(__import__("sys").modules, "größe", made)
    return made


DECOMPOSED = "gro\u0308ße"


@pytest.mark.parametrize("name", ["größe", DECOMPOSED])
@pytest.mark.parametrize("path, value", [("ﬁt", "fit"), ("fit", "fit"), ("Maß.µ.upper", "MU"), ("Maß.μ.upper", "MU")])
def test_is_found_as_the_parser_reads_it(module, name, path, value):
    assert _bulk.find(name, path)() == value
    assert _bulk.find(module, path)() == value


def test_what_is_there_as_it_stands_comes_first(module):
    setattr(module, "ﬁt", lambda: "as it stands")
    assert _bulk.find("größe", "ﬁt")() == "as it stands"
    assert _bulk.find("größe", "fit")() == "fit"


def test_each_part_by_itself(module):
    setattr(module, "ﬁx", module.Maß)
    assert _bulk.find(DECOMPOSED, "ﬁx.µ") == "mu"


def test_what_is_not_there_is_told_by_the_name_that_was_given(module):
    assert _names.find("größe", "plain") is None
    assert _names.find("größe", "ﬁrst") is None
    assert _names.find("ﬁrst", "x") is None
    with pytest.raises(AttributeError, match="no attribute 'ﬁrst'"):
        _bulk.find("größe", "ﬁrst")
    with pytest.raises(ModuleNotFoundError, match="No module named 'ﬁrst'"):
        _bulk.find("ﬁrst", "x")


def test_what_an_import_raises_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "maß_fi.py").write_text("import missing_of_mine")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="missing_of_mine"):
        _bulk.find("maß_fi", "x")
