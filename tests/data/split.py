"""Splits a CSV file into two, at a row or at random: split.py TABLE.csv A.csv B.csv (--at ROW | --seed N)."""

from __future__ import annotations

import argparse
import random
from pathlib import Path


def main() -> None:
    """Write the two parts, each with the header."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--at", type=int, help="rows of the first part, in the file's order")
    how.add_argument("--seed", type=int, help="halves in a random order")
    options = parser.parse_args()

    header, *rows = options.table.read_text(encoding="utf-8").splitlines()
    at = options.at
    if at is None:
        random.Random(options.seed).shuffle(rows)
        at = len(rows) // 2
    for path, part in ((options.first, rows[:at]), (options.second, rows[at:])):
        path.write_text("\n".join([header, *part, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
