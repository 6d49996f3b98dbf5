"""Every call of the stock `kserve` clients against a running server.

Usage: kserve_clients.py host:port [--not-ready host:port]

`--not-ready`: a second server, which serves no model and is not ready.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import Any

import numpy as np

from oip.report import Report

ADDRESS, UNREADY = sys.argv[1], sys.argv[sys.argv.index("--not-ready") + 1]
# kserve's server reads the command line as soon as anything of kserve is imported.
sys.argv[1:] = []
import grpc  # noqa: E402
import httpx  # noqa: E402
from kserve import (  # noqa: E402
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput  # noqa: E402

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


def values_of(datatype: str) -> np.ndarray:
    """Both ends of the range, [1, 3]."""
    dtype = DTYPES[datatype]
    if datatype == "BOOL":
        return np.array([[True, False, True]])
    if datatype.startswith("FP"):
        return np.array([[0.0, -1.5, np.finfo(dtype).max]], dtype=dtype)
    return np.array([[np.iinfo(dtype).min, 0, np.iinfo(dtype).max]], dtype=dtype)


class Checks:
    """The calls. A method whose name begins with an underscore is a helper, every other one is a check."""

    def __init__(self) -> None:
        self.url = f"http://{ADDRESS}"
        self.unready = f"http://{UNREADY}"
        # Its own words about what fails are as many as there are refusals.
        self.v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
        self.v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
        self.grpc = InferenceGRPCClient(ADDRESS)

    def _request(self, model: str, tensors: dict[str, np.ndarray], *, binary: bool, **more: Any) -> Any:
        inputs = []
        for name, values in tensors.items():
            datatype = next((d for d, t in DTYPES.items() if values.dtype == t), "BYTES")
            one = InferInput(name, list(values.shape), datatype)
            one.set_data_from_numpy(values, binary_data=binary)
            inputs.append(one)
        parameters = {"binary_data_output": True} if binary else None
        return InferRequest(model, inputs, parameters=parameters, **more)

    async def _rest(self, request: Any, model: str) -> Any:
        return await self.v2.infer(self.url, request, model)

    async def _status(self, call: Awaitable[Any], status: int, says: str) -> None:
        try:
            answer = await call
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == status, f"{error.response.status_code} {error}"
            # The client reads `error` only from a body whose content type is exactly JSON's.
            assert says in str(error), str(error)
            return
        raise AssertionError(f"expected {status}, got {answer!r}")

    async def _code(self, call: Awaitable[Any], code: Any, says: str) -> None:
        try:
            answer = await call
        except grpc.RpcError as error:
            assert error.code() == code and says in error.details(), f"{error.code()} {error.details()}"
            return
        raise AssertionError(f"expected {code}, got {answer!r}")

    async def live(self) -> None:
        """Live over all three, also where no model is ready."""
        for url in (self.url, self.unready):
            assert await self.v1.is_server_live(url) is True
            assert await self.v2.is_server_live(url) is True
        assert await self.grpc.is_server_live() is True

    async def ready(self) -> None:
        """`ready` is read from the body."""
        assert await self.v2.is_server_ready(self.url) is True
        assert await self.grpc.is_server_ready() is True

    async def not_ready(self) -> None:
        """503 with a body over REST, `ready: false` over gRPC."""
        await self._status(self.v2.is_server_ready(self.unready), 503, "")
        other = InferenceGRPCClient(UNREADY)
        assert await other.is_server_ready() is False
        assert await other.is_server_live() is True
        await other.close()

    async def model_ready(self) -> None:
        """By status over V2, by body over V1; a model that does not exist is not ready."""
        assert await self.v1.is_model_ready(self.url, "simple") is True
        assert await self.v2.is_model_ready(self.url, "simple") is True
        assert await self.grpc.is_model_ready("simple") is True
        assert await self.v2.is_model_ready(self.url, "none") is False
        await self._status(self.v1.is_model_ready(self.url, "none"), 404, "Request for unknown model")
        await self._code(self.grpc.is_model_ready("none"), grpc.StatusCode.NOT_FOUND, "Request for unknown model")

    async def v1_instances(self) -> None:
        """One input: rows as arrays. Several: rows as objects. Outputs likewise."""
        answer = await self.v1.infer(self.url, {"instances": [[1, 2, 3, 4], [5, 6, 7, 8.5]]}, "versioned")
        assert answer == {"predictions": [[2, 4, 6, 8], [10, 12, 14, 17]]}, answer
        rows = [{"INPUT0": list(range(16)), "INPUT1": [n] * 16} for n in range(3)]
        answer = await self.v1.infer(self.url, {"instances": rows}, "simple")
        wanted = [{"OUTPUT0": [i + n for i in range(16)], "OUTPUT1": [i - n for i in range(16)]} for n in range(3)]
        assert answer == {"predictions": wanted}, answer

    async def v1_columns(self) -> None:
        """The column format: `inputs` in, `outputs` out."""
        answer = await self.v1.infer(self.url, {"inputs": [[1, 2, 3, 4]]}, "versioned")
        assert answer == {"outputs": [[2, 4, 6, 8]]}, answer
        columns = {"INPUT0": [[2] * 16], "INPUT1": [[3] * 16]}
        answer = await self.v1.infer(self.url, {"inputs": columns}, "simple")
        assert answer == {"outputs": {"OUTPUT0": [[5] * 16], "OUTPUT1": [[-1] * 16]}}, answer

    async def v1_headers(self) -> None:
        """Headers of the reply reach the caller."""
        headers: dict[str, str] = {}
        await self.v1.infer(self.url, {"instances": [[1, 2, 3, 4]]}, "versioned", response_headers=headers)
        assert headers["content-type"] == "application/json", headers

    async def v1_refusals(self) -> None:
        """400, 404 and 501, each with its sentence."""
        await self._status(self.v1.infer(self.url, {"rows": []}, "versioned"), 400, "instances")
        await self._status(self.v1.infer(self.url, {"instances": [["a"] * 4]}, "versioned"), 400, "INPUT0")
        await self._status(self.v1.infer(self.url, {"instances": [[1]]}, "none"), 404, "Request for unknown model")
        await self._status(self.v1.explain(self.url, "versioned", {"instances": [[1]]}), 501, "explain")

    async def v2_json(self) -> None:
        """Every datatype that JSON has."""
        for datatype in DTYPES:
            if datatype == "FP16":
                continue
            values = values_of(datatype)
            model = f"identity_{datatype.lower()}"
            response = await self._rest(self._request(model, {"INPUT0": values}, binary=False), model)
            got = response.get_output_by_name("OUTPUT0").as_numpy()
            assert got.dtype == values.dtype and np.array_equal(got, values), f"{datatype}: {got}"

    async def v2_binary(self) -> None:
        """Every datatype, binary both ways."""
        for datatype in DTYPES:
            values = values_of(datatype)
            model = f"identity_{datatype.lower()}"
            response = await self._rest(self._request(model, {"INPUT0": values}, binary=True), model)
            got = response.get_output_by_name("OUTPUT0").as_numpy()
            assert got.dtype == values.dtype and np.array_equal(got, values), f"{datatype}: {got}"

    async def v2_strings(self) -> None:
        """BYTES, in JSON and binary."""
        values = np.array([["a", "ünï", ""]], dtype=np.object_)
        for binary in (False, True):
            request = self._request("simple_identity", {"INPUT0": values}, binary=binary)
            response = await self._rest(request, "simple_identity")
            got = response.get_output_by_name("OUTPUT0").as_numpy()
            texts = [v.decode() if isinstance(v, bytes) else v for v in got.reshape(-1).tolist()]
            assert texts == ["a", "ünï", ""], texts

    async def v2_outputs_and_id(self) -> None:
        """Requested outputs, each as it is asked for, and the request's id."""
        values = np.arange(16, dtype=np.int32).reshape(1, 16)
        outputs = [RequestedOutput("OUTPUT1", parameters={"binary_data": True})]
        request = self._request(
            "simple",
            {"INPUT0": values, "INPUT1": values},
            binary=False,
            request_outputs=outputs,
            request_id="an-id",
        )
        response = await self._rest(request, "simple")
        assert response.id == "an-id", response.id
        assert [output.name for output in response.outputs] == ["OUTPUT1"], response
        assert not response.get_output_by_name("OUTPUT1").as_numpy().any()

    async def v2_refusals(self) -> None:
        """400 and 404 with the sentence."""
        ones = np.ones((1, 4), dtype=np.float32)
        wrong = self._request("simple", {"INPUT0": ones}, binary=False)
        await self._status(self._rest(wrong, "simple"), 400, "INPUT0")
        none = self._request("none", {"INPUT0": ones}, binary=False)
        await self._status(self._rest(none, "none"), 404, "Request for unknown model")

    async def grpc_infer(self) -> None:
        """Raw and typed contents; the reply is read either way."""
        for datatype in DTYPES:
            values = values_of(datatype)
            model = f"identity_{datatype.lower()}"
            for binary in (True, False):
                if datatype == "FP16" and not binary:
                    continue
                response = await self.grpc.infer(self._request(model, {"INPUT0": values}, binary=binary))
                got = response.get_output_by_name("OUTPUT0").as_numpy()
                assert got.dtype == values.dtype and np.array_equal(got, values), f"{datatype} {binary}: {got}"

    async def grpc_strings(self) -> None:
        """BYTES over gRPC."""
        values = np.array([["a", "ünï", ""]], dtype=np.object_)
        for binary in (True, False):
            response = await self.grpc.infer(self._request("simple_identity", {"INPUT0": values}, binary=binary))
            got = response.get_output_by_name("OUTPUT0").as_numpy()
            texts = [v.decode() if isinstance(v, bytes) else v for v in got.reshape(-1).tolist()]
            assert texts == ["a", "ünï", ""], texts

    async def grpc_refusals(self) -> None:
        """INVALID_ARGUMENT and NOT_FOUND with the sentence."""
        ones = np.ones((1, 4), dtype=np.float32)
        wrong = self.grpc.infer(self._request("simple", {"INPUT0": ones}, binary=True))
        await self._code(wrong, grpc.StatusCode.INVALID_ARGUMENT, "INPUT0")
        none = self.grpc.infer(self._request("none", {"INPUT0": ones}, binary=True))
        await self._code(none, grpc.StatusCode.NOT_FOUND, "Request for unknown model")


async def run(report: Report) -> None:
    """Every check."""
    checks = Checks()
    for name in [name for name in vars(Checks) if not name.startswith("_")]:
        try:
            await asyncio.wait_for(getattr(checks, name)(), 120)
            report.ok()
        except Exception as error:  # whatever a client raises is its answer
            report.failed(f"kserve {name}: {type(error).__name__}: {error}")
    await checks.v1.close()
    await checks.v2.close()
    await checks.grpc.close()


def main() -> int:
    """Run the checks; the exit status."""
    import logging

    logging.disable(logging.ERROR)  # the client logs each refusal with a stack
    report = Report("kserve")
    asyncio.run(run(report))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
