"""`plumbline profile` and this package write the same profile from the same rows."""

from __future__ import annotations

import csv
import datetime
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
from churn.profile import Column, seasonality, subject
from churn.table import CLASSES, FEATURES, POSITIVE, TARGET, number
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


def test_both_writers_agree_on_the_hours_of_the_week(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Three weeks of rows, with times in other zones and some without one, and a column of free text."""
    rows = read(trained / "reference.csv")
    first = datetime.datetime(2026, 1, 31, 22, 50, tzinfo=datetime.timezone.utc)
    zones = [datetime.timezone(datetime.timedelta(minutes=offset)) for offset in (0, 330, -210)]
    times = [
        None if i % 50 == 7 else (first + i * datetime.timedelta(minutes=17)).astimezone(zones[i % 3])
        for i in range(len(rows))
    ]
    notes = [f"{'n' * (i % 37)} {i}" for i in range(len(rows))]
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*rows[0], "note", "at"])
        for row, note, time in zip(rows, notes, times):
            writer.writerow([*row.values(), note, time.isoformat() if time else ""])

    columns = [
        Column(f.name, f.name, f.datatype, [number(row[f.name]) if f.is_number else row[f.name] for row in rows])
        for f in FEATURES
    ]
    columns.append(Column("note", "note", "BYTES", [note.strip() for note in notes]))
    columns.append(Column(OUTPUTS[0], OUTPUTS[0], "BYTES", [row[OUTPUTS[0]] for row in rows], role="label"))
    columns += [Column(o, o, "FP32", [float(row[o]) for row in rows], role="value") for o in OUTPUTS[1:]]

    arguments = [tmp_path / "rows.csv", "--output-columns", ",".join(OUTPUTS), "--exclude", TARGET]
    run(*arguments, "--time-column", "at", "--output", tmp_path / "profile.json")
    theirs = load(tmp_path / "profile.json")
    schema = load(SCHEMA)
    assert problems(theirs, schema, schema) == []
    assert theirs["features"] + theirs["outputs"] == [subject(column) for column in columns]
    assert {made["kind"] for made in theirs["features"]} == {"numeric", "categorical", "text_length"}
    assert theirs["seasonality"] == seasonality(columns, times)


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
