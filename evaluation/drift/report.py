"""Tables and plots of what was found."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Callable

from . import plot
from .detectors import Judged, Onset
from .score import Score, score
from .streams import Stream

#: What is shown column by column, by name and the start of its setting: short name.
SHOWN = (
    ("Plumbline monitor", "", "monitor"),
    ("Plumbline sequential test", "", "test alone"),
    ("river ADWIN", "its own", "ADWIN"),
    ("river ADWIN", "matched", "ADWIN matched"),
    ("Evidently, 500 rows", "matched", "Evidently matched"),
    ("NannyML, 10 chunks", "matched", "NannyML matched"),
)
#: What is shown where nothing can be matched: rows in their own order.
SHOWN_RAW = (
    *SHOWN[:3],
    ("river Page-Hinkley", "its own", "Page-Hinkley"),
    ("river KSWIN", "its own", "KSWIN"),
    ("Evidently, 500 rows", "its own", "Evidently"),
    ("NannyML, 10 chunks", "its own", "NannyML"),
)
#: Rows within which the median delay is meant to be, by table and column.
GOALS = {
    ("elec2", "nswprice"): 50,
    ("elec2", "vicdemand"): 32,
    ("bank", "age"): 260,
    ("weather", "feat_4"): 90,
    ("bike", "cnt"): 140,
    ("made up", "mean + 0.25 sd"): 650,
    ("made up", "mean + 0.5 sd"): 180,
    ("made up", "mean + 1 sd"): 65,
    ("made up", "1.5 sd"): 200,
    ("made up", "two modes"): 500,
    ("made up", "flag .10 to .15"): 1_050,
    ("made up", "flag .10 to .20"): 300,
    ("made up", "flag .05 to .24"): 90,
}
#: Rows in a week of hours.
WEEK = 168


def table(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    """A table in Markdown; all but the first ``left`` columns are numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def rows_text(value: float) -> str:
    """A delay for people."""
    if math.isnan(value):
        return "-"
    return "missed" if math.isinf(value) else f"{value:,.0f}"


def rate_text(value: float) -> str:
    """False alarms in 10,000 rows for people."""
    if math.isnan(value):
        return "-"
    return "0" if value == 0 else f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def wanted_columns(streams: list[Stream], group: str) -> list[tuple[str, str, bool]]:
    """Name of the stream, column, whether it changes."""
    first = [s for s in streams if s.group == group and s.repetition == 0]
    return [(s.name, column, column in s.changed) for s in first for column in s.columns]


@dataclasses.dataclass
class Page:
    """Everything a page can be filled with."""

    streams: list[Stream]
    judged: list[Judged]
    onsets: list[Onset]

    def group(self, name: str) -> list[Stream]:
        """The streams of a group."""
        return [s for s in self.streams if s.group == name]

    def find(self, name: str, setting: str) -> Judged | None:
        """The detector of this name whose setting starts so."""
        return next((j for j in self.judged if j.name == name and j.setting.startswith(setting)), None)

    def of_column(self, judged: Judged, group: str, name: str, column: str) -> Score:
        """The score over all repetitions of a column."""
        chosen = [s for s in self.group(group) if s.name == name]
        return score(chosen, judged.alarms, lambda _stream, of: of == column)

    def summary(self, group: str) -> str:
        """Every detector over the whole group."""
        rows = []
        for judged in self.judged:
            total = score(self.group(group), judged.alarms)
            rows.append(
                [
                    judged.name,
                    judged.setting,
                    f"{total.false_alarms:,}",
                    rate_text(total.false_alarms_per_10k),
                    f"{total.silent_runs} of {total.clean_runs}",
                    f"{len(total.delays)} of {total.changes}",
                    rows_text(statistics.median(total.delays) if total.delays else math.nan),
                    rows_text(total.delay(0.5)),
                    rows_text(total.delay(0.9)),
                ]
            )
        head = [
            "detector", "setting", "false alarms", "in 10,000 clean rows", "runs without one", "changes found",
            "median delay of the found", "of all", "90 % of all within",
        ]  # fmt: skip
        return table(head, rows, 2)

    def shown(self, which: tuple[tuple[str, str, str], ...] = SHOWN) -> list[tuple[str, Judged]]:
        """The detectors that are told one by one."""
        found = ((short, self.find(name, setting)) for name, setting, short in which)
        return [(short, judged) for short, judged in found if judged]

    def by_column(self, group: str) -> str:
        """Median delay of each change, and how many of its repetitions were missed."""
        rows = []
        for name, column, changes in wanted_columns(self.streams, group):
            if changes:
                cells = []
                for _, judged in self.shown():
                    of_column = self.of_column(judged, group, name, column)
                    text = "cannot" if of_column.unwatched else rows_text(of_column.delay(0.5))
                    part = of_column.missed and not of_column.unwatched and of_column.delays
                    cells.append(f"{text} ({of_column.missed} missed)" if part else text)
                rows.append([f"{name} {column}", *cells])
        return table(["change", *(short for short, _ in self.shown())], rows)

    def goals(self) -> str:
        """The goals of the research and what was reached."""
        rows = []
        for (name, column), goal in GOALS.items():
            group = "synthetic" if name == "made up" else "splice"
            cells = []
            for wanted in ("Plumbline sequential test", "Plumbline monitor"):
                judged = self.find(wanted, "")
                delay = self.of_column(judged, group, name, column).delay(0.5) if judged else math.nan
                cells.append(f"{rows_text(delay)}{', reached' if delay <= goal else ', not reached'}")
            rows.append([f"{name} {column}", f"{goal:,}", *cells])
        return table(["change", "goal", "sequential test alone", "monitor"], rows)

    def clean_runs(self) -> str:
        """A sentence about the false alarms of the splices."""
        parts = []
        for wanted in ("Plumbline sequential test", "Plumbline monitor"):
            judged = self.find(wanted, "")
            if judged:
                total = score(self.group("splice"), judged.alarms)
                parts.append(
                    f"{wanted.removeprefix('Plumbline ')}: {total.false_alarms} false alarms in "
                    f"{total.clean_runs} runs, {total.clean_rows:,} clean rows"
                )
        return "; ".join(parts)

    def onset_errors(self) -> str:
        """How far the told begin of a change is from the true one."""
        by_key = {s.key: s for s in self.streams if s.group in ("splice", "synthetic") and s.changes}
        errors, shares, told, alarms = [], [], 0, 0
        for onset in self.onsets:
            stream = by_key.get(onset.stream)
            if stream is None or onset.column not in stream.changed or onset.row < stream.changes[0][0]:
                continue
            alarms += 1
            if onset.begin is not None:
                told += 1
                error = abs(onset.begin - stream.changes[0][0])
                errors.append(error)
                shares.append(error / (onset.row - stream.changes[0][0] + 1))
        if not told:
            return f"None of {alarms} alarms told where the change began."
        return (
            f"{told} of {alarms} alarms told where the change began; "
            f"median error {statistics.median(errors):,.0f} rows, {statistics.median(shares):.0%} of the delay."
        )

    def raw(self, keep: Callable[[Stream], bool]) -> str:
        """Known changes hit and alarms elsewhere, by series, for the detectors that are shown column by column."""
        rows = []
        for stream in self.streams:
            if not keep(stream):
                continue
            cells = []
            for _, judged in self.shown(SHOWN_RAW):
                if stream.key not in judged.alarms:
                    cells.append("not run")
                    continue
                total = score([stream], judged.alarms)
                hit = f"{len(total.delays)}/{total.changes}" if total.changes else "-"
                late = f", {rows_text(statistics.median(total.delays))}" if total.delays else ""
                cells.append(f"{hit}{late}; {total.false_alarms:,}")
            rows.append([stream.name, f"{len(stream.columns)}", f"{stream.rows:,}", f"{stream.reference:,}", *cells])
        head = ["series", "columns", "rows", "reference", *(short for short, _ in self.shown(SHOWN_RAW))]
        return table(head, rows)

    def seasons(self) -> str:
        """Odd days against even days, and the next year."""
        rows = []
        for short, judged in self.shown(SHOWN_RAW):
            cells = [short]
            for stream in self.group("season"):
                total = score([stream], judged.alarms)
                was_run = stream.key in judged.alarms
                cells.append(f"{total.false_alarms:,}" if was_run else "not run")
                if stream.changes:
                    cells.append(rows_text(total.delay(0.5)) if was_run else "not run")
            rows.append(cells)
        head = ["detector"]
        for stream in self.group("season"):
            head.append(f"{stream.name}: alarms in even days")
            if stream.changes:
                head.append("rows to find the next year")
        return table(head, rows)

    def counts(self) -> str:
        """Alarms by column, where nothing is known of the table."""
        rows = []
        for stream in self.streams:
            for column in stream.columns:
                cells = []
                for _, judged in self.shown(SHOWN_RAW):
                    if stream.key not in judged.alarms:
                        cells.append("not run")
                        continue
                    found = judged.alarms[stream.key].get(column)
                    first = f", first at row {found[0]:,}" if found else ""
                    cells.append("cannot" if found is None else f"{len(found)}{first}")
                rows.append([f"{stream.name} {stream.repetition}", column, *cells])
        return table(["stream", "column", *(short for short, _ in self.shown(SHOWN_RAW))], rows, 2)

    def draw(self, folder: pathlib.Path) -> None:
        """The plots."""
        for group, name in (("splice", "real values"), ("synthetic", "made-up values")):
            lines = []
            for of, column, changes in wanted_columns(self.streams, group):
                if changes:
                    label = column if group == "synthetic" else f"{of} {column}"
                    lines.append((label, [self._plotted(j, group, of, column) for _, j in self.shown()]))
            title = f"Rows from a change to its alarm, {name}"
            names = [short for short, _ in self.shown()]
            plot.delays(folder / f"drift-delays-{group}.svg", title, names, lines, 10, 10_000)
        points = []
        colours: dict[str, int] = {}
        for judged in self.judged:
            # Ours raise the same alarms as river's of the same name, and are not drawn a second time.
            if judged.setting == "baseline" or judged.name in ("Plumbline ADWIN", "Plumbline Page-Hinkley"):
                continue
            total = score(self.group("splice"), judged.alarms)
            family = judged.name.split(",")[0].split()[0]
            colour = colours.setdefault(family, len(colours))
            hollow = judged.setting == "matched"
            name = judged.name.removeprefix("Plumbline ").removeprefix("river ") + (" matched" if hollow else "")
            share = len(total.delays) / total.changes if total.changes else 0.0
            points.append((name, total.false_alarms_per_10k, share, colour, hollow))
        plot.tradeoff(folder / "drift-tradeoff.svg", "False alarms against changes found, real values", points)

    def _plotted(self, judged: Judged, group: str, name: str, column: str) -> float:
        of_column = self.of_column(judged, group, name, column)
        return math.inf if of_column.unwatched else of_column.delay(0.5)
