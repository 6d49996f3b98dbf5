"""What promtool does not check of the rules: check.py, run from anywhere.

Every alert has `for`, a severity, a summary, a runbook that exists, and tests in which it fires and in which it does
not. Every series of ours that an expression reads is in docs/metrics.md. The rules of each window of psi.yaml are the
same.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "charts/plumbline/rules"
TESTS = ROOT / "tests/prometheus/rules"


def alerts(text: str) -> dict[str, str]:
    """The rule of each alert, as text."""
    rules = re.split(r"^      (?:- |#)", text, flags=re.MULTILINE)
    return {rule.split()[1]: rule for rule in rules if rule.startswith("alert: ")}


def problems_of_alert(name: str, rule: str, tests: str) -> list[str]:
    """What the alert lacks."""
    wanted = {
        "for": r"^        for: \d+[smh]",
        "severity critical or warning": r"^          severity: (critical|warning)$",
        "summary": r"^          summary: .",
        "runbook_url docs/runbooks/<its name>.md": rf"^          runbook_url: docs/runbooks/{name}\.md$",
    }
    problems = [what for what, pattern in wanted.items() if not re.search(pattern, rule, re.MULTILINE)]
    if not (ROOT / f"docs/runbooks/{name}.md").is_file():
        problems.append("runbook")
    cases = re.findall(rf"alertname: {name}\n +exp_alerts:( \[\])?", tests)
    if "" not in cases:
        problems.append("test in which it fires")
    if " []" not in cases:
        problems.append("test in which it does not fire")
    return problems


def unknown_series(text: str, documented: set[str]) -> set[str]:
    """Series of ours that nothing declares."""
    text = re.sub(r"^\s*#.*", "", text, flags=re.MULTILINE)
    read = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"(?<![:\w])plumbline_\w+", text)}
    return {name for name in read if name not in documented}


def windows(text: str) -> set[str]:
    """The groups of psi.yaml that have a window, with the window taken out; one when they are the same."""
    groups = re.split(r"^  - name: ", text, flags=re.MULTILINE)[1:]
    lengths = {"1h": "3600", "1d": "86400"}
    plain = set()
    for group in groups:
        found = re.match(r"plumbline-psi-(\w+)\n", group)
        if found:
            without = re.sub(rf"\b{found[1]}\b", "WINDOW", group).replace(lengths[found[1]], "SECONDS")
            plain.add(re.sub(r"^\s*#.*\n", "", without, flags=re.MULTILINE).strip())
    return plain


def main() -> None:
    """Tell all problems, and fail when there are any."""
    tests = "".join(path.read_text() for path in sorted(TESTS.glob("*.test.yaml")))
    documented = set(re.findall(r"`(plumbline_\w+)`", (ROOT / "docs/metrics.md").read_text()))
    problems, names = [], set()
    for path in sorted(RULES.glob("*.yaml")):
        text = path.read_text()
        problems += [
            f"{path.name}: {name} is in no table of docs/metrics.md" for name in unknown_series(text, documented)
        ]
        for name, rule in alerts(text).items():
            names.add(name)
            problems += [f"{path.name}: {name} has no {what}" for what in problems_of_alert(name, rule, tests)]
    runbooks = {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")} - {"README"}
    problems += [f"docs/runbooks/{name}.md: no alert of that name" for name in sorted(runbooks - names)]
    if len(windows((RULES / "psi.yaml").read_text())) != 1:
        problems.append("psi.yaml: the rules of its windows differ in more than the window")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(names)} alerts, {len(problems)} problems")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
