"""river's detectors of a change in a stream of numbers, in their own settings and in stricter ones.

Usage: python -m drift.peers.river_alarms STREAMS OUTPUT FAMILIES REPETITIONS
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
from collections.abc import Callable

import numpy as np
from river import drift

from ..streams import Stream, load
from ..tables import numbers, read

#: By family, what makes a detector, and its settings from loose to strict; the first are river's own.
FAMILIES: dict[str, tuple[Callable[[float], drift.base.DriftDetector], tuple[float, ...]]] = {
    "ADWIN": (lambda delta: drift.ADWIN(delta=delta), (0.002, 1e-4, 1e-6, 1e-8)),
    "Page-Hinkley": (lambda threshold: drift.PageHinkley(threshold=threshold), (50.0, 100.0, 200.0, 400.0, 800.0)),
    "KSWIN": (lambda alpha: drift.KSWIN(alpha=alpha, seed=7), (0.005, 1e-6)),
}


def alarms(values: list[float], reference: int, detector: drift.base.DriftDetector) -> list[int]:
    """Rows after the reference at which it alarms, on values in standard deviations of the reference."""
    known = np.array([x for x in values[:reference] if not math.isnan(x)])
    mean = float(known.mean()) if known.size else 0.0
    # A constant reference has no scale of its own: whatever differs from it is far off.
    sd = max(float(known.std(ddof=1)) if known.size > 1 else 0.0, 1e-9 * max(1.0, abs(mean)))
    found = []
    for row, x in enumerate(values):
        if math.isnan(x):
            continue
        detector.update((x - mean) / sd)
        if detector.drift_detected and row >= reference:
            found.append(row)
    return found


def watched(stream: Stream, repetitions: int) -> bool:
    """Whether the stream is within the repetitions; where they are few, only streams of few values are."""
    return stream.repetition < repetitions and (
        repetitions > 3 or (len(stream.columns) <= 4 and stream.rows * len(stream.columns) <= 50_000)
    )


def main() -> None:
    """Writes {family|setting: {stream: {column: [row]}}}; columns that are not numbers are left out."""
    path, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    families, repetitions = sys.argv[3].split(","), int(sys.argv[4])
    result: dict[str, dict[str, dict[str, list[int]]]] = {}
    for stream in load(path):
        if not watched(stream, repetitions):
            continue
        table = read(pathlib.Path(stream.file))
        columns = {name: numbers(table.column(name)) for name in stream.columns}
        for family in families:
            make, settings = FAMILIES[family]
            for setting in settings:
                of_stream = result.setdefault(f"{family}|{setting:g}", {}).setdefault(stream.key, {})
                for column, values in columns.items():
                    if values is not None:
                        of_stream[column] = alarms(values, stream.reference, make(setting))
        print(stream.key, flush=True)
    output.write_text(json.dumps(result))


main()
