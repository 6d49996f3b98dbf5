"""What outputs that are no tensors become, by the server's documented mapping."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .tensors import Tensor


def expected(outputs: dict[str, Tensor | list[Tensor]]) -> Iterator[Tensor]:
    """The tensors that a client receives: a sequence of equal shapes stacked, a ragged one numbered."""
    for name, value in outputs.items():
        if isinstance(value, Tensor):
            yield Tensor(name, value.datatype, value.array)
        elif all(item.shape == value[0].shape for item in value):
            yield Tensor(name, value[0].datatype, np.stack([item.array for item in value]))
        else:
            for i, item in enumerate(value):
                yield Tensor(f"{name}_{i}", item.datatype, item.array)
