"""Predicts held-out rows with the stock `tritonclient` and compares with scikit-learn.

Usage: check_triton.py --url http://host:port --grpc host:port --rows heldout.csv --scores heldout_scores.csv
Exit status 1 if a client fails or a probability differs by more than 1e-6.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from heldout import LABEL_OUTPUT, PROBABILITY_OUTPUT, Answers, Rows, agrees, arguments, load, texts


def inputs(kind: ModuleType, rows: Rows, **how: bool) -> list[Any]:
    """The rows as the client's input objects; `kind` is `tritonclient.http` or `.grpc`."""
    out = []
    for name, values in rows.tensors().items():
        datatype = "FP32" if values.dtype == np.float32 else "BYTES"
        one = kind.InferInput(name, list(values.shape), datatype)
        one.set_data_from_numpy(values, **how)
        out.append(one)
    return out


def answers(result: Any) -> Answers:
    """Labels and probabilities of a result of either client."""
    return texts(result.as_numpy(LABEL_OUTPUT)), result.as_numpy(PROBABILITY_OUTPUT).astype(np.float64)


def signature(metadata: dict[str, Any]) -> dict[str, tuple[str, list[int]]]:
    """Tensor name → datatype and shape, of inputs and outputs, as the server tells them."""
    tensors = metadata.get("inputs", []) + metadata.get("outputs", [])
    return {t["name"]: (t["datatype"], [int(n) for n in t["shape"]]) for t in tensors}


def expected_signature(rows: Rows) -> dict[str, tuple[str, list[int]]]:
    """One input a column; the ZipMap is gone, its probabilities are a tensor."""
    inputs = {name: ("FP32" if name in rows.numbers else "BYTES", [-1, 1]) for name in rows.texts}
    return {**inputs, LABEL_OUTPUT: ("BYTES", [-1]), PROBABILITY_OUTPUT: ("FP32", [-1, len(rows.classes)])}


def main() -> int:
    """Run the check; the exit status."""
    options = arguments("Compares tritonclient's predictions with scikit-learn's.")
    rows = load(options.rows, options.scores, options.count)
    rest = tritonclient.http.InferenceServerClient(options.url.split("://", 1)[-1].rstrip("/"))
    grpc = tritonclient.grpc.InferenceServerClient(options.grpc)
    both: tuple[Any, ...] = (rest, grpc)
    for client in both:
        if not (client.is_server_live() and client.is_server_ready() and client.is_model_ready(options.model)):
            raise SystemExit(f"{type(client).__module__}: `{options.model}` is not ready")
    told = (
        ("HTTP", rest.get_model_metadata(options.model)),
        ("gRPC", grpc.get_model_metadata(options.model, as_json=True)),
    )
    good = True
    for name, metadata in told:
        wrong = signature(metadata) != expected_signature(rows)
        print(
            f"tritonclient {name} metadata".ljust(28),
            f"{signature(metadata)}: FAILED" if wrong else "names, datatypes, shapes",
        )
        good &= not wrong

    def over_http(binary: bool, rows: Rows) -> Answers:
        outputs = [
            tritonclient.http.InferRequestedOutput(name, binary_data=binary)
            for name in (LABEL_OUTPUT, PROBABILITY_OUTPUT)
        ]
        return answers(rest.infer(options.model, inputs(tritonclient.http, rows, binary_data=binary), outputs=outputs))

    def over_grpc(rows: Rows) -> Answers:
        return answers(grpc.infer(options.model, inputs(tritonclient.grpc, rows)))

    good &= agrees("tritonclient HTTP binary", rows, lambda rows: over_http(True, rows))
    good &= agrees("tritonclient HTTP JSON", rows.complete(), lambda rows: over_http(False, rows))
    good &= agrees("tritonclient gRPC raw", rows, over_grpc)
    rest.close()
    grpc.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
