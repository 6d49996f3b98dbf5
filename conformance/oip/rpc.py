"""A V2 gRPC client of its own, on the messages that Triton publishes."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from . import tensors
from .rest import RefusedError
from .server import PATIENCE
from .tensors import DTYPES, Tensor

#: Datatype → the field of `InferTensorContents` that carries it.
FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def request(model: str, inputs: list[Tensor], *, raw: bool) -> Any:
    """A `ModelInferRequest` with raw or with typed contents; typed ones are also asked for in the reply."""
    message = pb.ModelInferRequest(model_name=model)
    for one in inputs:
        into = message.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        if not raw:
            getattr(into.contents, FIELDS[one.datatype]).extend(one.array.reshape(-1).tolist())
    if raw:
        message.raw_input_contents.extend(tensors.to_raw(one) for one in inputs)
    else:
        message.parameters["binary_data_output"].bool_param = False
    return message


def outputs_of(message: Any) -> list[Tensor]:
    """The outputs of a `ModelInferResponse`, raw or typed."""
    outputs = []
    for i, output in enumerate(message.outputs):
        name, datatype, shape = output.name, output.datatype, list(output.shape)
        if message.raw_output_contents:
            outputs.append(tensors.from_raw(name, datatype, shape, message.raw_output_contents[i]))
            continue
        values = list(getattr(output.contents, FIELDS[datatype]))
        array = np.empty(len(values), dtype=DTYPES[datatype])
        array[:] = values
        outputs.append(Tensor(name, datatype, array.reshape(shape)))
    return outputs


class Rpc:
    """A channel to a server."""

    def __init__(self, address: str) -> None:
        size = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options=size)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    @property
    def channel(self) -> grpc.Channel:
        """For RPCs that the stub does not have."""
        return self._channel

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def infer(self, model: str, inputs: list[Tensor], *, raw: bool) -> list[Tensor]:
        """Raw both ways, or typed both ways."""
        try:
            reply = self.stub.ModelInfer(request(model, inputs, raw=raw), timeout=PATIENCE)
        except grpc.RpcError as error:
            raise RefusedError(f"{error.code().name} {error.details()}") from error
        if not raw and reply.raw_output_contents:
            raise ValueError("typed contents were asked for, raw ones came")
        return outputs_of(reply)
