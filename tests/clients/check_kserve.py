"""Predicts held-out rows with the stock `kserve` clients and compares with scikit-learn.

Usage: check_kserve.py --url http://host:port --grpc host:port --rows heldout.csv --scores heldout_scores.csv
Exit status 1 if a client fails or a probability differs by more than 1e-6.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import numpy as np
from heldout import LABEL_OUTPUT, PROBABILITY_OUTPUT, Answers, Rows, agrees, arguments, load, texts

OPTIONS = arguments("Compares kserve's predictions with scikit-learn's.")
# kserve's server reads the command line as soon as anything of kserve is imported.
sys.argv[1:] = []
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402


def request(model: str, rows: Rows, binary: bool) -> InferRequest:
    """The rows as a V2 request, with binary tensors or with plain ones."""
    inputs = []
    for name, values in rows.tensors().items():
        datatype = "FP32" if values.dtype == np.float32 else "BYTES"
        one = InferInput(name, list(values.shape), datatype)
        one.set_data_from_numpy(values, binary_data=binary)
        inputs.append(one)
    return InferRequest(model, inputs, parameters={"binary_data_output": True} if binary else None)


def answers(response: Any) -> Answers:
    """Labels and probabilities of a V2 response."""
    labels = response.get_output_by_name(LABEL_OUTPUT).as_numpy()
    return texts(labels), response.get_output_by_name(PROBABILITY_OUTPUT).as_numpy().astype(np.float64)


def v1_answers(response: dict[str, Any], classes: list[str]) -> Answers:
    """Labels and probabilities of a V1 response: an object a row, with a probability for each class by name."""
    rows = response["predictions"]
    return [row["label"] for row in rows], np.array([[row["probabilities"][c] for c in classes] for row in rows])


async def check(options: argparse.Namespace, rows: Rows) -> bool:
    """Ask each client whether the model is ready, then compare."""
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    grpc = InferenceGRPCClient(options.grpc)
    ready = {
        "V1 live": await v1.is_server_live(options.url),
        "V1 model": await v1.is_model_ready(options.url, options.model),
        "V2 live": await v2.is_server_live(options.url),
        "V2 server": await v2.is_server_ready(options.url),
        "V2 model": await v2.is_model_ready(options.url, options.model),
        "gRPC live": await grpc.is_server_live(),
        "gRPC server": await grpc.is_server_ready(),
        "gRPC model": await grpc.is_model_ready(options.model),
    }
    waiting = [name for name, is_ready in ready.items() if not is_ready]
    if waiting:
        raise SystemExit(f"kserve: not ready: {', '.join(waiting)}")

    loop = asyncio.get_running_loop()

    def now(call: Any) -> Any:
        """The result of a coroutine; `agrees` runs in a thread of its own, beside this loop."""
        return asyncio.run_coroutine_threadsafe(call, loop).result()

    def over_v1(rows: Rows) -> Answers:
        return v1_answers(now(v1.infer(options.url, {"instances": rows.objects()}, options.model)), rows.classes)

    def over_v2(binary: bool, rows: Rows) -> Answers:
        return answers(now(v2.infer(options.url, request(options.model, rows, binary), options.model)))

    def over_grpc(rows: Rows) -> Answers:
        return answers(now(grpc.infer(request(options.model, rows, True))))

    good = True
    for client, held, predict in (
        ("kserve V1 REST", rows.complete(), over_v1),
        ("kserve V2 REST JSON", rows.complete(), lambda rows: over_v2(False, rows)),
        ("kserve V2 REST binary", rows, lambda rows: over_v2(True, rows)),
        ("kserve gRPC raw", rows, over_grpc),
    ):
        good &= await asyncio.to_thread(agrees, client, held, predict)
    await v1.close()
    await v2.close()
    await grpc.close()
    return good


def main() -> int:
    """Run the check; the exit status."""
    rows = load(OPTIONS.rows, OPTIONS.scores, OPTIONS.count)
    return 0 if asyncio.run(check(OPTIONS, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
