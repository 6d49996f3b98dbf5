"""Triages logs of known failures offline and tells how often the kind is found.

    python -m triage --worker target/release/plumbline-analysis-worker FOLDER

prints one table; the exit status is 1 when the goal is missed. The layouts of FOLDER are those of `logs`. What a log
shows is said by its collection (LogDx-CI's category), else by a file of labels: `labels.json` beside this one, and
`triage-labels.json` in FOLDER, if there is one, for other cases. A log without either is named and not judged.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logs.cases import read_log

GOAL = 0.85
"""Least share that has to be right."""

LAYOUTS = {
    "logdx": "*/ground_truth.json",
    "pytorch": "*.expected.json",
    "treeherder": "*.logview.json",
}
"""The files with the answers of each collection."""


def log_of(answer: Path) -> tuple[str, Path]:
    """Name of a case, and its log."""
    if answer.name == "ground_truth.json":
        return answer.parent.name, answer.parent / "raw.log"
    name = answer.name.split(".")[0]
    return name, answer.with_name(f"{name}.log")


@dataclass(frozen=True)
class Labelled:
    """A log and what it shows."""

    name: str
    log: Path
    expected: str | None
    """None: nobody has said it."""


def read_labels(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Types by LogDx-CI's categories, and by the names of cases."""
    categories: dict[str, str] = {}
    cases: dict[str, str] = {}
    for path in (Path(__file__).with_name("labels.json"), folder / "triage-labels.json"):
        if path.exists():
            labels = json.loads(path.read_text())
            categories |= labels.get("categories", {})
            cases |= {name: label["type"] for name, label in labels.get("cases", {}).items()}
    return categories, cases


def read_cases(folder: Path) -> list[Labelled]:
    """Every log of the folder."""
    categories, labels = read_labels(folder)
    cases = []
    for collection, pattern in LAYOUTS.items():
        for path in sorted((folder / collection).glob(pattern)):
            name, log = log_of(path)
            expected = labels.get(f"{collection}/{name}")
            if expected is None and collection == "logdx":
                category = json.loads(path.read_text())["root_cause"]["category"]
                expected = categories.get(category)
            cases.append(Labelled(f"{collection}/{name}", log, expected))
    if not cases:
        raise SystemExit(f"no case in {folder}: expected one of {', '.join(LAYOUTS)} with logs as in ci-logs")
    return cases


def triage(worker: str, log: Path) -> dict[str, Any]:
    """The findings of the offline triage, from the log alone: no name of a job, no step."""
    command = [worker, "triage", "--job-log", "-", "--provider", "offline", "--format", "json", "--log", "error"]
    done = subprocess.run(command, input=read_log(log), capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{log}: exit status {done.returncode}: {done.stderr.decode()}")
    findings: dict[str, Any] = json.loads(done.stdout)["findings"]
    return findings


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        prog="triage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worker", required=True, help="the program plumbline-analysis-worker")
    parser.add_argument("folder", type=Path, help="with logdx/, pytorch/ or treeherder/")
    arguments = parser.parse_args()
    right: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    print("| log | expected | found | confidence | first finding |\n| --- | --- | --- | --- | --- |")
    for case in read_cases(arguments.folder):
        findings = triage(arguments.worker, case.log)
        found = findings["failure_type"]
        collection = case.name.split("/")[0]
        if case.expected is None:
            verdict = "not labelled"
        else:
            judged[collection] += 1
            right[collection] += found == case.expected
            verdict = case.expected if found == case.expected else f"**{case.expected}**"
        title = findings["findings"][0]["title"].replace("|", "\\|")[:70]
        print(f"| {case.name} | {verdict} | {found} | {findings['confidence']:.2f} | {title} |")
    total, of = sum(right.values()), sum(judged.values())
    if of == 0:
        raise SystemExit("no log has a label: nothing was judged")
    shares = [f"{name} {right[name]} of {judged[name]}" for name in judged]
    print(f"\n{total} of {of} right, {total / of:.1%} (goal {GOAL:.0%}): {', '.join(shares)}")
    return 0 if total >= GOAL * of else 1


if __name__ == "__main__":
    sys.exit(main())
