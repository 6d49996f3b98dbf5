"""A V2 REST client of its own: it shares no code with the server or with the stock clients."""

from __future__ import annotations

import contextlib
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from . import tensors
from .server import PATIENCE
from .tensors import Tensor

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Reply:
    """An HTTP reply; `headers` has lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, which has to be JSON (or JSON with the literals `NaN` and `Infinity`)."""
        return json.loads(self.body)


class RefusedError(Exception):
    """The server answered with an error."""


class Rest:
    """One kept-alive connection to a server; not for several threads."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=PATIENCE)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Reply:
        """Any request, and its reply whatever its status is."""
        try:
            return self._send(method, path, body, headers)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # Kept alive for longer than the server cares to, or refused before all of the body was sent.
            return self._send(method, path, body, headers)

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str] | None) -> Reply:
        try:
            # The reply may come, and the connection end, before all of the body is sent: of one that is too large.
            with contextlib.suppress(BrokenPipeError):
                self._connection.request(method, path, body or None, headers or {})
            reply = self._connection.getresponse()
            content = reply.read()
        except Exception:
            self._connection.close()  # the next request begins anew
            raise
        return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, content)

    def infer_json(self, model: str, inputs: list[Tensor], **members: Any) -> list[Tensor]:
        """All tensors in JSON, both ways."""
        body = json.dumps({"inputs": [tensors.to_json(one) for one in inputs], **members})
        return self._infer(model, body.encode(), {})

    def infer_binary(self, model: str, inputs: list[Tensor], **members: Any) -> list[Tensor]:
        """All tensors behind the JSON, both ways."""
        raw = [tensors.to_raw(one) for one in inputs]
        described = [
            {
                "name": one.name,
                "datatype": one.datatype,
                "shape": one.shape,
                "parameters": {"binary_data_size": len(bytes_)},
            }
            for one, bytes_ in zip(inputs, raw, strict=True)
        ]
        head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}, **members}).encode()
        return self._infer(model, head + b"".join(raw), {HEADER_LENGTH: str(len(head))})

    def _infer(self, model: str, body: bytes, headers: dict[str, str]) -> list[Tensor]:
        reply = self.send("POST", f"/v2/models/{quote(model, safe='')}/infer", body, headers)
        if reply.status != 200:
            raise RefusedError(f"{reply.status} {reply.body.decode(errors='replace')}")
        return outputs_of(reply)


def outputs_of(reply: Reply) -> list[Tensor]:
    """The outputs of an inference reply, with or without binary tensors."""
    length = reply.headers.get(HEADER_LENGTH.lower())
    if length is None:
        return [tensors.from_json(output) for output in reply.json()["outputs"]]
    outputs, offset = [], int(length)
    for output in json.loads(reply.body[:offset])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            outputs.append(tensors.from_json(output))
            continue
        raw = reply.body[offset : offset + size]
        offset += size
        outputs.append(tensors.from_raw(output["name"], output["datatype"], output["shape"], raw))
    if offset != len(reply.body):
        raise ValueError(f"{len(reply.body) - offset} bytes behind the last output")
    return outputs
