"""Streams: tables whose first rows are the reference, with what is known to change in them."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np

from .tables import Table, write

#: Rows of the protocol "splice": reference, unchanged, changed.
REFERENCE, CLEAN, AFTER = 1_000, 4_000, 6_000
#: Repetitions add so many clean rows each, up to a window of 500, so that the change falls anywhere into a window.
STAGGER, WINDOW = 41, 500


def clean_rows(repetition: int) -> int:
    """Unchanged rows after the reference."""
    return CLEAN + STAGGER * repetition % WINDOW


@dataclasses.dataclass(frozen=True)
class Stream:
    """A table in a file. Rows are counted from 0, the reference included.

    ``changes`` are half-open ranges of rows in which an alarm of a column in ``changed`` is right. An alarm anywhere
    else is false, or at least not explained.
    """

    name: str
    group: str
    file: str
    rows: int
    reference: int
    columns: tuple[str, ...]
    changed: tuple[str, ...] = ()
    changes: tuple[tuple[int, int], ...] = ()
    repetition: int = 0

    @property
    def key(self) -> str:
        """Names the stream among all of a run."""
        return f"{self.group}/{self.name}/{self.repetition}"


class Writer:
    """Writes streams into a folder, and their list beside them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder.resolve()
        self.streams: list[Stream] = []
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        group: str,
        name: str,
        table: Table,
        reference: int,
        changed: tuple[str, ...] = (),
        changes: tuple[tuple[int, int], ...] = (),
        repetition: int = 0,
    ) -> None:
        """Writes a stream."""
        path = self.folder / f"{group}-{name}-{repetition}.csv"
        write(path, table)
        rows = len(table.rows)
        self.streams.append(
            Stream(name, group, str(path), rows, reference, table.columns, changed, changes, repetition)
        )

    def finish(self) -> pathlib.Path:
        """Writes the list, for the peers' programs."""
        path = self.folder / "streams.json"
        path.write_text(json.dumps([dataclasses.asdict(stream) for stream in self.streams], indent=1))
        return path


def load(path: pathlib.Path) -> list[Stream]:
    """The list that :meth:`Writer.finish` wrote."""
    streams = []
    for entry in json.loads(path.read_text()):
        entry["columns"], entry["changed"] = tuple(entry["columns"]), tuple(entry["changed"])
        entry["changes"] = tuple((begin, end) for begin, end in entry["changes"])
        streams.append(Stream(**entry))
    return streams


def splice(writer: Writer, name: str, table: Table, at: int | None, changed: tuple[str, ...], repetitions: int) -> None:
    """Rows before ``at``, shuffled, then the rows from there on, shuffled: real values, and a change at one known row.

    Without ``at`` the whole table is shuffled and nothing changes.
    """
    for repetition in range(repetitions):
        rng = np.random.default_rng([repetition, len(table.rows)])
        end = len(table.rows) if at is None else at
        before = rng.permutation(end)[: REFERENCE + clean_rows(repetition)]
        after = end + rng.permutation(len(table.rows) - end)[:AFTER]
        rows = table.take([int(i) for i in (*before, *after)])
        changes = ((len(before), len(rows.rows)),) if changed else ()
        writer.add("splice", name, rows, REFERENCE, changed, changes, repetition)


class _Columns:
    """Made-up columns of one stream: unchanged rows, then changed ones."""

    def __init__(self, rng: np.random.Generator, before: int) -> None:
        self.rng, self.before = rng, before

    def normal(self, mean: float = 0.0, sd: float = 1.0) -> list[str]:
        before = self.rng.normal(size=self.before)
        return [repr(float(x)) for x in (*before, *self.rng.normal(mean, sd, size=AFTER))]

    def two_modes(self) -> list[str]:
        """Two modes in the place of one, with the same mean and variance."""
        side = np.where(self.rng.random(AFTER) < 0.5, -1.5, 1.5)
        before = self.rng.normal(size=self.before)
        return [repr(float(x)) for x in (*before, *((self.rng.normal(size=AFTER) + side) / 3.25**0.5))]

    def flag(self, before: float, after: float) -> list[str]:
        values = (*(self.rng.random(self.before) < before), *(self.rng.random(AFTER) < after))
        return [str(int(x)) for x in values]

    def category(self, after: list[float]) -> list[str]:
        parts = (([0.4, 0.3, 0.2, 0.1], self.before), (after, AFTER))
        return [f"class-{c}" for shares, rows in parts for c in self.rng.choice(4, size=rows, p=shares)]


def synthetic(writer: Writer, repetitions: int) -> None:
    """Made-up columns that all change at the same row, each in a way of its own."""
    for repetition in range(repetitions):
        begin = REFERENCE + clean_rows(repetition)
        make = _Columns(np.random.default_rng([repetition, 1]), begin)
        modes = make.two_modes()
        columns = {
            "mean + 0.1 sd": make.normal(0.1),
            "mean + 0.25 sd": make.normal(0.25),
            "mean + 0.5 sd": make.normal(0.5),
            "mean + 1 sd": make.normal(1.0),
            "1.5 sd": make.normal(sd=1.5),
            "0.5 sd": make.normal(sd=0.5),
            "two modes": modes,
            "flag .10 to .15": make.flag(0.10, 0.15),
            "flag .10 to .20": make.flag(0.10, 0.20),
            "flag .05 to .24": make.flag(0.05, 0.24),
            "shares moved": make.category([0.3, 0.3, 0.2, 0.2]),
            "unchanged": make.normal(),
            "unchanged flag": make.flag(0.1, 0.1),
            "unchanged class": make.category([0.4, 0.3, 0.2, 0.1]),
        }
        table = Table(tuple(columns), [list(row) for row in zip(*columns.values())])
        changed = tuple(name for name in columns if not name.startswith("unchanged"))
        writer.add("synthetic", "made up", table, REFERENCE, changed, ((begin, begin + AFTER),), repetition)


def raw(
    writer: Writer,
    name: str,
    table: Table,
    reference: int,
    changed: tuple[str, ...] = (),
    changes: tuple[tuple[int, int], ...] = (),
) -> None:
    """The rows in their own order, the first ``reference`` of them trusted."""
    writer.add("raw", name, table, reference, changed, changes)
