"""Small models for the stock clients and the error matrix, made with `onnx.helper`."""

from __future__ import annotations

import pathlib
from typing import Any

import onnx
from onnx import TensorProto, helper

#: The protocol's datatype → ONNX's element type.
ELEMENTS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> bytes:
    graph = helper.make_graph(nodes, "conformance", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    written: bytes = model.SerializeToString()
    return written


def identity(datatype: str, shape: list[Any], name: str = "INPUT0", out: str = "OUTPUT0") -> bytes:
    """One input, handed back."""
    element = ELEMENTS[datatype]
    return _model(
        [helper.make_node("Identity", [name], [out])],
        [helper.make_tensor_value_info(name, element, shape)],
        [helper.make_tensor_value_info(out, element, shape)],
    )


def sum_difference(datatype: str) -> bytes:
    """Triton's `simple`: `INPUT0`, `INPUT1` [rows, 16] → their sum and their difference, by way of INT32."""
    element = ELEMENTS[datatype]

    def tensor(name: str) -> Any:
        return helper.make_tensor_value_info(name, element, ["rows", 16])

    nodes = []
    for name in ("INPUT0", "INPUT1"):
        nodes.append(helper.make_node("Cast", [name], [f"{name}_as_int"], to=TensorProto.INT32))
    for operator, name in (("Add", "OUTPUT0"), ("Sub", "OUTPUT1")):
        nodes.append(helper.make_node(operator, ["INPUT0_as_int", "INPUT1_as_int"], [f"{name}_as_int"]))
        nodes.append(helper.make_node("Cast", [f"{name}_as_int"], [name], to=element))
    return _model(nodes, [tensor("INPUT0"), tensor("INPUT1")], [tensor("OUTPUT0"), tensor("OUTPUT1")])


def scaled(factor: float) -> bytes:
    """`INPUT0` FP32 [rows, 4] times `factor`: versions that can be told apart."""
    shape = ["rows", 4]
    constant = helper.make_node(
        "Constant", [], ["factor"], value=helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    )
    return _model(
        [constant, helper.make_node("Mul", ["INPUT0", "factor"], ["OUTPUT0"])],
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, shape)],
    )


def product() -> bytes:
    """`a` [rows, inner] times `b` [depth, columns]: runs only when `inner` is `depth`, which no shape tells."""
    return _model(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["rows", "inner"]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, ["depth", "columns"]),
        ],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, ["rows", "columns"])],
    )


def columns() -> bytes:
    """`id` INT64 [rows, 1] and `plan` BYTES [rows, 1], handed back: a table with two columns."""
    return _model(
        [helper.make_node("Identity", ["id"], ["id_out"]), helper.make_node("Identity", ["plan"], ["plan_out"])],
        [
            helper.make_tensor_value_info("id", TensorProto.INT64, ["rows", 1]),
            helper.make_tensor_value_info("plan", TensorProto.STRING, ["rows", 1]),
        ],
        [
            helper.make_tensor_value_info("id_out", TensorProto.INT64, ["rows", 1]),
            helper.make_tensor_value_info("plan_out", TensorProto.STRING, ["rows", 1]),
        ],
    )


def write(folder: pathlib.Path, name: str, model: bytes, version: int | None = None, toml: str = "") -> None:
    """Place a model in a repository, with a version directory if one is given."""
    place = folder / name if version is None else folder / name / str(version)
    place.mkdir(parents=True, exist_ok=True)
    (place / "model.onnx").write_bytes(model)
    if toml:
        (folder / name / "model.toml").write_text(toml, encoding="utf-8")


#: Class names of `scores`, for the classification extension.
CLASSES = ("low", "middle", "high")


def repository(folder: pathlib.Path) -> list[str]:
    """Every model that the stock clients ask for; the names of those to load at start: all but `late`."""
    write(folder, "simple", sum_difference("INT32"), 1)
    write(folder, "simple_int8", sum_difference("INT8"), 1)
    write(folder, "simple_string", sum_difference("BYTES"), 1)
    write(folder, "simple_identity", identity("BYTES", ["rows", "columns"]), 1)
    labels = ", ".join(f'"{name}"' for name in CLASSES)
    write(folder, "scores", identity("FP32", ["rows", 3]), 1, toml=f"[class_labels]\nOUTPUT0 = [{labels}]\n")
    for version in (1, 2):
        write(folder, "versioned", scaled(float(version)), version, toml='version_policy = "all"\n')
    for datatype in ELEMENTS:
        write(folder, f"identity_{datatype.lower()}", identity(datatype, ["rows", "columns"]), 1)
    write(folder, "late", scaled(3.0), 1)
    return sorted(path.name for path in folder.iterdir() if path.name != "late")
