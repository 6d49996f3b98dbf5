"""What only a gRPC call can have wrong: its protobuf, its contents, its path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from .faults import valid
from .rest_faults import MAX_BODY_BYTES


@dataclass(frozen=True)
class Call:
    """A call that is wrong (a message, or its bytes), and its answer."""

    what: str
    rpc: str
    message: Any
    code: str = "INVALID_ARGUMENT"
    says: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def grpc_rows() -> Iterator[Call]:
    """Every fault that only gRPC has."""
    good = valid().message(raw=True)
    sent = good.SerializeToString()

    def changed(**members: Any) -> Any:
        message = pb.ModelInferRequest()
        message.CopyFrom(good)
        for name, value in members.items():
            setattr(message, name, value)
        return message

    yield Call("all is well", "ModelInfer", good, "OK")
    yield Call("no message", "ModelInfer", b"", "NOT_FOUND", "Request for unknown model")
    yield Call("no model", "ModelInfer", changed(model_name=""), "NOT_FOUND", "Request for unknown model")
    yield Call("version of letters", "ModelInfer", changed(model_version="new"), "NOT_FOUND", "version new")
    yield Call("half a message", "ModelInfer", sent[: len(sent) // 2], says="protobuf")
    yield Call("no protobuf", "ModelInfer", b"\xff\xff\xff\xff", says="protobuf")
    yield Call("a field of another kind", "ModelInfer", b"\x0d\x00\x00\x00\x00", says="protobuf")
    yield Call("a name that is not UTF-8", "ModelInfer", b"\x0a\x02\xff\xfe", says="protobuf")
    yield Call("a length of 2 GiB", "ModelInfer", b"\x0a\xff\xff\xff\xff\x07", says="protobuf")
    few = changed()
    del few.raw_input_contents[1:]
    yield Call("one raw content for two inputs", "ModelInfer", few, says="raw_input_contents")
    many = changed()
    many.raw_input_contents.append(b"")
    yield Call("three raw contents for two inputs", "ModelInfer", many, says="raw_input_contents")
    none = changed()
    del none.raw_input_contents[:]
    yield Call("no contents", "ModelInfer", none, says="`INPUT0`")
    both = changed()
    both.inputs[0].contents.int_contents.extend(range(16))
    words = "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'simple'"
    yield Call("raw and typed contents", "ModelInfer", both, says=words)
    other = valid().message(raw=False)
    other.inputs[0].contents.ClearField("int_contents")
    other.inputs[0].contents.fp32_contents.extend(range(16))
    yield Call("typed contents of another kind", "ModelInfer", other, says="`INPUT0`")
    large = changed()
    large.raw_input_contents[0] = bytes(MAX_BODY_BYTES)
    yield Call("a message too large", "ModelInfer", large, "RESOURCE_EXHAUSTED", f"{MAX_BODY_BYTES} bytes")
    yield Call("an unknown RPC", "ModelGuess", b"", "UNIMPLEMENTED")
    yield Call("an unknown service", "/inference.Other/ModelInfer", good, "UNIMPLEMENTED")
    yield Call("a path of REST", "/v2/health/live", b"", "UNIMPLEMENTED")
    unknown = "Request for unknown model"
    for rpc_name, message in (
        ("ModelReady", pb.ModelReadyRequest(name="none")),
        ("ModelReady", pb.ModelReadyRequest()),
        ("ModelReady", pb.ModelReadyRequest(name="simple", version="9")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="none")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="simple", version="9")),
        ("ModelConfig", pb.ModelConfigRequest(name="none")),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="none")),
    ):
        yield Call(f"{rpc_name} {str(message).split()}", rpc_name, message, "NOT_FOUND", unknown)
    for rpc_name in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"):
        yield Call(f"{rpc_name} of no protobuf", rpc_name, b"\xff\xff\xff\xff", says="protobuf")
    load = pb.RepositoryModelLoadRequest(model_name="none")
    yield Call("load of no model", "RepositoryModelLoad", load, "NOT_FOUND", "none")
    health = "/grpc.health.v1.Health/Check"
    yield Call("health of no service", health, b"\x0a\x04none", "NOT_FOUND")
    yield Call("health of no protobuf", health, b"\xff\xff\xff\xff", says="protobuf")
