"""Recorded incidents with what explains them.

A case is a folder with `test_case.yaml`. Its `investigate_request.json` or `issue_data.json`, where it has one, is the
alert. Files whose first lines are JSON with `tool_name` are outputs of tools, recorded after those lines. What has to
be seen in them stands in `expected.json` beside this file: texts for each finding, any of which shows it.
"""

import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXPECTED = Path(__file__).with_name("expected.json")


@dataclass(frozen=True)
class Finding:
    """Something that explains the incident."""

    name: str
    texts: tuple[str, ...]
    """Any of them shows it."""


@dataclass(frozen=True)
class Case:
    """One incident."""

    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    """Of its alert."""
    outputs: dict[str, str]
    """By the name of the file."""
    findings: tuple[Finding, ...]


def read_cases(folder: Path, expected: Path = EXPECTED) -> tuple[list[Case], dict[str, str]]:
    """The cases of a folder, and why some of it have none."""
    truth: dict[str, Any] = json.loads(expected.read_text())
    cases, left_out = [], {}
    for test_case in sorted(folder.rglob("test_case.yaml")):
        name = test_case.parent.name
        known = truth.get(name)
        if known is None:
            raise SystemExit(f"{expected} does not say what explains {name}")
        if "left_out" in known:
            left_out[name] = known["left_out"]
            continue
        findings = tuple(Finding(what, tuple(texts)) for what, texts in known.items())
        cases.append(Case(name, *_alert(test_case), _outputs(test_case.parent), findings))
    if not cases:
        raise SystemExit(f"no case in {folder}: expected */test_case.yaml")
    return cases, left_out


def _alert(test_case: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations of the alert, or of the question in its place."""
    for name in ("issue_data.json", "investigate_request.json"):
        path = test_case.with_name(name)
        told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        if isinstance(told.get("raw"), dict) and "labels" in told["raw"]:
            return told["raw"]["labels"], told["raw"].get("annotations") or {}
        if told.get("title"):
            return {"alertname": told["title"]}, {"description": told.get("description") or ""}
    prompt = re.search(r"^user_prompt: (.*)$", test_case.read_text(), re.MULTILINE)
    return {"alertname": "Question"}, {"description": prompt[1].strip("'\"") if prompt else ""}


def _outputs(folder: Path) -> dict[str, str]:
    """Outputs of tools that are not empty, each once."""
    outputs: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode(errors="replace")
        lines = text.split("\n")
        if not lines[0].startswith("{") or "tool_name" not in lines[0]:
            continue
        body = "\n".join(line for line in lines[1:] if not line.startswith('{"schema_version"')).strip()
        body = re.sub(r"^stdout:\n|\n?\nstderr:\s*$", "", body).strip()
        if body and body not in outputs.values():
            outputs[path.name] = body
    return outputs
