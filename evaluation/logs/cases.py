"""Logs with what they have to show, in the layouts of their collections."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Signal:
    """Something that a reader of the log has to see."""

    name: str
    lines: tuple[int, ...] = ()
    """Numbers of the lines that show it, counted from 1: all have to be there, unless one of the texts is."""
    texts: tuple[str, ...] = ()
    """Any of them shows it, too."""


@dataclass(frozen=True)
class Case:
    """One log."""

    collection: str
    name: str
    log: bytes
    signals: tuple[Signal, ...]
    """In the order of the collection's answers; at least one."""


def read_cases(folder: Path) -> list[Case]:
    """The cases of `folder/logdx`, `folder/pytorch` and `folder/treeherder`, as far as there are such folders."""
    cases = [*_logdx(folder / "logdx"), *_pytorch(folder / "pytorch"), *_treeherder(folder / "treeherder")]
    if not cases:
        expected = "logdx/*/ground_truth.json, pytorch/*.expected.json or treeherder/*.logview.json"
        raise SystemExit(f"no case in {folder}: expected {expected}")
    return cases


def _logdx(folder: Path) -> Iterator[Case]:
    """Critical signals of LogDx-CI: a value or alias occurs, or all its evidence lines are there."""
    for truth in sorted(folder.glob("*/ground_truth.json")):
        log = read_log(truth.parent / "raw.log")
        blank = {number for number, line in enumerate(log.split(b"\n"), 1) if not line.strip()}
        signals = []
        for signal in json.loads(truth.read_text())["required_signals"]:
            if signal["importance"] != "critical":
                continue
            numbers = {number for first, last in signal.get("evidence_lines", []) for number in range(first, last + 1)}
            # A value such as the exit code `1` is everywhere.
            texts = [text for text in [signal.get("value"), *signal.get("aliases", [])] if text and len(text) > 3]
            name = f"{signal['type']} {signal.get('value') or signal.get('file')}"
            signals.append(Signal(name, tuple(sorted(numbers - blank)), tuple(texts)))
        if signals:
            yield Case("LogDx-CI", truth.parent.name, log, tuple(signals))


def _pytorch(folder: Path) -> Iterator[Case]:
    """The line that PyTorch's classifier has to find."""
    for path in sorted(folder.glob("*.expected.json")):
        expected = json.loads(path.read_text())["expected"]
        if expected is None:
            continue
        name = path.name.removesuffix(".expected.json")
        signal = Signal(expected["line"], (expected["line_number"],))
        yield Case("PyTorch", name, read_log(path.with_name(f"{name}.log")), (signal,))


def _treeherder(folder: Path) -> Iterator[Case]:
    """The lines that Treeherder's parser finds. Its numbers are not those of lines; its texts are."""
    for path in sorted(folder.glob("*.logview.json")):
        errors: list[dict[str, Any]] = json.loads(path.read_text())["errors"]
        name = path.name.removesuffix(".logview.json")
        lines = (error["line"].strip()[:150] for error in errors)
        signals = tuple(Signal(line, texts=(line,)) for line in lines)
        if signals:
            yield Case("Treeherder", name, read_log(path.with_name(f"{name}.log")), signals)


def read_log(path: Path) -> bytes:
    """A log, unpacked if it is packed."""
    packed = path.with_name(path.name + ".gz")
    return gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
