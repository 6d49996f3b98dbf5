"""The churn table: its columns, how a row is read, how the rows are split."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

PathLike = Union[str, pathlib.Path]

TARGET = "Churn"
#: In the order of the model's probability columns, which is scikit-learn's: sorted.
CLASSES = ("No", "Yes")
POSITIVE = "Yes"


@dataclass(frozen=True)
class Feature:
    """One input column of the model, and one named input tensor of shape [rows, 1]."""

    name: str
    is_number: bool

    @property
    def datatype(self) -> str:
        """The tensor's datatype, in the protocol's spelling."""
        return "FP32" if self.is_number else "BYTES"


#: The model's inputs, in the order of the table. `customerID` names a row and is none of them.
FEATURES = tuple(
    Feature(name, is_number=name in {"SeniorCitizen", "tenure", "MonthlyCharges", "TotalCharges"})
    for name in (
        "gender",
        "SeniorCitizen",
        "Partner",
        "Dependents",
        "tenure",
        "PhoneService",
        "MultipleLines",
        "InternetService",
        "OnlineSecurity",
        "OnlineBackup",
        "DeviceProtection",
        "TechSupport",
        "StreamingTV",
        "StreamingMovies",
        "Contract",
        "PaperlessBilling",
        "PaymentMethod",
        "MonthlyCharges",
        "TotalCharges",
    )
)


class TableError(ValueError):
    """The file is not the churn table; the message names the place."""


@dataclass(frozen=True)
class Table:
    """Rows of the churn table.

    `texts`: the features as the file spells them, str [rows, features], object array.
    `values`: the same as the model takes them, [rows, features], object array: a float for a number, rounded to FP32
    as the tensor that carries it, NaN where the file has a blank; else the text.
    `target`: "No" or "Yes", str [rows].
    """

    texts: npt.NDArray[Any]
    values: npt.NDArray[Any]
    target: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.target)

    def column(self, feature: Feature) -> npt.NDArray[Any]:
        """One feature as its tensor holds it: float32 or str objects, shape [rows, 1]."""
        values = self.values[:, [FEATURES.index(feature)]]
        return values.astype(np.float32) if feature.is_number else values

    def rows(self, indices: npt.NDArray[np.intp]) -> Table:
        """The rows at `indices`."""
        return Table(self.texts[indices], self.values[indices], self.target[indices])


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of a table."""

    #: What the model is fitted to.
    train: Table
    #: What the profile describes: rows that the model does not know, so that its outputs on them are those of service.
    reference: Table
    #: What the model is judged by and what the demo replays.
    heldout: Table


def load(path: PathLike) -> Table:
    """Read `churn.csv`: a header, then one customer a line.

    Raises `TableError` for a missing column, a number that is none or an unknown class.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {f.name for f in FEATURES} | {TARGET}
        missing -= set(reader.fieldnames or ())
        if missing:
            raise TableError(f"{path}: no column {', '.join(sorted(missing))}")
        lines = list(reader)
    texts = np.empty((len(lines), len(FEATURES)), dtype=object)
    values = np.empty_like(texts)
    for i, line in enumerate(lines):
        for j, feature in enumerate(FEATURES):
            text = line[feature.name] or ""
            texts[i, j] = text
            try:
                values[i, j] = number(text) if feature.is_number else text
            except ValueError:
                raise TableError(f"{path}, row {i + 1}: {feature.name} is `{text}`, not a number") from None
        if line[TARGET] not in CLASSES:
            raise TableError(f"{path}, row {i + 1}: {TARGET} is `{line[TARGET]}`, not one of {', '.join(CLASSES)}")
    return Table(texts, values, np.array([line[TARGET] for line in lines], dtype=object))


def number(text: str) -> float:
    """The number that the tensor will hold: rounded to FP32; NaN for a blank.

    Customers in their first month have a blank for `TotalCharges`: 11 of the 7,043 rows.
    """
    return float(np.float32(text)) if text.strip() else float("nan")


def split(table: Table, seed: int) -> Split:
    """Half to train, a quarter each as reference and held out, with equal shares of the classes."""
    everything: npt.NDArray[np.intp] = np.arange(len(table))
    train, rest = train_test_split(everything, test_size=0.5, stratify=table.target, random_state=seed)
    reference, heldout = train_test_split(rest, test_size=0.5, stratify=table.target[rest], random_state=seed)
    return Split(table.rows(train), table.rows(reference), table.rows(heldout))


def write_csv(path: PathLike, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write rows below a header; floats in their shortest exact spelling."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
