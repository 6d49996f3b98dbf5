"""The server under test: the real binary, on ports of its own choice."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import threading
import time
import urllib.request
from types import TracebackType
from typing import Any, NoReturn

#: Seconds for what takes one or two when the machine is not busy.
PATIENCE = 180.0


class ServerEndedError(Exception):
    """The server ended before it was ready; the text is what it wrote."""


class Server:
    """A running server; `with Server(binary, "--model", "x=...") as server`. Leaving asserts that it ends cleanly."""

    def __init__(self, binary: pathlib.Path, *arguments: str, wait_for_models: bool = True) -> None:
        command = [str(binary), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json"]
        command += ["--drain-delay", "0s", *arguments]
        self._log: list[bytes] = []
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._ports: dict[str, str] = {}
        self._listening = threading.Event()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        # An event: the line that tells the port, or the end of the program.
        if not self._listening.wait(PATIENCE) or "data" not in self._ports:
            self._fail()
        if wait_for_models:
            self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # 503 until the initial load has ended
                urllib.request.urlopen(f"http://{self.address}/v2/health/ready", timeout=PATIENCE).close()
                return
            if self._ended.wait(0.05):
                break
        self._fail()

    def _fail(self) -> NoReturn:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        raise ServerEndedError(self.log())

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.append(line)
            with contextlib.suppress(ValueError):
                fields = _fields(line)
                if fields.get("message") == "listening":
                    self._ports[fields["port"]] = fields["address"]
                    if fields["port"] == "data":
                        self._listening.set()
        self._ended.set()
        self._listening.set()

    @property
    def address(self) -> str:
        """`host:port` of the data port: REST and gRPC."""
        return self._ports["data"]

    @property
    def admin(self) -> str:
        """`host:port` of the admin port."""
        return self._ports["admin"]

    @property
    def process_id(self) -> int:
        """Of the server."""
        return self._process.pid

    def metrics(self) -> str:
        """The admin port's `/metrics`."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=PATIENCE) as reply:
            text: str = reply.read().decode()
            return text

    def log(self) -> str:
        """All that the server wrote so far."""
        return b"".join(self._log).decode(errors="replace")

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self._process.terminate()
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join()
        return status

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = self.stop()
        if status != 0 and error is None:
            raise ServerEndedError(f"the server ended with status {status} after SIGTERM:\n{self.log()[-4000:]}")


def _fields(line: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(line)
    return {**entry, **entry.get("fields", {})}
