"""Triton's documented examples and every other call of a stock `tritonclient` against a running server.

Usage: triton.py http|grpc|http.aio|grpc.aio host:port

The four clients have the same calls. The plain ones are asked through `Awaited`, so that one text serves all.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import ml_dtypes
import numpy as np
from tritonclient.utils import InferenceServerException

from oip.report import Report

#: numpy's type of what the client takes and hands out, by datatype.
DTYPES = {
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
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
}
#: What the server's metadata has to advertise, in Triton's words.
EXTENSIONS = {
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
}


class Awaited:
    """A plain client whose calls can be awaited; they block."""

    def __init__(self, client: Any) -> None:
        self.plain = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self.plain, name)

        async def awaited(*arguments: Any, **options: Any) -> Any:
            return call(*arguments, **options)  # in this thread: the HTTP client is bound to the one that made it

        return awaited


class Checks:
    """The calls. A method whose name begins with an underscore is a helper, every other one is a check."""

    def __init__(self, kind: str, address: str, report: Report) -> None:
        self.kind, self.address, self.report = kind, address, report
        self.is_grpc = kind.startswith("grpc")
        self.module = importlib.import_module(f"tritonclient.{kind}")
        # The asynchronous clients take the inputs of the plain ones.
        self.parts = importlib.import_module(f"tritonclient.{kind.split('.')[0]}")
        self.client = self._connect()
        self.json = {"as_json": True} if self.is_grpc else {}

    def _connect(self) -> Any:
        options = {"concurrency": 8} if self.kind == "http" else {}
        client = self.module.InferenceServerClient(self.address, **options)
        return client if self.kind.endswith("aio") else Awaited(client)

    def _input(self, name: str, datatype: str, values: np.ndarray, *, binary: bool = True) -> Any:
        one = self.parts.InferInput(name, list(values.shape), datatype)
        if self.is_grpc:
            one.set_data_from_numpy(values)
        else:
            one.set_data_from_numpy(values, binary_data=binary)
        return one

    def _output(self, name: str, *, binary: bool = True, **options: Any) -> Any:
        if not self.is_grpc:
            options["binary_data"] = binary
        return self.parts.InferRequestedOutput(name, **options)

    def _simple(self, *, binary: bool = True) -> tuple[list[Any], np.ndarray, np.ndarray]:
        left = np.arange(16, dtype=np.int32).reshape(1, 16)
        right = np.full((1, 16), 3, dtype=np.int32)
        inputs = [self._input(n, "INT32", v, binary=binary) for n, v in (("INPUT0", left), ("INPUT1", right))]
        return inputs, left, right

    async def _refused(self, call: Awaitable[Any], *, says: str, status: str = "") -> None:
        try:
            answer = await call
        except InferenceServerException as error:
            if says not in (error.message() or "") or (status and status not in str(error.status())):
                raise AssertionError(f"expected {status} {says!r}, got {error.status()} {error.message()!r}") from error
            return
        raise AssertionError(f"expected a refusal with {says!r}, got {answer!r}")

    def _status(self, http: int, grpc: str) -> str:
        return f"StatusCode.{grpc}" if self.is_grpc else str(http)

    # --- Health, metadata ---------------------------------------------------------------------------------------------

    async def health(self) -> None:
        """Live, ready, by model and version."""
        assert await self.client.is_server_live()
        assert await self.client.is_server_ready()
        assert await self.client.is_model_ready("simple")
        assert await self.client.is_model_ready("versioned", "2")

    async def health_of_an_unknown_model(self) -> None:
        """It is not ready; over gRPC the client hands on the error."""
        if self.is_grpc:
            await self._refused(
                self.client.is_model_ready("none"), says="Request for unknown model", status="NOT_FOUND"
            )
        else:
            assert not await self.client.is_model_ready("none")

    async def server_metadata(self) -> None:
        """The example `*_health_metadata`: the name is `triton` (here: configured so)."""
        metadata = await self.client.get_server_metadata(**self.json)
        assert metadata["name"] == "triton", metadata
        assert metadata["version"]
        missing = EXTENSIONS - set(metadata["extensions"])
        assert not missing, f"extensions without {sorted(missing)}"

    async def model_metadata(self) -> None:
        """Names, datatypes, shapes, versions."""
        metadata = await self.client.get_model_metadata("simple", **self.json)
        assert (metadata["name"], metadata["versions"]) == ("simple", ["1"]), metadata
        told = [(t["name"], t["datatype"], [int(n) for n in t["shape"]]) for t in metadata["inputs"]]
        assert told == [("INPUT0", "INT32", [-1, 16]), ("INPUT1", "INT32", [-1, 16])], told
        told = [(t["name"], t["datatype"], [int(n) for n in t["shape"]]) for t in metadata["outputs"]]
        assert told == [("OUTPUT0", "INT32", [-1, 16]), ("OUTPUT1", "INT32", [-1, 16])], told
        versions = (await self.client.get_model_metadata("versioned", **self.json))["versions"]
        assert sorted(versions) == ["1", "2"], versions

    async def metadata_of_an_unknown_model(self) -> None:
        """The phrase that the example `*_health_metadata` looks for at the start of the text."""
        await self._refused(
            self.client.get_model_metadata("wrong_model_name"),
            says="Request for unknown model",
            status=self._status(404, "NOT_FOUND"),
        )
        try:
            await self.client.get_model_metadata("wrong_model_name")
        except InferenceServerException as error:
            assert error.message().startswith("Request for unknown model"), error.message()

    async def model_config(self) -> None:
        """The example `*_model_control` and `perf_analyzer` read it: name, inputs, outputs."""
        config = await self.client.get_model_config("simple", **self.json)
        config = config["config"] if self.is_grpc else config
        assert config["name"] == "simple", config
        told = [(t["name"], t["data_type"]) for t in config["input"]]
        assert told == [("INPUT0", "TYPE_INT32"), ("INPUT1", "TYPE_INT32")], told
        assert [t["name"] for t in config["output"]] == ["OUTPUT0", "OUTPUT1"], config
        assert int(config.get("max_batch_size", 0)) >= 0
        await self._refused(self.client.get_model_config("none"), says="Request for unknown model")

    # --- Inference ----------------------------------------------------------------------------------------------------

    async def infer(self) -> None:
        """The example `simple_*_infer_client`: both outputs, the request's id."""
        inputs, left, right = self._simple()
        result = await self.client.infer("simple", inputs, request_id="a-1")
        assert np.array_equal(result.as_numpy("OUTPUT0"), left + right)
        assert np.array_equal(result.as_numpy("OUTPUT1"), left - right)
        response = result.get_response(**self.json)
        assert (response["id"], response["model_name"], response["model_version"]) == ("a-1", "simple", "1"), response

    async def infer_one_output(self) -> None:
        """Only what is asked for comes back."""
        inputs, left, right = self._simple()
        result = await self.client.infer("simple", inputs, outputs=[self._output("OUTPUT1")])
        assert result.as_numpy("OUTPUT0") is None
        assert np.array_equal(result.as_numpy("OUTPUT1"), left - right)

    async def infer_json(self) -> None:
        """Tensors in JSON, both ways and each way."""
        if self.is_grpc:
            return
        for there in (False, True):
            for back in (False, True):
                inputs, left, right = self._simple(binary=there)
                outputs = [self._output(name, binary=back) for name in ("OUTPUT0", "OUTPUT1")]
                result = await self.client.infer("simple", inputs, outputs=outputs)
                assert np.array_equal(result.as_numpy("OUTPUT0"), left + right)
                assert np.array_equal(result.as_numpy("OUTPUT1"), left - right)

    async def infer_versions(self) -> None:
        """The version that is asked for runs; without one, the newest."""
        ones = np.ones((2, 4), dtype=np.float32)
        for version, factor in (("1", 1.0), ("2", 2.0), ("", 2.0)):
            result = await self.client.infer("versioned", [self._input("INPUT0", "FP32", ones)], model_version=version)
            assert np.array_equal(result.as_numpy("OUTPUT0"), ones * factor), version
        await self._refused(
            self.client.infer("versioned", [self._input("INPUT0", "FP32", ones)], model_version="9"),
            says="Request for unknown model",
            status=self._status(404, "NOT_FOUND"),
        )

    async def every_datatype(self) -> None:
        """Values at both ends of each range come back."""
        for datatype, dtype in DTYPES.items():
            if datatype == "BOOL":
                values = np.array([[True, False, True]])
            elif datatype in ("FP16", "BF16", "FP32", "FP64"):
                values = np.array([[0.0, -1.5, np.inf, np.nan, 2.0**-14]], dtype=dtype)
            else:
                ends = np.iinfo(dtype)
                values = np.array([[ends.min, 0, ends.max]], dtype=dtype)
            name = f"identity_{datatype.lower()}"
            result = await self.client.infer(name, [self._input("INPUT0", datatype, values)])
            got = result.as_numpy("OUTPUT0")
            assert got.dtype == values.dtype and got.shape == values.shape, f"{datatype}: {got.dtype} {got.shape}"
            assert got.tobytes() == values.tobytes(), f"{datatype}: {got}"

    async def every_datatype_in_json(self) -> None:
        """The same as JSON, but for FP16 and BF16, which have no such form."""
        if self.is_grpc:
            return
        for datatype, dtype in DTYPES.items():
            if datatype in ("FP16", "BF16"):
                continue
            if datatype == "BOOL":
                values = np.array([[True, False]])
            elif datatype.startswith("FP"):
                values = np.array([[0.1, -1e-30, 3.4e38]], dtype=dtype)
            else:
                values = np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max]], dtype=dtype)
            name = f"identity_{datatype.lower()}"
            one = self._input("INPUT0", datatype, values, binary=False)
            result = await self.client.infer(name, [one], outputs=[self._output("OUTPUT0", binary=False)])
            got = result.as_numpy("OUTPUT0")
            assert got.dtype == values.dtype and np.array_equal(got, values), f"{datatype}: {got}"

    async def strings(self) -> None:
        """The example `simple_*_string_infer_client`: numbers as text, added and subtracted."""
        left = np.arange(16, dtype=np.int32)
        texts = np.array([str(n).encode() for n in left], dtype=np.object_).reshape(1, 16)
        ones = np.array([b"1"] * 16, dtype=np.object_).reshape(1, 16)
        for binary in (True, False):
            inputs = [self._input(n, "BYTES", v, binary=binary) for n, v in (("INPUT0", texts), ("INPUT1", ones))]
            outputs = [self._output(n, binary=binary) for n in ("OUTPUT0", "OUTPUT1")]
            result = await self.client.infer("simple_string", inputs, outputs=outputs)
            for name, wanted in (("OUTPUT0", left + 1), ("OUTPUT1", left - 1)):
                got = [int(value) for value in result.as_numpy(name).reshape(-1)]
                assert got == wanted.tolist(), (name, got)

    async def strings_of_any_kind(self) -> None:
        """Empty ones, Unicode, and text that holds a zero."""
        texts = np.array([["", "ünï", "日本"], ["a\0b", " ", "x" * 3000]], dtype=np.object_)
        values = np.array([[t.encode() for t in row] for row in texts], dtype=np.object_)
        result = await self.client.infer("simple_identity", [self._input("INPUT0", "BYTES", values)])
        got = result.as_numpy("OUTPUT0")
        assert got.tolist() == values.tolist(), got

    async def int8(self) -> None:
        """The example `grpc_explicit_int8_content_client`, as a stock client sends it."""
        left = np.arange(16, dtype=np.int8).reshape(1, 16)
        inputs = [self._input(n, "INT8", v) for n, v in (("INPUT0", left), ("INPUT1", np.ones_like(left)))]
        result = await self.client.infer("simple_int8", inputs)
        assert np.array_equal(result.as_numpy("OUTPUT0"), left + 1)

    async def zero_rows_and_many(self) -> None:
        """No row at all; and 4 MB in one tensor."""
        for shape in ((0, 7), (1000, 1000)):
            values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
            result = await self.client.infer("identity_fp32", [self._input("INPUT0", "FP32", values)])
            assert np.array_equal(result.as_numpy("OUTPUT0"), values), shape

    async def parameters(self) -> None:
        """Parameters of one's own are accepted; the reserved ones are the client's."""
        inputs, left, right = self._simple()
        result = await self.client.infer("simple", inputs, parameters={"a": "text", "b": 3, "c": True})
        assert np.array_equal(result.as_numpy("OUTPUT0"), left + right)

    async def headers_and_query(self) -> None:
        """Headers, and over HTTP a query, mean nothing to the server and do no harm."""
        options: dict[str, Any] = {"headers": {"x-own": "1"}}
        if not self.is_grpc:
            options["query_params"] = {"a": "1", "b": "x y"}
        inputs, left, right = self._simple()
        result = await self.client.infer("simple", inputs, **options)
        assert np.array_equal(result.as_numpy("OUTPUT0"), left + right)
        assert await self.client.is_server_live(**options)

    async def compression(self) -> None:
        """Both algorithms, of the request and of the reply."""
        values = np.zeros((200, 100), dtype=np.float32)
        for algorithm in ("gzip", "deflate"):
            options: list[dict[str, str]] = [{"compression_algorithm": algorithm}]
            if not self.is_grpc:
                request = {"request_compression_algorithm": algorithm}
                response = {"response_compression_algorithm": algorithm}
                options = [request, response, {**request, **response}]
            for option in options:
                result = await self.client.infer("identity_fp32", [self._input("INPUT0", "FP32", values)], **option)
                assert np.array_equal(result.as_numpy("OUTPUT0"), values), option

    async def priority_and_timeout(self) -> None:
        """The schedule_policy extension: microseconds; what is late is not run."""
        inputs, left, right = self._simple()
        result = await self.client.infer("simple", inputs, priority=1, timeout=60_000_000)
        assert np.array_equal(result.as_numpy("OUTPUT0"), left + right)
        await self._refused(
            self.client.infer("simple", inputs, timeout=1), says="", status=self._status(504, "DEADLINE_EXCEEDED")
        )

    async def classification(self) -> None:
        """The example `image_client`: the best classes as `value:index:label`."""
        scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.125, 0.25]], dtype=np.float32)
        one = self._input("INPUT0", "FP32", scores)
        result = await self.client.infer("scores", [one], outputs=[self._output("OUTPUT0", class_count=2)])
        got = [[cell.decode().split(":") for cell in row] for row in result.as_numpy("OUTPUT0")]
        assert [[cell[1:] for cell in row] for row in got] == [
            [["1", "middle"], ["2", "high"]],
            [["0", "low"], ["2", "high"]],
        ], got
        told = [[float(cell[0]) for cell in row] for row in got]
        assert np.allclose(told, [[0.7, 0.2], [0.5, 0.25]], atol=1e-6), told

    async def many_at_once(self) -> None:
        """Sixty-four requests side by side, each with its own answer."""

        async def one(n: int) -> bool:
            values = np.full((1, 8), n, dtype=np.int64)
            result = await self.client.infer("identity_int64", [self._input("INPUT0", "INT64", values)])
            return bool(np.array_equal(result.as_numpy("OUTPUT0"), values))

        assert all(await asyncio.gather(*(one(n) for n in range(64))))

    # --- Errors -------------------------------------------------------------------------------------------------------

    async def refusals(self) -> None:
        """What a client can change is told with 400 / INVALID_ARGUMENT, and an unknown model with 404 / NOT_FOUND."""
        bad = self._status(400, "INVALID_ARGUMENT")
        inputs, left, _ = self._simple()
        infer = self.client.infer
        unknown = self._status(404, "NOT_FOUND")
        await self._refused(infer("none", inputs), says="Request for unknown model", status=unknown)
        await self._refused(infer("simple", inputs[:1]), says="INPUT1", status=bad)
        await self._refused(infer("simple", [*inputs, inputs[0]]), says="INPUT0", status=bad)
        await self._refused(infer("simple", inputs, outputs=[self._output("OUTPUT9")]), says="OUTPUT9", status=bad)
        other = self._input("INPUT0", "INT32", left[:, :8])
        await self._refused(infer("simple", [other, inputs[1]]), says="[1, 8]", status=bad)
        floats = self._input("INPUT0", "FP32", left.astype(np.float32))
        await self._refused(infer("simple", [floats, inputs[1]]), says="FP32", status=bad)
        stranger = self._input("INPUT9", "INT32", left)
        await self._refused(infer("simple", [stranger, inputs[1]]), says="INPUT9", status=bad)

    async def what_is_not_there(self) -> None:
        """Shared memory, traces, log settings: what is shown is true, a change is refused in so many words."""
        regions = await self.client.get_system_shared_memory_status(**self.json)
        assert not (regions.get("regions") if self.is_grpc else regions), regions
        traces = await self.client.get_trace_settings(**self.json)
        level = traces["settings"]["trace_level"]["value"] if self.is_grpc else traces["trace_level"]
        assert level == ["OFF"], traces
        logs = await self.client.get_log_settings(**self.json)
        assert (logs["settings"] if self.is_grpc else logs)["log_error"], logs
        status = self._status(501, "UNIMPLEMENTED")
        register = self.client.register_system_shared_memory("region", "/key", 64)
        await self._refused(register, says="not supported", status=status)
        traced = self.client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})
        await self._refused(traced, says="not supported", status=status)
        logged = self.client.update_log_settings({"log_verbose_level": 1})
        await self._refused(logged, says="not supported", status=status)

    # --- Repository, statistics ---------------------------------------------------------------------------------------

    async def statistics(self) -> None:
        """The statistics extension: requests and rows are counted, and times with them."""

        async def told() -> dict[str, Any]:
            answer = await self.client.get_inference_statistics("identity_uint16", **self.json)
            (stats,) = answer["model_stats"]
            return dict(stats)

        def count(stats: dict[str, Any], name: str) -> int:
            return int(stats.get(name, 0))

        before = await told()
        values = np.zeros((5, 2), dtype=np.uint16)
        for _ in range(3):
            await self.client.infer("identity_uint16", [self._input("INPUT0", "UINT16", values)])
        after = await told()
        assert count(after, "inference_count") - count(before, "inference_count") == 15, (before, after)
        assert 1 <= count(after, "execution_count") - count(before, "execution_count") <= 3, (before, after)
        success = after["inference_stats"]["success"]
        assert count(success, "count") - count(before.get("inference_stats", {}).get("success", {}), "count") == 3
        assert count(success, "ns") > 0 and count(after, "last_inference") > 0, after
        for kind in ("queue", "compute_infer"):
            assert count(after["inference_stats"][kind], "count") > 0, after
        everything = await self.client.get_inference_statistics(**self.json)
        names = {stats["name"] for stats in everything["model_stats"]}
        assert {"simple", "versioned", "identity_uint16"} <= names, names
        await self._refused(self.client.get_inference_statistics("none"), says="Request for unknown model")

    async def repository_index(self) -> None:
        """Every model and version with its state."""
        index = await self.client.get_model_repository_index(**self.json)
        models = index["models"] if self.is_grpc else index
        states = {(m["name"], m.get("version", "")): m["state"] for m in models if m.get("state")}
        assert states[("simple", "1")] == "READY", states
        assert states[("versioned", "1")] == states[("versioned", "2")] == "READY", states

    async def load_and_unload(self) -> None:
        """The example `simple_*_model_control`: load, infer, unload, refused; what does not exist is told."""
        twos = np.full((1, 4), 2, dtype=np.float32)

        def infer() -> Awaitable[Any]:
            result: Awaitable[Any] = self.client.infer("late", [self._input("INPUT0", "FP32", twos)])
            return result

        unknown = self._status(404, "NOT_FOUND")
        await self._refused(infer(), says="Request for unknown model", status=unknown)
        await self.client.load_model("late")
        assert await self.client.is_model_ready("late")
        assert np.array_equal((await infer()).as_numpy("OUTPUT0"), twos * 3)
        await self.client.load_model("late")  # again: reloaded
        assert np.array_equal((await infer()).as_numpy("OUTPUT0"), twos * 3)
        await self.client.unload_model("late")
        await self._refused(infer(), says="late")
        if not self.is_grpc:
            assert not await self.client.is_model_ready("late")
        await self._refused(self.client.load_model("wrong_model_name"), says="wrong_model_name")

    # --- What only one kind of client has -----------------------------------------------------------------------------

    async def plain_async_infer(self) -> None:
        """The examples `simple_*_async_infer_client`: handles over HTTP, callbacks over gRPC."""
        if self.kind.endswith("aio"):
            return
        inputs, left, right = self._simple()
        plain = self.client.plain
        if self.kind == "http":
            handles = [plain.async_infer("simple", inputs) for _ in range(16)]
            results = [handle.get_result() for handle in handles]
        else:
            loop = asyncio.get_running_loop()
            queue: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()

            def done(result: Any, error: Any) -> None:
                loop.call_soon_threadsafe(queue.put_nowait, (result, error))

            for _ in range(16):
                plain.async_infer("simple", inputs, done)
            results = []
            for _ in range(16):
                result, error = await asyncio.wait_for(queue.get(), 60)
                assert error is None, error
                results.append(result)
        assert all(np.array_equal(result.as_numpy("OUTPUT0"), left + right) for result in results)

    async def stream(self) -> None:
        """`ModelStreamInfer`: each request has an answer, in order; an error in one does not end the stream."""
        if not self.is_grpc:
            return
        inputs = [[self._input("INPUT0", "INT64", np.full((1, 2), n, dtype=np.int64))] for n in range(20)]
        names = ["identity_int64"] * 20
        names[7] = "none"
        answers: list[tuple[Any, Any]] = []
        if self.kind == "grpc.aio":

            async def requests() -> Any:
                for n, name in enumerate(names):
                    yield {"model_name": name, "inputs": inputs[n], "request_id": str(n)}

            async for answer in self.client.stream_infer(requests()):
                answers.append(answer)
        else:
            loop = asyncio.get_running_loop()
            queue: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()
            client = self.module.InferenceServerClient(self.address)
            client.start_stream(lambda result, error: loop.call_soon_threadsafe(queue.put_nowait, (result, error)))
            for n, name in enumerate(names):
                client.async_stream_infer(name, inputs[n], request_id=str(n))
            for _ in names:
                answers.append(await asyncio.wait_for(queue.get(), 60))
            await asyncio.to_thread(client.stop_stream)
        assert len(answers) == len(names), len(answers)
        for n, (result, error) in enumerate(answers):
            if n == 7:
                assert error is not None and "Request for unknown model" in str(error), error
                continue
            assert error is None, error
            assert result.get_response().id == str(n), (n, result.get_response().id)
            assert result.as_numpy("OUTPUT0").tolist() == [[n, n]], n

    async def typed_contents(self) -> None:
        """The example `grpc_explicit_int_content_client`: typed in, raw out; both at once is refused in its words."""
        if self.kind != "grpc":
            return
        import grpc
        from tritonclient.grpc import service_pb2, service_pb2_grpc

        stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(self.address))
        request = service_pb2.ModelInferRequest(model_name="simple")
        for name in ("INPUT0", "INPUT1"):
            one = request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
            one.contents.int_contents.extend(range(16))
        reply = await asyncio.to_thread(stub.ModelInfer, request)
        got = np.frombuffer(reply.raw_output_contents[0], dtype=np.int32)
        assert np.array_equal(got, np.arange(16) * 2), got
        request.raw_input_contents.extend([reply.raw_output_contents[0]])
        try:
            await asyncio.to_thread(stub.ModelInfer, request)
        except grpc.RpcError as error:
            words = "contents field must not be specified when using raw_input_contents for 'INPUT0' for model 'simple'"
            assert words in error.details(), error.details()
            return
        raise AssertionError("raw and typed contents at once are not refused")

    async def cancelled(self) -> None:
        """The example `client_cancellation_test`: a call that is cancelled, and the server goes on."""
        if self.kind != "grpc":
            return
        inputs, left, right = self._simple()
        for _ in range(20):
            self.client.plain.async_infer("simple", inputs, lambda result, error: None).cancel()
        result = await self.client.infer("simple", inputs)
        assert np.array_equal(result.as_numpy("OUTPUT0"), left + right)

    async def bodies_by_hand(self) -> None:
        """`generate_request_body` and `parse_response_body`, for whoever brings a transport of their own."""
        if self.kind != "http":
            return
        import urllib.request

        inputs, left, right = self._simple()
        kind = self.module.InferenceServerClient
        body, length = kind.generate_request_body(inputs)
        headers = {"Inference-Header-Content-Length": str(length)}
        request = urllib.request.Request(f"http://{self.address}/v2/models/simple/infer", body, headers)

        def send() -> Any:
            with urllib.request.urlopen(request, timeout=60) as reply:
                size = reply.headers.get("Inference-Header-Content-Length")
                return kind.parse_response_body(reply.read(), header_length=int(size))

        result = await asyncio.to_thread(send)
        assert np.array_equal(result.as_numpy("OUTPUT0"), left + right)


async def run(kind: str, address: str, report: Report) -> None:
    """Every check of one client."""
    checks = Checks(kind, address, report)
    names = [name for name in vars(Checks) if not name.startswith("_")]
    for name in names:
        try:
            await asyncio.wait_for(getattr(checks, name)(), 120)
            report.ok()
        except Exception as error:  # whatever a client raises is its answer
            report.failed(f"tritonclient.{kind} {name}: {type(error).__name__}: {error}")
    await checks.client.close()


def main() -> int:
    """Run the checks; the exit status."""
    kind, address = sys.argv[1:]
    report = Report(f"tritonclient.{kind}")
    asyncio.run(run(kind, address, report))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
