"""The profile builder: cases computed by hand, and the golden columns that the Rust builder is held to."""

from __future__ import annotations

import json
import math
import pathlib

import numpy as np
import pytest

from churn import profile
from churn.profile import Column, subject

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "crates" / "drift" / "tests" / "golden" / "profile_golden.json"


def test_numbers_by_hand() -> None:
    """1, 2, 2, 5 and a missing one: mean 2.5, deviations -1.5, -0.5, -0.5, 2.5, their squares sum to 9."""
    made = subject(Column("x", "x", "FP32", [2.0, float("nan"), 5.0, 1.0, 2.0]))
    assert (made["kind"], made["count"], made["missing"]) == ("numeric", 4, 1)
    numeric = made["numeric"]
    assert numeric["distinct"] == 3
    assert numeric["edges"] == [0.5, 1.5, 3.5, 6.5]
    assert numeric["counts"] == [0, 1, 2, 1, 0]
    assert numeric["means"] == [None, 1.0, 2.0, 5.0, None]
    assert (numeric["min"], numeric["max"], numeric["mean"]) == (1.0, 5.0, 2.5)
    assert numeric["variance"] == pytest.approx(3.0, rel=1e-15)
    assert numeric["skewness"] == pytest.approx((12 / 4) / 2.25**1.5, rel=1e-15)
    assert numeric["kurtosis"] == pytest.approx((44.25 / 4) / 2.25**2 - 3.0, rel=1e-14)
    assert {q["level"]: q["value"] for q in numeric["quantiles"]}[0.75] == 2.75


def test_categories_by_hand() -> None:
    """By count, ties by value; the empty text is missing, a blank is a category."""
    made = subject(Column("c", "c", "BYTES", ["b", "a", "", "b", " ", "a", "c"]))
    assert (made["kind"], made["count"], made["missing"]) == ("categorical", 6, 1)
    assert made["categorical"]["categories"] == [
        {"value": "a", "count": 2},
        {"value": "b", "count": 2},
        {"value": " ", "count": 1},
        {"value": "c", "count": 1},
    ]


def test_calibration_by_hand() -> None:
    """Two bins of three: the cut is the median 0.35, and every row is in one bin."""
    probabilities = np.array([0.1, 0.2, 0.3, 0.4, 0.9, 1.0])
    happened = np.array([False, False, True, True, True, True])
    low, high = profile.calibration_bins(probabilities, happened, bins=2)
    assert (low["lower"], low["upper"], low["count"]) == (0.0, pytest.approx(0.35), 3)
    assert (low["predicted"], low["observed"]) == (pytest.approx(0.2), pytest.approx(1 / 3))
    assert (high["lower"], high["upper"], high["count"], high["observed"]) == (low["upper"], 1.0, 3, 1.0)


def test_golden_columns() -> None:
    """Every number equal as a 64-bit float, on the columns whose datatypes this builder knows: numbers and texts."""
    compared = 0
    for column in json.loads(GOLDEN.read_text(encoding="utf-8"))["columns"]:
        want, values = column["subject"], column["values"]
        is_text = want["datatype"] == "BYTES"
        if want["datatype"] == "BOOL" or (want["kind"] == "categorical" and not is_text):
            continue
        if not is_text:
            values = [math.nan if value is None else float(value) for value in values]
        assert subject(Column(want["name"], want["tensor"], want["datatype"], values)) == want
        compared += 1
    assert compared >= 20
