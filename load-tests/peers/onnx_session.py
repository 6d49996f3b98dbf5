"""One ONNX Runtime session the way every peer here uses it: one thread, no spinning, the fastest for small models."""

import os
from pathlib import Path

import numpy as np
import onnxruntime

#: Datatypes of the protocol by ONNX Runtime's names.
DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}


class Model:
    """The model at `MODEL_FILE`, run in place."""

    def __init__(self) -> None:
        file = Path(os.environ["MODEL_FILE"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.name = file.parent.name
        self.input = self.session.get_inputs()[0].name
        self.outputs = [(output.name, DATATYPES[output.type]) for output in self.session.get_outputs()]

    def run(self, rows: np.ndarray) -> list[np.ndarray]:
        """`rows`: FP32 `[N, features]`; every output, the first dimension N."""
        return self.session.run(None, {self.input: rows})
