"""The ONNX backend node tests, and what ONNX Runtime itself makes of them.

Every exclusion is decided here, by what ONNX Runtime or the protocol does with a case; there is no list by hand.
"""

from __future__ import annotations

import collections
import ctypes
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from . import tensors
from .tensors import DTYPES, Tensor

#: ONNX's element type → the protocol's datatype.
DATATYPES = {
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.UINT32: "UINT32",
    onnx.TensorProto.UINT64: "UINT64",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.STRING: "BYTES",
}

#: What ONNX Runtime hands out: a tensor, a sequence of them, or an optional without a value.
Value = Tensor | list[Tensor] | None


class ExcludedError(Exception):
    """Why a case says nothing about a server; the text is one of a few."""


@dataclass(frozen=True)
class Case:
    """A node test that ONNX Runtime passes: its model, and the inputs with ONNX Runtime's outputs."""

    name: str
    model: bytes
    inputs: list[Tensor]
    #: A tensor, or a sequence of them; for an optional without a value, no values in a tensor of its datatype.
    outputs: dict[str, Tensor | list[Tensor]]
    #: Whether the case's own inputs are sequences or optionals, which here are made of tensors by nodes in front.
    wrapped: bool

    @property
    def is_text(self) -> bool:
        """Whether JSON and gRPC's typed contents have a form for every datatype."""
        return not any(one.datatype in tensors.RAW_ONLY for one in self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor in and out."""
        yield from self.inputs
        for value in self.outputs.values():
            yield from value if isinstance(value, list) else [value]


@dataclass
class Collected:
    """The cases that count, and how many do not, by reason."""

    generated: int = 0
    cases: list[Case] = field(default_factory=list)
    excluded: collections.Counter[str] = field(default_factory=collections.Counter)
    #: The names behind each reason.
    names: dict[str, list[str]] = field(default_factory=dict)


def collect() -> Collected:
    """Generate every node test of the installed `onnx` and put each to ONNX Runtime."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operators that overflow on purpose
        generated = collect_testcases(None)
    ort.set_default_logger_severity(4)
    found = Collected(len(generated))
    for case in generated:
        try:
            found.cases.append(_case(case))
        except ExcludedError as reason:
            found.excluded[str(reason)] += 1
            found.names.setdefault(str(reason), []).append(case.name)
    return found


def _case(case: Any) -> Case:
    graph = case.model.graph
    for value in (*graph.input, *graph.output):
        _check_datatype(value.type)
    inputs, expected = case.data_sets[0]
    given = list(zip(graph.input, inputs, strict=True))
    wrapped = any(info.type.WhichOneof("value") != "tensor_type" for info, _ in given)
    model, feeds = _with_tensors_only(case.model, given) if wrapped else (case.model, given)
    tensors_in = [_tensor(info.name, info.type, value) for info, value in feeds]
    written = model.SerializeToString()
    session = _session(written)
    outputs = run(session, tensors_in)
    _check_expected(case, outputs, expected)
    if _fingerprint(outputs) != _fingerprint(run(_session(written), tensors_in)):
        raise ExcludedError("ONNX Runtime: another answer each time")
    served: dict[str, Tensor | list[Tensor]] = {}
    for info in graph.output:
        value = outputs[info.name]
        served[info.name] = value or Tensor(info.name, _element_of(info.type), _nothing(_element_of(info.type)))
    return Case(case.name, written, tensors_in, served, wrapped)


def _nothing(datatype: str) -> np.ndarray:
    return np.empty([0], dtype=DTYPES[datatype])


def _element_of(kind: Any) -> str:
    which = kind.WhichOneof("value")
    return (
        DATATYPES[kind.tensor_type.elem_type] if which == "tensor_type" else _element_of(getattr(kind, which).elem_type)
    )


def _with_tensors_only(model: Any, given: list[tuple[Any, Any]]) -> tuple[Any, list[tuple[Any, Any]]]:
    """The model with nodes in front that make its sequences and optionals out of tensors, and those tensors."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    front: list[Any] = []
    feeds: list[tuple[Any, Any]] = []
    for info, value in given:
        _construct(info.name, info.type, value, front, feeds)
    nodes = [*front, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend(info for info, _ in feeds)
    return changed, feeds


def _construct(name: str, kind: Any, value: Any, front: list[Any], feeds: list[tuple[Any, Any]]) -> None:
    which = kind.WhichOneof("value")
    make = onnx.helper.make_node
    if which == "tensor_type":
        info = onnx.ValueInfoProto(name=name)
        info.type.CopyFrom(kind)
        for dimension in info.type.tensor_type.shape.dim:
            dimension.ClearField("dim_param")  # elements of one sequence may differ where their type has one name
        feeds.append((info, value))
        return
    inner = getattr(kind, which).elem_type
    if which == "sequence_type":
        for i, item in enumerate(value):
            _construct(f"{name}_{i}", inner, item, front, feeds)
        parts = [f"{name}_{i}" for i in range(len(value))]
        empty = {} if parts else {"dtype": inner.tensor_type.elem_type}
        front.append(make("SequenceConstruct" if parts else "SequenceEmpty", parts, [name], **empty))
    elif value is None:
        front.append(make("Optional", [], [name], type=inner))
    else:
        _construct(f"{name}_value", inner, value, front, feeds)
        front.append(make("Optional", [f"{name}_value"], [name]))


def _check_datatype(kind: Any) -> None:
    which = kind.WhichOneof("value")
    if which == "tensor_type":
        if kind.tensor_type.elem_type not in DATATYPES:
            name = onnx.TensorProto.DataType.Name(kind.tensor_type.elem_type)
            raise ExcludedError(f"protocol: no datatype for {name}")
    else:
        _check_datatype(getattr(kind, which).elem_type)


def _tensor(name: str, kind: Any, value: Any) -> Tensor:
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    datatype = DATATYPES[kind.tensor_type.elem_type]
    array = np.asarray(value)
    if datatype != "BYTES" and array.dtype != np.dtype(DTYPES[datatype]):
        raise ExcludedError(f"onnx: values of {array.dtype} for an input of {datatype}")
    return tensors.tensor(name, array)


def _session(model: bytes) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class but this
        raise ExcludedError("ONNX Runtime: fails to load") from error


def run(session: Any, inputs: list[Tensor]) -> dict[str, Value]:
    """ONNX Runtime's own answer."""
    names = [output.name for output in session.get_outputs()]
    types = [one.type for one in (*session.get_inputs(), *session.get_outputs())]
    try:
        if "tensor(bfloat16)" not in types:
            values = session.run(names, {one.name: _to_numpy(one) for one in inputs})
            return {name: _from_numpy(name, value) for name, value in zip(names, values, strict=True)}
        # NumPy has no BF16, so that such values go in and out as what the binding calls OrtValue.
        values = session.run_with_ort_values(names, {one.name: _to_ort(one) for one in inputs})
        return {name: _from_ort(name, value) for name, value in zip(names, values, strict=True)}
    except Exception as error:  # its exceptions have no common class but this
        raise ExcludedError("ONNX Runtime: fails to run") from error


def _to_numpy(one: Tensor) -> np.ndarray:
    if one.datatype != "BYTES":
        return one.array
    texts = np.empty(one.array.size, dtype=np.object_)
    texts[:] = [value.decode() for value in one.array.reshape(-1).tolist()]
    return texts.reshape(one.array.shape)


def _from_numpy(name: str, value: Any) -> Value:
    if isinstance(value, list):
        return [tensors.tensor(f"{name}_{i}", np.asarray(item)) for i, item in enumerate(value)]
    return None if value is None else tensors.tensor(name, np.asarray(value))


def _to_ort(one: Tensor) -> Any:
    if one.datatype == "BF16":
        bits = np.ascontiguousarray(one.array).view(np.uint16)
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, onnx.TensorProto.BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(one.array))


def _from_ort(name: str, value: Any) -> Tensor:
    if value.data_type() == "tensor(bfloat16)":
        shape = list(value.shape())
        return tensors.from_raw(name, "BF16", shape, ctypes.string_at(value.data_ptr(), 2 * math.prod(shape)))
    return tensors.tensor(name, value.numpy())


def _check_expected(case: Any, outputs: dict[str, Value], expected: list[Any]) -> None:
    """ONNX's own judgement: the outputs are those of the test case, within its tolerance."""
    for (name, got), wanted in zip(outputs.items(), expected, strict=True):
        if not _matches(got, wanted, case.rtol, case.atol):
            raise ExcludedError(f"ONNX Runtime: another answer than ONNX's{'' if got is not None else f' for {name}'}")


def _matches(got: Value, wanted: Any, rtol: float, atol: float) -> bool:
    if got is None or wanted is None:
        return got is None and wanted is None
    if isinstance(got, list):
        return len(got) == len(wanted) and all(_matches(g, w, rtol, atol) for g, w in zip(got, wanted, strict=True))
    if isinstance(wanted, onnx.TensorProto):
        wanted = onnx.numpy_helper.to_array(wanted)
    other = tensors.tensor(got.name, np.asarray(wanted))
    if (got.datatype, got.shape) != (other.datatype, other.shape):
        return False
    if got.datatype == "BYTES":
        return bool(np.array_equal(got.array, other.array))
    if got.datatype in tensors.RAW_ONLY:
        return bool(np.allclose(got.array.astype(np.float32), other.array.astype(np.float32), rtol, atol, True))
    return bool(np.allclose(got.array, other.array, rtol, atol, equal_nan=True))


def _fingerprint(outputs: dict[str, Value]) -> list[Any]:
    def raw(value: Value) -> Any:
        if isinstance(value, list):
            return [raw(item) for item in value]
        return None if value is None else (value.shape, tensors.to_raw(value))

    return [raw(value) for value in outputs.values()]
