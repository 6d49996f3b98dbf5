"""`plumbline profile` and this package write the same profile from the same rows."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import subprocess
from typing import Any

import onnxruntime
import pytest
from json_schema import problems
from test_training import read, tensors

from churn.model import LABEL_OUTPUT, PROBABILITY_OUTPUT
from churn.table import CLASSES, POSITIVE, TARGET
from churn.train import OUTPUTS

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "crates" / "drift" / "schema" / "profile.schema.json"
#: Said by the writer about itself.
OWN = ("created_at", "generator")


def run(*arguments: str | pathlib.Path) -> None:
    """`plumbline profile`, which `make test` builds and names."""
    binary = os.environ.get("PLUMBLINE_BIN")
    assert binary and os.access(binary, os.X_OK), f"PLUMBLINE_BIN={binary} is no program: `make test` names it"
    subprocess.run([binary, "profile", *map(str, arguments)], check=True, timeout=60)


def load(path: pathlib.Path) -> dict[str, Any]:
    """A profile."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def held_out(trained: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The truth of the held-out rows and what the written model answers, from the written files alone."""
    rows, truths = read(trained / "heldout.csv"), read(trained / "heldout_scores.csv")
    session = onnxruntime.InferenceSession(trained / "model.onnx", providers=["CPUExecutionProvider"])
    labels, maps = session.run([LABEL_OUTPUT, PROBABILITY_OUTPUT], tensors(rows))
    path = tmp_path_factory.mktemp("held-out") / "rows.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([TARGET, *OUTPUTS])
        writer.writerows(
            [truth[TARGET], label, *(found[c] for c in CLASSES)] for truth, label, found in zip(truths, labels, maps)
        )
    return path


def test_both_writers_agree(trained: pathlib.Path, held_out: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Every section, each number as the same 64-bit float: digests, rows, features, outputs, target, measures,
    importances and calibration.
    """
    ours = load(trained / "profile.json")
    importances = tmp_path / "importances.csv"
    with open(importances, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["feature", "importance"])
        writer.writerows(importance.values() for importance in ours["importances"])

    arguments = [trained / "reference.csv", "--model-name", "churn", "--model-file", trained / "model.onnx"]
    arguments += ["--target", TARGET, "--positive-class", POSITIVE, "--output-columns", ",".join(OUTPUTS)]
    arguments += ["--held-out", held_out, "--importances", importances]
    for i, (column, label) in enumerate(zip(OUTPUTS[1:], CLASSES)):
        arguments += ["--class", f"{column}={label}", "--tensor", f"{column}={PROBABILITY_OUTPUT}:{i}"]
    run(*arguments, "--output", tmp_path / "profile.json")

    theirs = load(tmp_path / "profile.json")
    schema = load(SCHEMA)
    assert problems(ours, schema, schema) == problems(theirs, schema, schema) == []
    assert theirs.keys() == ours.keys()
    for section in ours.keys() - OWN:
        assert theirs[section] == ours[section], section
    assert ours.keys() - OWN == {
        "format",
        "format_version",
        "model",
        "data",
        "features",
        "outputs",
        "target",
        "training",
        "importances",
        "calibration",
    }


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("format_version",), 2, ".format_version: 2 against const 1"),
        (("data", "rows"), -1, ".data.rows: -1 against minimum 0"),
        (("data", "rows"), True, ".data.rows: True against type 'integer'"),
        (("features", 0, "kind"), "numeric", ".features[0]: fits 0 of oneOf"),
        (("features", 1, "numeric", "edges"), [0.0] * 34, ".features[1].numeric.edges: "),
        (("features", 1, "colour"), "red", ".features[1].colour: not known"),
        (("training", "auc"), 1.5, ".training.auc: 1.5 against maximum 1"),
        (("model", "digest"), "sha256:12", ".model.digest: 'sha256:12' against pattern "),
    ],
)
def test_the_schema_refuses_what_is_no_profile(
    trained: pathlib.Path, path: tuple[Any, ...], value: Any, problem: str
) -> None:
    """One change each, told with its place."""
    profile, schema = load(trained / "profile.json"), load(SCHEMA)
    place: Any = profile
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert any(found.startswith(problem) for found in problems(profile, schema, schema))
