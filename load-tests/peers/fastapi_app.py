"""V2 and V1 REST the way a FastAPI tutorial would: pydantic models, an async handler, the session in place."""

from typing import Any

import numpy as np
from fastapi import FastAPI
from onnx_session import Model
from pydantic import BaseModel

app = FastAPI()
model = Model()


class Input(BaseModel):
    """An input tensor of V2."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferRequest(BaseModel):
    """A request of V2."""

    inputs: list[Input]
    id: str | None = None


class Output(BaseModel):
    """An output tensor of V2."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class InferResponse(BaseModel):
    """An answer of V2."""

    model_name: str
    outputs: list[Output]


class PredictRequest(BaseModel):
    """A request of V1."""

    instances: list[list[float]]


class PredictResponse(BaseModel):
    """An answer of V1."""

    predictions: list[Any]


@app.get("/v2/health/ready")
async def ready() -> dict[str, bool]:
    """Ready as soon as it answers: the model is loaded at import."""
    return {"ready": True}


@app.post(f"/v2/models/{model.name}/infer")
async def infer(request: InferRequest) -> InferResponse:
    """V2 JSON."""
    tensor = request.inputs[0]
    results = model.run(np.array(tensor.data, dtype=np.float32).reshape(tensor.shape))
    outputs = [
        Output(name=name, shape=list(result.shape), datatype=datatype, data=result.ravel().tolist())
        for (name, datatype), result in zip(model.outputs, results)
    ]
    return InferResponse(model_name=model.name, outputs=outputs)


@app.post(f"/v1/models/{model.name}:predict")
async def predict(request: PredictRequest) -> PredictResponse:
    """V1."""
    results = [result.tolist() for result in model.run(np.array(request.instances, dtype=np.float32))]
    names = [name for name, _ in model.outputs]
    return PredictResponse(predictions=[dict(zip(names, row)) for row in zip(*results)])
