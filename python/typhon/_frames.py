"""What reads a table that stays in Python, some rows at a time: frames of pandas and polars, tables of pyarrow.

Imported when the first one is read (lib/typhon/livebook.ex).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def shape(target: Any) -> tuple[list[str], int] | None:
    """The names of its columns, and how many rows it has. None of what is no table."""
    table = _table(target)
    return None if table is None else (_different(table.names(0, 0)), table.count)


def rows(target: Any, start: int, count: int) -> list[list[Any]]:
    """Fewer where the table has become shorter."""
    table = _table(target)
    if table is None:
        raise TypeError(f"{type(target).__name__} is no table")
    stop = min(start + count, table.count)
    columns = table.columns(start, stop)
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in range(start, stop)]


class _Pandas:
    """The index is a column, unless it merely counts the rows."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self._counts = isinstance(frame.index, sys.modules["pandas"].RangeIndex)
        self.count = len(frame)

    def names(self, start: int, stop: int) -> list[str]:
        return [str(name) for name in self._part(start, stop).columns]

    def columns(self, start: int, stop: int) -> list[list[Any]]:
        part = self._part(start, stop)
        columns = [part.iloc[:, index] for index in range(part.shape[1])]
        return [column.astype(object).where(column.notna(), None).tolist() for column in columns]

    def _part(self, start: int, stop: int) -> Any:
        part = self._frame.iloc[start:stop]
        return part if self._counts else part.reset_index(allow_duplicates=True)


class _Polars:
    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.count: int = frame.height

    def names(self, start: int, stop: int) -> list[str]:
        return list(self._frame.columns)

    def columns(self, start: int, stop: int) -> list[list[Any]]:
        return [column.to_list() for column in self._frame.slice(start, stop - start).get_columns()]


class _Arrow:
    def __init__(self, table: Any) -> None:
        self._table = table
        self.count: int = table.num_rows

    def names(self, start: int, stop: int) -> list[str]:
        return list(self._table.column_names)

    def columns(self, start: int, stop: int) -> list[list[Any]]:
        return [column.to_pylist() for column in self._table.slice(start, stop - start).columns]


# What each library calls its tables and columns.
_TABLES = (
    ("pandas", "DataFrame", _Pandas, False),
    ("pandas", "Series", _Pandas, True),
    ("polars", "DataFrame", _Polars, False),
    ("polars", "Series", _Polars, True),
    ("pyarrow", "Table", _Arrow, False),
    ("pyarrow", "RecordBatch", _Arrow, False),
)


def _table(target: Any) -> _Pandas | _Polars | _Arrow | None:
    for module, name, reader, is_column in _TABLES:
        # Whoever has an object of a class has imported it.
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type) and issubclass(type(target), kind):
            return reader(target.to_frame() if is_column else target)
    return None


def _different(names: list[str]) -> list[str]:
    """A row is a map in Elixir, so a name that is there already gets a number."""
    taken: dict[str, int] = {}
    made = []
    for name in names:
        different, number = name, taken.get(name, 1)
        while different in taken:
            number += 1
            different = f"{name} ({number})"
        taken[name] = number
        taken.setdefault(different, 1)
        made.append(different)
    return made
