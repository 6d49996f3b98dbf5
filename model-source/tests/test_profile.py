"""The profile builder: cases computed by hand, and the golden columns that the Rust builder is held to."""

from __future__ import annotations

import datetime
import json
import pathlib

import numpy as np
import pytest
from sklearn import metrics

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


def test_truth_values_and_numbered_classes_by_hand() -> None:
    """None is missing; a class is its number in decimal, whatever the datatype."""
    flags = subject(Column("b", "b", "BOOL", [True, None, False, True]))
    assert (flags["kind"], flags["count"], flags["missing"]) == ("boolean", 3, 1)
    assert flags["boolean"] == {"false": 1, "true": 2}
    codes = subject(Column("c", "c", "FP32", [1.0, 2.5, None, -0.0, 1.0, 1e21], is_categorical=True))
    assert (codes["kind"], codes["count"], codes["missing"]) == ("categorical", 5, 1)
    assert [c["value"] for c in codes["categorical"]["categories"]] == ["1", "0", "1000000020040877300000", "2.5"]


def test_hours_of_the_week_by_hand() -> None:
    """The 1st of January 1970 is the Thursday from hour 72 on; offsets are taken off, rows without a time left out."""
    at = datetime.datetime
    east = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    times = [at(1970, 1, 1), at(1970, 1, 1, 0, 59, 59), at(1970, 1, 5, 5, 30, tzinfo=east), None, at(1970, 1, 11, 23)]
    columns = [
        Column("x", "x", "FP32", [1.0, 2.0, None, 2.0, 5.0]),
        Column("c", "c", "BYTES", ["a", "", "b", "a", "a"]),
        Column("b", "b", "BOOL", [True, False, None, True, False]),
    ]
    seasons = profile.seasonality(columns, times)["hour_of_week"]
    assert [season["subject"] for season in seasons] == ["x", "c", "b"]
    filled = [{hour: row for hour, row in enumerate(season["counts"]) if any(row)} for season in seasons]
    assert filled == [
        {0: [0, 0, 0, 0, 0, 1], 72: [0, 1, 1, 0, 0, 0], 167: [0, 0, 0, 1, 0, 0]},
        {0: [0, 1, 0, 0], 72: [1, 0, 0, 1], 167: [1, 0, 0, 0]},
        {0: [0, 0, 1], 72: [1, 1, 0], 167: [1, 0, 0]},
    ]
    assert all(len(season["counts"]) == 168 for season in seasons)


def test_times_that_say_nothing_are_refused() -> None:
    """No time at all, less than a day of them, and not one for each row."""
    column = Column("x", "x", "FP32", [1.0, 2.0])
    day = datetime.datetime(2026, 1, 31)
    for times in ([None, None], [day, day + datetime.timedelta(hours=23)]):
        with pytest.raises(ValueError, match="at least a day"):
            profile.seasonality([column], times)
    with pytest.raises(ValueError, match="x: 2 rows, but 3 times"):
        profile.seasonality([column], [day, None, day + datetime.timedelta(days=1)])


def test_calibration_by_hand() -> None:
    """Ten rows a bin from the deciles of 0.00 to 1.00, the last bin with p = 1 besides."""
    probabilities = np.arange(101) / 100
    bins = profile.calibration_bins(probabilities, probabilities >= 0.5)
    assert [b["count"] for b in bins] == [10] * 9 + [11]
    assert (bins[5]["lower"], bins[5]["upper"], bins[5]["observed"]) == (0.5, 0.6, 1.0)
    assert bins[5]["predicted"] == pytest.approx(0.545, rel=1e-15)
    assert bins[4]["observed"] == 0.0


def test_measures_equal_those_of_scikit_learn() -> None:
    """On answers with ties, and what is not defined is left out."""
    random = np.random.default_rng(5)
    yes = np.round(random.uniform(0.05, 0.95, 400), 2)
    probabilities = np.column_stack([1 - yes, yes])
    truth = np.where(random.uniform(size=400) < yes, "b", "a").tolist()
    labels = np.where(yes > 0.6, "b", "a").tolist()
    found = profile.measures(truth, labels, probabilities, ["a", "b"], "b")
    assert found == {
        "rows": 400,
        "accuracy": metrics.accuracy_score(truth, labels),
        "precision": metrics.precision_score(truth, labels, pos_label="b"),
        "recall": metrics.recall_score(truth, labels, pos_label="b"),
        "f1": pytest.approx(metrics.f1_score(truth, labels, pos_label="b"), rel=1e-15),
        "auc": pytest.approx(metrics.roc_auc_score(np.array(truth) == "b", yes), rel=1e-14),
        "log_loss": pytest.approx(metrics.log_loss(truth, probabilities), rel=1e-13),
    }
    alone = profile.measures(["a"], ["a"], np.array([[1.0, 0.0]]), ["a", "b"], "b")
    assert alone == {"rows": 1, "accuracy": 1.0, "log_loss": 0.0}


def test_golden_columns() -> None:
    """Every column that the Rust builder is held to, every number equal as a 64-bit float."""
    columns = json.loads(GOLDEN.read_text(encoding="utf-8"))["columns"]
    assert len(columns) == 26
    for column in columns:
        want, values = column["subject"], column["values"]
        if want["datatype"] not in ("BYTES", "BOOL"):
            values = [None if value is None else float(value) for value in values]
        is_categorical = want["kind"] == "categorical"
        made = subject(Column(want["name"], want["tensor"], want["datatype"], values, is_categorical=is_categorical))
        assert made == want
