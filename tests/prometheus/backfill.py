#!/usr/bin/env python3
"""Alerts that fire and are over while the worker is gone: backfill.py --worker W [--outage SECONDS].

A real Prometheus evaluates rules, a real Alertmanager tells the worker. It is killed; alerts fire and end; it comes
back. In the end it has each alert once, those that ended meanwhile as well, and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from live import end, get, wait_for

# Seconds between two evaluations; an alert of this test lasts at least three of them.
INTERVAL = 1
SHORT = 3 * INTERVAL

failing: dict[str, int] = {}
"""Value of the metric by pod; the rule fires above 0."""


class Metrics(BaseHTTPRequestHandler):
    """What Prometheus scrapes."""

    def do_GET(self) -> None:
        """Every pod's value."""
        body = "".join(f'failing{{pod="{pod}"}} {value}\n' for pod, value in sorted(failing.items())).encode()
        with contextlib.suppress(BrokenPipeError):
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


def free() -> int:
    """A port that nobody has."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Worker:
    """The worker, that comes and goes on one address."""

    def __init__(self, program: Path, work: Path, prometheus: int) -> None:
        """Nothing runs yet."""
        self.port, self.work = free(), work
        self.command = [program, "--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{free()}"]
        self.command += ["--store", work / "worker.db", "--prometheus", f"http://127.0.0.1:{prometheus}"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Runs until it answers."""
        with (self.work / "worker.log").open("a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        wait_for("the worker answers", self.answers)

    def answers(self) -> bool:
        """Whether its list of incidents can be had."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise SystemExit(f"the worker ended: {(self.work / 'worker.log').read_text()}")
        with contextlib.suppress(OSError):
            self.page("/api/v1/incidents")
            return True
        return False

    def kill(self) -> None:
        """Without a word."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def page(self, path: str) -> Any:
        """A page as JSON."""
        return json.loads(get(f"127.0.0.1:{self.port}", path))

    def alerts(self) -> dict[str, list[tuple[str, str]]]:
        """Origin and status of each alert, by pod."""
        alerts: dict[str, list[tuple[str, str]]] = {}
        for incident in self.page("/api/v1/incidents")["incidents"]:
            for told in self.page(f"/api/v1/incidents/{incident['id']}")["signals"]:
                alerts.setdefault(told["body"]["labels"]["pod"], []).append((told["origin"], told["status"]))
        return alerts


@contextlib.contextmanager
def running(name: str, command: list[str], port: int, log: Path) -> Iterator[None]:
    """A server until the end of the block."""
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)

    def is_ready() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"{name} ended with {process.returncode}: {log.read_text()}")
        with contextlib.suppress(OSError, SystemExit):
            return bool(get(f"127.0.0.1:{port}", "/-/ready"))
        return False

    try:
        wait_for(f"{name} is ready", is_ready)
        yield
    finally:
        end(process)


def configure(work: Path, scraped: int, alertmanager: int, worker: int) -> None:
    """Both servers' files. JSON is YAML."""
    rule = {
        "alert": "ScorerFails",
        # On a busy machine a scrape fails now and then; that is not the end of an alert.
        "expr": "last_over_time(failing[15s]) > 0",
        "labels": {"service": "scorer", "severity": "critical"},
        "annotations": {"summary": "{{ $labels.pod }} fails"},
    }
    rules = {"groups": [{"name": "test", "interval": f"{INTERVAL}s", "rules": [rule]}]}
    (work / "rules.yaml").write_text(json.dumps(rules))
    prometheus = {
        # External labels are Alertmanager's only: the worker has to know the alert again without them.
        "global": {
            "scrape_interval": f"{INTERVAL}s",
            "evaluation_interval": f"{INTERVAL}s",
            "external_labels": {"prometheus": "one"},
        },
        "rule_files": ["rules.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
        "scrape_configs": [{"job_name": "pods", "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}],
    }
    (work / "prometheus.yaml").write_text(json.dumps(prometheus))
    route = {"receiver": "worker", "group_by": ["alertname", "pod"], "group_wait": "0s", "group_interval": "1s"}
    webhook = {"url": f"http://127.0.0.1:{worker}/api/v1/alerts", "send_resolved": True}
    receivers = [{"name": "worker", "webhook_configs": [webhook]}]
    alertmanager_config = {"route": {**route, "repeat_interval": "1h"}, "receivers": receivers}
    (work / "alertmanager.yaml").write_text(json.dumps(alertmanager_config))


def main() -> None:
    """Run the test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", type=Path, required=True)
    parser.add_argument("--outage", type=float, default=20.0, help="seconds for which the worker is gone")
    options = parser.parse_args()
    found = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if not found:
        raise SystemExit("no Alertmanager on the PATH")
    metrics = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=metrics.serve_forever, daemon=True).start()
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prometheus, alertmanager = free(), free()
        worker = Worker(options.worker.resolve(), work, prometheus)
        configure(work, metrics.server_address[1], alertmanager, worker.port)
        of_alertmanager = [
            f"--config.file={work}/alertmanager.yaml",
            f"--storage.path={work}/alertmanager",
            f"--web.listen-address=127.0.0.1:{alertmanager}",
            "--cluster.listen-address=",
        ]
        stack.enter_context(running("Alertmanager", [found, *of_alertmanager], alertmanager, work / "alertmanager.log"))
        of_prometheus = [
            f"--config.file={work}/prometheus.yaml",
            f"--storage.tsdb.path={work}/tsdb",
            f"--web.listen-address=127.0.0.1:{prometheus}",
        ]
        stack.enter_context(running("Prometheus", ["prometheus", *of_prometheus], prometheus, work / "prometheus.log"))

        def fires(pod: str) -> bool:
            """Whether Prometheus has the alert."""
            alerts = json.loads(get(f"127.0.0.1:{prometheus}", "/api/v1/alerts"))["data"]["alerts"]
            return any(alert["labels"]["pod"] == pod for alert in alerts)

        def change(pod: str, value: int) -> None:
            failing[pod] = value
            wait_for(f"{pod} is {value}", lambda: fires(pod) == bool(value))

        worker.start()
        stack.callback(worker.kill)
        change("before", 1)
        wait_for(
            "the worker knows the first alert", lambda: worker.alerts().get("before") == [("alertmanager", "firing")]
        )
        worker.kill()
        gone = time.monotonic()
        change("within", 1)
        change("still", 1)
        time.sleep(SHORT)
        change("within", 0)
        change("before", 0)
        # A second time within the pause.
        time.sleep(SHORT)
        change("within", 1)
        time.sleep(SHORT)
        change("within", 0)
        time.sleep(max(0.0, options.outage - (time.monotonic() - gone)))
        outage = time.monotonic() - gone
        worker.start()

        def is_complete() -> bool:
            known = {pod: sorted(status for _, status in told) for pod, told in worker.alerts().items()}
            return known == {"before": ["resolved"], "within": ["resolved", "resolved"], "still": ["firing"]}

        wait_for("the worker knows all alerts", is_complete)
        # Whatever Alertmanager has still to tell.
        time.sleep(5 * INTERVAL)
        if not is_complete():
            raise SystemExit(f"the worker has {worker.alerts()}")
        change("still", 0)
        wait_for("the last alert is over", lambda: [status for _, status in worker.alerts()["still"]] == ["resolved"])
        alerts = worker.alerts()
        if [origin for origin, _ in alerts["within"]] != ["backfilled", "backfilled"]:
            raise SystemExit(f"alerts that only Prometheus knew are not marked: {alerts}")
        for pod, told in sorted(alerts.items()):
            print(f"{pod}: {', '.join(f'{origin} {status}' for origin, status in told)}")
        print(f"gone for {outage:.0f} s: 4 alerts, each once, none lost")


if __name__ == "__main__":
    main()
