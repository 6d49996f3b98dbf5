"""Scores alarms: how many are false, how many changes are found, and how late."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable

from .streams import Stream

#: Rows of the alarms: by stream, by column. A column that the detector cannot watch is not there.
Alarms = dict[str, dict[str, list[int]]]
#: Last row and strength of each window: by stream, by column; 1 is the tool's own threshold.
Strengths = dict[str, dict[str, list[tuple[int, float]]]]


@dataclasses.dataclass
class Score:
    """Of one detector over some streams and columns."""

    clean_rows: int = 0
    false_alarms: int = 0
    #: Runs (a column of a stream) with a clean part, and those of them without a false alarm.
    clean_runs: int = 0
    silent_runs: int = 0
    #: Rows from each change to the first alarm after it, the row of the alarm included.
    delays: list[int] = dataclasses.field(default_factory=list)
    #: Changes without an alarm, and those of them in columns that the detector cannot watch.
    missed: int = 0
    unwatched: int = 0

    @property
    def false_alarms_per_10k(self) -> float:
        """False alarms in 10,000 clean rows; NaN without any."""
        return 1e4 * self.false_alarms / self.clean_rows if self.clean_rows else math.nan

    @property
    def changes(self) -> int:
        """All changes, found or not."""
        return len(self.delays) + self.missed

    def delay(self, level: float) -> float:
        """Quantile of the delays of all changes: infinite where it is a missed one, NaN without changes."""
        if not self.changes:
            return math.nan
        ordered = [*sorted(map(float, self.delays)), *[math.inf] * self.missed]
        return ordered[min(len(ordered) - 1, math.ceil(level * len(ordered)) - 1)]


def score(
    streams: Iterable[Stream], alarms: Alarms, wanted: Callable[[Stream, str], bool] = lambda _stream, _column: True
) -> Score:
    """The score over the columns that are ``wanted``. Streams that the detector was not run on are left out."""
    total = Score()
    for stream in streams:
        if stream.key not in alarms:
            continue
        for column in stream.columns:
            if wanted(stream, column):
                _add(total, stream, column, alarms[stream.key].get(column))
    return total


def _add(total: Score, stream: Stream, column: str, rows: list[int] | None) -> None:
    changes = stream.changes if column in stream.changed else ()
    if rows is None:
        total.missed += len(changes)
        total.unwatched += len(changes)
        return
    clean = stream.rows - stream.reference - sum(end - begin for begin, end in changes)
    false = sum(not any(begin <= row < end for begin, end in changes) for row in rows)
    total.clean_rows += clean
    total.false_alarms += false
    if clean:
        total.clean_runs += 1
        total.silent_runs += false == 0
    for begin, end in changes:
        first = min((row for row in rows if begin <= row < end), default=None)
        if first is None:
            total.missed += 1
        else:
            total.delays.append(first - begin + 1)


def cut(strengths: Strengths, at: float) -> Alarms:
    """Alarms where the strength is at least ``at``."""
    return {
        stream: {column: [row for row, value in windows if value >= at] for column, windows in columns.items()}
        for stream, columns in strengths.items()
    }


def every(streams: Iterable[Stream], rows: int) -> Alarms:
    """A detector that alarms every so many rows, whatever they hold: what a score has to beat."""
    return {s.key: {column: list(range(s.reference + rows - 1, s.rows, rows)) for column in s.columns} for s in streams}


def never(streams: Iterable[Stream]) -> Alarms:
    """A detector that never alarms."""
    return {s.key: {column: [] for column in s.columns} for s in streams}
