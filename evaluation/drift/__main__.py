"""Regenerates the page about drift detection and its plots, or judges one table of one's own.

Usage: python -m drift --setup DIR --evaluate PROGRAM --page FILE (--data DIR --false-alarms FILE | --table FILE)
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import platform
import re

import numpy as np

from . import known, streams
from .detectors import Runner
from .report import Page
from .tables import features, read

#: Sentences with ``{{name}}`` where a table belongs.
TEMPLATE = pathlib.Path(__file__).parent / "page.md"


def of_one_table(writer: streams.Writer, path: pathlib.Path, reference: int, repetitions: int) -> None:
    """The table in its own order, and shuffled, where every alarm is false."""
    table = read(path)
    table = table.select(features(table))
    if len(table.rows) <= reference:
        raise SystemExit(f"{path}: {len(table.rows)} rows, expected more than the reference's {reference}")
    streams.raw(writer, path.stem, table, reference)
    for repetition in range(repetitions):
        order = np.random.default_rng([repetition, 2]).permutation(len(table.rows))
        shuffled = table.take(int(i) for i in order)
        writer.add("splice", f"{path.stem}, shuffled", shuffled, reference, repetition=repetition)


def fill(page: Page, false_alarms: pathlib.Path) -> str:
    """The template with its tables."""
    values = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "false_alarms": false_alarms.read_text().strip(),
        "clean_runs": page.clean_runs(),
        "goals": page.goals(),
        "onsets": page.onset_errors(),
        "splice_summary": page.summary("splice"),
        "splice_columns": page.by_column("splice"),
        "synthetic_summary": page.summary("synthetic"),
        "synthetic_columns": page.by_column("synthetic"),
        "raw": page.raw(lambda s: s.group == "raw"),
        "seasons": page.seasons(),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], TEMPLATE.read_text())


def main() -> None:
    """Makes the streams, runs everything, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluate", type=pathlib.Path, required=True, help="the example program of crates/drift")
    parser.add_argument("--setup", type=pathlib.Path, required=True, help="where the peers' environments are")
    parser.add_argument("--page", type=pathlib.Path, required=True, help="what to write; plots go to images/ beside it")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=pathlib.Path, help="folder of the data sets with known changes")
    what.add_argument("--table", type=pathlib.Path, help="a CSV file to judge instead")
    parser.add_argument("--false-alarms", type=pathlib.Path, help="what `make false-alarms` wrote; needed with --data")
    parser.add_argument("--reference", type=int, default=1_000, help="rows of the table to trust (1,000)")
    parser.add_argument("--repetitions", type=int, default=12, help="shuffles of each splice (12)")
    parser.add_argument("--slow-repetitions", type=int, default=3, help="of them, how many the slow peers get (3)")
    arguments = parser.parse_args()
    if arguments.data and not arguments.false_alarms:
        parser.error("--data needs --false-alarms")
    folder = arguments.setup / "drift-evaluation" / (arguments.table.stem if arguments.table else "known")
    for old in folder.glob("*.csv"):
        old.unlink()
    writer = streams.Writer(folder)
    if arguments.table:
        of_one_table(writer, arguments.table, arguments.reference, min(3, arguments.repetitions))
    else:
        known.write(writer, arguments.data, arguments.repetitions)
    runner = Runner(writer.finish(), arguments.evaluate, arguments.setup, arguments.slow_repetitions)
    page = Page(runner.streams, runner.all(), runner.onsets)
    arguments.page.parent.mkdir(parents=True, exist_ok=True)
    if arguments.table:
        parts = [
            f"# Drift detection on {arguments.table.name}",
            page.counts(),
            "Shuffled, so that every alarm is false:",
        ]
        arguments.page.write_text("\n\n".join([*parts, page.summary("splice")]) + "\n")
    else:
        page.draw(arguments.page.parent / "images")
        arguments.page.write_text(fill(page, arguments.false_alarms))
    for old in folder.glob("*.csv"):
        old.unlink()
    print(f"wrote {arguments.page}")


main()
