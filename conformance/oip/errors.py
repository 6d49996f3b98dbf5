"""The error matrix, from outside: each fault has its exact status, one sentence, and never a 5xx that is the server's.

Usage: python -m oip.errors --server target/release/plumbline-model-server
"""

from __future__ import annotations

import argparse
import http.client
import pathlib
import socket
import sys
import tempfile

import grpc

from . import faults, models
from .faults import BINARY, JSON, RAW, TYPED, Fault, valid
from .grpc_faults import Call, grpc_rows
from .report import Report
from .rest import Reply, Rest
from .rest_faults import INFER, MAX_BODY_BYTES, Row, rest_rows
from .rpc import Rpc
from .server import PATIENCE, Server

#: Checks of each protocol, at least.
MINIMUM = 180
SERVICE = "/inference.GRPCInferenceService/"


def main() -> int:
    """Send every row; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=pathlib.Path, required=True, help="the server's binary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        repository(pathlib.Path(root))
        arguments = ["--model-repository", root, "--max-body-bytes", str(MAX_BODY_BYTES)]
        arguments += ["--model-control", "explicit", "--load-model", "*"]
        with Server(options.server, *arguments) as server:
            rest, rpc = Rest(server.address), Rpc(server.address)
            over_rest, over_grpc = Report("errors over REST"), Report("errors over gRPC")
            for fault in faults.faults():
                both_ways(fault, rest, rpc, over_rest, over_grpc)
            for row in rest_rows():
                check_rest(row, rest, over_rest)
            for call in grpc_rows():
                check_grpc(call, rpc, over_grpc)
            check_sockets(server, over_rest)
            path, body, headers = valid().rest(binary=True)
            over_rest.expect("after all of it", rest.send("POST", path, body, headers).status == 200)
            rest.close()
            rpc.close()
    return over_rest.finish(MINIMUM) | over_grpc.finish(MINIMUM)


def repository(folder: pathlib.Path) -> None:
    """A model for every kind of fault."""
    models.write(folder, "simple", models.sum_difference("INT32"), 1)
    models.write(folder, "product", models.product())
    models.write(folder, "columns", models.columns())
    models.write(folder, "floats", models.identity("FP32", ["rows", 2]))
    for datatype in models.ELEMENTS:
        models.write(folder, f"identity_{datatype.lower()}", models.identity(datatype, ["rows", "columns"]))


# --- Faults that both protocols know ---------------------------------------------------------------------------------


def both_ways(fault: Fault, rest: Rest, rpc: Rpc, over_rest: Report, over_grpc: Report) -> None:
    """Send a fault each way that can carry it. The two protocols tell it in the same words."""
    told: dict[str, str] = {}
    for way in (way for way in fault.ways if way in (JSON, BINARY)):
        path, body, headers = fault.ask.rest(binary=way == BINARY)
        row = Row(f"{fault.what} ({way})", "POST", path, body, headers, fault.status, fault.code, fault.says)
        told[way] = check_rest(row, rest, over_rest)
    for way in (way for way in fault.ways if way in (TYPED, RAW)):
        call = Call(f"{fault.what} ({way})", "ModelInfer", fault.ask.message(raw=way == RAW), fault.grpc, fault.says)
        told[way] = check_grpc(call, rpc, over_grpc)
    for one, other in ((JSON, TYPED), (BINARY, RAW)):
        # How values are counted or a parameter's place is named belongs to the encoding.
        if one in told and other in told and fault.code in SAME_WORDS:
            same = told[one] == told[other]
            over_grpc.expect(f"{fault.what}: same words", same, f"{told[one]!r} and {told[other]!r}")


#: Failures of the model's signature, which is checked after decoding.
SAME_WORDS = frozenset(
    {
        "datatype_mismatch",
        "duplicate_tensor",
        "missing_inputs",
        "rows_mismatch",
        "shape_mismatch",
        "unexpected_input",
        "unexpected_output",
        "unknown_model",
        "unknown_version",
    }
)


# --- Judging ----------------------------------------------------------------------------------------------------


def check_rest(row: Row, rest: Rest, report: Report) -> str:
    """Send it and judge the answer; the sentence."""
    try:
        reply = rest.send(row.method, row.path, row.body, row.headers)
    except (OSError, http.client.HTTPException) as error:
        report.failed(f"{row.what}: {type(error).__name__}: {error}")
        return ""
    problem, sentence = judge(row, reply)
    report.expect(f"{row.what}: expected {row.status} {row.code} {row.says!r}", not problem, problem)
    return sentence


def judge(row: Row, reply: Reply) -> tuple[str, str]:
    """What is wrong with the answer, and its sentence."""
    told = f"got {reply.status} {reply.body[:300].decode(errors='replace')}"
    try:
        body = reply.json()
        sentence = body["error"]
    except (ValueError, KeyError, TypeError):
        return f'no {{"error"}} body, {told}', ""
    problems = []
    if reply.status != row.status or row.code not in ("", body.get("code")) or row.says not in sentence:
        problems.append(told)
    if reply.headers.get("content-type") != "application/json":
        problems.append(f"content type {reply.headers.get('content-type')}")
    if not sentence or len(sentence) > 2_000 or "\n" in sentence:
        problems.append(f"not a sentence: {sentence[:200]!r}")
    if row.status == 405 and "allow" not in reply.headers:
        problems.append("405 without Allow")
    if "x-request-id" not in reply.headers:
        problems.append("no x-request-id")
    return "; ".join(problems), sentence


def check_grpc(call: Call, rpc: Rpc, report: Report) -> str:
    """Send it and judge the answer; the sentence."""
    path = call.rpc if call.rpc.startswith("/") else SERVICE + call.rpc
    sent = call.message if isinstance(call.message, bytes) else call.message.SerializeToString()
    code, sentence = "OK", ""
    try:
        rpc.channel.unary_unary(path)(sent, **{"timeout": PATIENCE, **call.options})
    except grpc.RpcError as error:
        code, sentence = error.code().name, error.details() or ""
    right = code == call.code and call.says in sentence and (code == "OK" or bool(sentence)) and "\n" not in sentence
    report.expect(f"{call.what}: expected {call.code} {call.says!r}", right, f"got {code} {sentence[:300]!r}")
    return sentence


# --- What no HTTP library sends --------------------------------------------------------------------------------


def check_sockets(server: Server, report: Report) -> None:
    """Bytes that are not quite HTTP: refused or dropped, and the server goes on."""
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n"
    for what, sent, allowed in (
        ("no HTTP at all", b"hello\r\n\r\n", {400}),
        ("a length of letters", f"{head}Content-Length: many\r\n\r\n".encode(), {400}),
        ("a negative length", f"{head}Content-Length: -1\r\n\r\n".encode(), {400}),
        ("two lengths", f"{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n{{}}".encode(), {400}),
        ("a chunk of letters", f"{head}Transfer-Encoding: chunked\r\n\r\nxyz\r\n".encode(), {400}),
        ("a header of 1 MiB", f"{head}x: ".encode() + b"y" * (1 << 20) + b"\r\n\r\n", {400, 431}),
        ("a path of 100 kB", b"GET /" + b"v" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {400, 404, 414}),
        ("a body that ends early", f"{head}Content-Length: 100\r\n\r\n{{".encode(), {400}),
    ):
        host, port = server.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            try:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                reply = connection.makefile("rb").read()
            except OSError:
                reply = b""  # refused before all was sent
        status = int(reply.split(b" ", 2)[1]) if reply.startswith(b"HTTP/1.1 ") else None
        good = status in allowed or (status is None and server.is_running())
        report.expect(what, good, f"expected one of {allowed} or an end, got {reply[:200]!r}")


if __name__ == "__main__":
    sys.exit(main())
