"""Gives recorded incidents to the worker and tells what of their explanations is among its evidence.

    python -m incidents --worker target/debug/plumbline-analysis-worker FOLDER

prints one table; the exit status is 1 when less than 95 % is there. The worker is asked as for any alert, with the
outputs that were recorded as its logs: what it keeps of them within its budget is what a model would be shown.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from incidents.cases import EXPECTED, Case, read_cases

BUDGETS = (2_000, 4_000, 8_000, 16_000)
GOAL = 0.95
"""Least share of the findings at the budget below."""
GOAL_BUDGET = 8_000
"""The worker's default."""


def shown(worker: str, case: Case, budget: int) -> str:
    """Everything that an analysis of the case may use."""
    with tempfile.TemporaryDirectory() as work:
        logs = Path(work) / "logs"
        logs.mkdir()
        for name, text in case.outputs.items():
            (logs / f"{name}.log").write_text(text + "\n")
        alert = {"labels": case.labels, "annotations": case.annotations, "startsAt": "2026-11-29T10:00:00Z"}
        file = Path(work) / "alert.json"
        file.write_text(json.dumps({"alerts": [alert]}))
        # The recordings are of other days; all of their lines are of interest.
        command = [worker, "analyze", "--alert", str(file), "--format", "json", "--logs", str(logs)]
        command += ["--log-budget", str(budget), "--log-lookback", "36500d", "--provider", "offline"]
        done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}: {done.stderr.decode()}")
    report = json.loads(done.stdout)
    return "\n".join(f"{fact['title']}\n{fact['content']}" for fact in report["evidence"])


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="incidents", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worker", required=True, help="the program plumbline-analysis-worker")
    parser.add_argument("--expected", type=Path, default=EXPECTED, help="what explains each incident")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, metavar="TOKENS")
    parser.add_argument("--explain", action="store_true", help="name what is missing")
    parser.add_argument("folder", type=Path, help="with */test_case.yaml")
    arguments = parser.parse_args()
    cases, left_out = read_cases(arguments.folder, arguments.expected)
    print("| explanations shown at | " + " | ".join(f"{budget:,} tokens" for budget in arguments.budgets) + " |")
    print("| --- |" + " --- |" * len(arguments.budgets))
    rows: dict[str, list[str]] = {case.name: [] for case in cases}
    totals, missed = [], False
    for budget in arguments.budgets:
        kept = asked = 0
        for case in cases:
            text = shown(arguments.worker, case, budget)
            there = [any(part in text for part in finding.texts) for finding in case.findings]
            rows[case.name].append(f"{sum(there)} of {len(there)}")
            kept, asked = kept + sum(there), asked + len(there)
            if arguments.explain:
                for finding, is_there in zip(case.findings, there):
                    if not is_there:
                        print(f"missing at {budget}: {case.name}: {finding.name}", file=sys.stderr)
        short = budget == GOAL_BUDGET and kept < GOAL * asked
        missed |= short
        totals.append(f"{kept} of {asked}, {kept / asked:.1%}" + (f" (missed: {GOAL:.0%})" if short else ""))
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("| **all** | " + " | ".join(totals) + " |")
    for name, reason in left_out.items():
        print(f"\nleft out: {name}: {reason}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
