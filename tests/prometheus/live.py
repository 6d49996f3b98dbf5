"""The PSI rules on a real Prometheus that scrapes two sidecars: live.py --plumbline P --sidecar S --rules psi.yaml.

Two replicas get different halves of the traffic; a third sidecar, which Prometheus does not know, gets all of it. The
rule's index over both replicas must be what the third one says of itself (processes younger than the window), and, over
a window that is shorter than their age, the formula's value of the differences of the counters. Both within 1e-9.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import math
import random
import re
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOLERANCE = 1e-9
PATIENCE = 60.0
CONTRACTS = ["monthly", "one year", "two years"]
BATCH = 25
# The window that the replicas outlive within the test.
SHORT = 20

Row = tuple[float, str]
Counts = dict[tuple[str, str], float]


def rows(rng: random.Random, count: int) -> list[Row]:
    """Rows as the reference has them; some have no contract."""
    return [(rng.uniform(0, 72), rng.choice([*CONTRACTS * 6, ""])) for _ in range(count)]


def label(row: Row) -> str:
    """What the model answers."""
    return "yes" if row[0] < 30 and row[1] == "monthly" else "no"


class Model(BaseHTTPRequestHandler):
    """A model server that is always ready and answers V2 JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Ready."""
        self.answer({})

    def do_POST(self) -> None:
        """Predict."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        tensors = {tensor["name"]: tensor["data"] for tensor in body["inputs"]}
        labels = [label(row) for row in zip(tensors["tenure"], tensors["contract"])]
        output = {"name": "label", "datatype": "BYTES", "shape": [len(labels)], "data": labels}
        self.answer({"model_name": "churn", "outputs": [output]})

    def answer(self, content: object) -> None:
        """Send JSON."""
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


class Sidecar:
    """A running sidecar."""

    def __init__(self, program: Path, profile: Path, model: str, log: Path) -> None:
        """Start it and wait until it listens."""
        arguments = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--drain-delay", "0s"]
        # One window for the whole test.
        arguments += [
            "--upstream",
            model,
            "--profile",
            str(profile),
            "--log-format",
            "json",
            "--window-rows",
            "1000000",
        ]
        self.log = log.open("w+")
        self.process = subprocess.Popen([program, *arguments], stderr=self.log)
        self.sent = 0
        self.ports: dict[str, str] = {}
        wait_for(f"{log.name} listens", self.listens)
        self.data = http.client.HTTPConnection(self.ports["data"], timeout=PATIENCE)

    def listens(self) -> bool:
        """Whether it has told both addresses."""
        if self.process.poll() is not None:
            raise SystemExit(f"the sidecar ended with {self.process.returncode}: {Path(self.log.name).read_text()}")
        for line in Path(self.log.name).read_text().splitlines():
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                if told.get("message") == "listening":
                    self.ports[told["port"]] = told["address"]
        return {"data", "admin"} <= self.ports.keys()

    def send(self, some: list[Row]) -> None:
        """Ask for the predictions of rows."""
        inputs = [
            {"name": "tenure", "datatype": "FP32", "shape": [len(some)], "data": [row[0] for row in some]},
            {"name": "contract", "datatype": "BYTES", "shape": [len(some)], "data": [row[1] for row in some]},
        ]
        headers = {"content-type": "application/json"}
        self.data.request("POST", "/v2/models/churn/infer", json.dumps({"inputs": inputs}), headers)
        answer = self.data.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"no prediction: {answer.status} {body!r}")
        self.sent += len(some)

    def page(self, path: str) -> str:
        """A page of the admin port."""
        return get(self.ports["admin"], path)

    def counters(self) -> Counts:
        """Rows per subject and bin since the start, when all that was sent has been observed."""
        wait_for(
            "all rows are observed", lambda: f"rows_observed_total{{{LABELS}}} {self.sent}\n" in self.page("/metrics")
        )
        counts: Counts = {}
        for line in self.page("/metrics").splitlines():
            found = re.match(r"plumbline_(?:feature|prediction)_bin_total\{(.*)\} (.*)", line)
            if found:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
                counts[labels.get("feature") or labels["output"], labels["bin"]] = float(found[2])
        return counts

    def psi(self) -> dict[str, float]:
        """What it says itself of its window, by subject."""
        (report,) = json.loads(self.page("/drift"))["models"]
        return {subject["name"]: subject["statistics"]["psi"] for subject in report["subjects"]}

    def stop(self) -> None:
        """End it."""
        end(self.process)
        self.log.close()


LABELS = 'model="churn",version="1"'


def get(address: str, path: str) -> str:
    """The body of a page that must be there."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise SystemExit(f"{address}{path}: {answer.status} {body}")
        return body


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    """Look often until it holds; what is looked at has no event to wait for."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes]) -> None:
    """TERM, then KILL."""
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def formula(reference: Counts, counted: Counts) -> dict[str, float]:
    """The index of each subject, from rows per bin."""
    indices = {}
    for subject in {subject for subject, _ in reference}:
        bins = [key for key in reference if key[0] == subject]
        n, m = (sum(side[key] for key in bins) + len(bins) / 2 for side in (reference, counted))
        shares = [((reference[key] + 0.5) / n, (counted[key] + 0.5) / m) for key in bins]
        indices[subject] = math.fsum((q - p) * math.log(q / p) for p, q in shares)
    return indices


@contextlib.contextmanager
def prometheus(work: Path, rules: Path, targets: list[str]) -> Iterator[str]:
    """A Prometheus that scrapes and evaluates each second."""
    text = rules.read_text().replace("interval: 1m", "interval: 1s")
    (work / "hour.yaml").write_text(text)
    header, group = text[: text.index("groups:")], re.search(r"  - name: plumbline-psi-1h\n(?:    .*\n| *\n)*", text)
    assert group, "no group plumbline-psi-1h"
    short = re.sub(r"\b1h\b", f"{SHORT}s", group[0]).replace("3600", str(SHORT))
    (work / "short.yaml").write_text(f"{header}groups:\n{short}")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["hour.yaml", "short.yaml"],
        "scrape_configs": [{"job_name": "sidecars", "static_configs": [{"targets": targets}]}],
    }
    # JSON is YAML.
    (work / "prometheus.yaml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [
        f"--config.file={work}/prometheus.yaml",
        f"--storage.tsdb.path={work}/tsdb",
        f"--web.listen-address={address}",
    ]
    log = work / "prometheus.log"
    with log.open("w") as out:
        process = subprocess.Popen(["prometheus", *arguments], stdout=out, stderr=out)

    def is_ready() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"Prometheus ended with {process.returncode}: {log.read_text()}")
        with contextlib.suppress(OSError, SystemExit):
            return bool(get(address, "/-/ready"))
        return False

    try:
        wait_for("Prometheus is ready", is_ready)
        yield address
    finally:
        end(process)


def query(address: str, expression: str) -> list[tuple[dict[str, str], float]]:
    """What an expression comes to now: labels and values."""
    answer = json.loads(get(address, "/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
    return [(sample["metric"], float(sample["value"][1])) for sample in answer["data"]["result"]]


def recorded(address: str, name: str) -> dict[str, float]:
    """A recorded series by subject, as it is now."""
    return {labels["subject"]: value for labels, value in query(address, name)}


def check(address: str, window: str, expected: dict[str, float], count: int) -> None:
    """The rules come to these indices for a window with so many rows."""
    told: dict[str, dict[str, float]] = {}

    def agrees() -> bool:
        for what in ("rows", "psi"):
            told[what] = recorded(address, f"subject:plumbline_{what}:{window}")
        return (
            told["psi"].keys() == expected.keys()
            and all(value == count for value in told["rows"].values())
            and all(abs(told["psi"][subject] - value) <= TOLERANCE for subject, value in expected.items())
        )

    try:
        wait_for(f"the rules of {window} tell {count} rows and {expected}", agrees)
    except SystemExit as error:
        raise SystemExit(f"{error}; they tell {told}") from None
    for subject, value in sorted(expected.items()):
        difference = abs(told["psi"][subject] - value)
        print(f"{window:>4} {subject:<9} {count} rows  psi {value:.12f}  rule differs by {difference:.1e}")


def main() -> None:
    """Run the test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plumbline", type=Path, required=True)
    parser.add_argument("--sidecar", type=Path, required=True)
    parser.add_argument("--rules", type=Path, required=True)
    options = parser.parse_args()

    rng = random.Random(7)
    model = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{model.server_address[1]}"
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        table = "".join(f"{row[0]},{row[1]},{label(row)}\n" for row in rows(rng, 3_000))
        (work / "reference.csv").write_text(f"tenure,contract,label\n{table}")
        profile = work / "profile.json"
        command = [options.plumbline, "profile", work / "reference.csv", "--model-name", "churn", "-o", profile]
        subprocess.run([*command, "--output-columns", "label"], check=True)
        replicas: list[Sidecar] = []
        for name in ("a", "b", "all"):
            sidecar = Sidecar(options.sidecar, profile, url, work / f"{name}.log")
            stack.callback(sidecar.stop)
            replicas.append(sidecar)
        first, second, everything = replicas
        address = stack.enter_context(prometheus(work, options.rules, [first.ports["admin"], second.ports["admin"]]))

        def send(count: int) -> None:
            # Short tenures to one replica, long ones to the other: neither's own index is near the merged one.
            for _ in range(count // BATCH):
                batch = rows(rng, BATCH)
                everything.send(batch)
                for sidecar, part in (
                    (first, [row for row in batch if row[0] < 30]),
                    (second, [row for row in batch if row[0] >= 30]),
                ):
                    if part:
                        sidecar.send(part)

        send(2_000)
        whole = everything.counters()
        check(address, "1h", everything.psi(), 2_000)
        before = [first.counters(), second.counters()]
        merged = {key: sum(side[key] for side in before) for key in whole}
        assert merged == whole, "the replicas have counted what the third sidecar has"

        # Both processes are older than the short window, which has only seen them idle, when the rest is sent.
        idle = f"sum(changes(plumbline_rows_observed_total[{SHORT + 5}s])) == 0"
        old = f"min(time() - process_start_time_seconds) > {SHORT + 5} and {idle}"
        wait_for(old, lambda: bool(query(address, old)))
        send(500)
        after = [first.counters(), second.counters()]
        gained = {key: sum(new[key] - old[key] for new, old in zip(after, before)) for key in whole}
        reference = {
            (subject["name"], part["name"]): part["reference"]
            for subject in json.loads(everything.page("/drift"))["models"][0]["subjects"]
            for part in subject["bins"]
        }
        check(address, f"{SHORT}s", formula(reference, gained), 500)
        check(address, "1h", everything.psi(), 2_500)


if __name__ == "__main__":
    main()
