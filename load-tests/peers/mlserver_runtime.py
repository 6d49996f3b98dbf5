"""A custom runtime of MLServer, and its server: `mlserver_runtime.py HTTP_PORT GRPC_PORT PARALLEL_WORKERS`."""

import asyncio
import os
import sys
from pathlib import Path

import numpy as np
import onnx_session
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse


class Runtime(MLModel):
    """The session in place, through MLServer's NumPy codec."""

    async def load(self) -> bool:
        """Makes the session in the process that runs it."""
        self.model = onnx_session.Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """V2, REST and gRPC alike."""
        tensor = payload.inputs[0]
        rows = NumpyCodec.decode_input(tensor).astype(np.float32, copy=False).reshape(tensor.shape)
        results = self.model.run(rows)
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, result) for (name, _), result in zip(self.model.outputs, results)],
        )


async def main(http_port: int, grpc_port: int, parallel_workers: int) -> None:
    """Serves the model until it is killed."""
    settings = Settings(
        host="127.0.0.1",
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_endpoint=None,
        parallel_workers=parallel_workers,
        debug=False,
    )
    model = ModelSettings(
        name=Path(os.environ["MODEL_FILE"]).parent.name,
        # By this name, so that the processes of parallel workers find it, too.
        implementation="mlserver_runtime.Runtime",
        parameters=ModelParameters(uri=os.environ["MODEL_FILE"]),
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(*(int(argument) for argument in sys.argv[1:4])))
