"""Serves scikit-learn, XGBoost and LightGBM models as their stock converters write them, and compares with the library.

Usage: python -m oip.zoo --server target/release/plumbline-model-server
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Threads of OpenMP that spin beside each other make fitting ten small models slower than fitting one after the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnxruntime as ort

from . import estimators, tensors
from .estimators import Columns, Entry
from .rest import RefusedError, Rest
from .rpc import Rpc
from .server import Server
from .tensors import Tensor

#: What a served probability may differ from the library's; for other values times the largest of them.
TOLERANCE = 1e-5
#: Fewer served models than these mean that the zoo is broken, not that the server is good.
MINIMUM = 110
WAYS = ("V1", "V2 JSON", "V2 binary", "gRPC")

#: `label`, `probabilities` by class or `values`, as far as a model has them.
Answers = dict[str, np.ndarray]


@dataclass(frozen=True)
class Model:
    """A converted model with what the library and ONNX Runtime answer for its rows."""

    entry: Entry
    onnx: bytes
    rows: Columns
    classes: list[str]
    library: Answers
    outputs: list[Any]
    names: list[str]

    @property
    def name(self) -> str:
        """What it is served under."""
        return self.entry.name


def main() -> int:
    """Convert, serve, compare; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=pathlib.Path, required=True, help="the server's binary")
    parser.add_argument("--only", default="", help="models whose name contains this; the minimum is not asked for")
    options = parser.parse_args()
    started = time.monotonic()
    ort.set_default_logger_severity(3)
    models, refused = convert([entry for entry in estimators.entries() if options.only in entry.name])
    print(f"{len(models)} models converted in {time.monotonic() - started:.0f} s")
    print(f"{len(refused)} refused by their converter, or their file by ONNX Runtime in Python:")
    for line in refused:
        print(f"  {line}")
    print(
        f"{'model':<36}{'outputs':<34}" + "".join(f"{way:<11}" for way in WAYS) + "largest difference from the library"
    )
    failed = serve(options.server, models)
    if not options.only and len(models) < MINIMUM:
        print(f"FAILED  only {len(models)} models, expected at least {MINIMUM}")
        failed = True
    verdict = "FAILED" if failed else f"{len(models)} models served, all as they should be"
    print(f"zoo: {verdict}, {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


def convert(zoo: list[Entry]) -> tuple[list[Model], list[str]]:
    """The models that a converter takes, and why it does not take the others."""
    models, refused = [], []
    for entry in zoo:
        fitted = entry.fit()
        try:
            written = estimators.convert(entry, fitted)
            session = ort.InferenceSession(written, providers=["CPUExecutionProvider"])
            rows = entry.rows()
            outputs = session.run(None, rows)
        except Exception as error:  # neither a converter's nor ONNX Runtime's exceptions have a common class
            refused.append(f"{entry.name}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
            continue
        names = [output.name for output in session.get_outputs()]
        classes = [str(c) for c in getattr(fitted, "classes_", [])] if entry.kind == "classifier" else []
        models.append(Model(entry, written, rows, classes, entry.answers(fitted), outputs, names))
    return models, refused


def serve(binary: pathlib.Path, models: list[Model]) -> bool:
    """Serve all models from one repository and print a row for each; whether anything is wrong."""
    wrong: list[str] = []
    converters: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        for model in models:
            folder = pathlib.Path(root) / model.name
            folder.mkdir()
            (folder / "model.onnx").write_bytes(model.onnx)
        with Server(binary, "--model-repository", root, "--instances", "1") as server:
            rest, rpc = Rest(server.address), Rpc(server.address)
            try:
                for model in models:
                    check(model, rest, rpc, wrong, converters)
            finally:
                rest.close()
                rpc.close()
    print(f"\n{len(converters)} models are another than their library's once converted, by ONNX Runtime in Python:")
    for line in converters:
        print(f"  {line}")
    for line in wrong:
        print(f"FAILED  {line}")
    return bool(wrong)


def check(model: Model, rest: Rest, rpc: Rpc, wrong: list[str], converters: list[str]) -> None:
    """Ask the four ways and print one line."""
    expected = expected_outputs(model)
    told = reading(model, expected)
    off = distance(model.library, told, model)
    if off > TOLERANCE:
        converters.append(f"{model.name}: {'another label' if off == np.inf else f'off by {off:.1e}'}")
    inputs = [tensors.tensor(name, values) for name, values in model.rows.items()]
    complete = [i for i in range(estimators.ROWS) if not any(_is_missing(v[i]) for v in model.rows.values())]
    some = [tensors.tensor(name, values[complete]) for name, values in model.rows.items()]
    asked: dict[str, Callable[[], list[Tensor]]] = {
        "V2 JSON": lambda: rest.infer_json(model.name, some),
        "V2 binary": lambda: rest.infer_binary(model.name, inputs),
        "gRPC": lambda: rpc.infer(model.name, inputs, raw=True),
    }
    verdicts = {way: "" for way in WAYS}
    largest = 0.0
    for way, infer in asked.items():
        here = complete if way == "V2 JSON" else list(range(estimators.ROWS))
        try:
            got = {one.name: one for one in infer()}
            verdicts[way] = "; ".join(filter(None, (same(take(one, here), got.get(one.name)) for one in expected)))
            largest = max(largest, distance(_rows(model.library, here), reading(model, list(got.values())), model))
        except Exception as error:  # whatever a client raises is the server's answer
            verdicts[way] = f"{type(error).__name__}: {error}"
    try:
        answers = v1(model, rest, complete)
        if off <= TOLERANCE:
            here_off = distance(_rows(model.library, complete), answers, model)
        else:
            here_off = distance(_rows(told, complete), answers, model)
        if here_off > TOLERANCE:
            verdicts["V1"] = f"off by {here_off:.1e}"
    except Exception as error:  # as above
        verdicts["V1"] = f"{type(error).__name__}: {error}"
    if off <= TOLERANCE < largest:
        verdicts["V2 binary"] = verdicts["V2 binary"] or f"off by {largest:.1e}"
    wrong += [f"{model.name} {way}: {verdict[:300]}" for way, verdict in verdicts.items() if verdict]
    shapes = ", ".join(f"{one.datatype}{one.shape}" for one in expected).replace(" ", "")
    row = "".join(f"{'FAILED' if verdicts[way] else 'equal':<11}" for way in WAYS)
    amount = f"{largest:.1e}" if off <= TOLERANCE else f"{off:.1e} by the converter"
    if set(model.library) == {"label"}:
        amount = "labels only" if off <= TOLERANCE else "another label by the converter"
    print(f"{model.name:<36}{shapes:<34}{row}{amount}")


def _is_missing(row: np.ndarray) -> bool:
    return row.dtype.kind == "f" and bool(np.isnan(row).any())


def _rows(answers: Answers, here: list[int]) -> Answers:
    return {name: values[here] for name, values in answers.items()}


def take(one: Tensor, here: list[int]) -> Tensor:
    """Some of its rows."""
    rows = next(axis for axis, size in enumerate(one.shape) if size == estimators.ROWS)
    return Tensor(one.name, one.datatype, np.take(one.array, here, axis=rows))


def same(expected: Tensor, got: Tensor | None) -> str | None:
    """What differs from ONNX Runtime in Python, bit for bit; fewer rows may be summed in another order."""
    if got is None or estimators.ROWS in got.shape or expected.datatype not in ("FP32", "FP64"):
        return tensors.difference(expected, got, exact_nan=False)
    close = got.shape == expected.shape and np.allclose(got.array, expected.array, rtol=TOLERANCE, atol=TOLERANCE)
    return None if close else f"output `{expected.name}` differs"


def expected_outputs(model: Model) -> list[Tensor]:
    """ONNX Runtime's own answer, each ZipMap as the tensor that the server makes of it."""
    expected = []
    for name, value in zip(model.names, model.outputs, strict=True):
        if isinstance(value, list):
            keys = list(value[0])
            array = np.array([[row[key] for key in keys] for row in value], dtype=np.float32)
            expected.append(Tensor(name, "FP32", array))
        else:
            expected.append(tensors.tensor(name, np.asarray(value)))
    return expected


def reading(model: Model, outputs: list[Tensor]) -> Answers:
    """What a client reads from tensors: the first output is the label or the values, the second the probabilities."""
    arrays = {one.name: one for one in outputs}
    first = arrays[model.names[0]]
    if model.entry.kind != "classifier":
        return {"values": first.array}
    labels = [v.decode() if isinstance(v, bytes) else str(v) for v in first.array.reshape(-1).tolist()]
    answers = {"label": np.array(labels, dtype=object)}
    if "probabilities" in model.library:
        answers["probabilities"] = arrays[model.names[1]].array
    return answers


def v1(model: Model, rest: Rest, here: list[int]) -> Answers:
    """The same over V1: one object a row with label and probabilities, or with all outputs, or a row's values."""
    columns = {name: values[here] for name, values in model.rows.items()}
    if len(columns) == 1:
        (only,) = columns.values()
        instances: list[Any] = only.tolist()
    else:
        instances = [
            {name: v[i, 0].item() if v.dtype.kind == "f" else v[i, 0] for name, v in columns.items()}
            for i in range(len(here))
        ]
    reply = rest.send("POST", f"/v1/models/{model.name}:predict", json.dumps({"instances": instances}).encode())
    if reply.status != 200:
        raise RefusedError(f"{reply.status} {reply.body.decode(errors='replace')}")
    predictions = reply.json()["predictions"]
    if model.entry.kind != "classifier":
        one = isinstance(predictions[0], dict)
        return {"values": np.array([row[model.names[0]] for row in predictions] if one else predictions)}
    zipped = isinstance(model.outputs[1], list) if len(model.outputs) > 1 else False
    # A classifier whose classes the server knows, by ZipMap or otherwise, answers with `label` and `probabilities`.
    named = zipped or isinstance(predictions[0].get("probabilities"), dict)
    label = "label" if named else model.names[0]
    answers = {"label": np.array([str(_scalar(row[label])) for row in predictions], dtype=object)}
    if "probabilities" in model.library:
        if named:
            rows = [[row["probabilities"][c] for c in model.classes] for row in predictions]
        else:
            rows = [row[model.names[1]] for row in predictions]
        answers["probabilities"] = np.array(rows)
    return answers


def _scalar(value: Any) -> Any:
    while isinstance(value, list):
        (value,) = value
    return value


def distance(library: Answers, told: Answers, model: Model) -> float:
    """The largest difference; infinite for another label or another number of values."""
    if "label" in library:
        ours = [str(v) for v in told["label"].tolist()]
        theirs = [v.decode() if isinstance(v, bytes) else str(v) for v in library["label"].tolist()]
        if ours != theirs:
            return float("inf")
    worst = 0.0
    for name in ("probabilities", "values"):
        if name not in library:
            continue
        wanted = np.asarray(library[name], dtype=np.float64)
        got = np.asarray(told[name], dtype=np.float64)
        if wanted.size != got.size:
            return float("inf")
        scale = 1.0 if name == "probabilities" else max(1.0, float(np.abs(wanted).max()))
        worst = max(worst, float(np.abs(got.reshape(-1) - wanted.reshape(-1)).max()) / scale)
    return worst


if __name__ == "__main__":
    sys.exit(main())
