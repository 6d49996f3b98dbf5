"""Whether what the worker can be asked for exists: questions.py --worker target/debug/plumbline-analysis-worker

Prometheus' own parser takes every query, and every series of ours in them is in docs/metrics.md.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from check import ROOT, unknown_series


def main() -> None:
    """Tell all problems, and fail when there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", required=True)
    command = [parser.parse_args().worker, "ask", "--list", "--format", "json"]
    measurements = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    documented = set(re.findall(r"`(plumbline_\w+)`", (ROOT / "docs/metrics.md").read_text()))
    problems = [
        f"{each['name']}: {name} is not in docs/metrics.md"
        for each in measurements
        for name in sorted(unknown_series(each["query"], documented))
    ]
    # promtool parses the expressions of rules; JSON is YAML.
    rules = [{"record": f"question:{each['name']}", "expr": each["query"]} for each in measurements]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "questions.yaml"
        path.write_text(json.dumps({"groups": [{"name": "questions", "rules": rules}]}))
        checked = subprocess.run(["promtool", "check", "rules", str(path)], check=False, capture_output=True, text=True)
    if checked.returncode != 0:
        problems.append(checked.stdout + checked.stderr)
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(measurements)} questions: every query parses, every series exists")


if __name__ == "__main__":
    main()
