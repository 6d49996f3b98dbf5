"""What only a REST request can have wrong: its JSON, its binary part, its path, V1."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .faults import valid
from .rest import HEADER_LENGTH

MAX_BODY_BYTES = 1 << 20
INFER = "/v2/models/simple/infer"


@dataclass(frozen=True)
class Row:
    """A request that is wrong, and its answer: status, `code` (any, where empty) and a part of the sentence."""

    what: str
    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 400
    code: str = ""
    says: str = ""


def rest_rows() -> Iterator[Row]:
    """Every fault that only REST has."""
    yield from _json_rows()
    yield from _binary_rows()
    yield from _route_rows()
    yield from _v1_rows()


def _text(text: str, what: str, code: str, says: str = "") -> Row:
    return Row(what, "POST", INFER, text.encode("utf-8", "surrogatepass"), {}, 400, code, says)


def _valid() -> Any:
    _, body, _ = valid().rest(binary=False)
    return json.loads(body)


def _with(member: str, value: Any) -> str:
    body = _valid()
    body["inputs"][0][member] = value
    return json.dumps(body)


def _without(member: str) -> str:
    body = _valid()
    del body["inputs"][0][member]
    return json.dumps(body)


def _also(member: str, value: Any) -> str:
    return json.dumps({**_valid(), member: value})


def _json_rows() -> Iterator[Row]:
    good = json.dumps(_valid())
    yield _text("", "empty body", "malformed_json")
    yield _text(good[: len(good) // 2], "half a body", "malformed_json", "at byte")
    yield _text(good + "x", "text behind the body", "malformed_json")
    yield _text(good + good, "two bodies", "malformed_json")
    yield _text("[" + good + "]", "an array", "invalid_field", "expected an object")
    yield _text("null", "null", "invalid_field", "expected an object")
    yield _text("\ufeff" + good, "a byte order mark", "malformed_json")
    yield _text(good.replace('"', "'"), "single quotes", "malformed_json")
    yield _text(good.replace("[0, 1", "[00, 1", 1), "a number with a leading zero", "")
    yield _text(good.replace("[0, 1", "[+0, 1", 1), "a number with a plus sign", "")
    yield _text(good.replace("[0, 1", "[NaN, 1", 1), "NaN", "")
    yield _text(good.replace("INPUT0", "INPUT\\ud800", 1), "half a surrogate pair", "malformed_json")
    yield _text(good.replace("INPUT0", "INPUT\n0", 1), "a line break in a text", "malformed_json")
    yield Row("not UTF-8", "POST", INFER, good.encode().replace(b"INPUT0", b"INPUT\xff"), {}, 400, "malformed_json")
    yield _text('{"x":' + "[" * 2_000, "nested too deep", "json_too_deep", "deeper than the limit")
    yield _text('{"inputs":' + "[" * 100_000 + "]" * 100_000 + "}", "nested 100,000 times", "")
    yield _text("{}", "no inputs", "missing_field", "`inputs`")
    yield _text('{"inputs": 3}', "inputs of no kind", "invalid_field", "expected an array")
    yield _text('{"inputs": [3]}', "an input of no kind", "invalid_field", "expected an object")
    for member in ("name", "shape", "datatype"):
        yield _text(_without(member), f"no {member}", "missing_field", member)
    yield _text(_without("data"), "no data", "missing_data", "`INPUT0`")
    wrong: list[tuple[str, Any]] = [
        ("name", 3),
        ("name", None),
        ("datatype", 3),
        ("datatype", ["INT32"]),
        ("shape", 16),
        ("shape", "1,16"),
        ("shape", [1.5, 16]),
        ("shape", ["1", 16]),
        ("shape", [10**30, 16]),
        ("shape", None),
        ("parameters", []),
    ]
    for member, value in wrong:
        yield _text(_with(member, value), f"{member} = {json.dumps(value)}", "invalid_field", member)
    yield _text(_with("data", {"a": 1}), "data as an object", "invalid_data", "`INPUT0`")
    yield _text(_with("data", 3), "data as a number", "invalid_data", "`INPUT0`")
    yield _text(_with("data", [[1, 2], [3, 4]]), "ragged data", "ragged_data", "`INPUT0`")
    yield _text(_with("data", [[[n for n in range(16)]]]), "data nested too deep", "ragged_data", "`INPUT0`")
    values: list[Any] = ["4", 4.5, True, None, 2**31, -(2**31) - 1, 10**400, [4], {}]
    for value in values:
        told = _with("data", [*range(15), value])
        yield _text(told, f"value {json.dumps(value)[:24]} as INT32", "", "`INPUT0`")
    for datatype, value in (
        ("UINT8", -1),
        ("UINT32", 2**32),
        ("INT64", 2**63),
        ("UINT64", 2**64),
        ("UINT64", -1),
        ("BYTES", 1),
        ("BOOL", "true"),
        ("BOOL", 2),
        ("FP32", "1.0"),
    ):
        one = {"name": "INPUT0", "datatype": datatype, "shape": [1, 1], "data": [value]}
        body = json.dumps({"inputs": [one]}).encode()
        path = f"/v2/models/identity_{datatype.lower()}/infer"
        yield Row(f"{json.dumps(value)} as {datatype}", "POST", path, body, {}, 400, "invalid_value", "value 0")
    yield _text(_also("id", 3), "id as a number", "invalid_field", "id")
    yield _text(_also("outputs", 3), "outputs of no kind", "invalid_field", "outputs")
    yield _text(_also("outputs", [{}]), "an output without a name", "missing_field", "name")
    yield _text(_also("parameters", 3), "parameters of no kind", "invalid_field", "parameters")
    yield _text(good[:-1] + ', "inputs": []}', "inputs twice", "duplicate_field", "inputs")


def _binary_rows() -> Iterator[Row]:
    path, body, headers = valid().rest(binary=True)
    length = int(headers[HEADER_LENGTH])

    def row(what: str, body: bytes, header: Any, code: str, says: str = "", path: str = path) -> Row:
        told = {} if header is None else {HEADER_LENGTH: str(header)}
        return Row(what, "POST", path, body, told, 400, code, says)

    for value in ("many", "-1", "+9", "0x10", "1.0", "9999999", str(2**64), str(2**32 + length), ""):
        yield row(f"header length {value!r}", body, value, "invalid_header_length", "Inference-Header-Content-Length")
    yield row("no header length", body[:length], None, "invalid_header_length")
    yield row("header length one too short", body, length - 1, "malformed_json")
    yield row("header length one too long", body, length + 1, "malformed_json")
    yield row("one byte too few", body[:-1], length, "binary_data_too_short", "`INPUT1`")
    yield row("one byte too many", body + b"x", length, "unexpected_additional_data", "additional input data")
    for size in (-1, "64", 1.5, True, 2**64):
        text = body[:length].replace(b'"binary_data_size": 64', b'"binary_data_size": ' + json.dumps(size).encode(), 1)
        yield row(f"binary_data_size = {json.dumps(size)}", text + body[length:], len(text), "invalid_field")
    text = body[:length].replace(b'"binary_data_size": 64', b'"binary_data_size": 60', 1)
    yield row("size of another shape", text + body[length + 4 :], length, "byte_size_mismatch", "expected 64 bytes")
    both = json.loads(body[:length])
    both["inputs"][0]["data"] = list(range(16))
    text = json.dumps(both).encode()
    yield row("data and binary data", text + body[length:], len(text), "data_and_binary", "`INPUT0`")
    floats = "/v2/models/floats/infer"
    yield row("raw body of an odd length", b"1234567", 0, "invalid_raw_binary", path=floats)
    yield row("raw body for two inputs", bytes(128), 0, "invalid_raw_binary")
    unknown = {"name": "INPUT0", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": 8}}
    text = json.dumps({"inputs": [unknown]}).encode()
    broken = b"\x09\x00\x00\x00abcd"
    to = "/v2/models/identity_bytes/infer"
    yield row("a BYTES length", text + broken, len(text), "invalid_bytes_lengths", path=to)


def _route_rows() -> Iterator[Row]:
    _, good, _ = valid().rest(binary=False)
    unknown = "Request for unknown model"
    for path in (
        "/v2/models/none",
        "/v2/models/none/ready",
        "/v2/models/none/config",
        "/v2/models/none/stats",
        "/v2/models/simple/versions/9",
        "/v2/models/simple/versions/9/ready",
        "/v1/models/none",
        "/v2/models/%6eone",
        "/v2/models/no%20ne",
    ):
        yield Row(f"GET {path}", "GET", path, b"", {}, 404, "", unknown)
    for path in (
        "/v3",
        "/v2/nothing",
        "/v2/models/simple/versions/new",
        "/v2/models/simple/versions//infer",
        "/v2/models//infer",
        "/v2/models/simple/infer/more",
        "/v2/models/%ff/ready",
        "/v2/health",
        "/v1/models/simple:guess:predict/x",
        "/../../etc/passwd",
        "/v2/models/..%2f..%2fetc%2fpasswd/x",
    ):
        yield Row(f"GET {path}", "GET", path, b"", {}, 404, "not_found", "Not Found")
    for method, path in (
        ("GET", INFER),
        ("PUT", INFER),
        ("DELETE", "/v2/models/simple"),
        ("PATCH", "/v2"),
        ("POST", "/v2/health/ready"),
        ("GET", "/v1/models/simple:predict"),
        ("GET", "/v2/repository/index"),
    ):
        yield Row(f"{method} {path}", method, path, b"", {}, 405, "method_not_allowed", "Method Not Allowed")
    large = b" " * (MAX_BODY_BYTES + 1)
    yield Row("a body too large", "POST", INFER, large, {}, 413, "body_too_large", f"{MAX_BODY_BYTES} bytes")
    other = {"Content-Encoding": "br"}
    yield Row("an unknown content encoding", "POST", INFER, good, other, 415, "unsupported_content_encoding", "br")
    zipped = gzip.compress(good)
    coded = {"Content-Encoding": "gzip"}
    yield Row("not gzip", "POST", INFER, good, coded, 400)
    yield Row("half a gzip", "POST", INFER, zipped[: len(zipped) // 2], coded, 400)
    bomb = gzip.compress(b" " * (64 << 20))
    yield Row("a gzip of 64 MiB of spaces", "POST", INFER, bomb, coded, 413, "body_too_large")
    yield Row("gRPC over HTTP/1", "POST", INFER, good, {"Content-Type": "application/grpc"}, 400, "", "HTTP/2")
    yield Row("an RPC without gRPC", "POST", "/inference.GRPCInferenceService/ModelInfer", b"", {}, 400)
    late = {"x-request-timeout": "soon"}
    yield Row("a request timeout of no kind", "POST", INFER, good, late, 400, "invalid_field", "x-request-timeout")
    late = {"x-request-timeout": "0ms"}
    yield Row("a request timeout of nothing", "POST", INFER, good, late, 504, "deadline_exceeded")
    load = "/v2/repository/models/{}/load"
    yield Row("load of no model", "POST", load.format("none"), b"", {}, 404, "unknown_model", "none")
    yield Row("load with half a body", "POST", load.format("simple"), b"{", {}, 400)
    yield Row("unload with an array", "POST", "/v2/repository/models/simple/unload", b"[1]", {}, 400)
    yield Row("index with half a body", "POST", "/v2/repository/index", b"{", {}, 400)


def _v1_rows() -> Iterator[Row]:
    simple, columns, floats = (f"/v1/models/{m}:predict" for m in ("simple", "columns", "floats"))

    def row(what: str, path: str, body: Any, code: str, says: str = "", status: int = 400) -> Row:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Row(f"V1: {what}", "POST", path, sent, {}, status, code, says)

    yield row("unknown model", "/v1/models/none:predict", {"instances": [[1]]}, "unknown_model", "unknown model", 404)
    yield row("explain", "/v1/models/floats:explain", {"instances": [[1, 2]]}, "unsupported", "explain", 501)
    yield row("neither form", floats, {}, "invalid_v1_form", "exactly one of `instances` and `inputs`")
    yield row("both forms", floats, {"instances": [[1, 2]], "inputs": [[1, 2]]}, "invalid_v1_form")
    yield row("not JSON", floats, b"instances", "malformed_json")
    yield row("an array", floats, [[1, 2]], "invalid_field")
    yield row("instances of no kind", floats, {"instances": 3}, "")
    yield row("no instances", floats, {"instances": None}, "")
    yield row("row too short", floats, {"instances": [[1]]}, "ragged_data")
    yield row("row too long", floats, {"instances": [[1, 2, 3]]}, "ragged_data")
    yield row("rows of different lengths", floats, {"instances": [[1, 2], [1]]}, "ragged_data")
    yield row("text for a number", floats, {"instances": [[1, "2"]]}, "invalid_value")
    yield row("an object for a row", floats, {"instances": [{"a": 1}]}, "")
    yield row("unknown column", columns, {"instances": [{"id": 1, "plan": "a", "z": 1}]}, "unexpected_input", "`z`")
    yield row("missing column", columns, {"instances": [{"id": 1}]}, "missing_inputs", "`plan`")
    yield row("number for a text", columns, {"instances": [{"id": 1, "plan": 2}]}, "invalid_value", "plan")
    yield row("columns of different lengths", columns, {"inputs": {"id": [[1], [2]], "plan": [["a"]]}}, "rows_mismatch")
    yield row("one input for two", simple, {"instances": [{"INPUT0": [1] * 16}]}, "missing_inputs", "`INPUT1`")
    yield row("out of range", simple, {"instances": [{"INPUT0": [2**31] * 16, "INPUT1": [1] * 16}]}, "invalid_value")
