"""Makes the models of the load tests, the same bytes each time: `make.py DIRECTORY`.

- `gb`: gradient-boosted trees, 100 of depth 3, 20 features; tens of microseconds a row.
- `mlp`: 20-256-256-2; a batch costs little more than a row.
- `heavy`: gradient-boosted trees, 1,000 of depth 4: long enough that a server must not run it on a network thread.
"""

import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.neural_network import MLPClassifier

FEATURES = 20


def main(directory: Path) -> None:
    """Trains and writes each model as `DIRECTORY/NAME/model.onnx`."""
    random = np.random.default_rng(7)
    x = random.normal(size=(2_000, FEATURES)).astype(np.float32)
    y = (x[:, :5].sum(axis=1) + x[:, 5] * x[:, 6] + random.normal(scale=0.5, size=len(x)) > 0).astype(np.int64)
    models = {
        "gb": GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=7),
        "mlp": MLPClassifier(hidden_layer_sizes=(256, 256), max_iter=20, random_state=7),
        "heavy": GradientBoostingClassifier(n_estimators=1_000, max_depth=4, subsample=0.3, random_state=7),
    }
    for name, model in models.items():
        model.fit(x, y)
        # Tensors, not a list of dictionaries: the peers serve only those.
        onnx = to_onnx(model, x[:1], name=name, options={"zipmap": False}, target_opset=17)
        file = directory / name / "model.onnx"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(onnx.SerializeToString())
        print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
