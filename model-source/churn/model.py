"""The model: a scikit-learn pipeline, its ONNX form, and the check that both answer alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import ModelProto
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from churn.table import CLASSES, FEATURES, Table

#: Pinned, so that a new converter does not change what a server has to understand.
OPSET = {"": 18, "ai.onnx.ml": 1}
#: The converter's names for a classifier's outputs.
LABEL_OUTPUT, PROBABILITY_OUTPUT = "output_label", "output_probability"


@dataclass(frozen=True)
class Answers:
    """What a model says about rows: labels str [rows], probabilities [rows, classes] in the order of `CLASSES`."""

    labels: npt.NDArray[Any]
    probabilities: npt.NDArray[Any]


def fit(train: Table) -> Any:
    """Fit the pipeline to rows.

    Logistic regression over scaled numbers and one-hot texts. Gradient boosting was tried on the same split: no better
    in AUC, ten times the size. A category that was not there to learn from counts for nothing (all zeros).
    """
    numbers = [i for i, feature in enumerate(FEATURES) if feature.is_number]
    texts = [i for i, feature in enumerate(FEATURES) if not feature.is_number]
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts),
        ]
    )
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=1000))
    pipeline.fit(train.values, train.target)
    return pipeline


def convert(pipeline: Any) -> ModelProto:
    """The pipeline as ONNX, one named input a column, with the converter's stock options.

    So the probabilities leave through a ZipMap, as a sequence of maps: what most people deploy.
    """
    inputs = [(f.name, (FloatTensorType if f.is_number else StringTensorType)([None, 1])) for f in FEATURES]
    onnx: ModelProto = to_onnx(pipeline, initial_types=inputs, target_opset=OPSET, name="churn")
    return onnx


def ask_pipeline(pipeline: Any, table: Table) -> Answers:
    """scikit-learn's answers, float64. Its `classes_` are sorted, as `CLASSES` are."""
    return Answers(pipeline.predict(table.values), pipeline.predict_proba(table.values))


def ask_onnx(model: ModelProto, table: Table) -> Answers:
    """ONNX Runtime's answers, float32: those that a served model gives."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {feature.name: table.column(feature) for feature in FEATURES}
    labels, maps = session.run([LABEL_OUTPUT, PROBABILITY_OUTPUT], inputs)
    probabilities = [[row[label] for label in CLASSES] for row in maps]
    return Answers(np.asarray(labels, dtype=object), np.asarray(probabilities, dtype=np.float32))


def largest_difference(left: Answers, right: Answers) -> float:
    """The largest difference of two probabilities; infinite when a label differs."""
    if not np.array_equal(left.labels, right.labels):
        return float("inf")
    return float(np.abs(left.probabilities.astype(np.float64) - right.probabilities).max())


def importances(pipeline: Any, table: Table, seed: int) -> dict[str, float]:
    """AUC that is lost when a feature's values are shuffled, mean of five times; 0 where it gains. Largest first."""
    found = permutation_importance(
        pipeline, table.values, table.target, scoring="roc_auc", n_repeats=5, random_state=seed
    )
    lost = {f.name: max(float(mean), 0.0) for f, mean in zip(FEATURES, found.importances_mean)}
    return dict(sorted(lost.items(), key=lambda item: (-item[1], item[0])))
