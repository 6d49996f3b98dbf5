"""A custom predictor of the KServe Python SDK: V1 and V2 REST and gRPC. `--http_port`, `--grpc_port` as it has them."""

import logging
from typing import Any

import kserve
import numpy as np
import onnx_session
from kserve.utils.utils import generate_uuid


class Predictor(kserve.Model):
    """The session in place, in the SDK's own types."""

    def __init__(self, model: onnx_session.Model) -> None:
        super().__init__(model.name)
        self.model = model
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """`payload` is a dictionary for V1 and an `InferRequest` for V2."""
        if isinstance(payload, dict):
            rows = np.array(payload["instances"], dtype=np.float32)
            results = [result.tolist() for result in self.model.run(rows)]
            names = [name for name, _ in self.model.outputs]
            return {"predictions": [dict(zip(names, row)) for row in zip(*results)]}
        tensor = payload.inputs[0]
        results = self.model.run(tensor.as_numpy().astype(np.float32, copy=False).reshape(tensor.shape))
        raw = payload.from_grpc or payload.use_binary_outputs
        outputs = []
        for (name, datatype), result in zip(self.model.outputs, results):
            output = kserve.InferOutput(name=name, shape=list(result.shape), datatype=datatype)
            output.set_data_from_numpy(result, binary_data=raw)
            outputs.append(output)
        return kserve.InferResponse(
            response_id=payload.id or generate_uuid(),
            model_name=self.name,
            infer_outputs=outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    server = kserve.ModelServer(workers=1, enable_latency_logging=False)
    # It logs a line for each gRPC call otherwise, which nobody would keep in production.
    logging.getLogger("kserve").setLevel(logging.WARNING)
    server.start([Predictor(onnx_session.Model())])
