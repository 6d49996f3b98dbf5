"""Describes rows as `profile.json` does, by the rules of `crates/drift/schema/README.md`.

`plumbline profile` writes the same from a CSV. "The same" means every number as the same 64-bit float, hence `fsum`
and the fixed order of operations: numpy's own sums depend on how it blocks them.
"""

from __future__ import annotations

import bisect
import datetime
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Json = dict[str, Any]

FORMAT = "plumbline.profile"
FORMAT_VERSION = 1
#: A magnitude above it counts as missing, so that no sum or difference overflows.
LARGEST = 1e300
#: With no more distinct values than this, each has its bin.
MAX_LEVELS = 32
#: Otherwise the cuts aim at bins of equal counts.
QUANTILE_BINS = 16
MAX_CATEGORIES = 256
LEVELS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
CALIBRATION_BINS = 10
#: Of a week.
HOURS = 168
#: What log-loss raises a probability to.
SMALLEST_PROBABILITY = 2.0**-52
#: The smallest normal number: a guard's least distance from the value that it guards.
TINY = 2.2250738585072014e-308


@dataclass(frozen=True)
class Column:
    """One monitored column of a tensor: which, and what its rows hold."""

    name: str
    tensor: str
    datatype: str
    #: Numbers [rows] for a datatype of numbers, truth values for `BOOL`, texts for `BYTES`; None is missing.
    values: Sequence[Any]
    column: int = 0
    #: Outputs only: `label`, `probability` or `value`.
    role: str | None = None
    #: The class that a probability is of.
    label: str | None = None
    #: The numbers name classes.
    is_categorical: bool = False


def subject(column: Column) -> Json:
    """One column as the profile describes it."""
    values = [value for value in usable(column) if value is not None]
    if column.datatype == "BOOL":
        yes = sum(values)
        described: Json = {"kind": "boolean", "boolean": {"false": len(values) - yes, "true": yes}}
    elif column.datatype == "BYTES" or column.is_categorical:
        described = describe_texts(values, is_label=column.role == "label")
    else:
        described = {"kind": "numeric", "numeric": numeric(np.array(values, dtype=np.float64))}
    out: Json = {"name": column.name, "tensor": column.tensor, "column": column.column, "datatype": column.datatype}
    out["kind"] = described.pop("kind")
    if column.role is not None:
        out["role"] = column.role
    if column.label is not None:
        out["class"] = column.label
    return {**out, "count": len(values), "missing": len(column.values) - len(values), **described}


def usable(column: Column) -> list[Any]:
    """The values as they are described, [rows]; None where there is none.

    Truth values, numbers as the tensor holds them, or texts; a number that names a class is one, too.
    """
    if column.datatype == "BOOL":
        return [None if truth is None else bool(truth) for truth in column.values]
    if column.datatype == "BYTES":
        return [text or None for text in column.values]
    numbers = np.asarray(column.values, dtype=np.float64)
    if column.datatype == "FP32":
        with np.errstate(over="ignore"):  # what becomes infinite is missing, below
            numbers = numbers.astype(np.float32).astype(np.float64)
    is_value = np.abs(numbers) <= LARGEST
    return [
        None if not known else decimal(x) if column.is_categorical else x
        for x, known in zip(numbers.tolist(), is_value.tolist())
    ]


def seasonality(columns: Sequence[Column], times: Sequence[datetime.datetime | None]) -> Json:
    """The profile's `seasonality`: the bins of each column's rows per hour of the week, Monday 00:00 UTC first.

    `times`: shape [rows]; without a zone they are UTC, and a row without a time counts for no hour. Raises `ValueError`
    for columns of another length, and for times that span less than a day, which say nothing of the hours.
    """
    known = [time if time is None or time.tzinfo else time.replace(tzinfo=datetime.timezone.utc) for time in times]
    told = [time.astimezone(datetime.timezone.utc) for time in known if time is not None]
    if not told or max(told) - min(told) < datetime.timedelta(days=1):
        span = f"{min(told)} to {max(told)}" if told else "no time at all"
        raise ValueError(f"an hour of the week is known from rows of at least a day, better of two weeks; found {span}")
    hours = [None if time is None else hour_of_week(time) for time in known]
    seasons = []
    for column in columns:
        if len(column.values) != len(times):
            raise ValueError(f"{column.name}: {len(column.values)} rows, but {len(times)} times")
        described = subject(column)
        counts = [[0] * bins(described) for _ in range(HOURS)]
        for hour, place in zip(hours, places(column, described)):
            if hour is not None:
                counts[hour][place] += 1
        seasons.append({"subject": column.name, "counts": counts})
    return {"hour_of_week": seasons}


def hour_of_week(time: datetime.datetime) -> int:
    """0 to 167."""
    utc = time.astimezone(datetime.timezone.utc)
    return 24 * utc.weekday() + utc.hour


def bins(described: Json) -> int:
    """How many bins a subject has, the one for missing values included."""
    if described["kind"] == "boolean":
        return 3
    if described["kind"] == "categorical":
        return len(described["categorical"]["categories"]) + 2
    return len(described["numeric"]["edges"]) + 2


def places(column: Column, described: Json) -> list[int]:
    """The bin of each row, [rows]: in the order of the subject, missing values last."""
    last, values = bins(described) - 1, usable(column)
    if described["kind"] == "boolean":
        return [last if truth is None else int(truth) for truth in values]
    if described["kind"] == "categorical":
        known = {c["value"]: i for i, c in enumerate(described["categorical"]["categories"])}
        return [last if text is None else known.get(text, last - 1) for text in values]
    if described["kind"] == "text_length":
        values = [None if text is None else len(text.encode()) for text in values]
    bin_edges = described["numeric"]["edges"]
    return [last if x is None else bisect.bisect_right(bin_edges, x) for x in values]


def describe_texts(texts: Sequence[str], *, is_label: bool) -> Json:
    """Texts that repeat themselves are categories; of free text, many different ones, only the length is described."""
    distinct = len(set(texts))
    if not is_label and distinct > MAX_CATEGORIES and 10 * distinct > len(texts):
        lengths = np.array([len(text.encode()) for text in texts], dtype=np.float64)
        return {"kind": "text_length", "numeric": numeric(lengths)}
    return {"kind": "categorical", "categorical": categorical(texts)}


def decimal(x: float) -> str:
    """A number that names a class: its shortest text without an exponent, a whole one without a fraction."""
    return np.format_float_positional(x + 0.0, trim="-")


def categorical(texts: Iterable[str]) -> Json:
    """Categories by count, the largest first, then by value; those after the first 256 counted together."""
    ranked = sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0]))
    return {
        "distinct": len(ranked),
        "categories": [{"value": value, "count": count} for value, count in ranked[:MAX_CATEGORIES]],
        "other": sum(count for _, count in ranked[MAX_CATEGORIES:]),
    }


def numeric(values: Floats) -> Json:
    """Histogram, moments and quantiles of finite values [rows], in any order."""
    v = np.sort(values) + 0.0  # -0.0 + 0.0 is 0.0
    bin_edges = edges(v)
    bins = np.searchsorted(bin_edges, v, side="right")
    cells = [v[bins == b] for b in range(len(bin_edges) + 1)]
    return {
        "distinct": len(np.unique(v)),
        "edges": bin_edges.tolist(),
        "counts": [len(cell) for cell in cells],
        "means": [min(max(math.fsum(c) / len(c), float(c[0])), float(c[-1])) if len(c) else None for c in cells],
        "min": float(v[0]) if len(v) else None,
        "max": float(v[-1]) if len(v) else None,
        **moments(v),
        "quantiles": [{"level": level, "value": quantile(v, level)} for level in LEVELS] if len(v) else [],
    }


def edges(v: Floats) -> Floats:
    """Bin edges of sorted values: a guard below, the cuts between neighbours, a guard above; none without values."""
    if len(v) == 0:
        return np.array([])
    u, occurrences = np.unique(v, return_counts=True)
    inner = []
    for j in cut_indices(v, u, occurrences):
        a, b = float(u[j - 1]), float(u[j])
        cut = 0.5 * a + 0.5 * b
        inner.append(cut if a < cut else b)
    low, high = float(u[0]), float(u[-1])
    gap_below = 0.5 * float(u[1]) - 0.5 * low if len(u) > 1 else 0.0
    gap_above = 0.5 * high - 0.5 * float(u[-2]) if len(u) > 1 else 0.0
    below = low - max(gap_below, abs(low) * 2.0**-20, TINY)
    above = high + max(gap_above, abs(high) * 2.0**-20, TINY)
    return np.array([below, *inner, above])


def cut_indices(v: Floats, u: Floats, occurrences: npt.NDArray[np.intp]) -> list[int]:
    """Where to cut: index `j` stands for "between `u[j - 1]` and `u[j]`".

    `v`: sorted values; `u`, `occurrences`: the distinct ones and how often each is there.
    """
    n, d = len(v), len(u)
    if d <= MAX_LEVELS:
        return list(range(1, d))
    cuts = set()
    for k in range(1, QUANTILE_BINS):
        j = int(np.searchsorted(u, v[k * n // QUANTILE_BINS]))
        cuts.add(j)
        if QUANTILE_BINS * int(occurrences[j]) >= n:  # frequent enough for a bin of its own
            cuts.add(j + 1)
    return sorted(cuts - {0, d})


def moments(v: Floats) -> Json:
    """Mean, sample variance, skewness and excess kurtosis of sorted values; null where there is none."""
    out: Json = {"mean": None, "variance": None, "skewness": None, "kurtosis": None}
    n = len(v)
    if n == 0:
        return out
    mean = float(v[0]) if v[0] == v[-1] else math.fsum(v) / n
    out["mean"] = mean
    scale = float(np.abs(v - mean).max())
    if scale == 0.0:
        out["variance"] = 0.0 if n > 1 else None
        return out
    t = (v - mean) / scale  # in [-1, 1], so that no power overflows
    s2 = math.fsum(t * t)
    m2, m3, m4 = s2 / n, math.fsum(t * t * t) / n, math.fsum(t * t * t * t) / n
    variance = s2 / (n - 1) * scale * scale
    out["variance"] = variance if math.isfinite(variance) else None
    out["skewness"] = m3 / (m2 * math.sqrt(m2))
    out["kurtosis"] = m4 / (m2 * m2) - 3.0
    return out


def quantile(v: Floats, level: float) -> float:
    """Type 7 quantile of sorted values, interpolated from the nearer neighbour."""
    h = (len(v) - 1) * level
    i = math.floor(h)
    t = h - i
    a, b = float(v[i]), float(v[min(i + 1, len(v) - 1)])
    if t == 0.0:
        return a
    x = a + (b - a) * t if t < 0.5 else b - (b - a) * (1.0 - t)
    return min(max(x, a), b)


def calibration_bins(probabilities: Floats, happened: npt.NDArray[np.bool_]) -> list[Json]:
    """How often what was predicted happened: bins that split [0, 1] at the deciles of the predictions.

    `probabilities`, `happened`: shape [rows]. A bin holds `lower <= p < upper`, the last one also p = 1.
    """
    v = np.sort(probabilities)
    inner = sorted({quantile(v, k / CALIBRATION_BINS) for k in range(1, CALIBRATION_BINS)} - {0.0, 1.0})
    limits = [0.0, *inner, 1.0]
    where = np.searchsorted(inner, probabilities, side="right")
    out = []
    for b, (lower, upper) in enumerate(zip(limits, limits[1:])):
        inside = where == b
        count = int(inside.sum())
        predicted = math.fsum(probabilities[inside]) / count if count else 0.5 * lower + 0.5 * upper
        observed = int(happened[inside].sum()) / count if count else predicted
        out.append({"lower": lower, "upper": upper, "count": count, "predicted": predicted, "observed": observed})
    return out


def measures(
    truth: Sequence[str], labels: Sequence[str], probabilities: Floats, classes: Sequence[str], positive: str
) -> Json:
    """The profile's `training`: how a classifier did on rows whose truth is known. What is not defined is left out.

    `truth`, `labels`: shape [rows]; `probabilities`: [rows, classes]. Precision, recall, F1 and AUC are of `positive`.
    """
    rows = len(truth)
    hits = sum(t == positive == answer for t, answer in zip(truth, labels))
    misses = sum(t == positive != answer for t, answer in zip(truth, labels))
    false_alarms = sum(t != positive == answer for t, answer in zip(truth, labels))
    own = [float(p[classes.index(t)]) for p, t in zip(probabilities, truth)]
    found = {
        "accuracy": share(sum(t == answer for t, answer in zip(truth, labels)), rows),
        "precision": share(hits, hits + false_alarms),
        "recall": share(hits, hits + misses),
        "f1": share(2 * hits, 2 * hits + misses + false_alarms),
        "auc": auc(probabilities[:, classes.index(positive)], np.array([t == positive for t in truth], dtype=bool)),
        "log_loss": math.fsum(-math.log(max(p, SMALLEST_PROBABILITY)) for p in own) / rows if rows else None,
    }
    return {"rows": rows, **{name: value for name, value in found.items() if value is not None}}


def share(part: int, of: int) -> float | None:
    """A share of counts; none of nothing."""
    return part / of if of else None


def auc(scores: Floats, happened: npt.NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve: the share of pairs ranked rightly, ties half. None unless both happened."""
    below = twice = 0
    for score in np.unique(scores):
        yes, no = (int((happened[scores == score] == truth).sum()) for truth in (True, False))
        twice += yes * (2 * below + no)
        below += no
    return share(twice, 2 * below * (len(scores) - below))
