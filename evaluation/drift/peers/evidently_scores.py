"""Evidently's data drift preset on windows of the rows after the reference, in its own settings.

The preset spends a third of a second per column, nearly all of it on what its page draws. Here the same test is
chosen and called by the functions that the preset calls, and the first window of each stream is held against the
preset itself.

Usage: python -m drift.peers.evidently_scores STREAMS OUTPUT ROWS REPETITIONS
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
import warnings

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset

from ..streams import Stream, load
from ..tables import numbers, read


def frame_of(stream: Stream) -> tuple[pd.DataFrame, list[str]]:
    """The stream's columns, and the names of those that are numbers."""
    table = read(pathlib.Path(stream.file))
    columns: dict[str, list[float] | list[str]] = {}
    numeric = []
    for name in stream.columns:
        cells = table.column(name)
        values = numbers(cells)
        columns[name] = cells if values is None else values
        if values is not None:
            numeric.append(name)
    return pd.DataFrame(columns), numeric


def test(reference: pd.Series, current: pd.Series, is_numeric: bool) -> tuple[float, float]:
    """Its own choice of a test: the score, and its strength.

    The strength is 1 where the tool calls it drift, and more above: a ratio of logarithms of p-values, or of distances.
    """
    kind = ColumnType.Numerical if is_numeric else ColumnType.Categorical
    reference, current = reference.dropna(), current.dropna()
    chosen = get_stattest(reference, current, kind, None)
    result = chosen(reference, current, kind, None)
    score, threshold = float(result.drift_score), float(result.actual_threshold)
    if math.isnan(score):
        return score, 0.0
    if "p_value" in chosen.display_name:
        return score, math.log(max(score, 1e-300)) / math.log(threshold)
    return score, score / threshold


def by_preset(reference: pd.DataFrame, current: pd.DataFrame, numeric: list[str]) -> dict[str, float]:
    """The scores as the preset tells them."""
    categorical = [name for name in reference.columns if name not in numeric]
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=categorical)
    both = [Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)]
    metrics = Report([DataDriftPreset()]).run(*both).dict()["metrics"]
    return {m["config"]["column"]: float(m["value"]) for m in metrics if m["config"]["type"].endswith("ValueDrift")}


def scores(stream: Stream, rows: int) -> dict[str, list[tuple[int, float]]]:
    """Last row and strength of each whole window, by column."""
    frame, numeric = frame_of(stream)
    reference = frame.iloc[: stream.reference]
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in stream.columns}
    for begin in range(stream.reference, stream.rows - rows + 1, rows):
        current = frame.iloc[begin : begin + rows].reset_index(drop=True)
        of_window = {name: test(reference[name], current[name], name in numeric) for name in stream.columns}
        if begin == stream.reference and stream.repetition == 0:
            for name, value in by_preset(reference, current, numeric).items():
                own = of_window[name][0]
                if not math.isclose(own, value, rel_tol=1e-9) and not (math.isnan(own) and math.isnan(value)):
                    raise SystemExit(f"{stream.key}, column {name}: {own}, but {value} by the preset")
        for name, (_, strength) in of_window.items():
            found[name].append((begin + rows - 1, strength))
    return found


def main() -> None:
    """Writes {stream: {column: [[row, strength]]}}."""
    path, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    rows, repetitions = int(sys.argv[3]), int(sys.argv[4])
    warnings.filterwarnings("ignore")
    result = {}
    for stream in load(path):
        if stream.repetition < repetitions:
            result[stream.key] = scores(stream, rows)
            print(stream.key, flush=True)
    output.write_text(json.dumps(result))


main()
