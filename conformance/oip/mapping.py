"""What outputs that are no tensors become, by the server's documented mapping."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .reference import Value
from .tensors import Tensor


def expected(outputs: dict[str, Value]) -> Iterator[Tensor]:
    """The tensors that a client receives for a model's outputs."""
    for name, value in outputs.items():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list) and value and all(item.shape == value[0].shape for item in value):
            yield Tensor(name, value[0].datatype, np.stack([item.array for item in value]))
        elif isinstance(value, list):
            for i, item in enumerate(value):
                yield Tensor(f"{name}_{i}", item.datatype, item.array)
        else:
            yield Tensor(name, "FP32", np.empty([0], dtype=np.float32))
