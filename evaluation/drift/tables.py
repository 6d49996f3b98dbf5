"""Tables of rows in the order of time."""

from __future__ import annotations

import csv
import dataclasses
import math
import pathlib
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of text. An empty cell is missing. ``rows``: shape [rows][columns]."""

    columns: tuple[str, ...]
    rows: list[list[str]]

    def column(self, name: str) -> list[str]:
        """Its cells, shape [rows]."""
        at = self.columns.index(name)
        return [row[at] for row in self.rows]

    def select(self, names: Iterable[str]) -> Table:
        """The same rows with these columns only."""
        at = [self.columns.index(name) for name in names]
        return Table(tuple(self.columns[i] for i in at), [[row[i] for i in at] for row in self.rows])

    def take(self, rows: Iterable[int]) -> Table:
        """These rows in this order."""
        return Table(self.columns, [self.rows[i] for i in rows])


def read(path: pathlib.Path) -> Table:
    """A CSV file with a header; rows of another length than the header are refused."""
    with path.open(newline="") as file:
        reader = csv.reader(file)
        columns = next(reader, None)
        if columns is None:
            raise ValueError(f"{path}: no header")
        rows = []
        for row in reader:
            if row and len(row) != len(columns):
                raise ValueError(f"{path}:{reader.line_num}: {len(row)} cells, expected {len(columns)}")
            if row:
                rows.append([cell.strip() for cell in row])
    return Table(tuple(columns), rows)


def write(path: pathlib.Path, table: Table) -> None:
    """The table as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.columns)
        writer.writerows(table.rows)


def numbers(cells: Sequence[str]) -> list[float] | None:
    """The cells as numbers, NaN where missing; None when some cell is something else, or none has a value."""
    try:
        values = [float(cell) if cell else math.nan for cell in cells]
    except ValueError:
        return None
    return values if any(cells) else None


def features(table: Table) -> tuple[str, ...]:
    """The columns that are worth watching: not a clock, a counter, or a text that is another one in nearly every row.

    A clock or counter is a column of numbers that never falls and has more than ten values.
    """
    kept = []
    for name in table.columns:
        cells = table.column(name)
        values = numbers(cells)
        if values is None:
            if 2 * len(set(cells)) <= len(cells):
                kept.append(name)
        elif len(set(values)) <= 10 or any(b < a for a, b in zip(values, values[1:])):
            kept.append(name)
    return tuple(kept)
