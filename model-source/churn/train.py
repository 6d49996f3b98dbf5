"""Trains the churn model and writes what it takes to serve and to watch it.

Usage: python -m churn.train --data churn.csv --out artifacts/churn --seed 7
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np

import churn
from churn import model, profile, table
from churn.model import LABEL_OUTPUT, PROBABILITY_OUTPUT, Answers
from churn.table import CLASSES, FEATURES, POSITIVE, TARGET, Table

#: What ONNX may differ from scikit-learn in a probability: float32 keeps about seven digits.
TOLERANCE = 1e-6
#: Names of the outputs in the profile, and of their columns beside the reference rows.
OUTPUTS = (LABEL_OUTPUT, *(f"{PROBABILITY_OUTPUT}_{label}" for label in CLASSES))
#: RFC 3339 in UTC.
TIME = "%Y-%m-%dT%H:%M:%SZ"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="churn.train", description="Trains the churn model.")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="churn.csv")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="directory to write; its name is the model's")
    parser.add_argument("--seed", type=int, default=7, help="of the split and of the importances (default: 7)")
    parser.add_argument(
        "--created-at",
        type=utc_time,
        default=now(),
        help="time for the profile, RFC 3339 in UTC (default: SOURCE_DATE_EPOCH, then now)",
    )
    options = parser.parse_args(arguments)
    try:
        train(options.data, options.out, options.seed, options.created_at)
    except (OSError, table.TableError, ParityError) as error:
        print(f"churn.train: {error}", file=sys.stderr)
        return 1
    return 0


class ParityError(RuntimeError):
    """The ONNX model does not answer as the pipeline that it was made from."""


def train(data: pathlib.Path, out: pathlib.Path, seed: int, created: str) -> None:
    """Read `data`, fit, convert, check, and write `out`; tells on standard output what it does."""
    start = time.perf_counter()
    rows = table.load(data)
    parts = table.split(rows, seed)
    print(
        f"{len(rows):,} rows: {len(parts.train):,} to train, {len(parts.reference):,} as reference, "
        f"{len(parts.heldout):,} held out (seed {seed})"
    )
    pipeline = model.fit(parts.train)
    onnx = model.convert(pipeline)

    expected = model.ask_pipeline(pipeline, parts.heldout)
    answers = model.ask_onnx(onnx, parts.heldout)
    difference = model.largest_difference(expected, answers)
    if not difference <= TOLERANCE:
        raise ParityError(f"a probability differs from scikit-learn's by {difference:.3g}, allowed {TOLERANCE:g}")
    print(
        f"ONNX against scikit-learn on {len(parts.heldout):,} held-out rows: labels equal, "
        f"largest difference of a probability {difference:.2g} (allowed {TOLERANCE:g})"
    )
    measured = measure(parts.heldout, answers)
    print("held-out: " + ", ".join(f"{name} {value:.4f}" for name, value in measured.items() if name != "rows"))

    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / "heldout.csv", parts.heldout)
    write_scores(out / "heldout_scores.csv", parts.heldout, expected)
    reference = model.ask_onnx(onnx, parts.reference)
    write_scored(out / "reference.csv", parts.reference, reference)
    write_json(
        out / "metrics.json",
        {
            "seed": seed,
            "rows": {"train": len(parts.train), "reference": len(parts.reference), "heldout": len(parts.heldout)},
            "heldout": {name: value for name, value in measured.items() if name != "rows"},
            "onnx": {"opset": model.OPSET, "largest_difference": difference, "allowed": TOLERANCE},
        },
    )
    content = onnx.SerializeToString()
    write_json(
        out / "profile.json",
        {
            "format": profile.FORMAT,
            "format_version": profile.FORMAT_VERSION,
            "created_at": created,
            "generator": {"name": "plumbline-model-source", "version": churn.__version__},
            "model": {"name": out.resolve().name, "version": "1", "digest": digest(content)},
            "data": {"rows": len(parts.reference), "digest": digest((out / "reference.csv").read_bytes())},
            **describe(parts.reference, reference),
            "training": measured,
            "importances": [
                {"feature": name, "importance": lost}
                for name, lost in model.importances(pipeline, parts.reference, seed).items()
            ],
        },
    )
    # Last and whole: a server that watches the directory finds a model only together with all else.
    write(out / "model.onnx", content)
    print(f"wrote {out} in {time.perf_counter() - start:.1f} s")


def describe(reference: Table, answers: Answers) -> dict[str, Any]:
    """The profile's part on the reference rows and what the served model says about them."""
    features = [profile.Column(f.name, f.name, f.datatype, reference.column(f)[:, 0].tolist()) for f in FEATURES]
    outputs = [profile.Column(LABEL_OUTPUT, LABEL_OUTPUT, "BYTES", answers.labels.tolist(), role="label")]
    for i, (name, label) in enumerate(zip(OUTPUTS[1:], CLASSES)):
        values = answers.probabilities[:, i].tolist()
        outputs.append(
            profile.Column(name, PROBABILITY_OUTPUT, "FP32", values, column=i, role="probability", label=label)
        )
    calibration = [
        {
            "output": column.name,
            "bins": profile.calibration_bins(np.asarray(column.values), reference.target == column.label),
        }
        for column in outputs
        if column.role == "probability"
    ]
    return {
        "features": [profile.subject(column) for column in features],
        "outputs": [profile.subject(column) for column in outputs],
        "target": {"name": TARGET, "classes": list(CLASSES), "positive_class": POSITIVE},
        "calibration": calibration,
    }


def measure(rows: Table, answers: Answers) -> dict[str, Any]:
    """The profile's `training`: how the served model did on rows that it was not fitted to."""
    probabilities = answers.probabilities.astype(np.float64)
    return profile.measures(rows.target.tolist(), answers.labels.tolist(), probabilities, CLASSES, POSITIVE)


def write_rows(path: pathlib.Path, rows: Table) -> None:
    """The features as the source spells them, blanks included; the header is the model's inputs."""
    table.write_csv(path, [f.name for f in FEATURES], rows.texts.tolist())


def write_scored(path: pathlib.Path, rows: Table, answers: Answers) -> None:
    """As `write_rows`, then the truth and what the served model answers: all that the profile is made from."""
    header = [*(f.name for f in FEATURES), TARGET, *OUTPUTS]
    # As float64, whose shortest spelling gives the same float32 again.
    probabilities = answers.probabilities.astype(np.float64).tolist()
    scored = zip(rows.texts.tolist(), rows.target, answers.labels, probabilities)
    table.write_csv(path, header, [[*texts, truth, label, *own] for texts, truth, label, own in scored])


def write_scores(path: pathlib.Path, rows: Table, answers: Answers) -> None:
    """Line by line beside `write_rows`: the truth, then scikit-learn's label and probabilities."""
    header = [TARGET, "label", *(f"probability_{label}" for label in CLASSES)]
    scores = [
        [truth, label, *probabilities]
        for truth, label, probabilities in zip(rows.target, answers.labels, answers.probabilities.tolist())
    ]
    table.write_csv(path, header, scores)


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Strict JSON: a NaN would be an error, not a token that no other reader knows."""
    write(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write(path: pathlib.Path, content: bytes) -> None:
    """Replace the file by a whole one."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.replace(path)


def digest(content: bytes) -> str:
    """As the profile spells it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def now() -> str:
    """The current time as the profile spells it; that of SOURCE_DATE_EPOCH, seconds since 1970, if it is set."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    seconds = int(epoch) if epoch else time.time()
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime(TIME)


def utc_time(text: str) -> str:
    """`text` if it is a time as the profile spells it; else `ValueError`."""
    datetime.datetime.strptime(text, TIME)
    return text


if __name__ == "__main__":
    sys.exit(main())
