"""V2 and V1 REST as lean as Python gets: Starlette, orjson both ways, no validation, the session in place."""

import numpy as np
import orjson
from onnx_session import Model
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

model = Model()


def answer(value: object) -> Response:
    """JSON; orjson writes NumPy's arrays itself."""
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


async def ready(_request: Request) -> Response:
    """Ready as soon as it answers: the model is loaded at import."""
    return answer({"ready": True})


async def infer(request: Request) -> Response:
    """V2 JSON."""
    body = orjson.loads(await request.body())
    tensor = body["inputs"][0]
    results = model.run(np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"]))
    outputs = [
        {"name": name, "shape": result.shape, "datatype": datatype, "data": result.ravel()}
        for (name, datatype), result in zip(model.outputs, results)
    ]
    return answer({"model_name": model.name, "outputs": outputs})


async def predict(request: Request) -> Response:
    """V1."""
    body = orjson.loads(await request.body())
    results = [result.tolist() for result in model.run(np.array(body["instances"], dtype=np.float32))]
    names = [name for name, _ in model.outputs]
    return answer({"predictions": [dict(zip(names, row)) for row in zip(*results)]})


app = Starlette(
    routes=[
        Route("/v2/health/ready", ready),
        Route(f"/v2/models/{model.name}/infer", infer, methods=["POST"]),
        Route(f"/v1/models/{model.name}:predict", predict, methods=["POST"]),
    ]
)
