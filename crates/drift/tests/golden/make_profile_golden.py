#!/usr/bin/env python3
"""A second, independent writer of the reference profile, by the rules of schema/README.md.

usage: make_profile_golden.py OUT_DIR

Needs only Python >= 3.9. Writes OUT_DIR/profile_golden.json: columns (seeded) and the subjects made from them. The
crate's tests build the same columns and compare every value exactly. `subject()` can be copied by other writers.
"""

import json
import math
import os
import struct
import sys
from collections import Counter

TINY = 2.2250738585072014e-308
LEVELS = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]


def bin_of(edges, x):
    """Index of the bin of a value."""
    return sum(1 for e in edges if e <= x)


def edges_of(v):
    """Bin edges of ascending values: guards and cuts."""
    n = len(v)
    if n == 0:
        return []
    occurrences = Counter(v)
    u = sorted(occurrences)
    d = len(u)
    if d <= 32:
        cuts = list(range(1, d))
    else:
        index = {x: j for j, x in enumerate(u)}
        found = set()
        for k in range(1, 16):
            x = v[k * n // 16]
            found.add(index[x])
            if 16 * occurrences[x] >= n:
                found.add(index[x] + 1)
        cuts = sorted(found - {0, d})
    inner = []
    for j in cuts:
        a, b = u[j - 1], u[j]
        c = 0.5 * a + 0.5 * b
        inner.append(c if a < c else b)
    gap = 0.5 * u[1] - 0.5 * u[0] if d > 1 else 0.0
    gap_above = 0.5 * u[-1] - 0.5 * u[-2] if d > 1 else 0.0
    below = u[0] - max(gap, abs(u[0]) * 2.0**-20, TINY)
    above = u[-1] + max(gap_above, abs(u[-1]) * 2.0**-20, TINY)
    return [below, *inner, above]


def quantile(v, level):
    """Type 7 quantile of ascending values."""
    n = len(v)
    h = (n - 1) * level
    i = math.floor(h)
    t = h - i
    a, b = v[i], v[min(i + 1, n - 1)]
    if t == 0.0:
        x = a
    elif t < 0.5:
        x = a + (b - a) * t
    else:
        x = b - (b - a) * (1.0 - t)
    return min(max(x, a), b)


def moments(v):
    """Mean, variance, skewness and excess kurtosis of ascending values."""
    n = len(v)
    out = {"mean": None, "variance": None, "skewness": None, "kurtosis": None}
    if n == 0:
        return out
    mean = v[0] if v[0] == v[-1] else math.fsum(v) / n
    out["mean"] = mean
    s = max(abs(x - mean) for x in v)
    if s == 0.0:
        out["variance"] = 0.0 if n > 1 else None
        return out
    t = [(x - mean) / s for x in v]
    s2 = math.fsum(x * x for x in t)
    m2 = s2 / n
    m3 = math.fsum(x * x * x for x in t) / n
    m4 = math.fsum(x * x * x * x for x in t) / n
    variance = s2 / (n - 1) * s * s
    out["variance"] = variance if math.isfinite(variance) else None
    out["skewness"] = m3 / (m2 * math.sqrt(m2))
    out["kurtosis"] = m4 / (m2 * m2) - 3.0
    return out


def numeric(values):
    """The `numeric` part of a subject."""
    v = sorted(float(x) + 0.0 for x in values)
    edges = edges_of(v)
    cells = [[] for _ in range(len(edges) + 1)]
    for x in v:
        cells[bin_of(edges, x)].append(x)
    return {
        "distinct": len(set(v)),
        "edges": edges,
        "counts": [len(c) for c in cells],
        "means": [min(max(math.fsum(c) / len(c), c[0]), c[-1]) if c else None for c in cells],
        "min": v[0] if v else None,
        "max": v[-1] if v else None,
        **moments(v),
        "quantiles": [{"level": q, "value": quantile(v, q)} for q in LEVELS] if v else [],
    }


def categorical(texts):
    """The `categorical` part of a subject."""
    ranked = sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0]))
    return {
        "distinct": len(ranked),
        "categories": [{"value": value, "count": count} for value, count in ranked[:256]],
        "other": sum(count for _, count in ranked[256:]),
    }


def fp32(x):
    """The nearest number that a tensor of that datatype can hold; an infinity when it is too large."""
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def is_missing(x):
    """Whether a value does not count as one."""
    if x is None or x == "":
        return True
    return isinstance(x, float) and not abs(x) <= 1e300


def subject(name, tensor, datatype, kind, column_values, column=0, role=None, cls=None):
    """One subject. Values: None for missing; float/int for numeric, str for texts, bool for boolean."""
    if datatype == "FP32":
        column_values = [fp32(x) if isinstance(x, float) else x for x in column_values]
    values = [x for x in column_values if not is_missing(x)]
    if kind == "categorical":
        values = [x if isinstance(x, str) else str(int(x)) for x in values]
        distinct = len(set(values))
        if role != "label" and distinct > 256 and 10 * distinct > len(values):
            kind, values = "text_length", [len(x.encode("utf-8")) for x in values]
    out = {"name": name, "tensor": tensor, "column": column, "datatype": datatype, "kind": kind}
    if role:
        out["role"] = role
    if cls is not None:
        out["class"] = cls
    out["count"], out["missing"] = len(values), len(column_values) - len(values)
    if kind in ("numeric", "text_length"):
        out["numeric"] = numeric(values)
    elif kind == "categorical":
        out["categorical"] = categorical(values)
    else:
        out["boolean"] = {"false": values.count(False), "true": values.count(True)}
    return out


def columns():
    """(name, datatype, kind, values) of the golden columns; a small congruential generator, exact in any language."""
    state = 12345

    def u():
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 11) * 2.0**-53

    def many(f, n):
        return [f() for _ in range(n)]

    normal = many(lambda: math.fsum(u() for _ in range(12)) - 6.0, 1500)
    yield "normal", "FP64", "numeric", normal
    yield "heavy_tail", "FP64", "numeric", many(lambda: 1.0 / (1.0 - u()), 700)
    yield "whole_tenure", "INT64", "numeric", many(lambda: float(math.floor(u() * 73)), 900)
    yield "spike_at_zero", "FP32", "numeric", many(lambda: 0.0 if u() < 0.6 else u() * 80.0, 800)
    yield "many_spikes", "FP32", "numeric", many(lambda: math.floor(u() * 5) * 10.0 if u() < 0.9 else u() * 50.0, 900)
    yield "few_levels", "INT64", "numeric", many(lambda: float(math.floor(u() * 5)) - 2.0, 200)
    yield "exactly_32", "FP64", "numeric", [(i % 32) / 7 for i in range(320)]
    yield "exactly_33", "FP64", "numeric", [(i % 33) / 7 for i in range(330)]
    yield "constant", "FP64", "numeric", [0.1] * 50
    yield "constant_zero", "FP64", "numeric", [0.0, -0.0, 0.0]
    yield "one_value", "FP64", "numeric", [-3.25]
    yield "no_values", "FP64", "numeric", [None, float("nan"), float("inf"), 1e301]
    yield "empty", "FP64", "numeric", []
    yield "holes", "FP64", "numeric", [None if u() < 0.2 else u() for _ in range(300)]
    yield "huge", "FP64", "numeric", [(u() - 0.5) * 2e300 for _ in range(100)]
    yield "beyond_fp32", "FP32", "numeric", [(u() - 0.5) * 1e39 for _ in range(60)] + [3.5, 29.85, float("nan")]
    yield "tiny", "FP64", "numeric", [u() * 1e-310 for _ in range(100)]
    yield "offset", "FP64", "numeric", [1e9 + u() for _ in range(400)]
    yield "neighbours", "FP64", "numeric", [1.0, 1.0 + 2.0**-52, 1.0 + 2.0**-51]
    yield "probability", "FP32", "numeric", [u() * u() for _ in range(640)]
    contract = ["Month-to-month", "One year", "Two year"]
    yield "contract", "BYTES", "categorical", many(lambda: contract[math.floor(u() * u() * 3)], 400)
    yield "texts", "BYTES", "categorical", ["b", "a", "", None, "ü", "Z", "a", "b", "other"]
    yield "many_categories", "BYTES", "categorical", [f"c{i % 300}" for i in range(9000)]
    yield "free_text", "BYTES", "categorical", ["é" * (i % 40) + str(i) for i in range(1000)]
    yield "class_codes", "INT64", "categorical", many(lambda: math.floor(u() * 3), 100)
    yield "flag", "BOOL", "boolean", [True, False, None, True]


def main():
    """Writes the columns and their subjects."""
    out = []
    for name, datatype, kind, values in columns():
        shown = ["nan" if x != x else str(x) if isinstance(x, float) and math.isinf(x) else x for x in values]
        out.append({"values": shown, "subject": subject(name, "tensor", datatype, kind, values)})
    with open(os.path.join(sys.argv[1], "profile_golden.json"), "w", encoding="utf-8") as f:
        json.dump({"columns": out}, f, separators=(",", ":"), allow_nan=False)
        f.write("\n")


if __name__ == "__main__":
    main()
