"""`plumbline profile` and this package write the same profile from the same rows."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import subprocess

import onnxruntime
from test_training import read, tensors

from churn.model import LABEL_OUTPUT, PROBABILITY_OUTPUT
from churn.table import CLASSES


def test_both_writers_agree(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Every feature and every output, each number as the same 64-bit float; from the reference rows and the model."""
    binary = os.environ.get("PLUMBLINE_BIN")
    assert binary and os.access(binary, os.X_OK), (
        f"PLUMBLINE_BIN={binary} is no program: `make test` builds and names it"
    )

    # The rows as the model is asked, beside what it answers.
    rows = read(trained / "reference.csv")
    session = onnxruntime.InferenceSession(trained / "model.onnx", providers=["CPUExecutionProvider"])
    labels, maps = session.run([LABEL_OUTPUT, PROBABILITY_OUTPUT], tensors(rows))
    probability_columns = [f"{PROBABILITY_OUTPUT}_{label}" for label in CLASSES]
    scored = tmp_path / "scored.csv"
    with open(scored, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*rows[0], LABEL_OUTPUT, *probability_columns])
        for row, label, found in zip(rows, labels, maps):
            writer.writerow([*row.values(), label, *(found[c] for c in CLASSES)])

    command = [binary, "profile", str(scored), "--model-name", "churn", "--model-file", str(trained / "model.onnx")]
    command += ["--output-columns", ",".join([LABEL_OUTPUT, *probability_columns])]
    for i, (column, label) in enumerate(zip(probability_columns, CLASSES)):
        command += ["--class", f"{column}={label}", "--tensor", f"{column}={PROBABILITY_OUTPUT}:{i}"]
    subprocess.run([*command, "--output", str(tmp_path / "profile.json")], check=True, timeout=60)

    ours = json.loads((trained / "profile.json").read_text(encoding="utf-8"))
    theirs = json.loads((tmp_path / "profile.json").read_text(encoding="utf-8"))
    for key in ("format", "format_version", "model", "features", "outputs"):
        assert theirs[key] == ours[key], key
    assert theirs["data"]["rows"] == ours["data"]["rows"]
