"""Valid requests with seeded mutations: never a 5xx, never a hang, and the server is alive afterwards.

Usage: python -m oip.fuzz --server target/release/plumbline-model-server [--seed 7] [--rest 20000] [--grpc 5000]
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import pathlib
import random
import sys
import tempfile
import time
from typing import Any

import grpc

from . import errors
from .faults import Input, valid
from .report import Report
from .rest import HEADER_LENGTH, Rest
from .rpc import Rpc
from .server import PATIENCE, Server

#: What a client's fault may be answered with.
STATUSES = frozenset({200, 400, 404, 405, 413})
CODES = frozenset({"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"})
#: Pieces that parsers stumble over.
TOKENS = (
    b"null",
    b"true",
    b"-1",
    b"-0",
    b"1e999",
    b"1.5",
    b"NaN",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551616",
    b'"',
    b"\\",
    b'"\\ud800"',
    b"\xff",
    b"\x00",
    b"[" * 200,
    b"{}",
    b"]",
    b"}",
    b",",
    b":",
    b'"data":[],',
    b'"shape":[-1],',
    b'"parameters":{"binary_data_size":4294967295},',
    b'"BYTES"',
    b'"FP16"',
)
SCALARS: tuple[Any, ...] = (None, True, -1, 0, 2**31, 2**63, 2**64, -(2**63), 0.5, 1e308, "", "x" * 300, [], {}, [[]])


def main() -> int:
    """Send them all; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=pathlib.Path, required=True, help="the server's binary")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rest", type=int, default=20_000, help="requests over REST")
    parser.add_argument("--grpc", type=int, default=5_000, help="calls over gRPC")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        errors.repository(pathlib.Path(root))
        with Server(options.server, "--model-repository", root, "--max-body-bytes", str(1 << 20)) as server:
            before = resident(server)
            over_rest = Report(f"fuzz over REST, seed {options.seed}")
            fuzz_rest(server, options.seed, options.rest, over_rest)
            over_grpc = Report(f"fuzz over gRPC, seed {options.seed}")
            fuzz_grpc(server, options.seed, options.grpc, over_grpc)
            rest = Rest(server.address)
            alive = rest.send("GET", "/v2/health/ready").status == 200 and server.is_running()
            over_rest.expect("the server is alive and ready afterwards", alive)
            panics = server.log().count("panicked")
            over_rest.expect("no panic in the log", panics == 0, f"{panics} lines")
            rest.close()
            print(f"resident memory: {before} MiB before, {resident(server)} MiB after")
    return over_rest.finish(options.rest) | over_grpc.finish(options.grpc)


def resident(server: Server) -> int:
    """MiB of the server's memory, 0 where the system does not tell."""
    status = pathlib.Path(f"/proc/{server.process_id}/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) >> 10


def told(answers: collections.Counter[str], seconds: float) -> str:
    """How often each answer came."""
    return ", ".join(f"{count} times {answer}" for answer, count in answers.most_common()) + f" in {seconds:.0f} s"


# --- REST ------------------------------------------------------------------------------------------------------------


def seeds_rest() -> list[tuple[str, bytes, int | None]]:
    """Valid requests: path, body, and the length of the JSON part where a binary one follows."""
    found: list[tuple[str, bytes, int | None]] = []
    asks = [valid()]
    for datatype, values in (("BYTES", ["a", "ünï"]), ("FP32", [1.5, 2.5]), ("INT64", [1, 2]), ("BOOL", [True, False])):
        ask = valid()
        ask.model = f"identity_{datatype.lower()}"
        ask.inputs = [Input("INPUT0", datatype, [1, 2], list(values))]
        ask.outputs = [("OUTPUT0", {"binary_data": datatype == "FP32"})]
        asks.append(ask)
    for ask in asks:
        path, body, _ = ask.rest(binary=False)
        found.append((path, body, None))
        path, body, headers = ask.rest(binary=True)
        found.append((path, body, int(headers[HEADER_LENGTH])))
    rows = {"instances": [{"id": n, "plan": "abc"} for n in range(3)]}
    found.append(("/v1/models/columns:predict", json.dumps(rows).encode(), None))
    table = {"inputs": {"id": [[1], [2]], "plan": [["a"], ["b"]]}, "signature_name": "x"}
    found.append(("/v1/models/columns:predict", json.dumps(table).encode(), None))
    found.append(("/v1/models/floats:predict", json.dumps({"instances": [[1, 2], [3.5, -4e5]]}).encode(), None))
    found.append(("/v2/models/floats/infer", bytes(16), 0))
    return found


def fuzz_rest(server: Server, seed: int, count: int, report: Report) -> None:
    """Mutate and send over one connection after another."""
    chance = random.Random(seed)
    seeds = seeds_rest()
    rest = Rest(server.address)
    for path, body, length in seeds:
        headers = {} if length is None else {HEADER_LENGTH: str(length)}
        status = rest.send("POST", path, body, headers).status
        report.expect(f"{path}: the valid request", status == 200, f"answered {status}")
    answers: collections.Counter[str] = collections.Counter()
    started = time.monotonic()
    for n in range(count):
        path, body, length = chance.choice(seeds)
        path, body, headers = mutated_rest(chance, path, body, length)
        try:
            reply = rest.send("POST", path, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            report.failed(f"request {n} ({path} {headers} {body[:200]!r}): {type(error).__name__}: {error}")
            continue
        answers[str(reply.status)] += 1
        good = reply.status in STATUSES and (reply.status == 200 or _is_error(reply.body))
        what = f"request {n} ({path} {headers} {body[:200]!r})"
        report.expect(what, good, f"{reply.status} {reply.body[:200]!r}")
    rest.close()
    print(f"REST: {told(answers, time.monotonic() - started)}")


def _is_error(body: bytes) -> bool:
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(error, str) and bool(error)


def mutated_rest(
    chance: random.Random, path: str, body: bytes, length: int | None
) -> tuple[str, bytes, dict[str, str]]:
    """A request with a few changes: of its JSON, of its bytes, of the header's length, of its path."""
    head, tail = (body, b"") if length is None else (body[:length], body[length:])
    kind = chance.random()
    if kind < 0.45 and head:
        tree = json.loads(head)
        for _ in range(chance.randint(1, 3)):
            tree = mutated_tree(chance, tree)
        head = json.dumps(tree).encode()
    elif kind < 0.9:
        head = mutated_bytes(chance, head, chance.randint(1, 4))
    if tail and chance.random() < 0.4:
        tail = mutated_bytes(chance, tail, 1)
    headers = {}
    if length is not None:
        told_length: Any = len(head)
        if chance.random() < 0.15:
            told_length = chance.choice((-1, 0, len(head) - 1, len(head) + 1, len(head + tail), 2**63, 2**64, "x"))
        headers[HEADER_LENGTH] = str(told_length)
    if chance.random() < 0.05:
        path = path.replace("identity", chance.choice(("simple", "none", "%00", "..", "a" * 500)))
    return path, head + tail, headers


def mutated_bytes(chance: random.Random, data: bytes, times: int) -> bytes:
    """Bits turned, pieces cut, doubled, or put in."""
    for _ in range(times):
        at = chance.randint(0, len(data))
        kind = chance.randint(0, 5)
        if kind == 0 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << chance.randint(0, 7))]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[at + chance.randint(1, 20) :]
        elif kind == 2:
            data = data[:at] + data[at : at + chance.randint(1, 40)] * chance.randint(2, 5) + data[at:]
        elif kind == 3:
            data = data[:at] + chance.choice(TOKENS) + data[at:]
        elif kind == 4:
            token = chance.choice(TOKENS)
            data = data[:at] + token + data[at + len(token) :]
        else:
            data = data[:at]
    return data


def mutated_tree(chance: random.Random, tree: Any) -> Any:
    """One node replaced, removed, doubled or wrapped."""
    if not isinstance(tree, (dict, list)) or not tree or chance.random() < 0.1:
        return chance.choice((chance.choice(SCALARS), [tree], {"data": tree}, [tree, tree]))
    if isinstance(tree, list):
        at = chance.randrange(len(tree))
        kind = chance.randint(0, 3)
        if kind == 0:
            return tree[:at] + tree[at + 1 :]
        if kind == 1:
            return tree[:at] + [tree[at]] * chance.randint(2, 4) + tree[at + 1 :]
        return [*tree[:at], mutated_tree(chance, tree[at]), *tree[at + 1 :]]
    key = chance.choice(list(tree))
    kind = chance.randint(0, 4)
    if kind == 0:
        return {name: value for name, value in tree.items() if name != key}
    if kind == 1:
        other = chance.choice(("", "x", "INPUT1", "data", "shape", "parameters", key + key))
        return {other if name == key else name: value for name, value in tree.items()}
    return {name: mutated_tree(chance, value) if name == key else value for name, value in tree.items()}


# --- gRPC ------------------------------------------------------------------------------------------------------------


def fuzz_grpc(server: Server, seed: int, count: int, report: Report) -> None:
    """Mutate the protobuf of a call and send it."""
    chance = random.Random(seed)
    rpc = Rpc(server.address)
    infer = rpc.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    strings = valid()
    strings.model = "identity_bytes"
    strings.inputs = [Input("INPUT0", "BYTES", [1, 2], ["a", "ünï"])]
    seeds = [ask.message(raw=raw).SerializeToString() for ask in (valid(), strings) for raw in (False, True)]
    answers: collections.Counter[str] = collections.Counter()
    started = time.monotonic()
    for n in range(count):
        sent = mutated_bytes(chance, chance.choice(seeds), chance.randint(1, 4))
        code, details = "OK", ""
        try:
            infer(sent, timeout=PATIENCE)
        except grpc.RpcError as error:
            code, details = error.code().name, error.details() or ""
        answers[code] += 1
        report.expect(f"call {n} ({sent[:200].hex()})", code in CODES, f"{code} {details[:200]!r}")
    rpc.close()
    print(f"gRPC: {told(answers, time.monotonic() - started)}")


if __name__ == "__main__":
    sys.exit(main())
