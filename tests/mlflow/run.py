"""The worker asks a real MLflow server: run.py --worker W, in the environment of setup-mlflow.sh.

Two versions of a model are registered with their runs, the older one has the alias of what serves; the profile with the
importances is an artifact of its run. All of it has to be in the report of an alert.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from mlflow.tracking import MlflowClient

PATIENCE = 120.0


def start(work: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{work}/mlflow.db", "--artifacts-destination", f"{work}/artifacts"]
    with (work / "mlflow.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=work)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return server, url
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise SystemExit(f"MLflow does not start: {(work / 'mlflow.log').read_text()}") from None
            time.sleep(0.2)


def register(url: str, work: Path) -> None:
    """Two versions of the model `churn`."""
    client = MlflowClient(tracking_uri=url, registry_uri=url)
    experiment = client.create_experiment("churn")
    client.create_registered_model("churn")
    importances = [{"feature": "tenure", "importance": 3.0}, {"feature": "contract", "importance": 1.0}]
    profile = work / "profile.json"
    profile.write_text(json.dumps({"importances": importances}))
    for accuracy, depth in ((0.84, "4"), (math.nan, "6")):
        run = client.create_run(experiment, tags={"team": "ml"})
        run_id = run.info.run_id
        client.log_metric(run_id, "accuracy", accuracy)
        client.log_param(run_id, "depth", depth)
        client.log_artifact(run_id, str(profile))
        client.set_terminated(run_id)
        client.create_model_version("churn", f"runs:/{run_id}/model", run_id, description="weekly")
    client.set_registered_model_alias("churn", "champion", "2")


def evidence(worker: Path, url: str, work: Path, labels: dict[str, str]) -> tuple[str, str]:
    """What the report on an alert has of MLflow, and what it misses."""
    alert = work / "alert.json"
    alert.write_text(json.dumps({"alerts": [{"labels": {"alertname": "AccuracyLow", **labels}}]}))
    command = [worker, "analyze", "--alert", alert, "--format", "json", "--provider", "offline", "--mlflow", url]
    done = subprocess.run(command, capture_output=True, check=True)
    report = json.loads(done.stdout)
    facts = (fact for fact in report["evidence"] if fact["source"] == "mlflow")
    gaps = (gap["reason"] for gap in report["missing"] if gap["source"] == "mlflow")
    return "\n".join(f"{fact['title']}\n{fact['content']}" for fact in facts), "\n".join(gaps)


def expect(text: str, parts: list[str]) -> None:
    """Every part is in the text."""
    missing = [part for part in parts if part not in text]
    if missing:
        raise SystemExit(f"missing: {missing}\nin:\n{text}")


def main() -> None:
    """Run the test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        server, url = start(work)
        try:
            register(url, work)
            facts, _ = evidence(options.worker, url, work, {"model": "churn"})
            expect(
                facts,
                [
                    "version 2 (taken for the one that serves): READY",
                    "aliases champion: weekly",
                    "metric accuracy: NaN (version 1: 0.84)",
                    "parameter depth: 6 (version 1: 4)",
                    "tag team: ml",
                    "tenure: 75.0 % of all",
                    "contract: 25.0 % of all",
                ],
            )
            facts, _ = evidence(options.worker, url, work, {"model": "churn", "model_version": "1"})
            expect(facts, ["version 1 (taken for the one that serves)", "metric accuracy: 0.84"])
            _, gaps = evidence(options.worker, url, work, {"model": "nobody's"})
            expect(gaps, ["status 404"])
            print("versions, runs and importances of a real MLflow server are in the report")
        finally:
            server.terminate()
            server.wait(timeout=30)


if __name__ == "__main__":
    main()
