"""Asks a stock model server directly and through the sidecar: the same bytes, and every row counted.

Usage: check.py --server NAME --http HOST:PORT --grpc HOST:PORT --sidecar PROGRAM --profile FILE --model NAME
Exit status 1 if an answer differs, or a row is not observed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tritonclient.grpc

FEATURES = 20
REQUESTS = 60
#: What a peer's server changes from answer to answer.
CHANGING = {"date"}
PATIENCE = 60.0


class Sidecar:
    """A running sidecar, by the addresses that its log tells."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Wait until it listens; one that does not in time is ended."""
        self.ports: dict[str, str] = {}
        assert process.stderr is not None
        late = threading.Timer(PATIENCE, process.kill)
        late.daemon = True
        late.start()
        for line in process.stderr:
            told = json.loads(line)
            if told.get("message") == "listening":
                self.ports[told["port"]] = told["address"]
            if len(self.ports) == 2:
                break
        late.cancel()
        if len(self.ports) < 2:
            raise SystemExit(f"check.py: the sidecar ended before it listened, or had not within {PATIENCE:.0f} s")

    def rows(self) -> tuple[float, dict[str, float]]:
        """Rows observed, and rows skipped by reason where there are some."""
        _, _, body = get(self.ports["admin"], "/metrics")
        observed, skipped = 0.0, {}
        for line in body.decode().splitlines():
            series, _, value = line.rpartition(" ")
            if series.startswith("plumbline_rows_observed_total{"):
                observed += float(value)
            elif series.startswith("plumbline_rows_skipped_total{") and float(value) > 0:
                skipped[series.split('reason="')[1].split('"')[0]] = float(value)
        return observed, skipped


@contextlib.contextmanager
def sidecar(program: str, upstream: str, profile: str) -> Iterator[Sidecar]:
    """A sidecar in front of `upstream`, told to end afterwards."""
    anywhere = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--drain-delay", "0s"]
    process = subprocess.Popen(
        [program, *anywhere, "--log-format", "json", "--upstream", f"http://{upstream}", "--profile", profile],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Sidecar(process)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def get(address: str, path: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """One GET on a connection of its own."""
    return ask(address, "GET", path, {}, b"")


def ask(
    address: str, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers in order but for what changes each time, and body."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request(method, path, body or None, headers)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    kept = sorted((name.lower(), value) for name, value in response.getheaders() if name.lower() not in CHANGING)
    return response.status, kept, answer


def rest_requests(server: str, model: str) -> Iterator[tuple[str, dict[str, str], bytes, int]]:
    """Path, headers, body and rows of requests in each encoding that the server speaks."""
    random = np.random.default_rng(2)
    for number in range(REQUESTS):
        rows = random.normal(size=(1 + number % 4, FEATURES)).astype(np.float32)
        tensor = {"name": "X", "datatype": "FP32", "shape": list(rows.shape)}
        whole = {"id": f"request-{number}", "inputs": [{**tensor, "data": rows.ravel().tolist()}]}
        kind = {"Content-Type": "application/json"}
        yield f"/v2/models/{model}/infer", kind, json.dumps(whole).encode(), len(rows)
        if server == "kserve":
            yield f"/v1/models/{model}:predict", kind, json.dumps({"instances": rows.tolist()}).encode(), len(rows)
            sized = {**tensor, "parameters": {"binary_data_size": rows.nbytes}}
            head = {"id": f"binary-{number}", "inputs": [sized], "parameters": {"binary_data_output": True}}
            text = json.dumps(head).encode()
            binary = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
            yield f"/v2/models/{model}/infer", binary, text + rows.tobytes(), len(rows)


def check_rest(options: argparse.Namespace, through: str) -> tuple[int, list[str]]:
    """Rows sent, and what differed."""
    sent, faults = 0, []
    for path, headers, body, rows in rest_requests(options.server, options.model):
        direct = ask(options.http, "POST", path, headers, body)
        answer = ask(through, "POST", path, headers, body)
        if direct[0] != 200:
            faults.append(f"{path}: the server itself answers {direct}")
        if answer != direct:
            faults.append(f"{path}: direct {direct}\n  through the sidecar {answer}")
        sent += rows
    for path in ("/v2/health/live", f"/v2/models/{options.model}", "/v2/models/nobody", "/nowhere"):
        if get(through, path) != get(options.http, path):
            faults.append(f"GET {path} differs")
    faulty = ("POST", f"/v2/models/{options.model}/infer", {"Content-Type": "application/json"}, b"{")
    if ask(through, *faulty) != ask(options.http, *faulty):
        faults.append("the answer to a faulty request differs")
    return sent, faults


def check_grpc(options: argparse.Namespace, through: str) -> tuple[int, list[str]]:
    """The same over gRPC, with the stock client."""
    sent, faults = 0, []
    clients = [tritonclient.grpc.InferenceServerClient(address) for address in (options.grpc, through)]
    random = np.random.default_rng(3)
    for number in range(REQUESTS):
        rows = random.normal(size=(1 + number % 4, FEATURES)).astype(np.float32)
        tensor = tritonclient.grpc.InferInput("X", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows)
        direct, answer = (
            client.infer(options.model, [tensor], request_id=f"request-{number}").get_response() for client in clients
        )
        if answer != direct:
            faults.append(f"gRPC: direct {direct}\n  through the sidecar {answer}")
        sent += len(rows)
    messages = []
    for client in clients:
        try:
            client.infer("nobody", [tensor])
        except tritonclient.grpc.InferenceServerException as error:
            messages.append(str(error))
    if len(messages) != 2 or messages[0] != messages[1]:
        faults.append(f"gRPC, unknown model: {messages}")
    return sent, faults


def counted(running: Sidecar, sent: int) -> list[str]:
    """Waits until the rows that were sent have been observed; what is missing."""
    deadline = time.monotonic() + PATIENCE
    while True:
        observed, skipped = running.rows()
        if observed == sent:
            return []
        if time.monotonic() > deadline:
            return [f"not within {PATIENCE:.0f} s: {sent} rows were sent, {observed:.0f} observed, skipped {skipped}"]
        time.sleep(0.05)  # a counter has no event to wait for


def main() -> int:
    """Run the check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("server", "http", "grpc", "sidecar", "profile", "model"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    status = 0
    checks: list[tuple[str, str, Any]] = [("REST", options.http, check_rest), ("gRPC", options.grpc, check_grpc)]
    for protocol, upstream, check in checks:
        with sidecar(options.sidecar, upstream, options.profile) as running:
            sent, faults = check(options, running.ports["data"])
            faults += counted(running, sent)
        for fault in faults[:3]:
            print(f"{options.server}, {protocol}: {fault}", file=sys.stderr)
        print(f"{options.server}, {protocol}: {sent} rows, {len(faults)} faults")
        status |= bool(faults)
    return status


if __name__ == "__main__":
    sys.exit(main())
