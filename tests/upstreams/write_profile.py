"""Writes the reference profile of a load-test model: `write_profile.py MODEL.onnx PROFILE.json`.

The rows are those of `load-tests/models/make.py`: independent normal values of one FP32 input.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from churn import profile

ROWS = 2_000


def main(model: Path, out: Path) -> None:
    """Describes the input's columns, the label and the probabilities, on rows that the model is asked about."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    tensor = session.get_inputs()[0]
    rows = np.random.default_rng(1).normal(size=(ROWS, tensor.shape[1])).astype(np.float32)
    label, probability = session.get_outputs()
    labels, probabilities = session.run([label.name, probability.name], {tensor.name: rows})
    features = [
        profile.Column(f"{tensor.name}{i}", tensor.name, "FP32", values.tolist(), column=i)
        for i, values in enumerate(rows.T)
    ]
    outputs = [
        profile.Column("label", label.name, "INT64", labels.tolist(), role="label", is_categorical=True),
        *(
            profile.Column(f"p{i}", probability.name, "FP32", values.tolist(), i, role="probability", label=str(i))
            for i, values in enumerate(probabilities.T)
        ),
    ]
    document = {
        "format": profile.FORMAT,
        "format_version": profile.FORMAT_VERSION,
        "created_at": "2026-01-31T12:00:00Z",
        "generator": {"name": "tests/upstreams", "version": "1"},
        "model": {"name": model.parent.name, "version": "1"},
        "data": {"rows": ROWS},
        "features": [profile.subject(column) for column in features],
        "outputs": [profile.subject(column) for column in outputs],
    }
    out.write_text(json.dumps(document))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
