"""Fits logs with known answers into budgets and tells what of the answers is still there.

    python -m logs --worker target/release/plumbline-analysis-worker FOLDER

prints one table; the exit status is 1 when a goal is missed. The worker is asked as a person would ask it, so that
cleaning and redaction have their part in what is lost.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from logs.cases import Case, Signal, read_cases

BUDGETS = (2_000, 4_000, 8_000, 16_000)
BYTES_PER_TOKEN = 4
"""As the worker counts."""

UNBOUNDED = 100_000_000
"""Tokens for which every line is kept."""

MAX_REDACTED = 0.005
"""Largest share of lines that may lose something."""

GOALS = {
    ("LogDx-CI", 4_000): 0.95,
    ("LogDx-CI", 8_000): 0.97,
    ("PyTorch", 2_000): 1.0,
    ("Treeherder, first error", 8_000): 0.8,
}
"""Least share that has to be there."""


def fit(worker: str, log: bytes, budget: int) -> str:
    """What the worker keeps of a log."""
    command = [worker, "fit", "--file", "-", "--log-budget", str(budget)]
    done = subprocess.run(command, input=log, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode()


def redacted(worker: str, cases: list[Case]) -> tuple[int, int]:
    """Lines of which something was taken out as a secret or as personal data, and all lines.

    The logs are public and were cleaned by their publishers, so that nearly all of the former are false alarms.
    """
    text = "".join(fit(worker, case.log, UNBOUNDED) for case in cases)
    lines = text.splitlines()
    return sum("[REDACTED:" in line for line in lines), len(lines)


def is_kept(signal: Signal, text: str) -> bool:
    """Whether a reader of `text` sees it."""
    numbers = {int(number) for number in re.findall(r"^(\d+): ", text, re.MULTILINE)}
    return (bool(signal.lines) and numbers.issuperset(signal.lines)) or any(found in text for found in signal.texts)


def measure(worker: str, cases: list[Case], budget: int, explain: bool) -> dict[str, tuple[int, int]]:
    """Of each kind of answer, how many are there and how many there should be."""
    found: dict[str, list[bool]] = {}
    for case in cases:
        text = fit(worker, case.log, budget)
        if len(text.encode()) > budget * BYTES_PER_TOKEN:
            raise SystemExit(f"{case.collection} {case.name}: {len(text.encode())} bytes for {budget} tokens")
        kept = [is_kept(signal, text) for signal in case.signals]
        found.setdefault(case.collection, []).extend(kept)
        if case.collection == "LogDx-CI":
            found.setdefault("LogDx-CI, one a log", []).append(any(kept))
        if case.collection == "Treeherder":
            found.setdefault("Treeherder, first error", []).append(kept[0])
        if explain:
            for signal, there in zip(case.signals, kept, strict=True):
                if not there:
                    print(f"missing at {budget}: {case.collection} {case.name}: {signal.name}", file=sys.stderr)
    return {kind: (sum(kept), len(kept)) for kind, kept in found.items()}


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="logs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worker", required=True, help="the program plumbline-analysis-worker")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, metavar="TOKENS")
    parser.add_argument("--explain", action="store_true", help="name what is missing")
    parser.add_argument("folder", type=Path, help="with logdx/, pytorch/ or treeherder/")
    arguments = parser.parse_args()
    cases = read_cases(arguments.folder)
    columns = {budget: measure(arguments.worker, cases, budget, arguments.explain) for budget in arguments.budgets}
    print("| kept at | " + " | ".join(f"{budget:,} tokens" for budget in columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    missed = 0
    for kind in next(iter(columns.values())):
        cells = []
        for budget, found in columns.items():
            kept, asked = found[kind]
            goal = GOALS.get((kind, budget), 0.0)
            short = kept < goal * asked
            missed += short
            cells.append(f"{kept} of {asked}, {kept / asked:.1%}" + (f" (missed: {goal:.0%})" if short else ""))
        print(f"| {kind} | " + " | ".join(cells) + " |")
    touched, lines = redacted(arguments.worker, cases)
    too_many = touched > MAX_REDACTED * lines
    print(f"\nredacted: {touched:,} of {lines:,} lines, {touched / lines:.2%} (at most {MAX_REDACTED:.1%})")
    return 1 if missed or too_many else 0


if __name__ == "__main__":
    sys.exit(main())
