"""Lets stock clients, unmodified and each in an environment of its own, use a running server.

Usage: python -m oip.stock --server target/release/plumbline-model-server --triton PYTHON --kserve PYTHON --grpcurl FILE
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from . import grpcurl, models
from .server import PATIENCE, Server

CLIENTS = pathlib.Path(__file__).resolve().parents[1] / "clients"
TRITON_CLIENTS = ("http", "grpc", "http.aio", "grpc.aio")


def main() -> int:
    """Start the server, run the clients; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=pathlib.Path, required=True, help="the server's binary")
    parser.add_argument("--triton", type=pathlib.Path, help="Python with tritonclient")
    parser.add_argument("--kserve", type=pathlib.Path, help="Python with kserve")
    parser.add_argument("--grpcurl", type=pathlib.Path, help="grpcurl")
    options = parser.parse_args()
    if not (options.triton or options.kserve or options.grpcurl):
        parser.error("name at least one client")
    failed = False
    with tempfile.TemporaryDirectory() as root:
        names = models.repository(pathlib.Path(root))
        arguments = ["--model-repository", root, "--model-control", "explicit", "--server-name", "triton"]
        arguments += [argument for name in names for argument in ("--load-model", name)]
        with Server(options.server, *arguments) as server:
            for kind in TRITON_CLIENTS if options.triton else ():
                failed |= client(options.triton, "triton.py", kind, server.address)
            if options.kserve:
                with empty(options.server) as other:
                    failed |= client(options.kserve, "kserve_clients.py", server.address, "--not-ready", other.address)
            if options.grpcurl:
                failed |= grpcurl.check(options.grpcurl, server.address)
    return 1 if failed else 0


@contextlib.contextmanager
def empty(binary: pathlib.Path) -> Iterator[Server]:
    """A server that serves no model and is therefore not ready."""
    with tempfile.TemporaryDirectory() as root:
        models.write(pathlib.Path(root), "unused", models.scaled(1.0))
        arguments = ("--model-repository", root, "--model-control", "explicit", "--ready-without-models", "false")
        with Server(binary, *arguments, wait_for_models=False) as server:
            yield server


def client(python: pathlib.Path, script: str, *arguments: str) -> bool:
    """Run a client's script; whether it failed."""
    environment = {**os.environ, "PYTHONPATH": str(CLIENTS.parent)}
    command = [str(python), str(CLIENTS / script), *arguments]
    return subprocess.run(command, env=environment, timeout=10 * PATIENCE, check=False).returncode != 0


if __name__ == "__main__":
    sys.exit(main())
