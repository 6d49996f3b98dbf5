"""What `grpcurl` needs of a server: reflection, which lists and describes, and the standard health service."""

from __future__ import annotations

import json
import pathlib
import subprocess
from typing import Any

from .report import Report
from .server import PATIENCE

SERVICE = "inference.GRPCInferenceService"
RPCS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelStreamInfer",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)


class Grpcurl:
    """The tool and the server that it is pointed at."""

    def __init__(self, tool: pathlib.Path, address: str) -> None:
        self._tool, self._address = tool, address

    def text(self, *arguments: str, data: Any = None) -> str:
        """What it prints; raises with what it complains about."""
        command = [str(self._tool), "-plaintext"]
        command += [] if data is None else ["-d", json.dumps(data)]
        done = subprocess.run(
            [*command, self._address, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"grpcurl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def call(self, method: str, data: Any = None) -> Any:
        """The reply of an RPC, found by reflection."""
        return json.loads(self.text(method, data=data or {}))


def check(tool: pathlib.Path, address: str) -> bool:
    """Run all calls; whether one failed."""
    report = Report("grpcurl")
    curl = Grpcurl(tool, address)

    def lists() -> None:
        services = curl.text("list").split()
        missing = {SERVICE, "grpc.health.v1.Health"} - set(services)
        assert not missing, f"list: {services}"
        rpcs = curl.text("list", SERVICE).split()
        missing = {f"{SERVICE}.{rpc}" for rpc in RPCS} - set(rpcs)
        assert not missing, f"without {sorted(missing)}"

    def describes() -> None:
        text = curl.text("describe", "inference.ModelInferRequest")
        for word in ("string model_name = 1", "raw_input_contents = 7", "InferInputTensor"):
            assert word in text, f"no `{word}` in {text}"
        assert "rpc ModelInfer" in curl.text("describe", SERVICE)
        assert "enum ServingStatus" in curl.text("describe", "grpc.health.v1.HealthCheckResponse")

    def health() -> None:
        for service in ("", SERVICE, "simple"):
            told = curl.call("grpc.health.v1.Health/Check", {"service": service})
            assert told == {"status": "SERVING"}, f"{service!r}: {told}"
        try:
            curl.call("grpc.health.v1.Health/Check", {"service": "none"})
        except RuntimeError as error:
            assert "NotFound" in str(error), error
            return
        raise AssertionError("the health of an unknown service is told")

    def metadata() -> None:
        assert curl.call(f"{SERVICE}/ServerMetadata")["name"] == "triton"
        told = curl.call(f"{SERVICE}/ModelMetadata", {"name": "simple"})
        assert [one["name"] for one in told["inputs"]] == ["INPUT0", "INPUT1"], told
        assert curl.call(f"{SERVICE}/ModelReady", {"name": "simple"}) == {"ready": True}
        assert curl.call(f"{SERVICE}/ServerLive") == {"live": True}

    def infer() -> None:
        one = {"datatype": "INT32", "shape": [1, 16], "contents": {"int_contents": list(range(16))}}
        inputs = [{"name": name, **one} for name in ("INPUT0", "INPUT1")]
        typed = {"binary_data_output": {"bool_param": False}}
        told = curl.call(f"{SERVICE}/ModelInfer", {"model_name": "simple", "inputs": inputs, "parameters": typed})
        (added,) = (output for output in told["outputs"] if output["name"] == "OUTPUT0")
        assert added["contents"]["intContents"] == [2 * n for n in range(16)], told
        told = curl.call(f"{SERVICE}/ModelInfer", {"model_name": "simple", "inputs": inputs})
        assert len(told["rawOutputContents"]) == 2, told

    for name, one in (
        ("list", lists),
        ("describe", describes),
        ("health", health),
        ("metadata", metadata),
        ("infer", infer),
    ):
        report.attempt(f"grpcurl {name}", one)
    return report.finish() != 0
