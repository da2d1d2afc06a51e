"""What pandas gives, and what it has in the place of a value that is not there. The codec knows pandas by these alone."""

import datetime

import pytest
from processes import run_python

import typhon

pd = pytest.importorskip("pandas")


def again(value):
    return typhon.decode(typhon.encode(value))


def test_timestamps():
    for stamp in (pd.Timestamp("2024-07-01T12:00:00", tz="UTC"), pd.Timestamp("2024-07-01")):
        assert again(stamp) == stamp


def test_what_is_missing():
    assert again([pd.NaT, (pd.NA, {"a": pd.NaT}), {pd.NA}]) == [None, (None, {"a": None}), {None}]
    with pytest.raises(typhon.EncodeError, match="are one term on the BEAM$"):
        typhon.encode({pd.NaT: 1, pd.NA: 2})


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (lambda: pd.array([1, None], dtype="Int64"), [1, None]),
        (lambda: pd.array([True, None], dtype="boolean"), [True, None]),
        (lambda: pd.array(["x", None], dtype="string"), ["x", None]),
        (lambda: pd.to_datetime(["2024-01-02", None]), [datetime.datetime(2024, 1, 2), None]),
        (
            lambda: pd.to_datetime(["2024-01-02", None]).tz_localize("UTC"),
            [datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc), None],
        ),
        (lambda: pd.to_timedelta([None, None]), [None, None]),
        (lambda: pd.PeriodIndex([None, None], freq="M"), [None, None]),
        (lambda: pd.Categorical(["x", "y"]), ["x", "y"]),
        (lambda: [1, 2], [1, 2]),
    ],
)
def test_columns(column, values):
    frame = pd.DataFrame({"a": column()})
    assert again(frame.to_dict("list")) == {"a": values}
    assert again(frame.to_dict("records")) == [{"a": value} for value in values]
    assert again(frame["a"].tolist()) == values
    assert again([frame["a"].iloc[0], frame["a"].iloc[1]]) == values
    assert again(frame["a"].astype(object).to_numpy()) == values
    assert again(frame["a"].to_dict()) == dict(enumerate(values))


def test_what_has_no_counterpart_stays():
    frame = pd.DataFrame({"a": [1]})
    for value in (frame, frame["a"], frame.index, pd.Categorical(["x"]), pd.Period("2024"), pd.Interval(0, 1)):
        with pytest.raises(typhon.EncodeError, match="has no counterpart on the BEAM$"):
            typhon.encode(value)


def test_nothing_of_it_is_imported():
    run_python(
        "import sys, typhon\n"
        "class Odd: pass\n"
        "try: typhon.encode(Odd())\n"
        "except typhon.EncodeError: pass\n"
        "assert 'pandas' not in sys.modules and 'numpy' not in sys.modules"
    )
