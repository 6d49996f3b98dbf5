"""NannyML's univariate drift calculator on chunks of the rows after the reference, in its own settings.

Usage: python -m drift.peers.nannyml_scores STREAMS OUTPUT REPETITIONS
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
import warnings

import nannyml
import pandas as pd

from ..streams import Stream, load
from ..tables import numbers, read

#: Chunks of the reference; the tool's own number, from which it learns its thresholds.
CHUNKS = 10


def scores(stream: Stream) -> dict[str, list[tuple[int, float]]]:
    """Last row and strength of each chunk, by column: 1 at the tool's threshold, three standard deviations up."""
    table = read(pathlib.Path(stream.file))
    columns = {}
    for name in stream.columns:
        values = numbers(table.column(name))
        columns[name] = values if values is not None else table.column(name)
    frame = pd.DataFrame(columns)
    rows = stream.reference // CHUNKS
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=list(stream.columns),
        treat_as_categorical=[n for n in stream.columns if numbers(table.column(n)) is None],
        chunk_size=rows,
    )
    calculator.fit(frame.iloc[: stream.reference].reset_index(drop=True))
    result = calculator.calculate(frame.iloc[stream.reference :].reset_index(drop=True))
    found: dict[str, list[tuple[int, float]]] = {}
    everything = result.filter(period="all").to_df()
    analysis = everything[everything["chunk", "chunk", "period"] == "analysis"]
    reference = everything[everything["chunk", "chunk", "period"] == "reference"]
    for name in stream.columns:
        mean = float(reference[name, "jensen_shannon", "value"].mean())
        found[name] = []
        for i in range(len(analysis)):
            row = stream.reference + int(analysis["chunk", "chunk", "end_index"].iloc[i])
            value = float(analysis[name, "jensen_shannon", "value"].iloc[i])
            limit = float(analysis[name, "jensen_shannon", "upper_threshold"].iloc[i])
            # A column that is constant in the reference has a limit of nothing: whatever exceeds it is an alarm.
            span = limit - mean
            strength = (value - mean) / span if span > 0 else (1e9 if value > limit else 0.0)
            found[name].append((row, 0.0 if math.isnan(strength) else strength))
    return found


def main() -> None:
    """Writes {stream: {column: [[row, strength]]}}."""
    path, output, repetitions = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    warnings.filterwarnings("ignore")
    result = {}
    for stream in load(path):
        if stream.repetition < repetitions:
            result[stream.key] = scores(stream)
            print(stream.key, flush=True)
    output.write_text(json.dumps(result))


main()
