"""Tensors as the protocol spells them, written independently of the server's own codecs."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

#: Datatype of the protocol → the array's type. `BYTES` is an array of `bytes` objects.
DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
#: What has neither a JSON form nor a field in gRPC's typed contents.
RAW_ONLY = frozenset({"FP16", "BF16"})
_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Tensor:
    """A named tensor; `array` has the type that `DTYPES` tells for `datatype`."""

    name: str
    datatype: str
    array: np.ndarray

    @property
    def shape(self) -> list[int]:
        """Its dimensions."""
        return list(self.array.shape)


def datatype_of(array: np.ndarray) -> str | None:
    """The protocol's name for the array's type, or `None` where the protocol has none."""
    if array.dtype.kind in "OSU":
        return "BYTES"
    return _NAMES.get(array.dtype)


def tensor(name: str, array: np.ndarray) -> Tensor:
    """The array as a tensor; strings become `bytes`."""
    datatype = datatype_of(array)
    if datatype is None:
        raise ValueError(f"`{name}`: the protocol has no datatype for {array.dtype}")
    if datatype == "BYTES":
        texts = np.empty(array.size, dtype=np.object_)
        texts[:] = [_bytes(value) for value in array.reshape(-1).tolist()]
        array = texts.reshape(array.shape)
    return Tensor(name, datatype, array)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


# --- Raw bytes: the binary tensor extension, gRPC's raw contents -----------------------------------------------------


def to_raw(one: Tensor) -> bytes:
    """Little-endian, row-major; each `BYTES` value after its length in 4 bytes."""
    if one.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in one.array.reshape(-1).tolist())
    return np.ascontiguousarray(one.array).tobytes()


def from_raw(name: str, datatype: str, shape: list[int], raw: bytes) -> Tensor:
    """The inverse of `to_raw`."""
    if datatype != "BYTES":
        return Tensor(name, datatype, np.frombuffer(raw, dtype=DTYPES[datatype]).reshape(shape))
    values, offset = [], 0
    while offset < len(raw):
        (length,) = struct.unpack_from("<I", raw, offset)
        offset += 4
        if offset + length > len(raw):
            raise ValueError(f"`{name}`: a BYTES value of {length} bytes ends behind the tensor")
        values.append(raw[offset : offset + length])
        offset += length
    return _of_bytes(name, values, shape)


def _of_bytes(name: str, values: list[bytes], shape: list[int]) -> Tensor:
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    return Tensor(name, "BYTES", array.reshape(shape))


# --- JSON ------------------------------------------------------------------------------------------------------------


def to_json(one: Tensor) -> dict[str, Any]:
    """An element of a request's `inputs`, with flat `data`."""
    values = one.array.reshape(-1).tolist()
    if one.datatype == "BYTES":
        values = [value.decode() for value in values]
    return {"name": one.name, "datatype": one.datatype, "shape": one.shape, "data": values}


def from_json(output: dict[str, Any]) -> Tensor:
    """An element of a reply's `outputs`, whether its `data` is flat or nested."""
    name, datatype, shape = output["name"], output["datatype"], output["shape"]
    values = _flat(output["data"])
    if datatype == "BYTES":
        return _of_bytes(name, [value.encode() for value in values], shape)
    if datatype == "BOOL" and not all(isinstance(value, bool) for value in values):
        raise ValueError(f"`{name}`: a BOOL that is neither true nor false")
    return Tensor(name, datatype, np.array(values, dtype=DTYPES[datatype]).reshape(shape))


def _flat(values: list[Any]) -> list[Any]:
    while values and isinstance(values[0], list):
        values = [value for inner in values for value in inner]
    return [value for value in values if not isinstance(value, list)]


# --- Comparison ------------------------------------------------------------------------------------------------------


def difference(expected: Tensor, got: Tensor | None, *, exact_nan: bool) -> str | None:
    """What differs, or `None` where every bit is equal.

    `exact_nan`: whether the sign and payload of a NaN have to be equal, too; JSON and text cannot carry them.
    """
    if got is None:
        return f"output `{expected.name}` is missing"
    if (expected.datatype, expected.shape) != (got.datatype, got.shape):
        return f"output `{expected.name}` is {got.datatype} {got.shape}, expected {expected.datatype} {expected.shape}"
    if expected.datatype == "BYTES":
        same = expected.array.reshape(-1).tolist() == got.array.reshape(-1).tolist()
        return None if same else f"output `{expected.name}` has other strings"
    size = expected.array.dtype.itemsize
    bits = np.dtype(f"u{size}")
    ours = np.ascontiguousarray(got.array).reshape(-1).view(bits)
    theirs = np.ascontiguousarray(expected.array).reshape(-1).view(bits)
    differs = ours != theirs
    if not exact_nan and expected.datatype.startswith(("FP", "BF")):
        differs &= ~(np.isnan(got.array.reshape(-1)) & np.isnan(expected.array.reshape(-1)))
    if not differs.any():
        return None
    first = int(np.flatnonzero(differs)[0])
    value, wanted = got.array.reshape(-1)[first], expected.array.reshape(-1)[first]
    return (
        f"output `{expected.name}` differs in {int(differs.sum())} of {differs.size} values, "
        f"the first at {first}: {value!r}, expected {wanted!r}"
    )


def has_non_finite(one: Tensor) -> bool:
    """Whether a value has no JSON form of its own."""
    return one.datatype in ("FP32", "FP64") and not all(math.isfinite(v) for v in one.array.reshape(-1).tolist())
