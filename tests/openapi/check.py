"""Lets schemathesis test a model server against its own OpenAPI document. Usage: check.py SERVER MODELS"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES = "20"
SEED = "7"
PATIENCE = 60  # seconds, on a slow machine


def listening(server: subprocess.Popen) -> str:
    """The data port's address, from the server's log. A server that does not tell it in time is ended."""
    assert server.stderr is not None
    late = threading.Timer(PATIENCE, server.kill)
    late.daemon = True
    late.start()
    for line in server.stderr:
        try:
            entry = json.loads(line)
        except ValueError:
            sys.exit(f"check.py: the server said: {line}")
        fields = entry.get("fields", entry)
        if fields.get("port") == "data" and "listening" in line:
            late.cancel()
            return fields["address"]
    late.cancel()
    sys.exit(f"check.py: the server ended with {server.wait()} before it listened, or had not within {PATIENCE} s")


def wait_until_ready(server: subprocess.Popen, url: str) -> None:
    """Asks until all models are loaded: clients have no other way to know."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10).close()
            return
        except OSError as error:  # 503 while models are loading
            said = error
        if server.poll() is not None:
            sys.exit(f"check.py: the server ended with {server.returncode} before it was ready ({said})")
        if time.monotonic() > end:
            sys.exit(f"check.py: not ready within {PATIENCE} s ({said})")
        time.sleep(0.05)


def main() -> int:
    """Runs it, and ends the server."""
    binary, models = sys.argv[1:]
    command = [binary, "--model-repository", models, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    command += ["--log-format", "json", "--drain-delay", "0"]
    log_file = Path(models).parent / "server.log"
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        url = f"http://{listening(server)}"
        # The rest of the log must not fill the pipe.
        drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=log_file.open("w"))
        wait_until_ready(server, url)
        environment = os.environ | {"PLUMBLINE_URL": url, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
        run = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/v2/openapi.json", "--url", url]
        run += ["--checks", "all", "--max-examples", EXAMPLES, "--seed", SEED, "--continue-on-failure"]
        run += ["--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--warnings", "off"]
        status = subprocess.run(run, env=environment, check=False).returncode
        alive = server.poll() is None
    finally:
        server.terminate()
        ended = server.wait(timeout=PATIENCE)
    drain.wait(timeout=10)
    if not alive or ended != 0:
        print(f"check.py: the server ended with {ended}", file=sys.stderr)
        status = status or 1
    if "panicked" in log_file.read_text():
        print("check.py: the server panicked:\n" + log_file.read_text(), file=sys.stderr)
        status = status or 1
    return status


if __name__ == "__main__":
    sys.exit(main())
