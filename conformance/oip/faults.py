"""What can be wrong with a request whatever carries it: each fault is one change of a valid request.

A request is written here once and sent four ways: REST JSON, REST binary, gRPC typed and gRPC raw.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from . import rpc
from .rest import HEADER_LENGTH

#: `struct`'s letter for a value.
PACKED = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}

JSON, BINARY, TYPED, RAW = "REST JSON", "REST binary", "gRPC typed", "gRPC raw"
WAYS = (JSON, BINARY, TYPED, RAW)
VALUES = (JSON, TYPED)
BYTES = (BINARY, RAW)


@dataclass
class Input:
    """An input. `width`: datatype by which the values are written, where the request lies about it."""

    name: str
    datatype: str
    shape: list[int]
    values: list[Any]
    width: str = ""
    raw: bytes | None = None

    def packed(self) -> bytes:
        """The values as raw bytes."""
        if self.raw is not None:
            return self.raw
        if (self.width or self.datatype) == "BYTES":
            texts = [v if isinstance(v, bytes) else str(v).encode() for v in self.values]
            return b"".join(struct.pack("<I", len(text)) + text for text in texts)
        return struct.pack(f"<{len(self.values)}{PACKED[self.width or self.datatype]}", *self.values)


@dataclass
class Ask:
    """A request, before it is written one way or another."""

    model: str
    inputs: list[Input]
    version: str = ""
    outputs: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    def rest(self, *, binary: bool) -> tuple[str, bytes, dict[str, str]]:
        """Path, body and headers."""
        version = f"/versions/{self.version}" if self.version else ""
        path = f"/v2/models/{self.model}{version}/infer"
        inputs: list[dict[str, Any]] = []
        tail = b""
        for one in self.inputs:
            described: dict[str, Any] = {"name": one.name, "datatype": one.datatype, "shape": one.shape}
            if binary:
                packed = one.packed()
                described["parameters"] = {"binary_data_size": len(packed)}
                tail += packed
            else:
                described["data"] = one.values
            inputs.append(described)
        body: dict[str, Any] = {"inputs": inputs}
        if self.outputs:
            body["outputs"] = [
                {"name": name, **({"parameters": parameters} if parameters else {})}
                for name, parameters in self.outputs
            ]
        if self.parameters:
            body["parameters"] = self.parameters
        head = json.dumps(body).encode()
        return path, head + tail, {HEADER_LENGTH: str(len(head))} if binary else {}

    def message(self, *, raw: bool) -> Any:
        """A `ModelInferRequest`."""
        message = pb.ModelInferRequest(model_name=self.model, model_version=self.version)
        for one in self.inputs:
            into = message.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
            if raw:
                message.raw_input_contents.append(one.packed())
            else:
                field_name = rpc.FIELDS.get(one.width or one.datatype, "int_contents")
                values = one.values
                if field_name == "bytes_contents":
                    values = [v if isinstance(v, bytes) else str(v).encode() for v in values]
                getattr(into.contents, field_name).extend(values)
        for name, parameters in self.outputs:
            output = message.outputs.add(name=name)
            for key, value in parameters.items():
                _set(output.parameters[key], value)
        for key, value in self.parameters.items():
            _set(message.parameters[key], value)
        return message


def _set(parameter: Any, value: Any) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = str(value)


@dataclass(frozen=True)
class Fault:
    """A fault, and what both protocols have to answer."""

    what: str
    ask: Ask
    status: int
    grpc: str
    code: str
    says: str = ""
    ways: tuple[str, ...] = WAYS


def valid() -> Ask:
    """A request that `simple` answers."""
    return Ask("simple", [Input(name, "INT32", [1, 16], list(range(16))) for name in ("INPUT0", "INPUT1")])


def one(model: str, datatype: str, values: list[Any], shape: list[int] | None = None, **more: Any) -> Ask:
    """A request for a model with one input."""
    return Ask(model, [Input("INPUT0", datatype, shape or [1, len(values)], values, **more)])


def bad(what: str, change: Callable[[Ask], None], code: str, says: str = "", ways: tuple[str, ...] = WAYS) -> Fault:
    """A change of the valid request that is answered with 400 / INVALID_ARGUMENT."""
    ask = copy.deepcopy(valid())
    change(ask)
    return Fault(what, ask, 400, "INVALID_ARGUMENT", code, says, ways)


def _first(**members: Any) -> Callable[[Ask], None]:
    def change(ask: Ask) -> None:
        for name, value in members.items():
            setattr(ask.inputs[0], name, value)

    return change


def _both(**members: Any) -> Callable[[Ask], None]:
    def change(ask: Ask) -> None:
        for one_ in ask.inputs:
            for name, value in members.items():
                setattr(one_, name, value)

    return change


def _wanting(*names: str, **parameters: Any) -> Callable[[Ask], None]:
    def change(ask: Ask) -> None:
        ask.outputs = [(name, parameters) for name in names]

    return change


def _parameter(name: str, value: Any) -> Callable[[Ask], None]:
    def change(ask: Ask) -> None:
        ask.parameters[name] = value

    return change


def _append(name: str) -> Callable[[Ask], None]:
    def change(ask: Ask) -> None:
        ask.inputs.append(Input(name, "INT32", [1, 16], list(range(16))))

    return change


def faults() -> Iterator[Fault]:
    """Every fault that has nothing to do with what carries it."""
    ask = valid()
    ask.model = "none"
    yield Fault("unknown model", ask, 404, "NOT_FOUND", "unknown_model", "Request for unknown model: 'none'")
    ask = valid()
    ask.version = "9"
    says = "Request for unknown model: 'simple' version 9"
    yield Fault("unknown version", ask, 404, "NOT_FOUND", "unknown_version", says)
    yield from _of_tensors()
    yield from _of_names()
    yield from _of_values()
    yield from _of_parameters()


def _of_tensors() -> Iterator[Fault]:
    lying = {"width": "INT32"}
    yield bad("unknown datatype", _first(datatype="INT33", **lying), "unknown_datatype", "INT33")
    yield bad("datatype in small letters", _first(datatype="int32", **lying), "unknown_datatype", "int32")
    yield bad("no datatype", _first(datatype="", **lying), "unknown_datatype", "`INPUT0`")
    wider = "expected datatype INT32, got INT64"
    yield bad("wider datatype", _both(datatype="INT64"), "datatype_mismatch", wider)
    yield bad("unsigned for signed", _both(datatype="UINT32"), "datatype_mismatch", "got UINT32")
    yield bad("floats for integers", _both(datatype="FP32"), "datatype_mismatch", "got FP32")
    texts = [str(n) for n in range(16)]
    yield bad("texts for integers", _both(datatype="BYTES", values=texts), "datatype_mismatch", "got BYTES")
    yield bad("half precision for integers", _both(datatype="FP16"), "datatype_mismatch", "got FP16", BYTES)
    yield bad("negative dimension", _first(shape=[-1, 16]), "invalid_shape", "negative")
    yield bad("overflowing shape", _first(shape=[2**62, 16]), "invalid_shape", "`INPUT0`")
    yield bad("smallest dimension", _first(shape=[-(2**63), 16]), "invalid_shape", "negative")
    for shape in ([16], [1, 1, 16], [16, 1], [4, 4], []):
        values = list(range(16)) if shape else [1]
        told = f"expected shape [-1, 16], got {shape}"
        yield bad(f"shape {shape}", _first(shape=shape, values=values), "shape_mismatch", told)
    for shape in ([1, 15], [1, 17]):
        told = f"expected shape [-1, 16], got {shape}"
        yield bad(f"shape {shape}", _first(shape=shape, values=list(range(shape[1]))), "shape_mismatch", told)
    few, many = list(range(15)), list(range(17))
    yield bad("too few values", _first(values=few), "element_count_mismatch", "expected 16 values", VALUES)
    yield bad("too few bytes", _first(values=few), "byte_size_mismatch", "expected 64 bytes", BYTES)
    yield bad("too many values", _first(values=many), "element_count_mismatch", "expected 16 values", VALUES)
    yield bad("too many bytes", _first(values=many), "byte_size_mismatch", "expected 64 bytes", BYTES)
    yield bad("no values", _first(values=[]), "", "`INPUT0`")
    yield bad("values for no rows", _both(shape=[0, 16]), "", "`INPUT0`")
    yield bad("rows that differ", _first(shape=[2, 16], values=list(range(32))), "rows_mismatch", "rows")
    inner = Ask("product", [Input("a", "FP32", [1, 2], [1.0, 2.0]), Input("b", "FP32", [1, 1], [1.0])])
    says = "cannot run with these values"
    yield Fault("an operator that refuses", inner, 400, "INVALID_ARGUMENT", "invalid_argument", says)


def _of_names() -> Iterator[Fault]:
    yield bad("unknown input", _first(name="INPUT9"), "unexpected_input", "expected `INPUT0`, `INPUT1`")
    yield bad("no name of an input", _first(name=""), "unexpected_input", "unexpected input ``")
    yield bad("name in small letters", _first(name="input0"), "unexpected_input", "`input0`")
    yield bad("name with a line break", _first(name="INPUT0\n"), "unexpected_input")
    yield bad("name of 20,000 letters", _first(name="x" * 20_000), "unexpected_input", "xxx`")
    yield bad("input twice", _first(name="INPUT1"), "duplicate_tensor", "given twice")
    yield bad("one input too many", _append("INPUT2"), "unexpected_input", "`INPUT2`")
    yield bad("an input again", _append("INPUT0"), "duplicate_tensor", "given twice")
    yield bad("missing input", lambda ask: ask.inputs.pop(), "missing_inputs", "missing `INPUT1`")  # type: ignore[arg-type]
    yield bad("no inputs", lambda ask: ask.inputs.clear(), "", "")
    yield bad("unknown output", _wanting("OUTPUT9"), "unexpected_output", "expected `OUTPUT0`, `OUTPUT1`")
    yield bad("no name of an output", _wanting(""), "unexpected_output", "unexpected output ``")
    yield bad("known and unknown output", _wanting("OUTPUT0", "OUTPUT9"), "unexpected_output", "`OUTPUT9`")
    yield bad("an input as output", _wanting("INPUT0"), "unexpected_output", "`INPUT0`")
    yield bad("output twice", _wanting("OUTPUT0", "OUTPUT0"), "duplicate_tensor", "given twice")


def _of_values() -> Iterator[Fault]:
    def fault(what: str, ask: Ask, code: str, says: str, ways: tuple[str, ...]) -> Fault:
        return Fault(what, ask, 400, "INVALID_ARGUMENT", code, says, ways)

    for datatype, value in (("INT8", 128), ("INT8", -129), ("INT16", 2**15), ("UINT8", 256), ("UINT16", 2**16)):
        ask = one(f"identity_{datatype.lower()}", datatype, [0, value])
        yield fault(f"{value} as {datatype}", ask, "invalid_value", "value 1", VALUES)
    for datatype in ("FP16", "BF16"):
        ask = one(f"identity_{datatype.lower()}", datatype, [1.0])
        yield fault(f"{datatype} as JSON", ask, "datatype_needs_raw", datatype, (JSON,))
        ask = one(f"identity_{datatype.lower()}", datatype, [1.0], width="FP32")
        yield fault(f"{datatype} as typed contents", ask, "datatype_needs_raw", datatype, (TYPED,))
    ask = one("identity_bool", "BOOL", [True], raw=b"\x02")
    yield fault("a BOOL of 2", ask, "invalid_value", "BOOL", BYTES)
    for what, raw in (
        ("a length that ends behind the tensor", b"\x05\x00\x00\x00ab"),
        ("half a length", b"\x01\x00"),
        ("a length of 4 GiB", b"\xff\xff\xff\xff"),
    ):
        yield fault(what, one("identity_bytes", "BYTES", ["x"], raw=raw), "invalid_bytes_lengths", "BYTES", BYTES)
    two = struct.pack("<I", 1) + b"a" + struct.pack("<I", 1) + b"b"
    ask = one("identity_bytes", "BYTES", ["x"], raw=two)
    yield fault("two texts for one", ask, "", "", BYTES)
    # Bytes that are no text go in and come out as they are, but for a reply in JSON, which cannot spell them.
    ask = one("identity_bytes", "BYTES", ["x"], raw=struct.pack("<I", 2) + b"\xff\xfe")
    yield fault("bytes that are no text, back in JSON", ask, "invalid_value", "expected UTF-8", (BINARY,))


def _of_parameters() -> Iterator[Fault]:
    yield bad("negative timeout", _parameter("timeout", -1), "invalid_field", "timeout")
    yield bad("timeout as text", _parameter("timeout", "soon"), "invalid_field", "timeout")
    yield bad("timeout that is true", _parameter("timeout", True), "invalid_field", "timeout")
    late = valid()
    late.parameters["timeout"] = 1
    yield Fault("a deadline that has passed", late, 504, "DEADLINE_EXCEEDED", "deadline_exceeded", "deadline")
    yield bad("negative priority", _parameter("priority", -1), "invalid_field", "priority")
    yield bad("priority as text", _parameter("priority", "high"), "invalid_field", "priority")
    yield bad("classification of no kind", _wanting("OUTPUT0", classification="best"), "", "classification")
    yield bad("negative classification", _wanting("OUTPUT0", classification=-1), "", "classification")
