"""Writes small models of every kind for the OpenAPI tests. Usage: models.py DIR"""

import sys
from pathlib import Path

import onnx
from onnx import TensorProto as T
from onnx import helper


def save(root: Path, name: str, nodes: list, inputs: list, outputs: list) -> None:
    """One model, as NAME/model.onnx."""
    graph = helper.make_graph(nodes, name, inputs, outputs)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (root / name).mkdir(parents=True)
    onnx.save(model, root / name / "model.onnx")


def identity(root: Path, name: str, element: int, shape: list) -> None:
    """A model that returns its input."""
    value = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["x"], ["y"])
    save(root, name, [node], [value("x", element, shape)], [value("y", element, shape)])


def main() -> None:
    """Writes all of them."""
    root = Path(sys.argv[1])
    value = helper.make_tensor_value_info
    identity(root, "floats", T.FLOAT, [None, 2])
    identity(root, "texts", T.STRING, [None])
    identity(root, "bools", T.BOOL, [None, 1])
    identity(root, "bytes8", T.UINT8, [None, 2])
    identity(root, "large", T.UINT64, [3])
    identity(root, "half", T.FLOAT16, [None])
    row = [None, 4]
    save(
        root,
        "simple",
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        [value("a", T.INT32, row), value("b", T.INT32, row)],
        [value("sum", T.INT32, row), value("difference", T.INT32, row)],
    )
    column = [None, 1]
    save(
        root,
        "columns",
        [helper.make_node("Identity", ["id"], ["id_out"]), helper.make_node("Identity", ["plan"], ["plan_out"])],
        [value("id", T.INT64, column), value("plan", T.STRING, column)],
        [value("id_out", T.INT64, column), value("plan_out", T.STRING, column)],
    )
    classes = ["no", "yes"]
    classifier = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "p"],
        domain="ai.onnx.ml",
        coefficients=[1.0, 2.0, -1.0, -2.0],
        intercepts=[0.0, 0.0],
        classlabels_strings=classes,
        post_transform="SOFTMAX",
    )
    zip_map = helper.make_node("ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=classes)
    mapping = helper.make_map_type_proto(T.STRING, helper.make_tensor_type_proto(T.FLOAT, []))
    maps = helper.make_value_info("probabilities", helper.make_sequence_type_proto(mapping))
    inputs = [value("x", T.FLOAT, [None, 2])]
    save(root, "churn", [classifier, zip_map], inputs, [value("label", T.STRING, [None]), maps])


if __name__ == "__main__":
    main()
