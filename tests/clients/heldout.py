"""Held-out rows, what scikit-learn answered, and the comparison with what a client is answered.

Knows no client and no server: `check_triton.py` and `check_kserve.py` bring those.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: What a served probability may differ from scikit-learn's.
TOLERANCE = 1e-6
#: The converter's names for a classifier's outputs.
LABEL_OUTPUT, PROBABILITY_OUTPUT = "output_label", "output_probability"
PROBABILITY_COLUMN = "probability_"


@dataclass(frozen=True)
class Rows:
    """Rows and their answers.

    `texts`: column name → the cells as the file spells them, [rows].
    `classes`: in the order of the probability columns; `labels`: str [rows]; `probabilities`: float64 [rows, classes].
    """

    texts: dict[str, list[str]]
    classes: list[str]
    labels: list[str]
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: list[int]) -> Rows:
        """The rows at `indices`."""
        texts = {name: [cells[i] for i in indices] for name, cells in self.texts.items()}
        return Rows(texts, self.classes, [self.labels[i] for i in indices], self.probabilities[indices])

    def tensors(self) -> dict[str, np.ndarray]:
        """Input name → float32 (NaN for a blank) or str objects, shape [rows, 1]."""
        return {
            name: np.array([[float(c.strip() or "nan")] for c in cells], dtype=np.float32)
            if name in self.numbers
            else np.array([[c] for c in cells], dtype=np.object_)
            for name, cells in self.texts.items()
        }

    def objects(self) -> list[dict[str, Any]]:
        """One object a row, name → value, as V1 instances."""
        return [
            {n: float(cells[i]) if n in self.numbers else cells[i] for n, cells in self.texts.items()}
            for i in range(len(self))
        ]

    @property
    def numbers(self) -> set[str]:
        """The columns of numbers."""
        return {"SeniorCitizen", "tenure", "MonthlyCharges", "TotalCharges"} & set(self.texts)

    def complete(self) -> Rows:
        """The rows without a blank: JSON has no spelling for a missing number."""
        return self.take([i for i in range(len(self)) if all(cells[i].strip() for cells in self.texts.values())])


Answers = tuple[list[str], np.ndarray]


def arguments(description: str) -> argparse.Namespace:
    """The command line of a check."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--url", required=True, help="http://host:port of the REST endpoint")
    parser.add_argument("--grpc", required=True, help="host:port of the gRPC endpoint")
    parser.add_argument("--model", default="churn", help="the model's name (default: churn)")
    parser.add_argument("--rows", type=pathlib.Path, required=True, help="heldout.csv")
    parser.add_argument("--scores", type=pathlib.Path, required=True, help="heldout_scores.csv")
    parser.add_argument("--count", type=int, default=64, help="rows to predict (default: 64)")
    return parser.parse_args()


def load(rows: pathlib.Path, scores: pathlib.Path, count: int) -> Rows:
    """`count` rows, those with a blank first, so that missing numbers are among them."""
    with open(rows, newline="", encoding="utf-8") as file:
        features = list(csv.DictReader(file))
    with open(scores, newline="", encoding="utf-8") as file:
        answers = list(csv.DictReader(file))
    if len(features) != len(answers) or len(features) < count:
        raise SystemExit(
            f"{rows} has {len(features)} rows, {scores} {len(answers)}; both need the same, at least {count}"
        )
    columns = [name for name in answers[0] if name.startswith(PROBABILITY_COLUMN)]
    held = Rows(
        {name: [row[name] for row in features] for name in features[0]},
        [name[len(PROBABILITY_COLUMN) :] for name in columns],
        [row["label"] for row in answers],
        np.array([[float(row[name]) for name in columns] for row in answers]),
    )
    blanks_last = sorted(range(len(held)), key=lambda i: all(cells[i].strip() for cells in held.texts.values()))
    return held.take(blanks_last[:count])


def agrees(client: str, rows: Rows, predict: Callable[[Rows], Answers]) -> bool:
    """Predict all rows at once, then one by one, and print one line about it."""
    try:
        worst = difference(rows, predict(rows))
        for i in range(len(rows)):
            one = rows.take([i])
            worst = max(worst, difference(one, predict(one)))
    except Exception as error:  # whatever a client raises is its answer
        print(f"{client:<28} FAILED: {type(error).__name__}: {error}")
        return False
    agreed = worst <= TOLERANCE
    verdict = f"largest difference {worst:.2g}" + ("" if agreed else f", allowed {TOLERANCE:g}: FAILED")
    print(f"{client:<28} {len(rows)} rows at once and one by one: labels equal, {verdict}")
    return agreed


def difference(rows: Rows, answers: Answers) -> float:
    """The largest difference of a probability; raises for another label or another shape."""
    labels, probabilities = answers
    if labels != rows.labels:
        raise ValueError(f"labels {labels[:5]}…, scikit-learn's are {rows.labels[:5]}…")
    if probabilities.shape != rows.probabilities.shape:
        raise ValueError(f"probabilities of shape {probabilities.shape}, expected {rows.probabilities.shape}")
    return float(np.abs(probabilities - rows.probabilities).max())


def texts(values: np.ndarray) -> list[str]:
    """The strings of a BYTES output, which clients hand out as bytes or as text."""
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values.reshape(-1).tolist()]
